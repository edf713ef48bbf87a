"""What pairs are made of: a row of data, a proposed edit of its text, and why one could not be made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from numbers import Integral
from typing import Any

from icp.errors import DataError

Span = tuple[int, int]
"""Characters of a text: the first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Row:
    """A text, the index of its class, and whatever else the data say of it, by name."""

    text: str
    label: int
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """A counterfactual of a text in one variable, which had the value `before` and has the value `after`.

    `spans` are the characters of the text that were replaced, `new_spans` those of the counterfactual that replace
    them, one for one. `label` is the class of the counterfactual where whoever edits knows it.
    """

    text: str
    variable: str
    before: str
    after: str
    spans: tuple[Span, ...]
    new_spans: tuple[Span, ...]
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why there is no pair: `reason` is the name that it is counted under, `told` a sentence about this text."""

    reason: str
    told: str


def records_of(data: Iterable[Any]) -> Iterator[Any]:
    """What `row_of` reads, from `icp.data.Labelled`, a DataFrame, or mappings such as a `datasets.Dataset`."""
    return iter(data.to_dict("records") if hasattr(data, "to_dict") and hasattr(data, "columns") else data)


def rows_of(data: Iterable[Any]) -> Iterator[Row]:
    """Every row of the data; raises `DataError` for one that has no text or no label."""
    return (row_of(record, number) for number, record in enumerate(records_of(data)))


def row_of(record: Any, number: int) -> Row:
    """A row from a mapping or a dataclass with `text` and `label`; what else these hold are its columns.

    Raises `DataError` naming the row by its number where it has no text or no label.
    """
    if isinstance(record, Row):
        return record
    if is_dataclass(record):
        told = {part.name: getattr(record, part.name) for part in fields(record)}
    elif isinstance(record, Mapping):
        told = dict(record)
    else:
        raise DataError(f"row {number} is {record!r}: give mappings with 'text' and 'label', or labelled texts")
    text, label = told.pop("text", None), told.pop("label", None)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"row {number} has the text {text!r}: give every row some words")
    if isinstance(label, bool) or not isinstance(label, Integral) or label < 0:
        raise DataError(f"row {number} ({text!r}) has the label {label!r}: give the index of its class")
    return Row(text, int(label), told)


def replaced(text: str, changes: Iterable[tuple[Span, str]]) -> tuple[str, tuple[Span, ...], tuple[Span, ...]]:
    """The text with these spans replaced, the spans in order, and where the replacements are.

    Spans must not overlap.
    """
    parts: list[str] = []
    spans: list[Span] = []
    new: list[Span] = []
    at, length = 0, 0
    for (start, stop), word in sorted(changes):
        if start < at:
            raise DataError(f"the edits of {text!r} overlap at character {start}: give spans that are apart")
        parts += (text[at:start], word)
        length += start - at
        spans.append((start, stop))
        new.append((length, length + len(word)))
        length += len(word)
        at = stop
    return "".join((*parts, text[at:])), tuple(spans), tuple(new)
