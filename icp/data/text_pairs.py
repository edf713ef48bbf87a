"""Texts with their counterparts, as they come in pairs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from icp.data.labelled import Labelled
from icp.errors import DataError
from icp.pairs import FlippingPairs, Pairs, PreservingPairs
from icp.probes import Probe


@dataclass(frozen=True)
class TextPairs:
    """Pairs of rows with the fields of `LabelledText`, all of one `kind`; `classes` names what the labels stand for.

    `left_out` has, by reason, the keys of what was published beside them and is no such pair. Raises `DataError` for a
    pair whose labels contradict the kind.
    """

    kind: type[Pairs]
    classes: tuple[str, ...]
    pairs: tuple[tuple[Any, Any], ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self):
        if self.kind not in (PreservingPairs, FlippingPairs):
            raise DataError(f"{self.kind!r} is no kind of pair: give PreservingPairs or FlippingPairs")
        if not self.pairs:
            raise DataError("there are no pairs: give at least one")
        for number, (one, other) in enumerate(self.pairs):
            if (one.label == other.label) is not (self.kind is PreservingPairs):
                labels = [self.classes[row.label] for row in (one, other)]
                raise DataError(f"pair {number} ({one.word!r}) has the labels {labels}: it is not {self.kind.kind}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.pairs[index]

    def to_pairs(self, template: str, answers: Sequence[str]) -> PreservingPairs | FlippingPairs:
        """Pairs to train or measure on; `template` holds fields of the rows, `answers` are one a class in order."""
        firsts, others = (Labelled(self.classes, rows).to_probe(template, answers).examples for rows in zip(*self))
        probe = Probe(
            tuple(
                replace(one, counterpart=other.text, counterpart_group=other.group)
                for one, other in zip(firsts, others)
            )
        )
        if self.kind is PreservingPairs:
            return PreservingPairs(probe)
        return FlippingPairs(probe, tuple(other.label for other in others))
