"""Whether attributions rank interventions as their true effects do."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from icp.errors import IcpError
from icp.resampling import bootstrap_error, interval
from icp.statistics import Clusters


@dataclass(frozen=True)
class OrderFaithfulness:
    """`mean` is the share of the pairs of interventions that are ranked as their reference effects rank them, between
    `low` and `high`; 1/2 is chance, 0 the reverse order.

    `pairs` are those that the reference ranks; `unranked` those that it leaves tied, which do not count; `tied` those
    of `pairs` that the attributions leave tied, of which each counts a half. `n` is the number of examples.
    """

    mean: float
    low: float
    high: float
    pairs: int
    unranked: int
    tied: int
    n: int


def order_faithfulness(
    found: Mapping[str, np.ndarray],
    reference: Mapping[str, float],
    *,
    clusters: Clusters | None = None,
    tolerance: float = 0.0,
    level: float = 0.95,
) -> OrderFaithfulness:
    """Order-faithfulness (Gat et al. 2023), as Kendall's concordance.

    `found[name]` [example] are what is attributed to an intervention, example by example, NaN where it was not made of
    one; interventions are ranked by the means. `reference[name]` are the effects that are known to be true, such as
    those of a generator. Sign and unit are the caller's: both sides alike, or the absolute values of both. Reference
    effects that differ by `tolerance` or less are tied. The interval is from a bootstrap of the examples, by `clusters`
    where they are given (`Probe.clusters`); its ends are NaN where no resample ranks otherwise.

    Raises `IcpError` where names differ, there are not two, an intervention has no number, or all effects are tied.
    """
    names = list(reference)
    if set(found) != set(names):
        other = sorted(set(found) ^ set(names))[0]
        raise IcpError(f"the intervention {other!r} is on one side only: give an attribution and an effect of each")
    if len(names) < 2:
        raise IcpError(f"{len(names)} intervention has no order: give two or more")
    values = _stacked(found, names)
    if clusters is None:
        clusters = np.arange(len(values)).repeat(2).reshape(-1, 2)
    if len(clusters) != len(values):
        raise IcpError(f"there are {len(clusters)} clusters of {len(values)} examples: give one of each an example")
    truth = np.array([float(reference[name]) for name in names])
    if not np.isfinite(truth).all():
        raise IcpError(f"the effect of {names[int(np.argmin(np.isfinite(truth)))]!r} is not a number: leave it out")
    one, other = np.triu_indices(len(names), 1)
    apart = truth[one] - truth[other]
    ranked = np.abs(apart) > tolerance
    if not ranked.any():
        raise IcpError(f"all {len(names)} effects are tied within {tolerance}: they have no order to be faithful to")
    one, other, sign = one[ranked], other[ranked], np.sign(apart[ranked])

    def orders(sums: Float[np.ndarray, "draw feature"]) -> Float[np.ndarray, "draw pair"]:
        """1 where a pair is ranked as by the reference, 0 where the other way round."""
        total, count = np.split(sums, 2, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = total / count
        return (1 + np.sign(means[:, one] - means[:, other]) * sign) / 2

    features = np.concatenate([np.nan_to_num(values), np.isfinite(values)], axis=1)
    each = orders(features.sum(0, keepdims=True))[0]
    error = bootstrap_error(features, lambda sums: orders(sums).mean(1), clusters)
    told = interval(float(each.mean()), error, clusters, level, 0.0, 1.0)
    return OrderFaithfulness(
        told["mean"], told["low"], told["high"], len(sign), int((~ranked).sum()), int((each == 0.5).sum()), len(values)
    )


def _stacked(found: Mapping[str, np.ndarray], names: list[str]) -> Float[np.ndarray, "example intervention"]:
    columns = [np.asarray(found[name], dtype=float) for name in names]
    for name, column in zip(names, columns):
        if column.ndim != 1 or len(column) != len(columns[0]):
            raise IcpError(
                f"the attributions of {name!r} have the shape {column.shape}, those of {names[0]!r} "
                f"{columns[0].shape}: give one number an example, NaN where there is none"
            )
        if np.isinf(column).any() or not np.isfinite(column).any():
            raise IcpError(f"the attributions of {name!r} have no finite number, or an infinite one: leave it out")
    return np.stack(columns, axis=1)
