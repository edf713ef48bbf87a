"""Pairwise co-ablation: what a unit does once another one, which may stand in for it, is intervened on too.

Ablating one head hides the heads that would take over (self-repair; Wang et al. 2023, McGrath et al. 2023): a unit with
a backup looks unimportant alone. The effect of u given v is dP(u and v) - dP(v).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from icp.errors import ArtefactError, IcpError
from icp.interventions import Intervention, Mask
from icp.model import Model
from icp.probes import Probe
from icp.properties import Property
from icp.sweep.joint import SetEffects, measure_sets
from icp.sweep.plan import Positions
from icp.units import Unit

if TYPE_CHECKING:
    import pandas


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

    def table(self) -> "pandas.DataFrame":
        """One row a unit, in the order of its largest effect given any other.

        `S` is its mean |dP| alone, `S given backup` the largest mean |dP(u | v)|, `backup` the v of that one (itself
        where no other unit makes it larger), `rank` and `rank given backup` the places, from 1, in the two orders.
        """
        import pandas

        conditional = np.abs(self.given).mean(2)
        alone, best = conditional.diagonal(), conditional.argmax(1)
        best = np.where(conditional.max(1) > alone, best, np.arange(len(self.units)))
        with_backup = conditional[np.arange(len(self.units)), best]
        columns = {
            "S": alone,
            "S given backup": with_backup,
            "backup": [str(self.units[other]) for other in best],
            "rank": _places(alone),
            "rank given backup": _places(with_backup),
        }
        table = pandas.DataFrame(columns, index=pandas.Index([str(unit) for unit in self.units], name="unit"))
        return table.sort_values("rank given backup")

    def changes(self, k: int) -> list[Unit]:
        """The units that are among the first `k` given their backup and are not alone: empty where nothing changes."""
        if not 1 <= k <= len(self.units):
            raise IcpError(f"k={k} is not between 1 and the {len(self.units)} units that were measured in pairs")
        table = self.table()
        return [Unit.parse(unit) for unit in table.index[(table["rank given backup"] <= k) & (table["rank"] > k)]]


def _places(scores: np.ndarray) -> np.ndarray:
    """Places from 1, largest first."""
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
