"""One input with its answers and, where there is one, the counterpart, the group, and the label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

from icp.errors import ProbeError
from icp.images import Image
from icp.tokenizing import Input


@dataclass(frozen=True)
class Example:
    """One input: a text, or an `icp.Image`. `label` is the index of the right answer in `answers`.

    Answers are texts, or images where representations are compared with those of images.

    The counterpart is of the same kind, and of images of the same shape. `group` is the value that the cue has in
    `text`, `counterpart_group` the one that it has in `counterpart`.
    """

    text: Input
    counterpart: Input | None = None
    answers: tuple[Input, ...] = ()
    label: int | None = None
    template: str | None = None
    word: str | None = None
    group: str | None = None
    counterpart_group: str | None = None

    def __post_init__(self):
        if isinstance(self.text, str) and not self.text.strip():
            raise ProbeError("an example has an empty text: give every example some words")
        shapes = {getattr(each, "shape", None) for each in (self.text, self.counterpart) if each is not None}
        if len(shapes) > 1:
            raise ProbeError(
                f"{self.text!r} has the counterpart {self.counterpart!r}: of a text that is a text, of an image one of "
                "the same shape"
            )
        if self.label is not None and not 0 <= self.label < len(self.answers):
            raise ProbeError(f"label {self.label} of {self.text!r} is not an index into its answers {self.answers}")
        if self.counterpart is None and self.counterpart_group is not None:
            raise ProbeError(
                f"{self.text!r} has the counterpart_group {self.counterpart_group!r} and no counterpart: give both"
            )

    @property
    def stored(self) -> dict[str, Any]:
        """Every field by name, as artefacts keep it; of an image its name, which tells its pixels from others.

        The group of the counterpart is left out where there is none: what was measured before there was such a field
        has the digest that it had.
        """
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        told |= {name: str(told[name]) for name in ("text", "counterpart") if isinstance(told[name], Image)}
        told["answers"] = tuple(map(str, self.answers))
        if self.counterpart_group is None:
            del told["counterpart_group"]
        return told

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Everything that is a text or an image."""
        return (self.text, *(() if self.counterpart is None else (self.counterpart,)), *self.answers)


def example_of(row: Any, answers: tuple[Input, ...] = (), images: Mapping[str, Image] | None = None) -> Example:
    """An example from a text, an image, a pair of either, a mapping or an `Example`; `answers` where it has none.

    In a mapping, names of `images` are these. Raises `ProbeError` for anything else.
    """
    if isinstance(row, Example):
        return row if row.answers or not answers else replace(row, answers=answers)
    if isinstance(row, Input):
        return Example(row, answers=answers)
    if isinstance(row, Mapping):
        unknown = set(row) - {f.name for f in fields(Example)}
        if unknown or "text" not in row:
            raise ProbeError(
                f"an example has the fields {sorted(row)}: it needs 'text' and may have "
                f"{', '.join(f.name for f in fields(Example)[1:])}"
            )
        return Example(**_typed(shown(row, images or {}), answers))
    if isinstance(row, Sequence) and len(row) == 2 and all(isinstance(part, Input) for part in row):
        return Example(row[0], row[1], answers=answers)
    raise ProbeError(f"cannot read an example from {row!r}: give a pair of texts, a mapping, or an icp.Example")


def shown(row: Mapping[str, Any], images: Mapping[str, Image]) -> dict[str, Any]:
    """The row with images in the place of their names."""

    def image_of(value: Any) -> Any:
        return images.get(value, value) if isinstance(value, str) else value

    found = {name: image_of(row[name]) for name in ("text", "counterpart") if name in row}
    if images and isinstance(row.get("answers"), list):
        found["answers"] = [image_of(each) for each in row["answers"]]
    return {**row, **found}


def _typed(row: Mapping[str, Any], answers: tuple[Input, ...]) -> dict[str, Any]:
    """A row of a file or a table with the types of `Example`; a column of labels with gaps comes as floats."""
    typed = {**row, "answers": row.get("answers") or answers}
    if isinstance(label := row.get("label"), Real) and float(label).is_integer():
        typed["label"] = int(label)
    kinds = {"text": Input, "counterpart": Input | None, "answers": tuple | list, "label": int | None}
    wrong = [name for name, value in typed.items() if not isinstance(value, kinds.get(name, str | None))]
    if wrong or not all(isinstance(answer, Input) for answer in typed["answers"]):
        name = wrong[0] if wrong else "answers"
        raise ProbeError(
            f"the {name} of an example cannot be {typed[name]!r}: "
            "answers are a list of strings or icp.Images, a label is a whole number, a text is a string or an "
            "icp.Image, everything else is a string"
        )
    return typed | {"answers": tuple(typed["answers"])}
