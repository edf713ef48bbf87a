"""Which fields a row of a data set has, declared once a form in which it is published, and checked on every row.

A kind is `str`, `int` or `float`; `Choice({as written: as read})`; `Maybe(kind)` for what may be empty or left
out; `[kind]` for a list, `(kind, kind)` for a list of that length, and `{name: kind}` for an object, whose other fields
are not looked at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from icp.errors import DataError


@dataclass(frozen=True)
class Choice:
    """One of the keys of `values`, compared as text, and read as what it stands for."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Maybe:
    """`kind`, or nothing: then None."""

    kind: Any


@dataclass(frozen=True)
class Form:
    """One form in which a data set is published: the fields of a row, and the typed rows that are made of it."""

    fields: dict[str, Any]
    build: Callable[[dict[str, Any]], Iterable[Any]]
    columns: tuple[str, ...] = ()
    """The columns of a table that comes without a line of names."""
    answer: str | None = None
    """The field that a row may lack alone, where rows without an answer are left out."""

    @property
    def without_answer(self) -> "Form":
        return replace(self, fields={name: kind for name, kind in self.fields.items() if name != self.answer})

    @property
    def required(self) -> list[str]:
        return [name for name, kind in self.fields.items() if not isinstance(kind, Maybe)]


@dataclass(frozen=True)
class Schema:
    """A data set: its name, the forms in which it is published, and the files of its splits within a folder.

    `files` maps a split to paths that are tried in turn, before `<split>.jsonl`, `.json`, `.csv` and `.tsv`. `quoted`
    says whether a table puts texts in quotation marks.
    """

    name: str
    forms: tuple[Form, ...]
    files: Mapping[str, tuple[str, ...]]
    quoted: bool = True

    def form_of(self, names: Iterable[str], where: str, unanswered: bool = False) -> Form:
        """The first form whose fields are all there; raises `DataError` naming a field that is not.

        A row may be `unanswered`: then it may lack the answer.
        """
        there = set(names)
        lacking = [
            [name for name in form.required if name not in there and not (unanswered and name == form.answer)]
            for form in self.forms
        ]
        if [] in lacking:
            return self.forms[lacking.index([])]
        missing = min(lacking, key=len)[0]
        raise DataError(
            f"{where} has no field {missing!r} (it has {', '.join(sorted(map(repr, there))) or 'none'}): "
            f"{self.name} has {' or '.join('(' + ', '.join(form.required) + ')' for form in self.forms)}"
        )


def checked(row: Mapping[str, Any], form: Form, where: str) -> dict[str, Any]:
    """The declared fields of a row with their values; raises `DataError` naming the place and the field."""
    return {name: _value(row.get(name), kind, name, where) for name, kind in form.fields.items()}


def _value(value: Any, kind: Any, field: str, where: str) -> Any:
    match kind:
        case Maybe(inner):
            return None if value is None or value == "" else _value(value, inner, field, where)
        case Choice(values):
            if str(value) in values and not isinstance(value, float | list | dict):
                return values[str(value)]
            raise _wrong(value, "one of " + ", ".join(map(repr, values)), field, where)
        case tuple():
            if not isinstance(value, list) or len(value) != len(kind):
                raise _wrong(value, f"a list of {len(kind)}", field, where)
            return [_value(part, one, f"{field}[{i}]", where) for i, (part, one) in enumerate(zip(value, kind))]
        case [inner]:
            if not isinstance(value, list):
                raise _wrong(value, "a list", field, where)
            return [_value(part, inner, f"{field}[{index}]", where) for index, part in enumerate(value)]
        case dict():
            if not isinstance(value, Mapping):
                raise _wrong(value, "an object", field, where)
            return {name: _value(value.get(name), inner, f"{field}.{name}", where) for name, inner in kind.items()}
    if kind is str:
        if not isinstance(value, str) or not value.strip():
            raise _wrong(value, "a text that is not empty", field, where)
        return value
    return _number(value, kind, field, where)


def _number(value: Any, kind: type, field: str, where: str) -> Any:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if kind is float and number is not None and number == number:
        return number
    if kind is int and number is not None and number.is_integer():
        return int(number)
    raise _wrong(value, {int: "a whole number", float: "a number"}[kind], field, where)


def _wrong(value: Any, wanted: str, field: str, where: str) -> DataError:
    shown = repr(value) if value is None or len(repr(value)) <= 60 else repr(value)[:60] + "..."
    return DataError(f"{where}: the field {field!r} is {shown}, and should be {wanted}")
