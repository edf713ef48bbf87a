"""Adversarial debiasing (Zhang, Lemoine and Mitchell 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from icp.errors import IcpError
from icp.step import Objective, Step


@dataclass(frozen=True)
class Adversarial(Objective):
    """An adversary predicts the cue from the answers' log-probabilities, and is to be given nothing to go by.

    With the adversary's loss L_A, each trained tensor W gets the gradient of the task less its projection on that of
    L_A (their Frobenius product over its square, times it), less `alpha` times that of L_A. With `odds` the adversary
    sees the label as well, for equalised odds; without, for demographic parity. It is a linear classifier, moved at
    each step by `learning_rate` times its own gradient over the mean square of its inputs: however far the outputs lie
    apart, a rate below 4 converges on fixed ones.
    """

    alpha: float = 1.0
    odds: bool = True
    learning_rate: float = 1.0

    def __post_init__(self):
        if not (self.alpha >= 0 and self.learning_rate > 0):
            raise IcpError(f"alpha={self.alpha} is at least 0 and learning_rate={self.learning_rate} positive")

    def begin(self, model, rows):
        rows.require_cells(type(self).__name__)
        classes = len(rows.columns)
        inputs = classes * (1 + classes if self.odds else 1) + 1
        return {"adversary": torch.zeros(inputs, int(rows.cues.max()) + 1)}

    def penalty(self, step):
        weights = step.state["adversary"].clone().to(step.logits.device).requires_grad_()
        seen = self.inputs(step)
        loss = self.adversary_loss(step, seen, weights)
        trained = [parameter for parameter in step.model.module.parameters() if parameter.requires_grad]
        *against, own = torch.autograd.grad(loss, [*trained, weights], retain_graph=True, allow_unused=True)
        task = torch.autograd.grad(self.task(step), trained, retain_graph=True, allow_unused=True)
        scale = seen.detach().square().sum(1).mean()
        step.state["adversary"] -= (self.learning_rate / scale * own).cpu()
        surrogate = step.logits.new_zeros(())
        for parameter, theirs, ours in zip(trained, against, task):
            if theirs is not None and ours is not None:
                surrogate = surrogate + (parameter * self.change(ours, theirs)).sum()
        value = -self.alpha * loss.detach()
        return surrogate - surrogate.detach() + value

    def change(self, task: Tensor, adversary: Tensor) -> Tensor:
        """What is added to the task's gradient of one tensor."""
        square = adversary.square().sum()
        share = torch.where(square > 0, (task * adversary).sum() / square.clamp(min=torch.finfo(square.dtype).tiny), 0)
        return -(share + self.alpha) * adversary

    def inputs(self, step: Step) -> Tensor:
        """What the adversary sees of each row [row, input]: log-probabilities, 1, and the first times the label."""
        values = step.logits.log_softmax(1)
        seen = [values, values.new_ones(len(values), 1)]
        if self.odds:
            labels = step.rows.labels[step.index].to(values.device)
            of_label = torch.nn.functional.one_hot(labels, len(step.rows.columns)).to(values.dtype)
            seen.append((values[:, :, None] * of_label[:, None, :]).flatten(1))
        return torch.cat(seen, 1)

    def adversary_loss(self, step: Step, seen: Tensor, weights: Tensor) -> Tensor:
        """The cross-entropy of the cue in nats."""
        cues = step.rows.cues[step.index].to(seen.device)
        return torch.nn.functional.cross_entropy(seen @ weights.to(seen.dtype), cues)
