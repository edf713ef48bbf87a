"""Exact effects: every unit really intervened on, starting at the block it is in.

Blocks before the edited one are passed through. Where a site is additive (an MLP neuron of a pre-norm block), the
edited block is not run either: the edit's rank-1 change is added to its clean output. Rows of different units,
interventions and examples share a forward pass, and only the logits that P reads are computed.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from icp.hooks import SiteEdits, edited
from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.sites import Site, columns_of
from icp.sweep.donors import Donors, Means, donors_of
from icp.sweep.plan import Layout, Plan, Positions, as_numpy, require_finite, within_memory
from icp.units import Unit

CAPTURE_BYTES = 1 << 30


def exact_chunks(
    model: Model,
    layout: Layout,
    clean: Tensor,
    units: list[Unit],
    interventions: list[Intervention],
    positions: Positions,
    means: Means | None,
    plan: Plan,
    chunks: list[range],
    replan: Callable[[Plan], None],
) -> Iterator[tuple[range, np.ndarray]]:
    """Yield (chunk, dP [unit, intervention, example]) for each chunk of `units`; `clean` is P [example].

    Out of memory halves the batch: `replan` is told the new plan and the chunk is measured again.
    """
    where = layout.where(positions)
    everything = torch.arange(layout.examples, device=model.device)
    while chunks:
        group, chunks = _fitting(model, layout, units, chunks)
        inside = [u for chunk in group for u in units[chunk.start : chunk.stop]]
        columns = columns_needed(model, inside, interventions)
        entrances = sorted({e for u in inside for e in _entrances(model, model.sites[u.site], interventions)})

        def lent(plan: Plan, columns=columns, entrances=entrances) -> Donors:
            return Donors(model, layout, interventions, columns, means, plan, everything, entrances)

        donors, fitting = within_memory(plan, lent)
        for chunk in group:
            mine = units[chunk.start : chunk.stop]
            measured = partial(_chunk, model, layout, donors, mine, interventions, where)
            result, fitting = within_memory(fitting, measured)
            if fitting != plan:
                plan = fitting
                replan(plan)
            difference = result - clean
            require_finite(difference, lambda i, mine=mine: f"an input under an intervention on {mine[i]}")
            yield chunk, as_numpy(difference)


def _chunk(
    model: Model,
    layout: Layout,
    donors: Donors,
    units: list[Unit],
    interventions: list[Intervention],
    where: Tensor,
    plan: Plan,
) -> Tensor:
    """P [unit, intervention, example] for a few units."""
    values = torch.empty(len(units), len(interventions), layout.examples, dtype=model.dtype, device=model.device)
    alike = groupby(range(len(units)), key=lambda index: (units[index].site, units[index].kind))
    for (site, _), together in alike:
        index = torch.tensor(list(together), device=model.device)
        columns = columns_of(model.sites, [units[i] for i in index.tolist()], model.device)
        affine = [i for i, what in enumerate(interventions) if what.as_affine() is not None]
        custom = [[i] for i, what in enumerate(interventions) if what.as_affine() is None]
        for which in [affine] * bool(affine) + custom:
            counts = torch.arange(len(index)), torch.tensor(which), torch.arange(layout.examples)
            rows = torch.cartesian_prod(*counts).to(model.device)
            for u, i, e in (part.unbind(1) for part in rows.split(plan.batch_size)):
                edits = row_edits(donors, model.sites[site], columns[u], interventions, i, e, where[e])
                values[index[u], i, e] = _value(model, layout, donors, edits, site, e)
    return values


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


def _value(model: Model, layout: Layout, donors: Donors, edits: SiteEdits, name: str, examples: Tensor) -> Tensor:
    """P of rows under the edits of one site, by the shortest way that the site allows."""
    site = model.sites[name]
    entrance = model.additive_entrance(site)
    if edits.custom is not None or entrance is None:
        hidden = donors.hidden[site.start][examples] if site.start else None
        with edited([(site, edits)]):
            return layout.value(model, examples, start=site.start, hidden=hidden)
    hidden = donors.hidden[entrance][examples]
    if site.outgoing is None:
        hidden = edits.apply(hidden)
    else:
        old = donors.values(donors.clean, name, edits.columns, examples)
        hidden = hidden + torch.einsum("rpw,rwd->rpd", edits.of(old) - old, site.outgoing[edits.columns])
    return layout.value(model, examples, start=entrance, hidden=hidden)


def _entrances(model: Model, site: Site, interventions: list[Intervention]) -> set[int]:
    """Where the forward passes over this site's units will be entered."""
    ways = {site.start if what.as_affine() is None else model.additive_entrance(site) for what in interventions}
    return {site.start if way is None else way for way in ways}


def columns_needed(model: Model, units: list[Unit], interventions: list[Intervention]) -> dict[str, Tensor]:
    """The columns, per site, of these units and of other units whose values are swapped in."""
    lenders = [donor.unit for donor in donors_of(interventions) if isinstance(donor, UnitDonor)]
    wanted: dict[str, set[int]] = {}
    for unit in [*units, *lenders]:
        wanted.setdefault(unit.site, set()).update(model.site(unit).columns(unit))
    return {name: torch.tensor(sorted(columns), device=model.device) for name, columns in wanted.items()}


def _fitting(model: Model, layout: Layout, units: list[Unit], chunks: list[range]) -> tuple[list[range], list[range]]:
    """As many chunks as one capture pass may serve within `CAPTURE_BYTES`, and the rest."""
    d_model = model.sites["hook_embed"].width
    each = layout.batch.ids.numel() * model.dtype.itemsize
    sites: set[str] = set()
    columns = 0
    for number, chunk in enumerate(chunks):
        for unit in units[chunk.start : chunk.stop]:
            sites.add(unit.site)
            columns += len(model.sites[unit.site].columns(unit))
        if number and each * (2 * columns + d_model * len(sites)) > CAPTURE_BYTES:
            return chunks[:number], chunks[number:]
    return chunks, []
