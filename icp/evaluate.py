"""What models do on a probe, measured."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from icp.bound import Property
from icp.errors import IcpError, ProbeError
from icp.evaluation import Evaluation, Inputs
from icp.judged import Judged
from icp.metrics import JUDGED, judge
from icp.model import Model
from icp.pairs import FlippingPairs, Pairs, PreservingPairs, require_kind
from icp.predictions import BINS, Cases, answered, probabilities_of
from icp.probes import Probe
from icp.properties import ErrorRate, LogitDifference, NextTokenLoss, TaskLoss, require_label
from icp.sweep.plan import clean_values

FLIPPING = ("sensitivity", "contrast_accuracy", "pairwise_accuracy")
"""The metrics of label-flipping pairs."""
METRICS = ("gap", "accuracy", "task_loss", "next_token_loss", "consistency", *FLIPPING, *JUDGED)


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
    | `contrast_accuracy` | `flipping` | 1 where x' is given its own, flipped label: accuracy on a contrast set |
    | `pairwise_accuracy` | `flipping` | 1 where x and x' both are given their labels |

    A model that always gives the same answer is consistent, so consistency and sensitivity come together or not at all.
    Pairwise accuracy is the contrast consistency of Gardner et al. (2020). Others are no means over examples; all
    need labels, and the same answers in every example.

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
    if flipping is None and (missing := [metric for metric in FLIPPING if metric in metrics]):
        raise IcpError(f"{missing[0]!r} needs pairs whose label flips: pass flipping=icp.FlippingPairs(...)")
    if len(together) == 1:
        raise IcpError(f"{together[0]!r} says little alone, since one answer to everything is consistent: name both")
    property = LogitDifference() if property is None else property
    require_label(property, stored=True)
    asked = tuple(metric for metric in JUDGED if metric in metrics)
    judged = Judged(Cases.of(probe), {}, asked, bins) if asked else None
    each = [metric for metric in metrics if metric not in JUDGED]
    on = {metric: flipping.probe if metric in FLIPPING else probe for metric in each}
    return Evaluation(
        {n: _values(m, probe, flipping, each, property) for n, m in named.items()},
        {metric: Inputs(_told(metric, on[metric], flipping, property), on[metric].clusters) for metric in each},
        {n: m.binding for n, m in named.items()},
        judged and replace(judged, probabilities={n: probabilities_of(m, probe) for n, m in named.items()}),
    )


def _allowed(probe: Probe, flipping: FlippingPairs | None, bins: int) -> list[str]:
    """The metrics that a probe has what it takes for."""
    paired = all(example.counterpart is not None for example in probe.examples)
    labelled = all(example.label is not None for example in probe.examples)
    metrics = ["gap"] * paired + ["accuracy", "task_loss"] * labelled
    metrics += ["consistency", "sensitivity"] * (paired and flipping is not None)
    metrics += ["contrast_accuracy", "pairwise_accuracy"] * (flipping is not None)
    if labelled and len({example.answers for example in probe.examples}) == 1 and len(probe.examples[0].answers) > 1:
        cases = Cases.of(probe)
        metrics += [metric for metric in JUDGED if not judge(metric, bins).problem(cases)]
    return metrics


def _told(metric: str, probe: Probe, flipping: FlippingPairs | None, property: Property) -> str:
    """What tells the inputs of a metric from others."""
    if metric in ("contrast_accuracy", "pairwise_accuracy"):
        return f"{flipping.digest} {metric}"
    return f"{probe.digest} {property.label if metric == 'gap' else metric}"


def _values(
    model: Model, probe: Probe, flipping: FlippingPairs | None, metrics: list[str], property: Property
) -> dict[str, np.ndarray]:
    """Each metric [example]; the answers that several are read off are had once."""

    @cache
    def answers(of_flipping: bool, counterparts: bool) -> np.ndarray:
        inputs = flipping.probe if of_flipping else probe
        return answered(probabilities_of(model, inputs.swapped() if counterparts else inputs))

    def value(metric: str) -> np.ndarray:
        match metric:
            case "gap":
                return np.abs(clean_values(model, probe, property) - clean_values(model, probe.swapped(), property))
            case "accuracy":
                return 1 - clean_values(model, probe, ErrorRate())
            case "task_loss":
                return clean_values(model, probe, TaskLoss())
            case "next_token_loss":
                return clean_values(model, probe, NextTokenLoss())
        one, other = (answers(metric in FLIPPING, counterparts) for counterparts in (False, True))
        known = (one >= 0) & (other >= 0)
        match metric:
            case "consistency":
                return (one == other) & known
            case "sensitivity":
                return (one != other) & known
            case "contrast_accuracy":
                return other == np.array(flipping.flipped)
        labels = np.array([example.label for example in flipping.probe.examples])
        return (one == labels) & (other == np.array(flipping.flipped))

    return {metric: value(metric).astype(float) for metric in metrics}
