"""Baselines that weigh rows by their group: inverse propensities, and distributionally robust optimisation."""

from dataclasses import dataclass

import torch

from icp.errors import IcpError
from icp.step import Objective


@dataclass(frozen=True)
class InversePropensity(Objective):
    """Rows weighted by P(label) P(cue) / P(label, cue), as counted in the training rows.

    So weighted, the label and the cue, which is the row's group, are independent.
    """

    def begin(self, model, rows):
        rows.require_cells(type(self).__name__)
        labels, cues = rows.labels, rows.cues
        joint = torch.zeros(int(labels.max()) + 1, int(cues.max()) + 1, dtype=torch.float64)
        joint.index_put_((labels, cues), torch.ones(len(labels), dtype=torch.float64), accumulate=True)
        joint /= len(labels)
        weights = joint.sum(1)[labels] * joint.sum(0)[cues] / joint[labels, cues]
        return {"weights": weights.to(model.dtype)}

    def task(self, step):
        return (step.state["weights"][step.index].to(step.logits.device) * step.row_losses).mean()


@dataclass(frozen=True)
class GroupDRO(Objective):
    """Distributionally robust optimisation over (label, cue) groups (Sagawa et al. 2020, algorithm 1).

    Group weights q, uniform at first, are multiplied by exp(`step_size` * the group's loss) at each step and
    normalised; the loss is the sum of q times the groups' losses. The authors draw groups equally often. Rows are drawn
    as they come here, so a group's loss in a batch is the sum over its rows, times all rows over the group's, over the
    batch's size: its mean over batches is the group's loss, however rare the group.
    """

    step_size: float = 0.01

    def __post_init__(self):
        if not self.step_size > 0:
            raise IcpError(f"step_size={self.step_size} has to be positive")

    def begin(self, model, rows):
        rows.require_cells(type(self).__name__)
        sizes = torch.bincount(rows.groups).double()
        return {"q": torch.full_like(sizes, 1 / len(sizes)), "rarity": len(rows) / sizes}

    def task(self, step):
        losses, q = step.row_losses, step.state["q"]
        groups = step.rows.groups[step.index].to(losses.device)
        total = torch.zeros(len(q), dtype=losses.dtype, device=losses.device).index_add(0, groups, losses)
        each = total * step.state["rarity"].to(total) / len(losses)
        q *= torch.exp(self.step_size * each.detach().double().cpu())
        q /= q.sum()
        return (q.to(each) * each).sum()
