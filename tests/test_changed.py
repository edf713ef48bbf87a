"""Which answers changed, against counts by hand on the planted model, and against scipy's tests."""

import json
from dataclasses import replace

import numpy as np
import planted
import pytest
import torch
from helpers import BY_NAME, make_probe
from scipy import stats

import icp
from icp.evaluation import Inputs

BALANCED = icp.Probe(tuple(e for e in planted.probe().examples if e.text.split()[2] in ("fine", "dull")))
"""Evidence of 1/2 either way: s of the six colours is 1 in size, and so P = 2.75 s + 4 x has the sign of s."""


@pytest.fixture(scope="module")
def cut():
    """Without the head that writes the cue, P = 2.75 s + 4 x - 2.25 s has the sign of x, and all answers are right."""
    model = planted.model()
    choices = (icp.Choice(icp.Unit.parse(planted.SPURIOUS_HEAD), "prune", 0.0),)
    return icp.prune(model, icp.Selection(choices, model.binding))


@pytest.fixture(scope="module")
def found(cut):
    return icp.changed_answers(planted.model(), cut, BALANCED)


def test_the_premises_hold():
    s, x = planted.variables(BALANCED)
    assert (np.sign(planted.p(s, x)) == np.sign(s)).all() and (np.abs(x) == 0.5).all() and len(BALANCED) == 72


def test_cutting_the_cue_mends_the_answers_that_it_had_misled(found):
    s, x = planted.variables(BALANCED)
    misled = np.sign(s) != np.sign(x)
    assert 0 < misled.sum() < len(found)
    np.testing.assert_array_equal(found.is_kind("mended"), misled)
    assert not found.is_kind("broken").any() and not found.is_kind("other").any()
    np.testing.assert_array_equal(found.changed, misled)


def test_rows_give_both_answers_with_their_probabilities_and_logit_differences(found):
    s, x = planted.variables(BALANCED)
    table = found.table()
    assert set(table.index) == set(np.flatnonzero(np.sign(s) != np.sign(x)))
    for row, told in table.iterrows():
        example = BALANCED.examples[row]
        towards = 1 if example.label == 0 else -1
        assert (told["text"], told["counterpart"], told["group"]) == (example.text, example.counterpart, example.group)
        assert told["kind"] == "mended" and told["right"] == told["after"] == example.answers[example.label]
        assert told["before"] == example.answers[1 - example.label]
        logits = towards * planted.p(s[row], x[row]), towards * (0.5 * s[row] + 4 * x[row])
        assert (told["logit_before"], told["logit_after"]) == pytest.approx(logits, abs=1e-6)
        assert told["change"] == pytest.approx(logits[1] - logits[0], abs=1e-6)
        p = 1 / (1 + np.exp(-np.array(logits)))
        assert (told["p_before"], told["p_after"]) == pytest.approx(tuple(p), abs=1e-6)


def test_rows_are_sorted_by_the_size_of_the_change_whichever_way():
    p = np.array([[[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.9, 0.1]], [[0.4, 0.6], [0.01, 0.99], [0.8, 0.2], [0.8, 0.2]]])
    probe = icp.Probe(tuple(icp.Example(f"text {i}", answers=("a", "b"), label=0) for i in range(4)))
    table = icp.ChangedAnswers(probe, ("one", "two"), p).table()
    assert list(table.index) == [1, 2, 0] and list(table["kind"]) == ["broken", "mended", "broken"]
    assert (table["change"] > 0).tolist() == [False, True, False]


def test_counterparts_that_changed_too_and_answers_that_followed_the_cue_are_counted(found):
    """Every pair is answered by its colour before and by its verdict after; of a mended one x' was right already."""
    counts = found.counts()
    n = int(found.is_kind("mended").sum())
    assert counts.loc["mended", ["counterpart_changed", "split_before", "split_after"]].tolist() == [0, n, 0]
    assert not found.table()["counterpart_changed"].any()
    one = found.table().iloc[0]
    assert one["counterpart_before"] == one["counterpart_after"] == one["right"] != one["before"]


def test_counts_by_right_answer_and_group(found):
    groups = found.groups()
    for (right, group), row in groups.iterrows():
        misled = (right == " good") != (group == "1")
        assert row["n"] == 18 and row["mended"] == (18 if misled else 0) and row["broken"] == row["other"] == 0
    assert len(groups) == 4


def test_the_other_way_round_what_was_mended_is_broken(found, cut):
    back = icp.changed_answers(cut, planted.model(), BALANCED)
    np.testing.assert_array_equal(back.is_kind("broken"), found.is_kind("mended"))
    assert not back.is_kind("mended").any()
    assert back.accuracy()["mean"] == -found.accuracy()["mean"]


def test_from_wrong_to_wrong_and_without_labels_is_other():
    p = np.array([[[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]], [[0.2, 0.7, 0.1], [0.2, 0.1, 0.7]]])
    answers = ("a", "b", "c")
    rows = icp.Example("one", answers=answers, label=2), icp.Example("two", answers=answers)
    found = icp.ChangedAnswers(icp.Probe(rows), ("one", "two"), p)
    assert found.is_kind("other").all() and not (found.is_kind("mended") | found.is_kind("broken")).any()
    table = found.table()
    assert table.loc[0, "right"] == "c" and table.loc[1, "right"] is None
    assert (table.loc[0, "p_before"], table.loc[1, "p_after"]) == (0.1, 0.7), "of the right one, or else the new one"
    assert table.loc[1, "logit_after"] == pytest.approx(np.log(0.7 / 0.3))
    assert found.groups().loc[("", ""), "other"] == 1
    with pytest.raises(icp.ProbeError, match=r"row 1 \('two'\) has no label"):
        found.accuracy()


def test_a_tie_is_no_answer():
    p = np.array([[[0.5, 0.5]], [[0.2, 0.8]]])
    probe = icp.Probe((icp.Example("one", answers=("a", "b"), label=1),))
    row = icp.ChangedAnswers(probe, ("one", "two"), p).table().loc[0]
    assert (row["kind"], row["before"], row["after"]) == ("mended", None, "b")


def of_answers(before, after, **fields):
    """Answers 0 or 1, of which 1 is right, each with probability 0.9; every example alone, or with these fields."""
    p = np.array([[[1 - a, a] for a in given] for given in (before, after)]) * 0.8 + 0.1
    rows = [icp.Example(f"text {i}", answers=("no", "yes"), label=1, **fields) for i in range(len(before))]
    return icp.ChangedAnswers(icp.Probe(tuple(rows)), ("before", "after"), p)


@pytest.mark.parametrize(("mended", "broken", "same"), [(0, 0, 8), (5, 0, 3), (9, 2, 10), (3, 3, 1)])
def test_accuracy_changes_as_in_an_evaluation_and_p_is_mcnemars(mended, broken, same):
    before, after = [0] * mended + [1] * broken + [1] * same, [1] * mended + [0] * broken + [1] * same
    found = of_answers(before, after)
    row = found.accuracy()
    values = {name: {"accuracy": np.array(given, float)} for name, given in (("before", before), ("after", after))}
    inputs = {"accuracy": Inputs("digest", found.probe.clusters)}
    expected = icp.Evaluation(values, inputs).change("before", "after").loc["accuracy"]
    assert [row[k] for k in ("mean", "low", "high")] == [expected[k] for k in ("mean", "low", "high")]
    tail = stats.binom.cdf(min(mended, broken), mended + broken, 0.5)
    assert row["p"] == pytest.approx(min(1.0, 2 * tail))
    counts = found.counts()
    assert counts.loc["mended", "n"] == mended and counts.loc["any", "n"] == mended + broken
    assert counts.loc["mended", "share"] == mended / len(before)
    gained = np.array([1.0] * mended + [0.0] * (len(before) - mended))
    interval = icp.Evaluation({"m": {"accuracy": gained}}, inputs).table().loc[("accuracy", "m")]
    assert counts.loc["mended", ["low", "high"]].tolist() == [interval["low"], interval["high"]]


def test_a_test_that_takes_examples_for_independent_is_not_given_where_they_share_a_template():
    found = of_answers([0, 0, 0, 1], [1, 1, 1, 1])
    assert np.isfinite(found.accuracy()["p"])
    shared = tuple(replace(e, template=f"t{i // 2}") for i, e in enumerate(found.probe.examples))
    assert np.isnan(replace(found, probe=icp.Probe(shared)).accuracy()["p"])


def test_nothing_changes_between_a_model_and_itself():
    found = icp.changed_answers(planted.model(), planted.model(), BALANCED)
    assert found.table().empty and not found.counts()["n"].any() and found.accuracy()["mean"] == 0
    assert 0 < found.counts().loc["any", "high"] < 1, "that none changed does not say that none can"


def test_stored_answers_do_as_well_as_models(found, cut):
    models = {"before": planted.model(), "after": cut}
    x, other = (icp.evaluate(models, probe, ["ece"]).answers for probe in (BALANCED, BALANCED.swapped()))
    both, theirs = ([answers.predictions(name) for name in models] for answers in (x, other))
    stored = icp.changed_answers(*both, BALANCED, counterparts=tuple(theirs))
    np.testing.assert_allclose(stored.probabilities, found.probabilities, atol=1e-12)
    np.testing.assert_allclose(stored.counterparts, found.counterparts, atol=1e-12)
    alone = icp.changed_answers(*both, BALANCED)
    assert alone.counterparts is None and "counterpart_changed" not in alone.table()
    assert list(alone.counts().columns) == ["n", "share", "low", "high"]
    for call in (
        lambda: icp.changed_answers(*both, BALANCED.take(5)),
        lambda: icp.changed_answers(*both, BALANCED, counterparts=tuple(both)),
    ):
        with pytest.raises(icp.ArtefactError, match=r"the stored answers are to another probe \(\w+\) than"):
            call()


def test_saved_and_loaded_it_is_the_same(found, tmp_path):
    again = icp.ChangedAnswers.load(found.save(tmp_path / "changed.json"))
    assert again.table().equals(found.table()) and again.counts().equals(found.counts())
    assert (again.probe, again.names, again.bindings) == (found.probe, found.names, found.bindings)
    assert again.bindings["before"] == planted.model().binding != again.bindings["after"]


def test_foreign_newer_and_damaged_files_are_refused(found, tmp_path):
    path = found.save(tmp_path / "changed.json")
    stored = json.loads(path.read_text("utf-8"))
    for change, message in (
        ({"format": "icp-evaluation"}, "holds 'icp-evaluation', not 'icp-changed-answers'"),
        ({"version": 9}, "has version 9, this icp reads version 1"),
        ({"names": ["one"]}, "is damaged"),
        ({"probabilities": None}, "is damaged"),
        ({"probabilities": [[[1.0, 0.0]], [[1.0, 0.0]]]}, r"is damaged.*\(2, 1, 2\).*\(2, 72, 2\)"),
        ({"probabilities": np.full((2, 72, 2), 0.7).tolist()}, "is damaged.*do not sum to 1"),
        ({"examples": [{"text": "x"}]}, "is damaged"),
    ):
        path.write_text(json.dumps(stored | change), "utf-8")
        with pytest.raises(icp.ArtefactError, match=message):
            icp.ChangedAnswers.load(path)


def test_bad_input_is_refused():
    model = BY_NAME["gpt2"].model()
    single = icp.Probe((icp.Example("The nurse ran", answers=(" she",), label=0),))
    uneven = icp.Probe((*make_probe().examples, icp.Example("The doctor ran", answers=(" she", " he", " it"), label=0)))
    with pytest.raises(icp.ProbeError, match="'The nurse ran' has 1 answer"):
        icp.changed_answers(model, model, single)
    with pytest.raises(icp.ProbeError, match="equally many answers in every example"):
        icp.changed_answers(model, model, uneven)
    with pytest.raises(icp.IcpError, match="both models are called 'm'"):
        icp.changed_answers(model, model, make_probe(), names=("m", "m"))
    broken = model.copy()
    with torch.no_grad():
        broken.unembed.weight.fill_(float("nan"))
    with pytest.raises(icp.NotFiniteError, match="measure in float32"):
        icp.changed_answers(model, broken, make_probe())
