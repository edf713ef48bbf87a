"""Exact effects: every unit really intervened on, starting at the block it is in.

Blocks before the edited one are passed through. What an edit adds to the residual stream is added there, and only what
comes after it is run: of the edited block nothing for a neuron, only the MLP for a head of a sequential block. Rows of
different units, interventions and examples share a forward pass, and only the logits that P reads are computed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from icp.hooks import SiteEdits, edited
from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.sites import Site, columns_of
from icp.sweep.begun import Begun
from icp.sweep.donors import Donors, Means, Recorded, Recorder, donors_of, swapping
from icp.sweep.memory import ran_out, too_large
from icp.sweep.plan import Layout, Plan, Positions, as_numpy
from icp.units import Unit

CHUNKS_A_CAPTURE = 16
"""Chunks that share their clean runs, at most, where a probe is too large to be held: on each part of it in turn.

A pass over late positions is so cheap that for one chunk alone the clean run of whole texts would cost several times
the chunk itself.
"""


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
    begun: dict[range, Begun],
    recorded: Recorded | None = None,
) -> Iterator[tuple[range, np.ndarray, int]]:
    """Yield (chunk, dP [unit, intervention, example], of how many examples) as chunks of `units` are measured.

    `clean` is P [example]. A chunk that all examples are measured of is finished; of what was `begun` before, only the
    other examples are measured.

    `recorded` is what `clean_run` of these units kept, if it did. dP is NaN where the model returns NaN or infinity.
    Out of memory halves the batch and the clean values that are held: `replan` is told the new plan, and what is
    measured stays. Raises `IcpError` where one row does not fit beside the clean values of one example.
    """
    where = layout.where(positions)
    begun = dict(begun)
    dearest = _dearest(model, layout, units, interventions, plan.unit_chunk)
    while chunks:
        if recorded is None:
            capture = _Capture.of(model, layout, units, interventions, plan, chunks, dearest)
        else:
            capture = replace(_Capture.of_all(model, layout, units, interventions, plan), chunks=chunks)
        try:
            for examples in capture.parts:
                first, stop = int(examples[0]), int(examples[-1]) + 1
                rest = [chunk for chunk in capture.chunks if chunk not in begun or begun[chunk][1] < stop]
                if not rest:
                    continue
                ready = donors = before = None  # two parts of the probe are not held at a time
                ready, donors, before = capture.lent(
                    model, layout, interventions, means, plan, examples, clean, recorded
                )
                for chunk in rest:
                    shape = len(chunk), len(interventions), layout.examples
                    dP, reached = begun.get(chunk) or (np.empty(shape, as_numpy(clean).dtype), 0)
                    left, others = examples[max(0, reached - first) :], before[max(0, reached - first) :]
                    mine = units[chunk.start : chunk.stop]
                    result = _chunk(model, ready, donors, mine, interventions, where, left, before.dtype, plan)
                    difference = result - others
                    dP[:, :, left.cpu().numpy()] = as_numpy(difference.where(difference.isfinite(), torch.nan))
                    begun[chunk] = dP, stop
                    if stop == layout.examples:
                        chunks = [other for other in chunks if other != chunk]
                        del begun[chunk]
                    yield chunk, dP, stop
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if plan.batch_size == 1 and capture.smallest:
                raise too_large("one row beside the clean values of one example", error) from error
            if recorded is not None:
                recorded.release()
                recorded = None
            plan = plan.halved(capture.bytes)
            replan(plan)
        ready = donors = before = None


@dataclass(frozen=True, eq=False)
class _Capture:
    """Chunks of units that are served by the same clean runs, and the parts of the probe that are served in turn."""

    chunks: list[range]
    parts: tuple[Tensor, ...]
    units: list[Unit]
    bytes: int

    @property
    def smallest(self) -> bool:
        """Whether nothing less can be held: one chunk and one example."""
        return len(self.chunks) == 1 and len(self.parts[0]) == 1

    @classmethod
    def of(
        cls,
        model: Model,
        layout: Layout,
        units: list[Unit],
        interventions: list[Intervention],
        plan: Plan,
        chunks: list[range],
        dearest: int,
    ) -> "_Capture":
        """As many chunks as one clean run may serve within the plan's `capture_bytes`, one at the least.

        The parts of the probe are as large as the `dearest` chunk allows, in bytes an example: the same for all chunks,
        so that a plan gives the same bits whichever of them are finished already, or are another shard's.
        """

        def cost(count: int) -> int:
            mine = [units[i] for chunk in chunks[:count] for i in chunk]
            return _bytes_an_example(model, layout, mine, interventions)

        held = max(1, min(layout.examples, plan.capture_bytes // dearest))
        most = len(chunks) if held == layout.examples else CHUNKS_A_CAPTURE
        count = 1
        while count < min(most, len(chunks)) and held * cost(count + 1) <= plan.capture_bytes:
            count += 1
        parts = torch.arange(layout.examples, device=model.device).split(held)
        mine = [units[i] for chunk in chunks[:count] for i in chunk]
        return cls(chunks[:count], parts, mine, held * cost(count))

    @classmethod
    def of_all(
        cls, model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention], plan: Plan
    ) -> "_Capture":
        """All units as one chunk."""
        dearest = _bytes_an_example(model, layout, units, interventions)
        return cls.of(model, layout, units, interventions, plan, [range(len(units))], dearest)

    def needs(self, model: Model, interventions: list[Intervention]) -> tuple[dict[str, Tensor], list[int], list[int]]:
        """Columns by site, and the blocks whose residual stream, and whose attention's output, edits are added to."""
        return columns_needed(model, self.units, interventions), *_streams(model, self.units, interventions)

    def lent(
        self,
        model: Model,
        layout: Layout,
        interventions: list[Intervention],
        means: Means | None,
        plan: Plan,
        examples: Tensor,
        clean: Tensor,
        recorded: Recorded | None,
    ) -> tuple[Layout, Donors, Tensor]:
        """What a part of the probe lends to its interventions, and its P [example] without one."""
        ready = layout.prepared(model, examples, plan)
        columns, entrances, attentions = self.needs(model, interventions)
        donors = Donors(
            model, ready, interventions, columns, means, plan, examples, entrances, attentions, recorded=recorded
        )
        if not layout.first:
            return ready, donors, clean[examples]
        return ready, donors, torch.cat([ready.value(model, rows) for rows in examples.split(plan.batch_size)])


def _bytes_an_example(model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention]) -> int:
    """What is held of one example for interventions on these units.

    Its own values, those of each donor that swaps values in, and one copy more of them while parts are joined.
    """
    lenders = [donor.unit for donor in donors_of(interventions) if isinstance(donor, UnitDonor)]
    columns = sum(len(model.sites[unit.site].columns(unit)) for unit in [*units, *lenders])
    streams = sum(map(len, _streams(model, units, interventions))) * model.sites["hook_embed"].width
    each = layout.width * model.dtype.itemsize
    return layout.bytes_kept(model) + each * ((2 + swapping(interventions)) * columns + 2 * streams)


def _dearest(model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention], size: int) -> int:
    """The most bytes an example that a chunk of `size` units takes."""
    parts = (units[start : start + size] for start in range(0, len(units), size))
    return max(_bytes_an_example(model, layout, part, interventions) for part in parts)


def _streams(model: Model, units: list[Unit], interventions: list[Intervention]) -> tuple[list[int], list[int]]:
    """The blocks whose residual stream, and whose attention's output, edits are added to."""
    sites, affine = {unit.site for unit in units}, {what.as_affine() is not None for what in interventions}
    routes = {_route(model, model.sites[site], is_affine) for site in sites for is_affine in affine}
    return sorted({r.start for r in routes}), sorted({r.start for r in routes if r.way == "attention"})


def clean_run(
    model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention], plan: Plan
) -> tuple[Tensor, Recorded | None]:
    """P [example] without intervention, and all that these units need of that run; None where it is too much to hold.

    Raises `NotFiniteError` naming an input for which P is not finite.
    """
    capture = _Capture.of_all(model, layout, units, interventions, plan)
    if len(capture.parts) == 1:
        recorder = Recorder(model, *capture.needs(model, interventions))
        try:
            with recorder.installed():
                return layout.clean(model, plan), recorder.recorded()
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            del recorder
    return layout.clean(model, plan), None


@dataclass(frozen=True)
class _Route:
    """How an edit reaches the output: the block that is entered, and what the edit is written into there.

    `residual`: the residual stream that enters block `start`, which is the first to run. `attention`: what the
    attention of block `start` adds; the rest of the block runs. `hooks`: the site itself, in the running block.
    """

    way: str
    start: int


def _route(model: Model, site: Site, affine: bool) -> _Route:
    """The shortest way that a site, and the user's own hooks, allow."""
    entrance = model.additive_entrance(site) if affine else None
    if entrance is not None:
        return _Route("residual", entrance)
    through_attention = site.projection == model.family.attn_out and model.family.attention is not None
    if affine and through_attention and model.unseen(site.layer):
        return _Route("attention", site.start)
    return _Route("hooks", site.start)


def _chunk(
    model: Model,
    layout: Layout,
    donors: Donors,
    units: list[Unit],
    interventions: list[Intervention],
    where: Tensor,
    examples: Tensor,
    dtype: torch.dtype,
    plan: Plan,
) -> Tensor:
    """P [unit, intervention, example] for a few units."""
    values = torch.empty(len(units), len(interventions), len(examples), dtype=dtype, device=model.device)
    alike = groupby(range(len(units)), key=lambda index: (units[index].site, units[index].kind))
    for (site, _), together in alike:
        index = torch.tensor(list(together), device=model.device)
        columns = columns_of(model.sites, [units[i] for i in index.tolist()], model.device)

        def found(running, u, i, e, site=site, columns=columns):
            edits = row_edits(donors, model.sites[site], columns[u], interventions, i, e, where[e])
            return _value(model, running, donors, edits, site, e)

        affine = [i for i, what in enumerate(interventions) if what.as_affine() is not None]
        custom = [[i] for i, what in enumerate(interventions) if what.as_affine() is None]
        for which in [affine] * bool(affine) + custom:
            versions = torch.cartesian_prod(torch.arange(len(index)), torch.tensor(which)).to(model.device)
            for running, version, e, count in layout.passes(len(versions), examples, plan):
                u, i = versions[version].unbind(1)
                p = found(running, u, i, e)
                bad = ~p.isfinite()
                if running.worlds > 1 and bad.any():
                    p[bad] = found(running.apart(), u[bad], i[bad], e[bad])
                values[index[u[:count]], i[:count], e[:count] - int(examples[0])] = p[:count]
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
    route = _route(model, site, edits.custom is None)
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
