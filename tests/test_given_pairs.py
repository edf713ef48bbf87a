"""Edits of pairs that are there already: where they are, and that they are counted and checked as any others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import real

import icp
from icp import data
from icp.counterfactual import (
    Changed,
    Column,
    EditDistance,
    Given,
    Pattern,
    SpansKept,
    Spec,
    Variable,
    edit_distance,
    edited_spans,
    given_pairs,
    make_pairs,
)
from icp.counterfactual.difference import outside
from icp.counterfactual.rows import replaced
from icp.errors import SpecError

SENTIMENT = Variable("sentiment", Column("sentiment", ("negative", "positive")))
IDENTITY = Variable("identity", Column("identity", ("one", "other")))
REVIEWS = Spec("sentiment of the review", ("negative", "positive"), (SENTIMENT,), ())
COMMENTS = Spec("toxicity", ("not toxic", "toxic"), (), (IDENTITY,), "anti-causal")


def edits(text, counterpart):
    return [
        (text[slice(*span)], counterpart[slice(*new)])
        for span, new in zip(*edited_spans(text, counterpart), strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "counterpart", "expected"),
    [
        ("a bad film", "a good film", [("bad", "good")]),
        ("a bad film", "a bad film", []),
        ("a film", "a very good film", [("", "very good ")]),
        ("a very good film", "a film", [("very good ", "")]),
        ("don't go", "do go", [("don't", "do")]),
        ("the king's son", "the queen's son", [("king", "queen")]),
        ("bad, bad film!", "good, bad film.", [("bad", "good"), ("!", ".")]),
        ("It was dull. I left", "It was fun. I stayed", [("dull", "fun"), ("left", "stayed")]),
        ("one  two", "one two", [(" ", "")]),
        ("all gone", "new words here", [("all gone", "new words here")]),
        ("the end", "the end of it", [("", " of it")]),
    ],
)
def test_edited_spans_are_the_words_that_differ(text, counterpart, expected):
    assert edits(text, counterpart) == expected


WORDS = st.lists(st.sampled_from(["a", "bad", "good", "film", ",", ".", " ", "  ", "don't", "\n", "é"]), max_size=12)


@settings(max_examples=300)
@given(WORDS, WORDS)
def test_putting_what_is_new_into_the_spans_gives_the_counterpart(words, others):
    text, counterpart = "".join(words), "".join(others)
    spans, new_spans = edited_spans(text, counterpart)
    made, kept, placed = replaced(text, [(span, counterpart[slice(*new)]) for span, new in zip(spans, new_spans)])
    assert (made, kept, placed) == (counterpart, spans, new_spans)
    assert outside(text, spans) == outside(counterpart, new_spans)
    assert (text == counterpart) == (not spans)


def test_edit_distance_is_a_share_of_tokens():
    assert edit_distance("a b c d", "a b c d") == 0.0
    assert edit_distance("a b c d", "a x c") == 0.5
    assert edit_distance("a b", "x y z") == 1.0


def text_pairs(*texts, kind=icp.FlippingPairs, groups=(None, None)):
    flips = kind is icp.FlippingPairs
    rows = tuple(
        (data.LabelledText(one, 0, group=groups[0], word=str(n)), data.LabelledText(two, int(flips), group=groups[1]))
        for n, (one, two) in enumerate(texts)
    )
    return data.TextPairs(kind, REVIEWS.classes if flips else COMMENTS.classes, rows)


def test_given_pairs_are_counted_checked_and_marked():
    two = text_pairs(("a bad film", "a good film"), ("the same", "the same"), ("so bad", "no word is shared"))
    made = given_pairs(two, "sentiment", spec=REVIEWS, validators=[EditDistance()], progress=False)
    [(row, edit)] = made
    assert (edit.before, edit.after, edit.label, edit.spans) == ("negative", "positive", 1, ((2, 5),))
    assert made.counts["accepted"] == 1 and made.counts["rejected"] == {"unchanged": 1, "edit too large": 1}
    assert isinstance(made.to_pairs("{text}", (" no", " yes")), icp.FlippingPairs) and row.columns["word"] == "0"


def test_values_of_a_cue_are_its_groups_or_its_words():
    two = ("The tall man and the TALL tree", "The old man and the small tree")
    [(_, edit)] = given_pairs(text_pairs(two, kind=icp.PreservingPairs), "identity", spec=COMMENTS, progress=False)
    assert (edit.before, edit.after, edit.label) == ("tall", "old, small", 0)
    grouped = text_pairs(two, kind=icp.PreservingPairs, groups=("one", "other"))
    made = given_pairs(grouped, "identity", spec=COMMENTS, progress=False)
    assert (made[0][1].before, made[0][1].after) == ("one", "other")
    assert made.to_pairs("{text}", (" no", " yes")).probe.examples[0].counterpart_group == "other"


def test_pairs_of_another_kind_or_of_other_classes_are_refused():
    flipping = text_pairs(("a bad film", "a good film"))
    spec = Spec("sentiment of the review", REVIEWS.classes, (SENTIMENT,), (IDENTITY,))
    with pytest.raises(
        SpecError, match="these pairs are label-flipping, and edits of 'identity' make label-preserving"
    ):
        given_pairs(flipping, "identity", spec=spec, progress=False)
    other = Spec("sentiment of the review", ("bad", "good"), (SENTIMENT,), ())
    with pytest.raises(SpecError, match="have the classes negative, positive, the spec bad, good"):
        given_pairs(flipping, "sentiment", spec=other, progress=False)


def test_a_row_without_a_counterpart_is_counted():
    rows = [
        {"text": "a bad film", "label": 0, "sentiment": "negative"},
        {"text": "bad", "label": 0, "sentiment": "negative", "counterpart": "good", "counterpart_label": 1},
    ]
    made = make_pairs(rows, edit=Given("sentiment"), spec=REVIEWS, progress=False)
    assert len(made) == 1 and made.counts["rejected"] == {"no counterpart": 1}


def test_a_pair_keeps_its_counterpart_once():
    [(row, _)] = given_pairs(text_pairs(("a bad film", "a good film")), "sentiment", spec=REVIEWS, progress=False)
    assert set(row.columns) == {"word", "sentiment"}


@pytest.mark.parametrize("label", [2, -1, "1", 0.5, float("nan"), [1]])
def test_a_counterpart_with_a_label_that_is_none_is_named_and_the_others_kept(label):
    row = {"text": "bad", "label": 0, "sentiment": "negative", "counterpart": "good"}
    rows = [row | {"counterpart_label": label}, row | {"counterpart_label": 1.0}]
    made = make_pairs(rows, edit=Given("sentiment"), spec=REVIEWS, progress=False)
    assert made[0][1].label == 1 and made.counts["rejected"] == {"contradicts the spec": 1}
    assert f"'good' has the label {label!r}: the spec has 2 classes" in made.rejected[0]["told"]


def test_a_counterpart_without_a_label_is_named_and_the_others_kept():
    row = {"text": "bad", "label": 0, "sentiment": "negative", "counterpart": "good"}
    rows = [row, row | {"counterpart_label": 1}]
    made = make_pairs(rows, edit=Given("sentiment"), spec=REVIEWS, progress=False)
    assert len(made) == 1 and made.counts["rejected"] == {"no text or label": 1}
    assert "'good' has no counterpart_label, and sentiment = 'good' has none in the spec" in made.rejected[0]["told"]


def test_what_a_given_pair_edits_besides_its_variable_is_rejected():
    spec = Spec(
        "toxicity", COMMENTS.classes, (), (Variable("height", Pattern({"tall": r"\btall\b", "small": r"\bsmall\b"})),)
    )
    two = text_pairs(("The tall man", "The small man"), ("The tall man", "A small man"), kind=icp.PreservingPairs)
    made = given_pairs(two, "height", spec=spec, validators=[SpansKept()], progress=False)
    assert len(made) == 1 and made.counts["rejected"] == {"edit outside its spans": 1}
    assert made.rejected[0]["told"] == "'The tall' is edited, which says nothing of height"


def test_all_real_review_pairs_have_their_edits_marked():
    folder, counts = real("cad_imdb"), []
    for split in ("train", "validation", "test"):
        made = given_pairs(data.cad_imdb(folder, split), "sentiment", spec=REVIEWS, progress=False)
        assert made.kind is icp.FlippingPairs
        counts.append((made.counts["rows"], made.counts["accepted"], made.counts["rejected"]))
        for row, edit in made:
            changes = [(span, edit.text[slice(*new)]) for span, new in zip(edit.spans, edit.new_spans)]
            assert changes and replaced(row.text, changes)[0] == edit.text
    same = {"unchanged": 1}
    assert counts == [(1707, 1706, same), (245, 245, {}), (488, 487, same)], "in two pairs both texts are the same"


def test_all_real_fuzzed_comments_become_preserving_pairs():
    found = data.wiki_toxicity_fuzzed(real("wiki_toxicity_fuzzed"))
    made = given_pairs(found, "identity", spec=COMMENTS, validators=[Changed()], progress=False)
    assert made.kind is icp.PreservingPairs and len(made) == 707
    assert sum(made.counts["rejected"].values()) == 27, "the case of a term is all that differs in these"
    assert all(edit.label == row.label and edit.before != edit.after for row, edit in made)


def test_real_winobias_becomes_preserving_pairs_whose_groups_are_genders():
    found = data.winobias(real("winobias"), "validation", 1)
    gender = Variable(
        "gender", Pattern({"male": r"(?i)\b(?:he|his|him|himself)\b", "female": r"(?i)\b(?:she|hers?|herself)\b"})
    )
    spec = Spec("who is meant", found.classes, (), (gender,))
    made = given_pairs(found, "gender", spec=spec, validators=[SpansKept()], progress=False)
    assert len(made) == 394 and {(e.before, e.after) for _, e in made} == {("male", "female"), ("female", "male")}
