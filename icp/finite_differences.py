"""Derivatives of P along a unit's own values by finite differences, and how well these are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from icp.interventions import Scale

STEPS = tuple(0.2 / 2**power for power in range(10))
"""Norms that compute in float32 whatever the weights are ask for long steps, the kinks of a ReLU for short ones."""

TOGETHER, POWERS = 6, (1, 3, 5)
"""How many steps are fitted together, and by which powers of the step: central differences have odd ones alone."""

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Derivatives:
    """dP / dalpha at alpha = 1 of every unit scaled by alpha, and how far they may lie from the truth.

    `errors` are bounds on the norm over the examples, one a unit, which hold for all units at once with a confidence of
    95% where what the fit leaves over is noise; `step` is the longest one that went into it.
    """

    values: Float[np.ndarray, "unit example"]
    errors: Float[np.ndarray, " unit"]
    step: float

    @property
    def sizes(self) -> Float[np.ndarray, " unit"]:
        """The norm over the examples."""
        return np.linalg.norm(self.values, axis=1)

    @property
    def resolution(self) -> float:
        """The largest of `errors`: what is smaller cannot be told from 0."""
        return float(self.errors.max())

    def allowed(self, relative: float) -> Float[np.ndarray, " unit"]:
        """How far from `values` a right estimate may lie: this share of a unit's own size, or as far as its error.

        Where a unit's derivative is no larger than the resolution, that is what is allowed.
        """
        known = np.where(self.sizes > self.resolution, self.errors, self.resolution)
        return np.maximum(relative * self.sizes, known)


def derivatives(dP: Callable[[Sequence[Scale]], Float[np.ndarray, "unit scale example"]]) -> Derivatives:
    """The slopes at 0 of polynomials fitted to half of dP(1 + step) - dP(1 - step) over several steps.

    One run of steps serves all units: the one that leaves the smallest error at the unit where it is largest.
    """
    found = dP([Scale(1 + sign * step) for step in STEPS for sign in (1, -1)])
    halves = (found[:, ::2] - found[:, 1::2]) / 2
    runs = [slice(first, first + TOGETHER) for first in range(len(STEPS) - TOGETHER + 1)]
    return min((_fitted(halves[:, run], STEPS[run]) for run in runs), key=lambda fitted: fitted.resolution)


def _fitted(halves: Float[np.ndarray, "unit step example"], steps: tuple[float, ...]) -> Derivatives:
    """By least squares; the noise of a unit is taken to be the same in all examples and at all steps."""
    from scipy.stats import t

    units, count, examples = halves.shape
    terms = np.power.outer(np.array(steps) / steps[0], POWERS)
    values = halves.transpose(1, 0, 2).reshape(count, -1)
    fitted = np.linalg.lstsq(terms, values, rcond=None)[0]
    left = (values - terms @ fitted).reshape(count, units, examples)
    freedom = (count - len(POWERS)) * examples
    noise = np.sqrt((left**2).sum((0, 2)) / freedom)
    quantile = t.ppf(1 - (1 - CONFIDENCE) / (2 * units), freedom)
    errors = quantile * np.sqrt(examples) * noise * np.linalg.norm(np.linalg.pinv(terms)[0])
    return Derivatives(fitted[0].reshape(units, examples) / steps[0], errors / steps[0], steps[0])
