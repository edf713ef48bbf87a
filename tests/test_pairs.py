"""Pairs in files: they come back of the kind that they were, and the wrong kind is refused."""

import json

import pytest
from helpers import EQUAL_PAIRS

import icp
from icp.pairs import Pairs, read_probe, read_rows

ANSWERS = (" she", " he")


def probe():
    rows = [
        icp.Example(x, other, ANSWERS, row % 2, word=f"w{row}", group="a", counterpart_group="b")
        for row, (x, other) in enumerate(EQUAL_PAIRS)
    ]
    return icp.Probe(tuple(rows))


def preserving():
    return icp.PreservingPairs(probe())


def flipping():
    return icp.FlippingPairs(probe(), tuple(1 - example.label for example in probe().examples))


@pytest.mark.parametrize("make", (preserving, flipping))
def test_pairs_come_back_with_their_kind(make, tmp_path):
    pairs = make()
    path = pairs.save(tmp_path / "deep" / "pairs.json")
    for found in (type(pairs).load(path), Pairs.load(str(path)), read_rows(path)):
        assert found == pairs and type(found) is type(pairs)
    assert read_probe(path) == pairs.probe
    found.save(path)  # over itself
    assert Pairs.load(path) == pairs
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert read_rows(path) == pairs, "another layout is the same file"


@pytest.mark.parametrize(("make", "other"), ((preserving, icp.FlippingPairs), (flipping, icp.PreservingPairs)))
def test_the_other_kind_is_refused_with_both_named(make, other, tmp_path):
    pairs = make()
    with pytest.raises(icp.ArtefactError, match=f"holds {pairs.kind} pairs, and {other.kind} ones are needed"):
        other.load(pairs.save(tmp_path / "pairs"))


def test_a_plain_probe_stays_one(tmp_path):
    rows = (icp.Example('"format": "icp-pairs" said the nurse'), *probe().examples)
    path = icp.Probe(rows).save(tmp_path / "probe.jsonl")
    assert read_rows(path) == read_probe(path) == icp.Probe(rows)
    with pytest.raises(icp.ArtefactError, match="no probe at"):
        read_rows(tmp_path / "missing")
    with pytest.raises(icp.ArtefactError, match="cannot be read as 'icp-pairs'"):
        Pairs.load(path)
    with pytest.raises(icp.ArtefactError, match="holds 'icp-pairs', not the examples of a probe"):
        icp.Probe.load(flipping().save(tmp_path / "pairs"))


def edited(change):
    """The file of flipping pairs with something changed by hand."""

    def write(path):
        content = json.loads(flipping().save(path).read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.parametrize(
    ("write", "error", "says"),
    (
        (edited(lambda c: c.update(kind="label-keeping")), icp.ArtefactError, "is damaged: it should have pairs and"),
        (edited(lambda c: c.update(pairs=3)), icp.ArtefactError, "is damaged: it should have pairs and their kind"),
        (edited(lambda c: c.update(version=2)), icp.ArtefactError, "has version 2, this icp reads version 1"),
        (edited(lambda c: c.update(kind="label-preserving")), icp.ProbeError, "label-preserving pairs of .*'flipped'"),
        (edited(lambda c: c["pairs"][1].update(flipped=1)), icp.ProbeError, "row 1 .* has the label 1 before and"),
        (edited(lambda c: c["pairs"][1].update(flipped=2)), icp.ProbeError, "row 1 .* indices into its answers"),
        (edited(lambda c: c["pairs"][1].update(flipped=True)), icp.ProbeError, "row 1 has the flipped label True"),
        (edited(lambda c: c["pairs"][1].pop("flipped")), icp.ProbeError, "row 1 has the flipped label None"),
        (edited(lambda c: c["pairs"].insert(1, "text")), icp.ArtefactError, "is damaged: it should have pairs"),
        (edited(lambda c: c["pairs"][1].update(counterpart=None)), icp.ProbeError, "and no counterpart"),
        (edited(lambda c: c["pairs"].clear()), icp.ProbeError, "is empty"),
    ),
)
def test_a_file_that_was_edited_by_hand_is_checked(write, error, says, tmp_path):
    with pytest.raises(error, match=says):
        Pairs.load(write(tmp_path / "pairs"))
