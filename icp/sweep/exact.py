"""Exact effects: every unit really intervened on, starting at the block it is in.

Blocks before the edited one are passed through. What an edit adds to the residual stream is added there, and only what
comes after it is run: of the edited block nothing for a neuron, only the MLP for a head of a sequential block. Rows of
different units, interventions and examples share a forward pass, and only the logits that P reads are computed.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from icp.interventions import Intervention
from icp.model import Model
from icp.sites import columns_of
from icp.sweep.begun import Begun
from icp.sweep.capture import Capture, dearest_of
from icp.sweep.donors import Donors, Means, Recorded
from icp.sweep.memory import ran_out, too_large
from icp.sweep.plan import Layout, Plan, Positions, as_numpy
from icp.sweep.routes import row_edits, value_of
from icp.units import Unit


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
    dearest = dearest_of(model, layout, units, interventions, plan.unit_chunk)
    while chunks:
        if recorded is None:
            capture = Capture.of(model, layout, units, interventions, plan, chunks, dearest)
        else:
            capture = replace(Capture.of_all(model, layout, units, interventions, plan), chunks=chunks)
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
            return value_of(model, running, donors, edits, site, e)

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
