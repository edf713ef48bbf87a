"""First-order estimates (attribution patching, Nanda 2023): one backward pass for all units at once.

dP is estimated as the gradient of P with respect to a unit's activations times what the intervention would add to
them, summed over positions and over the unit's dimensions. It is exact where P is linear in the unit.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from icp.errors import IcpError
from icp.hooks import captured
from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.sites import Site
from icp.sweep.donors import Donors, Means, donors_of, needed_sites
from icp.sweep.plan import Layout, Plan, Positions, as_numpy, require_finite
from icp.units import Unit


def linear_batches(
    model: Model,
    layout: Layout,
    units: list[Unit],
    interventions: list[Intervention],
    positions: Positions,
    means: Means | None,
    plan: Plan,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield (examples, estimated dP [unit, intervention, example]) a batch of examples at a time."""
    for what in interventions:
        if what.as_affine() is None:
            raise IcpError(f"{what.label} is not affine, so it has no first-order estimate: use method='exact'")
    where = layout.where(positions)
    sites = needed_sites(model, interventions, units)
    columns = {site.name: torch.arange(site.width, device=model.device) for site in sites}
    mine = [site for site in sites if site.name in {u.site for u in units}]
    for examples in torch.arange(layout.examples, device=model.device).split(plan.batch_size):
        values: dict[str, Tensor] = {}
        with torch.enable_grad(), captured(mine, values, differentiable=True):
            p = layout.value(model, examples)
            total = p.sum()
        if not p.requires_grad:
            raise IcpError(f"{layout.tokens.property.label} has no gradient, so no first-order estimate: use 'exact'")
        texts = [layout.tokens.probe.examples[e].text for e in examples.tolist()]
        require_finite(p.detach(), lambda i, texts=texts: repr(texts[i]))
        gradients = dict(zip(values, torch.autograd.grad(total, list(values.values()))))
        lends = any(isinstance(donor, UnitDonor) for donor in donors_of(interventions))
        donors = Donors(model, layout, interventions, columns, means, plan, examples, [], clean=lends)
        result = torch.empty(len(units), len(interventions), len(examples), dtype=model.dtype, device=model.device)
        for site in mine:
            value, gradient = values[site.name].detach(), gradients[site.name]
            gradient = torch.where(where[examples][:, :, None], gradient, 0)
            _site(site, value, gradient, units, interventions, donors, examples, result)
        require_finite(result, lambda u: f"the estimate of {units[u]}")
        yield examples, as_numpy(result)


def _site(
    site: Site,
    value: Tensor,
    gradient: Tensor,
    units: list[Unit],
    interventions: list[Intervention],
    donors: Donors,
    examples: Tensor,
    result: Tensor,
) -> None:
    """Fill `result` for the units of one site; `value` and `gradient` are [example, pos, width]."""
    members: dict[int, list[int]] = {}
    for index, unit in enumerate(units):
        if unit.site == site.name:
            members.setdefault(len(site.columns(unit)), []).append(index)
    for which, what in enumerate(interventions):
        affine = what.as_affine()
        for width, indices in members.items():
            added = (affine.alpha - 1.0) * value
            if affine.donor is not None:
                lent_width = width if isinstance(affine.donor, UnitDonor) else site.width
                columns = torch.arange(lent_width, device=value.device).expand(len(examples), -1)
                lent = donors.of(affine.donor, site.name, columns, examples)
                added = added + lent.repeat(1, 1, site.width // lent.shape[2])
            per_column = (gradient * added).sum(1)
            per_unit = per_column.unflatten(1, (-1, width)).sum(2)
            at = torch.tensor([site.columns(units[i])[0] // width for i in indices], device=value.device)
            result[torch.tensor(indices, device=value.device), which] = per_unit[:, at].T
