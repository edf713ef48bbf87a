"""CLadder's events swapped for those of other stories, and Corr2Cause's letters for others."""

from dataclasses import replace

import pytest
from test_cladder_rules import PROMPTS, QUESTION, real_rows
from test_data import real
from test_problems import CAUSAL

from icp import capt, data
from icp.errors import DataError

LETTERS = (
    "Premise: Suppose there is a closed system of 3 variables, A, B and C. All the statistical relations among these 3 "
    "variables are as follows: A correlates with C. However, A is independent of B. A and B are independent given C.\n"
    "Hypothesis: There exists at least one confounder (i.e., common cause) of A and C."
)


def abstracted(name, story):
    problem = replace(QUESTION.problem, prompt=PROMPTS[name][0], story=story, reasoning=None)
    return capt.abstract(problem, capt.CladderRules())


TEA, SCHOOL = abstracted("two conditions", "tea"), abstracted("two laws and a degree of two words", "school")
SMELLS = [abstracted(name, "smell") for name in ("explaining away", "evidence")]


def test_events_of_other_stories_keep_structure_and_polarity():
    swap = capt.OtherEvents.of([TEA, *SMELLS])
    assert capt.Event("smell", "garlic", "garlic", "no garlic") in swap.events
    assert capt.Event("tea", "tea", "tea drinkers", "tea haters") in swap.events
    [made] = [one.prompt for one in capt.copies([TEA], swap)]
    told = capt.CladderRules().estimate(made)
    assert [(m.slot, m.holds is False) for m in told.mentions] == [
        (m.slot, m.holds is False) for m in TEA.abstraction.mentions
    ]
    said = {told.surface(mention).lower() for mention in told.mentions}
    assert said <= {"garlic", "no garlic", "rain", "it does not rain", "smell", "no smell"} and len(said) == 5
    first = made.split(": ")[1].split(" ")[0]
    assert first[0].isupper() and first.lower() in said, "a sentence begins with a capital"
    assert len({one.prompt for one in capt.copies([TEA], capt.OtherEvents.of([*SMELLS, SCHOOL]), count=20)}) > 3


def test_events_are_refused_where_there_are_too_few():
    with pytest.raises(DataError, match="has 3 events, and other stories tell 0 others: make OtherEvents"):
        capt.copies([TEA], capt.OtherEvents.of([TEA]))


def test_an_event_whose_states_are_told_alike_is_left_out():
    alike = replace(TEA, abstraction=capt.CladderRules().estimate(PROMPTS["a condition without its opposite"][0]))
    assert "rain" not in {event.name for event in capt.OtherEvents.of([alike]).events}
    assert {event.name for event in capt.OtherEvents.of([alike]).events} == {"smell"}


def test_real_rows_keep_their_structure():
    rows = [row.problem for row in real_rows()[0] if row.split in ("commonsense", "easy", "hard")][::12]
    found = capt.abstract_all(rows, capt.CladderRules(), capt.Validator(capt.FRAME)).rows
    kept = 0
    for row, made in zip(found, capt.copies(found, capt.OtherEvents.of(found))):
        told = capt.CladderRules().estimate(made.prompt)
        assert made.answer == row.problem.answer and made.prompt != row.problem.prompt
        if isinstance(told, capt.Abstraction):
            kept += [(m.slot, m.holds is False) for m in told.mentions] == [
                (m.slot, m.holds is False) for m in row.abstraction.mentions
            ]
    assert len(found) > 80 and kept >= 0.95 * len(found)


def test_letters_become_other_letters():
    problem = data.Problem(LETTERS, "No", ("Yes", "No"))
    [row] = capt.abstract_all([problem], capt.VariableRules()).rows
    assert row.abstraction.slots == 3 and len(row.abstraction.mentions) == 12
    assert capt.copies([row], capt.Order(capt.pool(5, exclude=()))) == [problem]
    [made] = capt.copies([row], capt.Order(("P", "Q", "R")))
    assert made.prompt == LETTERS.translate(str.maketrans("ABC", "PQR")).replace("Qll", "All").replace("Pll", "All")
    assert len({one.prompt for one in capt.copies([row], capt.Random(), count=9)}) > 5


@pytest.mark.parametrize(
    ("prompt", "reason", "told"),
    [
        (CAUSAL, "no events", "lists no variables of a closed system"),
        (LETTERS.replace("3 variables, A", "4 variables, A"), "a list of something else", "does not list 4 different"),
        (LETTERS.replace("A, B and C", "tea, B and C"), "a list of something else", "3 different letters"),
        (LETTERS.replace("of A and C", "of A and D"), "unknown name", "'D' is none of the variables A, B, C"),
    ],
)
def test_letters_that_are_not_listed(prompt, reason, told):
    found = capt.VariableRules().estimate(prompt)
    assert isinstance(found, capt.Failure) and found.reason == reason and told in found.told


def test_real_causal_questions_are_all_abstracted():
    rows = data.corr2cause(real("corr2cause"), "test")
    found = capt.abstract_all(rows, capt.VariableRules())
    assert len(found.rows) == 400
    assert capt.copies(found.rows, capt.Order(capt.pool(6, exclude=()))) == rows
