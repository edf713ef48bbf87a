"""The two kinds of counterfactual pair, as types, so that a loss can refuse the wrong one.

A label-preserving pair edits the cue and leaves the cause: a model should answer both members alike. A label-flipping
pair edits the cause and leaves the cue: a model should answer them differently. A loss that makes the members of a
flipping pair agree teaches the model to ignore the cause.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from icp.errors import ProbeError
from icp.probes import Probe


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
    def digest(self) -> str:
        """A short digest of the kind, of every field of every example, and of the flipped labels."""
        return hashlib.sha256(f"{super().digest} {self.flipped}".encode()).hexdigest()[:16]

    @classmethod
    def of(cls, rows: Iterable[Any], flipped: Iterable[int], answers: tuple[str, ...] = ()) -> "FlippingPairs":
        """From rows as `Probe.from_pairs` takes them, and the label of each counterpart."""
        return cls(Probe.from_pairs(rows, answers), tuple(flipped))


def require_kind(probe: Probe, kind: type[Pairs], wanted: type[Pairs], what: str) -> None:
    """Raise `ProbeError` where counterparts are not of the kind that `what` needs, or a row has none."""
    if kind is not wanted:
        raise ProbeError(
            f"{what} needs {wanted.kind} pairs and was given {kind.kind} ones: on these it would teach the opposite"
        )
    for row, example in enumerate(probe.examples):
        if example.counterpart is None:
            raise ProbeError(f"row {row} ({example.text!r}) has no counterpart, which {what} needs of every row")
