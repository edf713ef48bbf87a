"""Counterfactual invariance by maximum mean discrepancy (Veitch et al. 2021)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icp.errors import IcpError
from icp.step import Objective


@dataclass(frozen=True)
class MMD(Objective):
    """`weight` times the squared MMD of the log-probabilities of the answers between the cue's values.

    `direction` says how text and label hang together, which decides what has to be independent: where the text causes
    the label (`causal`) the output is independent of the cue, where the label causes the text (`anti-causal`) it is so
    among rows of one label. The kernel is a Gaussian of standard deviation `bandwidth`, in nats; by default that is the
    median distance between two rows of the batch, since a kernel much narrower than the outputs lie apart gives no
    gradient that brings them together. Cells of the batch with a single cue give nothing.
    """

    direction: str
    weight: float = 1.0
    bandwidth: float | None = None

    def __post_init__(self):
        if self.direction not in ("causal", "anti-causal"):
            raise IcpError(
                f"unknown direction {self.direction!r}: use 'causal' where the text causes the label, 'anti-causal' "
                "where the label causes the text"
            )
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise IcpError(f"bandwidth={self.bandwidth} has to be positive")

    def begin(self, model, rows):
        rows.require_cells(type(self).__name__)
        return {}

    def penalty(self, step):
        index = step.index
        cues, labels = step.rows.cues[index].to(step.logits.device), step.rows.labels[index].to(step.logits.device)
        conditions = labels if self.direction == "anti-causal" else torch.zeros_like(labels)
        values = step.logits.log_softmax(1)
        bandwidth = median_distance(values) if self.bandwidth is None else self.bandwidth
        found = [
            squared_mmd(
                values, (conditions == condition) & (cues == cue), (conditions == condition) & (cues != cue), bandwidth
            )
            for condition in conditions.unique()
            for cue in cues.unique()
        ]
        return self.weight * sum(found) / len(found)


def median_distance(values: Float[Tensor, "row token"]) -> float:
    """Between two of the rows; 1 where that is 0."""
    apart = torch.nn.functional.pdist(values.detach())
    return float(apart.median()) or 1.0 if len(apart) else 1.0


def squared_mmd(
    values: Float[Tensor, "row token"], one: Bool[Tensor, " row"], other: Bool[Tensor, " row"], bandwidth: float
) -> Float[Tensor, ""]:
    """The biased estimate of the squared MMD between two sets of rows; 0 where one is empty."""
    if not one.any() or not other.any():
        return values.new_zeros(())
    kernel = torch.exp(-torch.cdist(values, values).square() / (2 * bandwidth**2))
    within = kernel[one][:, one].mean() + kernel[other][:, other].mean()
    return within - 2 * kernel[one][:, other].mean()
