"""Pairs are of the kind that their variable makes, every row is accounted for, and files are what was written."""

import json
import re
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp import data
from icp.counterfactual import (
    Column,
    Edit,
    Editor,
    Lexicon,
    MadePairs,
    Rejection,
    Spec,
    Validator,
    Variable,
    make_pairs,
)
from icp.errors import ArtefactError, DataError, SpecError
from icp.pairs import FlippingPairs, PreservingPairs

GENDER = Lexicon("gender", {"male": ("he",), "female": ("she",)})
TASTE = Lexicon("taste", {"negative": ("bad",), "positive": ("good",)})
SPEC = Spec(
    "rating",
    ("poor", "great"),
    (Variable("taste", TASTE, {"negative": "poor", "positive": "great"}),),
    (Variable("gender", GENDER),),
)
ROWS = [{"text": "he is good", "label": 1}, {"text": "she is bad", "label": 0, "word": "w"}]


@dataclass(frozen=True)
class Scripted(Editor):
    """Proposes for each text what the script has: `(text, before, after, label)`, or a rejection."""

    script: dict
    variable: str = "gender"
    says: tuple = ()

    @property
    def variables(self):
        return self.says or (self.variable,)

    def edits(self, row, spec):
        for one in self.script.get(row.text, ()):
            if isinstance(one, Rejection | Edit):
                yield one
            else:
                text, before, after, *label = one
                spans = ((0, len(row.text)),), ((0, len(text)),)
                yield Edit(text, self.variable, before, after, *spans, *label)


class Silent(Editor):
    variables = ()


@dataclass(frozen=True)
class NoThe(Validator):
    name: str = "no the"

    def reject(self, row, edit, spec):
        return "it has a the" if " the" in edit.text else None


def made(script, rows=ROWS, variable="gender", spec=SPEC, **more):
    return make_pairs(rows, edit=Scripted(script, variable), spec=spec, progress=False, **more)


def reasons(pairs):
    return dict(pairs.counts["rejected"])


CUE = {"he is good": [("she is good", "male", "female")], "she is bad": [("he is bad", "female", "male")]}
CAUSE = {"he is good": [("he is bad", "positive", "negative")], "she is bad": [("she is good", "negative", "positive")]}


def test_editing_a_cue_preserves_the_label_and_editing_a_cause_flips_it():
    pairs = made(CUE)
    assert pairs.kind is PreservingPairs and [edit.label for _, edit in pairs] == [1, 0]
    assert pairs[1][0].columns == {"word": "w"}
    flipped = made(CAUSE, variable="taste")
    assert flipped.kind is FlippingPairs and [edit.label for _, edit in flipped] == [0, 1]
    probe = pairs.to_pairs("{text} It was", (" poor", " great"))
    assert type(probe) is PreservingPairs
    first, second = probe.probe.examples
    assert (first.text, first.counterpart, first.label) == ("he is good It was", "she is good It was", 1)
    assert (second.group, second.counterpart_group, second.word) == ("female", "male", "w")
    assert flipped.to_pairs("{text}", (" poor", " great")).flipped == (0, 1)
    with pytest.raises(DataError, match="not one answer a class: the classes are poor, great"):
        pairs.to_pairs("{text}", (" poor",))


@pytest.mark.parametrize(
    "edit, variable, reason, told",
    [
        (("she is bad", "male", "female"), "gender", "mixed edit", "changes taste too"),
        (("she is good good", "male", "female"), "gender", "mixed edit", "changes taste too"),
        (("she is bad", "positive", "negative"), "taste", "mixed edit", "changes gender too"),
        (("he is good", "male", "female"), "gender", "unchanged", "as it is"),
        (("he was good", "male", "male"), "gender", "unchanged", "at 'male'"),
        (("she is good", "male", "female", 0), "gender", "label disagrees", "gender is a cue, and the label changes"),
        (
            ("he is bad", "positive", "negative", 1),
            "taste",
            "label disagrees",
            "goes with 'poor', and the edit",
        ),
        (("he is bad", "negative", "positive"), "taste", "label disagrees", "goes with 'poor', and the row"),
        (("the she is good", "male", "female"), "gender", None, None),
        (("she is the good", "male", "female"), "gender", "rejected by no the", "it has a the"),
    ],
)
def test_what_is_no_pair_is_counted_under_its_reason(edit, variable, reason, told):
    pairs = made({"he is good": [edit]}, ROWS[:1], variable, validators=(NoThe(),))
    assert reasons(pairs) == ({reason: 1} if reason else {}) and len(pairs) == (reason is None)
    assert pairs.counts["proposed"] == 1 and pairs.counts["without"] == 0
    if reason:
        [row] = pairs.rejected
        assert (row["text"], row["counterpart"], row["reason"]) == ("he is good", edit[0], reason)
        assert told in row["told"]


def test_a_cause_without_labels_flips_where_the_editor_says_to_what():
    spec = replace(SPEC, causes=(Variable("taste", TASTE),))
    assert [edit.label for _, edit in made({"he is good": [("he is bad", "positive", "negative", 0)]},
                                           ROWS[:1], "taste", spec)] == [0]  # fmt: skip
    pairs = made({"he is good": [("he is bad", "positive", "negative", 1)]}, ROWS[:1], "taste", spec)
    assert reasons(pairs) == {"label disagrees": 1}
    assert "taste is a cause, and the label stays 'great'" in pairs.rejected[0]["told"]
    with pytest.raises(SpecError, match="nothing says which label taste = 'negative' has"):
        made({"he is good": [("he is bad", "positive", "negative")]}, ROWS[:1], "taste", spec)
    with pytest.raises(SpecError, match="the edit has the label 2: the spec has 2 classes"):
        made({"he is good": [("he is bad", "positive", "negative", 2)]}, ROWS[:1], "taste", spec)


def test_one_edit_makes_pairs_of_one_kind():
    with pytest.raises(SpecError, match="taste, gender, causes and cues at once"):
        make_pairs(ROWS, edit=Scripted({}, says=("taste", "gender")), spec=SPEC)
    with pytest.raises(SpecError, match="the edit changes nothing"):
        make_pairs(ROWS, edit=Silent(), spec=SPEC)
    with pytest.raises(SpecError, match="the editor of gender proposed an edit of 'taste'"):
        make_pairs(ROWS, edit=Scripted(CAUSE, "taste", ("gender",)), spec=SPEC, progress=False)
    with pytest.raises(SpecError, match="no variable 'age'"):
        made(CUE, variable="age")
    with pytest.raises(SpecError, match="keep=0"):
        made(CUE, keep=0)


@pytest.mark.parametrize(
    "spans, new_spans, told",
    [
        (((0, 2),), ((0, 3),), r"the texts differ outside the spans: '.*good.*' becomes '.*bad.*'"),
        ((), (), "names 0 spans of the text and 0 of the counterpart"),
        (((0, 2), (6, 10)), ((0, 3),), "names 2 spans of the text and 1 of"),
        (((0, 99),), ((0, 10),), "not in order within the 10 characters"),
        (((6, 10), (0, 2)), ((7, 10), (0, 3)), "not in order"),
        (((0, 2), (6, 10)), ((0, 3), (7, 10)), None),
        (((0, 10),), ((0, 10),), None),
    ],
)
def test_an_editor_says_where_the_texts_differ(spans, new_spans, told):
    spec = Spec("rating", SPEC.classes, (), (Variable("both", Lexicon("both", {"a": ("he good",), "b": ("she",)})),))
    edit = Scripted({"he is good": [Edit("she is bad", "both", "a", "b", spans, new_spans)]}, "both")
    if told is None:
        assert len(make_pairs(ROWS[:1], edit=edit, spec=spec, progress=False)) == 1
    else:
        with pytest.raises(SpecError, match=f"the Scripted that edits both made 'she is bad' of 'he is good'.*{told}"):
            make_pairs(ROWS[:1], edit=edit, spec=spec, progress=False)


def test_what_was_proposed_before_is_no_second_pair():
    twice = {"he is good": [*CUE["he is good"] * 2, ("she was good", "male", "female")]}
    pairs = made(twice, ROWS[:1], keep=3)
    assert [edit.text for _, edit in pairs] == ["she is good", "she was good"]
    assert reasons(pairs) == {"proposed before": 1} and pairs.counts["proposed"] == 3


def test_rows_that_contradict_the_spec_are_named_and_the_others_kept():
    spec = replace(SPEC, cues=(*SPEC.cues, Variable("place", Column("place", ("north", "south")))))
    rows = [
        {"text": "he is good", "label": 1, "place": "north"}, {"text": "he is good", "label": 2, "place": "north"},
        {"text": "he is good", "label": 1, "place": "east"}, {"text": "he is good", "label": 1},
    ]  # fmt: skip
    pairs = made(CUE, rows, spec=spec)
    assert len(pairs) == 1 and reasons(pairs) == {"contradicts the spec": 3} and pairs.counts["without"] == 3
    told = [row["told"] for row in pairs.rejected]
    assert "has the label 2: the spec has 2 classes, poor, great" in told[0]
    assert "'east'" in told[1] and "no column 'place'" in told[2]


@pytest.mark.parametrize(
    "row, told",
    [
        ({"text": " ", "label": 0}, "row 1 has the text ' '"),
        ({"label": 0}, "row 1 has the text None"),
        ({"text": "x"}, r"row 1 \('x'\) has the label None"),
        ({"text": "x", "label": -1}, "the label -1"),
        ({"text": "x", "label": True}, "the label True"),
        ({"text": "x", "label": "1"}, "the label '1'"),
        ("x", "row 1 is 'x': give mappings"),
    ],
)
def test_a_row_that_is_none_is_named_and_the_others_kept(row, told):
    pairs = made(CUE, [ROWS[0], row, ROWS[1]])
    assert len(pairs) == 2 and reasons(pairs) == {"no text or label": 1}
    assert pairs.counts["rows"] == 3 and pairs.counts["without"] == 1
    assert re.search(told, pairs.rejected[0]["told"])
    with pytest.raises(DataError, match=f"none of the first 2 rows can be read: .*{told.replace('row 1', 'row 0')}"):
        made(CUE, [row, row])


def test_rows_come_from_whatever_holds_them():
    from datasets import Dataset

    wanted = list(made(CUE, [{"text": row["text"], "label": row["label"]} for row in ROWS]))
    labelled = data.Labelled(("poor", "great"), tuple(data.LabelledText(r["text"], r["label"]) for r in ROWS))
    texts = [row["text"] for row in ROWS]
    frame = pandas.DataFrame({"text": texts, "label": np.array([1, 0])})
    for rows in (labelled, frame, Dataset.from_pandas(frame), iter(ROWS)):
        assert [(row.text, row.label, edit) for row, edit in made(CUE, rows)] == [
            (row.text, row.label, edit) for row, edit in wanted
        ]
    assert made(CUE, [{"text": "he is good", "label": np.int64(1)}])[0][0].label == 1


REASON = Rejection("no cue", "nothing says it")
PROPOSALS = st.lists(
    st.sampled_from([REASON, ("she is good", "male", "female"), ("she is fine", "male", "female"),
                     ("he is good", "male", "female"), ("the she is the good", "male", "female")]), max_size=4,
)  # fmt: skip


@given(st.lists(PROPOSALS, max_size=5), st.integers(1, 3))
def test_counts_add_up(proposals, keep):
    rows = [{"text": f"he is good {number}", "label": 1} for number in range(len(proposals))]
    script = {
        row["text"]: [one if one is REASON else (f"{one[0]} {number}", *one[1:]) for one in proposed]
        for number, (row, proposed) in enumerate(zip(rows, proposals))
    }
    pairs = made(script, rows, validators=(NoThe(),), keep=keep)
    counts, outcomes = pairs.counts, reasons(pairs)
    assert counts["rows"] == len(rows)
    assert counts["accepted"] + sum(outcomes.values()) == counts["proposed"] + counts["without"]
    assert (len(pairs), len(pairs.rejected)) == (counts["accepted"], sum(outcomes.values()))
    per_row = [row["row"] for row in pairs.table]
    assert per_row == sorted(per_row), "pairs are in the order of the rows"
    for number, proposed in enumerate(proposals):
        good = {one for one in proposed if one is not REASON and one[0].startswith("she") and "fine" not in one[0]}
        mixed = [one for one in proposed if one is not REASON and "fine" in one[0]]
        assert per_row.count(number) == min(keep, len(good))
        assert len(mixed) >= sum(row["row"] == number and row["reason"] == "mixed edit" for row in pairs.rejected)
    assert outcomes.get("no proposal", 0) == sum(not proposed for proposed in proposals)
    table = pairs.yields
    assert table["count"].sum() == counts["proposed"] + counts["without"]
    assert table.loc["accepted", "count"] == counts["accepted"]


def test_the_same_call_gives_the_same_bytes_and_nothing_is_half_written(tmp_path):
    for name in ("a", "b"):
        made(CUE, folder=tmp_path / name)
    for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with pytest.raises(SpecError, match="nothing says which label"):
        made(CAUSE | {"x": [("y", "a", "b")]}, [*ROWS, {"text": "x", "label": 0}], "taste", folder=tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_saved_pairs_are_those_that_were_made(tmp_path):
    pairs = made(CUE | {"x": [REASON]}, [*ROWS, {"text": "x", "label": 0}])
    loaded = MadePairs.load(pairs.save(tmp_path / "pairs"))
    assert list(loaded) == list(pairs) and loaded.kind is pairs.kind and loaded.spec == pairs.spec
    assert loaded.counts == pairs.counts and loaded.rejected[0]["reason"] == "no cue"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="holds something else"):
        pairs.save(tmp_path / "other")


def test_no_rows_are_no_pairs(tmp_path):
    pairs = made(CUE, [], folder=tmp_path / "none")
    assert len(pairs) == 0 == len(pairs.rejected) and list(MadePairs.load(tmp_path / "none")) == []


@pytest.mark.parametrize("file, old, new", [
    ("pairs.arrow", b"she is good", b"she is evil"), ("pairs.json", b"label-preserving", b"label-flipping"),
    ("pairs.json", b'"accepted": 2', b'"accepted": 9'), ("pairs.json", b'"name": "gender"', b'"name": "others"'),
    ("pairs.json", b'"version": 1', b'"version": 7'),
])  # fmt: skip
def test_a_file_edited_by_hand_is_refused(tmp_path, file, old, new):
    made(CUE, folder=tmp_path / "pairs")
    path = tmp_path / "pairs" / file
    stored = path.read_bytes()
    assert old in stored
    path.write_bytes(stored.replace(old, new))
    with pytest.raises(ArtefactError, match=r"changed since it was written|has version 7"):
        MadePairs.load(tmp_path / "pairs")
    path.unlink()
    with pytest.raises(ArtefactError, match=r"lacks|cannot be read"):
        MadePairs.load(tmp_path / "pairs")


def test_a_kind_that_does_not_follow_from_the_pairs_is_refused_whatever_the_digests_say(tmp_path):
    from icp.counterfactual.made import _digest

    made(CUE, folder=tmp_path / "pairs")
    shutil.copytree(tmp_path / "pairs", tmp_path / "forged")
    path = tmp_path / "forged" / "pairs.json"
    told = json.loads(path.read_text()) | {"kind": "label-flipping"}
    path.write_text(json.dumps(told | {"digest": _digest(told)}))
    with pytest.raises(ArtefactError, match="is said to hold label-flipping pairs and has an edit of gender"):
        MadePairs.load(tmp_path / "forged")


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda told: told.pop("counts"), "no counts"),
        (lambda told: told.update(kind="both"), "kind='both'"),
        (lambda told: told["digests"].pop("pairs.arrow"), r"digests of \['rejected\.arrow'\]"),
    ],
)
def test_an_account_with_something_missing_is_refused_whatever_its_digest_says(tmp_path, change, told):
    from icp.counterfactual.made import _digest

    made(CUE, folder=tmp_path / "pairs")
    path = tmp_path / "pairs" / "pairs.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored | {"digest": _digest(stored)}))
    with pytest.raises(ArtefactError, match=f"is no account of pairs .*{told}"):
        MadePairs.load(path.parent)
