"""What a training step hands to the losses, and what a loss is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icp.batch import Batch
from icp.hooks import Reads
from icp.model import Model
from icp.rows import Counterparts, Rows
from icp.sites import Site


@dataclass(frozen=True, eq=False)
class Step:
    """One batch of training rows, and what the model makes of it.

    `logits` [read, token] are on the graph, and `targets` [read] the columns that are right; of rows that are
    classified, one read each, with a column an answer. `clean` holds the values [row, pos, width] of the sites that the
    objective watches, on the graph too. `index` are the rows' numbers in the training set, `number` that of the step.
    `run(batch, reads)` is another run, with the dropout that this step had, under whatever hooks are installed. `state`
    is the objective's own, which it may change.
    """

    number: int
    model: Model
    rows: Rows
    index: list[int]
    batch: Batch
    reads: Reads
    targets: Int[Tensor, " read"]
    logits: Float[Tensor, "read token"]
    clean: dict[str, Tensor]
    run: Callable[[Batch, Reads], Tensor]
    state: dict[str, Tensor]

    @property
    def row_losses(self) -> Float[Tensor, " row"]:
        """-log p(right) of each row in nats, the mean over what is read of it."""
        return self.over_rows(torch.nn.functional.cross_entropy(self.logits, self.targets, reduction="none"))

    def over_rows(self, values: Float[Tensor, " read"]) -> Float[Tensor, " row"]:
        """The mean over the reads of each row."""
        zeros = torch.zeros(len(self.index), dtype=values.dtype, device=values.device)
        counts = zeros.index_add(0, self.reads.rows, torch.ones_like(values))
        return zeros.index_add(0, self.reads.rows, values) / counts

    @property
    def flipped(self) -> Int[Tensor, " read"]:
        """The columns that are right for the counterparts of label-flipping pairs, one read each."""
        return self.rows.flipped[self.index].to(self.targets.device)

    @cached_property
    def counterparts(self) -> Counterparts:
        return self.rows.counterparts(self.model, self.index)


@dataclass(frozen=True)
class Objective:
    """What a fine-tune minimises: the mean cross-entropy of its rows. Subclasses replace that or add a penalty.

    A subclass is a frozen dataclass, so that its label tells it from another. What changes while training is kept as
    tensors in `Step.state`, saved in checkpoints and, where it is of floating point, averaged over processes.
    """

    @property
    def label(self) -> str:
        return repr(self)

    def begin(self, model: Model, rows: Rows) -> dict[str, Tensor]:
        """The state before the first step. Raises `IcpError` for a model or rows that it cannot be trained on."""
        return {}

    def require_batch(self, rows: Rows, size: int) -> None:
        """Raise `IcpError` where batches of `size` rows are too few for what it compares."""

    def watches(self, model: Model) -> list[Site]:
        """The sites whose clean values a step needs."""
        return []

    def task(self, step: Step) -> Float[Tensor, ""]:
        return step.row_losses.mean()

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        return step.logits.new_zeros(())
