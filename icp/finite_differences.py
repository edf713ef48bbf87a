"""Derivatives of P along a unit's own values by finite differences, and how well these are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from icp.interventions import Scale

STEPS = tuple(0.1 / 4**power for power in range(5))
"""Norms that compute in float32 whatever the weights are ask for a long step, the kinks of a ReLU for a short one."""


@dataclass(frozen=True, eq=False)
class Derivatives:
    """dP / dalpha at alpha = 1 of every unit scaled by alpha, and how far those of the next shorter step lie away.

    `apart` is the norm over the examples of that difference, one number a unit.
    """

    values: Float[np.ndarray, "unit example"]
    apart: Float[np.ndarray, " unit"]
    step: float

    @property
    def sizes(self) -> Float[np.ndarray, " unit"]:
        """The norm over the examples."""
        return np.linalg.norm(self.values, axis=1)

    @property
    def resolution(self) -> float:
        """The largest of `apart`: what is smaller cannot be told from 0."""
        return float(self.apart.max())

    def allowed(self, relative: float) -> Float[np.ndarray, " unit"]:
        """How far from `values` a right estimate may lie: this share of a unit's own size, or as far as `apart`.

        Where a unit's derivative is no larger than the resolution, that is what is allowed.
        """
        known = np.where(self.sizes > self.resolution, self.apart, self.resolution)
        return np.maximum(relative * self.sizes, known)


def derivatives(dP: Callable[[Sequence[Scale]], Float[np.ndarray, "unit scale example"]]) -> Derivatives:
    """Central differences at two steps, joined so that their error of second order cancels (Richardson 1911).

    One step serves all units: the one whose derivatives lie closest to those of the next shorter step.
    """
    found = dP([Scale(1 + sign * step) for step in STEPS for sign in (1, -1)])
    slopes = [(found[:, 2 * at] - found[:, 2 * at + 1]) / (2 * step) for at, step in enumerate(STEPS)]
    joined = [
        ((longer / shorter) ** 2 * fine - coarse) / ((longer / shorter) ** 2 - 1)
        for (longer, coarse), (shorter, fine) in pairwise(zip(STEPS, slopes))
    ]
    apart = [np.linalg.norm(one - other, axis=1) for one, other in pairwise(joined)]
    best = min(range(len(apart)), key=lambda at: apart[at].max())
    return Derivatives(joined[best], apart[best], STEPS[best])
