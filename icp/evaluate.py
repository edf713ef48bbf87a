"""Before and after: numbers with intervals, per model and metric."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icp.errors import ArtefactError, IcpError, ProbeError
from icp.files import read_json, write_json
from icp.model import Model
from icp.probes import Probe
from icp.properties import ErrorRate, LogitDifference, NextTokenLoss, Property, TaskLoss, require_label
from icp.statistics import Clusters, mean_interval, share_change, share_interval
from icp.sweep.plan import clean_values

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-evaluation", 2
METRICS = ("gap", "accuracy", "task_loss", "next_token_loss")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a metric was measured on: a digest of the examples, and their templates and words."""

    digest: str
    clusters: Clusters


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`values[model][metric]` holds one number an example, so that models can be compared example by example.

    `inputs` says on what each metric was measured, and `bindings` which model each name stands for (less whatever hooks
    were on it). Both may be left out of an evaluation made by hand; its examples then count as independent. `a | b`
    joins evaluations of other models on the same inputs, or of the same models by other metrics.
    """

    values: dict[str, dict[str, np.ndarray]]
    inputs: dict[str, Inputs] = field(default_factory=dict)
    bindings: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        lengths: dict[str, tuple[int, str]] = {m: (len(i.clusters), "its inputs") for m, i in self.inputs.items()}
        for model, metrics in self.values.items():
            for metric, values in metrics.items():
                count, holder = lengths.setdefault(metric, (len(values), model))
                if len(values) != count:
                    raise ArtefactError(
                        f"{metric!r} has {len(values)} values for {model!r} and {count} for {holder!r}: "
                        "evaluate both on the same probe"
                    )

    def __or__(self, other: "Evaluation") -> "Evaluation":
        for metric, theirs in other.inputs.items():
            if self.inputs.get(metric, theirs).digest != theirs.digest:
                raise ArtefactError(
                    f"{metric!r} was measured on other inputs there: join what was measured on the same"
                )
        values = {model: dict(metrics) for model, metrics in self.values.items()}
        for model, metrics in other.values.items():
            bound = {repr(one.bindings[model]) for one in (self, other) if model in one.bindings}
            if model in values and len(bound) > 1:
                raise ArtefactError(f"{model!r} is another model there: evaluate it under another name")
            if twice := sorted(set(values.get(model, ())) & set(metrics)):
                raise ArtefactError(f"{twice[0]!r} of {model!r} is in both evaluations: join it once")
            values[model] = values.get(model, {}) | metrics
        return Evaluation(values, self.inputs | other.inputs, self.bindings | other.bindings)

    @property
    def metrics(self) -> list[str]:
        """Every metric of any model."""
        return list(dict.fromkeys(metric for metrics in self.values.values() for metric in metrics))

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """One row a model and metric: the mean over examples, its interval (Wilson's for accuracy), and the count.

        Intervals are clustered by template and word (`icp.statistics`).
        """
        import pandas

        rows = [
            {"model": model, "metric": metric, **self._interval(metric, values, level)}
            for model, metrics in self.values.items()
            for metric, values in metrics.items()
        ]
        return pandas.DataFrame(rows).set_index(["metric", "model"]).sort_index(sort_remaining=False)

    def change(self, before: str, after: str, level: float = 0.95) -> "pandas.DataFrame":
        """One row a metric that both have: the mean paired difference after - before, its interval, and it relative.

        The interval is t's; for accuracy it joins the Wilson intervals of the shares that became right and that became
        wrong, and so has a width even where no example changed. Both are clustered by template and word.
        """
        import pandas

        for name in (before, after):
            if name not in self.values:
                raise IcpError(f"no model {name!r} was evaluated: there are {', '.join(self.values)}")
        rows: dict[str, dict[str, float]] = {}
        for metric, old in self.values[before].items():
            if metric not in self.values[after]:
                continue
            difference = self.values[after][metric] - old
            rows[metric] = self._interval(metric, difference, level, change=True)
            rows[metric]["relative"] = rows[metric]["mean"] / old.mean() if old.mean() else float("nan")
        if not rows:
            raise IcpError(f"no metric was measured for both {before!r} and {after!r}: evaluate both by the same")
        return pandas.DataFrame(rows).T.rename_axis("metric")

    def _interval(self, metric: str, values: np.ndarray, level: float, change: bool = False) -> dict[str, float]:
        clusters = self.inputs[metric].clusters if metric in self.inputs else None
        if metric != "accuracy":
            return mean_interval(values, clusters, level)
        if not change:
            return share_interval(values, clusters, level)
        return share_change(values, clusters, level)

    def save(self, path: "str | Path") -> Path:
        """Write JSON: every number of every example."""
        return write_json(
            path, FORMAT, VERSION,
            {
                "values": {m: {k: v.tolist() for k, v in metrics.items()} for m, metrics in self.values.items()},
                "inputs": {k: {"digest": i.digest, "clusters": i.clusters.tolist()} for k, i in self.inputs.items()},
                "bindings": self.bindings,
            },
        )  # fmt: skip

    @classmethod
    def load(cls, path: "str | Path") -> "Evaluation":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        stored = read_json(path, FORMAT, VERSION)
        try:
            values = stored["values"].items()
            return cls(
                {m: {k: np.array(v, dtype=float) for k, v in metrics.items()} for m, metrics in values},
                {metric: _stored_inputs(told) for metric, told in stored["inputs"].items()},
                dict(stored["bindings"]),
            )
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise ArtefactError(f"{path} is damaged ({error!r}): evaluate again, or delete it") from error


def _stored_inputs(told: dict[str, Any]) -> Inputs:
    return Inputs(told["digest"], np.array(told["clusters"], dtype=np.int64).reshape(-1, 2))


def evaluate(
    models: Model | Mapping[str, Model],
    probe: Probe,
    metrics: "tuple[str, ...] | list[str] | None" = None,
    property: Property | None = None,
) -> Evaluation:
    """Evaluate one model, or several by name, on the same probe.

    | metric | needs | per example |
    |---|---|---|
    | `gap` | counterparts | the absolute difference of `property` (default: logit difference) between x and x' |
    | `accuracy` | labels | 1 where the right answer has the largest logit among the answers |
    | `task_loss` | labels | -log p(right answer), nats |
    | `next_token_loss` | nothing | nats a token of the text |

    By default the metrics that the probe allows, next-token loss only when named.
    """
    named = {models.name: models} if isinstance(models, Model) else dict(models)
    if not named:
        raise IcpError("no model was given to evaluate: pass a model, or several by name")
    paired = all(example.counterpart is not None for example in probe.examples)
    labelled = all(example.label is not None for example in probe.examples)
    if metrics is None:
        metrics = ["gap"] * paired + ["accuracy", "task_loss"] * labelled
    if not metrics:
        raise ProbeError("the probe has neither counterparts nor labels: name metrics=['next_token_loss']")
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise IcpError(f"unknown metric {unknown[0]!r}: use one of {', '.join(METRICS)}")
    property = LogitDifference() if property is None else property
    require_label(property, stored=True)
    return Evaluation(
        {n: {metric: _metric(m, probe, metric, property) for metric in metrics} for n, m in named.items()},
        {
            metric: Inputs(f"{probe.digest} {property.label if metric == 'gap' else metric}", probe.clusters)
            for metric in metrics
        },
        {n: m.binding for n, m in named.items()},
    )


def _metric(model: Model, probe: Probe, metric: str, property: Property) -> np.ndarray:
    match metric:
        case "gap":
            return np.abs(clean_values(model, probe, property) - clean_values(model, probe.swapped(), property))
        case "accuracy":
            return 1 - clean_values(model, probe, ErrorRate())
        case "task_loss":
            return clean_values(model, probe, TaskLoss())
    return clean_values(model, probe, NextTokenLoss())
