"""Before and after: numbers with intervals, per model and metric."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icp.errors import ArtefactError, IcpError
from icp.files import read_json, write_json
from icp.judged import Judged
from icp.metrics import JUDGED, by_group
from icp.statistics import Clusters, mean_interval, share_change, share_interval

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-evaluation", 3
SHARES = ("accuracy", "consistency", "sensitivity", "contrast_accuracy", "pairwise_accuracy")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a metric was measured on: a digest of the examples, and their templates and words."""

    digest: str
    clusters: Clusters


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`values[model][metric]` holds one number an example, so that models can be compared example by example.

    `inputs` says on what each metric was measured, and `bindings` which model each name stands for (less whatever hooks
    were on it). Both may be left out of an evaluation made by hand; its examples then count as independent. `judged`
    holds the models' answers where metrics were asked for that are no means over examples. `a | b` joins evaluations of
    other models on the same inputs, or of the same models by other metrics.
    """

    values: dict[str, dict[str, np.ndarray]]
    inputs: dict[str, Inputs] = field(default_factory=dict)
    bindings: dict[str, dict[str, str]] = field(default_factory=dict)
    judged: Judged | None = None

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
        for model in other.models:
            bound = {repr(one.bindings[model]) for one in (self, other) if model in one.bindings}
            if model in self.models and len(bound) > 1:
                raise ArtefactError(f"{model!r} is another model there: evaluate it under another name")
        for model, metrics in other.values.items():
            if twice := sorted(set(values.get(model, ())) & set(metrics)):
                raise ArtefactError(f"{twice[0]!r} of {model!r} is in both evaluations: join it once")
            values[model] = values.get(model, {}) | metrics
        both = [one.judged for one in (self, other) if one.judged is not None]
        return Evaluation(
            values, self.inputs | other.inputs, self.bindings | other.bindings, reduce(or_, both) if both else None
        )

    @property
    def models(self) -> list[str]:
        """Every model, in the order of evaluation."""
        return list(dict.fromkeys([*self.values, *({} if self.judged is None else self.judged.probabilities)]))

    @property
    def metrics(self) -> list[str]:
        """Every metric of any model."""
        return list(dict.fromkeys(metric for model in self.models for metric in self._metrics_of(model)))

    def models_with(self, metric: str) -> list[str]:
        """The models that the metric was measured of."""
        return [model for model in self.models if metric in self._metrics_of(model)]

    def _metrics_of(self, model: str) -> list[str]:
        kept = self.judged is not None and model in self.judged.probabilities
        return [*self.values.get(model, ()), *(self.judged.metrics if kept else ())]

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """One row a model and metric: the mean over examples (or what the metric is, where it is no mean), its
        interval, and the count of examples.

        Intervals are t's, Wilson's for shares, and from a bootstrap where the metric is no mean (`icp.resampling`); all
        are clustered by template and word (`icp.statistics`).
        """
        import pandas

        rows = [
            {"model": model, "metric": metric, **self.interval(model, metric, level)}
            for model in self.models
            for metric in self._metrics_of(model)
        ]
        return pandas.DataFrame(rows).set_index(["metric", "model"]).sort_index(sort_remaining=False)

    def change(
        self, before: str, after: str, level: float = 0.95, metrics: Sequence[str] | None = None
    ) -> "pandas.DataFrame":
        """One row a metric (of `metrics`, or any) that both have: the mean paired difference after - before, its
        interval, and it relative.

        The interval is t's; for accuracy and other shares it joins the Wilson intervals of the examples that became
        right and that became wrong, and so has a width even where no example changed; where the metric is no mean, the
        bootstrap draws the same examples for both. All are clustered by template and word.
        """
        import pandas

        for name in (before, after):
            if name not in self.models:
                raise IcpError(f"no model {name!r} was evaluated: there are {', '.join(self.models)}")
        rows = {
            metric: self._change(before, after, metric, level)
            for metric in self._metrics_of(before)
            if metric in self._metrics_of(after) and (metrics is None or metric in metrics)
        }
        if not rows:
            raise IcpError(f"no metric was measured for both {before!r} and {after!r}: evaluate both by the same")
        return pandas.DataFrame(rows).T.rename_axis("metric")

    def groups(self, model: str, level: float = 0.95) -> "pandas.DataFrame":
        """One row a (label, group): count, accuracy with its Wilson interval, and mean confidence.

        Raises `IcpError` where the model's answers were not kept (ask for a metric that is read off them, such as
        `ece`), or an example has no group.
        """
        return by_group(self.answers.predictions(model), level)

    @property
    def answers(self) -> Judged:
        """What `judged` holds; raises `IcpError` where nothing was kept."""
        if self.judged is None:
            raise IcpError(f"no answers were kept: evaluate by one or more of {', '.join(JUDGED)}")
        return self.judged

    def _clusters(self, metric: str) -> Clusters | None:
        return self.inputs[metric].clusters if metric in self.inputs else None

    def interval(self, model: str, metric: str, level: float = 0.95) -> dict[str, float]:
        """One row of `table`: `mean`, `low`, `high` and `n`."""
        if metric in JUDGED:
            return self.answers.interval(model, metric, level)
        of = share_interval if metric in SHARES else mean_interval
        return of(self.values[model][metric], self._clusters(metric), level)

    def _change(self, before: str, after: str, metric: str, level: float) -> dict[str, float]:
        if metric in JUDGED:
            return self.answers.change(before, after, metric, level)
        old, clusters = self.values[before][metric], self._clusters(metric)
        difference = self.values[after][metric] - old
        row = (share_change if metric in SHARES else mean_interval)(difference, clusters, level)
        return row | {"relative": row["mean"] / old.mean() if old.mean() else float("nan")}

    def save(self, path: "str | Path") -> Path:
        """Write JSON: every number of every example, and where answers were kept, their probabilities."""
        return write_json(
            path, FORMAT, VERSION,
            {
                "values": {m: {k: v.tolist() for k, v in metrics.items()} for m, metrics in self.values.items()},
                "inputs": {k: {"digest": i.digest, "clusters": i.clusters.tolist()} for k, i in self.inputs.items()},
                "bindings": self.bindings,
                "judged": None if self.judged is None else self.judged.stored,
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
                None if stored["judged"] is None else Judged.of(stored["judged"]),
            )
        except (KeyError, AttributeError, TypeError, ValueError, IndexError, IcpError) as error:
            raise ArtefactError(f"{path} is damaged ({error!r}): evaluate again, or delete it") from error


def _stored_inputs(told: dict[str, Any]) -> Inputs:
    return Inputs(told["digest"], np.array(told["clusters"], dtype=np.int64).reshape(-1, 2))
