"""Symbols and names in the place of events: fresh draws, refusals, validity and the way back."""

import random
import re
from dataclasses import replace

import pytest
from test_data import real
from test_problems import entailed

from icp import data
from icp.capt import Abstraction
from icp.capt.abstracted import Abstracted, abstract, carried
from icp.capt.inverse import named, names_of, restored
from icp.capt.renaming import Fixed, Names, Null, Order, Random, copies
from icp.capt.syllogism_rules import ClosedVocabulary, SyllogismRules
from icp.capt.symbols import RESERVED, pool
from icp.capt.validate import Validator, abstract_all
from icp.data.syllogisms import read_statements, skeleton_of
from icp.errors import DataError

PROBLEM = data.Problem(
    "Sheep are felines. Each feline is an animal. Every animal is not unicellular. Rex is a sheep.\n"
    "True or false: Rex is unicellular.",
    "False",
    ("True", "False"),
    "Rex is a sheep. Sheep are felines. Rex is a feline. Each feline is an animal. Rex is an animal. Every animal is "
    "not unicellular. Rex is not unicellular.",
)


def row(problem=PROBLEM) -> Abstracted:
    return abstract(problem, SyllogismRules())


def test_order_fills_prompt_and_reasoning_with_the_same_symbols():
    [found] = copies([row()], Order())
    assert found.prompt == (
        "B are C. Each C is a D. Every D is not E. F is a B.\nTrue or false: F is E."
    )  # fmt: skip
    assert found.reasoning == "F is a B. B are C. F is a C. Each C is a D. F is a D. Every D is not E. F is not E."
    assert (found.answer, found.answers) == (PROBLEM.answer, PROBLEM.answers)


def test_null_changes_nothing():
    assert copies([row()], Null(), count=2) == [PROBLEM, PROBLEM]


def test_random_draws_afresh_for_every_copy_and_row_and_again_with_the_same_seed():
    rows = [row(), row()]
    found = copies(rows, Random(), count=20, seed=3)
    assert found == copies(rows, Random(), count=20, seed=3) != copies(rows, Random(), count=20, seed=4)
    prompts = [one.prompt for one in found]
    assert len(set(prompts)) == len(prompts) == 40
    symbols = {word for one in prompts for word in re.findall(r"\b[B-Z]{1,2}\b", one)}
    assert symbols == set(pool(26)) and not symbols & set(RESERVED)


def test_symbols_that_the_text_or_an_answer_has_are_not_drawn():
    lettered = replace(PROBLEM, answer="B", answers=("B", "C"))
    for found in copies([row(lettered)], Random(pool(10)), count=30):
        assert not re.search(r"\b[BC]\b", found.prompt)
    with pytest.raises(DataError, match=r"has 5 events, and 4 of 6 symbols are none of its words: take a larger pool"):
        copies([row(lettered)], Random(pool(6)))


@pytest.mark.parametrize("size", [10, 26, 50, 100])
def test_pools(size):
    found = pool(size)
    assert len(set(found)) == len(found) == size and not set(found) & set(RESERVED)
    assert pool(size, exclude=("B",))[0] == "A" and "B" not in pool(size, exclude=("B",))


@pytest.mark.parametrize("size", [0, 10_000])
def test_a_pool_that_cannot_be_had(size):
    with pytest.raises(DataError, match=f"a pool of {size} symbols cannot be had"):
        pool(size)


def test_fixed_gives_an_event_one_symbol_in_every_row():
    other = replace(
        PROBLEM, prompt="All felines are bony. Max is a feline.\nTrue or false: Max is bony.", reasoning=None
    )
    rows = [row(), row(other)]
    fixed = Fixed.of(rows, pool(26), seed=1)
    symbol = dict(fixed.table)
    first, second = copies(rows, fixed)
    assert f"Each {symbol['feline']} is a" in first.prompt
    assert second.prompt.startswith(f"All {symbol['feline']} are {symbol['bony']}.")
    assert copies(rows, fixed, seed=7) == [first, second]
    with pytest.raises(DataError, match=r"'bony' has no symbol of its own: let Fixed.of see this row too"):
        copies(rows, Fixed.of(rows[:1], pool(26)))
    with pytest.raises(DataError, match="the rows have 7 events, and 6 symbols"):
        Fixed.of(rows, pool(6))
    with pytest.raises(DataError, match=r"'Each' is the symbol of an event and a word of"):
        copies(rows[:1], Fixed((("rex", "Each"),), pool(26)))


def test_an_event_without_a_fixed_symbol_gets_another_at_random_where_that_is_said():
    known = Fixed.of([row()], pool(26))
    [whole] = copies([row()], known)
    lost = dict(known.table)["feline"]
    some = Fixed(tuple(pair for pair in known.table if pair[1] != lost), pool(26))
    drawn = set()
    for told in copies([row()] * 40, some):
        [new] = set(re.findall(r"\w+", told.prompt)) - set(re.findall(r"\w+", whole.prompt)) or {lost}
        assert told.prompt == re.sub(rf"\b{lost}\b", new, whole.prompt)
        drawn.add(new)
    assert len(drawn) > 8
    with pytest.raises(DataError, match=r"has 1 events, and 0 of 0 symbols are none of its words"):
        copies([row()], replace(some, others=tuple(symbol for _, symbol in some.table)))


def test_names_are_of_the_same_kind_and_leave_the_form_and_the_answer():
    facts = read_statements(PROBLEM.prompt)[0]
    for found in copies([row()], Names(), count=30):
        mine = read_statements(found.prompt)[0]
        assert skeleton_of(mine[:-1], mine[-1]) == skeleton_of(facts[:-1], facts[-1])
        assert entailed(found.prompt) == PROBLEM.answer and found.prompt != PROBLEM.prompt
        kept, gone = (ClosedVocabulary().estimate(each.prompt) for each in (PROBLEM, found))
        assert [m.slot for m in kept.mentions] == [m.slot for m in gone.mentions]
        assert not {kept.surface(m).lower() for m in kept.mentions} & {gone.surface(m).lower() for m in gone.mentions}
        assert not re.search(r"\ba [aeiou](?!ni)|\ban [^aeiou]", found.prompt + found.reasoning)
    with pytest.raises(DataError, match="'gadget' is in no list of names"):
        copies([row(replace(PROBLEM, prompt="Rex is a gadget.", reasoning=None))], Names())
    with pytest.raises(DataError, match="3 names of the kind class are asked for, and there are 0 others"):
        copies([row()], Names(names=()))


def test_reasoning_says_events_in_another_number_than_the_prompt():
    found = SyllogismRules().estimate("Sheep are painted ladies. Rex is a sheep.\nTrue or false: Rex is bony.")
    said = carried(found, "Rex is a painted lady. Painted ladies are real.")
    assert said.text == "{symbol_3} is a {symbol_2}. {symbol_2} are real."


def test_a_valid_abstraction_and_back():
    assert Validator().reasons(row()) == []
    found = row().abstraction
    symbols = random.Random(0).sample(pool(26), found.slots)
    text = found.filled(symbols)
    assert restored(text, found, symbols) == PROBLEM.prompt
    assert named(found.text, names_of(found)) == PROBLEM.prompt
    assert restored(text.replace(symbols[0], "Q1"), found, symbols) is None
    assert restored(text.replace("True or", "Right or"), found, symbols) != PROBLEM.prompt


def test_a_denied_mention_is_filled_with_not_and_restored():
    prompt = "For nonsmokers, the probability of cancer is 3%. For smokers, it is 7%."
    found = Abstraction.of(
        prompt, [(4, 14, "smoking", False), (35, 41, "cancer", None), (53, 60, "smoking", True)]
    )  # fmt: skip
    text = found.filled(["B", "C"])
    assert text == "For not B, the probability of C is 3%. For B, it is 7%."
    assert restored(text, found, ["B", "C"]) == prompt
    assert restored(text.replace("not B", "B"), found, ["B", "C"]) is None


def span(prompt, *said):
    """(start, stop, name, holds) of the first place of each surface."""
    return [(prompt.index(one), prompt.index(one) + len(one), name, holds) for one, name, holds in said]


@pytest.mark.parametrize(
    ("prompt", "said", "reason"),
    [
        ("Rex is bony.", [], "no events"),
        ("Is it true that Rex is bony?", [("true", "x", None)], "an event is an answer"),
        ("Rex is bony. Max is not.", [("bony. Max", "x", None)], "an event goes beyond a sentence"),
        ("The chance of rain is 3% today.", [("3", "x", None)], "digits in an event"),
        ("The chance of rain is 0.35 today.", [("35", "x", None)], "digits in an event"),
        ("Rex is bony. Cats are bony too.", [("Rex", "r", None), ("bony", "x", None)], "event word left"),
        ("Those who do not smoke live.", [("do not smoke", "x", True)], "polarity lost"),
        ("Those who don't smoke live.", [("don't smoke", "x", None)], "polarity lost"),
        ("Cats are bony. A cat naps.", [("Cats", "x", None), ("cat", "y", None)], "two symbols for one event"),
    ],
)
def test_what_is_not_valid(prompt, said, reason):
    found = Abstraction.of(prompt, span(prompt, *said))
    problem = data.Problem(prompt, "True", ("True", "False"))
    reasons = Validator().reasons(Abstracted(problem, found))
    assert reason in reasons


def test_a_number_may_be_an_individual_and_a_common_word_may_be_allowed():
    prompt = "7 is odd. Every treatment helps those who receive the treatment."
    found = Abstraction.of(prompt, span(prompt, ("7", "n", None), ("receive the treatment", "x", True)))
    one = Abstracted(data.Problem(prompt, "True", ("True", "False")), found)
    assert Validator().reasons(one) == ["event word left"]
    assert Validator(frozenset({"treatment"})).reasons(one) == []


def test_refusals_are_counted_and_listed():
    strange = replace(PROBLEM, prompt="Cats purr.")
    left = replace(PROBLEM, reasoning="Unicellular sheep: SHEEP.")
    found = abstract_all([PROBLEM, strange, strange, left], SyllogismRules())
    assert [one.problem for one in found.rows] == [PROBLEM]
    assert found.reasons == {"a sentence that no rule reads": 2, "event word left in the reasoning": 1}
    assert found.refused[0].prompt == "Cats purr." and "left in the reasoning" in found.refused[2].told


@pytest.mark.parametrize("name", ["prontoqa.json", "logiclm_dev.json"])
def test_real_problems_are_valid_and_come_back(name):
    rows = data.prontoqa(real("prontoqa") / name)[::10]
    found = abstract_all(rows, SyllogismRules())
    assert len(found.rows) >= 0.99 * len(rows)
    back = [named(one.abstraction.text, names_of(one.abstraction)) == one.problem.prompt for one in found.rows]
    assert sum(back) >= 0.95 * len(found.rows)
    for one, mine in zip(found.rows, copies(found.rows, Random(pool(50)))):
        assert entailed(mine.prompt) == one.problem.answer
