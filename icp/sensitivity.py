"""How much an answer hangs on some units: what masking them does to its log odds, and what of that has been lost."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icp.live import Edits, replaced
from icp.model import Model
from icp.rows import Rows
from icp.step import Step
from icp.units import Unit


def log_odds(logits: Float[Tensor, "read token"], targets: Int[Tensor, " read"]) -> Float[Tensor, " read"]:
    """log(p / (1 - p)) of the right token among those that are read, in logits; of two it is their difference."""
    right = torch.nn.functional.one_hot(targets, logits.shape[1]).bool()
    return logits[right] - logits.masked_fill(right, -torch.inf).logsumexp(-1)


def reference_effects(model: Model, rows: Rows, units: list[Unit], batch_size: int = 32) -> Float[Tensor, " read"]:
    """What masking all `units` by zero adds to the log odds of what is right, of every read of `rows`, in logits."""
    found = []
    with model.frozen(), torch.no_grad():
        for some in torch.arange(len(rows)).split(batch_size):
            batch = rows.batch(model, some.tolist())
            reads, targets = rows.reads(some.tolist(), model.device)
            clean = log_odds(model.read(batch, reads), targets)
            with replaced(model.module, zeroed(model, units, batch.mask)):
                found.append(log_odds(model.read(batch, reads), targets) - clean)
    return torch.cat(found).cpu()


def lost(step: Step, units: list[Unit], reference: Float[Tensor, " all"]) -> Float[Tensor, " read"]:
    """`max(0, |e0| - sign(e0) e)` in logits: how far the effect e of masking `units` falls short of e0, its reference.

    `reference` has one effect for each read of all rows.
    """
    with replaced(step.model.module, zeroed(step.model, units, step.batch.mask)):
        masked = step.run(step.batch, step.reads)
    effect = log_odds(masked, step.targets) - log_odds(step.logits, step.targets)
    then = reference[[read for row in step.index for read in step.rows.of_row[row]]].to(effect)
    return (then.abs() - then.sign() * effect).clamp(min=0)


def zeroed(model: Model, units: list[Unit], mask: Bool[Tensor, "row pos"]) -> Edits:
    """Each site of the units with what sets them to 0 where there is a token."""
    edits = []
    for name in sorted({unit.site for unit in units}):
        mine = [column for unit in units if unit.site == name for column in model.sites[name].columns(unit)]
        edits.append((model.sites[name], _zero(torch.tensor(mine, device=mask.device), mask[:, :, None])))
    return edits


def _zero(columns: Tensor, where: Tensor) -> Callable[[Tensor], Tensor]:
    def edit(values):
        return values.index_copy(2, columns, values[:, :, columns].masked_fill(where, 0))

    return edit
