"""What models do on a probe, measured."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from icp.errors import IcpError, ProbeError
from icp.evaluation import Evaluation, Inputs
from icp.judged import Judged
from icp.metrics import JUDGED, judge
from icp.model import Model
from icp.pairs import FlippingPairs, Pairs, PreservingPairs, require_kind
from icp.predictions import BINS, Cases, answered, probabilities_of
from icp.probes import Probe
from icp.properties import ErrorRate, LogitDifference, NextTokenLoss, Property, TaskLoss, require_label
from icp.sweep.plan import clean_values

METRICS = ("gap", "accuracy", "task_loss", "next_token_loss", "consistency", "sensitivity", *JUDGED)


def evaluate(
    models: Model | Mapping[str, Model],
    probe: Probe | Pairs,
    metrics: "tuple[str, ...] | list[str] | None" = None,
    property: Property | None = None,
    *,
    flipping: FlippingPairs | None = None,
    bins: int = BINS,
) -> Evaluation:
    """Evaluate one model, or several by name, on the same probe.

    | metric | needs | per example |
    |---|---|---|
    | `gap` | counterparts | the absolute difference of `property` (default: logit difference) between x and x' |
    | `accuracy` | labels | 1 where the right answer has the largest logit among the answers |
    | `task_loss` | labels | -log p(right answer), nats |
    | `next_token_loss` | nothing | nats a token of the text |
    | `consistency` | counterparts, `flipping` | 1 where x and x', which differ in the cue, are given the same answer |
    | `sensitivity` | `flipping` | 1 where x and x', which differ in the label, are given different answers |

    A model that always gives the same answer is consistent, so consistency and sensitivity come together or not at all.
    The others are no means over examples; all need labels, and the same answers in every example.

    | metric | needs | over the probe |
    |---|---|---|
    | `f1` | examples of every answer | of the last of two answers, the positive class; of more, the mean over all |
    | `worst_group_accuracy` | examples of every (label, group) | the least accuracy of any of these |
    | `demographic_parity_difference` | two answers, groups | difference over groups in how often the last is given |
    | `equal_opportunity_difference` | the same | the same of the examples for which it is right |
    | `ece` | nothing more | expected calibration error over `bins` equal bins of the confidence |

    By default the metrics that the probe allows, next-token loss only when named. Raises `IcpError` for a metric that
    it does not allow, and says why.
    """
    named = {models.name: models} if isinstance(models, Model) else dict(models)
    if not named:
        raise IcpError("no model was given to evaluate: pass a model, or several by name")
    if isinstance(probe, Pairs):
        require_kind(probe.probe, type(probe), PreservingPairs, "an evaluation")
        probe = probe.probe
    metrics = _allowed(probe, flipping, bins) if metrics is None else list(metrics)
    if not metrics:
        raise ProbeError("the probe has neither counterparts nor labels: name metrics=['next_token_loss']")
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown:
        raise IcpError(f"unknown metric {unknown[0]!r}: use one of {', '.join(METRICS)}")
    together = [metric for metric in ("consistency", "sensitivity") if metric in metrics]
    if together and flipping is None:
        raise IcpError(f"{together[0]!r} needs pairs whose label flips too: pass flipping=icp.FlippingPairs(...)")
    if len(together) == 1:
        raise IcpError(f"{together[0]!r} says little alone, since one answer to everything is consistent: name both")
    property = LogitDifference() if property is None else property
    require_label(property, stored=True)
    asked = tuple(metric for metric in JUDGED if metric in metrics)
    judged = Judged(Cases.of(probe), {}, asked, bins) if asked else None
    each = [metric for metric in metrics if metric not in JUDGED]
    on = {metric: flipping.probe if metric == "sensitivity" else probe for metric in each}
    return Evaluation(
        {n: {metric: _metric(m, on[metric], metric, property) for metric in each} for n, m in named.items()},
        {
            metric: Inputs(f"{on[metric].digest} {property.label if metric == 'gap' else metric}", on[metric].clusters)
            for metric in each
        },
        {n: m.binding for n, m in named.items()},
        judged and replace(judged, probabilities={n: probabilities_of(m, probe) for n, m in named.items()}),
    )


def _allowed(probe: Probe, flipping: FlippingPairs | None, bins: int) -> list[str]:
    """The metrics that a probe has what it takes for."""
    paired = all(example.counterpart is not None for example in probe.examples)
    labelled = all(example.label is not None for example in probe.examples)
    metrics = ["gap"] * paired + ["accuracy", "task_loss"] * labelled
    metrics += ["consistency", "sensitivity"] * (paired and flipping is not None)
    if labelled and len({example.answers for example in probe.examples}) == 1 and len(probe.examples[0].answers) > 1:
        cases = Cases.of(probe)
        metrics += [metric for metric in JUDGED if not judge(metric, bins).problem(cases)]
    return metrics


def _metric(model: Model, probe: Probe, metric: str, property: Property) -> np.ndarray:
    match metric:
        case "gap":
            return np.abs(clean_values(model, probe, property) - clean_values(model, probe.swapped(), property))
        case "accuracy":
            return 1 - clean_values(model, probe, ErrorRate())
        case "task_loss":
            return clean_values(model, probe, TaskLoss())
        case "next_token_loss":
            return clean_values(model, probe, NextTokenLoss())
    one, other = (answered(probabilities_of(model, inputs)) for inputs in (probe, probe.swapped()))
    alike = one == other if metric == "consistency" else one != other
    return (alike & (one >= 0) & (other >= 0)).astype(float)
