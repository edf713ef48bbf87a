"""Standard errors of numbers that are not means over examples, by resampling whole templates and words.

Such a number is a function of sums over examples, so a resample needs only how often each cluster was drawn. As in
`icp.statistics`, the variance is that by template, plus the one by word, less the one by the two together (Cameron,
Gelbach and Miller 2011), each from a bootstrap of its clusters; never less than either of the first two.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from icp.statistics import Clusters, fewest_clusters

RESAMPLES = 1000
DRAWN_AT_ONCE = 1 << 22
ROUNDING = 1e-12
"""What resamples of equal numbers differ by, and more."""

Statistic = Callable[[Float[np.ndarray, "draw *feature"]], Float[np.ndarray, " draw"]]


def bootstrap_error(
    sums: Float[np.ndarray, "example *feature"], statistic: Statistic, clusters: Clusters, seed: int = 0
) -> float:
    """The standard error of `statistic(sums.sum(0))`; NaN where there is one example.

    A resample in which the statistic is NaN does not count.
    """
    if len(sums) < 2:
        return float("nan")
    together = np.unique(clusters, axis=0, return_inverse=True)[1].reshape(-1)
    template, word, both = (_variance(sums, statistic, codes, seed) for codes in (*clusters.T, together))
    return float(np.sqrt(max(template + word - both, template, word)))


def _variance(
    sums: Float[np.ndarray, "example *feature"], statistic: Statistic, codes: Int[np.ndarray, " example"], seed: int
) -> float:
    """Clustered one way, with the small-sample factor G / (G - 1); one cluster of all counts each example by itself."""
    if (codes == codes[0]).all():
        codes = np.arange(len(codes))
    places, numbered = np.unique(codes, return_inverse=True)
    groups = len(places)
    of_cluster = np.zeros((groups, *sums.shape[1:]))
    np.add.at(of_cluster, numbered, sums)
    random, found = np.random.default_rng(seed), []
    at_once = max(1, DRAWN_AT_ONCE // max(groups, of_cluster[0].size))
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        drawn = random.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=count * groups).reshape(count, groups)
        found.append(statistic(np.tensordot(times.astype(float), of_cluster, 1)))
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    return float(values.var(ddof=1)) * groups / (groups - 1) if len(values) > 1 else float("nan")


def interval(
    value: float, error: float, clusters: Clusters, level: float, least: float, most: float
) -> dict[str, float]:
    """`value` with its t-interval, as far as that lies between `least` and `most`; the degrees of freedom are those of
    `icp.statistics.mean_interval`.

    The ends are NaN where resampling shows no variation: that none was seen does not say that there is none.
    """
    from scipy.stats import t

    groups, half = fewest_clusters(len(clusters), clusters), float("nan")
    if groups > 1 and error > ROUNDING:
        half = float(t.ppf(0.5 + level / 2, groups - 1)) * error
    low, high = value - half, value + half
    return {
        "mean": value,
        "low": float(np.maximum(least, low)),
        "high": float(np.minimum(most, high)),
        "n": len(clusters),
    }
