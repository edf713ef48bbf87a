"""`measure`: probe x units x interventions -> effects."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from icp.bound import Property
from icp.effects import Effects
from icp.errors import IcpError, UnitError
from icp.interventions import Intervention
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, require_label
from icp.sweep.arguments import require_interventions, require_kinds, require_property
from icp.sweep.linear import Linear
from icp.sweep.plan import Positions
from icp.sweep.precision import measured_in
from icp.sweep.ray import Ray, shared
from icp.sweep.results import Shard, stored
from icp.sweep.run import run
from icp.sweep.topk import require_options, top_k
from icp.units import Unit

METHODS = ("exact", "linear")
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
        return run(model, probe, units, interventions, store=store, shard=Shard.parse(shard), method=method, **options)

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
