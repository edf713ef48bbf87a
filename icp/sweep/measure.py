"""`measure`: probe x units x interventions -> effects."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from icp.effects import Effects
from icp.errors import IcpError, UnitError
from icp.interventions import CounterpartDonor, Intervention, MeanDonor
from icp.masking import rows_of
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, PairGap, Property, require_label
from icp.sweep.arguments import require_interventions, require_kinds, require_property
from icp.sweep.donors import Means, ReadsNothing, Recorded, by_position, donors_of, needed_sites
from icp.sweep.exact import clean_run, exact_chunks
from icp.sweep.late import LateLayout
from icp.sweep.lenders import require_lenders
from icp.sweep.linear import Linear, linear_batches
from icp.sweep.memory import within_memory
from icp.sweep.plan import Layout, Plan, Positions, as_numpy
from icp.sweep.precision import measured_in
from icp.sweep.ray import Ray, shared
from icp.sweep.results import Results, Shard, header_of, stored
from icp.sweep.store import Store
from icp.sweep.topk import require_options, top_k
from icp.units import Unit

METHODS = ("exact", "linear")
SITES_A_GROUP = 8
SEARCH = {"confidence": 0.95, "miss_rate": 0.005, "budget": 0.03, "seed": 0}


def measure(
    model: Model,
    probe: Probe,
    units: Unit | str | Sequence[Unit | str],
    interventions: Intervention | Sequence[Intervention],
    *,
    property: Property | None = None,
    method: str | Linear = "exact",
    positions: Positions = "all",
    reference: Probe | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    dtype: torch.dtype | None = None,
    padding_side: str = "right",
    store: "str | Path | None" = None,
    shard: str | Shard | None = None,
    runner: Ray | None = None,
    progress: bool = True,
    top: int | None = None,
    confidence: float = 0.95,
    miss_rate: float = 0.005,
    budget: float = 0.03,
    seed: int = 0,
) -> Effects:
    """dP of every unit, intervention and example: P(x | do(u = I(u))) - P(x).

    `property` is what P is (default: the logit difference of the probe's two answers). `method="linear"` gives
    first-order estimates of all units at the cost of one backward pass; `method=Linear(...)` refines them. `positions`
    are `"all"`, `"last"`, a span of tokens, `"cue"` (the tokens in which x differs from x'), or `"rest"` (all but these
    and the last). Mean masks take the mean over the texts of `reference` (default: over
    the probe's own inputs). dP is NaN in a row for which the model returns NaN or infinity (`Effects.not_finite`
    counts them).

    With `store`, finished chunks are kept in a zarr folder, and the same call resumes after a kill. Estimates from one
    gradient (`Linear(steps=1)`) are made for all units in one pass, and kept when it is done; with more steps, those of
    a few sites at a time. `shard="3/16"`
    measures the third of sixteen parts only, and returns its units (none, where there are more parts than chunks of 64
    units): processes on any machines may share one store. `runner=icp.Ray(...)` has a Ray cluster measure all of them.
    `batch_size` is rows a forward pass; `memory`, in bytes, is what the process (on a GPU: its memory there) should
    stay below, by which the batch is chosen; the choice is kept in the store, for calls that share or resume it with
    the same budget. `dtype=torch.bfloat16` measures on a copy of the model in bfloat16, and
    says how well that ranks: `header["rank_correlation"]` is Spearman's between S = mean |dP| of up to 64 units there
    and in the model's own dtype.

    With `top=k` only the k units of largest mean |dP| are looked for, by one affine intervention: all are estimated
    (`method=Linear(...)` says how), the likeliest measured exactly, and a random sample of the others audited
    (`icp.sweep.search`). The result holds exact effects of those k, best first, and a `certificate`: with `confidence`,
    at most a share `miss_rate` of the units that were not measured lies above the k-th found; or else, since no more
    than a share `budget` of the work of measuring all units is spent, that this is not proven, and why. `seed` draws
    the audit. The confidence is that of one search chosen beforehand, not of the last of several. `store` then holds a
    store for each part of the search, the result under `top`, and the certificates of all searches made there.

    Raises `ProbeError` for inputs that cannot be measured, `UnitError` for units the model does not have,
    `ArtefactError` for a store of another measurement, `NotFiniteError` where the model returns NaN on a plain input.
    """
    require_kinds(model, probe, reference, positions, batch_size, store, memory, dtype, runner)
    memory = None if memory is None else float(memory)
    interventions = list(interventions) if isinstance(interventions, Sequence) else [interventions]
    units = _checked_units(model, units)
    property = LogitDifference() if property is None else property
    require_property(property)
    require_label(property, store is not None)
    _check(interventions, method, store is not None)
    part = Shard.parse(shard)
    if part.count > 1 and store is None:
        raise IcpError(f"shard={shard!r} needs a store, the same for all shards: pass store=path")
    search = dict(confidence=confidence, miss_rate=miss_rate, budget=budget, seed=seed)
    idle = next((name for name, value in search.items() if value != SEARCH[name]), None)
    if top is None and idle is not None:
        raise IcpError(f"{idle}={search[idle]!r} is for a search: give top=k too, or leave it out")
    options = dict(
        property=property, positions=positions, reference=reference, batch_size=batch_size,
        memory=memory, padding_side=padding_side, progress=progress,
    )  # fmt: skip
    if runner is not None:
        own_dtype = dtype in (None, model.dtype)
        if store is None or shard is not None or method != "exact" or top is not None or not own_dtype:
            raise IcpError(
                "a runner shares one exact sweep among its workers: pass store=path, leave shard, top and dtype out, "
                "and estimate (method='linear') without a runner"
            )
        asked = options | dict(probe=probe, units=units, interventions=interventions, store=shared(store))
        runner.run(measure, model, asked)
        return stored(store, units)

    def call(model: Model, units: list[Unit], store: "str | Path | None", shard: Shard | None = None,
             method: str | Linear = method) -> Effects:  # fmt: skip
        method = Linear() if method == "linear" else method
        return _measure(
            model, probe, units, interventions, store=store, shard=Shard.parse(shard), method=method, **options
        )

    if top is not None:
        require_options(len(units), interventions, method, top, **search)
        if part.count > 1 or dtype not in (None, model.dtype):
            raise IcpError(f"top={top} is one search in the model's own dtype: leave out shard and dtype")
        measured, estimator = partial(call, model), method if isinstance(method, Linear) else Linear()
        return top_k(
            model, probe, units, interventions[0], measured, estimator=estimator, property=property,
            positions=positions, reference=reference, top=top, store=store, **search,
        )  # fmt: skip
    if dtype in (None, model.dtype):
        return call(model, units, store, part)
    return measured_in(model, dtype, units, call, store=store, shard=part)


def _check(interventions: list[Intervention], method: str | Linear, stored: bool) -> None:
    if not isinstance(method, Linear) and method not in METHODS:
        raise IcpError(f"unknown method {method!r}: use one of {', '.join(METHODS)}, or Linear(...)")
    if method != "exact" and torch.is_inference_mode_enabled():
        raise IcpError("method='linear' takes gradients: call it outside torch.inference_mode()")
    if not interventions:
        raise IcpError("no interventions were given: pass Mask(...), Scale(...) or Swap(...)")
    require_interventions(interventions)
    for what in interventions:
        require_label(what, stored)
    labels = [what.label for what in interventions]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise IcpError(f"two interventions are labelled {twice!r}: results are stored by label, so measure each once")


def _checked_units(model: Model, units: Any) -> list[Unit]:
    if not isinstance(units, Sequence):
        units = [units]
    units = [Unit.parse(unit) for unit in ([units] if isinstance(units, str) else units)]
    if not units:
        raise UnitError("no units were given: try model.units('head', 'neuron')")
    if len(set(units)) < len(units):
        raise UnitError(
            f"{len(units) - len(set(units))} unit(s) are given twice, such as {_repeated(units)}: measure each once"
        )
    for unit in units:
        model.site(unit)
    return units


def _repeated(units: list[Unit]) -> Unit:
    seen: set[Unit] = set()
    return next(unit for unit in units if unit in seen or seen.add(unit))


def _measure(
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
    gap = isinstance(property, PairGap)
    tokens = rows_of(model, probe, property)
    donors = donors_of(interventions)
    if any(isinstance(donor, CounterpartDonor) for donor in donors):
        tokens.require_alignment()
    require_lenders(model, tokens, probe if reference is None else reference, donors, units)
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
