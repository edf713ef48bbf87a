"""Events of PrOntoQA's prompts by rules, against gold by a closed vocabulary, which knows nothing of the grammar."""

from pathlib import Path

import pytest
from test_data import real

from icp import data
from icp.capt import Abstraction, Failure, abstract_all
from icp.capt.quality import quality
from icp.capt.syllogism_rules import ClosedVocabulary, SyllogismRules

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
    rows = data.prontoqa(Path(real("prontoqa")) / name)[::5]
    pairs = [(SyllogismRules().estimate(row.prompt), ClosedVocabulary().estimate(row.prompt)) for row in rows]
    refused = {failure.prompt for failure in abstract_all(rows, SyllogismRules()).refused}
    found = quality(pairs, [row.prompt not in refused for row in rows])
    assert not found.without_gold and found.valid >= 0.99 and found.b_cubed.f1 >= 0.99 and found.spans.f1 >= 0.99


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
