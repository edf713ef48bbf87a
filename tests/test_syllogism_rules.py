"""Events of PrOntoQA's prompts by rules, against gold by a closed vocabulary, which knows nothing of the grammar."""

from pathlib import Path

import pytest
from test_data import real

from icp import data
from icp.capt import Abstraction, Failure
from icp.capt.quality import agrees, b_cubed, quality, span_f1
from icp.capt.syllogism_rules import ClosedVocabulary, SyllogismRules
from icp.errors import DataError

PROMPT = (
    "Each painted lady is an insect. Mersenne primes are not prime numbers. All insects are not six-legged. "
    "An insect is real. Painted ladies are real numbers. 127 is a Mersenne prime.\nTrue or false: 127 is not real."
)


def said(found: Abstraction) -> list[set[str]]:
    """The surfaces of each variable."""
    slots = [set() for _ in range(found.slots)]
    for mention in found.mentions:
        slots[mention.slot].add(found.surface(mention))
    return slots


@pytest.mark.parametrize("estimator", [SyllogismRules(), ClosedVocabulary()])
def test_variables_of_a_prompt(estimator):
    found = estimator.estimate(PROMPT)
    assert said(found) == [
        {"painted lady", "Painted ladies"}, {"insect", "insects"}, {"Mersenne prime", "Mersenne primes"},
        {"prime numbers"}, {"six-legged"}, {"real"}, {"real numbers"}, {"127"},
    ]  # fmt: skip
    assert {mention.holds for mention in found.mentions} == {None}
    assert found.text.endswith("{symbol_8} is a {symbol_3}.\nTrue or false: {symbol_8} is not {symbol_6}.")
    assert found.filled(list("BCDEFGHJ")).startswith("Each B is a C. D are not E. All C are not F. A C is G.")


@pytest.mark.parametrize("name", ["prontoqa.json", "logiclm_dev.json"])
def test_real_prompts_agree_with_gold(name):
    prompts = [row.prompt for row in data.prontoqa(Path(real("prontoqa")) / name)][::5]
    gold = [ClosedVocabulary().estimate(prompt) for prompt in prompts]
    found = [SyllogismRules().estimate(prompt) for prompt in prompts]
    figures = quality(found, gold, [isinstance(one, Abstraction) for one in found])
    assert figures.ungold == 0 and figures.valid >= 0.99 and figures.b3 >= 0.99 and figures.span_f1 >= 0.99


def test_words_that_are_not_in_the_vocabulary_have_no_gold():
    found = ClosedVocabulary().estimate("Each gadget is real. Rex is a gadget.\nTrue or false: Rex is real.")
    assert isinstance(found, Failure) and found.reason == "no gold" and "'gadget'" in found.told


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Each cat is bony. Mice run.\nTrue or false: Rex is bony.", "a sentence that no rule reads"),
        ("Jede Katze hat Knochen. Rex ist eine Katze.", "a sentence that no rule reads"),
        ("There are cats.", "a sentence that no rule reads"),
        ("True or false:", "no events"),
    ],
)
def test_prompts_that_rules_cannot_read_are_failures(prompt, reason):
    found = SyllogismRules().estimate(prompt)
    assert isinstance(found, Failure) and found.reason == reason and found.prompt == prompt and found.told


def test_quality_by_hand():
    prompt = "a b c d"
    places = [(0, 1), (2, 3), (4, 5), (6, 7)]

    def of(*names, holds=None):
        return Abstraction.of(prompt, [(*span, name, holds) for span, name in zip(places, names) if name])

    gold = of("x", "x", "y", "y")
    assert b_cubed([gold], [gold]) == span_f1([gold], [gold]) == 1
    # precision: one slot of four, of which two are of the same variable; recall: all with their own kind
    assert b_cubed([of("x", "x", "x", "x")], [gold]) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert b_cubed([of("x", "z", "y", "y")], [gold]) == pytest.approx(2 * 1 * 0.75 / 1.75)
    recall = (1 + 1 + 0.5 + 0) / 4  # the third shares its variable with one that is not found, the fourth is that one
    assert b_cubed([of("x", "x", "y", None)], [gold]) == pytest.approx(2 * recall / (1 + recall))
    assert span_f1([of("x", "x", "y", None)], [gold]) == pytest.approx(2 * 3 / 7)
    assert b_cubed([Failure(prompt, "junk", "junk")], [gold]) == 0
    assert not agrees(of("x", "x", "y", "y", holds=False), gold) and not agrees(of("x", "x", "y", "z"), gold)
    figures = quality([gold, gold, gold], [gold, gold, Failure(prompt, "no gold", "")], [True, False, True])
    assert (figures.rows, figures.ungold, figures.valid) == (2, 1, 0.5)
    with pytest.raises(DataError, match="none of 1 rows has gold"):
        quality([gold], [Failure(prompt, "no gold", "")], [True])
    with pytest.raises(DataError, match="is compared with gold of"):
        b_cubed([Abstraction("other", ())], [gold])
