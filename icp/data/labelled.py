"""Texts with a label and a cue, and the probe that is made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from string import Formatter
from typing import Any

from icp.errors import DataError
from icp.examples import Example
from icp.probes import Probe


@dataclass(frozen=True)
class LabelledText:
    """A text, the index of its class, the value of its cue (`group`) and what errors cluster by (`word`), if any."""

    text: str
    label: int
    group: str | None = None
    word: str | None = None


@dataclass(frozen=True)
class Labelled:
    """Rows with the fields of `LabelledText` and perhaps more; `classes` names what the labels stand for."""

    classes: tuple[str, ...]
    rows: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]

    def keep(self, *classes: str) -> "Labelled":
        """Only the rows of these classes, with labels that count them in the order named."""
        for name in classes:
            if name not in self.classes:
                raise DataError(f"there is no class {name!r}: there are {', '.join(self.classes)}")
        label = {self.classes.index(name): place for place, name in enumerate(classes)}
        return Labelled(classes, tuple(replace(r, label=label[r.label]) for r in self.rows if r.label in label))

    def to_probe(self, template: str, answers: Sequence[str]) -> Probe:
        """One example a row: `template` with the row's fields in it, such as `"Review: {text}\\nSentiment:"`.

        `answers` are the label words, one a class in the order of `classes`. Raises `DataError` where their number is
        another, or the template names no field of the rows or one that some row lacks.
        """
        if isinstance(answers, str) or len(answers) != len(self.classes):
            raise DataError(
                f"{answers!r} is not one answer a class: the classes are {', '.join(self.classes)}; keep(...) narrows "
                "them"
            )
        require_fields(template, self.rows)
        made = (
            Example(filled(template, row), answers=tuple(answers), label=row.label, group=row.group, word=row.word)
            for row in self.rows
        )
        return Probe(tuple(made))


def filled(template: str, row: Any) -> str:
    """`template` with the row's fields in it."""
    return template.format(**{field.name: getattr(row, field.name) for field in fields(row)})


def require_fields(template: str, rows: Sequence[Any], known: Sequence[str] = ()) -> None:
    """Raise `DataError` where a template names no field, one that is not `known`, or one that a row lacks.

    All fields of the rows are known where no others are given.
    """
    known = known or [field.name for field in fields(rows[0])]
    try:
        named = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise DataError(f"the template {template!r} cannot be read ({error}): write {{{{ for a brace") from error
    if not named:
        raise DataError(f"the template {template!r} names no field: put one in braces, of {', '.join(known)}")
    for name in named:
        if name not in known:
            raise DataError(f"the template {template!r} names {name!r}: the rows have {', '.join(known)}")
        for number, row in enumerate(rows):
            if getattr(row, name) is None:
                raise DataError(f"row {number} has no {name}, which the template {template!r} names")
