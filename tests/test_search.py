"""Certified top-k on made-up scores, where the truth is known: what is found, what is promised, what it costs."""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import icp
from icp.certificate import Stratum
from icp.sweep.misses import fewest_draws, holds, left_above
from icp.sweep.pool import Known, Pool, standing
from icp.sweep.search import EVEN, WEIGHTED, _larger, search

GROUPS = 6


@dataclass(frozen=True, eq=False)
class World:
    """Exact scores, what was estimated of them, and every measuring call in turn."""

    truth: np.ndarray
    estimates: np.ndarray
    pool: Pool
    calls: list

    @classmethod
    def of(cls, count=800, noise=0.2, bias=(1.0,) * GROUPS, seed=0) -> "World":
        random = np.random.default_rng(seed)
        groups = np.sort(random.integers(GROUPS, size=count))
        truth = np.exp(1.2 * random.normal(size=count))
        estimates = truth * np.array(bias)[groups] * np.exp(noise * random.normal(size=count))
        return cls(truth, estimates, Pool(1 - groups / (GROUPS + 1), groups, 3.0), [])

    def measured(self, units):
        self.calls.append(units)
        return self.truth[units]

    def search(self, **options):
        """Indices found and the certificate."""
        self.calls.clear()
        asked = dict(top=40, confidence=0.95, miss_rate=0.02, budget=0.45, seed=0) | options
        return search(self.pool, lambda: self.estimates, self.measured, **asked)

    @property
    def seen(self):
        return np.concatenate(self.calls)

    def missed(self, found):
        """How many units that were not measured lie above the last one found."""
        outside = np.setdiff1d(np.arange(len(self.truth)), self.seen)
        return int((self.truth[outside] > self.truth[found[-1]]).sum())

    def recall(self, found):
        best = np.argsort(-self.truth, kind="stable")[: len(found)]
        return len(np.intersect1d(best, found)) / len(found)


WORLDS = {
    "good estimates": World.of(),
    "poor estimates": World.of(noise=1.2),
    "estimates that tell nothing": replace(World.of(), estimates=World.of(seed=1).truth),
    "estimates that mislead": replace(World.of(), estimates=1 / World.of().truth),
    "one layer hidden": World.of(bias=(1, 1, 1e-3, 1, 1, 1)),
}


@pytest.mark.parametrize("name, seeds", [*((name, 50) for name in WORLDS), ("poor estimates", 200)])
def test_the_promise_is_kept_whatever_the_estimates_are_worth(name, seeds):
    """The units missed are no more than the bound says in 95% of the audits; where they are not, recall is kept too."""
    world, held, certificates = WORLDS[name], [], []
    for seed in range(seeds):
        found, certificate = world.search(seed=seed)
        held.append(world.missed(found) <= certificate.missed_upper)
        if held[-1]:
            assert world.recall(found) >= certificate.recall_lower
        certificates.append(certificate)
    assert np.mean(held) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / seeds)
    if name != "good estimates":
        assert max(c.missed_upper for c in certificates) < 600, "a bound that says nothing is always kept"


def test_good_estimates_find_all_and_prove_it_at_a_fraction_of_the_work():
    world = WORLDS["good estimates"]
    found, certificate = world.search()
    assert world.recall(found) == 1.0
    assert certificate.met and certificate.miss_rate_upper <= 0.02 and certificate.reason == ""
    assert certificate.work_fraction < 0.4 and certificate.recall_lower > 0.4
    assert np.array_equal(found, np.argsort(-world.truth)[:40])


def test_a_layer_whose_estimates_are_too_small_is_found_by_its_measured_ratio():
    bias = (1, 1, 0.05, 1, 1, 1)
    world = World.of(bias=bias, noise=0.1)
    found, certificate = world.search()
    assert world.recall(found) >= 0.95
    by_estimate = np.argsort(-world.estimates)[: certificate.candidates]
    by_estimate = by_estimate[np.argsort(-world.truth[by_estimate])][:40]
    assert world.recall(by_estimate) < 0.9


def test_calls_and_threshold_are_what_the_certificate_says():
    world = WORLDS["poor estimates"]
    found, certificate = world.search(seed=3)
    *candidates, audited = world.calls
    candidates = np.concatenate(candidates)
    assert len(np.unique(world.seen)) == len(world.seen), "no unit is measured twice"
    assert (certificate.candidates, certificate.audited) == (len(candidates), len(audited))
    assert certificate.threshold == np.sort(world.truth[candidates])[-40]
    assert sum(s.above for s in certificate.strata) == (world.truth[audited] > certificate.threshold).sum() > 0
    assert sum(s.size for s in certificate.strata) == len(world.truth) - len(candidates)
    assert certificate.unmeasured == len(world.truth) - len(world.seen)
    assert certificate.units_fraction == pytest.approx(len(world.seen) / len(world.truth))
    assert certificate.missed_upper == left_above(certificate.strata, 0.95)[0]
    assert certificate.miss_rate_upper == pytest.approx(certificate.missed_upper / certificate.unmeasured)
    assert np.array_equal(found, world.seen[np.argsort(-world.truth[world.seen])][:40]), "audited misses join the found"
    assert len(np.intersect1d(found, audited)) > 0


@pytest.mark.parametrize("name", WORLDS)
def test_work_is_counted_and_stays_within_the_budget(name):
    world = WORLDS[name]
    for budget in (0.15, 0.3, 0.6):
        for seed in range(5):
            _, certificate = world.search(budget=budget, seed=seed)
            spent = world.pool.estimating + 3.0 + sum(3.0 + sum(world.pool.costs[units]) for units in world.calls)
            assert certificate.work_fraction == pytest.approx(spent / (3.0 + world.pool.costs.sum()))
            assert certificate.work_fraction <= budget


@pytest.mark.parametrize("budget", (0.2, 0.31, 0.5))
def test_a_budget_that_is_too_small_is_used_to_its_end(budget):
    """With units of equal cost, nothing is left to chance: one more audited unit would be too many."""
    world = replace(WORLDS["good estimates"], pool=Pool(np.ones(800), WORLDS["good estimates"].pool.groups, 3.0))
    _, certificate = world.search(budget=budget, miss_rate=0.0)
    assert not certificate.met
    left = (budget - certificate.work_fraction) * world.pool.exhaustive
    assert -1e-9 <= left < 3, "a step of the audit's size may add a unit to each of three strata"


def test_seeds_change_the_audit_and_nothing_else():
    world = WORLDS["good estimates"]
    calls = {}
    for seed in (0, 1, 0):
        world.search(seed=seed)
        calls.setdefault(seed, []).append(list(world.calls))
    assert all(np.array_equal(a, b) for a, b in zip(calls[0][0], calls[0][1], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(calls[0][0][:-1], calls[1][0][:-1], strict=True))
    assert not np.array_equal(calls[0][0][-1], calls[1][0][-1])


def test_the_audit_is_densest_near_the_threshold_and_fair_within_strata():
    world = World.of(count=3000)
    _, certificate = world.search(budget=0.6)
    near, between, far = (s.sampled / s.size for s in certificate.strata)
    assert near > 1.9 * between > 1.9 * far > 0
    drawn = np.zeros(len(world.truth))
    for seed in range(150):
        world.search(budget=0.6, seed=seed)
        drawn[world.calls[-1]] += 1
    rest = np.setdiff1d(np.arange(len(world.truth)), np.concatenate(world.calls[:-1]))
    share = drawn[rest] / 150
    for density in (near, between, far):
        assert (np.abs(share - density) < 0.13).any()
    assert share.max() < near + 0.14 and share.min() >= 0


@pytest.mark.parametrize("budget", (0.1, 0.15))
def test_what_cannot_be_proven_is_said_and_the_budget_named_would_do(budget):
    world = World.of(count=1500, noise=0.1)
    found, certificate = world.search(top=30, budget=budget)
    assert len(found) == 30
    assert not certificate.met and certificate.miss_rate_upper > 0.02
    assert f"a budget of {budget} pays for {certificate.audited}" in certificate.reason
    named = float(certificate.reason.rpartition("a budget of about ")[2].split()[0])
    assert budget < named < 0.25
    assert certificate.reason.endswith("would do, if its audit finds the same shares")
    assert world.search(top=30, budget=named + 0.02)[1].met
    assert not world.search(top=30, budget=named - 0.02)[1].met


def test_an_audit_is_planned_to_stand_two_misses_near_the_threshold():
    for noise in (0.15, 0.3, 0.5):
        _, certificate = World.of(count=1500, noise=noise).search(budget=0.9)
        near, *others = (Stratum(s.size, s.sampled) for s in certificate.strata)
        assert near.sampled >= 2 and holds([replace(near, above=2), *others], 0.95, 0.02)
        sizes = [s.size for s in certificate.strata]
        draws = fewest_draws(sizes, WEIGHTED, 0.95, 0.02, lambda part, drawn: 2 if part == 0 else 0)
        assert draws == tuple(s.sampled for s in certificate.strata)


def test_the_budget_named_is_for_an_audit_that_would_hold_if_it_found_the_same_shares():
    _, certificate = World.of(count=3000, noise=0.8).search(budget=0.12, miss_rate=0.03)
    strata = certificate.strata
    assert sum(s.above for s in strata) > 0 and not certificate.met

    def grown(draws):
        return [Stratum(s.size, d, ceil(s.above * d / s.sampled)) for s, d in zip(strata, draws)]

    draws = _larger(certificate)
    assert all(d > s.sampled for s, d in zip(strata, draws))
    assert holds(grown(draws), 0.95, 0.03)
    assert not holds(grown([round(d / 1.13) for d in draws]), 0.95, 0.03)
    clean = replace(certificate, strata=tuple(Stratum(s.size, s.sampled) for s in strata))
    assert sum(_larger(clean)) < sum(draws)


def test_misses_in_the_audit_are_the_reason_where_they_are():
    _, certificate = WORLDS["estimates that mislead"].search(miss_rate=0.001)
    above = sum(s.above for s in certificate.strata)
    assert above and not certificate.met
    assert certificate.reason.startswith(f"{above} of {certificate.audited} audited units are above the threshold; ")
    assert certificate.reason.endswith("measuring every unit (budget=1) would do")


def test_a_budget_that_was_given_is_never_named_as_the_one_that_would_do():
    """Where an audit that the budget allowed found more than it could stand, the same budget would find it again."""
    named = []
    for seed in range(40):
        world = World.of(count=3000, noise=0.8)
        _, certificate = world.search(budget=0.5, seed=seed)
        if certificate.reason:
            budget = certificate.reason.rpartition("a budget of about ")[2].split()[0]
            named.append(float(budget) if budget[0].isdigit() else 1.0)
    assert named and min(named) >= 0.5


def test_at_least_the_top_are_measured_whatever_the_budget():
    world = WORLDS["good estimates"]
    found, certificate = world.search(budget=1e-6)
    assert np.array_equal(np.sort(found), np.sort(np.argsort(-world.estimates)[:40]))
    assert (certificate.candidates, certificate.audited) == (40, 0)
    assert certificate.missed_upper == certificate.unmeasured == 760
    assert (certificate.recall_lower, certificate.met) == (0.0, False)
    assert certificate.work_fraction > 1e-6
    named = float(certificate.reason.rpartition("a budget of about ")[2].split()[0])
    assert 0.2 < named < 0.6 and world.search(budget=named + 0.1)[1].met


@pytest.mark.parametrize("options", [{"budget": 1.0}, {"top": 800}, {"budget": 7.5}])
def test_the_whole_budget_measures_everything(options):
    world = WORLDS["estimates that mislead"]
    found, certificate = world.search(**options)
    assert world.recall(found) == 1.0 and len(world.calls) == 1
    assert (certificate.missed_upper, certificate.recall_lower, certificate.work_fraction) == (0, 1.0, 1.0)
    assert certificate.met and certificate.strata == () and certificate.unmeasured == 0


def test_units_that_give_no_number_are_never_found_and_count_as_missed():
    world = WORLDS["good estimates"]
    best = np.argsort(-world.truth)
    truth = world.truth.copy()
    truth[best[[0, 3, 7]]] = np.nan
    broken = replace(world, truth=truth)
    found, certificate = broken.search()
    assert not np.isin(best[[0, 3, 7]], found).any() and len(found) == 40
    assert certificate.unknown == 3
    assert certificate.missed_upper == left_above(certificate.strata, 0.95)[0] + 3
    whole = broken.search(budget=1.0)[1]
    assert (whole.unknown, whole.missed_upper, whole.met) == (3, 3, False)
    assert whole.recall_lower == pytest.approx(1 - 3 / 40)
    assert whole.reason == "3 measured unit(s) gave NaN and count as missed; leave them out, or use float32"


def test_units_without_a_number_that_the_audit_draws_are_above():
    world = WORLDS["good estimates"]
    truth = world.truth.copy()
    truth[np.argsort(-world.truth)[400:]] = np.nan
    _, certificate = replace(world, truth=truth).search()
    assert sum(s.above for s in certificate.strata) == certificate.unknown > 10
    assert not certificate.met and "gave NaN" in certificate.reason
    assert certificate.missed_upper >= 400 - certificate.unknown


def test_too_few_numbers_are_an_error():
    world = WORLDS["good estimates"]
    truth = np.full(len(world.truth), np.nan)
    truth[:39] = 1.0
    with pytest.raises(icp.NotFiniteError, match="only 39 of the 800 units gave a number, top=40"):
        replace(world, truth=truth).search()


@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_an_estimate_that_is_no_number_is_audited_as_near_the_threshold(value):
    world = WORLDS["good estimates"]
    estimates = world.estimates.copy()
    lost = np.argsort(estimates)[:30]
    estimates[lost] = value
    odd = replace(world, estimates=estimates)
    _, certificate = odd.search()
    candidates, audited = np.concatenate(odd.calls[:-1]), odd.calls[-1]
    assert not np.isin(lost, candidates).any()
    near = certificate.strata[0]
    assert near.size >= 30
    assert np.isin(lost, audited).sum() >= 0.3 * 30 * near.sampled / near.size


def test_candidates_go_on_until_a_batch_yields_nothing():
    """Poor estimates need more candidates, and enough budget lets them be measured."""
    few = WORLDS["good estimates"].search(budget=0.9)[1].candidates
    many = WORLDS["poor estimates"].search(budget=0.9)[1].candidates
    assert 40 + 2 * GROUPS <= few < many
    world = WORLDS["poor estimates"]
    world.search(budget=0.9)
    sizes = [len(units) for units in world.calls]
    assert sizes[0] == 40 and sizes[1] == 2 * GROUPS and set(sizes[2:-1]) == {20}
    entered = []
    for last in range(2, len(sizes) - 1):
        before = np.concatenate(world.calls[:last])
        entered.append(bool((world.truth[world.calls[last]] > np.sort(world.truth[before])[-40]).any()))
    assert all(entered[:-1]) and not entered[-1]


def test_equal_scores_are_no_misses():
    world = replace(World.of(count=300), truth=np.ones(300))
    found, certificate = world.search(top=10)
    assert sum(s.above for s in certificate.strata) == 0 and len(found) == 10


def test_all_scores_zero():
    world = replace(World.of(count=300), truth=np.zeros(300), estimates=np.zeros(300))
    found, certificate = world.search(top=10)
    assert len(found) == 10 and certificate.threshold == 0 and sum(s.above for s in certificate.strata) == 0


def naive_standing(estimates, groups, scores, threshold):
    """The same in loops over units."""
    logs = {
        u: np.log(scores[u] / estimates[u])
        for u in range(len(scores))
        if np.isfinite(scores[u]) and estimates[u] > 0 and scores[u] > 0
    }
    every = list(logs.values())
    mean, variance = (np.mean(every), np.var(every)) if every else (0.0, 1.0)
    found = []
    for unit, group in enumerate(groups):
        mine = [logs[u] for u in logs if groups[u] == group]
        centre = (sum(mine) + 4 * mean) / (len(mine) + 4)
        spread = (sum((e - centre) ** 2 for e in mine) + 4 * variance) / (len(mine) + 4)
        found.append((np.log(estimates[unit]) + centre - np.log(threshold)) / max(spread**0.5, 0.05))
    return np.array(found)


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(0, 999), st.floats(0, 1))
def test_standing_is_that_of_a_loop(count, seed, share):
    random = np.random.default_rng(seed)
    estimates, groups = random.exponential(size=count), random.integers(3, size=count)
    known = random.random(count) < share
    scores = np.where(known, random.exponential(size=count), np.nan)
    pool = Pool(np.ones(count), groups)
    found = standing(estimates, pool, Known(scores, known, 0.0), 0.7)
    assert found == pytest.approx(naive_standing(estimates, groups, scores, 0.7))


def test_knowing_more_returns_something_new():
    pool = Pool(np.array([1.0, 0.5, 0.25]), np.zeros(3, dtype=int), 2.0)
    nothing = Known.nothing(3, 1.0)
    some = nothing.more(pool, np.array([2, 0]), lambda units: np.array([3.0, np.nan]))
    assert not nothing.measured.any() and nothing.work == 1.0
    assert some.work == 1.0 + 2.0 + 1.25
    assert some.measured.tolist() == [True, False, True] and some.ranked.tolist() == [2]
    assert some.threshold(1) == 3.0 and some.threshold(2) == -np.inf
    assert some.more(pool, np.array([], dtype=int), lambda units: 1 / 0) is some
    assert pool.exhaustive == 3.75


def test_an_even_audit_is_made_where_a_weighted_one_costs_too_much():
    world = World.of(count=3000, noise=0.5)
    budgets = np.arange(0.14, 0.4, 0.01)
    certificates = [world.search(budget=float(b), miss_rate=0.01)[1] for b in budgets]
    met = [c.met for c in certificates]
    assert not met[0] and met[-1]
    first = certificates[met.index(True)]
    assert [s.sampled for s in first.strata] == list(
        fewest_draws([s.size for s in first.strata], EVEN, 0.95, 0.01)
    )  # fmt: skip
    near, _, far = (s.sampled / s.size for s in certificates[-1].strata)
    assert near > 2.5 * far
