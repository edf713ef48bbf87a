"""Metrics that are no means over examples: worked by hand, equal to the libraries', resampled, and refused."""

import json
from dataclasses import replace

import numpy as np
import planted
import pytest
from hypothesis import given
from hypothesis import strategies as st

import icp
from icp.judged import Judged
from icp.metrics import JUDGED, judge
from icp.numerals import fixed
from icp.numerals import interval as formatted
from icp.predictions import Cases, Predictions
from icp.resampling import bootstrap_error, interval
from icp.statistics import standard_error

ANSWERS = (" bad", " good")
APART = np.arange(6).repeat(2).reshape(6, 2)


def cases(labels, groups, answers=ANSWERS, clusters=None):
    apart = np.arange(len(labels)).repeat(2).reshape(-1, 2)
    return Cases("digest", answers, np.array(labels), tuple(groups), apart if clusters is None else clusters)


def predictions(good, labels, groups, **options):
    good = np.array(good, dtype=float)
    return Predictions(np.stack([1 - good, good], axis=1), cases(labels, groups, **options))


def six():
    """Six rows: right but for the second.

    | label | group | p(good) | answer | confidence |
    |---|---|---|---|---|
    | good | a | .90 | good | .90 |
    | good | a | .30 | bad, wrong | .70 |
    | bad | a | .15 | bad | .85 |
    | good | b | .65 | good | .65 |
    | good | b | .70 | good | .70 |
    | bad | b | .10 | bad | .90 |
    """
    return predictions([0.9, 0.3, 0.15, 0.65, 0.7, 0.1], [1, 1, 0, 1, 1, 0], "aaabbb")


SIX = {
    "f1": 6 / 7,  # 3 true positives, no false one, 1 false negative
    "worst_group_accuracy": 1 / 2,  # (good, a); the others 1
    "demographic_parity_difference": 2 / 3 - 1 / 3,  # " good" is given to 1 of 3 and to 2 of 3
    "equal_opportunity_difference": 1 - 1 / 2,  # of those that are good
    # of 5 bins: .6 to .8 holds .70 .65 .70, 2 right; .8 to 1 holds .90 .85 .90, 3 right
    "ece": (abs(2 - 2.05) + abs(3 - 2.65)) / 6,
}


@pytest.mark.parametrize("metric", JUDGED)
def test_six_rows_worked_by_hand(metric):
    how = judge(metric, bins=5)
    assert how.problem(six().cases) == ""
    assert how.value(six()) == pytest.approx(SIX[metric], abs=1e-7)
    assert how.of(how.features(six()).sum(0, keepdims=True)) == pytest.approx(SIX[metric], abs=1e-12)


def test_groups_worked_by_hand():
    judged = Judged(six().cases, {"m": six().probabilities})
    table = icp.Evaluation({}, judged=judged).groups("m")
    assert list(table.index) == [(" bad", "a"), (" bad", "b"), (" good", "a"), (" good", "b")]
    assert table["count"].tolist() == [1, 1, 2, 2]
    assert table["accuracy"].tolist() == [1.0, 1.0, 0.5, 1.0]
    np.testing.assert_allclose(table["confidence"], [0.85, 0.9, 0.8, 0.675])
    assert table.loc[(" good", "a"), "low"] < 0.5 < table.loc[(" good", "a"), "high"]


def test_a_cell_without_examples_counts_none_and_has_no_numbers():
    found = predictions([0.9, 0.3], [1, 0], "ab")
    table = icp.Evaluation({}, judged=Judged(found.cases, {"m": found.probabilities}, ("ece",))).groups("m")
    assert table.loc[(" bad", "a"), "count"] == 0 and np.isnan(table.loc[(" bad", "a"), "accuracy"])
    assert table["count"].sum() == 2


@given(st.integers(0, 10**6), st.sampled_from([2, 3]), st.integers(1, 20))
def test_sums_over_examples_give_what_the_libraries_give(seed, classes, bins):
    """On random answers, some of them ties, some certain: what is resampled is the metric itself."""
    random = np.random.default_rng(seed)
    count = 40
    probabilities = random.dirichlet(np.full(classes, 0.5), count)
    probabilities[:3] = 1 / classes
    probabilities[3:6] = np.eye(classes)[random.integers(classes, size=3)]
    labels = np.concatenate(
        [np.arange(classes), np.arange(classes), random.integers(classes, size=count - 2 * classes)]
    )
    groups = ["a"] * classes + ["b"] * classes + random.choice(["a", "b"], size=count - 2 * classes).tolist()
    found = Predictions(probabilities, cases(labels, groups, tuple("xyz"[:classes])))
    for metric in JUDGED:
        how = judge(metric, bins)
        if classes == 2 or "difference" not in metric:
            assert how.problem(found.cases) == ""
            assert how.of(how.features(found).sum(0, keepdims=True)) == pytest.approx(how.value(found), abs=1e-6), (
                metric
            )


def test_more_answers_than_two_have_a_mean_of_f1_over_all():
    probabilities = np.eye(3)[[0, 0, 1, 2, 2, 2]]
    found = Predictions(probabilities, cases([0, 1, 1, 2, 2, 0], "ababab", ("x", "y", "z")))
    assert judge("f1").value(found) == pytest.approx((2 / 4 + 2 / 3 + 4 / 5) / 3)


def test_equally_likely_answers_are_no_answer():
    found = predictions([0.5, 0.5, 0.9, 0.1], [1, 0, 1, 0], "abab")
    assert found.answered.tolist() == [-1, -1, 1, 0] and found.right.tolist() == [False, False, True, True]
    assert judge("f1").value(found) == pytest.approx(2 / 3)


def test_a_confidence_of_one_is_a_bin_of_its_own():
    """As torchmetrics has it; a bin holds its lower end."""
    how = judge("ece", bins=4)
    assert how.bin_of(np.array([0.5, 0.74, 0.75, 0.999, 1.0])).tolist() == [2, 2, 3, 3, 4]


def two_way(random, templates=12, words=10):
    codes = np.array([(t, w) for t in range(templates) for w in range(words)])
    values = 0.2 * random.normal(size=len(codes))
    return codes, values + random.normal(size=templates)[codes[:, 0]] + 0.5 * random.normal(size=words)[codes[:, 1]]


@pytest.mark.parametrize("column", ["alone", "template", "both"])
def test_a_mean_has_the_error_that_it_has_without_resampling(column):
    """Of a share, a ratio of two sums, the bootstrap must find what `icp.statistics` works out."""
    codes, values = two_way(np.random.default_rng(0))
    alone = np.arange(len(codes))
    clusters = {"alone": np.stack([alone, alone], 1), "template": np.stack([codes[:, 0], alone], 1), "both": codes}
    sums = np.stack([np.ones(len(values)), values], axis=1)
    error = bootstrap_error(sums, lambda totals: totals[:, 1] / totals[:, 0], clusters[column])
    assert error == pytest.approx(standard_error(values, clusters[column]), rel=0.08)
    assert error == bootstrap_error(sums, lambda totals: totals[:, 1] / totals[:, 0], clusters[column])
    assert error != bootstrap_error(sums, lambda totals: totals[:, 1] / totals[:, 0], clusters[column], seed=1)


@pytest.mark.parametrize("at_once", [1, 24 * 7, 1 << 22])
def test_resamples_are_the_same_however_many_are_drawn_at_once(at_once, monkeypatch):
    codes, values = two_way(np.random.default_rng(0))
    sums = np.stack([values] * 30, axis=1)
    clusters = np.stack([codes[:, 0], np.arange(len(codes))], 1)
    whole = bootstrap_error(sums, lambda totals: totals.max(1), clusters)
    monkeypatch.setattr("icp.resampling.DRAWN_AT_ONCE", at_once)
    assert bootstrap_error(sums, lambda totals: totals.max(1), clusters) == pytest.approx(whole, rel=1e-12)


def test_a_resample_without_a_number_does_not_count():
    """One of the two groups may be missing from a resample: the others say how the metric varies."""
    found = predictions([0.9, 0.2, 0.8, 0.4, 0.6, 0.7], [1, 1, 1, 1, 1, 0], "aaaaab")
    how = judge("equal_opportunity_difference")
    assert np.isfinite(bootstrap_error(how.features(found), how.of, found.cases.clusters))
    assert np.isnan(bootstrap_error(how.features(found)[:1], how.of, found.cases.clusters[:1]))


def test_intervals_stay_in_bounds_and_have_no_ends_where_nothing_varies():
    near = interval(0.95, 0.1, APART, 0.95, 0.0, 1.0)
    assert near["high"] == 1.0 and 0 < near["low"] < 0.95 and near["n"] == 6
    wider = interval(0.95, 0.1, APART, 0.99, 0.0, 1.0)
    assert wider["low"] < near["low"]
    for error in (0.0, 1e-16):
        none = interval(1.0, error, APART, 0.95, 0.0, 1.0)
        assert none["mean"] == 1.0 and np.isnan([none["low"], none["high"]]).all()


def many(seed=0, count=300, sharpness=1.0):
    """Answers that are right more often in group a, and the same with a few of them changed."""
    random = np.random.default_rng(seed)
    labels, groups = random.integers(2, size=count), random.choice(["a", "b"], size=count)
    logit = sharpness * (2 * (2 * labels - 1) * np.where(groups == "a", 1, 0.5) + random.normal(size=count))
    changed = np.where(random.random(count) < 0.03, -logit, logit)
    of = cases(labels, groups.tolist())
    return of, *(np.stack([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], axis=1) for z in (logit, changed))


def test_a_change_is_resampled_for_both_models_together():
    of, one, other = many()
    evaluation = icp.Evaluation({}, judged=Judged(of, {"a": one, "b": other}))
    table, change = evaluation.table(), evaluation.change("a", "b")
    back = evaluation.change("b", "a")
    for metric in JUDGED:
        a, b, row = table.loc[(metric, "a")], table.loc[(metric, "b")], change.loc[metric]
        assert row["mean"] == pytest.approx(b["mean"] - a["mean"])
        assert row["low"] < row["mean"] < row["high"] and row["n"] == 300
        assert row["relative"] == pytest.approx(row["mean"] / a["mean"])
        apart = np.hypot(a["high"] - a["low"], b["high"] - b["low"])
        assert row["high"] - row["low"] < 0.9 * apart, metric
        assert (back.loc[metric, "low"], back.loc[metric, "high"]) == pytest.approx((-row["high"], -row["low"]))
    same = icp.Evaluation({}, judged=Judged(of, {"a": one, "c": one})).change("a", "c")
    assert (same["mean"] == 0).all() and same["low"].isna().all()


def test_a_report_shows_metrics_that_are_no_means():
    of, one, other = many()
    evaluation = icp.Evaluation({}, judged=Judged(of, {"before": one, "after": other}, ("worst_group_accuracy",)))
    page = icp.report("A title", evaluations={"x": evaluation}).html
    change = evaluation.change("before", "after").loc["worst_group_accuracy"]
    for text in ("worst-group accuracy, % (n = 300)", fixed(100 * change["mean"], 1, "+")):
        assert text in page
    low, high = (100 * change[end] for end in ("low", "high"))
    assert formatted(low, high, 1, "+") in page and "reliability-0" not in page
    calibrated = icp.Evaluation({}, judged=Judged(of, {f"model {i}": one for i in range(8)}, ("ece",)))
    page = icp.report("A title", evaluations={"x": calibrated}).html
    assert "reliability-0" in page and "The first 7 of 8 models." in page and "model 6: ECE" in page
    assert "model 7: ECE" not in page and "On x." not in page


def with_groups(probe):
    """Pairs that say which cue the counterpart has."""
    return icp.Probe(tuple(replace(e, counterpart_group=str(-int(e.group))) for e in probe.examples))


def flipping(probe):
    """Pairs that differ in the verdict alone, and so in the label."""
    other = {"great": "awful", "fine": "dull", "dull": "fine", "awful": "great"}
    rows = []
    for e in probe.examples:
        opening, colour, verdict, film = e.text.split()
        rows.append(replace(e, counterpart=f"{opening} {colour} {other[verdict]} {film}"))
    return icp.FlippingPairs(icp.Probe(tuple(rows)), tuple(1 - e.label for e in probe.examples))


PLANTED = {
    "accuracy": 3 / 4,
    "f1": 6 / 8,
    "worst_group_accuracy": 1 / 2,
    "demographic_parity_difference": 1 / 2,
    "equal_opportunity_difference": 1 / 2,
    "consistency": 1 / 2,
    "sensitivity": 1 / 2,
    "contrast_accuracy": 3 / 4,
    "pairwise_accuracy": 1 / 2,
}
"""P = 11/4 s + 4 x: a verdict of a half (fine, dull) loses to a cue that speaks against it, and no other does."""


def test_a_model_solved_by_hand_has_the_metrics_that_follow():
    model, probe = planted.model(), planted.probe()
    evaluation = icp.evaluate(model, icp.PreservingPairs(probe), flipping=flipping(probe))
    table = evaluation.table().droplevel("model")
    assert set(table.index) == {"gap", "task_loss", "ece", *PLANTED}
    for metric, value in PLANTED.items():
        assert table.loc[metric, "mean"] == pytest.approx(value), metric
    s, x = planted.variables(probe)
    p_good = 1 / (1 + np.exp(-planted.p(s, x)))
    kept = evaluation.judged.predictions(model.name)
    np.testing.assert_allclose(kept.probabilities[:, 0], p_good, atol=1e-9)
    assert kept.right.mean() == evaluation.values[model.name]["accuracy"].mean()
    confidence = np.maximum(p_good, 1 - p_good)
    right = (p_good > 0.5) == (x > 0)
    bins = np.floor(15 * confidence)
    ece = sum(abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in set(bins)) / len(probe)
    assert table.loc["ece", "mean"] == pytest.approx(ece, abs=1e-6)
    one = icp.evaluate(model, probe, ["ece"], bins=1).table().loc[("ece", model.name), "mean"]
    assert one == pytest.approx(abs(right.mean() - confidence.mean()), abs=1e-6)


def test_groups_of_swapped_pairs_are_those_of_their_texts():
    """Over both members of a pair: kept on x', the group of x would make the worst group as good as the mean."""
    model, probe = planted.model(), planted.probe()
    told = icp.evaluate(model, with_groups(probe).balanced()).table().droplevel("model")
    for metric in ("worst_group_accuracy", "demographic_parity_difference", "equal_opportunity_difference"):
        assert told.loc[metric, "mean"] == pytest.approx(PLANTED[metric]), metric
    assert told.loc["f1", "n"] == 2 * len(probe)
    untold = icp.evaluate(model, probe.balanced())
    assert set(untold.metrics) == {"gap", "accuracy", "task_loss", "f1", "ece"}
    with pytest.raises(icp.IcpError, match=r"row 144 has no group: .*\(a swapped pair has that of its `counterpart_g"):
        icp.evaluate(model, probe.balanced(), ["worst_group_accuracy"])
    with pytest.raises(icp.IcpError, match="row 144 has no group"):
        untold.groups(model.name)


def test_accuracies_of_pairs_are_those_of_their_members():
    """Pair by pair, of a contrast set alone, whose counterparts have labels of their own."""
    model, pairs = planted.model(), flipping(planted.probe())
    found = icp.evaluate(model, pairs.probe, ["accuracy", "contrast_accuracy", "pairwise_accuracy"], flipping=pairs)
    values = found.values[model.name]
    others = icp.Probe(tuple(replace(e, label=y) for e, y in zip(pairs.probe.swapped().examples, pairs.flipped)))
    alone = icp.evaluate(model, others, ["accuracy"]).values[model.name]["accuracy"]
    np.testing.assert_array_equal(values["contrast_accuracy"], alone)
    np.testing.assert_array_equal(values["pairwise_accuracy"], values["accuracy"] * alone)
    table = found.table()
    assert 0 < table.loc[("pairwise_accuracy", model.name), "low"] < 0.5
    other = icp.FlippingPairs(planted_three(pairs.probe), tuple(2 for _ in pairs.flipped))
    metrics = ["pairwise_accuracy"]
    with pytest.raises(icp.ArtefactError, match="other inputs"):
        found | icp.evaluate({"other": model}, pairs.probe, metrics, flipping=other)


def planted_three(probe):
    """With a third answer."""
    return icp.Probe(tuple(replace(example, answers=(*example.answers, " film")) for example in probe.examples))


def test_answers_that_tie_are_neither_consistent_nor_sensitive():
    blind = icp.load(planted.module(), planted.tokenizer())
    blind.module.lm_head.weight.data[[planted.WORDS.index(word) for word in ("good", "bad")]] = 0
    probe = planted.probe().take(6)
    table = icp.evaluate(blind, probe, ["consistency", "sensitivity"], flipping=flipping(probe)).table()
    assert table["mean"].tolist() == [0.0, 0.0]


def refused(words, call):
    with pytest.raises(icp.IcpError) as error:
        call()
    assert words in str(error.value) and "\n" not in str(error.value)


def rows(labels, groups, answers=ANSWERS):
    texts = ["the pink great film", "our blue dull film", "that rose fine film", "this navy awful film"]
    return icp.Probe(tuple(icp.Example(t, answers=answers, label=y, group=g) for t, y, g in zip(texts, labels, groups)))


FOUR = rows([0, 1, 0, 1], "aabb")


@pytest.mark.parametrize(
    ("metric", "probe", "words"),
    [
        ("f1", rows([1, 1], "ab"), "'f1' cannot be had of these examples: no example has the label ' bad'"),
        ("worst_group_accuracy", rows([1, 1, 1], "abb"), "the label ' bad' and the group 'a': give some, or leave"),
        ("worst_group_accuracy", rows([0, 1, 0], "aab"), "no example has the label ' good' and the group 'b'"),
        ("worst_group_accuracy", rows([0, 1], "aa"), "all examples have the group 'a': give two or more"),
        ("worst_group_accuracy", rows([0, 1], ["a", None]), "row 1 has no group: give every example the value"),
        ("demographic_parity_difference", rows([0, 1], "aa"), "all examples have the group 'a'"),
        ("demographic_parity_difference", rows([0, 1], [None, None]), "row 0 has no group"),
        ("demographic_parity_difference", rows([0, 2], "ab", (" good", " bad", " film")), "there are 3 answers"),
        ("equal_opportunity_difference", rows([1, 0, 0], "abb"), "no example has the label ' good' and the group 'b'"),
        ("ece", icp.Probe((replace(FOUR.examples[0], label=None),)), "row 0 ('the pink great film') has no label"),
        ("ece", rows([0], "a", (" good",)), "row 0 ('the pink great film') has 1 answer"),
        ("ece", icp.Probe((*FOUR.examples, *rows([0], "a", ANSWERS[::-1]).examples)),
         "row 4 ('the pink great film') has the answers (' good', ' bad') and row 0 (' bad', ' good')"),
        ("consistency", FOUR, "'consistency' needs pairs whose label flips too: pass flipping=icp.FlippingPairs"),
        ("sensitivity", FOUR, "'sensitivity' needs pairs whose label flips too"),
        ("contrast_accuracy", FOUR, "'contrast_accuracy' needs pairs whose label flips: pass flipping="),
        ("pairwise_accuracy", FOUR, "'pairwise_accuracy' needs pairs whose label flips"),
    ],
)  # fmt: skip
def test_what_a_probe_does_not_allow_is_refused_before_a_model_runs(metric, probe, words, monkeypatch):
    monkeypatch.setattr(icp.Model, "read", lambda *_, **__: pytest.fail("the model ran"))
    refused(words, lambda: icp.evaluate(planted.model(), probe, [metric]))


def test_what_is_evaluated_by_default_is_what_can_be():
    model = planted.model()
    for probe, metrics in [
        (rows([1, 1], "ab"), ["demographic_parity_difference", "equal_opportunity_difference", "ece"]),
        (rows([0, 1], "aa"), ["f1", "ece"]),
        (rows([0, 1, 2], "aab", (" good", " bad", " film")), ["f1", "ece"]),
        (icp.Probe((*FOUR.examples, *rows([0], "a", ANSWERS[::-1]).examples)), []),
        (FOUR, list(JUDGED)),
    ]:
        assert icp.evaluate(model, probe).metrics == ["accuracy", "task_loss", *metrics]


def test_settings_that_mean_nothing_are_refused():
    model, probe = planted.model(), planted.probe()
    pairs = flipping(probe)
    refused("cannot be put into 0 bins: give 1 or more", lambda: icp.evaluate(model, probe, ["ece"], bins=0))
    refused("says little alone", lambda: icp.evaluate(model, probe, ["consistency"], flipping=pairs))
    refused("needs label-preserving pairs and was given label-flipping", lambda: icp.evaluate(model, pairs))
    refused("some examples have no counterpart",
            lambda: icp.evaluate(model, FOUR, ["consistency", "sensitivity"], flipping=pairs))  # fmt: skip


def test_answers_join_by_model_and_by_metric():
    model, probe = planted.model(), planted.probe()
    whole = icp.evaluate({"a": model, "b": model}, probe, ["f1", "ece"])
    one, other = (icp.evaluate({"a": model}, probe, [metric]) for metric in ("ece", "f1"))
    joined = one | other | icp.evaluate({"b": model}, probe, ["f1"])
    assert joined.table().sort_index().equals(whole.table().sort_index())
    assert joined.metrics == ["f1", "ece"] and joined.models == ["a", "b"]
    few = icp.evaluate({"a": model}, probe.take(8), ["ece"])
    changed = replace(other.judged, probabilities={"a": other.judged.probabilities["a"][:, ::-1].copy()})
    for words, call in [
        ("the answers there are to another probe", lambda: other | few),
        ("'ece' of 'a' is in both evaluations", lambda: one | one),
        ("'a' answers differently there", lambda: one | icp.Evaluation({}, judged=changed)),
        ("'ece' has 15 bins here and 5 there",
         lambda: one | icp.evaluate({"b": model}, probe, ["ece"], bins=5)),
        ("the answers of 'z' were not kept: there are a", lambda: one.groups("z")),
        ("no answers were kept: evaluate by one or more of f1,", lambda: icp.Evaluation({"a": {}}).groups("a")),
        ("unknown metric 'f2'", lambda: Judged(six().cases, {}, ("f2",))),
        ("probabilities (5, 2) of 6 examples", lambda: Predictions(six().probabilities[:5], six().cases)),
        ("the probabilities of row 2 are", lambda: predictions([0.1, 0.2, 1.3], [1, 1, 0], "aab")),
        ("6 labels, 5 groups and 6 clusters", lambda: cases([0] * 6, "aaaaa")),
    ]:  # fmt: skip
        refused(words, call)


def test_an_evaluation_with_answers_comes_back_bit_for_bit(tmp_path):
    probe = with_groups(planted.probe()).take(20)
    evaluation = icp.evaluate(planted.model(), probe, bins=7)
    path = evaluation.save(tmp_path / "evaluation.json")
    loaded = icp.Evaluation.load(path)
    assert (
        loaded.judged.probabilities[planted.model().name].tobytes()
        == evaluation.judged.probabilities[planted.model().name].tobytes()
    )
    assert loaded.table().equals(evaluation.table()) and loaded.judged.bins == 7
    assert loaded.groups(planted.model().name).equals(evaluation.groups(planted.model().name))
    stored = json.loads(path.read_text())
    for wrong in ({}, stored["judged"] | {"labels": []}, stored["judged"] | {"metrics": ["f2"]}, 3):
        path.write_text(json.dumps(stored | {"judged": wrong}))
        with pytest.raises(icp.ArtefactError, match="is damaged"):
            icp.Evaluation.load(path)
