"""Examples as a probe: split, balanced, saved, and made into tokens."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from icp.alignment import Alignment, align
from icp.bound import Property
from icp.errors import ArtefactError, ProbeError
from icp.examples import Example, example_of
from icp.files import writing_file
from icp.images import load_images, save_images
from icp.properties import LogitDifference
from icp.statistics import Clusters, clusters_of
from icp.tokenizing import Input, encode

FIELDS = ("template", "word", "group", "text")


@dataclass(frozen=True)
class Probe:
    """An immutable list of examples; it becomes tokens when a model measures it."""

    examples: tuple[Example, ...]

    def __post_init__(self):
        if not self.examples:
            raise ProbeError("the probe is empty: give it at least one example")

    def __len__(self) -> int:
        return len(self.examples)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Any], answers: Sequence[str] = ()) -> "Probe":
        """Pairs that differ only in the cue: `(x, x')` tuples, mappings, `Example`s, or a DataFrame.

        An input is a text or an `icp.Image`.

        Mappings have the fields of `Example`; `answers` fills in where a row has none of its own.
        """
        probe = cls._from_rows(pairs, answers)
        for example in probe.examples:
            if example.counterpart is None:
                raise ProbeError(f"{example.text!r} has no counterpart: use Probe.from_texts for inputs without one")
        return probe

    @classmethod
    def from_texts(cls, texts: Iterable[Any], answers: Sequence[str] = ()) -> "Probe":
        """Inputs that need no counterpart: strings, `icp.Image`s, mappings, `Example`s, or a DataFrame."""
        return cls._from_rows(texts, answers)

    @classmethod
    def _from_rows(cls, rows: Any, answers: Sequence[str]) -> "Probe":
        if isinstance(rows, str) or isinstance(answers, str):
            raise ProbeError(f"{(rows if isinstance(rows, str) else answers)!r} is one string: give a list of them")
        if hasattr(rows, "to_dict"):
            rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
        return cls(tuple(example_of(row, tuple(answers)) for row in rows))

    def split(
        self, by: str | Sequence[str], seed: int = 0, fractions: Sequence[float] = (0.4, 0.3, 0.3)
    ) -> tuple["Probe", ...]:
        """Probes that share no value of the field(s) `by` (`template`, `word`, `group`, `text`).

        The default is three, for ranking, selecting and testing. With several fields each is split on its own and an
        example is kept only where all its values fall into the same part, so that nothing is shared at all. Raises
        `ProbeError` where a field is missing or a part would be empty.
        """
        by = (by,) if isinstance(by, str) else tuple(by)
        if not by or any(f < 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
            raise ProbeError(f"split needs a field and fractions that sum to 1, got {by} and {tuple(fractions)}")
        part_of = {field: self._parts(field, seed, fractions) for field in by}
        parts: list[list[Example]] = [[] for _ in fractions]
        for example in self.examples:
            places = {part_of[field][getattr(example, field)] for field in by}
            if len(places) == 1:
                parts[places.pop()].append(example)
        for part, examples in enumerate(parts):
            if not examples:
                raise ProbeError(
                    f"part {part} of the split by {', '.join(by)} is empty: give more values or fewer parts"
                )
        return tuple(Probe(tuple(examples)) for examples in parts)

    def _parts(self, field: str, seed: int, fractions: Sequence[float]) -> dict[Input, int]:
        if field not in FIELDS:
            raise ProbeError(f"cannot split by {field!r}: use one of {', '.join(FIELDS)}")
        values = {getattr(example, field) for example in self.examples}
        if None in values:
            raise ProbeError(f"cannot split by {field}: some examples have none")
        ordered = sorted(values)
        random.Random(f"{seed}/{field}").shuffle(ordered)
        edges = [round(sum(fractions[: part + 1]) * len(ordered)) for part in range(len(fractions))]
        return {value: next(p for p, edge in enumerate(edges) if rank < edge) for rank, value in enumerate(ordered)}

    def balanced(self, seed: int = 0) -> "Probe":
        """Inputs on which the cue says nothing about the label.

        Pairs give both their members, each with the other as counterpart. Examples without counterparts are drawn
        down, with `seed`, to equally many of every (label, group).
        """
        if all(example.counterpart is not None for example in self.examples):
            return Probe(self.examples + self.swapped().examples)
        cells: dict[tuple, list[Example]] = {}
        for example in self.examples:
            if example.label is None or example.group is None:
                raise ProbeError(
                    f"cannot balance {example.text!r}: it has neither a counterpart nor a label and a group"
                )
            cells.setdefault((example.label, example.group), []).append(example)
        smallest, rng = min(map(len, cells.values())), random.Random(seed)
        return Probe(tuple(example for cell in cells.values() for example in rng.sample(cell, smallest)))

    def swapped(self) -> "Probe":
        """The same pairs with x and x' exchanged, and their groups with them; answers and labels stay.

        Where no `counterpart_group` is given, what was x' has no group: `group` would name the cue of the other text.
        """
        if any(example.counterpart is None for example in self.examples):
            raise ProbeError("cannot swap a probe in which some examples have no counterpart")
        return Probe(
            tuple(
                replace(e, text=e.counterpart, counterpart=e.text, group=e.counterpart_group, counterpart_group=e.group)
                for e in self.examples
            )
        )

    def take(self, count: int, seed: int = 0) -> "Probe":
        """At most `count` examples, drawn with `seed`, in their order."""
        if count >= len(self):
            return self
        chosen = sorted(random.Random(seed).sample(range(len(self)), count))
        return Probe(tuple(self.examples[i] for i in chosen))

    def save(self, path: "str | Path") -> Path:
        """Write one JSON object a line; of images the names, and their pixels into a safetensors file beside it."""
        save_images(path, (each for example in self.examples for each in example.inputs))
        with writing_file(path) as work:
            work.write_text("".join(json.dumps(e.stored, ensure_ascii=False) + "\n" for e in self.examples), "utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: "str | Path") -> "Probe":
        """Read what `save` wrote, or JSON lines of your own with the fields of `Example`.

        Where there is a file of images beside it, texts that are their names are these images.
        """
        path = Path(path)
        if not path.is_file():
            raise ArtefactError(f"no probe at {path}: give a file of JSON lines with at least a 'text' each")
        try:
            lines = path.read_text("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ArtefactError(f"{path} is not a file of JSON lines ({error}): it is cut short or foreign") from error
        examples, images = [], load_images(path)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if isinstance(row, dict) and "format" in row:
                    raise ArtefactError(f"{path} holds {row['format']!r}, not the examples of a probe, one a line")
                examples.append(example_of(row, images=images))
            except json.JSONDecodeError as error:
                raise ArtefactError(
                    f"line {number} of {path} is not JSON ({error}): the file is cut short or foreign"
                ) from error
            except ProbeError as error:
                raise ProbeError(f"line {number} of {path}: {error}") from error
        return cls(tuple(examples))

    def tokenize(self, tokenizer: Any, property: Property | None = None) -> "Tokens":
        """Token lists, alignments, and what the property reads; the default property is `LogitDifference()`."""
        property = LogitDifference() if property is None else property
        inputs, lengths, counterparts, alignments = [], [], [], []
        for example in self.examples:
            tail = property.continuation(example)
            lengths.append(len(encode(tokenizer, example.text, "")))
            inputs.append(encode(tokenizer, example.text, tail))
            if example.counterpart is None:
                counterparts.append(None)
                alignments.append(Alignment(problem="it has no counterpart"))
            else:
                counterparts.append(encode(tokenizer, example.counterpart, tail))
                alignments.append(align(inputs[-1], counterparts[-1]))
        return Tokens(self, property, inputs, lengths, counterparts, alignments)

    @property
    def digest(self) -> str:
        """A short digest of every field of every example."""
        return hashlib.sha256(json.dumps([e.stored for e in self.examples]).encode()).hexdigest()[:16]

    @property
    def clusters(self) -> Clusters:
        """The examples' templates and words, as standard errors need them."""
        return clusters_of(e.stored for e in self.examples)

    def alignable(self, model: Any) -> "Probe":
        """Only the pairs that the model's tokens allow to be aligned."""
        tokens = self.tokenize(model.tokenizer)
        return Probe(tuple(e for e, a in zip(self.examples, tokens.alignments) if a.problem is None))


@dataclass(frozen=True)
class Tokens:
    """A probe as tokens. `inputs` include the continuation that the property asks for, `text_lengths` do not.

    Where a text is run several times, each time with another token masked (`icp.masking`), a row of these is one run:
    `masked` are its masked position and the token that is there, and `example` the number of the text.
    """

    probe: Probe
    property: Property
    inputs: list[list[int]]
    text_lengths: list[int]
    counterparts: list[list[int] | None]
    alignments: list[Alignment]
    masked: tuple[tuple[int, int], ...] = ()
    example: tuple[int, ...] = ()

    def folded(self, values: Float[np.ndarray, "*axes row"]) -> Float[np.ndarray, "*axes example"]:
        """The sum over the rows of each example, which lie side by side."""
        if not self.example:
            return values
        starts = [row for row, number in enumerate(self.example) if row == 0 or number != self.example[row - 1]]
        return np.add.reduceat(values, starts, axis=-1)

    def of(self, rows: Sequence[int]) -> "Tokens":
        """These rows alone, in this order."""
        inputs, lengths, counterparts, alignments = (
            [column[row] for row in rows]
            for column in (self.inputs, self.text_lengths, self.counterparts, self.alignments)
        )
        probe = Probe(tuple(self.probe.examples[row] for row in rows))
        masked, example = (tuple(column[row] for row in rows if column) for column in (self.masked, self.example))
        return Tokens(probe, self.property, inputs, lengths, counterparts, alignments, masked, example)

    def require_alignment(self) -> None:
        """Raise `ProbeError` with each row that cannot be aligned, and why."""
        numbers = self.example or range(len(self.alignments))
        found = zip(numbers, self.probe.examples, self.alignments)
        bad = [*{(i, e.text, a.problem): None for i, e, a in found if a.problem is not None}]
        if bad:
            listed = "; ".join(f"row {i} ({text!r}): {why}" for i, text, why in bad[:3])
            more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
            raise ProbeError(
                f"cannot swap with the counterpart: {listed}{more}; probe.alignable(model) leaves these out"
            )
