"""Ways to find a variable's value in a row: words, patterns, a classifier, a column of the data."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from icp.counterfactual.rows import Row, Span
from icp.errors import SpecError

WORD = re.compile("[^\\W_]+(?:['\u2019](?!s\\b)[^\\W_]+)*")
"""Letters and digits, with apostrophes inside; a hyphen parts words, and so does a possessive or contracted 's."""


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

    def find(self, row: Row) -> list[Found]:
        """Every place in the row that says the variable's value; empty where nothing does."""
        raise NotImplementedError

    @property
    def stored(self) -> dict[str, Any]:
        """As a spec's file has it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lexicon(Finder):
    """Whole words or phrases, whatever their case: `words` has a list a value.

    Lists of equal length whose words correspond one to one (`aligned`) say what a word is swapped with: its partner in
    the other list; otherwise it may be any word of that list. Raises `SpecError` for a word that stands for two values.
    """

    name: str
    words: Mapping[str, tuple[str, ...]]
    aligned: bool = True

    def __post_init__(self):
        object.__setattr__(self, "words", {value: tuple(words) for value, words in self.words.items()})
        if len(self.words) < 2 or not all(self.words.values()):
            raise SpecError(f"the lexicon {self.name!r} needs words for two values at least: it has {dict(self.words)}")
        seen: dict[str, str] = {}
        for value, words in self.words.items():
            for word in words:
                if not WORD.search(word):
                    raise SpecError(f"the lexicon {self.name!r} has {word!r} for {value!r}, which is no word")
                if seen.setdefault(word.lower(), value) != value:
                    raise SpecError(
                        f"the lexicon {self.name!r} has {word!r} for {seen[word.lower()]!r} and for {value!r}: a word "
                        "can stand for one value only"
                    )
        if self.aligned and len({len(words) for words in self.words.values()}) > 1:
            lengths = {value: len(words) for value, words in self.words.items()}
            raise SpecError(
                f"the words of the lexicon {self.name!r} cannot be matched one to one ({lengths}): give as many for "
                "each value, or say aligned=False"
            )

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.words)

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        """Of every entry, its words joined by one space in lower case: its value and its place in the list."""
        return {joined(word): (value, place) for value, words in self.words.items() for place, word in enumerate(words)}

    @cached_property
    def _longest(self) -> dict[str, int]:
        """By the first word of an entry, the most words that one of these entries has."""
        longest: dict[str, int] = {}
        for entry in self._places:
            words = entry.split(" ")
            longest[words[0]] = max(longest.get(words[0], 0), len(words))
        return longest

    def find(self, row: Row) -> list[Found]:
        return [Found(value, span) for value, _, span in self.entries(row.text)]

    def entries(self, text: str) -> list[tuple[str, int, Span]]:
        """Every entry in the text: its value, its place in that value's list, and where it is; the longest first."""
        longest, found, at = self._longest, [], 0
        matches = list(WORD.finditer(text))
        lowered = [plain(match.group()) for match in matches]
        while at < len(matches):
            for count in range(longest.get(lowered[at], 0), 0, -1):
                entry = self._places.get(" ".join(lowered[at : at + count]))
                if entry is not None and at + count <= len(matches):
                    found.append((*entry, (matches[at].start(), matches[at + count - 1].end())))
                    at += count - 1
                    break
            at += 1
        return found

    def inside(self, text: str) -> str | None:
        """The first word of the text that holds an entry of one word as a part of it; None where none does."""
        for match in WORD.finditer(text):
            word = plain(match.group())
            if word not in self._places and any(entry in word for entry in self._places if len(entry) > 2):
                return match.group()
        return None

    @property
    def stored(self):
        words = {value: list(words) for value, words in self.words.items()}
        return {"lexicon": self.name, "words": words, "aligned": self.aligned}


@dataclass(frozen=True)
class Pattern(Finder):
    """A regular expression a value; what it matches says that value."""

    patterns: Mapping[str, str]

    def __post_init__(self):
        for value, pattern in self.patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise SpecError(f"the pattern {pattern!r} of the value {value!r} cannot be read: {error}") from error

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.patterns)

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

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.of)

    def find(self, row: Row) -> list[Found]:
        value = row.columns.get(self.name)
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

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.of)

    def find(self, row: Row) -> list[Found]:
        if self.function is None:
            raise SpecError(
                f"the classifier {self.name!r} is code, which a file does not hold: declare the spec in code"
            )
        value = self.function(row.text)
        if value not in self.values:
            raise SpecError(
                f"the classifier {self.name!r} says {value!r} of {row.text!r}: the spec knows {', '.join(self.of)}"
            )
        return [Found(value, None)]

    @property
    def stored(self):
        return {"classifier": self.name, "values": list(self.of)}


def joined(entry: str) -> str:
    """The words of an entry in lower case with one space between them."""
    return " ".join(plain(match.group()) for match in WORD.finditer(entry))


def plain(word: str) -> str:
    """In lower case, with a straight apostrophe."""
    return word.lower().replace("\u2019", "'")
