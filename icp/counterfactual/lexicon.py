"""Words and phrases that say a variable's value, with their partners of another value."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from icp.counterfactual.finders import Finder, Found
from icp.counterfactual.rows import Row, Span
from icp.counterfactual.words import WORD, joined, plain, plural, with_article
from icp.errors import SpecError

HOLDERS = 100_000
"""Words of texts that a lexicon remembers the parts of, at most."""


class Entry(NamedTuple):
    """A word or phrase of a lexicon in a text: its value, its places in that value's list, and its characters."""

    value: str
    places: tuple[int, ...]
    plural: bool
    span: Span


@dataclass(frozen=True)
class Lexicon(Finder):
    """Whole words or phrases, whatever their case: `words` has a list a value.

    Lists of equal length whose words correspond one to one (`aligned`) say what a word is swapped with: its partner in
    the other list; otherwise it may be any word of that list. A word that is twice in an aligned list has two partners
    (`her`: `him` and `his`). With `plurals` the words are nouns whose plurals are found too. An indefinite article
    before a word belongs to it. Raises `SpecError` for a word that stands for two values.
    """

    name: str
    words: Mapping[str, Sequence[str]]
    aligned: bool = True
    plurals: bool = False

    def __post_init__(self):
        for value, words in self.words.items():
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                raise SpecError(f"the lexicon {self.name!r} has {words!r} for {value!r}: give a list of words")
        object.__setattr__(self, "words", {value: tuple(words) for value, words in self.words.items()})
        if len(self.words) < 2 or not all(self.words.values()):
            raise SpecError(f"the lexicon {self.name!r} needs words for two values at least: it has {dict(self.words)}")
        seen: dict[str, str] = {}
        for value, words in self.words.items():
            for word in words:
                if not WORD.search(word):
                    raise SpecError(f"the lexicon {self.name!r} has {word!r} for {value!r}, which is no word")
                for form in (word, plural(word)) if self.plurals else (word,):
                    if seen.setdefault(joined(form), value) != value:
                        raise SpecError(
                            f"the lexicon {self.name!r} has {form!r} for {seen[joined(form)]!r} and for {value!r}: a "
                            "word can stand for one value only"
                        )
        if self.aligned and len({len(words) for words in self.words.values()}) > 1:
            lengths = {value: len(words) for value, words in self.words.items()}
            raise SpecError(
                f"the words of the lexicon {self.name!r} cannot be matched one to one ({lengths}): give as many for "
                "each value, or say aligned=False"
            )

    def __or__(self, other: "Lexicon") -> "Lexicon":
        """The words of both, value by value; they need to have the same values, and be alike in what they find."""
        if set(self.values) != set(other.values):
            raise SpecError(
                f"the lexicon {self.name!r} has the values {', '.join(self.values)} and {other.name!r} has "
                f"{', '.join(other.values)}: both need the same"
            )
        if self.plurals != other.plurals:
            raise SpecError(f"one of the lexicons {self.name!r} and {other.name!r} finds plurals: both need to or none")
        words = {value: (*self.words[value], *other.words[value]) for value in self.values}
        return Lexicon(f"{self.name} and {other.name}", words, self.aligned and other.aligned, self.plurals)

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.words)

    @property
    def marks(self):
        return tuple(self._entries)

    @cached_property
    def _entries(self) -> dict[str, tuple[str, tuple[int, ...], bool]]:
        """By the words of every entry, joined by one space in lower case: its value, its places, if it is a plural."""
        entries: dict[str, tuple[str, tuple[int, ...], bool]] = {}
        for plurals in (False, True)[: 1 + self.plurals]:
            listed = {} if plurals else entries
            for value, words in self.words.items():
                for place, word in enumerate(words):
                    form = joined(plural(word) if plurals else word)
                    places = listed.get(form, (value, (), plurals))[1]
                    listed[form] = (value, (*places, place), plurals)
            entries |= {form: entry for form, entry in listed.items() if form not in entries}
        return entries

    @cached_property
    def _longest(self) -> dict[str, int]:
        """By the first word of an entry, the most words that one of these entries has."""
        longest: dict[str, int] = {}
        for entry in self._entries:
            words = entry.split(" ")
            longest[words[0]] = max(longest.get(words[0], 0), len(words))
        return longest

    @cached_property
    def _holders(self) -> dict[str, bool]:
        """Of words that were looked at, whether they hold an entry as a part."""
        return {}

    def find(self, row: Row) -> list[Found]:
        return [Found(one.value, with_article(row.text, one.span)) for one in self.entries(row.text)]

    def entries(self, text: str) -> list[Entry]:
        """Every entry in the text, without its article; of several that begin at one word the longest."""
        longest, found, at = self._longest, [], 0
        matches = list(WORD.finditer(text))
        lowered = [plain(match.group()) for match in matches]
        while at < len(matches):
            for count in range(min(longest.get(lowered[at], 0), len(matches) - at), 0, -1):
                entry = self._entries.get(" ".join(lowered[at : at + count]))
                if entry is not None and _together(text, matches[at : at + count]):
                    found.append(Entry(*entry, (matches[at].start(), matches[at + count - 1].end())))
                    at += count - 1
                    break
            at += 1
        return found

    def inside(self, text: str) -> str | None:
        """The first word of the text that holds an entry of three letters or more as a part; None where none does."""
        for match in WORD.finditer(text):
            word = plain(match.group())
            holds = self._holders.get(word)
            if holds is None:
                holds = word not in self._entries and any(len(one) > 2 and one in word for one in self._entries)
                if len(self._holders) < HOLDERS:
                    self._holders[word] = holds
            if holds:
                return match.group()
        return None

    @property
    def stored(self):
        words = {value: list(words) for value, words in self.words.items()}
        return {"lexicon": self.name, "words": words, "aligned": self.aligned, "plurals": self.plurals}


def _together(text: str, matches: list[re.Match[str]]) -> bool:
    """Whether nothing but spaces and hyphens is between these words."""
    return all(not text[a.end() : b.start()].strip(" \t\n\r-") for a, b in pairwise(matches))
