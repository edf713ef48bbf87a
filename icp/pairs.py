"""The two kinds of counterfactual pair, as types, so that a loss can refuse the wrong one.

A label-preserving pair edits the cue and leaves the cause: a model should answer both members alike. A label-flipping
pair edits the cause and leaves the cue: a model should answer them differently. A loss that makes the members of a
flipping pair agree teaches the model to ignore the cause.

The counterparts of a plain `Probe` count as label-preserving, since a probe's pairs differ in the cue alone by its own
definition; those that do not are `FlippingPairs`, in memory and in files.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from icp.errors import ArtefactError, ProbeError
from icp.examples import shown
from icp.files import read_json, write_json
from icp.images import load_images, save_images
from icp.probes import Probe

FORMAT, VERSION = "icp-pairs", 1


@dataclass(frozen=True)
class Pairs:
    """Base of the two kinds: every example of `probe` with its counterpart."""

    probe: Probe
    kind: ClassVar[str] = ""

    def __post_init__(self):
        if type(self) is Pairs:
            raise ProbeError("pairs are of one kind: make PreservingPairs or FlippingPairs")
        for row, example in enumerate(self.probe.examples):
            if example.counterpart is None:
                raise ProbeError(f"row {row} ({example.text!r}) has no counterpart: a pair needs one")

    def __len__(self) -> int:
        return len(self.probe)

    @property
    def stored(self) -> list[dict[str, Any]]:
        """Every pair by its fields, as files keep it."""
        return [example.stored for example in self.probe.examples]

    @classmethod
    def from_stored(cls, rows: list[dict[str, Any]]) -> "Pairs":
        return cls(Probe.from_pairs(rows))

    def save(self, path: "str | Path") -> Path:
        """Write JSON: the kind, and the fields of every pair; of images the pixels too, as `Probe.save` does."""
        save_images(path, (each for example in self.probe.examples for each in example.inputs))
        return write_json(path, FORMAT, VERSION, {"kind": self.kind, "pairs": self.stored})

    @classmethod
    def load(cls, path: "str | Path") -> "Pairs":
        """Read what `save` wrote: pairs of this kind, or of either by `Pairs.load`.

        Raises `ArtefactError` for the other kind and for a foreign, truncated or newer file, `ProbeError` naming a row
        that is no pair of the kind that the file says.
        """
        content = read_json(path, FORMAT, VERSION)
        of_kind = {kind.kind: kind for kind in (PreservingPairs, FlippingPairs)}
        kind, rows = content.get("kind"), content.get("pairs")
        if kind not in of_kind or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ArtefactError(f"{path} is damaged: it should have pairs and their kind, {' or '.join(of_kind)}")
        if not issubclass(of_kind[kind], cls):
            raise ArtefactError(f"{path} holds {kind} pairs, and {cls.kind} ones are needed")
        images = load_images(path)
        rows = [shown(row, images) for row in rows]
        try:
            return of_kind[kind].from_stored(rows)
        except ProbeError as error:
            raise ProbeError(f"the {kind} pairs of {path}: {error}") from error

    @property
    def digest(self) -> str:
        """A short digest of the kind and of every field of every example."""
        return hashlib.sha256(f"{self.kind} {self.probe.digest}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PreservingPairs(Pairs):
    """x and x' differ in the cue alone and have the same label."""

    kind: ClassVar[str] = "label-preserving"


@dataclass(frozen=True)
class FlippingPairs(Pairs):
    """x and x' differ in the cause alone; the label of x' is `flipped`, an index into the same answers."""

    flipped: tuple[int, ...]
    kind: ClassVar[str] = "label-flipping"

    def __post_init__(self):
        super().__post_init__()
        if len(self.flipped) != len(self.probe):
            raise ProbeError(f"{len(self.flipped)} flipped labels were given for {len(self.probe)} pairs: one a pair")
        for row, (example, label) in enumerate(zip(self.probe.examples, self.flipped)):
            if example.label is None or not 0 <= label < len(example.answers):
                raise ProbeError(
                    f"row {row} ({example.text!r}) needs a label and a flipped one that are indices into its answers "
                    f"{example.answers}: they are {example.label} and {label}"
                )
            if label == example.label:
                raise ProbeError(
                    f"row {row} ({example.text!r}) has the label {label} before and after: that is a label-preserving "
                    "pair"
                )

    @property
    def stored(self) -> list[dict[str, Any]]:
        return [row | {"flipped": label} for row, label in zip(super().stored, self.flipped)]

    @classmethod
    def from_stored(cls, rows: list[dict[str, Any]]) -> "FlippingPairs":
        labels = [row.get("flipped") for row in rows]
        for row, label in enumerate(labels):
            if type(label) is not int:
                raise ProbeError(f"row {row} has the flipped label {label!r}: it is the index of an answer")
        return cls.of([{name: row[name] for name in row if name != "flipped"} for row in rows], labels)

    @property
    def digest(self) -> str:
        """A short digest of the kind, of every field of every example, and of the flipped labels."""
        return hashlib.sha256(f"{super().digest} {self.flipped}".encode()).hexdigest()[:16]

    @classmethod
    def of(cls, rows: Iterable[Any], flipped: Iterable[int], answers: tuple[str, ...] = ()) -> "FlippingPairs":
        """From rows as `Probe.from_pairs` takes them, and the label of each counterpart."""
        return cls(Probe.from_pairs(rows, answers), tuple(flipped))


def read_rows(path: "str | Path") -> Probe | Pairs:
    """Pairs of either kind where the file says that it holds such, else the probe that it holds as JSON lines."""
    path, start = Path(path), b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(200)
    return Pairs.load(path) if re.match(rb'\s*\{\s*"format"\s*:\s*"icp-pairs"', start) else Probe.load(path)


def read_probe(path: "str | Path") -> Probe:
    """The same as a probe, for what makes nothing of the kind of its pairs."""
    rows = read_rows(path)
    return rows.probe if isinstance(rows, Pairs) else rows


def require_kind(probe: Probe, kind: type[Pairs], wanted: type[Pairs], what: str) -> None:
    """Raise `ProbeError` where counterparts are not of the kind that `what` needs, or a row has none."""
    if kind is not wanted:
        raise ProbeError(
            f"{what} needs {wanted.kind} pairs and was given {kind.kind} ones: on these it would do the opposite"
        )
    for row, example in enumerate(probe.examples):
        if example.counterpart is None:
            raise ProbeError(f"row {row} ({example.text!r}) has no counterpart, which {what} needs of every row")
