"""One sweep: what it lends to interventions, by exact effects or estimates, chunk by chunk into its results."""

from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from icp.bound import Property
from icp.effects import Effects
from icp.interventions import CounterpartDonor, Intervention, MeanDonor
from icp.masking import rows_of
from icp.model import Model
from icp.probes import Probe
from icp.properties import PairGap
from icp.sweep.capture import clean_run
from icp.sweep.donors import Means, ReadsNothing, Recorded, by_position, donors_of, needed_sites
from icp.sweep.exact import exact_chunks
from icp.sweep.late import LateLayout
from icp.sweep.lenders import require_lenders
from icp.sweep.linear import Linear, linear_batches
from icp.sweep.memory import within_memory
from icp.sweep.plan import Layout, Plan, Positions, as_numpy
from icp.sweep.results import Results, Shard, header_of
from icp.sweep.store import Store
from icp.units import Unit

SITES_A_GROUP = 8
"""Sites whose path estimates are made together, at most."""


def run(
    model: Model,
    probe: Probe,
    units: list[Unit],
    interventions: list[Intervention],
    *,
    property: Property,
    method: str | Linear,
    positions: Positions,
    reference: Probe | None,
    batch_size: int | None,
    memory: float | None,
    padding_side: str,
    store: "str | Path | None",
    shard: Shard,
    progress: bool,
) -> Effects:
    """Effects of units by one method; what is asked for is in order, as `measure` has checked."""
    gap = isinstance(property, PairGap)
    tokens = rows_of(model, probe, property)
    donors = donors_of(interventions)
    require_lenders(model, tokens, probe if reference is None else reference, donors, units)
    if any(isinstance(donor, CounterpartDonor) for donor in donors):
        tokens.require_alignment()
    order = sorted(units)
    with model.frozen():
        with torch.no_grad():
            layout = Layout.of(model, tokens, padding_side)
            layout.where(positions)  # raises before anything is written
            beside = 0
            if isinstance(method, Linear):
                method.require(model, layout, interventions)
                beside = _beside(method, model, layout, order, interventions, store is not None)
            exact_and_affine = method == "exact" and _all_affine(interventions)
            late = LateLayout.of_positions(model, tokens, positions) if exact_and_affine else None

            def prepared(plan: Plan) -> tuple[Means | None, torch.Tensor, np.ndarray, Recorded | None]:
                means = None
                if any(isinstance(donor, MeanDonor) for donor in donors):
                    told = (probe if reference is None else reference).tokenize(model.tokenizer, ReadsNothing())
                    means = Means(
                        model, told, needed_sites(model, interventions, order), plan,
                        width=layout.width, per_position=by_position(donors),
                    )  # fmt: skip
                others = np.zeros(0) if gap else _counterparts(model, probe, property, plan)
                if method == "exact" and late is None:  # the last of all runs: what it keeps leaves them less memory
                    clean, recorded = clean_run(model, layout, order, interventions, plan)
                else:
                    clean, recorded = layout.clean(model, plan), None
                return means, clean, others if gap else others - tokens.folded(as_numpy(clean)), recorded

            def ready(noted: Plan | None):
                plan = Plan.of(
                    model, layout, batch_size, memory, padding_side, gradient=method != "exact", beside=beside,
                    noted=noted,
                )  # fmt: skip
                return within_memory(plan, prepared)

            noted = _noted(store)
            (means, clean, total, recorded), plan = ready(noted)
            meanwhile = _noted(store)
            if meanwhile != noted:  # another process has made the store
                recorded = None
                (means, clean, total, recorded), plan = ready(meanwhile)
        label = method.label if isinstance(method, Linear) else method
        names = [str(unit) for unit in order]
        header = header_of(model, probe, names, interventions, layout, label, positions, reference, padding_side)
        results = Results.of(header, plan, as_numpy(clean), total, gap, store, shard, tokens.folded)
        mine = sum(map(len, results.chunks))
        there = mine - sum(map(len, results.todo))
        shown = dict(unit="unit", desc=f"measure ({label})", disable=not progress, leave=False)
        with tqdm(total=mine, initial=there, **shown) as bar:
            given = order, interventions, positions, means, plan, results, bar
            if isinstance(method, Linear):
                _linear(method, model, layout, *given)
            else:
                _exact(model, late or layout, clean, recorded, *given)
    return results.effects(units)


def _noted(store: "str | Path | None") -> Plan | None:
    """The plan by which a store was begun, if it is there and had a budget of memory."""
    return Store.open(store).planned if store is not None and Path(store).exists() else None


def _linear(method, model, layout, units, interventions, positions, means, plan, results, bar) -> None:
    todo = results.todo
    for group in _groups(todo, units) if results.store is not None and method.steps > 1 else [todo] * bool(todo):
        mine, before = [units[i] for chunk in group for i in chunk], bar.n

        def estimated(plan: Plan, mine=mine, before=before) -> np.ndarray:
            dP = np.empty((len(mine), len(interventions), layout.examples), dtype=_numpy_dtype(model))
            bar.update(before - bar.n)
            seen = 0
            for examples, values in linear_batches(model, layout, mine, interventions, positions, means, plan, method):
                dP[:, :, examples.cpu().numpy()] = values
                seen += len(examples)
                bar.update(before + len(mine) * seen // layout.examples - bar.n)
            return dP

        dP, plan = within_memory(plan, estimated)
        start = 0
        for chunk in group:
            results.write(chunk, dP[start : start + len(chunk)], plan)
            start += len(chunk)


def _beside(method: Linear, model: Model, layout: Layout, units, interventions, stored: bool) -> int:
    """Bytes an example that the estimates that are made together hold beside their forward and backward passes."""
    size = Plan.unit_chunk
    chunks = [range(start, min(start + size, len(units))) for start in range(0, len(units), size)]
    groups = _groups(chunks, units) if stored and method.steps > 1 else [chunks]
    together = ([units[i] for chunk in group for i in chunk] for group in groups)
    return max(method.bytes_beside(model, layout, mine, interventions) for mine in together)


def _groups(chunks: list[range], units: list[Unit]) -> list[list[range]]:
    """Chunks whose path estimates are made together: a site's path serves all its units, so few sites are cut in two.

    A group ends where the next chunk shares no site with it, or after `SITES_A_GROUP` sites.
    """
    groups: list[list[range]] = []
    sites: set[str] = set()
    for chunk in chunks:
        here = {units[i].site for i in chunk}
        if not here & sites or len(sites) >= SITES_A_GROUP:
            groups.append([])
            sites = set()
        groups[-1].append(chunk)
        sites |= here
    return groups


def _exact(model, layout, clean, recorded, units, interventions, positions, means, plan, results, bar) -> None:
    todo = results.todo
    used = [plan]
    with torch.no_grad():
        for chunk, values, reached in exact_chunks(
            model, layout, clean, units, interventions, positions, means, plan, todo, used.append,
            results.begun(todo, layout.examples), recorded,
        ):  # fmt: skip
            if reached < layout.examples:
                results.keep(chunk, values[:, :, :reached], used[-1])
                continue
            results.write(chunk, values, used[-1])
            bar.update(len(chunk))


def _all_affine(interventions: list[Intervention]) -> bool:
    return all(what.as_affine() is not None for what in interventions)


def _numpy_dtype(model: Model) -> np.dtype:
    return as_numpy(torch.empty(0, dtype=model.dtype)).dtype


def _counterparts(model: Model, probe: Probe, property: Property, plan: Plan) -> np.ndarray:
    """P(x'), NaN where an example has no counterpart."""
    others = np.full(len(probe), np.nan, dtype=_numpy_dtype(model))
    paired = [i for i, e in enumerate(probe.examples) if e.counterpart is not None]
    if paired:
        swapped = Probe(tuple(probe.examples[i] for i in paired)).swapped()
        tokens = rows_of(model, swapped, property)
        clean = Layout.of(model, tokens, plan.padding_side).clean(model, plan)
        others[paired] = tokens.folded(as_numpy(clean))
    return others
