"""The bound on what an audit missed: against enumeration, against textbook limits, and by how often it holds."""

from itertools import product

import numpy as np
import pytest
import reference_misses as naive
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import icp
from icp.certificate import Stratum
from icp.sweep import misses
from icp.sweep.misses import draws_at, fewest_draws, holds, left_above, most_above


@st.composite
def audits(draw, strata=3, largest=6):
    """Sizes, draws and counts found of a few small strata."""
    sizes = draw(st.lists(st.integers(1, largest), min_size=1, max_size=strata))
    draws = [draw(st.integers(0, size)) for size in sizes]
    found = [draw(st.integers(0, count)) for count in draws]
    return sizes, draws, found


CONFIDENCE = st.sampled_from((0.5, 0.8, 0.9, 0.95))


def strata_of(sizes, draws, found):
    return [Stratum(*row) for row in zip(sizes, draws, found)]


@settings(max_examples=150)
@given(audits(), CONFIDENCE)
def test_the_bound_is_that_of_enumeration(audit, confidence):
    assert most_above(strata_of(*audit), confidence) == naive.most_above(*audit, confidence)


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 1), st.sampled_from((0.8, 0.95, 0.99)))
def test_one_stratum_is_the_hypergeometric_limit(size, share, part, confidence):
    sampled = max(1, round(share * size))
    above = round(part * sampled)
    possible = np.arange(above, size - sampled + above + 1)
    kept = possible[stats.hypergeom.cdf(above, size, possible, sampled) > (1 - confidence) * (1 - 1e-9)]
    assert most_above([Stratum(size, sampled, above)], confidence) == kept.max()


@pytest.mark.parametrize("sampled, above", [(690, 0), (690, 3), (60, 1), (200, 50)])
def test_one_large_stratum_is_clopper_and_pearsons_limit(sampled, above):
    size = 300_000
    limit = stats.beta.ppf(0.95, above + 1, sampled - above)
    assert most_above([Stratum(size, sampled, above)], 0.95) / size == pytest.approx(limit, rel=5e-3)


def test_clean_audits_bound_the_miss_rate_as_the_method_says():
    assert most_above([Stratum(10**6, 690)], 0.95) / 10**6 == pytest.approx(0.0043, abs=5e-5)


@given(audits(), CONFIDENCE)
def test_the_bound_lies_between_what_was_found_and_what_is_possible(audit, confidence):
    bound = most_above(strata_of(*audit), confidence)
    sizes, draws, found = map(sum, audit)
    assert found <= bound <= sizes - draws + found
    missed, unmeasured = left_above(strata_of(*audit), confidence)
    assert (missed, unmeasured) == (bound - found, sizes - draws)
    if sizes == draws:
        assert missed == 0
    if not draws:
        assert missed == sizes


@given(audits(largest=30), CONFIDENCE, st.data())
def test_one_more_unit_found_never_lowers_the_bound(audit, confidence, data):
    sizes, draws, found = audit
    room = [h for h, (d, x) in enumerate(zip(draws, found)) if x < d]
    if room:
        where = data.draw(st.sampled_from(room))
        more = [x + (h == where) for h, x in enumerate(found)]
        assert most_above(strata_of(sizes, draws, more), confidence) >= most_above(strata_of(*audit), confidence)


@given(audits(largest=60), CONFIDENCE, st.data())
def test_one_more_clean_draw_never_raises_the_bound(audit, confidence, data):
    sizes, draws, _ = audit
    room = [h for h, (n, d) in enumerate(zip(sizes, draws)) if d < n]
    if room:
        where = data.draw(st.sampled_from(room))
        more = [d + (h == where) for h, d in enumerate(draws)]
        clean = [0] * len(sizes)
        assert most_above(strata_of(sizes, more, clean), confidence) <= most_above(
            strata_of(sizes, draws, clean), confidence
        )


@given(audits(largest=40), CONFIDENCE)
def test_more_confidence_never_lowers_the_bound_and_order_does_not_matter(audit, confidence):
    strata = strata_of(*audit)
    assert most_above(strata, (1 + confidence) / 2) >= most_above(strata, confidence)
    assert most_above(strata[::-1], confidence) == most_above(strata, confidence)


@pytest.mark.parametrize("sizes, draws", [((5, 6), (3, 2)), ((4, 4, 6), (3, 2, 2)), ((9,), (4,)), ((7, 7), (7, 3))])
@pytest.mark.parametrize("confidence", (0.6, 0.8, 0.95))
def test_the_bound_holds_as_often_as_promised_for_every_population(sizes, draws, confidence):
    """Exactly, not by simulation: over all outcomes of an audit, for every way the units above may be spread."""
    every = naive.outcomes(sizes, draws)
    bounds = {x: most_above(strata_of(sizes, draws, x), confidence) for x in every}
    tightest = 1.0
    for above in product(*(range(n + 1) for n in sizes)):
        covered = sum(naive.chance(sizes, draws, above, x) for x in every if bounds[x] >= sum(above))
        assert covered >= confidence - 1e-9
        tightest = min(tightest, float(covered))
    assert tightest < 1, "a bound that never fails promises nothing"


def coverage(sizes, draws, above, repeats=1500, confidence=0.95):
    random = np.random.default_rng(0)
    found = random.hypergeometric(above, np.array(sizes) - above, draws, size=(repeats, len(sizes)))
    return np.mean([most_above(strata_of(sizes, draws, map(int, x)), confidence) >= sum(above) for x in found])


def test_the_bound_holds_by_simulation_and_is_not_loose_where_the_worst_case_is_true():
    sizes, draws = (40, 100, 600), (20, 25, 60)
    worst = coverage(sizes, draws, [0, 0, 28])
    assert 0.945 < worst < 0.965
    for above in ([28, 0, 0], [5, 5, 20], [10, 2, 0], [1, 0, 1], [20, 30, 30]):
        assert coverage(sizes, draws, above) >= 0.945


def test_dropping_the_worst_case_would_break_the_promise():
    """The bound of a plain random sample of as many units, which the weighting towards one stratum is not."""
    sizes, draws, above = (100, 2000), (90, 40), [0, 75]
    assert coverage(sizes, draws, above) >= 0.945
    pooled = [Stratum(sum(sizes), sum(draws), 0)]
    random = np.random.default_rng(0)
    found = random.hypergeometric(above, np.array(sizes) - above, draws, size=(2000, 2)).sum(1)
    held = [most_above([Stratum(sum(sizes), sum(draws), int(x))], 0.95) >= sum(above) for x in found]
    assert np.mean(held) < 0.85
    assert most_above(pooled, 0.95) < most_above(strata_of(sizes, draws, (0, 0)), 0.95)


@pytest.mark.parametrize("name, value", [("CELLS", 200), ("BINS", 5)])
@given(audits(largest=60), CONFIDENCE)
@settings(max_examples=60)
def test_a_coarser_search_errs_upwards_and_little(name, value, audit, confidence):
    strata = strata_of(*audit)
    exact = most_above(strata, confidence)
    misses._most.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(misses, name, value)
        coarse = most_above(strata, confidence)
    misses._most.cache_clear()
    assert exact <= coarse <= exact + 0.3 * sum(audit[0])


def test_a_stratum_without_draws_may_be_above_altogether():
    assert most_above([Stratum(7), Stratum(50, 50, 2)], 0.95) == 9
    assert left_above([Stratum(7), Stratum(50, 50, 2)], 0.95) == (7, 7)


def test_the_fewest_draws_hold_and_no_fewer_do():
    sizes, weights = (40, 200, 3000), (4, 2, 1)
    draws = fewest_draws(sizes, weights, 0.95, 0.01)
    assert holds(strata_of(sizes, draws, (0, 0, 0)), 0.95, 0.01)
    fewer = tuple(round(0.95 * d) for d in draws)
    assert not holds(strata_of(sizes, fewer, (0, 0, 0)), 0.95, 0.01)
    fractions = [d / n for d, n in zip(draws, sizes)]
    assert fractions[0] > 3.4 * fractions[2] and fractions[1] > 1.8 * fractions[2]


def test_the_fewest_draws_are_found_although_more_may_not_hold():
    """Drawing all of one stratum leaves so few units that one of them may not be missed."""
    sizes, weights = (236, 736, 376), (4, 2, 1)
    draws = fewest_draws(sizes, weights, 0.95, 0.02)
    assert sum(draws) < 0.35 * sum(sizes)
    assert holds(strata_of(sizes, draws, (0, 0, 0)), 0.95, 0.02)
    assert not holds(strata_of(sizes, (236, 736, 120), (0, 0, 0)), 0.95, 0.02)


def test_draws_allow_for_what_they_are_expected_to_find():
    sizes, weights = (40, 200, 3000), (4, 2, 1)
    one = fewest_draws(sizes, weights, 0.95, 0.01, lambda stratum, sampled: int(stratum == 2))
    assert sum(one) > 1.3 * sum(fewest_draws(sizes, weights, 0.95, 0.01))
    assert holds(strata_of(sizes, one, (0, 0, 1)), 0.95, 0.01)
    everything = fewest_draws(sizes, weights, 0.95, 0.01, lambda stratum, sampled: sampled // 20)
    assert everything == sizes, "a twentieth of all is above: only the audit of everything leaves no more than 1%"


def test_a_rate_of_nothing_needs_more_than_all_but_a_twentieth():
    assert fewest_draws((1000,), (1,), 0.95, 0.0) == (951,)
    assert fewest_draws((10,), (1,), 0.95, 0.0) == (10,)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=3), st.integers(0, 600))
def test_draws_rise_with_effort_up_to_everything(sizes, effort):
    weights = (4, 2, 1)[-len(sizes) :]
    draws, more = draws_at(sizes, weights, effort), draws_at(sizes, weights, effort + 1)
    assert all(0 <= a <= b <= n for a, b, n in zip(draws, more, sizes))
    assert draws_at(sizes, weights, sum(sizes)) == tuple(sizes)


@pytest.mark.parametrize("row", [(-1, 0, 0), (5, 6, 0), (5, 3, 4), (5, 3, -1)])
def test_impossible_counts_are_refused(row):
    with pytest.raises(icp.IcpError, match="is impossible"):
        Stratum(*row)
