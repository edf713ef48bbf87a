"""The quality of an estimator and the leakage of its texts, on examples worked by hand."""

import math

import numpy as np
import pytest

from icp.capt import Abstraction, Failure, Mention, leakage, quality
from icp.errors import DataError

PROMPT = "aa bb cc dd ee"


def made(*mentions):
    """An abstraction of words of the prompt: (word number, slot, polarity)."""
    return Abstraction(PROMPT, tuple(Mention(3 * word, 3 * word + 2, slot, *so) for word, slot, *so in mentions))


def test_the_same_agrees_and_a_name_is_as_a_state_that_holds():
    found = quality([(made((0, 0), (1, 1, True)), made((0, 0, True), (1, 1)))])
    assert (found.rows, found.agrees, found.consistent) == (1, 1.0, 1.0)
    assert (found.spans.f1, found.b_cubed.f1, found.polarity) == (1.0, 1.0, 1.0)


def test_b_cubed_of_one_variable_split_in_two():
    """Gold {aa, bb, cc} {dd}; found {aa, bb} {cc, dd}: precision (1+1+1/2+1/2)/4, recall (2/3+2/3+1/3+1)/4."""
    found = quality([(made((0, 0), (1, 0), (2, 1), (3, 1)), made((0, 0), (1, 0), (2, 0), (3, 1)))])
    assert found.b_cubed.precision == pytest.approx(0.75) and found.b_cubed.recall == pytest.approx(2 / 3)
    assert found.b_cubed.f1 == pytest.approx(2 * 0.75 * (2 / 3) / (0.75 + 2 / 3))
    assert found.spans.f1 == 1.0 and found.agrees == 0.0 and found.consistent == 0.0


def test_a_mention_missed_and_one_too_many():
    """Gold {aa, bb} {cc}; found {aa} {dd}: 1 span of 2 found, of 3 asked; recall (1/2+0+0)/3, precision (1+0)/2."""
    found = quality([(made((0, 0), (3, 1)), made((0, 0), (1, 0), (2, 1)))])
    assert (found.spans.precision, found.spans.recall) == (0.5, pytest.approx(1 / 3))
    assert found.spans.f1 == pytest.approx(0.4)
    assert (found.b_cubed.precision, found.b_cubed.recall) == (0.5, pytest.approx(1 / 6))


def test_polarity_counts_the_states_that_both_find():
    gold = made((0, 0), (1, 0, True), (2, 0, False), (3, 1, False), (4, 1, False))
    found = quality([(made((0, 0), (1, 0, True), (2, 0, True), (3, 1, False)), gold)])
    assert found.polarity == pytest.approx(2 / 3)
    assert math.isnan(quality([(made((0, 0)), made((0, 0)))]).polarity)


def test_a_variable_turned_throughout_is_consistent_and_does_not_agree():
    gold = made((0, 0), (1, 0, True), (2, 0, False), (3, 1, True))
    turned = made((0, 0), (1, 0, False), (2, 0, True), (3, 1, True))
    mixed = made((0, 0), (1, 0, False), (2, 0, False), (3, 1, True))
    found = quality([(turned, gold), (mixed, gold)])
    assert (found.agrees, found.consistent, found.polarity) == (0.0, 0.5, pytest.approx(3 / 6))


def test_refused_prompts_do_not_agree_and_rows_without_gold_are_only_counted():
    gold, none = made((0, 0), (1, 1)), Failure(PROMPT, "no clause", "")
    found = quality([(gold, gold), (none, gold), (gold, none), (none, Failure(PROMPT, "at odds", ""))])
    assert (found.rows, found.agrees, dict(found.refused)) == (2, 0.5, {"no clause": 1})
    assert dict(found.without_gold) == {"no clause": 1, "at odds": 1}
    assert (found.spans.precision, found.spans.recall) == (1.0, 0.5)
    assert (found.b_cubed.precision, found.b_cubed.recall) == (1.0, 0.5)


def test_valid_is_what_agrees_and_the_validator_passed():
    gold, other, none = made((0, 0), (1, 1)), made((0, 0), (1, 0)), Failure(PROMPT, "at odds", "")
    pairs = [(gold, gold), (gold, gold), (other, gold), (other, none), (none, gold)]
    found = quality(pairs, [True, False, True, True, False])
    assert (found.rows, found.agrees, found.valid) == (4, 0.5, 0.25)
    assert quality(pairs).valid is None
    with pytest.raises(DataError, match="there are 5 pairs and 1 verdicts of the validator: give one a pair"):
        quality(pairs, [True])


def test_nothing_to_compare_with_is_refused():
    none = Failure(PROMPT, "at odds", "")
    with pytest.raises(DataError, match="none of 1 prompts has gold"):
        quality([(none, none)])
    with pytest.raises(DataError, match="an estimate of 'aa bb cc dd ee' is compared with gold of 'other'"):
        quality([(none, Failure("other", "at odds", ""))])


STORIES = ["tea", "rain", "zorb"]


def test_leakage_finds_a_story_by_its_words_and_not_by_its_figures():
    stories = STORIES * 30
    figures = np.random.default_rng(0).integers(10, 99, len(stories))
    told = leakage([f"the chance of {story} is {figure}%" for story, figure in zip(stories, figures)], stories)
    assert told.accuracy == 1.0 and told.commonest == pytest.approx(1 / 3) and told.texts == 90
    silent = leakage([f"the chance of A is {10 * STORIES.index(story)}%" for story in stories], stories)
    assert silent.accuracy == pytest.approx(1 / 3)


def test_leakage_with_too_little_to_go_by_is_refused():
    with pytest.raises(DataError, match="2 texts and 1 stories"):
        leakage(["a", "b"], ["tea"])
    with pytest.raises(DataError, match="there is 1 story"):
        leakage(["a"] * 9, ["tea"] * 9)
    with pytest.raises(DataError, match="only 2 of 'rain'"):
        leakage(["a"] * 9, ["tea"] * 7 + ["rain"] * 2)
