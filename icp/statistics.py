"""Errors and intervals of means over examples that share templates and words.

Sentences made from one template, or around one word, are not independent draws. The variance of a mean over them is
clustered by both at once (Cameron, Gelbach and Miller 2011): the variance clustered by template, plus the one by word,
less the one by the two together; never less than either of the first two.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int

Clusters = Int[np.ndarray, "_ 2"]


def clusters_of(examples: Iterable[Mapping]) -> Clusters:
    """The clusters [example, 2] of mappings with the fields of `Example`: a code of the template, and of the word.

    An example that lacks one of them stands alone in it, but for its repetitions and its own counterpart. So does each
    where all share one: over a single template nothing can be said of others, and its examples are what varies.
    """
    rows = list(examples)
    codes = np.empty((len(rows), 2), dtype=np.int64)
    for column, field in enumerate(("template", "word")):
        names = [_alone(row, index) if row.get(field) is None else row[field] for index, row in enumerate(rows)]
        known = {name: code for code, name in enumerate(dict.fromkeys(names))}
        codes[:, column] = range(len(rows)) if len(known) == 1 else [known[name] for name in names]
    return codes


def _alone(row: Mapping, index: int) -> frozenset:
    """What stands for an example without a template or a word: its texts, x and x' alike."""
    return frozenset((row["text"], row.get("counterpart") or row["text"])) if "text" in row else frozenset((index,))


def standard_error(
    values: Float[np.ndarray, "*batch example"], clusters: Clusters | None = None
) -> np.ndarray | np.floating:
    """The standard error [*batch] of the mean over the last axis; NaN where there is one example.

    Without `clusters` examples are independent.
    """
    count = values.shape[-1]
    if count < 2:
        return np.full(values.shape[:-1], np.nan)
    if clusters is None:
        clusters = np.arange(count).repeat(2).reshape(count, 2)
    around = values - values.mean(-1, keepdims=True)
    fields = [_variance(around, codes) for codes in clusters.T]
    both = _variance(around, np.unique(clusters, axis=0, return_inverse=True)[1].reshape(-1))
    return np.sqrt(np.maximum(fields[0] + fields[1] - both, np.maximum(*fields)))


def _variance(
    around: Float[np.ndarray, "*batch example"], codes: Int[np.ndarray, " example"]
) -> np.ndarray | np.floating:
    """The variance of the mean clustered one way, with the small-sample factor G / (G - 1).

    Where all examples share one cluster each counts by itself, as in `clusters_of`.
    """
    if (codes == codes[0]).all():
        codes = np.arange(len(codes))
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=codes[order[0]] - 1))
    sums = np.add.reduceat(around[..., order], first, axis=-1)
    groups = len(first)
    return groups / (groups - 1) * (sums**2).sum(-1) / around.shape[-1] ** 2


def mean_interval(
    values: Float[np.ndarray, " example"], clusters: Clusters | None = None, level: float = 0.95
) -> dict[str, float]:
    """A mean with its t-interval; NaN where there is one example.

    With clusters the degrees of freedom are one less than the templates, or than the words where these are fewer.
    """
    from scipy.stats import t

    mean, error = float(values.mean()), float(standard_error(values, clusters))
    groups = fewest_clusters(len(values), clusters)
    half = float(t.ppf(0.5 + level / 2, groups - 1)) * error if groups > 1 else float("nan")
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def fewest_clusters(count: int, clusters: Clusters | None) -> int:
    """How many templates there are, or words where these are fewer; examples alone count each."""
    if clusters is None:
        return count
    kinds = [len(np.unique(codes)) for codes in clusters.T]
    return min((kind for kind in kinds if kind > 1), default=count)


def share_interval(
    right: Float[np.ndarray, " example"], clusters: Clusters | None = None, level: float = 0.95
) -> dict[str, float]:
    """A share of zeros and ones with its Wilson interval, which stays between 0 and 1 and has a width at both ends.

    Clusters lower the count to the effective one, which has the clustered variance, and take t's quantile with the
    degrees of freedom of `mean_interval`. Where all examples agree nothing shows how they cluster, and the worst case
    is taken: as many independent ones as there are templates, or words where these are fewer. Formula: Wilson (1927).
    """
    from scipy.stats import norm, t

    share, count = float(right.mean()), float(len(right))
    z = float(norm.ppf(0.5 + level / 2))
    if clusters is not None:
        groups = fewest_clusters(len(right), clusters)
        z = float(t.ppf(0.5 + level / 2, groups - 1)) if groups > 1 else float("nan")
        spread = share * (1 - share)
        if spread:
            count = 1 + spread / max(spread / (count - 1), float(standard_error(right, clusters)) ** 2)
        else:
            count = float(groups)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return {
        "mean": share,
        "low": float(np.maximum(0, middle - half)),
        "high": float(np.minimum(1, middle + half)),
        "n": len(right),
    }


def seeds_interval(
    values: Float[np.ndarray, " seed"], error: float, groups: int, level: float = 0.95
) -> tuple[float, float]:
    """The interval of a mean over seeds whose examples are the same; NaN for a single seed.

    `error` is the standard error of that mean over examples, of which there are `groups` independent ones. Variances
    between the seeds, over their number, and over examples add up; t's quantile takes the degrees of freedom of Welch
    and Satterthwaite. In simulations with three seeds such 95% intervals covered 92 to 96%.
    """
    from scipy.stats import t

    mean, seeds = float(values.mean()), len(values)
    if seeds < 2:
        return float("nan"), float("nan")
    between, within = float(values.var(ddof=1)) / seeds, error**2
    if between + within == 0:
        return mean, mean
    spread = between**2 / (seeds - 1) + within**2 / (groups - 1)
    half = float(t.ppf(0.5 + level / 2, (between + within) ** 2 / spread)) * (between + within) ** 0.5
    return mean - half, mean + half
