"""First-order estimates: attribution patching (Nanda 2023), and the refinements of AtP* and of integrated gradients.

dP is estimated as the gradient of P with respect to a unit's activations times what the intervention would add to
them, summed over positions and over the unit's dimensions. It is exact where P is linear in the unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icp.errors import IcpError
from icp.hooks import captured
from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.properties import PairGap
from icp.sites import Site
from icp.sweep.changes import Change, Clean, changes, place_of
from icp.sweep.donors import Donors, Means, donors_of, needed_sites, swapping
from icp.sweep.gradients import Dropping, require_gradient, traced
from icp.sweep.plan import Layout, Plan, Positions, as_numpy
from icp.units import Unit


@dataclass(frozen=True)
class Linear:
    """How `measure` estimates to first order: `method=Linear(...)`; `method="linear"` is `Linear()`.

    `steps` 1 takes the gradient at the clean values: attribution patching. With more it is averaged along the straight
    path from a site's clean values a to what the intervention gives, a + t (I(a) - a), at the midpoints
    t = (k + 1/2) / steps: integrated gradients at a site, as in sparse feature circuits (Marks et al. 2024, arXiv
    2403.19647), which takes t = k / steps. All units of a site move together, so the estimates of a whole site sum to
    its joint dP, with an error of order 1 / steps^2 where P is smooth. It is not EAP-IG (Hanna et al. 2024), which
    interpolates the input embeddings. The cost is `steps` passes from the site's block on, a site and an intervention.

    `qk_fix` recomputes the attention pattern exactly for queries and keys, and takes only what follows it to first
    order (AtP*, Kramar et al. 2024, arXiv 2403.00745); without it they are estimated as other units are.

    `grad_drop` keeps a unit's direct and indirect effects from cancelling in the gradient (GradDrop, of AtP* too): for
    each block the gradient is taken with what that block adds to the residual stream held fixed, so that it passes by
    the skip connection alone, and the absolute values of these estimates are averaged over the blocks that the unit is
    not in (its own would give 0: hence the paper's 1 / (L - 1)). The result is a magnitude, taken example by example;
    it is given the sign of the estimate without dropping (plus where that is 0), so that means over examples read as
    other estimates do. The cost is about half a backward pass more a block.

    Raises `IcpError` where `steps` is not a whole number of at least 1.
    """

    steps: int = 1
    grad_drop: bool = False
    qk_fix: bool = True

    def __post_init__(self):
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise IcpError(f"steps={self.steps!r} is not a number of gradients: give a whole number of at least 1")

    @property
    def label(self) -> str:
        """What the header of the results says; `"linear"` for the default."""
        refined = {
            f"{self.steps} steps": self.steps > 1,
            "GradDrop": self.grad_drop,
            "without the QK fix": not self.qk_fix,
        }
        return ", ".join(["linear", *(name for name, holds in refined.items() if holds)])

    def passes(self, model: Model, units: list[Unit]) -> float:
        """What estimates of these units under one intervention cost, in forward passes of the model over all examples.

        A backward pass is worth two forward passes, the read-out counts as one more block, and the attention pattern
        that the QK fix recomputes for the queries, or keys, of a block as one.
        """
        blocks = len(model.blocks)
        sites = {(unit.site, len(model.site(unit).columns(unit))): place_of(unit, self.qk_fix) for unit in units}
        places = {name: model.sites[name] for name in sites.values()}
        fixed = sum(place != name for (name, _), place in sites.items())

        def backward(some: list[Site]) -> int:
            """Blocks that the gradients of these sites pass, once for P and once for each block that is dropped."""
            lowest = min(site.start + site.on_residual for site in some)
            later = [layer for layer in range(blocks) if any(site.layer is None or site.layer < layer for site in some)]
            dropped = [blocks - later[0], *(layer - lowest for layer in later)] if self.grad_drop and later else []
            return blocks + 1 - lowest + sum(dropped)

        if self.steps == 1:
            run = blocks + 1 + 2 * backward(list(places.values()))
        else:
            each = [places[place] for place in sites.values()]
            run = self.steps * sum(blocks + 1 - site.start + 2 * backward([site]) for site in each)
        return (run + fixed) / (blocks + 1)

    def bytes_beside(self, model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention]) -> int:
        """What the estimates of these units hold of an example, beside a forward and a backward pass.

        Whole sites: clean values where they are run for apart, those of each donor that swaps values in, one copy more
        while they are joined; with GradDrop, what is added under each intervention, and one more set of gradients.
        """
        places = {place_of(unit, self.qk_fix) for unit in units}
        held = {site.name for site in needed_sites(model, interventions, units)}
        apart = {unit.site for unit in units} - places
        lends = self.steps > 1 or any(isinstance(donor, UnitDonor) for donor in donors_of(interventions))
        copies = lends + swapping(interventions)
        values = (copies + bool(copies)) * self._width(model, held | places if self.steps > 1 else held)
        values += self._width(model, apart)
        if self.steps > 1:
            entered = {model.sites[place].start for place in places}
            values += 2 * len(entered) * model.d_model
        if self.grad_drop and self.steps == 1:
            added = {(unit.site, len(model.site(unit).columns(unit))): place_of(unit, self.qk_fix) for unit in units}
            values += len(interventions) * sum(model.sites[place].width for place in added.values())
            values += self._width(model, places)
        estimates = (2 + 2 * self.grad_drop) * len(units) * len(interventions)
        return (layout.batch.ids.shape[1] * values + estimates) * model.dtype.itemsize

    @staticmethod
    def _width(model: Model, names: set[str]) -> int:
        return sum(model.sites[name].width for name in names)

    def require(self, model: Model, layout: Layout, interventions: list[Intervention]) -> None:
        """Raise `IcpError` where these interventions, this property or this model has no such estimate."""
        for what in interventions:
            if what.as_affine() is None:
                raise IcpError(f"{what.label} is not affine, so it has no first-order estimate: use method='exact'")
        property, targets = layout.tokens.property, layout.bound.targets[:1]
        columns = 0 if targets.is_floating_point() else int(layout.bound.targets.max()) + 1
        width = max(model.vocabulary_read(property), columns)
        with torch.enable_grad():
            logits = torch.zeros(1, width, dtype=model.dtype, device=model.device, requires_grad=True)
            require_gradient(property.of(logits, targets), property)
        if self.grad_drop and model.family.norm == "after":
            raise IcpError(f"{model.name} norms what its skip connections carry: GradDrop needs them to pass unchanged")
        if self.grad_drop and len(model.blocks) == 1:
            raise IcpError(f"{model.name} has one block: GradDrop drops the others, so it needs two or more")
        if self.grad_drop and isinstance(property, PairGap):
            raise IcpError(
                "GradDrop gives magnitudes, and a pair gap is the difference of two: measure its two sides apart"
            )


def linear_batches(
    model: Model,
    layout: Layout,
    units: list[Unit],
    interventions: list[Intervention],
    positions: Positions,
    means: Means | None,
    plan: Plan,
    method: Linear,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield (examples, estimated dP [unit, intervention, example]) a batch of examples at a time.

    An estimate that is not finite is NaN.
    """
    where = layout.where(positions)
    estimated = _at_the_clean_point if method.steps == 1 else _along_the_path
    for examples in torch.arange(layout.examples, device=model.device).split(plan.batch_size):
        result = torch.empty(len(units), len(interventions), len(examples), dtype=model.dtype, device=model.device)
        batch = _Batch(model, layout, units, interventions, means, plan, method, examples, where[examples])
        for change, estimate in estimated(batch):
            result[change.rows, change.which] = estimate
        yield examples, as_numpy(result.where(result.isfinite(), torch.nan))


@dataclass(frozen=True, eq=False)
class _Batch:
    """Everything that the estimates of some examples need; `where` [example, pos] says which positions are edited."""

    model: Model
    layout: Layout
    units: list[Unit]
    interventions: list[Intervention]
    means: Means | None
    plan: Plan
    method: Linear
    examples: Tensor
    where: Tensor

    @property
    def places(self) -> set[str]:
        """Where gradients are taken."""
        return {place_of(unit, self.method.qk_fix) for unit in self.units}

    def donors(self, sites: set[str], entrances: list[int], clean: bool) -> Donors:
        """Whole values of these sites, and of those whose units are swapped in."""
        names = sites | {site.name for site in needed_sites(self.model, self.interventions, self.units)}
        device = self.model.device
        columns = {n: torch.arange(s.width, device=device) for n, s in self.model.sites.items() if n in names}
        asked = (self.interventions, columns, self.means, self.plan, self.examples, entrances)
        return Donors(self.model, self.layout, *asked, clean=clean)

    def clean(self, values: dict[str, Tensor], entered: dict[int, Tensor]) -> Clean:
        return Clean(self.layout.batch[self.examples], self.examples, self.where, values, entered)

    def changes(self, donors: Donors, clean: Clean) -> list[Change]:
        return changes(self.model, self.units, self.interventions, donors, clean, self.method.qk_fix)


def _at_the_clean_point(batch: _Batch) -> Iterator[tuple[Change, Tensor]]:
    """Estimates [unit, example] from one gradient: one forward and one backward pass for all of them."""
    model, places = batch.model, batch.places
    sites = [site for name, site in model.sites.items() if name in places]
    values: dict[str, Tensor] = {}
    with captured([model.sites[name] for name in {unit.site for unit in batch.units} - places], values):
        trace = traced(model, batch.layout, batch.examples, sites)
    drops = batch.method.grad_drop
    gradients = trace.gradients(keep=drops)
    values |= {name: value.detach() for name, value in trace.values.items()}
    clean = batch.clean(values, {layer: hidden.detach() for layer, hidden in trace.entered.items()})
    lends = any(isinstance(donor, UnitDonor) for donor in donors_of(batch.interventions))
    every = batch.changes(batch.donors(set(), [], clean=lends), clean)
    if not drops:
        for change in every:
            yield change, change.estimate(gradients[change.site.name], change.added())
        return
    added = [change.added() for change in every]
    found = [Dropping(change.estimate(gradients[change.site.name], each)) for change, each in zip(every, added)]
    for _, slopes in trace.dropped():
        for change, each, dropping in zip(every, added, found):
            if change.site.name in slopes:
                dropping.take(change.estimate(slopes[change.site.name], each))
    for change, dropping in zip(every, found):
        yield change, dropping.estimate(change.site, len(model.blocks))


def _along_the_path(batch: _Batch) -> Iterator[tuple[Change, Tensor]]:
    """Estimates [unit, example] from gradients averaged along the path of each site and intervention."""
    model, steps = batch.model, batch.method.steps
    layers = {model.sites[place].start for place in batch.places}
    donors = batch.donors(batch.places, sorted(layers), clean=True)
    clean = batch.clean(donors.clean, donors.hidden)
    for change in batch.changes(donors, clean):
        site, added = change.site, change.added()
        start, value = site.start, clean.values[site.name]
        total = torch.zeros((), dtype=value.dtype, device=value.device)
        by_block: dict[int, Tensor] = {}
        for step in range(steps):
            there = value + (step + 0.5) / steps * added
            hidden = clean.entered[start] if start else None
            trace = traced(
                model, batch.layout, batch.examples, [site], start=start, hidden=hidden, replaced=there
            )  # fmt: skip
            slopes = trace.gradients(keep=batch.method.grad_drop)
            total = total + change.estimate(slopes[site.name], added) / steps
            for layer, dropped in trace.dropped() if batch.method.grad_drop else ():
                part = change.estimate(dropped[site.name], added) / steps
                by_block[layer] = by_block[layer] + part if layer in by_block else part
        if batch.method.grad_drop:
            dropping = Dropping(total)
            for part in by_block.values():
                dropping.take(part)
            total = dropping.estimate(site, len(model.blocks))
        yield change, total
