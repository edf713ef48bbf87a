"""Before and after: numbers with intervals, per model and metric."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from icp.errors import ArtefactError, IcpError, ProbeError
from icp.files import writing_file
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, NextTokenLoss, Property, TaskLoss
from icp.sweep.plan import Layout, Plan, within_memory

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-evaluation", 1
METRICS = ("gap", "accuracy", "task_loss", "next_token_loss")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`values[model][metric]` holds one number an example, so that models can be compared example by example."""

    values: dict[str, dict[str, np.ndarray]]

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """One row a model and metric: the mean over examples, its interval (Wilson's for accuracy), and the count."""
        import pandas

        rows = [
            {"model": model, "metric": metric, **(_share if metric == "accuracy" else _mean)(values, level)}
            for model, metrics in self.values.items()
            for metric, values in metrics.items()
        ]
        return pandas.DataFrame(rows).set_index(["metric", "model"]).sort_index(sort_remaining=False)

    def change(self, before: str, after: str, level: float = 0.95) -> "pandas.DataFrame":
        """One row a metric: the mean paired difference after - before, its interval, and it relative to before.

        The interval is t's; for accuracy it joins the Wilson intervals of the shares that became right and that became
        wrong, which is cautious and has a width even where no example changed.
        """
        import pandas

        for name in (before, after):
            if name not in self.values:
                raise IcpError(f"no model {name!r} was evaluated: there are {', '.join(self.values)}")
        rows: dict[str, dict[str, float]] = {}
        for metric, old in self.values[before].items():
            difference = self.values[after][metric] - old
            rows[metric] = (_share_change if metric == "accuracy" else _mean)(difference, level)
            rows[metric]["relative"] = rows[metric]["mean"] / old.mean() if old.mean() else float("nan")
        return pandas.DataFrame(rows).T.rename_axis("metric")

    def save(self, path: "str | Path") -> Path:
        """Write JSON: every number of every example."""
        values = {
            model: {metric: v.tolist() for metric, v in metrics.items()} for model, metrics in self.values.items()
        }
        with writing_file(path) as work:
            work.write_text(json.dumps({"format": FORMAT, "version": VERSION, "values": values}))
        return Path(path)

    @classmethod
    def load(cls, path: "str | Path") -> "Evaluation":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        try:
            stored = json.loads(Path(path).read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ArtefactError(
                f"{path} is not an evaluation ({error}): give a file that Evaluation.save wrote"
            ) from error
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise ArtefactError(f"{path} is not an evaluation: give a file that Evaluation.save wrote")
        if stored.get("version") != VERSION:
            raise ArtefactError(f"{path} has version {stored.get('version')}, this icp reads version {VERSION}")
        try:
            values = stored["values"].items()
            return cls({m: {k: np.array(v, dtype=float) for k, v in metrics.items()} for m, metrics in values})
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise ArtefactError(f"{path} is damaged ({error!r}): evaluate again") from error


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
    return Evaluation(
        {n: {metric: _metric(m, probe, metric, property) for metric in metrics} for n, m in named.items()}
    )


def clean_values(model: Model, probe: Probe, property: Property) -> np.ndarray:
    """P [example] without intervention."""
    with model.frozen(), torch.no_grad():
        layout = Layout.of(model, probe.tokenize(model.tokenizer, property), "right")
        plan = Plan.default(layout, model.vocabulary_read(property))
        clean, _ = within_memory(plan, partial(layout.clean, model))
        return clean.double().cpu().numpy()


def _metric(model: Model, probe: Probe, metric: str, property: Property) -> np.ndarray:
    match metric:
        case "gap":
            return np.abs(clean_values(model, probe, property) - clean_values(model, probe.swapped(), property))
        case "accuracy":
            return _right(model, probe)
        case "task_loss":
            return clean_values(model, probe, TaskLoss())
    return clean_values(model, probe, NextTokenLoss())


def _right(model: Model, probe: Probe) -> np.ndarray:
    """1 where the right answer has the largest logit among the answers."""
    return (clean_values(model, probe, _Margin()) > 0).astype(float)


class _Margin(TaskLoss):
    """The right answer's logit less the largest of the others."""

    def __init__(self):
        super().__init__(among_answers=True)

    def of(self, logits, targets):
        picked = logits.gather(1, targets)
        return picked[:, 0] - picked[:, 1:].amax(1)


def _share(values: np.ndarray, level: float) -> dict[str, float]:
    """A share of right answers with its Wilson interval, which stays between 0 and 1 and has a width at both ends."""
    from scipy.stats import binomtest

    low, high = binomtest(int(values.sum()), len(values)).proportion_ci(level, "wilson")
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


def _share_change(difference: np.ndarray, level: float) -> dict[str, float]:
    """The mean of differences of 0 and 1, between the worst and the best that the shares gained and lost allow."""
    gained, lost = _share(difference > 0, level), _share(difference < 0, level)
    low, high = gained["low"] - lost["high"], gained["high"] - lost["low"]
    return {"mean": float(difference.mean()), "low": low, "high": high, "n": len(difference)}


def _mean(values: np.ndarray, level: float) -> dict[str, float]:
    """A mean with its t-interval; NaN where there is one example."""
    from scipy.stats import t

    count, mean = len(values), float(values.mean())
    half = float("nan")
    if count > 1:
        half = float(t.ppf(0.5 + level / 2, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": count}
