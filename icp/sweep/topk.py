"""Certified top-k of a model's units: `icp.sweep.search` with estimates and exact scores that `icp.measure` takes."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from icp.bound import Property
from icp.certificate import Certificate
from icp.effects import Effects
from icp.errors import ArtefactError, IcpError
from icp.files import read_json, write_json
from icp.interventions import Intervention, MeanDonor, UnitDonor
from icp.masking import rows_of
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, PairGap
from icp.sweep.donors import ReadsNothing, donors_of
from icp.sweep.late import LateLayout
from icp.sweep.linear import Linear
from icp.sweep.plan import Positions
from icp.sweep.pool import Pool
from icp.sweep.search import search
from icp.units import Unit

RESULT = "top"
SEARCHES = "searches"
SHARES = {"confidence": 0.95, "miss_rate": 0.005, "budget": 0.03}


def require_options(
    units: int,
    interventions: list[Intervention],
    method: str | Linear,
    top: Any,
    confidence: Any,
    miss_rate: Any,
    budget: Any,
    seed: Any,
) -> None:
    """Raise `IcpError` for what no certified top-k can be made of."""
    for name, value in (("confidence", confidence), ("miss_rate", miss_rate), ("budget", budget)):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise IcpError(f"{name}={value!r} is not a Python number: give a share, such as {SHARES[name]}")
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= units:
        raise IcpError(f"top={top!r} of {units} units: ask for a whole number from 1 to {units}")
    if len(interventions) > 1:
        raise IcpError(f"top={top} ranks by one intervention, {len(interventions)} were given: call once for each")
    if not isinstance(method, Linear) and method != "exact":
        raise IcpError(
            f"top={top} estimates and then measures exactly: leave out method={method!r}, or say how to estimate by "
            "method=Linear(...)"
        )
    if isinstance(method, Linear) and (budget >= 1 or top == units):
        raise IcpError(f"top={top} of {units} units with budget={budget!r} measures all of them: leave out {method!r}")
    if budget < 1 and interventions[0].as_affine() is None:
        raise IcpError(
            f"{interventions[0].label} is not affine, so it has no first-order estimate to search by: measure every "
            "unit (budget=1.0)"
        )
    for name, value, low, high in (
        ("confidence", confidence, 0, 1),
        ("budget", budget, 0, math.inf),
    ):
        if not low < value < high:
            raise IcpError(f"{name}={value!r} is out of range: give a number above {low} and below {high}")
    if not 0 <= miss_rate < 1:
        raise IcpError(f"miss_rate={miss_rate!r} is out of range: give a share from 0 to below 1, such as 0.005")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise IcpError(f"seed={seed!r} is out of range: give a whole number from 0")


def top_k(
    model: Model,
    probe: Probe,
    units: list[Unit],
    intervention: Intervention,
    measured: Callable[..., Effects],
    *,
    estimator: Linear,
    property: Property,
    positions: Positions,
    reference: Probe | None,
    top: int,
    confidence: float,
    miss_rate: float,
    budget: float,
    seed: int,
    store: "str | Path | None",
) -> Effects:
    """Exact effects of the `top` units found, best first by mean |dP|, with the certificate in their header.

    `measured(units, method=..., store=...)` returns effects of one intervention, and `estimator` says how to estimate.
    Every part of the search is a store of
    its own in the folder `store`, so that the same call resumes; the result is the store `store / "top"`, and
    `store / "searches"` keeps the certificates of all the searches made there.
    """
    folder = None if store is None else Path(store)
    if folder is not None and (folder / "zarr.json").exists():
        raise ArtefactError(f"{folder} is the store of one measurement: give a search a folder of its own")
    parts: list[Effects] = []

    def measure(chosen: list[Unit], method: str | Linear, label: str) -> Float[np.ndarray, " chosen"]:
        path = None if folder is None else folder / f"{label}-{_digest(chosen)}"
        parts.append(measured(chosen, method=method, store=path))
        return scores_of(parts[-1])

    def exactly(chosen: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, " chosen"]:
        return measure([units[index] for index in chosen.tolist()], "exact", "exact")

    def estimated() -> Float[np.ndarray, " unit"]:
        estimates = measure(units, estimator, estimator.label.replace(",", "").replace(" ", "-"))
        parts.clear()
        return estimates

    pool = pool_of(
        model, probe, units, intervention, property=property, positions=positions, reference=reference, method=estimator
    )
    options = dict(top=top, confidence=confidence, miss_rate=miss_rate, budget=budget, seed=seed)
    found, certificate = search(pool, estimated, exactly, **options)
    certificate = replace(certificate, estimates=estimator.label if certificate.strata else "")
    if folder is not None:
        certificate = numbered(certificate, folder / SEARCHES)
    effects = _joined(parts, [str(units[index]) for index in found.tolist()])
    effects.header["certificate"] = certificate.as_json()
    if folder is not None:
        effects.save(folder / RESULT)
    return effects


def numbered(certificate: Certificate, path: Path) -> Certificate:
    """With its place among the certificates in this file, which it joins; the same one joins it once.

    Raises `ArtefactError` where the file is damaged.
    """
    stored = read_json(path, SEARCHES, 1).get("certificates") if path.exists() else []
    if not isinstance(stored, list):
        raise ArtefactError(f"{path} holds no list of certificates: it is damaged")
    before = [Certificate.from_json(each) for each in stored]
    known = next((each for each in before if replace(each, number=1) == certificate), None)
    if known is not None:
        return known
    certificate = replace(certificate, number=len(before) + 1)
    write_json(path, SEARCHES, 1, {"certificates": [*stored, certificate.as_json()]})
    return certificate


def scores_of(effects: Effects) -> Float[np.ndarray, " unit"]:
    """Mean |dP| over the examples of the first intervention, in double precision; NaN where one example is."""
    return np.abs(effects.dP[:, 0].astype(np.float64)).mean(1)


def pool_of(
    model: Model,
    probe: Probe,
    units: list[Unit],
    intervention: Intervention,
    *,
    property: Property | None = None,
    positions: Positions = "all",
    reference: Probe | None = None,
    method: Linear | None = None,
) -> Pool:
    """What measuring each unit costs: the share of the blocks and the read-out (counted as one more) that runs again.

    An additive unit of block l (a neuron) starts after it, others start with it. Where only late positions run, it is
    that share of them. Every call takes a pass for clean values and activations (where only late positions run, besides
    it one over the earlier ones, and two over the late ones), one for the counterparts where there are any, and one for
    the values that the intervention puts in, where they come from other inputs (of a mean, over its `reference`).
    """
    blocks = len(model.blocks)
    start: dict[str, int] = {}
    for name in {unit.site for unit in units}:
        entrance = model.additive_entrance(model.sites[name])
        start[name] = model.sites[name].start if entrance is None else entrance
    property = LogitDifference() if property is None else property
    tokens, gap = rows_of(model, probe, property), isinstance(property, PairGap)
    late = None if intervention.as_affine() is None else LateLayout.of_positions(model, tokens, positions)
    longest = max(map(len, tokens.inputs))
    share = 1.0 if late is None else late.width / longest
    costs = np.array([share * (blocks + 1 - start[unit.site]) / (blocks + 1) for unit in units])
    codes = {pair: code for code, pair in enumerate(dict.fromkeys((unit.layer, unit.kind) for unit in units))}
    groups = np.array([codes[unit.layer, unit.kind] for unit in units])
    paired = not gap and any(example.counterpart is not None for example in probe.examples)
    calling = 1.0 + paired + (0.0 if late is None else 1.0 + share)
    for donor in donors_of([intervention]):
        if isinstance(donor, MeanDonor):
            told = (probe if reference is None else reference).tokenize(model.tokenizer, ReadsNothing()).inputs
            calling += len(told) * max(map(len, told)) / (len(tokens.inputs) * longest)
        elif not isinstance(donor, UnitDonor):
            calling += 1.0
    return Pool(costs, groups, calling, (Linear() if method is None else method).passes(model, units))


def _joined(parts: list[Effects], names: list[str]) -> Effects:
    """The named rows of several measurements, as one."""
    rows = {name: part.dP[row] for part in parts for row, name in enumerate(part.header["units"])}
    plans = list(dict.fromkeys(plan for part in parts for plan in part.header["plans"]))
    header = parts[0].header | {"units": names, "plans": plans}
    return Effects(np.stack([rows[name] for name in names]), parts[0].clean, parts[0].total, header)


def _digest(units: list[Unit]) -> str:
    return hashlib.sha256(json.dumps([str(unit) for unit in units]).encode()).hexdigest()[:16]
