"""Training rows as tokens, and which logits of a row are read: the label words after it, or its completion's tokens."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icp.batch import Batch
from icp.errors import ProbeError
from icp.hooks import Reads
from icp.model import Model
from icp.pairs import FlippingPairs, Pairs, PreservingPairs, require_kind
from icp.probes import Probe, Tokens
from icp.properties import ClassProbability, LogLikelihood
from icp.tokenizing import answer_position


@dataclass(frozen=True, eq=False)
class Rows:
    """A probe to train on, its counterparts of one `kind`. What is read of row i are the entries of `of_row[i]`.

    Rows with the same two or more answers are *classified*: the logits of the answers are read after the last token,
    and the label says which is right. Rows with one answer each are *completed*: the whole vocabulary is read where
    each token of the answer comes next. `targets` [read] is the right column, `flipped` [row] that of the counterparts
    of label-flipping pairs, which are classified.
    """

    tokens: Tokens
    kind: type[Pairs]
    classified: bool
    columns: Int[Tensor, " token"] | None
    of_row: tuple[range, ...]
    positions: Int[Tensor, " read"]
    targets: Int[Tensor, " read"]
    flipped: Int[Tensor, " row"] | None = None

    def __len__(self) -> int:
        return len(self.tokens.inputs)

    @property
    def probe(self) -> Probe:
        return self.tokens.probe

    @property
    def digest(self) -> str:
        """That of the probe, or of the label-flipping pairs, whose counterparts have labels too."""
        if self.flipped is None:
            return self.probe.digest
        return FlippingPairs(self.probe, tuple(self.flipped.tolist())).digest

    @classmethod
    def of(cls, model: Model, train: "Probe | Pairs") -> "Rows":
        """Raises `ProbeError` naming the row that lacks a label, has other answers, or several tokens a label."""
        probe, kind = (train.probe, type(train)) if isinstance(train, Pairs) else (train, PreservingPairs)
        classified = len(probe.examples[0].answers) != 1
        others = train.flipped if isinstance(train, FlippingPairs) else ()
        _require_alike(probe, classified, others)
        if classified:
            tokens = probe.tokenize(model.tokenizer, ClassProbability())
            found = [ClassProbability().targets(tokens, row, model.answered_by) for row in range(len(probe))]
            columns = torch.tensor(found[0][0][2])
            _require_columns(probe, [reads[0][2] for reads in found])
            _require_classes(model, tokens)
            labels = torch.tensor([example.label for example in probe.examples])
        else:
            tokens = probe.tokenize(model.tokenizer, LogLikelihood())
            found = [LogLikelihood().targets(tokens, row, model.answered_by) for row in range(len(probe))]
            columns, labels = None, torch.tensor([ids[0] for reads in found for _, _, ids in reads])
        starts = [0, *torch.tensor([len(reads) for reads in found]).cumsum(0).tolist()]
        of_row = tuple(range(start, stop) for start, stop in pairwise(starts))
        positions = torch.tensor([position for reads in found for position, _, _ in reads])
        model.pad([max(tokens.inputs, key=len)])  # raises where it is longer than the model's context
        flipped = torch.tensor(others) if others else None
        return cls(tokens, kind, classified, columns, of_row, positions, labels, flipped)

    def batch(self, model: Model, rows: list[int]) -> Batch:
        return model.pad([self.tokens.inputs[row] for row in rows])

    def reads(self, rows: list[int], device: torch.device) -> tuple[Reads, Int[Tensor, " read"]]:
        """What is read of a right-padded batch of these rows, and which column of each read is right."""
        index = torch.tensor([read for row in rows for read in self.of_row[row]])
        row = torch.tensor([place for place, row in enumerate(rows) for _ in self.of_row[row]], device=device)
        columns = None if self.columns is None else self.columns.to(device)
        return Reads(row, self.positions[index].to(device), columns), self.targets[index].to(device)

    def require_pairs(self, kind: type[Pairs], what: str) -> None:
        """Raise `ProbeError` where the counterparts are not of the kind that `what` needs, naming the first row."""
        require_kind(self.probe, self.kind, kind, what)

    def require_alignment(self) -> None:
        """Raise `ProbeError` naming the first row that cannot be aligned with its counterpart, and why."""
        for row, alignment in enumerate(self.tokens.alignments):
            if alignment.problem is not None:
                raise ProbeError(
                    f"row {row} ({self.probe.examples[row].text!r}) cannot be swapped with its counterpart: "
                    f"{alignment.problem}"
                )

    def counterparts(self, model: Model, rows: list[int]) -> "Counterparts":
        """The counterparts of these rows, which all have one."""
        batch = model.pad([self.tokens.counterparts[row] for row in rows])
        width = max(len(self.tokens.inputs[row]) for row in rows)
        partners = torch.zeros(len(rows), width, dtype=torch.long)
        for place, row in enumerate(rows):
            positions = self.tokens.alignments[row].positions
            partners[place, : len(positions)] = torch.tensor(positions, dtype=torch.long)
        read = (
            [answer_position(model.answered_by, which[row]) for row in rows]
            for which in (self.tokens.inputs, self.tokens.counterparts)
        )
        later = [there - here for here, there in zip(*read)]
        return Counterparts(batch, torch.tensor(later, device=model.device), partners.to(model.device))

    def require_cells(self, what: str) -> None:
        """Raise `ProbeError` where `what` cannot tell labels and cues apart, or a label never goes with some cue."""
        if not self.classified:
            raise ProbeError(f"{what} needs labels to tell apart, and these rows have one answer each, to complete")
        for row, example in enumerate(self.probe.examples):
            if example.group is None:
                raise ProbeError(f"row {row} ({example.text!r}) has no group: {what} needs the cue's value there")
        cells = {(example.label, example.group) for example in self.probe.examples}
        labels, cues = ({cell[part] for cell in cells} for part in (0, 1))
        if len(cues) == 1:
            raise ProbeError(f"all rows have the group {cues.pop()!r}: {what} needs two or more values of the cue")
        for cell in ((label, cue) for label in sorted(labels) for cue in sorted(cues)):
            if cell not in cells:
                raise ProbeError(
                    f"no row has the label {cell[0]} and the group {cell[1]!r}: {what} needs rows of every such group"
                )

    @property
    def labels(self) -> Int[Tensor, " row"]:
        """The label of each row; they are classified."""
        return self.targets

    @cached_property
    def cues(self) -> Int[Tensor, " row"]:
        """The number of each row's group, in sorted order: which value its cue has."""
        return _numbered([example.group for example in self.probe.examples])

    @cached_property
    def groups(self) -> Int[Tensor, " row"]:
        """The number of each row's (label, group), in sorted order."""
        return _numbered([(example.label, example.group) for example in self.probe.examples])


@dataclass(frozen=True, eq=False)
class Counterparts:
    """A batch of counterparts: by how much later each is read than its row, and each position's partner there."""

    batch: Batch
    later: Int[Tensor, " row"]
    partners: Int[Tensor, "row pos"]

    def reads(self, reads: Reads) -> Reads:
        """The same of the counterparts as `reads` names of the rows, counted from where their answers are read."""
        return Reads(reads.rows, reads.positions + self.later[reads.rows], reads.tokens)

    def aligned(self, values: Float[Tensor, "row other width"]) -> Float[Tensor, "row pos width"]:
        """The counterparts' values at the partners of the rows' positions."""
        return values.gather(1, self.partners[:, :, None].expand(-1, -1, values.shape[2]))


def _numbered(values: list) -> Int[Tensor, " row"]:
    number = {value: place for place, value in enumerate(sorted(set(values)))}
    return torch.tensor([number[value] for value in values])


def _require_alike(probe: Probe, classified: bool, others: tuple[int, ...]) -> None:
    first = probe.examples[0]
    for row, example in enumerate(probe.examples):
        if (len(example.answers) != 1) != classified or (classified and example.answers != first.answers):
            raise ProbeError(
                f"row {row} ({example.text!r}) has the answers {example.answers} and row 0 {first.answers}: give all "
                "rows the same label words, or each row one answer to complete"
            )
        if not example.answers:
            raise ProbeError(f"row {row} ({example.text!r}) has no answer: give label words, or one answer to complete")
        if classified and example.label is None:
            raise ProbeError(f"row {row} ({example.text!r}) has no label: give the index of its right answer")
    if classified and len({*(example.label for example in probe.examples), *others}) == 1:
        raise ProbeError(
            f"all {len(probe)} rows have the label {first.label} ({first.answers[first.label]!r}): there is nothing to "
            "learn from one class"
        )


def _require_classes(model: Model, tokens: Tokens) -> None:
    """Raise `ProbeError` where a classification head would be trained on some of its classes, or read elsewhere."""
    if model.classes is None:
        return
    answers = tokens.probe.examples[0].answers
    if len(answers) < len(model.classes.names):
        raise ProbeError(
            f"the rows have the answers {answers}, the model the classes {model.classes.names}: give every row all of "
            "them as its answers"
        )
    for row, ids in enumerate(tokens.inputs if not model.classes.first else ()):
        if model.tokenizer.pad_token_id in (ids[-1], (tokens.counterparts[row] or [None])[-1]):
            raise ProbeError(
                f"row {row} ({tokens.probe.examples[row].text!r}) or its counterpart ends with the padding token, "
                "which a classification head passes over: give the tokenizer a padding token of its own"
            )


def _require_columns(probe: Probe, found: list[list[int]]) -> None:
    """Raise `ProbeError` where a label word is another token after some row than after the first."""
    for row, ids in enumerate(found):
        if ids != found[0]:
            raise ProbeError(
                f"the label words {probe.examples[row].answers} are other tokens after row {row} "
                f"({probe.examples[row].text!r}) than after row 0: let all texts end alike"
            )
