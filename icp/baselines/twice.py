"""Just train twice (Liu et al. 2021): a first model's errors weigh more in the second."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from icp.errors import IcpError
from icp.finetune import finetune
from icp.model import Model
from icp.pairs import Pairs
from icp.probes import Probe
from icp.properties import ErrorRate
from icp.step import Objective
from icp.sweep.plan import clean_values


@dataclass(frozen=True)
class Weighted(Objective):
    """The loss of each training row times its weight; weights are scaled to a mean of 1."""

    weights: tuple[float, ...]

    def __post_init__(self):
        if not self.weights or min(self.weights) < 0 or sum(self.weights) == 0:
            raise IcpError("weights are numbers from 0, and one of them at least is above it")

    @property
    def label(self) -> str:
        digest = hashlib.sha256(json.dumps(self.weights).encode()).hexdigest()[:16]
        return f"Weighted({len(self.weights)} weights, {digest})"

    def begin(self, model, rows):
        if len(self.weights) != len(rows):
            raise IcpError(f"{len(self.weights)} weights were given for {len(rows)} rows: give one a row")
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return {"weights": (weights / weights.mean()).to(model.dtype)}

    def task(self, step):
        return (step.state["weights"][step.index].to(step.logits.device) * step.row_losses).mean()


def just_train_twice(
    model: Model,
    train: "Probe | Pairs",
    *,
    upweight: float = 5.0,
    first: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Model:
    """Fine-tune `model`, then fine-tune it anew with the rows that the first result gets wrong weighted by `upweight`.

    `first` are training arguments of the first run where they differ, such as fewer epochs; the rest is as in
    `icp.finetune`. Raises `IcpError` where the first result gets every row right, since nothing would be upweighted.
    """
    probe = train.probe if isinstance(train, Pairs) else train
    folder = options.pop("folder", None)
    places = (None, None) if folder is None else (f"{folder}/first", f"{folder}/second")
    begun = finetune(model, train, arguments={**(arguments or {}), **(first or {})}, folder=places[0], **options)
    wrong = clean_values(begun, probe, ErrorRate()) > 0
    if not wrong.any():
        raise IcpError(
            f"the first model gets all {len(probe)} rows right, so none can be upweighted: give first= fewer epochs or "
            "a lower learning rate"
        )
    objective = Weighted(tuple(upweight if error else 1.0 for error in wrong.tolist()))
    return finetune(model, train, objective=objective, arguments=arguments, folder=places[1], **options)
