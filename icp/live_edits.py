"""What a training step puts in the place of units' values, on the graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from icp.interventions import CounterpartDonor, Intervention, MeanDonor, UnitDonor
from icp.live import Edits, watched
from icp.sites import Site
from icp.step import Step
from icp.units import Unit


def edits_of(step: Step, units: list[Unit], what: Intervention) -> Edits:
    """Each site of the units with what replaces its values in this step.

    What a donor lends stays on the graph but for a mean, which is of the clean run's values and detached.
    """
    sites = {unit.site: step.model.site(unit) for unit in units}
    affine = what.as_affine()
    if affine is None:
        return [(site, _custom(step, [u for u in units if u.site == name], site, what))
                for name, site in sites.items()]  # fmt: skip
    lent: dict[str, Tensor] = {}
    if isinstance(affine.donor, CounterpartDonor):
        with watched(step.model.module, list(sites.values()), lent):
            step.run(step.counterparts.batch, step.counterparts.reads(step.reads))
        lent = {name: step.counterparts.aligned(values) for name, values in lent.items()}
    edits = []
    for name, site in sites.items():
        mine = [unit for unit in units if unit.site == name]
        columns = torch.tensor([c for unit in mine for c in site.columns(unit)], device=step.model.device)
        match affine.donor:
            case None:
                shift = None
            case CounterpartDonor():
                shift = lent[name][:, :, columns]
            case MeanDonor():
                mask, clean = step.batch.mask[:, :, None], step.clean[name].detach()
                shift = torch.where(mask, clean, 0).sum((0, 1))[columns] / mask.sum()
            case UnitDonor(unit=unit):
                theirs = list(step.model.site(unit).columns(unit))
                shift = step.clean[unit.site][:, :, theirs].repeat(1, 1, len(mine))
        edits.append((site, _affine(step, columns, affine.alpha, shift)))
    return edits


def _affine(step: Step, columns: Tensor, alpha: float, shift: Tensor | None) -> Callable[[Tensor], Tensor]:
    """`a -> alpha * a + shift` of some columns, where there is a token."""
    mask = step.batch.mask[:, :, None]

    def edit(values):
        old = values[:, :, columns]
        new = shift if alpha == 0 else alpha * old + (0 if shift is None else shift)
        new = torch.zeros_like(old) if new is None else new.to(old.dtype).expand_as(old)
        return values.index_copy(2, columns, torch.where(mask, new, old))

    return edit


def _custom(step: Step, units: list[Unit], site: Site, what: Intervention) -> Callable[[Tensor], Tensor]:
    """A user's own intervention, one unit at a time."""
    mask = step.batch.mask

    def edit(values):
        for unit in units:
            columns = torch.tensor(list(site.columns(unit)), device=values.device)
            old = values[:, :, columns]
            values = values.index_copy(2, columns, torch.where(mask[:, :, None], what.replace(old, mask), old))
        return values

    return edit
