"""Abstract texts that others wrote, read back; and the reference's negative fixtures."""

import json
from collections import Counter

import pytest
from test_data import real

from icp import data
from icp.capt import Abstracted, Abstraction, Failure, SyllogismRules, Validator, read_rewritten

PROMPT = "Smokers cough. For those who do not smoke, the chance of an illness is 3%. Is an illness likely?"


def test_a_rewritten_prompt_is_read_back():
    found = read_rewritten(
        PROMPT,
        "{symbol_2}s cough. For those who {symbol_2}=0, the chance of {symbol_1}=1 is 3%. Is a {symbol_1} likely?",
    )
    assert [(found.surface(m), m.slot, m.holds) for m in found.mentions] == [
        ("Smokers", 0, None), ("do not smoke", 0, False), ("an illness", 1, True), ("illness", 1, None),
    ]  # fmt: skip
    denied = read_rewritten("Nonsmokers cough.", "not {symbol_1} cough.")
    assert [(denied.surface(m), m.holds) for m in denied.mentions] == [("Nonsmokers", False)]
    kept = read_rewritten("Rex is not bony.", "{symbol_1} is not {symbol_2}.")
    assert [(kept.surface(m), m.holds) for m in kept.mentions] == [("Rex", None), ("bony", None)]
    assert kept.filled(["B", "C"]) == "B is not C."


@pytest.mark.parametrize(
    ("abstract", "reason", "told"),
    [
        ("B cough.", "no placeholders", "has no placeholder such as {symbol_1}"),
        (
            "{symbol_1} cough. For all who {symbol_2}, the chance is 3%.",
            "text changed outside of events",
            "says ' cough. For all who ', which",
        ),
        (PROMPT.replace("Smokers", "{symbol_1}").replace("3%", "4%"), "text changed outside of events", "is 4%"),
    ],
)
def test_a_text_that_was_changed_elsewhere_is_a_failure(abstract, reason, told):
    found = read_rewritten(PROMPT, abstract)
    assert isinstance(found, Failure) and found.reason == reason and told in found.told


def test_what_a_rules_abstraction_says_is_what_is_read_back():
    prompt = "Each painted lady is an insect. Insects are not bony. Rex is a painted lady.\nTrue or false: Rex is bony."
    found = SyllogismRules().estimate(prompt)
    assert read_rewritten(prompt, found.text) == found


def test_real_rejected_abstractions_of_puzzles_leave_event_words():
    rows = json.loads((real("capt_reference") / "prontoqa_gpt-4o-mini_abstract_invalid.json").read_text())
    counted = Counter()
    for row in rows:
        found = read_rewritten(row["raw_prompt"], row["abstract_raw_prompt"])
        assert isinstance(found, Abstraction)
        problem = data.Problem(row["raw_prompt"], row["truth"], ("True", "False"))
        counted.update(Validator().reasons(Abstracted(problem, found)))
    assert counted["event word left"] == len(rows) == 5
