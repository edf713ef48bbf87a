"""What is found wrong with abstractions that others made: items of our own, and the counts on the real ones."""

import os
from pathlib import Path

import capt_reference
import pytest
from capt_reference import cladder_defects, judged, prontoqa_defects, why_rejected

RAW = (
    "Imagine a world: Age has a direct effect on treatment. For patients who are young, the probability of receives "
    "treatment is 7%. For patients who are old, the probability of receives treatment is 8%. Will old age increase the "
    "chance of receives treatment?"
)
GOOD = (
    "Imagine a world: {symbol_2} has a direct effect on {symbol_1}. For {symbol_2}=0, the probability of {symbol_1}=1 "
    "is 7%. For {symbol_2}=1, the probability of {symbol_1} is 8%. Will {symbol_2} increase the chance of {symbol_1}?"
)
NAMES = {"age": {"name": "age"}, "treatment": {"name": "treatment"}}


def item(old="", new="", reasoning=""):
    abstract = GOOD.replace(old, new, 1) if old else GOOD
    assert not old or abstract != GOOD
    return {
        "raw_prompt": RAW, "abstract_raw_prompt": abstract, "abstract_reasoning": reasoning, "var2name_map": NAMES,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "defects", "verdict"),
    [
        ("", "", set(), "wrong"),
        ("For {symbol_2}=0", "For not {symbol_2}", set(), "wrong"),
        ("For {symbol_2}=0", "For not {symbol_2}=1", set(), "wrong"),
        ("of {symbol_1}?", "of receiving {symbol_1}?", {"carrier left"}, "words only"),
        ("For {symbol_2}=0", "For not {symbol_2}=0", {"denied twice"}, "right"),
        ("For {symbol_2}=0", "For {symbol_2}=1", {"polarity lost"}, "right"),
        ("For {symbol_2}=1", "For {symbol_1}=1", {"wrong variable"}, "right"),
        ("For {symbol_2}=1", "For the old", {"event left", "mention missing"}, "right"),
        ("is 7%. For {symbol_2}=1, the", "is 7% and the", {"sentences missing"}, "right"),
    ],
)
def test_defects_of_an_abstract_prompt(old, new, defects, verdict):
    found = cladder_defects(item(old, new))
    assert found == defects and judged(found) == verdict


def test_what_a_plain_search_for_names_stumbles_over():
    assert why_rejected(item(reasoning="the average is 7%")) == "a name within another word"
    term = "the average treatment effect is 7%"
    assert why_rejected(item(reasoning=term)) == "a name within a term of causal inference"
    assert why_rejected(item(reasoning="treatment effect of treatment")) == "a name in the text"
    assert why_rejected(item("of {symbol_1}?", "of treatment?")) == "a name in the prompt"
    assert why_rejected(item()) == "no name anywhere"


def test_words_left_of_a_taxonomy():
    good = {"abstract_raw_prompt": "Given facts: Every {symbol_1} is a {symbol_2}. {symbol_2}s are not {symbol_3}."}
    assert prontoqa_defects(good) == set()
    assert prontoqa_defects({"abstract_raw_prompt": "Given facts: Every {symbol_1} is furry."}) == {"event left"}


def test_real_items():
    folder = Path(os.environ.get("ICP_DATA", "-")) / "capt_reference"
    if not folder.is_dir():
        pytest.skip("ICP_DATA names no folder with capt_reference: the real items are not copied into this project")
    found = capt_reference.counts(folder)
    assert found["cladder"]["rejection"] == {"wrong": 63, "words only": 107, "right": 17}
    assert found["cladder"]["why"] == {
        "a name within a term of causal inference": 138, "a name within another word": 42, "a name in the prompt": 7,
    }  # fmt: skip
    assert found["prontoqa"]["rejection"] == {"right": 5}
