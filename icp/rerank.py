"""Which units carry the cue now: first-order indirect effects in the model as it is being trained, one backward pass.

IE(u) = sum over positions of (a'(u) - a(u)) . dP/da(u), the values a' those of the counterpart's run, counted positive
where P moves as the cue as a whole moves it, the mean over rows: attribution patching, as `icp.indirect_effect` of
`icp.measure(..., method="linear")` has it of a model that is at rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icp.errors import IcpError, NotFiniteError
from icp.hooks import captured
from icp.sensitivity import log_odds
from icp.step import Step
from icp.units import Unit


@dataclass(frozen=True)
class Rerank:
    """At the first step and every `every` steps after it, take the `top` candidates of largest indirect effect.

    It is estimated to first order in the model as it then is, without dropout, on `rows` training rows drawn anew each
    time, with P the log odds of what is right (of two answers their logit difference), the mean over what is read of a
    row. It costs about one plain step on so many rows, and one forward pass of their counterparts.
    """

    every: int
    top: int
    rows: int = 64

    def __post_init__(self):
        for name in ("every", "top", "rows"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise IcpError(f"{name}={value!r} of Rerank is not a whole number of at least 1")


def live_indirect_effects(
    step: Step, units: Sequence[Unit], rows: Sequence[int], batch_size: int
) -> Float[Tensor, " unit"]:
    """The mean indirect effect of each unit over these training rows, in logits; see the module.

    Queries and keys are taken as other units are, without the QK fix. Raises `NotFiniteError` where one is not finite.
    """
    total = torch.zeros(len(units), device=step.model.device, dtype=step.logits.dtype)
    names = sorted({unit.site for unit in units})
    sites = {name: step.model.sites[name] for name in names}
    columns, owners = {}, {}
    for name in names:
        mine = [
            (column, i) for i, unit in enumerate(units) if unit.site == name for column in sites[name].columns(unit)
        ]
        columns[name], owners[name] = torch.tensor(mine, device=step.model.device).T
    with step.model.frozen():
        for start in range(0, len(rows), batch_size):
            index = [int(row) for row in rows[start : start + batch_size]]
            batch, others = step.rows.batch(step.model, index), step.rows.counterparts(step.model, index)
            reads, targets = step.rows.reads(index, batch.ids.device)
            clean: dict[str, Tensor] = {}
            lent: dict[str, Tensor] = {}
            with torch.enable_grad(), captured(list(sites.values()), clean, differentiable=True):
                p = _means(log_odds(step.run(batch, reads), targets), reads.rows, len(index))
            with torch.no_grad(), captured(list(sites.values()), lent):
                other = _means(log_odds(step.run(others.batch, others.reads(reads)), targets), reads.rows, len(index))
            slopes = torch.autograd.grad(p.sum(), [clean[name] for name in names])
            direction = (other - p.detach()).sign()[:, None]
            for name, slope in zip(names, slopes):
                change = torch.where(batch.mask[:, :, None], others.aligned(lent[name]) - clean[name].detach(), 0)
                each = direction * (change * slope).to(total.dtype).sum(1)
                total.index_add_(0, owners[name], each[:, columns[name]].sum(0))
    if not torch.isfinite(total).all():
        raise NotFiniteError(
            f"the indirect effects at step {step.number + 1} are not finite: lower the learning rate, or train in "
            "float32"
        )
    return total / len(rows)


def reranked(step: Step, units: Sequence[Unit], rerank: Rerank, seed: int) -> list[int]:
    """The numbers of the `rerank.top` units of largest indirect effect, in ascending order."""
    random = np.random.default_rng([seed, step.number, 1])
    rows = sorted(random.permutation(len(step.rows))[: rerank.rows].tolist())
    effects = live_indirect_effects(step, units, rows, len(step.index))
    return sorted(effects.argsort(descending=True, stable=True)[: rerank.top].tolist())


def _means(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """The mean of the reads of each row."""
    zeros = torch.zeros(count, dtype=values.dtype, device=values.device)
    return zeros.index_add(0, rows, values) / zeros.index_add(0, rows, torch.ones_like(values))
