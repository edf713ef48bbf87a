"""Means over the seeds of a method, with intervals over seeds and examples."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from icp.errors import ArtefactError, IcpError
from icp.evaluation import SHARES, Evaluation
from icp.metrics import JUDGED, judge
from icp.resampling import bootstrap_error
from icp.statistics import Clusters, fewest_clusters, seeds_interval, standard_error

if TYPE_CHECKING:
    import pandas


def over_seeds(
    methods: Mapping[str, Sequence[Evaluation]], metrics: Sequence[str] | None = None, level: float = 0.95
) -> "pandas.DataFrame":
    """One row a metric and method: how many seeds, the mean over them, its interval, and the `values` of each.

    `methods[name]` holds an evaluation a seed, all on the same examples, each of one model (or with the method's name
    among its models). By default the metrics that all seeds have.

    The variance of the mean is that between the seeds over their number, plus that of the mean over seeds when examples
    are drawn anew, by template and word (`icp.statistics`, or `icp.resampling` where the metric is no mean). t's
    quantile takes the degrees of freedom of Welch and Satterthwaite. One seed has no interval.

    Raises `IcpError` without a method, for one without an evaluation or without a metric in common, and `ArtefactError`
    where seeds were evaluated on other examples.
    """
    import pandas

    if not methods:
        raise IcpError("no method was given: pass the evaluations of each by its name")
    rows = []
    for method, evaluations in methods.items():
        if not evaluations:
            raise IcpError(f"{method!r} has no evaluation: give one a seed")
        models = [_model_of(method, seed, evaluation) for seed, evaluation in enumerate(evaluations)]
        shared = [
            metric
            for metric in (evaluations[0].metrics if metrics is None else metrics)
            if all(model in one.models_with(metric) for model, one in zip(models, evaluations))
        ]
        if missing := sorted(set(metrics or ()) - set(shared)):
            raise IcpError(f"{missing[0]!r} was not measured for every seed of {method!r}: evaluate them all by it")
        if not shared:
            raise IcpError(f"no metric was measured for every seed of {method!r}: evaluate them all by the same")
        for metric in shared:
            _require_same(method, metric, evaluations)
            rows.append({"metric": metric, "method": method, **_row(models, evaluations, metric, level)})
    return pandas.DataFrame(rows).set_index(["metric", "method"])


def _model_of(method: str, seed: int, evaluation: Evaluation) -> str:
    models = evaluation.models
    if method not in models and len(models) != 1:
        raise IcpError(
            f"evaluation {seed} of {method!r} is of the models {', '.join(models)}: let one have the method's name, or "
            "evaluate one alone"
        )
    return method if method in models else models[0]


def _require_same(method: str, metric: str, evaluations: Sequence[Evaluation]) -> None:
    """Raise `ArtefactError` where the seeds' examples are known to be others."""
    digests = [one.judged.cases.digest if metric in JUDGED else _digest(one, metric) for one in evaluations]
    for seed, digest in enumerate(digests):
        if digest != digests[0]:
            raise ArtefactError(
                f"{metric!r} of {method!r} was measured on other examples in evaluation {seed} than in evaluation 0: "
                "evaluate all seeds on the same probe"
            )
    bins = {one.judged.bins for one in evaluations} if metric == "ece" else set()
    if len(bins) > 1:
        raise ArtefactError(f"'ece' of {method!r} has {' and '.join(map(str, sorted(bins)))} bins: evaluate all alike")


def _digest(evaluation: Evaluation, metric: str) -> str | None:
    return evaluation.inputs[metric].digest if metric in evaluation.inputs else None


def _row(models: list[str], evaluations: Sequence[Evaluation], metric: str, level: float) -> dict[str, object]:
    values = np.array(
        [
            one.judged.value(model, metric) if metric in JUDGED else one.values[model][metric].mean()
            for model, one in zip(models, evaluations)
        ]
    )
    low = high = float("nan")
    if len(values) > 1:
        error, clusters, count = _over_examples(models, evaluations, metric)
        if error > 0 or values.std() > 0:
            low, high = seeds_interval(values, error, fewest_clusters(count, clusters), level)
    if metric in SHARES or metric in JUDGED:
        low, high = float(np.maximum(0, low)), float(np.minimum(1, high))
    return {
        "seeds": len(values),
        "mean": float(values.mean()),
        "low": low,
        "high": high,
        "values": tuple(values.tolist()),
    }


def _over_examples(
    models: list[str], evaluations: Sequence[Evaluation], metric: str
) -> tuple[float, Clusters | None, int]:
    """The standard error over examples of the mean over seeds; the examples' clusters, and their count."""
    if metric not in JUDGED:
        each = [one.values[model][metric] for model, one in zip(models, evaluations)]
        if len({len(values) for values in each}) > 1:
            raise ArtefactError(
                f"{metric!r} has {', '.join(str(len(v)) for v in each)} values: evaluate all seeds on the same probe"
            )
        inputs = evaluations[0].inputs
        clusters = inputs[metric].clusters if metric in inputs else None
        return float(standard_error(np.mean(each, axis=0), clusters)), clusters, len(each[0])
    judged = evaluations[0].judged
    how, clusters = judge(metric, judged.bins), judged.cases.clusters
    features = [how.features(one.judged.predictions(model)) for model, one in zip(models, evaluations)]

    def mean(sums):
        return np.mean([how.of(sums[:, seed]) for seed in range(len(features))], axis=0)

    return bootstrap_error(np.stack(features, axis=1), mean, clusters), clusters, len(clusters)
