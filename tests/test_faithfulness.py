"""Order-faithfulness against scipy and by hand, with ties on either side, and its interval's coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import icp

NAMES = "abcdef"


def named(values):
    return dict(zip(NAMES, values))


def faithful(found, truth, **options):
    """Of attributions of one example each."""
    return icp.order_faithfulness(named([np.array([value]) for value in found]), named(truth), **options)


small = st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=3, max_size=6)


@given(small.filter(lambda some: all(len(set(side)) > 1 for side in zip(*some))))
def test_it_is_scipys_concordance_with_ties(some):
    found, truth = (list(map(float, side)) for side in zip(*some))
    result = faithful(found, truth)
    assert result.mean == pytest.approx((1 + stats.somersd(truth, found).statistic) / 2)
    assert result.pairs + result.unranked == len(some) * (len(some) - 1) // 2
    if len(set(found)) == len(set(truth)) == len(some):
        assert result.mean == pytest.approx((1 + stats.kendalltau(truth, found).statistic) / 2)


def test_ties_by_hand():
    result = faithful([3.0, 1.0, 1.0, 0.0], [4.0, 3.0, 2.0, 2.0])
    assert (result.pairs, result.unranked, result.tied) == (5, 1, 1)
    assert result.mean == pytest.approx(4.5 / 5)
    assert faithful([1.0, 2.0, 3.0], [0.0, 0.05, 1.0], tolerance=0.1).unranked == 1
    assert (faithful([1.0, 2.0], [2.0, 1.0]).mean, faithful([5.0, 5.0], [2.0, 1.0]).mean) == (0, 0.5)


def test_interventions_are_ranked_by_means_over_the_examples_they_were_made_of():
    nan = np.nan
    found = {"a": np.array([1.0, nan, nan]), "b": np.array([nan, 0.5, 0.7]), "c": np.array([0.0, 0.0, 0.0])}
    assert icp.order_faithfulness(found, {"c": 0.0, "a": 2.0, "b": 1.0}).mean == 1
    assert icp.order_faithfulness(found, {"c": 0.0, "a": 1.0, "b": 2.0}).mean == pytest.approx(2 / 3)


def test_the_interval_is_about_as_wide_as_other_samples_differ():
    """Three interventions of which two are near each other, 40 examples, drawn anew 200 times."""
    truth, random = (0.0, 0.2, 2.0), np.random.default_rng(0)
    drawn = [
        icp.order_faithfulness(named(random.normal(mean, 1.0, 40) for mean in truth), named(truth)) for _ in range(200)
    ]
    spread = np.std([one.mean for one in drawn])
    widths = [(one.high - one.low) / 2 for one in drawn if one.mean == 1 and np.isfinite(one.low)]
    assert 0.1 < spread < 0.2, "some samples rank the two the other way round"
    assert widths and all(one.low < one.high <= 1 for one in drawn if np.isfinite(one.low))
    error = [(one.mean - one.low) / stats.t.ppf(0.975, 39) for one in drawn if one.low > 0]
    assert np.mean(error) == pytest.approx(spread, rel=0.5)


def test_examples_of_one_template_count_as_one():
    random = np.random.default_rng(1)
    templates, words = np.repeat(np.arange(8), 10), np.arange(80)
    near, far = (random.normal(mean, 1.0, 8)[templates] + random.normal(0, 0.1, 80) for mean in (0.3, 0.0))
    alone = icp.order_faithfulness({"a": near, "b": far}, {"a": 1.0, "b": 0.0})
    clustered = icp.order_faithfulness(
        {"a": near, "b": far}, {"a": 1.0, "b": 0.0}, clusters=np.stack([templates, words], axis=1)
    )
    assert np.nan_to_num(alone.high - alone.low) < clustered.high - clustered.low


@pytest.mark.parametrize(
    ("found", "truth", "options", "says"),
    (
        ({"a": [1.0], "b": [2.0]}, {"a": 1.0, "c": 2.0}, {}, "the intervention 'b' is on one side only"),
        ({"a": [1.0]}, {"a": 1.0}, {}, "1 intervention has no order"),
        ({"a": [1.0], "b": [2.0, 3.0]}, {"a": 1.0, "b": 2.0}, {}, r"of 'b' have the shape \(2,\), those of 'a' \(1,\)"),
        ({"a": [1.0], "b": [np.nan]}, {"a": 1.0, "b": 2.0}, {}, "of 'b' have no finite number"),
        ({"a": [1.0], "b": [2.0]}, {"a": 1.0, "b": np.nan}, {}, "the effect of 'b' is not a number"),
        ({"a": [1.0], "b": [2.0]}, {"a": 1.0, "b": 1.0}, {}, "all 2 effects are tied within 0.0"),
        ({"a": [1.0], "b": [2.0]}, {"a": 1.0, "b": 2.0}, {"clusters": np.zeros((2, 2), int)}, "2 clusters of 1 ex"),
    ),
)
def test_what_has_no_order_is_refused(found, truth, options, says):
    with pytest.raises(icp.IcpError, match=says):
        icp.order_faithfulness({name: np.array(values) for name, values in found.items()}, truth, **options)
