"""Numbers before and after over seeds and examples, with intervals; and how rounds keep arrays.

A number is a function of sums over examples, so that shares, ratios and products of means go the same way. All models
are looked at on the same examples. An interval is over seeds and examples (`icp.statistics.seeds_interval`, with a
bootstrap over examples), that of a single seed over examples alone; there is none where nothing varies.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from icp.resampling import bootstrap_error
from icp.statistics import Clusters, fewest_clusters, mean_interval, seeds_interval

Number = Callable[[np.ndarray], np.ndarray]
"""Of sums [*some, feature], numbers [*some]."""


def packed(values: Sequence[float] | np.ndarray, places: int = 4) -> str:
    """Numbers in one line, so that a JSON file of many stays readable."""
    told = (f"{value:.{places}f}" for value in np.asarray(values, dtype=float).reshape(-1))
    return " ".join(value.rstrip("0").rstrip(".") for value in told)


def unpacked(line: str) -> np.ndarray:
    return np.array(line.split(), dtype=float)


def counted(values: np.ndarray) -> np.ndarray:
    """Values [*some] with a one beside each, [*some, 2]: what `mean` reads off their sums."""
    return np.stack([values, np.ones_like(values)], -1)


def mean(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def level(values: np.ndarray, clusters: Clusters | None = None, of: Number = mean) -> dict[str, Any]:
    """`of` the sums of `values` [seed, example, feature], in percent: its mean, the interval, each seed's."""
    found = _over_seeds(np.moveaxis(values, 1, 0), clusters, of)
    return found | {"ci": found["ci"] and [max(0.0, found["ci"][0]), min(100.0, found["ci"][1])]}


def change(before: np.ndarray, after: np.ndarray, clusters: Clusters | None = None, of: Number = mean) -> dict:
    """The paired change of `of` from the sums of `before` to those of `after`, [seed, example, feature] both.

    `before` may be of one seed, for a model that is the same for all.
    """
    both = np.moveaxis(np.stack([np.broadcast_to(before, after.shape), after], 2), 1, 0)

    def shift(sums: np.ndarray) -> np.ndarray:
        found = of(sums)
        return found[..., 1] - found[..., 0]

    old, new = of(both.sum(0)).mean(0)
    return {"before": _known(old), "after": _known(new), "change": _over_seeds(both, clusters, shift)}


def _over_seeds(sums: np.ndarray, clusters: Clusters | None, of: Number) -> dict[str, Any]:
    """Of sums [example, seed, *some, feature]."""
    clusters = np.arange(len(sums)).repeat(2).reshape(-1, 2) if clusters is None else clusters
    own = of(sums.sum(0))
    error = bootstrap_error(sums, lambda drawn: of(drawn).mean(-1), clusters)
    groups = fewest_clusters(len(sums), clusters)
    if len(own) > 1:
        ends = seeds_interval(own, error, groups)
    else:
        half = float(t.ppf(0.975, max(1, groups - 1))) * error
        ends = own[0] - half, own[0] + half
    told = np.isfinite(ends).all() and ends[1] - ends[0] > 1e-12
    return {
        "mean": _known(own.mean()), "ci": [float(end) for end in ends] if told else None,
        "seeds": [_known(value) for value in own],
    }  # fmt: skip


def plain(values: Sequence[float]) -> dict[str, Any]:
    """The mean of seeds whose examples are others, with its t-interval."""
    found = mean_interval(np.array(values, dtype=float))
    ends = [found["low"], found["high"]] if len(values) > 1 else None
    return {"mean": found["mean"], "ci": ends, "seeds": [float(value) for value in values]}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def shown(value: Mapping[str, Any], form: str = ".3f") -> str:
    """A mean with its interval, as `level` gives it."""
    if value["mean"] is None:
        return "none"
    ends = "" if value["ci"] is None else " ({} to {})".format(*(f"{end:{form}}" for end in value["ci"]))
    return f"{value['mean']:{form}}{ends}"


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Lines for [model][figure] as `change` gives them, the figures one after another."""
    lines = [f"{'figure':<26}{'model':<12}{'before':>9}{'after':>9}   change"]
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        for model, figures in found.items():
            if name in figures:
                row = figures[name]
                sides = ("none" if row[side] is None else f"{row[side]:.3f}" for side in ("before", "after"))
                before, after = sides
                lines.append(f"{name:<26}{model:<12}{before:>9}{after:>9}   {shown(row['change'], '+.3f')}")
    return "\n".join(lines)
