"""`measure`: probe x units x interventions -> effects."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from icp.effects import Effects
from icp.errors import IcpError, UnitError
from icp.interventions import CounterpartDonor, Intervention, MeanDonor
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, PairGap, Property
from icp.sweep.donors import Means, ReadsNothing, donors_of, needed_sites
from icp.sweep.exact import exact_chunks
from icp.sweep.linear import linear_batches
from icp.sweep.plan import Layout, Plan, Positions, as_numpy, within_memory
from icp.sweep.store import Store
from icp.units import Unit

METHODS = ("exact", "linear")


def measure(
    model: Model,
    probe: Probe,
    units: Unit | str | Sequence[Unit | str],
    interventions: Intervention | Sequence[Intervention],
    *,
    property: Property | None = None,
    method: str = "exact",
    positions: Positions = "all",
    reference: Probe | None = None,
    batch_size: int | None = None,
    padding_side: str = "right",
    store: "str | Path | None" = None,
    progress: bool = True,
) -> Effects:
    """dP of every unit, intervention and example: P(x | do(u = I(u))) - P(x).

    `property` is what P is (default: the logit difference of the probe's two answers). `method="linear"` gives
    first-order estimates of all units at the cost of one backward pass. `positions` are `"all"`, `"last"` or a span of
    tokens. Mean masks take the mean over the texts of `reference` (default: over the probe's own inputs). With `store`,
    finished chunks are kept in a zarr folder, and the same call resumes after a kill. `batch_size` is rows a forward
    pass.

    Raises `ProbeError` for inputs that cannot be measured, `UnitError` for units the model does not have,
    `ArtefactError` for a store of another measurement, `NotFiniteError` where the model returns NaN.
    """
    interventions = list(interventions) if isinstance(interventions, Sequence) else [interventions]
    units = _checked_units(model, units)
    property = LogitDifference() if property is None else property
    if not isinstance(property, Property):
        raise IcpError(f"{property!r} is not a property: pass LogitDifference(), TaskLoss() or another one, made")
    _check(interventions, method)
    options = dict(
        property=property, method=method, positions=positions, reference=reference, batch_size=batch_size,
        padding_side=padding_side, progress=progress,
    )  # fmt: skip
    if isinstance(property, PairGap):
        return _gap(model, probe, units, interventions, store, options)
    return _measure(model, probe, units, interventions, store=store, **options)


def _check(interventions: list[Intervention], method: str) -> None:
    if method not in METHODS:
        raise IcpError(f"unknown method {method!r}: use one of {', '.join(METHODS)}")
    if not interventions:
        raise IcpError("no interventions were given: pass Mask(...), Scale(...) or Swap(...)")
    for what in interventions:
        if not isinstance(what, Intervention):
            raise IcpError(
                f"{what!r} is not an intervention: pass Mask(...), Scale(...), Swap(...) or your own subclass"
            )
    labels = [what.label for what in interventions]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise IcpError(f"two interventions are labelled {twice!r}: results are stored by label, so measure each once")


def _checked_units(model: Model, units: Unit | str | Sequence[Unit | str]) -> list[Unit]:
    if isinstance(units, Unit | str):
        units = [units]
    units = [Unit.parse(unit) for unit in units]
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


def _gap(
    model: Model, probe: Probe, units: list[Unit], interventions: list[Intervention], store: "str | Path | None",
    options: dict,
) -> Effects:  # fmt: skip
    """P(x) - P(x'), with the same intervention in both runs: two measurements, subtracted."""
    property, reference = options["property"], options["reference"]
    header = _header(model, probe, units, interventions, property, options["method"], options["positions"], reference)
    sink = None
    if store is not None:
        shape = (len(units), len(interventions), len(probe))
        sink = Store.create(store, header, shape, str(_numpy_dtype(model)), len(units))
        if sink.done(range(len(units))):
            return Effects(*sink.read(), header)
    options = options | {"property": property.of_property, "reference": probe if reference is None else reference}
    one = _measure(model, probe, units, interventions, store=None, **options)
    other = _measure(model, probe.swapped(), units, interventions, store=None, **options)
    effects = Effects(one.dP - other.dP, one.clean - other.clean, -2 * (one.clean - other.clean), header)
    if sink is not None:
        sink.write(range(len(units)), effects.dP)
        sink.write_examples(effects.clean, effects.total)
    return effects


def _measure(
    model: Model,
    probe: Probe,
    units: list[Unit],
    interventions: list[Intervention],
    *,
    property: Property,
    method: str,
    positions: Positions,
    reference: Probe | None,
    batch_size: int | None,
    padding_side: str,
    store: "str | Path | None",
    progress: bool,
) -> Effects:
    tokens = probe.tokenize(model.tokenizer, property)
    donors = donors_of(interventions)
    if any(isinstance(donor, CounterpartDonor) for donor in donors):
        tokens.require_alignment()
    order = sorted(units)
    with model.frozen():
        with torch.no_grad():
            layout = Layout.of(model, tokens, padding_side)
            plan = Plan.default(layout, model.vocabulary_read(property))
            if batch_size is not None or padding_side != "right":
                plan = Plan(plan.batch_size if batch_size is None else batch_size, padding_side=padding_side)

            def prepared(plan: Plan) -> tuple[Means | None, torch.Tensor, np.ndarray]:
                means = None
                if any(isinstance(donor, MeanDonor) for donor in donors):
                    told = tokens if reference is None else reference.tokenize(model.tokenizer, ReadsNothing())
                    means = Means(model, told, needed_sites(model, interventions, order), plan)
                clean = layout.clean(model, plan)
                return means, clean, _total(model, probe, property, plan, clean)

            (means, clean, total), plan = within_memory(plan, prepared)
        header = _header(model, probe, order, interventions, property, method, positions, reference)
        shape = (len(order), len(interventions), len(probe))
        sink = None
        if store is not None:
            sink = Store.create(store, header, shape, str(as_numpy(clean).dtype), plan.unit_chunk)
            sink.write_examples(as_numpy(clean), total)
        bar = tqdm(total=len(order), unit="unit", desc=f"measure ({method})", disable=not progress, leave=False)
        with bar:
            if method == "linear":
                dP = _linear(model, layout, order, interventions, positions, means, plan, sink, bar)
            else:
                dP = _exact(model, layout, clean, order, interventions, positions, means, plan, sink, bar)
    if order != units:
        place = {unit: index for index, unit in enumerate(order)}
        dP = dP[[place[unit] for unit in units]]
        header = header | {"units": [str(unit) for unit in units]}
    return Effects(dP, as_numpy(clean), total, header)


def _linear(model, layout, units, interventions, positions, means, plan, sink, bar) -> np.ndarray:
    everything = range(len(units))
    if sink is not None and sink.done(everything):
        return sink.read()[0]

    def estimated(plan: Plan) -> np.ndarray:
        dP = np.empty((len(units), len(interventions), layout.examples), dtype=_numpy_dtype(model))
        bar.reset()
        for examples, values in linear_batches(model, layout, units, interventions, positions, means, plan):
            dP[:, :, examples.cpu().numpy()] = values
            bar.update(len(units) * len(examples) / layout.examples)
        return dP

    dP, plan = within_memory(plan, estimated)
    if sink is not None:
        sink.note(repr(plan))
        sink.write(everything, dP)
    return dP


def _exact(model, layout, clean, units, interventions, positions, means, plan, sink, bar) -> np.ndarray:
    chunks = [range(s, min(s + plan.unit_chunk, len(units))) for s in range(0, len(units), plan.unit_chunk)]
    todo = chunks if sink is None else [chunk for chunk in chunks if not sink.done(chunk)]
    bar.update(len(units) - sum(map(len, todo)))
    note = sink.note if sink is not None else (lambda plan: None)
    note(repr(plan))
    dP = np.empty((len(units), len(interventions), layout.examples), dtype=_numpy_dtype(model))
    with torch.no_grad():
        for chunk, values in exact_chunks(
            model, layout, clean, units, interventions, positions, means, plan, todo, lambda new: note(repr(new))
        ):
            dP[chunk.start : chunk.stop] = values
            if sink is not None:
                sink.write(chunk, values)
            bar.update(len(chunk))
    return dP if sink is None else sink.read()[0]


def _numpy_dtype(model: Model) -> np.dtype:
    return as_numpy(torch.empty(0, dtype=model.dtype)).dtype


def _total(model: Model, probe: Probe, property: Property, plan: Plan, clean: torch.Tensor) -> np.ndarray:
    """P(x') - P(x), NaN where an example has no counterpart."""
    total = np.full(len(probe), np.nan, dtype=_numpy_dtype(model))
    paired = [i for i, e in enumerate(probe.examples) if e.counterpart is not None]
    if paired:
        others = Probe(tuple(probe.examples[i] for i in paired)).swapped()
        layout = Layout.of(model, others.tokenize(model.tokenizer, property), plan.padding_side)
        total[paired] = as_numpy(layout.clean(model, plan)) - as_numpy(clean)[paired]
    return total


def _header(model, probe, units, interventions, property, method, positions, reference) -> dict:
    from icp import __version__

    if not isinstance(positions, str):
        positions = list(positions)
    return {
        "units": [str(unit) for unit in units],
        "interventions": [what.label for what in interventions],
        "examples": [json.loads(json.dumps(asdict(example))) for example in probe.examples],
        "property": property.label,
        "unit_of_P": property.unit,
        "method": method,
        "positions": positions,
        "reference": None if reference is None else _digest([asdict(e) for e in reference.examples]),
        "dtype": str(model.dtype),
        "model": model.name,
        "binding": model.binding,
        "versions": {"icp": __version__, "torch": torch.__version__, "transformers": version("transformers")},
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
