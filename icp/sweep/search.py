"""Certified top-k on numbers alone: which units to measure, and what that proves. Estimating and measuring are given.

The score of a unit is the mean over examples of |dP|. Work is counted in passes: one forward pass of the model over all
examples. Measuring a unit exactly costs the share of the model that has to run again, `Pool.costs`; estimates of all
units cost `Pool.estimating` (attribution patching: 3, a forward, and a backward worth two); and every call of an engine
costs `Pool.calling` more, for clean values and captured activations. The whole is

    work_fraction = (estimating + calling * calls + costs of the units measured) / (calling + costs of all units).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil

import numpy as np
from jaxtyping import Float, Int

from icp.certificate import Certificate, Stratum
from icp.errors import NotFiniteError
from icp.sweep.misses import draws_at, fewest_draws, holds, left_above
from icp.sweep.pool import Known, Measured, Pool, standing

LEADERS = 2
EDGES = (-4.0, -8.0)
WEIGHTED, EVEN = (4, 2, 1), (1, 1, 1)


def search(
    pool: Pool,
    estimated: Callable[[], Float[np.ndarray, " unit"]],
    measured: Measured,
    *,
    top: int,
    confidence: float,
    miss_rate: float,
    budget: float,
    seed: int,
) -> tuple[Int[np.ndarray, " top"], Certificate]:
    """The `top` units of largest exact score among those measured, best first, and what is proven of the others.

    Candidates are measured down the ranking of estimates (see `_candidates`). The k-th best score among them becomes
    the threshold. Only then are units drawn from the others, at random within strata of predicted score, up to four
    times as densely near the threshold as far from it; those found above it are misses. Each miss that was drawn joins
    the found, which can only raise the k-th best score, so units that stay above the last one found are among those
    that stayed above the threshold, and the bound on these holds for them too.

    The draws depend on `seed` and on what was known before them, so the bound is one over the draws alone, whatever the
    estimates are worth. Their number is fixed before the first of them is measured. At least `top` units are measured,
    whatever the budget; with a budget of 1 or more all are, and nothing is estimated. Measuring stays within the budget
    up to the chance in what a draw costs (three standard deviations are kept free).
    """
    count = len(pool.costs)
    asked = dict(top=top, units=count, confidence=confidence, miss_rate=miss_rate, budget=budget, seed=seed)
    if budget >= 1 or top == count:
        known = Known.nothing(count, 0.0).more(pool, np.arange(count), measured)
        parts, strata, spent, threshold = [], (), known.work, known.threshold(top)
    else:
        known, here = _candidates(pool, _finite(estimated()), measured, top, confidence, miss_rate, budget)
        spent, threshold = known.work, known.threshold(top)
        parts = _parts(known, here)
        draws = _draws(pool, parts, confidence, miss_rate, budget * pool.exhaustive - spent - pool.calling)
        random = np.random.default_rng(seed)
        drawn = [np.sort(random.choice(part, number, replace=False)) for part, number in zip(parts, draws)]
        known = known.more(pool, np.concatenate(drawn), measured)
        above = [int((~(known.scores[units] <= threshold)).sum()) for units in drawn]  # NaN counts as above
        strata = tuple(Stratum(len(part), number, found) for part, number, found in zip(parts, draws, above))
    ranked = known.ranked[:top]
    if len(ranked) < top:
        raise NotFiniteError(
            f"only {len(ranked)} of the {count} units gave a number, top={top} were asked for: measure in float32"
        )
    unknown = int((known.measured & ~np.isfinite(known.scores)).sum())
    certificate = Certificate(
        **asked,
        threshold=threshold,
        candidates=int(known.measured.sum()) - sum(s.sampled for s in strata),
        strata=strata,
        unknown=unknown,
        missed_upper=left_above(strata, confidence)[0] + unknown,
        work_fraction=known.work / pool.exhaustive,
    )
    if not certificate.met:
        certificate = replace(certificate, reason=_reason(certificate, pool, parts, spent))
    return ranked, certificate


def _candidates(
    pool: Pool,
    estimates: Float[np.ndarray, " unit"],
    measured: Measured,
    top: int,
    confidence: float,
    miss_rate: float,
    budget: float,
) -> tuple[Known, Float[np.ndarray, " unit"]]:
    """Measure down the ranking until it yields nothing more for the top k; what is known then, and `standing`.

    First the `top` largest estimates, then the two largest of every layer and kind that are left, which show by how
    much its estimates err; then batches of half of `top` (at least 16) in the order of `standing`, recomputed for each,
    until one of them holds no unit above the k-th best score before it, or until what is left of the budget is needed
    for the audit (half of the budget at most is kept for it).
    """
    known = Known.nothing(len(estimates), pool.estimating + pool.calling)
    ranked = np.argsort(-estimates, kind="stable")
    known = known.more(pool, ranked[:top], measured)
    batch = _leaders(pool, ranked[top:])
    calibrating, limit = True, budget * pool.exhaustive
    while True:
        threshold = known.threshold(top)
        here = standing(estimates, pool, known, threshold)
        needed = threshold == -np.inf
        parts = _parts(known, here)
        clean = fewest_draws([len(part) for part in parts], EVEN, confidence, miss_rate)
        kept = min(pool.calling + _cost(pool, parts, clean), limit / 2)
        if not needed:
            left = limit - kept - known.work - pool.calling
            batch = batch[: int(np.searchsorted(np.cumsum(pool.costs[batch]), left, side="right"))]
        if not len(batch):
            return known, here
        known = known.more(pool, batch, measured)
        if not (calibrating or needed or (known.scores[batch] > threshold).any()):
            return known, standing(estimates, pool, known, known.threshold(top))
        calibrating = False
        here = standing(estimates, pool, known, known.threshold(top))
        batch = np.argsort(-np.where(known.measured, np.nan, here), kind="stable")
        batch = batch[~known.measured[batch]][: max(16, top // 2)]


def _finite(estimates: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    return np.where(np.isfinite(estimates), estimates, np.nan)


def _leaders(pool: Pool, ranked: Int[np.ndarray, " rest"]) -> Int[np.ndarray, " leader"]:
    """The first few of every group in this order."""
    taken: dict[int, int] = {}
    found = []
    for unit, group in zip(ranked.tolist(), pool.groups[ranked].tolist()):
        taken[group] = taken.get(group, 0) + 1
        if taken[group] <= LEADERS:
            found.append(unit)
    return np.array(found, dtype=np.int64)


def _parts(known: Known, here: Float[np.ndarray, " unit"]) -> list[Int[np.ndarray, " part"]]:
    """The units not measured in three strata: near the threshold (or of unknown estimate), between, and far below."""
    level = np.where(here < EDGES[1], 2, np.where(here < EDGES[0], 1, 0))
    return [np.flatnonzero((level == number) & ~known.measured) for number in range(3)]


def _draws(pool: Pool, parts: list, confidence: float, miss_rate: float, left: float) -> tuple[int, ...]:
    """How many units to draw from each stratum: as few as will do, if two near the threshold turn out above it.

    Where the budget is too small for that, as few as will do if none does, then as few without favouring the units near
    the threshold; where it is too small even for that, as many as it pays for.
    """
    sizes = [len(part) for part in parts]
    for weights, spare in ((WEIGHTED, 2), (WEIGHTED, 0), (EVEN, 0)):
        expected = partial(_near, spare)
        draws = fewest_draws(sizes, weights, confidence, miss_rate, expected)
        if _cost(pool, parts, draws) <= left:
            return draws
    low, high = 0, sum(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        if _cost(pool, parts, draws_at(sizes, EVEN, middle)) <= left:
            low = middle
        else:
            high = middle - 1
    return draws_at(sizes, EVEN, low)


def _near(count: int, part: int, drawn: int) -> int:
    return count if part == 0 else 0


def _cost(pool: Pool, parts: list, draws: tuple[int, ...]) -> float:
    """What drawing so many units will cost in passes, with three standard deviations of room for chance."""
    mean = variance = 0.0
    for part, drawn in zip(parts, draws):
        if drawn:
            costs = pool.costs[part]
            mean += drawn * costs.mean()
            variance += drawn * (1 - drawn / len(part)) * (costs.var(ddof=1) if len(part) > 1 else 0.0)
    return float(mean + 3 * np.sqrt(variance))


def _reason(certificate: Certificate, pool: Pool, parts: list, spent: float) -> str:
    """Why the miss rate asked for is not proven, and what budget would do if an audit found the same shares above."""
    strata = certificate.strata
    above = sum(stratum.above for stratum in strata)
    if certificate.missed_upper - certificate.unknown <= certificate.miss_rate * certificate.unmeasured:
        return f"{certificate.unknown} measured unit(s) gave NaN and count as missed; leave them out, or use float32"
    causes = []
    if certificate.unknown:
        causes.append(f"{certificate.unknown} measured unit(s) gave NaN and count as missed")
    if above:
        causes.append(f"{above} of {certificate.audited:,} audited units are above the threshold")
    if not causes:
        causes.append(f"a budget of {certificate.budget:.3g} pays for {certificate.audited:,} audited units")
    budget = (spent + pool.calling + _cost(pool, parts, _larger(certificate))) / pool.exhaustive
    if certificate.budget < budget < 1:
        return f"{' and '.join(causes)}; a budget of about {budget:.2g} would do, if its audit finds the same shares"
    return f"{' and '.join(causes)}; measuring every unit (budget=1) would do"


def _larger(certificate: Certificate) -> tuple[int, ...]:
    """The least multiple of an audit that would prove what was asked, if it found the same shares above."""
    strata, asked = certificate.strata, (certificate.confidence, certificate.miss_rate)
    if not certificate.audited:
        return fewest_draws([stratum.size for stratum in strata], EVEN, *asked)
    steps = 1.1 ** np.arange(np.log(certificate.units) / np.log(1.1) + 1)
    for times in steps:
        grown = [
            Stratum(s.size, drawn := min(s.size, ceil(times * s.sampled)), min(drawn, ceil(times * s.above)))
            for s in strata
        ]
        if holds(grown, *asked):
            break
    return tuple(stratum.sampled for stratum in grown)
