"""How many units a stratified audit may have missed: exact confidence bounds, and the audits that they need. No model.

A unit that was not measured is *above* where its score exceeds a threshold that was fixed before the audit. Units are
drawn from each stratum at random without replacement, so that the count found there is hypergeometric.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, lcm

import numpy as np
from jaxtyping import Float, Int

from icp.certificate import Stratum

BINS = 64
CELLS = 1 << 19


def most_above(strata: Sequence[Stratum], confidence: float) -> int:
    """Upper confidence bound on how many units of all strata exceed the threshold, those found included.

    With M_h units above in stratum h, the estimate of their number T = sum_h (size_h / sampled_h) X_h is random through
    the hypergeometric counts X_h. The bound is the largest sum of M_h, over all allocations that the data allow, with
    P(T <= T observed | M) > 1 - confidence. The allocation of the truth is rejected with a probability of at most
    1 - confidence, so the bound fails no more often, however the units above are spread over the strata. With one
    stratum it is the hypergeometric limit, and for a large one Clopper and Pearson's (1934).

    Beyond a few hundred units, or misses, the search over allocations is made on a coarser grid that errs upwards.
    """
    strata = tuple(strata)
    never = sum(s.size for s in strata if not s.sampled)
    drawn = tuple(sorted((s for s in strata if s.sampled), key=lambda s: (s.size, s.sampled, s.above)))
    return never + (_most(drawn, float(confidence)) if drawn else 0)


@lru_cache(maxsize=4096)
def _most(strata: tuple[Stratum, ...], confidence: float) -> int:
    level = (1 - confidence) * (1 - 1e-9)  # rounding must not reject an allocation that lies on the edge
    places, last = _bins(strata)
    caps = [_largest(s, len(bins) - 1, level) for s, bins in zip(strata, places)]
    order = sorted(range(len(strata)), key=lambda h: caps[h] - strata[h].above)
    step = _step([caps[h] - strata[h].above for h in order[:-1]], last + 1)
    mass, counted = np.zeros((1, last + 1)), np.zeros(1, dtype=np.int64)
    mass[0, 0] = 1
    for h in order[:-1]:
        lowest = np.arange(strata[h].above, caps[h] + 1, step)  # stands for itself and the step - 1 after it
        chance = _hypergeometric(strata[h], lowest, len(places[h]))
        new = np.zeros((len(mass), len(lowest), last + 1))
        for found, place in enumerate(places[h]):
            new[:, :, place:] += mass[:, None, : last + 1 - place] * chance[None, :, found, None]
        mass = new.reshape(-1, last + 1)
        counted = (counted[:, None] + np.minimum(lowest + step - 1, caps[h])).reshape(-1)
        kept = mass.sum(1) > level
        mass, counted = mass[kept], counted[kept]
    h = order[-1]
    within = np.zeros((caps[h] - strata[h].above + 1, last + 1))
    chance = _hypergeometric(strata[h], np.arange(strata[h].above, caps[h] + 1), len(places[h]))
    for found, place in enumerate(places[h]):
        within[:, : last + 1 - place] += chance[:, found, None]
    low, high = np.zeros(len(mass), dtype=np.int64), np.full(len(mass), len(within) - 1)
    while (low < high).any():
        middle = (low + high + 1) // 2
        open_ = (mass * within[middle]).sum(1) > level
        low, high = np.where(open_, middle, low), np.where(open_, high, middle - 1)
    return int((counted + low).max()) + strata[h].above


def _bins(strata: tuple[Stratum, ...]) -> tuple[list[list[int]], int]:
    """For each stratum the place of 0, 1, ... units found on a grid of T, and the place of the T observed.

    Where the grid is coarser than T's own values they are rounded down, so that P(T <= T observed) can only rise.
    """
    weights = [Fraction(s.size, s.sampled) for s in strata]
    whole = lcm(*(w.denominator for w in weights))
    seen = sum(w * s.above for w, s in zip(weights, strata))
    unit = Fraction(1, whole)
    if len(strata) == 1:
        unit = weights[0]
    elif seen > BINS * unit:
        unit = seen / BINS
    last = floor(seen / unit)
    places = []
    for stratum in strata:
        a, b = stratum.size * unit.denominator, stratum.sampled * unit.numerator
        most = min(stratum.sampled, ((last + 1) * b - 1) // a)
        places.append([a * found // b for found in range(most + 1)])
    return places, last


def _largest(stratum: Stratum, found: int, level: float) -> int:
    """The most units above that leave P(X <= found) > level in this stratum alone."""
    low, high = stratum.above, stratum.size - stratum.sampled + stratum.above
    while low < high:
        middle = (low + high + 1) // 2
        if _hypergeometric(stratum, np.array([middle]), found + 1).sum() > level:
            low = middle
        else:
            high = middle - 1
    return low


def _hypergeometric(stratum: Stratum, above: Int[np.ndarray, " count"], found: int) -> Float[np.ndarray, "count found"]:
    """P(X = 0, 1, ..., found - 1) for each number of units above."""
    from scipy.special import gammaln

    def choose(n, k):
        inside = (k >= 0) & (k <= n)
        n, k = np.where(inside, n, 0), np.where(inside, k, 0)
        return np.where(inside, gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), -np.inf)

    above, x = above[:, None], np.arange(found)[None, :]
    size, sampled = np.array(stratum.size), np.array(stratum.sampled)
    return np.exp(choose(above, x) + choose(size - above, sampled - x) - choose(size, sampled))


def _step(spans: list[int], bins: int) -> int:
    step = 1
    while step <= max(spans, default=0) and np.prod([span // step + 1 for span in spans], dtype=float) * bins > CELLS:
        step += 1
    return step


def left_above(strata: Sequence[Stratum], confidence: float) -> tuple[int, int]:
    """The bound on units above that the audit did not find, and the number of units that it did not measure."""
    found = sum(s.above for s in strata)
    return most_above(strata, confidence) - found, sum(s.size - s.sampled for s in strata)


def holds(strata: Sequence[Stratum], confidence: float, miss_rate: float) -> bool:
    """Whether at most a share `miss_rate` of the units not measured is above, at this confidence."""
    missed, unmeasured = left_above(strata, confidence)
    return missed <= miss_rate * unmeasured


def fewest_draws(
    sizes: Sequence[int],
    weights: Sequence[int],
    confidence: float,
    miss_rate: float,
    expected: Callable[[int, int], int] = lambda stratum, sampled: 0,
) -> tuple[int, ...]:
    """How many units to draw from each stratum so that `holds` is true where `expected(stratum, sampled)` are found.

    Sampling fractions are as `weights`, none above 1; the audit of everything always holds. Drawing more also leaves
    fewer units for the rate to be a share of, so an audit that holds may fail again when it grows: efforts are tried
    upwards, 15% at a time, and the first that holds is narrowed down.
    """

    def enough(effort: int) -> bool:
        draws = draws_at(sizes, weights, effort)
        strata = [Stratum(n, d, min(d, expected(h, d))) for h, (n, d) in enumerate(zip(sizes, draws))]
        return holds(strata, confidence, miss_rate)

    everything = sum(sizes)
    clean = 1 - (1 - confidence) ** (1 / (1 + miss_rate * everything))  # what one stratum would need, roughly
    low, high = 0, max(1, int(everything * clean / 2 / max(weights)))
    while high < everything and not enough(high):
        low, high = high, ceil(1.15 * high)
    high = min(high, everything)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return draws_at(sizes, weights, high)


def draws_at(sizes: Sequence[int], weights: Sequence[int], effort: int) -> tuple[int, ...]:
    """Draws a stratum at this effort: sampling fraction weight * effort / all units, so that all units are everything.

    No weight is below 1.
    """
    everything = max(1, sum(sizes))
    return tuple(min(n, ceil(n * w * effort / everything)) for n, w in zip(sizes, weights))
