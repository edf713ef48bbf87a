"""Metrics that are not means over examples, read off the answers of a whole probe.

The value is a library's own. It is a function of sums over examples, and so are its resamples: `features` [example,
feature] are what is summed, and `of` turns sums into the metric. Tests hold the two equal.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from icp.errors import IcpError
from icp.predictions import BINS, Cases, Predictions
from icp.statistics import share_interval

JUDGED = ("f1", "worst_group_accuracy", "demographic_parity_difference", "equal_opportunity_difference", "ece")


class Judge(ABC):
    """Base class of the metrics; a subclass is a frozen dataclass."""

    @abstractmethod
    def problem(self, cases: Cases) -> str:
        """Why the metric does not exist for these cases, in one sentence; nothing where it does."""

    @abstractmethod
    def value(self, predictions: Predictions) -> float:
        """The metric, between 0 and 1."""

    @abstractmethod
    def features(self, predictions: Predictions) -> Float[np.ndarray, "example feature"]:
        """What the metric is a function of, once it is summed over examples."""

    @abstractmethod
    def of(self, sums: Float[np.ndarray, "draw feature"]) -> Float[np.ndarray, " draw"]:
        """The metric from sums of features; NaN where a resample lacks what it needs."""


@dataclass(frozen=True)
class F1(Judge):
    """scikit-learn's F1: of two answers that of the last, the positive class; of more the mean over all (macro)."""

    def problem(self, cases):
        missing = [answer for label, answer in enumerate(cases.answers) if not (cases.labels == label).any()]
        return f"no example has the label {missing[0]!r}: give some of every answer" if missing else ""

    def value(self, predictions):
        from sklearn.metrics import f1_score

        cases = predictions.cases
        classes = _classes(cases)
        return float(f1_score(cases.labels, predictions.answered, labels=classes, average="macro", zero_division=0))

    def features(self, predictions):
        mine = predictions.answered[:, None] == _classes(predictions.cases)
        truly = predictions.cases.labels[:, None] == _classes(predictions.cases)
        return np.concatenate([mine & truly, mine.astype(float) + truly], axis=1, dtype=float)

    def of(self, sums):
        right, either = np.split(sums, 2, axis=-1)
        each, known = _shares(2 * right, either), either > 0
        return _shares(np.where(known, each, 0).sum(-1), known.sum(-1))


@dataclass(frozen=True)
class WorstGroupAccuracy(Judge):
    """The least accuracy of any (label, group), from fairlearn's MetricFrame (Sagawa et al. 2020)."""

    def problem(self, cases):
        return cases.without_group() or cases.empty_cell(tuple(range(len(cases.answers))))

    def value(self, predictions):
        import pandas
        from fairlearn.metrics import MetricFrame
        from sklearn.metrics import accuracy_score

        cases = predictions.cases
        cells = pandas.DataFrame({"label": cases.labels, "group": cases.groups})
        frame = MetricFrame(
            metrics=accuracy_score, y_true=cases.labels, y_pred=predictions.answered, sensitive_features=cells
        )
        return float(frame.group_min())

    def features(self, predictions):
        cases = predictions.cases
        cells = _indicators(cases.labels * len(cases.group_names) + cases.group_codes)
        return _with_part(cells, predictions.right)

    def of(self, sums):
        return np.fmin.reduce(_rates(sums), axis=-1)


@dataclass(frozen=True)
class DemographicParityDifference(Judge):
    """fairlearn's: the largest less the smallest share, over groups, that is given the last of two answers."""

    def problem(self, cases):
        return _not_two(cases) or cases.without_group()

    def value(self, predictions):
        from fairlearn.metrics import demographic_parity_difference

        truly, given, groups = _binary(predictions)
        return float(demographic_parity_difference(truly, given, sensitive_features=groups))

    def features(self, predictions):
        return _with_part(_indicators(predictions.cases.group_codes), predictions.answered == 1)

    def of(self, sums):
        rates = _rates(sums)
        return np.fmax.reduce(rates, axis=-1) - np.fmin.reduce(rates, axis=-1)


@dataclass(frozen=True)
class EqualOpportunityDifference(Judge):
    """fairlearn's: the difference of demographic parity among examples whose right answer is the last of the two."""

    def problem(self, cases):
        return _not_two(cases) or cases.without_group() or cases.empty_cell((1,))

    def value(self, predictions):
        from fairlearn.metrics import equal_opportunity_difference

        truly, given, groups = _binary(predictions)
        return float(equal_opportunity_difference(truly, given, sensitive_features=groups))

    def features(self, predictions):
        positive = (predictions.cases.labels == 1)[:, None]
        return _with_part(_indicators(predictions.cases.group_codes) * positive, predictions.answered == 1)

    def of(self, sums):
        return DemographicParityDifference().of(sums)


@dataclass(frozen=True)
class CalibrationError(Judge):
    """torchmetrics' expected calibration error (Naeini et al. 2015): over `bins` equal bins of the confidence, the mean
    distance of its mean to the accuracy, weighted by examples. Of equally likely answers the first counts.
    """

    bins: int = BINS

    def __post_init__(self):
        if self.bins < 1:
            raise IcpError(f"the confidence cannot be put into {self.bins} bins: give 1 or more")

    def problem(self, cases):
        return ""

    def value(self, predictions):
        from torchmetrics.functional.classification import multiclass_calibration_error

        probabilities, labels = map(torch.from_numpy, (predictions.probabilities, predictions.cases.labels))
        return float(
            multiclass_calibration_error(probabilities, labels, num_classes=probabilities.shape[1], n_bins=self.bins)
        )

    def features(self, predictions):
        bins = _indicators(self.bin_of(predictions.confidence), self.bins + 1)
        first = predictions.probabilities.argmax(1) == predictions.cases.labels
        return np.concatenate([_with_part(bins, first), bins * predictions.confidence[:, None]], axis=1)

    def of(self, sums):
        count, right, confidence = np.split(sums, 3, axis=-1)
        return _shares(np.abs(right - confidence).sum(-1), count.sum(-1))

    def bin_of(self, confidence: Float[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
        """As torchmetrics has it: in float32, a bin holds its lower end, and 1 is a bin of its own after the last."""
        edges = torch.linspace(0, 1, self.bins + 1)
        return (torch.bucketize(torch.from_numpy(confidence).float(), edges, right=True) - 1).numpy()


def judge(metric: str, bins: int = BINS) -> Judge:
    """The metric of this name; `bins` are those of `ece`."""
    made = (F1, WorstGroupAccuracy, DemographicParityDifference, EqualOpportunityDifference)
    return CalibrationError(bins) if metric == "ece" else dict(zip(JUDGED, made))[metric]()


def by_group(predictions: Predictions, level: float = 0.95):
    """A DataFrame with a row each (label, group): count, accuracy with its Wilson interval, and mean confidence.

    Raises `IcpError` where an example has no group. A cell without examples has the count 0 and no numbers.
    """
    import pandas

    cases = predictions.cases
    missing = [row for row, group in enumerate(cases.groups) if group is None]
    if missing:
        raise IcpError(cases.without_group())
    rows = []
    for label, answer in enumerate(cases.answers):
        for code, group in enumerate(cases.group_names):
            mine = (cases.labels == label) & (cases.group_codes == code)
            row: dict[str, object] = {"label": answer, "group": group, "count": int(mine.sum())}
            if mine.any():
                found = share_interval(predictions.right[mine].astype(float), cases.clusters[mine], level)
                row |= {"accuracy": found["mean"], "low": found["low"], "high": found["high"]}
                row["confidence"] = float(predictions.confidence[mine].mean())
            rows.append(row)
    columns = ["label", "group", "count", "accuracy", "low", "high", "confidence"]
    return pandas.DataFrame(rows, columns=columns).set_index(["label", "group"])


def _classes(cases: Cases) -> list[int]:
    return [1] if len(cases.answers) == 2 else list(range(len(cases.answers)))


def _not_two(cases: Cases) -> str:
    count = len(cases.answers)
    return "" if count == 2 else f"there are {count} answers: it compares how often one of two is given"


def _binary(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which examples' right answer is the last of the two, which are given it, and the groups."""
    cases = predictions.cases
    return (cases.labels == 1).astype(int), (predictions.answered == 1).astype(int), np.array(cases.groups)


def _indicators(codes: Int[np.ndarray, " example"], count: int | None = None) -> Float[np.ndarray, "example code"]:
    """1 in the column of each example's code."""
    return np.eye(int(codes.max()) + 1 if count is None else count)[codes]


def _with_part(cells: np.ndarray, part: np.ndarray) -> Float[np.ndarray, "example feature"]:
    """Columns that count the examples of each cell, and then those of them that are in the part."""
    return np.concatenate([cells, cells * part[:, None]], axis=1)


def _rates(sums: np.ndarray) -> np.ndarray:
    whole, part = np.split(sums, 2, axis=-1)
    return _shares(part, whole)


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to take a share of."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
