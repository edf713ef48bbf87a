"""The values that interventions put in: means, counterparts, other units, other examples."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icp.batch import Batch
from icp.bound import Property
from icp.hooks import captured, on_input, on_output
from icp.interventions import CounterpartDonor, Donor, ExampleDonor, Intervention, MeanDonor, UnitDonor
from icp.model import Model
from icp.probes import Tokens
from icp.sites import Site, columns_of
from icp.sweep.lenders import drawn
from icp.sweep.plan import Layout, Plan
from icp.units import Unit


class ReadsNothing(Property):
    """For inputs that are run for their activations only: their texts, without a continuation."""

    unit = ""

    def targets(self, tokens, example, tokenizer):
        return []

    def of(self, logits, targets):
        return logits[:, 0]


class Means:
    """Mean activations over the attended tokens of the reference inputs: per site [width], and [pos, width] if asked.

    The plan's rows are `width` tokens long, where that is given: of longer reference inputs, fewer run at a time.
    """

    def __init__(
        self,
        model: Model,
        tokens: Tokens,
        sites: list[Site],
        plan: Plan,
        *,
        width: int | None = None,
        per_position: bool = False,
    ):
        batch = model.pad(tokens.inputs, "right")
        count = batch.mask.sum(0).double()
        longest = batch.ids.shape[1]
        total: dict[str, Tensor] = {}
        for rows in torch.arange(len(tokens.inputs), device=model.device).split(
            plan.rows_of(longest, width or longest)
        ):
            mask = batch.mask[rows][:, :, None]

            def summed(name, value, mask=mask):
                over = 0 if per_position else (0, 1)
                return torch.where(mask, value, 0).sum(over, dtype=torch.float64)

            for name, part in run_capturing(model, batch[rows], sites, summed).items():
                total[name] = total[name] + part if name in total else part
        each = count[:, None] if per_position else count.sum()
        self.per_position = {n: (v / each).to(model.dtype) for n, v in total.items()} if per_position else {}
        self.overall = {n: ((v.sum(0) if per_position else v) / count.sum()).to(model.dtype) for n, v in total.items()}


def run_capturing(
    model: Model, batch: Batch, sites: list[Site], keep: Callable[[str, Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """Values [row, pos, width] of every site in one clean pass, which stops after the last of them.

    `keep` makes of a site's values what is kept of them.
    """
    values: dict[str, Tensor] = {}
    last = max(0 if site.layer is None else site.layer + 1 for site in sites)
    with torch.no_grad():
        model.entering(batch, last, values, sites, keep)
    return values


def needed_sites(model: Model, interventions: list[Intervention], units: list[Unit]) -> list[Site]:
    """The sites of the units, and of other units whose values are swapped in."""
    names = {u.site for u in units} | {d.unit.site for d in donors_of(interventions) if isinstance(d, UnitDonor)}
    return [site for name, site in model.sites.items() if name in names]


def by_position(donors: list[Donor]) -> bool:
    """Whether means at each position are asked for."""
    return any(isinstance(donor, MeanDonor) and donor.per_position for donor in donors)


def donors_of(interventions: list[Intervention]) -> list[Donor]:
    """The donors of the affine ones among them."""
    affine = [i.as_affine() for i in interventions]
    return [a.donor for a in affine if a is not None and a.donor is not None]


def swapping(interventions: list[Intervention]) -> int:
    """How many donors have runs of their own, whose values are held beside the probe's."""
    return len({donor for donor in donors_of(interventions) if isinstance(donor, CounterpartDonor | ExampleDonor)})


@dataclass(frozen=True, eq=False)
class Recorded:
    """Clean activations: `values` of sites [example, pos, column], by block the residual stream that enters it and what
    its attention adds to that [example, pos, d_model]."""

    values: dict[str, Tensor]
    hidden: dict[int, Tensor]
    attention: dict[int, Tensor]

    def release(self) -> None:
        """Let go of all of it, whoever still holds this."""
        for kept in (self.values, self.hidden, self.attention):
            kept.clear()


class Recorder:
    """Keeps activations of the forward passes that are made while it is installed, one after another.

    `columns` gives, per site name, the value-axis indices to keep; `entrances` and `attentions` are blocks.
    """

    def __init__(
        self,
        model: Model,
        columns: dict[str, Int[Tensor, " column"]],
        entrances: Collection[int] = (),
        attentions: Collection[int] = (),
    ):
        self.model, self.columns = model, columns
        self._values: dict[str, list[Tensor]] = {name: [] for name in columns}
        self._hidden: dict[int, list[Tensor]] = {layer: [] for layer in entrances}
        self._attention: dict[int, list[Tensor]] = {layer: [] for layer in attentions}

    @property
    def last(self) -> int:
        """The block at whose entrance everything has been seen."""
        layers = [self.model.sites[name].layer for name in self.columns]
        return max([*self._hidden, *(0 if layer is None else layer + 1 for layer in layers)])

    @contextmanager
    def installed(self) -> Iterator[None]:
        def keeping(parts):
            # A copy: a user's hook that works in place would change it afterwards.
            return lambda value: parts.append(value.detach().clone())

        def narrow(name, value):
            self._values[name].append(value[:, :, self.columns[name]])
            return value

        with ExitStack() as stack:
            for layer, parts in self._hidden.items():
                stack.callback(on_input(self.model.entrances[layer], keeping(parts)).remove)
            for layer, parts in self._attention.items():
                stack.callback(on_output(self.model.attention(layer), keeping(parts)).remove)
            stack.enter_context(captured([self.model.sites[name] for name in self.columns], {}, keep=narrow))
            yield

    def recorded(self) -> Recorded:
        """What the passes so far gave, their rows joined."""
        kept = (self._values, self._hidden, self._attention)
        return Recorded(*({key: torch.cat(parts) for key, parts in each.items()} for each in kept))


class Donors:
    """Clean activations of a probe and of what it swaps with, for some examples and some columns of some sites.

    `columns` gives, per site name, the value-axis indices to keep, so that a sweep over a few units of many sites
    does not hold whole sites; only the positions that the layout runs are kept. `hidden[layer]` is the residual stream
    at the entrance of that block, for `entrances`, and `attention[layer]` what its attention adds to it, for
    `attentions`. Where `clean` is false the probe's own run is left out; where it was `recorded` it is not run again.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        interventions: list[Intervention],
        columns: dict[str, Int[Tensor, " column"]],
        means: Means | None,
        plan: Plan,
        examples: Int[Tensor, " example"],
        entrances: Collection[int] = (),
        attentions: Collection[int] = (),
        clean: bool = True,
        recorded: "Recorded | None" = None,
    ):
        self.model, self.layout, self.columns, self.means = model, layout, columns, means
        self.first = int(examples[0])
        donors = donors_of(interventions)
        if recorded is None and clean:
            own = (layout.batch_of(rows) for rows in examples.split(plan.batch_size))
            recorded = self._recorded(own, entrances, attentions)
        recorded = recorded or Recorded({}, {}, {})
        self.clean, self.hidden, self.attention = recorded.values, recorded.hidden, recorded.attention
        self.swapped: dict[Donor, dict[str, Tensor]] = {}
        chosen = examples.tolist()
        for donor in dict.fromkeys(donors):
            if isinstance(donor, CounterpartDonor):
                rows = [layout.tokens.counterparts[e] for e in chosen]
                partners = [layout.tokens.alignments[e].positions for e in chosen]
            elif isinstance(donor, ExampleDonor):
                from_ = drawn(layout.tokens, donor)
                rows = [layout.tokens.inputs[from_[e]] for e in chosen]
                partners = [tuple(range(len(row))) for row in rows]
            else:
                continue
            padded = model.pad(rows, "right")
            index = torch.zeros(len(chosen), layout.batch.ids.shape[1], dtype=torch.long)
            for row, (example, partner) in enumerate(zip(chosen, partners)):
                offset = int(layout.offsets[example])
                index[row, offset : offset + len(partner)] = torch.tensor(partner)
            index = index.to(model.device)[:, layout.first :, None]
            gathered: dict[str, list[Tensor]] = {name: [] for name in columns}
            for part in torch.arange(len(rows), device=model.device).split(plan.batch_size):
                for name, value in self._recorded([padded[part]]).values.items():
                    gathered[name].append(value.gather(1, index[part].expand(-1, -1, value.shape[2])))
            self.swapped[donor] = {name: torch.cat(gathered.pop(name)) for name in columns}

    def _recorded(
        self,
        batches: Iterable[Batch],
        entrances: Collection[int] = (),
        attentions: Collection[int] = (),
    ) -> "Recorded":
        recorder = Recorder(self.model, self.columns, entrances, attentions)
        with recorder.installed(), torch.no_grad():
            for batch in batches:
                self.model.entering(batch, recorder.last, {}, [])
        return recorder.recorded()

    def values(
        self, store: dict[str, Tensor], site: str, columns: Int[Tensor, "row width"], examples: Int[Tensor, " row"]
    ) -> Float[Tensor, "row pos width"]:
        """Each row's own columns of its own example."""
        local = torch.searchsorted(self.columns[site], columns.contiguous())
        rows = examples - self.first
        positions = torch.arange(store[site].shape[1], device=rows.device)
        return store[site][rows[:, None, None], positions[None, :, None], local[:, None, :]]

    def of(
        self, donor: Donor, site: str, columns: Int[Tensor, "row width"], examples: Int[Tensor, " row"]
    ) -> Float[Tensor, "row pos width"]:
        """The donor's values for rows that edit these columns of these examples."""
        length = self.layout.width
        match donor:
            case MeanDonor(per_position=False):
                return self.means.overall[site][columns][:, None, :].expand(-1, length, -1)
            case MeanDonor(per_position=True):
                return self._mean_at_positions(site, columns, examples)
            case UnitDonor(unit=unit):
                other = columns_of(self.model.sites, [unit], columns.device)
                return self.values(self.clean, unit.site, other.expand(len(columns), -1), examples)
        return self.values(self.swapped[donor], site, columns, examples)

    def _mean_at_positions(self, site: str, columns: Tensor, examples: Tensor) -> Tensor:
        means = self.means.per_position[site]
        position = self.layout.batch[examples].position_ids[:, self.layout.first :]
        return means[position[:, :, None], columns[:, None, :]]
