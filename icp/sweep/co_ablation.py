"""Pairwise co-ablation: what a unit does once another one, which may stand in for it, is intervened on too.

Ablating one head hides the heads that would take over (self-repair; Wang et al. 2023, McGrath et al. 2023): a unit with
a backup looks unimportant alone. The effect of u given v is dP(u and v) - dP(v), and v is a backup of u where the mean
of its size exceeds that of u alone by more than chance in the examples, and in the choice of v, explains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from icp.bound import Property
from icp.errors import ArtefactError, IcpError
from icp.interventions import Intervention, Mask
from icp.model import Model
from icp.probes import Probe
from icp.statistics import clusters_of, fewest_clusters, standard_error
from icp.sweep.joint import SetEffects, measure_sets
from icp.sweep.plan import Positions
from icp.units import Unit

if TYPE_CHECKING:
    import pandas

LEVEL = 0.05
ROUNDINGS = 64
"""Roundings of P that a gain must exceed besides: as many as its four values, each of many sums, may add up to."""


@dataclass(frozen=True, eq=False)
class CoAblation:
    """What units do alone and in pairs, of which `measured` holds every unit and then every pair."""

    measured: SetEffects

    @classmethod
    def load(cls, path: "str | Path") -> "CoAblation":
        """Read a store; raises `ArtefactError` for one that `icp.co_ablation` did not write to its end."""
        found = cls(SetEffects.load(path))
        if found.measured.sets != _sets(found.units):
            raise ArtefactError(f"{path} holds other sets than single units and all their pairs: it is no co-ablation")
        return found

    def save(self, path: "str | Path") -> Path:
        """Write a zarr store, whole or not at all; `icp.co_ablation(store=path)` writes the same as it goes."""
        return self.measured.save(path)

    @property
    def header(self) -> dict[str, Any]:
        """The labels and the provenance, as of `Effects`."""
        return self.measured.header

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        return tuple(members[0] for members in self.measured.sets if len(members) == 1)

    @property
    def alone(self) -> Float[np.ndarray, "unit example"]:
        """dP of each unit alone, in the property's unit."""
        return self.measured.dP[: len(self.units)]

    @cached_property
    def both(self) -> Float[np.ndarray, "unit unit example"]:
        """dP of each pair; `both[u, u]` is the unit alone."""
        alone, count = self.alone, len(self.units)
        both = np.empty((count, *alone.shape), alone.dtype)
        both[range(count), range(count)] = alone
        for (u, v), together in zip(combinations(range(count), 2), self.measured.dP[count:]):
            both[u, v] = both[v, u] = together
        return both

    @property
    def given(self) -> Float[np.ndarray, "unit unit example"]:
        """`given[u, v]`: the effect of u where v is intervened on already, dP(u and v) - dP(v); alone where u is v."""
        given = self.both - self.alone[None]
        diagonal = np.arange(len(self.units))
        given[diagonal, diagonal] = self.alone
        return given

    @property
    def interaction(self) -> Float[np.ndarray, "unit unit"]:
        """Mean of dP(u and v) - dP(u) - dP(v): 0 where effects add up; 0 on the diagonal."""
        return (self.given - self.alone[:, None]).mean(2)

    @cached_property
    def gain(self) -> Float[np.ndarray, "unit unit"]:
        """`gain[u, v]`: mean of |dP(u | v)| - |dP(u)| over the examples; 0 on the diagonal.

        NaN where an example of u, of v or of the two has no number.
        """
        return self._gains.mean(2)

    @cached_property
    def gain_error(self) -> Float[np.ndarray, "unit unit"]:
        """The standard error of `gain`, clustered by the examples' templates and words; NaN where there is one."""
        return standard_error(self._gains, clusters_of(self.header["examples"]))

    @property
    def _gains(self) -> Float[np.ndarray, "unit unit example"]:
        return np.abs(self.given).astype(np.float64) - np.abs(self.alone).astype(np.float64)[:, None]

    @property
    def errors_needed(self) -> float:
        """How many standard errors a unit's gain given another must exceed for that one to be its backup.

        The one-sided 95% quantile of Student's t for as many gains as a unit has (Bonferroni), with one degree of
        freedom less than there are templates, or words where these are fewer. So a unit that no other backs up is
        given a backup in at most 5% of samples of examples, as far as t holds. NaN where there is one example.
        """
        from scipy.stats import t

        groups = fewest_clusters(self.alone.shape[1], clusters_of(self.header["examples"]))
        return float(t.isf(LEVEL / (len(self.units) - 1), groups - 1)) if groups > 1 else float("nan")

    @property
    def left_out(self) -> int:
        """How many pairs have no gain, because an example of them, or of one of the two, has no number."""
        return int(np.isnan(self.gain + self.gain.T)[np.triu_indices(len(self.units), 1)].sum())

    @property
    def backs_up(self) -> Bool[np.ndarray, "unit unit"]:
        """`backs_up[u, v]`: whether v is a backup of u, as its gain exceeds `errors_needed` and the rounding of P."""
        size = np.abs(self.measured.clean).max() + np.nanmax(np.abs(self.measured.dP), initial=0.0)
        rounding = ROUNDINGS * torch.finfo(getattr(torch, self.header["dtype"].removeprefix("torch."))).eps * size
        return self.gain > np.maximum(self.errors_needed * self.gain_error, rounding)

    def table(self) -> "pandas.DataFrame":
        """One row a unit, in the order of its effect given its backup; those without a number come last.

        `S` is its mean |dP| alone, `backup` the unit whose removal raises that most among those that `backs_up` it
        (itself where none does), `S given backup` the mean |dP(u | backup)|. `gain` and `standard error` are of the
        backup, or where there is none of the unit that came nearest, by gain over error. `rank` and `rank given backup`
        are the places, from 1, in the orders of `S` and of `S given backup`.
        """
        import pandas

        own = np.arange(len(self.units))
        gain, error, backs_up = self.gain, self.gain_error, self.backs_up
        with np.errstate(divide="ignore", invalid="ignore"):
            near = gain / error
        nearest = np.where(np.isnan(near) | (own == own[:, None]), -np.inf, near).argmax(1)
        backed = backs_up.any(1)
        other = np.where(backed, np.where(backs_up, gain, -np.inf).argmax(1), nearest)
        backup = np.where(backed, other, own)
        alone = np.abs(self.alone).astype(np.float64).mean(1)
        with_backup = alone + np.where(backed, gain[own, other], 0.0)
        columns = {
            "S": alone,
            "S given backup": with_backup,
            "backup": [str(self.units[unit]) for unit in backup],
            "gain": gain[own, other],
            "standard error": error[own, other],
            "rank": _places(alone),
            "rank given backup": _places(with_backup),
        }
        table = pandas.DataFrame(columns, index=pandas.Index([str(unit) for unit in self.units], name="unit"))
        return table.sort_values("rank given backup")

    def changes(self, k: int) -> list[Unit]:
        """The units that are among the first `k` given their backup and are not alone: empty where nothing changes.

        Only backups whose gain exceeds `errors_needed` count. Raises `IcpError` for a `k` beyond the units.
        """
        if not 1 <= k <= len(self.units):
            raise IcpError(f"k={k} is not between 1 and the {len(self.units)} units that were measured in pairs")
        table = self.table()
        return [Unit.parse(unit) for unit in table.index[(table["rank given backup"] <= k) & (table["rank"] > k)]]


def _places(scores: np.ndarray) -> np.ndarray:
    """Places from 1, largest first, NaN last."""
    places = np.empty(len(scores), dtype=int)
    places[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return places


def _sets(units: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """Every unit, and then every pair."""
    return [*((unit,) for unit in units), *combinations(units, 2)]


def co_ablation(
    model: Model,
    probe: Probe,
    units: Sequence[Unit | str],
    intervention: Intervention | None = None,
    *,
    property: Property | None = None,
    positions: Positions = "all",
    reference: Probe | None = None,
    batch_size: int | None = None,
    store: "str | Path | None" = None,
    progress: bool = True,
) -> CoAblation:
    """Measure every unit alone and every pair of them together, by default under `Mask("mean")`.

    It costs k (k + 1) / 2 joint measurements: meant for the first tens of a ranking. With `store`, finished chunks are
    kept in a zarr folder, and the same call resumes. Raises `UnitError` where two units cover the same values,
    `IcpError` for fewer than two.
    """
    units = tuple(Unit.parse(unit) for unit in units)
    if len(units) < 2:
        raise IcpError(f"co-ablation needs two units or more, got {len(units)}")
    intervention = Mask("mean") if intervention is None else intervention
    return CoAblation(
        measure_sets(
            model, probe, _sets(units), intervention, property=property, positions=positions,
            reference=reference, batch_size=batch_size, store=store, progress=progress,
        )
    )  # fmt: skip
