"""What a search for the top k knows: costs of the units, scores measured so far, and predictions for the others."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

PRIOR = 4
FINEST = 0.05

Measured = Callable[[Int[np.ndarray, " chosen"]], Float[np.ndarray, " chosen"]]
"""From indices of units to their exact scores; NaN where the model gave no number."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The units asked about: passes that measuring each exactly costs, and the layer and kind it shares errors with.

    `calling` is what every call of a measuring engine costs besides, and `estimating` what estimates of all units do,
    in passes.
    """

    costs: Float[np.ndarray, " unit"]
    groups: Int[np.ndarray, " unit"]
    calling: float = 2.0
    estimating: float = 3.0

    @property
    def exhaustive(self) -> float:
        """The passes that measuring every unit costs."""
        return self.of(slice(None))

    def of(self, units: "Int[np.ndarray, ' chosen'] | slice") -> float:
        """The passes that one call for these units costs."""
        return self.calling + float(self.costs[units].sum())


@dataclass(frozen=True, eq=False)
class Known:
    """What has been measured: exact scores (NaN elsewhere, and where the model gave none), and the passes spent."""

    scores: Float[np.ndarray, " unit"]
    measured: Bool[np.ndarray, " unit"]
    work: float

    @classmethod
    def nothing(cls, count: int, work: float) -> "Known":
        return cls(np.full(count, np.nan), np.zeros(count, dtype=bool), work)

    def more(self, pool: Pool, units: Int[np.ndarray, " chosen"], measured: Measured) -> "Known":
        """The same after measuring these units too."""
        if not len(units):
            return self
        scores, seen = self.scores.copy(), self.measured.copy()
        scores[units], seen[units] = measured(units), True
        return replace(self, scores=scores, measured=seen, work=self.work + pool.of(units))

    @property
    def ranked(self) -> Int[np.ndarray, " finite"]:
        """Units with a score, best first."""
        order = np.argsort(-self.scores, kind="stable")
        return order[: int(np.isfinite(self.scores).sum())]

    def threshold(self, top: int) -> float:
        """The score of the k-th best, or -inf where there are fewer."""
        return float(self.scores[self.ranked[top - 1]]) if len(self.ranked) >= top else -np.inf


def standing(
    estimates: Float[np.ndarray, " unit"], pool: Pool, known: Known, threshold: float
) -> Float[np.ndarray, " unit"]:
    """By how many standard deviations each unit's predicted score lies above the threshold, on a log scale.

    First-order estimates err differently from layer to layer (most in early ones), so each is multiplied by the mean
    ratio of exact score to estimate among the measured units of its layer and kind, and the spread of that ratio is the
    standard deviation. Both are shrunk towards those of all layers together. NaN where the estimate is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_estimates, log_scores = np.log(estimates), np.log(known.scores)
    both = np.isfinite(log_estimates) & np.isfinite(log_scores)
    error, group = log_scores[both] - log_estimates[both], pool.groups[both]
    overall, spread = (error.mean(), error.std()) if len(error) else (0.0, 1.0)
    groups = int(pool.groups.max()) + 1
    weight = np.bincount(group, minlength=groups) + PRIOR
    bias = (np.bincount(group, error, groups) + PRIOR * overall) / weight
    variance = (np.bincount(group, (error - bias[group]) ** 2, groups) + PRIOR * spread**2) / weight
    deviation = np.maximum(np.sqrt(variance), FINEST)
    predicted = log_estimates + bias[pool.groups]
    return (predicted - np.log(max(threshold, np.finfo(float).tiny))) / deviation[pool.groups]
