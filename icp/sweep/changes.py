"""What an intervention changes at a site, as a first-order estimate takes it: all units of the site at once.

A query or key is taken at its heads instead (the QK fix of AtP*, Kramar et al. 2024, arXiv 2403.00745). The softmax
saturates, so the attention pattern A is recomputed with the edited queries (or keys), and only what follows it is taken
to first order. The values v stay, so what the change of the pattern adds to a head's output is
sum_j dA_ij v_j = z'_i - z_i. A head's pattern depends on its own query and on the key of its group alone, so one
partial forward pass of the block serves all its queries, or all its keys.

The paper's nodes are single positions. Here the queries (or keys) at all the positions that are edited change together;
with `positions=(i, i + 1)` it is the paper's node.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icp.batch import Batch
from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.sites import Site
from icp.sweep.donors import Donors
from icp.units import Unit, site_name


@dataclass(frozen=True, eq=False)
class Change:
    """What intervention number `which` changes at one site; times a gradient there it is the estimate of dP.

    `added()` works it out: [example, pos, width], 0 where nothing is edited. Unit number `rows[k]` of the list that was
    asked for owns the columns from `at[k] * width` on, `width` of them.
    """

    site: Site
    added: Callable[[], Tensor]
    width: int
    at: Int[Tensor, " unit"]
    rows: Int[Tensor, " unit"]
    which: int

    def estimate(
        self, gradient: Float[Tensor, "example pos width"], added: Float[Tensor, "example pos width"]
    ) -> Float[Tensor, "unit example"]:
        """Gradient times change, summed over the positions and over each unit's columns."""
        per_column = (gradient * added).sum(1)
        return per_column.unflatten(1, (-1, self.width)).sum(2)[:, self.at].T


@dataclass(frozen=True, eq=False)
class Clean:
    """Some examples without intervention: values [example, pos, width] of sites by name, and what enters each block.

    `where` [example, pos] says which positions are edited.
    """

    batch: Batch
    examples: Int[Tensor, " example"]
    where: Tensor
    values: dict[str, Tensor]
    entered: dict[int, Tensor]


def place_of(unit: Unit, qk_fix: bool) -> str:
    """The site where the gradient of a unit's estimate is taken."""
    return site_name("head", unit.layer, unit.tower) if qk_fix and unit.kind in ("query", "key") else unit.site


def changes(
    model: Model, units: list[Unit], interventions: list[Intervention], donors: Donors, clean: Clean, qk_fix: bool
) -> list[Change]:
    """Every change that these interventions make of these units, those of one site and one width together."""
    members: dict[tuple[str, int], list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault((unit.site, len(model.sites[unit.site].columns(unit))), []).append(index)
    found = []
    for (name, width), indices in members.items():
        site, place = model.sites[name], model.sites[place_of(units[indices[0]], qk_fix)]
        rows = torch.tensor(indices, device=model.device)
        at = torch.tensor([site.columns(units[i])[0] // width for i in indices], device=model.device)
        for which, what in enumerate(interventions):
            added = partial(_added, site, width, what, donors, clean)
            if place is not site:
                added = partial(_through_the_pattern, model, site, place, added, clean)
            found.append(Change(place, added, width * place.width // site.width, at, rows, which))
    return found


def _added(site: Site, width: int, what: Intervention, donors: Donors, clean: Clean) -> Tensor:
    """I(a) - a of every unit of a site, `width` columns each, [example, pos, width]."""
    affine, value = what.as_affine(), clean.values[site.name]
    added = (affine.alpha - 1.0) * value
    if affine.donor is not None:
        lent_width = width if isinstance(affine.donor, UnitDonor) else site.width
        columns = torch.arange(lent_width, device=value.device).expand(len(value), -1)
        lent = donors.of(affine.donor, site.name, columns, clean.examples)
        added = added + lent.repeat(1, 1, site.width // lent.shape[2])
    return torch.where(clean.where[:, :, None], added, 0)


def _through_the_pattern(model: Model, site: Site, heads: Site, added: Callable[[], Tensor], clean: Clean) -> Tensor:
    """z' - z [example, pos, width] of all heads of a block, with its queries (or keys) changed by `added()`."""
    change = added()
    hidden = clean.entered[site.start] if site.start else None
    handle = site.hook(lambda value: value + change)
    try:
        with torch.no_grad():
            edited = model.reaching(clean.batch, heads, hidden)
    finally:
        handle.remove()
    return edited - clean.values[heads.name]
