"""What a sweep has measured so far: in a store where there is one, else in memory."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from icp.effects import Effects
from icp.errors import ArtefactError, IcpError
from icp.interventions import Intervention
from icp.model import Model
from icp.probes import Probe
from icp.sweep.begun import Begun, drop, keep, kept
from icp.sweep.plan import Layout, Plan, Positions
from icp.sweep.provenance import provenance
from icp.sweep.store import Store
from icp.units import Unit


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 1: every `count`-th chunk, so that all shards have blocks of all depths."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, shard: "str | Shard | None") -> "Shard":
        """Read `"3/16"`; raises `IcpError` for anything else."""
        if shard is None or isinstance(shard, Shard):
            return shard or cls()
        index, slash, count = str(shard).partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise IcpError(f"shard {shard!r} is not a part of a whole: write it as '3/16', from '1/16' to '16/16'")
        return cls(int(index), int(count))

    def of(self, chunks: list[range]) -> list[range]:
        return chunks[self.index - 1 :: self.count]


@dataclass(eq=False)
class Results:
    """dP of the chunks of a shard that are measured, with P(x) and the total effect.

    `folded` makes a value an example of those of the rows that were run. With `gap` the examples come in two halves, x
    and x', and what is kept is the first less the second.
    """

    header: dict
    clean: np.ndarray
    total: np.ndarray
    gap: bool
    chunks: list[range]
    store: Store | None
    dP: np.ndarray
    plans: list[str]
    earlier: dict[range, list[int]]
    """The batch sizes by which the first examples of unfinished chunks were measured."""
    folded: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(
        cls,
        header: dict,
        plan: Plan,
        clean: np.ndarray,
        total: np.ndarray,
        gap: bool,
        path: "str | Path | None",
        shard: Shard,
        folded: Callable[[np.ndarray], np.ndarray],
    ) -> "Results":
        clean = folded(clean)
        largest = float(np.abs(clean).max())
        if gap:
            clean = _less(clean)
            total = -2 * clean
        store, chunk = None, plan.unit_chunk
        if path is not None:
            store = Store.create(path, header, str(clean.dtype), plan)
            store.write_examples(clean, total, largest)
            chunk = store.chunk
        count = len(header["units"])
        chunks = shard.of([range(start, min(start + chunk, count)) for start in range(0, count, chunk)])
        shape = (count, len(header["interventions"]), len(header["examples"]))
        dP = np.empty(0 if store else shape, clean.dtype)
        return cls(header, clean, total, gap, chunks, store, dP, [], {}, folded)

    @property
    def todo(self) -> list[range]:
        """The chunks that have not been measured."""
        if self.store is None:
            return self.chunks
        measured = self.store.measured()
        return [chunk for chunk in self.chunks if not measured[chunk.start : chunk.stop].all()]

    def begun(self, chunks: list[range], examples: int) -> dict[range, Begun]:
        """What is kept of chunks that are not finished, with room for this many examples."""
        if self.store is None:
            return {}
        for chunk in set(self.chunks) - set(chunks):
            drop(self.store.path, chunk)  # a process that was killed may not have come to it
        found = {chunk: kept(self.store.path, chunk, examples) for chunk in chunks}
        self.earlier |= {chunk: there[1] for chunk, there in found.items() if there is not None}
        return {chunk: there[0] for chunk, there in found.items() if there is not None}

    def keep(self, chunk: range, values: np.ndarray, plan: Plan) -> None:
        """Keep a chunk's effects on the first examples, of which `plan` measured the last."""
        self.earlier[chunk] = self._sizes(chunk, plan)
        if self.store is not None:
            keep(self.store.path, chunk, values, self.earlier[chunk])

    def write(self, chunk: range, values: np.ndarray, plan: Plan) -> None:
        """Keep a chunk's effects, of which `plan` measured the last examples."""
        values = self.folded(values)
        values = _less(values) if self.gap else values
        sizes = self._sizes(chunk, plan)
        self.earlier.pop(chunk, None)
        if self.store is not None:
            self.store.write(chunk, values, sizes)
            return drop(self.store.path, chunk)
        self.dP[chunk.start : chunk.stop] = values
        used = [repr(replace(plan, batch_size=size)) for size in sizes]
        self.plans.extend(name for name in used if name not in self.plans)

    def _sizes(self, chunk: range, plan: Plan) -> list[int]:
        return list(dict.fromkeys([*self.earlier.get(chunk, []), plan.batch_size]))

    def effects(self, units: "list[Unit] | list[str]") -> Effects:
        """Those of the shard's units, in the caller's order."""
        dP, notes = self.dP, {"plans": self.plans}
        if self.store is not None:
            dP, notes = self.store.read()[0], self.store.notes
        place = {self.header["units"][index]: index for chunk in self.chunks for index in chunk}
        names = [name for name in map(str, units) if name in place]
        if names != self.header["units"]:
            dP = dP[[place[name] for name in names]]
        return Effects(dP, self.clean, self.total, self.header | {"units": names} | notes)


def header_of(
    model: Model,
    probe: Probe,
    units: list[str],
    interventions: list[Intervention],
    layout: Layout,
    method: str,
    positions: Positions,
    reference: Probe | None,
    padding_side: str,
) -> dict[str, Any]:
    """The labels of a measurement, and all that its numbers depend on."""
    property = layout.tokens.property
    return {
        "units": units,
        "interventions": [what.label for what in interventions],
        "examples": [json.loads(json.dumps(example.stored)) for example in probe.examples],
        "property": property.label,
        "unit_of_P": property.unit,
        "method": method,
        "positions": positions if isinstance(positions, str) else list(positions),
        "reference": None if reference is None else reference.digest,
        "padding_side": padding_side,
        "dtype": str(model.dtype),
        "model": model.name,
        "binding": model.binding,
        **provenance(model, layout, reference),
    }


def stored(path: "str | Path", units: list[Unit]) -> Effects:
    """Those of a store that others have written, in the caller's order."""
    if not Path(path).exists():
        raise ArtefactError(f"the workers' store {path} is not on this machine: give a path on a disk that all share")
    found = Effects.load(path)
    place = {name: index for index, name in enumerate(found.header["units"])}
    names = [str(unit) for unit in units]
    dP = found.dP[[place[name] for name in names]]
    return Effects(dP, found.clean, found.total, found.header | {"units": names})


def _less(values: np.ndarray) -> np.ndarray:
    """The first half of the examples less the second."""
    half = values.shape[-1] // 2
    return values[..., :half] - values[..., half:]
