"""Models judged by what they answered to the same cases: values, intervals, and paired changes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from icp.errors import ArtefactError, IcpError
from icp.metrics import JUDGED, judge
from icp.predictions import BINS, Cases, Predictions
from icp.resampling import bootstrap_error, interval


@dataclass(frozen=True, eq=False)
class Judged:
    """`probabilities[model]` [example, answer] of the same cases, and the metrics they are judged by.

    `bins` are those of `ece`.
    """

    cases: Cases
    probabilities: dict[str, np.ndarray]
    metrics: tuple[str, ...] = JUDGED
    bins: int = BINS

    def __post_init__(self):
        for model in self.probabilities:
            self.predictions(model)
        for metric in self.metrics:
            if metric not in JUDGED:
                raise IcpError(f"unknown metric {metric!r}: use one of {', '.join(JUDGED)}")
            if problem := judge(metric, self.bins).problem(self.cases):
                raise IcpError(f"{metric!r} cannot be had of these examples: {problem}")

    def __or__(self, other: "Judged") -> "Judged":
        if self.cases.digest != other.cases.digest:
            raise ArtefactError("the answers there are to another probe: keep the two evaluations apart")
        if self.bins != other.bins and {"ece"} & set(self.metrics) & set(other.metrics):
            raise ArtefactError(f"'ece' has {self.bins} bins here and {other.bins} there: evaluate both with the same")
        for model in self.probabilities.keys() & other.probabilities.keys():
            if twice := sorted(set(self.metrics) & set(other.metrics)):
                raise ArtefactError(f"{twice[0]!r} of {model!r} is in both evaluations: join it once")
            if not np.array_equal(self.probabilities[model], other.probabilities[model]):
                raise ArtefactError(f"{model!r} answers differently there: evaluate it under another name")
        metrics = tuple(metric for metric in JUDGED if metric in self.metrics + other.metrics)
        bins = self.bins if "ece" in self.metrics else other.bins
        return Judged(self.cases, self.probabilities | other.probabilities, metrics, bins)

    def predictions(self, model: str) -> Predictions:
        """Raises `IcpError` for a model whose answers are not here."""
        if model not in self.probabilities:
            raise IcpError(f"the answers of {model!r} were not kept: there are {', '.join(self.probabilities)}")
        return Predictions(self.probabilities[model], self.cases)

    def value(self, model: str, metric: str) -> float:
        return judge(metric, self.bins).value(self.predictions(model))

    def interval(self, model: str, metric: str, level: float) -> dict[str, float]:
        """The metric's value with its interval, and the count of examples."""
        how, predictions = judge(metric, self.bins), self.predictions(model)
        error = bootstrap_error(how.features(predictions), how.of, self.cases.clusters)
        return interval(how.value(predictions), error, self.cases.clusters, level, 0.0, 1.0)

    def change(self, before: str, after: str, metric: str, level: float) -> dict[str, float]:
        """The difference after - before with its interval, both models resampled together; and it relative."""
        how = judge(metric, self.bins)
        pair = [self.predictions(model) for model in (before, after)]
        old, new = (how.value(predictions) for predictions in pair)
        features = np.stack([how.features(predictions) for predictions in pair], axis=1)
        error = bootstrap_error(features, lambda sums: how.of(sums[:, 1]) - how.of(sums[:, 0]), self.cases.clusters)
        row = interval(new - old, error, self.cases.clusters, level, -1.0, 1.0)
        return row | {"relative": (new - old) / old if old else float("nan")}

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "digest": self.cases.digest,
            "answers": list(self.cases.answers),
            "labels": self.cases.labels.tolist(),
            "groups": list(self.cases.groups),
            "clusters": self.cases.clusters.tolist(),
            "probabilities": {model: found.tolist() for model, found in self.probabilities.items()},
            "metrics": list(self.metrics),
            "bins": self.bins,
        }

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Judged":
        """From what `stored` gave."""
        cases = Cases(
            told["digest"], tuple(told["answers"]), np.array(told["labels"], dtype=np.int64), tuple(told["groups"]),
            np.array(told["clusters"], dtype=np.int64).reshape(-1, 2),
        )  # fmt: skip
        probabilities = {model: np.array(found, dtype=float) for model, found in told["probabilities"].items()}
        return cls(cases, probabilities, tuple(told["metrics"]), told["bins"])
