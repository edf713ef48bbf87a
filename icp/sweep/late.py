"""Running only the late positions of a text: the clean keys and values of the earlier ones are kept.

An edit at position p changes nothing before p. So where edits start late, a forward pass runs the positions from the
first edited one on, and attends to the keys and values that the earlier ones have in the clean run. Several edited
versions ("worlds") of one input lie one behind the other in a row and share them; no world sees another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icp.batch import Batch
from icp.hooks import Reads
from icp.model import Model
from icp.probes import Tokens
from icp.sweep.plan import BY_CUE, Layout, Plan, Positions, span

WORLD_KEYS = 64
"""Positions of all the worlds in a row, at most: each costs every other one a masked key."""


class Past:
    """The keys and values [row, head, pos, d_head] of each layer, in the place of a `transformers` cache.

    A forward pass over earlier positions fills an empty one; one over later positions attends to it and leaves it be.
    """

    def __init__(self, length: int = 0, rows: Tensor | None = None):
        self.length, self.rows = length, rows
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    @classmethod
    def joined(cls, parts: "list[Past]") -> "Past":
        """One past of all the parts' rows."""
        whole = cls(next(iter(parts[0].keys.values())).shape[2])
        for layer in parts[0].keys:
            whole.keys[layer] = torch.cat([part.keys[layer] for part in parts])
            whole.values[layer] = torch.cat([part.values[layer] for part in parts])
        return whole

    def of(self, rows: Int[Tensor, " row"]) -> "Past":
        """The past of some of the rows, for a forward pass over later positions."""
        chosen = Past(self.length, rows)
        chosen.keys, chosen.values = self.keys, self.values
        return chosen

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if self.rows is None:
            self.keys[layer], self.values[layer] = keys, values
            return keys, values
        before = self.keys[layer][self.rows], self.values[layer][self.rows]
        return torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)

    def get_seq_length(self, *_: Any) -> int:
        return self.length


@dataclass(frozen=True, eq=False)
class LateBatch(Batch):
    """Positions of several worlds a row, after a past; `visible[row, query, key]` says who attends to whom."""

    positions: Int[Tensor, "row pos"]
    visible: Bool[Tensor, "row pos key"]
    past: Past
    dtype: torch.dtype

    def arguments(self) -> dict[str, Any]:
        shut = torch.finfo(self.dtype).min
        mask = torch.zeros(self.visible.shape, dtype=self.dtype, device=self.ids.device)
        mask = mask.masked_fill(~self.visible, shut)[:, None]
        return dict(
            input_ids=self.ids, attention_mask=mask, position_ids=self.positions, past_key_values=self.past
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class LateLayout(Layout):
    """A probe, padded on the left, of which the positions from `first` on are run, `worlds` versions a row.

    A forward pass has as many positions as one over `batch_size` whole rows, and at most `read_rows` versions.

    `past` holds the examples from `offset` on. Reads before `first` are left out: no edit changes them.
    """

    dtype: torch.dtype = field(kw_only=True)
    past: Past | None = field(default=None, kw_only=True)
    offset: int = field(default=0, kw_only=True)

    @classmethod
    def of_positions(cls, model: Model, tokens: Tokens, positions: Positions) -> "LateLayout | None":
        """None where edits start too early for a gain, or the model's attention cannot be handed a past."""
        if positions in ("all", *BY_CUE) or not model.takes_past:
            return None
        texts = [example.text for example in tokens.probe.examples]
        starts = [span(positions, length, text)[0] for length, text in zip(tokens.text_lengths, texts)]
        late = max(len(ids) - start for ids, start in zip(tokens.inputs, starts))
        longest = max(map(len, tokens.inputs))
        if 4 * late > 3 * longest or longest > (getattr(model.config, "sliding_window", None) or longest):
            return None
        whole = Layout.of(model, tokens, "left")
        return cls(
            whole.tokens, whole.batch, whole.offsets, whole.bound, whole.counts, longest - late, dtype=model.dtype
        )

    def prepared(self, model: Model, examples: Int[Tensor, " example"], plan: Plan) -> "LateLayout":
        """With the past of `examples`, which are consecutive."""
        parts = []
        for rows in examples.split(max(1, plan.batch_size * self.batch.ids.shape[1] // self.first)):
            batch, past = self.batch[rows], Past()
            mask = batch.mask[:, : self.first]
            visible = _visible(mask, 1)
            ids, positions = batch.ids[:, : self.first], batch.position_ids[:, : self.first]
            model.entering(LateBatch(ids, mask, positions, visible, past, self.dtype), len(model.blocks), {}, [])
            parts.append(past)
        return replace(self, past=Past.joined(parts), offset=int(examples[0]))

    def bytes_kept(self, model: Model) -> int:
        """What the past of one example takes, with as many key heads as there are heads at most."""
        width = model.at("head", 0).width
        return super().bytes_kept(model) + 2 * len(model.blocks) * self.first * width * model.dtype.itemsize

    def passes(
        self, worlds: int, examples: Int[Tensor, " example"], plan: Plan
    ) -> Iterator[tuple[Layout, Int[Tensor, " row"], Int[Tensor, " row"], int]]:
        together = max(1, plan.batch_size * self.batch.ids.shape[1] // self.width)
        together = together if plan.read_rows is None else min(together, plan.read_rows)
        a_row = min(worlds, together, max(1, WORLD_KEYS // self.width))
        split = torch.arange(worlds, device=examples.device).tensor_split(-(-worlds // a_row))
        for size, alike in groupby(split, key=len):
            members = torch.stack(list(alike))
            which = torch.cartesian_prod(torch.arange(len(members), device=examples.device), examples)
            for part, count in plan.parts(which, max(1, together // size)):
                world, example = members[part[:, 0]].flatten(), part[:, 1].repeat_interleave(size)
                yield replace(self, worlds=size), world, example, count * size

    def apart(self) -> "LateLayout":
        """One world a row: a value that is not finite spreads to the worlds beside it, masked or not (0 * inf)."""
        return replace(self, worlds=1)

    def batch_of(self, examples: Int[Tensor, " row"]) -> LateBatch:
        rows = examples.view(-1, self.worlds)[:, 0]
        whole = self.batch[rows]
        ids, positions = (values[:, self.first :].repeat(1, self.worlds) for values in (whole.ids, whole.position_ids))
        late = whole.mask[:, self.first :]
        before = whole.mask[:, None, : self.first].expand(-1, ids.shape[1], -1)
        visible = torch.cat([before, _visible(late, self.worlds)], 2)
        past = self.past.of(rows - self.offset)
        return LateBatch(ids, late.repeat(1, self.worlds), positions, visible, past, self.dtype)

    def value(self, model: Model, examples: Int[Tensor, " row"], **entered: Any) -> Float[Tensor, " row"]:
        batch = self.batch_of(examples)
        entered = {
            name: given.reshape(*batch.ids.shape, -1) if isinstance(given, Tensor) else given
            for name, given in entered.items()
        }
        reads, index = self.reads(examples)
        kept = reads.positions >= self.first
        row, position, index = reads.rows[kept], reads.positions[kept] - self.first, index[kept]
        within = row % self.worlds * self.width + position
        logits = model.read(batch, Reads(row // self.worlds, within, reads.tokens), **entered)
        return self._summed(examples, row, index, logits)


def _visible(mask: Bool[Tensor, "row pos"], worlds: int) -> Bool[Tensor, "row query key"]:
    """Who attends to whom among the positions of `worlds` copies: earlier ones of the same copy, and itself."""
    width = mask.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(width, dtype=torch.bool, device=mask.device)
    one = (causal & mask[:, None, :]) | itself
    if worlds == 1:
        return one
    apart = torch.eye(worlds, dtype=torch.bool, device=mask.device)
    return (apart[None, :, None, :, None] & one[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)
