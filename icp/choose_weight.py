"""The weight of a penalty, chosen on data that neither training nor the test sees."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icp.apart import OnPairs
from icp.errors import IcpError
from icp.evaluate import evaluate
from icp.evaluation import Evaluation
from icp.finetune import finetune
from icp.held_out import require_apart
from icp.model import Model
from icp.pairs import FlippingPairs, Pairs
from icp.probes import Probe
from icp.step import Objective

if TYPE_CHECKING:
    import pandas

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CRITERIA = {
    "worst_group_accuracy": 1, "accuracy": 1, "f1": 1, "pairwise_accuracy": 1, "contrast_accuracy": 1, "task_loss": -1,
}  # fmt: skip
"""What a weight may be chosen by, each with the sign of what is better: none that one answer to everything fulfils."""
BEFORE = "before"


@dataclass(frozen=True, eq=False)
class WeightChoice:
    """The `model` trained with the `weight` that was best by `criterion`; the smallest such weight, where several are.

    `evaluation` has, on the selection probe, the models of all weights by their weight and the one `before` training.
    """

    weight: float
    model: Model
    criterion: str
    weights: tuple[float, ...]
    evaluation: Evaluation

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """A row a weight: the criterion's mean with its interval on the selection probe, and which was `chosen`.

        The chosen mean is the best of several, and so flatters: what the model is worth is measured on the test.
        """
        import pandas

        rows = [self.evaluation.interval(_name(weight), self.criterion, level) for weight in self.weights]
        table = pandas.DataFrame(rows, index=pandas.Index(self.weights, name="weight"))
        return table.assign(chosen=[weight == self.weight for weight in self.weights])


def choose_weight(
    model: Model,
    train: "Probe | Pairs",
    objective: Callable[[float], Objective | Sequence[Objective]],
    selection: "Probe | Pairs",
    *,
    weights: Sequence[float] = WEIGHTS,
    criterion: str = "worst_group_accuracy",
    flipping: FlippingPairs | None = None,
    test: "Probe | Pairs | None" = None,
    folder: "str | Path | None" = None,
    **options: Any,
) -> WeightChoice:
    """Fine-tune once a weight, and keep the model that is best by `criterion` on `selection`.

    `objective(weight)` gives what is minimised, such as `icp.baselines.Consistency` itself, or `lambda weight:
    icp.Invariance(units, weight)`. `criterion` is one of `icp.evaluate`'s, with the label in it: `accuracy`,
    `worst_group_accuracy`, `f1`, `task_loss`, or of label-`flipping` pairs, which are for selection too,
    `pairwise_accuracy` or `contrast_accuracy`. `test` is looked at only to see that `selection` shares nothing with it.
    With `folder` each weight has a folder of its own there, from which it resumes; other options are those of
    `icp.finetune`, the same for all weights.

    Raises `IcpError` for a criterion that the probe does not allow, and `ProbeError` where `selection` or `flipping`
    share a text with what is trained on, or with `test`; both before anything is trained.
    """
    weights = tuple(weights)
    if not weights or len(set(weights)) < len(weights) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise IcpError(f"the weights {weights} have to be one or more different positive numbers")
    if criterion not in CRITERIA:
        raise IcpError(
            f"a weight cannot be chosen by {criterion!r}, which says nothing of right answers or is no metric: use one "
            f"of {', '.join(CRITERIA)}"
        )
    if criterion in ("pairwise_accuracy", "contrast_accuracy") and flipping is None:
        raise IcpError(f"{criterion!r} needs pairs whose label flips: pass flipping=icp.FlippingPairs(...)")
    asked = {weight: _several(objective(weight)) for weight in weights}
    apart = [one.pairs for some in asked.values() for one in some if isinstance(one, OnPairs)]
    for chosen_on in (selection, *(() if flipping is None else (flipping,))):
        require_apart(chosen_on, [train, *apart], "the choice of a weight needs texts that are not trained on")
        if test is not None:
            require_apart(chosen_on, [test], "the choice of a weight needs texts that are not of the test")
    found = [evaluate({BEFORE: model}, selection, flipping=flipping)]
    metrics = found[0].metrics
    if criterion not in metrics:
        evaluate(model, selection, [criterion], flipping=flipping)  # raises, and says why
    best: tuple[float, float, Model] | None = None
    for weight, some in asked.items():
        place = None if folder is None else Path(folder) / f"weight-{_name(weight)}"
        tuned = finetune(model, train, objective=some, folder=place, **options)
        found.append(evaluate({_name(weight): tuned}, selection, metrics, flipping=flipping))
        value = CRITERIA[criterion] * found[-1].interval(_name(weight), criterion)["mean"]
        if best is None or (value, -weight) > (best[0], -best[1]):
            best = value, weight, tuned
    return WeightChoice(best[1], best[2], criterion, weights, reduce(or_, found))


def _name(weight: float) -> str:
    return str(float(weight))


def _several(given: Objective | Sequence[Objective]) -> tuple[Objective, ...]:
    return (given,) if isinstance(given, Objective) else tuple(given)
