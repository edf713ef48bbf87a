"""How a measurement is laid out: padding, rows a forward pass, and which logits its rows read."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icp.batch import Batch, CaptionBatch
from icp.bound import Bound, Property
from icp.errors import IcpError, NotFiniteError, ProbeError
from icp.hooks import Reads
from icp.masking import rows_of
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.properties import require_single
from icp.sweep.memory import bytes_held, within_memory

Positions = str | tuple[int, int | None]
BY_CUE = ("cue", "rest")
TOKENS_A_PASS = {"cpu": 1280, "cuda": 16384}
"""On a CPU the values of so many tokens stay in its caches, while matrix products are near their full rate."""
CAPTURE_BYTES = 1 << 30
LOGITS_A_PASS = 1 << 26


@dataclass(frozen=True)
class Plan:
    """`batch_size` rows a forward pass, `unit_chunk` units a unit of work, the padding side, and bytes of clean values.

    `static` fills the last pass of several up to the size of the others, as kernels that are compiled for one shape and
    CUDA graphs ask for. `read_rows` caps the edited versions of examples whose logits exist at a time: a pass over late
    positions has more of them than `batch_size`. `memory` is the budget that it was chosen by, if any.

    Effects agree between plans to rounding, and the same plan repeated gives the same bits.
    """

    batch_size: int
    unit_chunk: int = 64
    padding_side: str = "right"
    capture_bytes: int = field(default=CAPTURE_BYTES, repr=False)
    static: bool = field(default=False, repr=False)
    read_rows: int | None = field(default=None, repr=False)
    memory: float | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.batch_size < 1 or self.unit_chunk < 1:
            raise ProbeError(f"batch_size and unit_chunk are at least 1, got {self.batch_size} and {self.unit_chunk}")

    @classmethod
    def of(
        cls,
        model: Model,
        layout: "Layout",
        batch_size: int | None = None,
        memory: float | None = None,
        padding_side: str = "right",
        gradient: bool = False,
        beside: int = 0,
        noted: "Plan | None" = None,
    ) -> "Plan":
        """1,280 tokens (on a GPU 16,384) and at most 256 MB of logits a forward pass; or `batch_size` rows.

        With `memory`, bytes that the process (on a GPU: its memory there) should stay below, a quarter of what is free
        goes to clean values and at most half to a forward pass, with the bytes a row that are held `beside` it. How
        much that is depends on the moment: `noted`, the plan of another process with the same budget, is taken where it
        fits into what is free. Raises `IcpError` where not even one row fits.
        """
        vocabulary = model.vocabulary_read(layout.tokens.property)
        by_tokens = TOKENS_A_PASS["cuda" if model.device.type == "cuda" else "cpu"] // layout.width
        read = LOGITS_A_PASS // max(1, layout.reads_per_row * vocabulary)
        rows, capture = max(1, min(by_tokens, read)), CAPTURE_BYTES
        if memory is not None:
            held, once, tokens, logits = bytes_held(model.device), *_bytes_of(model, layout, vocabulary, gradient)
            free, tokens = int(memory) - held, tokens + beside
            if noted is not None:
                asked = once + noted.batch_size * tokens + noted.read_rows * logits + noted.capture_bytes
                alike = noted.memory == memory and noted.padding_side == padding_side
                if alike and batch_size is None and asked <= free:
                    return noted
            fitting = (free // 2 - once) // (tokens + logits)
            if fitting < (batch_size or 1):
                needed = 2 * (once + (tokens + logits) * (batch_size or 1))
                raise IcpError(
                    f"a memory budget of {memory / 1e9:.2f} GB is too small: {held / 1e9:.2f} GB are taken already, "
                    f"and {batch_size or 1} row(s) need {needed / 1e9:.2f} GB more"
                )
            rows, capture = min(rows, fitting), min(capture, free // 4)
        rows = rows if batch_size is None else batch_size
        if memory is not None:
            read = min(read, (free // 2 - once - rows * tokens) // logits)
        static = model.device.type == "cuda"
        return cls(
            rows, padding_side=padding_side, capture_bytes=capture, static=static, read_rows=max(rows, read),
            memory=None if batch_size is not None else memory,
        )  # fmt: skip

    def parts(self, rows: Int[Tensor, "row 2"], size: int) -> Iterator[tuple[Int[Tensor, "part 2"], int]]:
        """`size` rows at a time, and how many of them count."""
        for part in rows.split(size):
            short = size - len(part) if self.static and len(rows) > size else 0
            yield torch.cat([part, part[-1:].expand(short, -1)]), len(part)

    def halved(self, captured: int | None = None) -> "Plan":
        """Half as many rows a pass, one at the least; and half of `captured`, the bytes of clean values now held."""
        held = self.capture_bytes if captured is None else min(captured, self.capture_bytes) // 2
        read = None if self.read_rows is None else max(1, self.read_rows // 2)
        return replace(self, batch_size=max(1, self.batch_size // 2), capture_bytes=held, read_rows=read)

    def rows_of(self, width: int, than: int) -> int:
        """Rows a pass of inputs that are `width` tokens long, where `batch_size` rows are of `than` tokens."""
        return max(1, min(self.batch_size, self.batch_size * than // width))


def _bytes_of(model: Model, layout: "Layout", vocabulary: int, gradient: bool) -> tuple[int, int, int]:
    """What a forward pass takes once, for the tokens of a row at its widest place, and for the logits of a row.

    A block holds about eight vectors of d_model and four of d_mlp a token; with a gradient all blocks keep theirs.
    Logits exist three times, in float32 at least; to make them, the unembedding of a narrower model is cast.
    """
    neurons, d_model = model.at("neuron", 0).width, model.d_model
    kept = 2 * len(model.blocks) if gradient else 1
    tokens = layout.batch.ids.shape[1] * (8 * d_model + 4 * neurons) * kept * model.dtype.itemsize
    precise = max(4, model.dtype.itemsize)
    once = vocabulary * d_model * precise if model.dtype.itemsize < precise else 0
    return once, tokens, 3 * max(1, layout.reads_per_row) * vocabulary * precise


@dataclass(frozen=True, eq=False)
class Layout:
    """A probe as one padded batch, with what the property reads in padded coordinates."""

    tokens: Tokens
    batch: Batch
    offsets: Int[Tensor, " example"]
    bound: Bound
    counts: Int[Tensor, " example"]
    first: int = 0
    """The first position that a forward pass runs."""
    worlds: int = 1
    """How many edited versions of an example share a row."""

    @classmethod
    def of(cls, model: Model, tokens: Tokens, side: str) -> "Layout":
        batch = model.pad(tokens.inputs, side)
        bound = tokens.property.bind(tokens, model.answered_by, model.device)
        counts = torch.bincount(bound.example, minlength=len(tokens.inputs))
        return cls(tokens, batch, batch.mask.int().argmax(1), bound, counts)

    @property
    def examples(self) -> int:
        return len(self.tokens.inputs)

    @property
    def width(self) -> int:
        """How many positions a forward pass runs."""
        return self.batch.ids.shape[1] - self.first

    @property
    def reads_per_row(self) -> int:
        return int(self.counts.max())

    def where(self, positions: Positions) -> Bool[Tensor, "example pos"]:
        """Which of the positions that run are edited: `"all"`, `"last"` (of the text), or a span `(start, stop)`;
        `"cue"`, those in which x and x' differ, or `"rest"`, all but these and the last.

        A span counts the text's tokens, may be negative as in a slice, and with stop None goes to the end. Padding is
        never edited.
        """
        if positions == "all":
            return self.batch.mask[:, self.first :]
        if isinstance(self.batch, CaptionBatch):
            raise ProbeError(f"positions={positions!r} of several captions side by side: use 'all'")
        where = torch.zeros_like(self.batch.mask)
        for row, length in enumerate(self.tokens.text_lengths):
            offset = int(self.offsets[row])
            if positions in BY_CUE:
                cue = [offset + position for position in self._cue(row)]
                if positions == "rest":
                    where[row] = self.batch.mask[row]
                    where[row, offset + length - 1] = False
                where[row, cue] = positions == "cue"
                continue
            start, stop = span(positions, length, self.tokens.probe.examples[row].text)
            where[row, offset + start : offset + stop] = True
        return where[:, self.first :]

    def _cue(self, row: int) -> tuple[int, ...]:
        found, text = self.tokens.alignments[row], self.tokens.probe.examples[row].text
        if not found.changed:
            why = found.problem or "its counterpart only has tokens more"
            raise ProbeError(f"row {row} ({text!r}) has no tokens that are its cue ({why}): use other positions")
        return found.changed

    def prepared(self, model: Model, examples: Int[Tensor, " example"], plan: Plan) -> "Layout":
        """With what forward passes over these examples need."""
        return self

    def batch_of(self, examples: Int[Tensor, " row"]) -> Batch:
        """The inputs of a forward pass with these examples as rows."""
        return self.batch[examples]

    def bytes_kept(self, model: Model) -> int:
        """What is kept of one example between forward passes, besides the values of sites."""
        return 0

    def passes(
        self, worlds: int, examples: Int[Tensor, " example"], plan: Plan
    ) -> Iterator[tuple["Layout", Int[Tensor, " row"], Int[Tensor, " row"], int]]:
        """Every edited version of every example as rows of forward passes.

        Of each pass: the layout, versions, examples, and how many of the rows count; the others fill it up.
        """
        which = torch.cartesian_prod(torch.arange(worlds, device=examples.device), examples)
        for part, count in plan.parts(which, plan.batch_size):
            yield self, part[:, 0], part[:, 1], count

    def reads(self, examples: Int[Tensor, " row"]) -> tuple[Reads, Tensor]:
        """What rows that hold these examples read, and the index of each read in `bound`."""
        counts = self.counts[examples]
        rows = torch.arange(len(examples), device=examples.device).repeat_interleave(counts)
        first = (self.counts.cumsum(0) - self.counts)[examples]
        within = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        index = first[rows] + within
        positions = self.bound.positions[index] + self.offsets[examples][rows]
        return Reads(rows, positions, self.bound.tokens), index

    def value(self, model: Model, examples: Int[Tensor, " row"], **entered: Any) -> Float[Tensor, " row"]:
        """P of rows that hold these examples, under whatever hooks are installed; `entered` as in `Model.read`."""
        reads, index = self.reads(examples)
        logits = model.read(self.batch_of(examples), reads, **entered)
        return self._summed(examples, reads.rows, index, logits)

    def _summed(self, examples: Tensor, rows: Tensor, index: Tensor, logits: Tensor) -> Float[Tensor, " row"]:
        each = self.tokens.property.of(logits, self.bound.targets[index]) * self.bound.weights[index].to(logits.dtype)
        return torch.zeros(len(examples), dtype=each.dtype, device=each.device).index_add(0, rows, each)

    def clean(self, model: Model, plan: Plan) -> Float[Tensor, " example"]:
        """P of every example without intervention; raises `NotFiniteError` naming the first bad row."""
        parts = [
            self.value(model, rows) for rows in torch.arange(self.examples, device=model.device).split(plan.batch_size)
        ]
        clean = torch.cat(parts)
        require_finite(clean, lambda i: f"{self.tokens.probe.examples[i].text!r} without intervention")
        return clean


def clean_values(model: Model, probe: Probe, property: Property) -> Float[np.ndarray, " example"]:
    """P of every example, under whatever hooks are installed."""
    require_single(property)
    tokens = rows_of(model, probe, property)
    return tokens.folded(values_of_tokens(model, tokens))


def values_of_tokens(model: Model, tokens: Tokens, batch_size: int | None = None) -> Float[np.ndarray, " example"]:
    """P of every example of a probe that is tokens already, in as many rows a pass as the plan or `batch_size` says.

    Rows of like length share a pass, since short ones are padded to the longest.
    """
    values = np.empty(len(tokens.inputs))
    with model.frozen(), torch.no_grad():
        plan = Plan.of(model, Layout.of(model, tokens, "right"), batch_size)
        order = sorted(range(len(values)), key=lambda row: len(tokens.inputs[row]))
        rows = plan.batch_size
        for part in (order[start : start + rows] for start in range(0, len(order), rows)):
            layout = Layout.of(model, tokens.of(part), "right")
            clean, plan = within_memory(plan, partial(layout.clean, model))
            values[part] = clean.double().cpu().numpy()
    return values


def as_numpy(values: Tensor) -> np.ndarray:
    """On the CPU, as an array; bfloat16, which numpy lacks, as float32."""
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()


def require_finite(values: Tensor, describe) -> None:
    """Raise `NotFiniteError` naming the first value that is NaN or infinite."""
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        raise NotFiniteError(
            f"the model returns {float(values[tuple(bad[0])])} for {describe(int(bad[0][0]))}: "
            "measure in float32, or leave this input out"
        )


def span(positions: Positions, length: int, text: Any) -> tuple[int, int]:
    """The first edited position of a text and the one after the last; raises `ProbeError` for what does not fit."""
    if positions == "all":
        return 0, length
    if positions == "last":
        return length - 1, length
    if not (isinstance(positions, tuple) and len(positions) == 2):
        raise ProbeError(f"unknown positions {positions!r}: use 'all', 'last', 'cue', 'rest', or a span (start, stop)")
    start, stop = positions[0], length if positions[1] is None else positions[1]
    start, stop = (p + length if p < 0 else p for p in (start, stop))
    if not 0 <= start < stop <= length:
        raise ProbeError(f"the span {positions} does not fit {text!r}, which has {length} tokens")
    return start, stop
