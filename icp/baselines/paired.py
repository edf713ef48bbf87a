"""Baselines that train on whole counterparts: augmentation, consistency, and logit pairing."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from icp.divergence import OUTPUT, js, kl
from icp.errors import IcpError
from icp.pairs import Pairs, PreservingPairs
from icp.step import Objective, Step


@dataclass(frozen=True)
class Paired(Objective):
    """Base of what needs a counterpart of every row, of the kind `wanted`."""

    wanted: ClassVar[type[Pairs]] = PreservingPairs

    def begin(self, model, rows):
        rows.require_pairs(self.wanted, type(self).__name__)
        return {}

    def other(self, step: Step) -> Float[Tensor, "read token"]:
        """The counterparts' logits, where those of the rows are read."""
        return step.run(step.counterparts.batch, step.counterparts.reads(step.reads))


@dataclass(frozen=True)
class CounterfactualAugmentation(Paired):
    """Counterfactual data augmentation (Lu et al. 2018): the counterparts are trained on too, equally labelled."""

    def task(self, step):
        other = torch.nn.functional.cross_entropy(self.other(step), step.targets, reduction="none")
        return (step.row_losses.mean() + step.over_rows(other).mean()) / 2


@dataclass(frozen=True)
class Consistency(Paired):
    """Label-preserving consistency: `weight * D(sg M(x), M(x'))`, `kl` or `js`, in nats."""

    weight: float = 1.0
    divergence: str = "kl"

    def __post_init__(self):
        require_positive("weight", self.weight)
        if self.divergence not in OUTPUT:
            raise IcpError(f"unknown divergence {self.divergence!r} of outputs: use one of {', '.join(OUTPUT)}")

    def penalty(self, step):
        divergence = {"kl": kl, "js": js}[self.divergence]
        return self.weight * step.over_rows(divergence(step.logits.detach(), self.other(step))).mean()


@dataclass(frozen=True)
class LogitPairing(Paired):
    """Counterfactual logit pairing (Garg et al. 2019): `weight` times the mean |logit(x) - logit(x')|."""

    weight: float = 1.0

    def __post_init__(self):
        require_positive("weight", self.weight)

    def penalty(self, step):
        return self.weight * step.over_rows((step.logits - self.other(step)).abs().mean(1)).mean()


def require_positive(name: str, value: float) -> None:
    """Raise `IcpError` for a weight or margin that would reward what it is to penalise."""
    if not (math.isfinite(value) and value > 0):
        raise IcpError(f"{name}={value} has to be a positive number: a penalty of another sign would be a reward")
