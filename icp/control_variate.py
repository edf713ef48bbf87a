"""Means over all examples from exact effects on a few of them, with the first-order estimates as control variate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from icp.errors import IcpError


@dataclass(frozen=True, eq=False)
class ControlledMean:
    """`mean` [*batch], its `standard_error`, and the coefficient `beta` that the estimates entered with."""

    mean: np.ndarray
    standard_error: np.ndarray
    beta: np.ndarray


def control_variate_mean(
    exact: Float[np.ndarray, "*batch chosen"],
    estimates: Float[np.ndarray, "*batch example"],
    chosen: Int[np.ndarray, " index"] | Sequence[int],
    beta: float | None = None,
) -> ControlledMean:
    """The mean over all examples of values that were measured exactly on `chosen`, a simple random sample of them.

    mean(exact) + beta (mean over all of the estimates - mean over the sample of the estimates), in the unit of `exact`,
    such as |dP| [unit, example] of `Effects` of the two methods. With a `beta` given in advance it is unbiased over the
    draws whatever the estimates are worth; by default beta is the slope of the regression of exact values on estimates
    in the sample (Cochran 1977, section 7.4), which leaves a bias of the order of 1 / len(chosen).

    The standard error is over the draw of the sample without replacement. These examples are the population, so they
    need no clusters. It is 0 where all were measured, NaN where too few were to tell (under 3, or 2 with a given beta).

    Raises `IcpError` where `chosen` does not number the columns of `exact` among those of `estimates`, each once.
    """
    count, examples = exact.shape[-1], estimates.shape[-1]
    chosen = np.asarray(chosen)
    if len(chosen) != count or not count:
        raise IcpError(f"{count} examples were measured exactly and {len(chosen)} are chosen: give the index of each")
    whole = np.issubdtype(chosen.dtype, np.integer)
    if not whole or len(np.unique(chosen)) < count or chosen.min() < 0 or chosen.max() >= examples:
        raise IcpError(f"the chosen examples {chosen.tolist()} are not distinct indices from 0 to {examples - 1}")
    exact, estimates = exact.astype(np.float64), estimates.astype(np.float64)
    own = estimates[..., chosen]
    around, spread = _centred(exact), _centred(own)
    if beta is None:
        power = (spread**2).sum(-1)
        slope = np.divide((around * spread).sum(-1), power, out=np.zeros_like(power), where=power > 0)
        freedom = count - 2
    else:
        slope, freedom = np.full(exact.shape[:-1], float(beta)), count - 1
    mean = exact.mean(-1) + slope * (estimates.mean(-1) - own.mean(-1))
    if count == examples:
        return ControlledMean(mean, np.zeros_like(mean), slope)
    if freedom < 1:
        return ControlledMean(mean, np.full_like(mean, np.nan), slope)
    left = ((around - slope[..., None] * spread) ** 2).sum(-1) / freedom
    return ControlledMean(mean, np.sqrt(left / count * (1 - count / examples)), slope)


def _centred(values: Float[np.ndarray, "*batch chosen"]) -> Float[np.ndarray, "*batch chosen"]:
    return values - values.mean(-1, keepdims=True)
