"""Tokens of a pair find their partners, and where that is impossible the row says why."""

import pytest
from helpers import BY_NAME, PAIRS, PARTNERS, make_probe
from hypothesis import assume, given
from hypothesis import strategies as st

import icp
from icp.alignment import align, differing, differing_words

SHARED, OURS, THEIRS = st.integers(0, 4), st.integers(10, 14), st.integers(20, 24)
runs = st.lists(SHARED, max_size=6)


@given(runs, st.lists(OURS, min_size=1, max_size=4), st.lists(THEIRS, min_size=1, max_size=4), runs)
def test_one_replaced_run_pairs_from_its_end(before, ours, theirs, after):
    """The context pairs one to one; in the run, last pairs with last, and surplus leading tokens with its first."""
    assume(before or after)
    found = align(before + ours + after, before + theirs + after)
    start, end = len(before), len(before) + len(theirs)
    run = [max(start, end - len(ours) + i) for i in range(len(ours))]
    assert found.problem is None
    assert list(found.positions) == [*range(start), *run, *range(end, end + len(after))]
    assert list(found.changed) == list(range(start, start + len(ours)))


@given(runs, st.lists(THEIRS, min_size=1, max_size=4), runs)
def test_what_the_counterpart_adds_is_skipped(before, added, after):
    assume(before or after)
    found = align(before + after, before + added + after)
    assert found.problem is None
    assert [(before + added + after)[p] for p in found.positions] == before + after
    assert found.changed == ()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=10), st.lists(st.integers(0, 3), min_size=1, max_size=10))
def test_any_two_lists_align_soundly_or_say_why(x, other):
    found = align(x, other)
    if found.problem is not None:
        assert found.positions == found.changed == ()
        return
    assert len(found.positions) == len(x)
    assert list(found.positions) == sorted(found.positions)
    assert set(found.positions) <= set(range(len(other)))
    kept = [i for i in range(len(x)) if i not in found.changed]
    assert [x[i] for i in kept] == [other[found.positions[i]] for i in kept]
    assert len({found.positions[i] for i in kept}) == len(kept), "unchanged tokens pair one to one"
    assert kept, "lists that share no token do not align"


@given(st.lists(SHARED, min_size=1, max_size=5))
def test_the_same_tokens_leave_no_cue(x):
    assert "same tokens as the input" in align(x, list(x)).problem


@given(st.lists(OURS, min_size=1), st.lists(THEIRS, min_size=1))
def test_nothing_in_common_is_said(ours, theirs):
    assert align(ours, theirs).problem == "the input and its counterpart share no token"


@given(runs, st.lists(OURS, min_size=1, max_size=3), runs)
def test_a_deletion_says_where(before, ours, after):
    assume(before or after)
    first, last = len(before), len(before) + len(ours) - 1
    where = f"position {first} " if first == last else f"positions {first} to {last} "
    problem = align(before + ours + after, before + after).problem
    assert where in problem and "the counterpart leaves them out" in problem


def test_pairs_worked_out_by_hand(tokenizer):
    tokens = make_probe().tokenize(tokenizer)
    assert tuple(a.positions for a in tokens.alignments) == PARTNERS
    tokens.require_alignment()
    assert [len(x) for x in tokens.inputs] == [len(x.split()) for x, _ in PAIRS]


BAD = (
    ("The old nurse said that", "The nurse said that"),
    ("The nurse said that", "The nurse said that"),
    ("The nurse", "old doctor"),
    ("late and early", "late early"),
)


def test_rows_that_cannot_be_aligned_are_listed_and_can_be_left_out():
    model = BY_NAME["gpt2"].model()
    good = icp.Example(*PAIRS[0], (" she", " he"))
    mixed = icp.Probe.from_pairs([*BAD[:1], good, *BAD[1:]], answers=(" she", " he"))
    with pytest.raises(icp.ProbeError) as error:
        icp.measure(model, mixed, ["hook_embed[0]"], icp.Swap("counterpart"), progress=False)
    message = str(error.value)
    assert "row 0 ('The old nurse said that'): the token(s) at position 1 have no partner" in message
    assert "row 2" in message and "row 3" in message and "row 1" not in message
    assert "and 1 more" in message
    assert "probe.alignable(model) leaves these out" in message
    assert mixed.alignable(model).examples == (good,)
    icp.measure(model, mixed, ["hook_embed[0]"], icp.Mask("zero"), progress=False)  # needs no alignment


def test_a_set_cannot_be_swapped_where_a_row_cannot_be_aligned():
    model, mixed = BY_NAME["gpt2"].model(), icp.Probe.from_pairs([PAIRS[0], BAD[0]], answers=(" she", " he"))
    with pytest.raises(
        icp.ProbeError, match=r"^cannot swap with the counterpart: row 1 \('The old nurse said that'\): "
    ):
        icp.measure_sets(model, mixed, [["hook_embed[0]"]], icp.Swap("counterpart"), progress=False)
    icp.measure_sets(model, mixed, [["hook_embed[0]"]], icp.Mask("zero"), progress=False)


def test_no_alignable_pair_at_all_is_an_empty_probe():
    with pytest.raises(icp.ProbeError, match="empty"):
        icp.Probe.from_pairs(BAD).alignable(BY_NAME["gpt2"].model())


def test_examples_without_counterparts_cannot_be_swapped():
    probe = icp.Probe.from_texts(["The nurse said that"], answers=(" she", " he"))
    with pytest.raises(icp.ProbeError, match=r"row 0 .*it has no counterpart"):
        icp.measure(BY_NAME["gpt2"].model(), probe, ["hook_embed[0]"], icp.Swap("counterpart"), progress=False)


@given(st.lists(st.integers(0, 3), max_size=9), st.lists(st.integers(0, 3), max_size=9))
def test_what_differs_is_all_that_lies_outside_equal_runs(x, other):
    found = differing(x, other)
    kept = [token for i, token in enumerate(x) if i not in found]
    rest = iter(other)
    assert all(token in rest for token in kept), "what is kept is there in the counterpart, in its order"
    aligned = align(x, other)
    assert aligned.problem is not None or found == aligned.changed


def test_surplus_tokens_differ_although_they_cannot_be_aligned():
    assert align([1, 2, 3], [1, 3]).problem is not None and differing([1, 2, 3], [1, 3]) == (1,)
    assert differing([1, 3], [1, 2, 3]) == ()


@given(st.text("ab, \n", max_size=12), st.text("ab, \n", max_size=12))
def test_pieces_of_two_texts_give_both_back(text, other):
    pieces = differing_words(text, other)
    assert "".join(mine for mine, _ in pieces) == text
    assert "".join(theirs for _, theirs in pieces) == other
    assert all(mine or theirs for mine, theirs in pieces)


def test_words_differ_as_a_whole():
    assert differing_words("Review by Anna: fine.", "Review by Paul: fine.") == [
        ("Review by ", "Review by "), ("Anna", "Paul"), (": fine.", ": fine."),
    ]  # fmt: skip
    assert differing_words("the nurse ran", "the old nurse ran")[1] == ("", "old ")
