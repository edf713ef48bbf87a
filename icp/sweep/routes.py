"""The shortest way from an edit of one site to P: what of the model has to run again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from icp.hooks import SiteEdits, edited
from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.sites import Site
from icp.sweep.donors import Donors, donors_of
from icp.sweep.plan import Layout
from icp.units import Unit


@dataclass(frozen=True)
class Route:
    """How an edit reaches the output: the block that is entered, and what the edit is written into there.

    `residual`: the residual stream that enters block `start`, which is the first to run. `attention`: what the
    attention of block `start` adds; the rest of the block runs. `hooks`: the site itself, in the running block.
    """

    way: str
    start: int


def route_of(model: Model, site: Site, affine: bool) -> Route:
    """The shortest way that a site, and the user's own hooks, allow."""
    entrance = model.additive_entrance(site) if affine else None
    if entrance is not None:
        return Route("residual", entrance)
    through_attention = site.projection == model.family.attn_out and model.family.attention is not None
    if affine and through_attention and model.unseen(site.layer):
        return Route("attention", site.start)
    return Route("hooks", site.start)


def row_edits(
    donors: Donors,
    site: Site,
    columns: Tensor,
    interventions: list[Intervention],
    which: Tensor,
    examples: Tensor,
    where: Tensor,
    rows: Tensor | None = None,
) -> SiteEdits:
    """Edits of one site: entry `e` applies `interventions[which[e]]` to `columns[e]` in row `rows[e]`, default `e`."""
    rows = torch.arange(len(columns), device=columns.device) if rows is None else rows
    dtype = donors.model.dtype
    chosen = sorted(set(which.tolist()))
    if interventions[chosen[0]].as_affine() is None:
        ones = torch.ones(len(columns), dtype=dtype, device=columns.device)
        return SiteEdits(rows, columns, where, ones, custom=interventions[chosen[0]])
    alphas = torch.tensor([i.as_affine().alpha if i.as_affine() else 1.0 for i in interventions], dtype=dtype)
    shift = None
    for intervention in chosen:
        donor = interventions[intervention].as_affine().donor
        if donor is None:
            continue
        if shift is None:
            shift = torch.zeros(*where.shape, columns.shape[1], dtype=dtype, device=columns.device)
        mine = which == intervention
        shift[mine] = donors.of(donor, site.name, columns[mine], examples[mine])
    return SiteEdits(rows, columns, where, alphas.to(columns.device)[which], shift)


def value_of(model: Model, layout: Layout, donors: Donors, edits: SiteEdits, name: str, examples: Tensor) -> Tensor:
    """P of rows under the edits of one site, by the shortest way that the site allows."""
    site = model.sites[name]
    route = route_of(model, site, edits.custom is None)
    hidden = donors.hidden[route.start][examples - donors.first] if route.start or route.way == "attention" else None
    if route.way == "hooks":
        with edited([(site, edits)]):
            return layout.value(model, examples, start=route.start, hidden=hidden)
    if site.outgoing is None:
        return layout.value(model, examples, start=route.start, hidden=edits.apply(hidden))
    old = donors.values(donors.clean, name, edits.columns, examples)
    added = torch.einsum("rpw,rwd->rpd", edits.of(old) - old, site.outgoing[edits.columns])
    if route.way == "residual":
        return layout.value(model, examples, start=route.start, hidden=hidden + added)
    attention = donors.attention[route.start][examples - donors.first] + added
    return layout.value(model, examples, start=route.start, hidden=hidden, attention=attention)


def columns_needed(model: Model, units: list[Unit], interventions: list[Intervention]) -> dict[str, Tensor]:
    """The columns, per site, of these units and of other units whose values are swapped in."""
    lenders = [donor.unit for donor in donors_of(interventions) if isinstance(donor, UnitDonor)]
    wanted: dict[str, set[int]] = {}
    for unit in [*units, *lenders]:
        wanted.setdefault(unit.site, set()).update(model.site(unit).columns(unit))
    return {name: torch.tensor(sorted(columns), device=model.device) for name, columns in wanted.items()}
