"""One training step by hand, without a trainer."""

import torch

import icp
from icp.hooks import Reads, reading
from icp.live import watched
from icp.rows import Rows
from icp.step import Objective, Step


def batch_step(model: icp.Model, probe: icp.Probe, objective: Objective | None = None, number: int = 0) -> Step:
    """All rows of `probe` as one batch; `objective` says which clean values are kept."""
    rows = Rows.of(model, probe)
    index = list(range(len(rows)))
    batch = rows.batch(model, index)
    reads, targets = rows.reads(index, model.device)

    def run(batch, reads: Reads):
        with reading(model.unembed, *model.unembed_weights(), reads):
            return model.module(**batch.arguments(), use_cache=False).logits[:, 0]

    clean: dict[str, torch.Tensor] = {}
    state = {} if objective is None else objective.begin(model, rows)
    with watched(model.module, [] if objective is None else objective.watches(model), clean):
        logits = run(batch, reads)
    return Step(number, model, rows, index, batch, reads, targets, logits, clean, run, state)


def gradients(model: icp.Model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of every parameter, 0 where the loss does not depend on it."""
    named = dict(model.module.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found)}
