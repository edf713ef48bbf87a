"""Measuring in a lower precision, and what that did to the ranking."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from icp.effects import Effects
from icp.errors import IcpError
from icp.model import Model
from icp.sweep.results import Shard, stored
from icp.sweep.store import Store
from icp.units import Unit
from icp.weights import copied_in

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
COMPARED = 64


def measured_in(
    model: Model,
    dtype: torch.dtype,
    units: list[Unit],
    call: Callable[..., Effects],
    *,
    store: "str | Path | None",
    shard: Shard,
) -> Effects:
    """Effects of a copy of the model in `dtype`, with their rank correlation against the model's own dtype.

    `call(model, units, store=..., shard=...)` measures. Up to 64 units, evenly spaced over the ranking by S = mean
    |dP|, are measured again on the model itself; Spearman's correlation of the two S goes into the header (and into the
    store, where there is one) as `rank_correlation`. Of shards, the one that finds all units measured takes it.
    """
    if dtype not in DTYPES:
        raise IcpError(f"cannot measure in {dtype}: use {', '.join(map(str, DTYPES))}")
    effects = call(replace(model, module=copied_in(model.module, dtype)), units, store=store, shard=shard)
    if "rank_correlation" in effects.header or (store is not None and not Store.open(store).measured().all()):
        return effects
    whole = effects if len(effects.units) == len(units) else stored(store, units)
    found = _compared(model, whole, call)
    if store is not None:
        Store.open(store).note("rank_correlation", found)
    return replace(effects, header=effects.header | {"rank_correlation": found})


def _compared(model: Model, effects: Effects, call: Callable[..., Effects]) -> dict[str, object]:
    from scipy.stats import spearmanr

    score = np.abs(effects.dP).mean((1, 2))
    ranking = np.argsort(-score, kind="stable")
    ranking = ranking[np.isfinite(score[ranking])]
    spaced = np.unique(np.linspace(0, len(ranking) - 1, min(COMPARED, len(ranking))).round().astype(int))
    chosen = ranking[spaced]
    everyone = effects.units
    again = np.abs(call(model, [everyone[i] for i in chosen], store=None, shard=None).dP).mean((1, 2))
    known = np.isfinite(again)
    rho = float(spearmanr(score[chosen][known], again[known]).statistic) if known.sum() > 2 else float("nan")
    return {"spearman": rho, "units": int(known.sum()), "against": str(model.dtype)}
