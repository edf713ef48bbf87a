"""Clean runs that lend values to interventions: for how many units, and on how much of the probe, at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from icp.interventions import Intervention, UnitDonor
from icp.model import Model
from icp.sweep.donors import Donors, Means, Recorded, Recorder, donors_of, swapping
from icp.sweep.memory import ran_out
from icp.sweep.plan import Layout, Plan
from icp.sweep.routes import columns_needed, route_of
from icp.units import Unit

CHUNKS_A_CAPTURE = 16
"""Chunks that share their clean runs, at most, where a probe is too large to be held: on each part of it in turn.

A pass over late positions is so cheap that for one chunk alone the clean run of whole texts would cost several times
the chunk itself.
"""


@dataclass(frozen=True, eq=False)
class Capture:
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
    ) -> "Capture":
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
    ) -> "Capture":
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
    streams = sum(map(len, _streams(model, units, interventions))) * model.d_model
    each = layout.width * model.dtype.itemsize
    return layout.bytes_kept(model) + each * ((2 + swapping(interventions)) * columns + 2 * streams)


def dearest_of(model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention], size: int) -> int:
    """The most bytes an example that a chunk of `size` units takes."""
    parts = (units[start : start + size] for start in range(0, len(units), size))
    return max(_bytes_an_example(model, layout, part, interventions) for part in parts)


def _streams(model: Model, units: list[Unit], interventions: list[Intervention]) -> tuple[list[int], list[int]]:
    """The blocks whose residual stream, and whose attention's output, edits are added to."""
    sites, affine = {unit.site for unit in units}, {what.as_affine() is not None for what in interventions}
    routes = {route_of(model, model.sites[site], is_affine) for site in sites for is_affine in affine}
    return sorted({r.start for r in routes}), sorted({r.start for r in routes if r.way == "attention"})


def clean_run(
    model: Model, layout: Layout, units: list[Unit], interventions: list[Intervention], plan: Plan
) -> tuple[Tensor, Recorded | None]:
    """P [example] without intervention, and all that these units need of that run; None where it is too much to hold.

    Raises `NotFiniteError` naming an input for which P is not finite.
    """
    capture = Capture.of_all(model, layout, units, interventions, plan)
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
