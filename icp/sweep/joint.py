"""Sets of units intervened on together: single effects do not add up, so a set is measured as a set."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from icp.bound import Property
from icp.effects import JOINT
from icp.errors import ArtefactError, UnitError
from icp.hooks import SiteEdits, edited
from icp.interventions import CounterpartDonor, Intervention, MeanDonor
from icp.masking import rows_of
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, require_label, require_single
from icp.sites import Site, columns_of
from icp.sweep.arguments import require_interventions, require_kinds, require_property
from icp.sweep.donors import Donors, Means, ReadsNothing, by_position, donors_of, needed_sites
from icp.sweep.lenders import require_lenders
from icp.sweep.memory import within_memory
from icp.sweep.plan import Layout, Plan, Positions, as_numpy
from icp.sweep.results import Results, Shard, header_of
from icp.sweep.routes import columns_needed, row_edits
from icp.sweep.store import Store, finished
from icp.units import Unit

AND = " & "


@dataclass(frozen=True, eq=False)
class SetEffects:
    """dP [set, example] with every unit of a set intervened on at once; `clean` [example] is P without.

    `header` is as that of `Effects`, its `units` the members of each set joined by " & ".
    """

    dP: np.ndarray
    clean: np.ndarray
    header: dict[str, Any]

    @property
    def sets(self) -> list[tuple[Unit, ...]]:
        return [tuple(Unit.parse(name) for name in names.split(AND) if name) for names in self.header["units"]]

    def save(self, path: "str | Path") -> Path:
        """Write a zarr store, whole or not at all; `icp.measure_sets(store=path)` writes the same as it goes."""
        Store.save(path, self.header, self.dP[:, None], self.clean, np.full_like(self.clean, np.nan))
        return Path(path)

    @classmethod
    def load(cls, path: "str | Path") -> "SetEffects":
        """Read a store; raises `ArtefactError` where it is foreign, damaged, or not measured to its end."""
        header, dP, clean, _ = finished(path)
        if header["method"] != JOINT:
            raise ArtefactError(f"{path} holds effects of single units: read it with icp.Effects.load")
        return cls(dP[:, 0], clean, header)


def measure_sets(
    model: Model,
    probe: Probe,
    sets: Sequence[Sequence[Unit | str]],
    intervention: Intervention,
    *,
    property: Property | None = None,
    positions: Positions = "all",
    reference: Probe | None = None,
    batch_size: int | None = None,
    store: "str | Path | None" = None,
    progress: bool = True,
) -> SetEffects:
    """dP of each set of units, all of one set under `intervention` together; an empty set gives 0.

    A swap with another unit uses that unit's value in the clean run. Where images are classified by captions a set may
    have units of both towers; those of the text tower are masked, by zero or the mean, or scaled.

    With `store`, finished chunks of sets are kept in a zarr folder, and the same call resumes after a kill. Raises
    `UnitError` where two units of a set cover the same values (a head and one of its dimensions), `ArtefactError` for a
    store of another measurement. dP is NaN where the model returns NaN or infinity under an edit; without one that
    raises `NotFiniteError`.
    """
    require_kinds(model, probe, reference, positions, batch_size, store)
    require_interventions([intervention])
    sets = [[Unit.parse(unit) for unit in members] for members in sets]
    property = LogitDifference() if property is None else property
    require_property(property)
    require_single(property)
    require_label(property, store is not None)
    require_label(intervention, store is not None)
    if not sets:
        raise UnitError("no sets of units were given")
    model = _whole(model, sets)
    for members in sets:
        for unit in members:
            require_reached(model, unit)
        require_disjoint(model, members)
    everyone = sorted({unit for members in sets for unit in members})
    elsewhere = [unit for unit in everyone if model.holding(unit) is not model]
    everyone = [unit for unit in everyone if model.holding(unit) is model]
    if elsewhere:
        _require_everywhere(elsewhere[0], intervention, positions)
    tokens = rows_of(model, probe, property)
    donors = donors_of([intervention])
    require_lenders(model, tokens, probe if reference is None else reference, donors, everyone)
    if any(isinstance(donor, CounterpartDonor) for donor in donors):
        tokens.require_alignment()
    with model.frozen(), torch.no_grad():
        layout = Layout.of(model, tokens, "right")
        where = layout.where(positions)
        plan = Plan.of(model, layout, batch_size)
        clean, plan = within_memory(plan, partial(layout.clean, model))
        means = None
        if everyone and any(isinstance(donor, MeanDonor) for donor in donors):
            told = (probe if reference is None else reference).tokenize(model.tokenizer, ReadsNothing())
            sites = needed_sites(model, [intervention], everyone)
            asked = dict(width=layout.width, per_position=by_position(donors))
            means, plan = within_memory(plan, partial(Means, model, told, sites, **asked))
        beside = _Beside.of(model, probe if reference is None else reference, intervention, elsewhere, plan)
        names = [AND.join(map(str, members)) for members in sets]
        header = header_of(model, probe, names, [intervention], layout, JOINT, positions, reference, "right")
        kept = as_numpy(clean)
        total = np.full_like(tokens.folded(kept), np.nan)
        results = Results.of(header, plan, kept, total, False, store, Shard(), tokens.folded)
        there = len(sets) - sum(map(len, results.todo))
        shown = dict(unit="set", desc="joint sets", disable=not progress, leave=False)
        with tqdm(total=len(sets), initial=there, **shown) as bar:
            for chunk in results.todo:
                measured = partial(
                    _measured, model, layout, [sets[i] for i in chunk], intervention, where, means, beside, clean
                )
                dP, plan = within_memory(plan, measured)
                results.write(chunk, as_numpy(dP)[:, None], plan)
                bar.update(len(chunk))
    found = results.effects(names)
    return SetEffects(found.dP[:, 0], found.clean, found.header)


def _measured(
    model: Model,
    layout: Layout,
    sets: list[list[Unit]],
    intervention: Intervention,
    where: Tensor,
    means: Means | None,
    beside: "_Beside",
    clean: Tensor,
    plan: Plan,
) -> Tensor:
    """dP [set, example] of a few sets."""
    others = [tuple(unit for unit in members if unit in beside.units) for members in sets]
    mine = [[unit for unit in members if unit not in beside.units] for members in sets]
    columns = columns_needed(model, [unit for members in mine for unit in members], [intervention])
    starts = [min((model.sites[unit.site].start for unit in members), default=0) for members in mine]
    kinds = [*zip(starts, others)]
    order = sorted((number for number, members in enumerate(sets) if members), key=kinds.__getitem__)
    result = clean.repeat(len(sets), 1)
    for examples in torch.arange(layout.examples, device=model.device).split(plan.batch_size) if order else ():
        entered = sorted({starts[number] for number in order} - {0})
        lent = Donors(model, layout, [intervention], columns, means, plan, examples, entered, clean=bool(columns))
        for (start, other), alike in groupby(order, key=kinds.__getitem__):
            for together in _batched(list(alike), max(1, plan.batch_size // len(examples))):
                edits = _edits(model, lent, [mine[number] for number in together], intervention, examples, where)
                hidden = lent.hidden[start].repeat(len(together), 1, 1) if start else None
                with edited(edits), beside.edited(other):
                    value = layout.value(model, examples.repeat(len(together)), start=start, hidden=hidden)
                result[torch.tensor(together)[:, None], examples] = value.view(len(together), -1)
    difference = result - clean
    return difference.where(difference.isfinite(), torch.nan)


@dataclass(frozen=True, eq=False)
class _Beside:
    """Units of the text tower beside a vision tower: an edit of them is the same for every image."""

    tower: Model
    units: frozenset[Unit]
    alpha: float
    means: dict[str, Tensor]

    @classmethod
    def of(cls, model: Model, reference: Probe, what: Intervention, units: list[Unit], plan: Plan) -> "_Beside":
        if not units:
            return cls(model, frozenset(), 1.0, {})
        affine, means = what.as_affine(), {}
        if affine.donor is not None:
            told = reference.tokenize(model.other.tokenizer, ReadsNothing())
            means = Means(model.other, told, needed_sites(model.other, [], units), plan).overall
        return cls(model.other, frozenset(units), affine.alpha, means)

    @contextmanager
    def edited(self, units: tuple[Unit, ...]) -> Iterator[None]:
        """These units edited in every caption."""
        with ExitStack() as stack:
            for unit in units:
                site = self.tower.site(unit)
                columns = list(site.columns(unit))
                shift = self.means[site.name][columns] if self.means else 0.0

                def edit(values, columns=columns, shift=shift):
                    new = values.clone()
                    new[:, :, columns] = self.alpha * values[:, :, columns] + shift
                    return new

                stack.callback(site.hook(edit).remove)
            yield


def _whole(model: Model, sets: list[list[Unit]]) -> Model:
    """The vision tower in the place of a text tower under captions, where units of both are meant."""
    both = any(model.holding(unit) is not model for members in sets for unit in members)
    return model.other if model.family.abreast and both else model


def _require_everywhere(unit: Unit, what: Intervention, positions: Positions) -> None:
    affine = what.as_affine()
    if affine is None or affine.donor not in (None, MeanDonor()):
        raise UnitError(
            f"{what.label} cannot edit {unit} in every caption alike: use Mask('zero'), Mask('mean') or Scale"
        )
    if positions != "all":
        raise UnitError(f"positions={positions!r} are an image's, and {unit} is in the text tower: use 'all'")


def _batched(numbers: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _edits(
    model: Model,
    donors: Donors,
    sets: list[list[Unit]],
    intervention: Intervention,
    examples: Tensor,
    where: Tensor,
) -> list[tuple[Site, SiteEdits]]:
    """Every member's edit in the rows of its set, which follow each other; widths of one site are edited apart."""
    alike: dict[tuple[str, str], list[tuple[int, Unit]]] = {}
    for number, members in enumerate(sets):
        for unit in members:
            alike.setdefault((unit.site, unit.kind), []).append((number, unit))
    count = len(examples)
    edits = []
    for (name, _), units in alike.items():
        site = model.sites[name]
        columns = columns_of(model.sites, [unit for _, unit in units], model.device).repeat_interleave(count, 0)
        first = torch.tensor([number * count for number, _ in units], device=model.device)
        rows = (first[:, None] + torch.arange(count, device=model.device)).flatten()
        example = examples.repeat(len(units))
        which = torch.zeros(len(rows), dtype=torch.long, device=model.device)
        edits.append((site, row_edits(donors, site, columns, [intervention], which, example, where[example], rows)))
    return edits


def require_reached(model: Model, unit: Unit) -> None:
    """Raise `UnitError` for a unit of the other tower where what that gives is given: hooks would change nothing."""
    if model.holding(unit) is model or (model.captions is not None and not model.family.abreast):
        return
    if model.family.abreast:
        raise UnitError(f"{unit} is in the vision tower, and this is the text tower under captions: use model.other")
    raise UnitError(
        f"{unit} is in the other tower, which makes what the {model.family.tower} tower's representations are compared "
        "with, and no hook reaches that: prune the selection and measure then"
    )


def require_disjoint(model: Model, units: list[Unit]) -> None:
    """Raise `UnitError` where two units cover the same values, or one is given twice."""
    taken: dict[tuple[str, int], Unit] = {}
    for unit in units:
        for column in model.holding(unit).site(unit).columns(unit):
            if (unit.site, column) in taken:
                other = taken[unit.site, column]
                raise UnitError(f"{other} and {unit} cover the same values: keep one of them in a set")
            taken[unit.site, column] = unit
