"""Before and after: do the units that carried the cue still carry it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from icp.audit import Audit, audit
from icp.effects import Effects
from icp.errors import IcpError, ProbeError
from icp.interventions import Swap
from icp.model import Model
from icp.probes import Probe
from icp.resampling import bootstrap_error, interval
from icp.statistics import mean_interval
from icp.sweep.joint import measure_sets
from icp.sweep.linear import Linear
from icp.sweep.measure import measure
from icp.units import Unit

if TYPE_CHECKING:
    import pandas

SWAP = "swap:counterpart"


@dataclass(frozen=True, eq=False)
class Carriers:
    """What `icp.carriers` measured. The first model is the one before; all effects are in the direction in which the
    cue pushes P there, so that a model which it pushes the other way has negative ones.

    `ranked[model]` are the effects, estimated or exact, of all units. `half` [example] says which of two halves a pair
    is in, and `sets` are the top `k` units before by each half. `carried[model]` [example] is the joint indirect effect
    of the set that the other half chose. `exact[model]` has exact effects of some units, where `ranked` are estimates.
    """

    k: int
    ranked: dict[str, Effects]
    half: Bool[np.ndarray, " example"]
    sets: tuple[tuple[Unit, ...], tuple[Unit, ...]]
    carried: dict[str, np.ndarray]
    exact: dict[str, Effects]

    @property
    def models(self) -> list[str]:
        return list(self.ranked)

    @property
    def before(self) -> str:
        return self.models[0]

    @property
    def agreement(self) -> float:
        """The share of the top k before that both halves of the pairs have in their top k: what ranking is worth."""
        return len(set(self.sets[0]) & set(self.sets[1])) / self.k

    @cached_property
    def audits(self) -> dict[str, Audit]:
        """What exact effects said of the estimates of each model, in the direction of the model before."""
        total = self.ranked[self.before].total
        return {
            model: audit(replace(self.ranked[model], total=total), replace(exact, total=total), SWAP)
            for model, exact in self.exact.items()
        }

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """A row a model; `_low` and `_high` are the interval over pairs, clustered by template and word.

        | column | meaning |
        |---|---|
        | `overlap` | the share of the top k before that is in the model's top k; `chance` is k of all units |
        | `total` | the mean effect of the cue, P(x') - P(x) |
        | `carried` | of it, the joint indirect effect of the top k before, chosen on the half of the pairs not used |
        | `carried_change` | this model's `carried` less that of the model before, pair by pair: below 0 carries less |
        | `relative_change` | that over `carried` before: 0 is as before, -1 nothing left, below -1 turned round |
        | `spearman`, `recall` | of the estimates that rank, against exact effects: NaN where exact effects rank |

        `total` and `carried` are in units of P, above 0 where the cue pushes P the way that it did before (in each
        pair its own), and below 0 where the other way. So `total` of the model before is the mean size of
        the effect; where the signs of a cue's effect differ from pair to pair, any change of the model brings `total`
        and `carried` down. A ranking says little of a model through which no cue passes: read `overlap` beside `total`.
        `recall` is the share of the exact top k, of the units measured exactly, in the estimated one. Intervals of
        `overlap` are from a bootstrap that ranks anew, and NaN where no resample differs.
        """
        import pandas

        rows = [self._row(model, level) for model in self.models]
        return pandas.DataFrame(rows, index=pandas.Index(self.models, name="model"))

    def _row(self, model: str, level: float) -> dict[str, float]:
        clusters, before = self.ranked[self.before].clusters, self.carried[self.before]
        total = self.ranked[model].total * np.sign(self.ranked[self.before].total)
        change = mean_interval(self.carried[model] - before, clusters, level)
        same = {"mean": 1.0, "low": float("nan"), "high": float("nan")}
        row = _named("overlap", same if model == self.before else self._overlap(model, level))
        row["chance"] = self.k / len(self.ranked[model].dP)
        row |= _named("total", mean_interval(total.astype(float), clusters, level))
        row |= _named("carried", mean_interval(self.carried[model], clusters, level)) | _named("carried_change", change)
        row["relative_change"] = change["mean"] / before.mean() if before.mean() else float("nan")
        told = self.audits.get(model)
        row["spearman"] = float("nan") if told is None else told.spearman
        row["recall"] = float("nan") if told is None else told.overlap(min(self.k, len(told.units)))
        return row

    def _overlap(self, model: str, level: float) -> dict[str, float]:
        both = [_towards(self.ranked[name], self.ranked[self.before]) for name in (self.before, model)]
        features = np.stack([effects.T for effects in both], axis=1)

        def shared(sums: Float[np.ndarray, "draw side unit"]) -> Float[np.ndarray, " draw"]:
            top = np.zeros(sums.shape, dtype=bool)
            np.put_along_axis(top, np.argpartition(-sums, self.k - 1, axis=-1)[..., : self.k], True, axis=-1)
            return top.all(1).sum(1) / self.k

        first = self.ranked[self.before]
        tops = (set(_top(self.ranked[name], first, self.k)) for name in (self.before, model))
        error = bootstrap_error(features, shared, first.clusters)
        return interval(len(set.intersection(*tops)) / self.k, error, first.clusters, level, 0.0, 1.0)


def carriers(
    models: Mapping[str, Model],
    probe: Probe,
    units: Sequence[Unit | str],
    *,
    k: int = 50,
    method: str | Linear = "linear",
    audited: int = 50,
    store: "str | Path | None" = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Carriers:
    """Follow the units that carry the cue most in the first of `models` through the others, on the same pairs.

    In each model all `units` are ranked by their indirect effect, the swap with the counterpart (Vig et al. 2020), by
    first-order estimates or, with `method="exact"`, exactly. The pairs are halved, by template where there are several:
    the top `k` before by one half are then swapped together, exactly and in each model, in the other half, so that no
    unit is judged on the pairs that it was chosen by. Where estimates rank, the top `k` of the model before, those of
    each model, and `audited` others drawn at random are measured exactly too (`Carriers.audits`).

    `options` (`property`, `positions`, `batch_size`) are those of `icp.measure`; with `store`, a folder, what was
    measured is kept, and the same call resumes. Raises `IcpError` for fewer than two models or more units asked for
    than there are, `ProbeError` for pairs that cannot be halved, and what `icp.measure` raises.
    """
    units = [Unit.parse(unit) for unit in units]
    if len(models) < 2:
        raise IcpError(f"{len(models)} model has nothing to be compared with: give the one before and those after it")
    if not 1 <= k <= len(units):
        raise IcpError(f"k={k} is not between 1 and the {len(units)} units")
    if audited < 0:
        raise IcpError(f"audited={audited} units: give 0 or more")
    half = _halved(probe, seed)
    swap, shared = Swap("counterpart"), options | {"progress": progress}

    def place(number: int, what: str) -> Path | None:
        return None if store is None else Path(store) / f"{number}-{what}"

    ranked = {
        name: measure(model, probe, units, swap, method=method, store=place(number, "ranked"), **shared)
        for number, (name, model) in enumerate(models.items())
    }
    first = next(iter(ranked.values()))
    chosen = tuple(_top(first, first, k, half == side) for side in (False, True))
    carried, exact = {}, {}
    random = np.random.default_rng(seed)
    drawn = {units[place] for place in random.permutation(len(units))[:audited]}
    for number, (name, model) in enumerate(models.items()):
        carried[name] = np.empty(len(probe))
        for side, members in zip((True, False), chosen):
            rows = np.flatnonzero(half == side)
            some = Probe(tuple(probe.examples[row] for row in rows))
            found = measure_sets(model, some, [members], swap, store=place(number, f"set-{int(side)}"), **shared)
            carried[name][rows] = found.dP[0] * np.sign(first.total[rows])
        if ranked[name].estimated:
            again = sorted({*_top(first, first, k), *_top(ranked[name], first, k), *drawn})
            exact[name] = measure(model, probe, again, swap, store=place(number, "exact"), **shared)
    return Carriers(k, ranked, half, chosen, carried, exact)


def _halved(probe: Probe, seed: int) -> Bool[np.ndarray, " example"]:
    """Half of the templates, or of the pairs where these have one template or none; drawn with `seed`."""
    codes = probe.clusters[:, 0]
    places, numbered = np.unique(codes, return_inverse=True)
    if len(places) < 2:
        raise ProbeError(f"{len(probe)} pair of one text cannot be halved, to choose units by one half: give more")
    return (np.random.default_rng(seed).permutation(len(places)) < len(places) // 2)[numbered.reshape(-1)]


def _towards(effects: Effects, before: Effects) -> Float[np.ndarray, "unit example"]:
    """dP, positive where it moves P as the cue moves it in the model before."""
    return effects.of(SWAP).astype(float) * np.sign(before.total)


def _top(effects: Effects, before: Effects, k: int, rows: np.ndarray | None = None) -> tuple[Unit, ...]:
    """The k units of largest mean effect, over these rows; of equal ones the first."""
    values = _towards(effects, before)
    means = (values if rows is None else values[:, rows]).mean(1)
    return tuple(effects.units[place] for place in np.argsort(-means, kind="stable")[:k])


def _named(name: str, told: dict[str, float]) -> dict[str, float]:
    return {name: told["mean"], f"{name}_low": told["low"], f"{name}_high": told["high"]}
