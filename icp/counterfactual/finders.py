"""Ways to find a variable's value in a row: patterns, a classifier, a column of the data; words are in `lexicon`."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from icp.counterfactual.rows import Row, Span
from icp.errors import SpecError


class Found(NamedTuple):
    """A value, and the characters that say it, where it is words of the text that do."""

    value: str
    span: Span | None


@dataclass(frozen=True)
class Finder:
    """Base of the ways to find a variable. `values` are those that it may have."""

    @property
    def values(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def marks(self) -> tuple[str, ...]:
        """The words, patterns or name that it goes by, which no other variable of a spec may have."""
        raise NotImplementedError

    def begin(self) -> None:
        """Raises `SpecError` where it cannot find anything, before a row is read."""

    def find(self, row: Row) -> list[Found]:
        """Every place in the row that says the variable's value; empty where nothing does."""
        raise NotImplementedError

    @property
    def stored(self) -> dict[str, Any]:
        """As a spec's file has it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pattern(Finder):
    """A regular expression a value; what it matches says that value."""

    patterns: Mapping[str, str]

    def __post_init__(self):
        _require_values(tuple(self.patterns), "the patterns")
        for value, pattern in self.patterns.items():
            try:
                empty = re.compile(pattern).match("") is not None
            except (re.error, TypeError) as error:
                raise SpecError(f"the pattern {pattern!r} of the value {value!r} cannot be read: {error}") from error
            if empty:
                raise SpecError(f"the pattern {pattern!r} of the value {value!r} matches where there are no characters")

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.patterns)

    @property
    def marks(self):
        return tuple(self.patterns.values())

    def find(self, row: Row) -> list[Found]:
        return sorted(
            (Found(value, match.span()) for value, p in self.patterns.items() for match in re.finditer(p, row.text)),
            key=lambda found: found.span,
        )

    @property
    def stored(self):
        return {"patterns": dict(self.patterns)}


@dataclass(frozen=True)
class Column(Finder):
    """A column of the data, which an edit of the text does not change."""

    name: str
    of: Sequence[str]

    def __post_init__(self):
        object.__setattr__(self, "of", _require_values(self.of, f"the column {self.name!r}"))

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.of)

    @property
    def marks(self):
        return (self.name,)

    def find(self, row: Row) -> list[Found]:
        if self.name not in row.columns:
            raise SpecError(f"the row {row.text!r} has no column {self.name!r}, which the spec reads")
        value = row.columns[self.name]
        if value is None:
            return []
        if str(value) not in self.values:
            raise SpecError(
                f"the column {self.name!r} has {value!r} in the row {row.text!r}: the spec knows {', '.join(self.of)}"
            )
        return [Found(str(value), None)]

    @property
    def stored(self):
        return {"column": self.name, "values": list(self.of)}


@dataclass(frozen=True)
class Classifier(Finder):
    """A function from a text to one of the values, such as a trained classifier's; `name` says which.

    A file holds the name only: read from there, it cannot find anything until the spec is declared in code again.
    """

    name: str
    of: Sequence[str]
    function: Callable[[str], str] | None = None

    def __post_init__(self):
        object.__setattr__(self, "of", _require_values(self.of, f"the classifier {self.name!r}"))

    def begin(self) -> None:
        if self.function is None:
            raise SpecError(
                f"the classifier {self.name!r} is code, which a file does not hold: declare the spec in code"
            )

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.of)

    @property
    def marks(self):
        return (self.name,)

    def find(self, row: Row) -> list[Found]:
        self.begin()
        value = self.function(row.text)
        if value not in self.values:
            raise SpecError(
                f"the classifier {self.name!r} says {value!r} of {row.text!r}: the spec knows {', '.join(self.of)}"
            )
        return [Found(value, None)]

    @property
    def stored(self):
        return {"classifier": self.name, "values": list(self.of)}


def _require_values(values: Sequence[str], what: str) -> tuple[str, ...]:
    """The values; raises `SpecError` where they are not two or more different words."""
    if isinstance(values, str) or not all(isinstance(value, str) and value for value in values):
        raise SpecError(f"{what} cannot have the values {values!r}: give a list of words")
    if len(set(values)) < max(2, len(values)):
        raise SpecError(f"{what} needs two different values at least, each named once: it has {list(values)}")
    return tuple(values)
