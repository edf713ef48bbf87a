"""Leaving out the training rows that do most harm, by the influence of each on a balanced set (TracIn, Pruthi 2020)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from icp.adapters import adapted, put_on
from icp.errors import IcpError
from icp.finetune import finetune
from icp.model import Model
from icp.probes import Probe
from icp.rows import Rows
from icp.weights import copied


def influences(
    model: Model, tuned: Model, train: Probe, reference: Probe, *, progress: bool = True
) -> Float[np.ndarray, " row"]:
    """The product of each training row's gradient with that of the mean loss on `reference`, at `tuned`'s adapters.

    To first order, a step of gradient descent on the row alone lowers the reference's loss by the learning rate times
    this; below 0 it does harm. `tuned` was fine-tuned from `model`.
    """
    if tuned.tuning is None:
        raise IcpError(f"{tuned.name} was not fine-tuned by icp.finetune: influences are of the adapters' weights")
    adapters = adapted(copied(model.module), tuned.tuning.config)
    put_on(adapters, tuned.tuning.weights)
    carried = replace(model, module=adapters.base_model.model)
    trained = [parameter for parameter in carried.module.parameters() if parameter.requires_grad]
    known = Rows.of(model, reference)
    with carried.frozen():
        aim = [torch.zeros_like(parameter) for parameter in trained]
        for row in range(len(known)):
            for total, part in zip(aim, _gradient(carried, known, row, trained)):
                total += part / len(known)
        rows = Rows.of(model, train)
        found = []
        for row in tqdm(range(len(rows)), desc="influences", unit="row", leave=False, disable=not progress):
            mine = _gradient(carried, rows, row, trained)
            found.append(sum((a * b).sum() for a, b in zip(aim, mine)).item())
    return np.array(found)


def without_harmful(
    model: Model,
    train: Probe,
    reference: Probe,
    *,
    share: float = 0.1,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Model:
    """Fine-tune, leave out the `share` of the training rows of least influence on `reference`, and fine-tune anew.

    Raises `IcpError` for a share that is no row, or all of them.
    """
    if not 0 < share < 1:
        raise IcpError(f"share={share} is not between 0 and 1")
    harmful = round(share * len(train))
    if not 0 < harmful < len(train):
        raise IcpError(
            f"share={share} of {len(train)} rows leaves out {harmful}: give one that leaves out some and keeps some"
        )
    folder = options.pop("folder", None)
    places = (None, None) if folder is None else (f"{folder}/first", f"{folder}/second")
    begun = finetune(model, train, arguments=arguments, folder=places[0], **options)
    found = influences(model, begun, train, reference, progress=options.get("progress", True))
    order = np.argsort(found, kind="stable")
    kept = sorted(order[harmful:].tolist())
    rest = Probe(tuple(train.examples[row] for row in kept))
    return finetune(model, rest, arguments=arguments, folder=places[1], **options)


def _gradient(model: Model, rows: Rows, row: int, trained: list[torch.nn.Parameter]) -> list[Tensor]:
    batch = rows.batch(model, [row])
    reads, targets = rows.reads([row], model.device)
    loss = torch.nn.functional.cross_entropy(model.read(batch, reads), targets)
    return list(torch.autograd.grad(loss, trained))
