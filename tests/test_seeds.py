"""One row a method: means over seeds, and intervals that know of seeds and of examples."""

import numpy as np
import pytest
from scipy import stats
from test_metrics import cases

import icp
from icp.evaluation import Inputs
from icp.judged import Judged
from icp.statistics import standard_error


def evaluation(values, metric="task_loss", digest="d", name="tuned"):
    apart = np.arange(len(values)).repeat(2).reshape(-1, 2)
    return icp.Evaluation({name: {metric: np.array(values, dtype=float)}}, {metric: Inputs(digest, apart)})


def test_a_mean_over_seeds_and_its_interval_worked_by_hand():
    random = np.random.default_rng(0)
    values = random.normal(size=50) + np.array([[0.0], [1.0], [2.0]]) + 0.1 * random.normal(size=(3, 50))
    row = icp.over_seeds({"erm": [evaluation(v) for v in values]}).loc[("task_loss", "erm")]
    between = values.mean(1).var(ddof=1) / 3
    within = values.mean(0).var(ddof=1) / 50
    variance = between + within
    freedom = variance**2 / (between**2 / 2 + within**2 / 49)
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    assert (row["seeds"], row["mean"]) == (3, pytest.approx(values.mean()))
    assert (row["low"], row["high"]) == pytest.approx((values.mean() - half, values.mean() + half))
    assert row["values"] == pytest.approx(values.mean(1))
    wide = icp.over_seeds({"erm": [evaluation(v) for v in values]}, level=0.99).loc[("task_loss", "erm")]
    assert wide["high"] > row["high"]


def test_seeds_that_agree_leave_the_variance_over_examples():
    values = np.random.default_rng(0).normal(size=40)
    row = icp.over_seeds({"erm": [evaluation(values)] * 3}).loc[("task_loss", "erm")]
    low, high = stats.t.interval(0.95, 39, loc=values.mean(), scale=stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def judged(random, labels, groups, metrics=("worst_group_accuracy", "ece"), name="tuned", bins=15):
    good = np.clip(np.where(labels == 1, 0.7, 0.3) + 0.3 * random.normal(size=len(labels)), 0.01, 0.99)
    of = cases(labels, groups)
    return icp.Evaluation({name: {}}, judged=Judged(of, {name: np.stack([1 - good, good], 1)}, metrics, bins))


def test_metrics_that_are_no_means_have_seeds_and_examples_too():
    random = np.random.default_rng(0)
    labels, groups = random.integers(2, size=200), random.choice(["a", "b"], size=200).tolist()
    seeds = [judged(random, labels, groups) for _ in range(3)]
    table = icp.over_seeds({"erm": seeds, "single": seeds[:1]})
    row = table.loc[("worst_group_accuracy", "erm")]
    each = [one.table().loc[("worst_group_accuracy", "tuned"), "mean"] for one in seeds]
    assert row["values"] == pytest.approx(tuple(each)) and row["mean"] == pytest.approx(np.mean(each))
    between = np.var(each, ddof=1) / 3
    assert row["high"] - row["low"] > 2 * stats.norm.ppf(0.975) * between**0.5
    assert 0 <= row["low"] < row["mean"] < row["high"] <= 1
    assert np.isnan(table.loc[("ece", "single"), ["low", "high"]].astype(float)).all()
    assert table.loc[("ece", "single"), "seeds"] == 1


def test_a_judged_metric_that_is_a_share_has_the_error_of_a_mean():
    """With one bin and all answers right, ECE is one less the mean confidence: the bootstrap is the analytic error."""
    random = np.random.default_rng(0)
    labels = random.integers(2, size=400)
    of = cases(labels, "a" * 400)
    confidence = random.uniform(0.6, 0.9, size=(2, 400))
    seeds = []
    for sure in confidence:
        good = np.where(labels == 1, sure, 1 - sure)
        seeds.append(icp.Evaluation({}, judged=Judged(of, {"m": np.stack([1 - good, good], 1)}, ("ece",), bins=1)))
    found = icp.over_seeds({"erm": seeds}).loc[("ece", "erm")]
    between, within = confidence.mean(1).var(ddof=1) / 2, standard_error(confidence.mean(0)) ** 2
    freedom = (between + within) ** 2 / (between**2 + within**2 / 399)
    half = stats.t.ppf(0.975, freedom) * (between + within) ** 0.5
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.08)


def test_the_method_may_name_the_model():
    one = evaluation([1.0, 2.0], name="erm") | evaluation([5.0, 6.0], name="other")
    assert icp.over_seeds({"erm": [one]}).loc[("task_loss", "erm"), "mean"] == 1.5


@pytest.mark.parametrize(
    ("methods", "options", "words"),
    [
        ({}, {}, "no method was given: pass the evaluations of each by its name"),
        ({"erm": []}, {}, "'erm' has no evaluation: give one a seed"),
        ({"erm": [evaluation([1.0, 2.0]), evaluation([1.0, 2.0], digest="e")]}, {},
         "'task_loss' of 'erm' was measured on other examples in evaluation 1 than in evaluation 0"),
        ({"erm": [evaluation([1.0, 2.0]), evaluation([1.0, 2.0], "gap")]}, {}, "no metric was measured for every seed"),
        ({"erm": [evaluation([1.0, 2.0])]}, {"metrics": ["gap"]}, "'gap' was not measured for every seed of 'erm'"),
        ({"erm": [evaluation([1.0, 2.0], name="a") | evaluation([1.0, 2.0], name="b")]}, {},
         "evaluation 0 of 'erm' is of the models a, b: let one have the method's name"),
        ({"erm": [judged(np.random.default_rng(0), np.array([0, 1]), "ab", ("ece",), bins=bins) for bins in (5, 15)]},
         {}, "'ece' of 'erm' has 5 and 15 bins: evaluate all alike"),
        ({"erm": [icp.Evaluation({"m": {"gap": np.zeros(count)}}) for count in (2, 3)]}, {},
         "'gap' has 2, 3 values: evaluate all seeds on the same probe"),
    ],
)  # fmt: skip
def test_seeds_that_cannot_be_averaged_say_why(methods, options, words):
    with pytest.raises(icp.IcpError) as error:
        icp.over_seeds(methods, **options)
    assert words in str(error.value)
