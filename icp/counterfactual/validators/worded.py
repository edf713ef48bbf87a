"""Checks that look at the words of both texts alone."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from icp.counterfactual.difference import edit_distance, span_fault
from icp.counterfactual.rows import Edit, Row
from icp.counterfactual.spec import Spec
from icp.counterfactual.validator import Validator
from icp.errors import SpecError


@dataclass(frozen=True)
class SpansKept(Validator):
    """The texts differ in the edit's spans alone, and these are places where the text says the edited variable.

    Where the variable is not found by words of the text (a column, a classifier), only the first is checked.
    """

    reason: ClassVar[str] = "edit outside its spans"

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        if (fault := span_fault(row, edit)) is not None:
            return fault
        places = [found.span for found in spec.variable(edit.variable).finder.find(row) if found.span is not None]
        for start, stop in edit.spans if places else ():
            if not any(first <= start and stop <= last for first, last in places):
                return f"{row.text[start:stop]!r} is edited, which says nothing of {edit.variable}"
        return None


@dataclass(frozen=True)
class FixedWords(Validator):
    """These words, whatever their case, are in the counterpart as often as in the text."""

    reason: ClassVar[str] = "fixed word changed"
    words: Sequence[str]

    def __post_init__(self):
        if isinstance(self.words, str) or not self.words or not all(word.strip() for word in self.words):
            raise SpecError(f"the fixed words {self.words!r} have to be a list of one word or more")
        object.__setattr__(self, "words", tuple(self.words))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(map(re.escape, self.words), key=len, reverse=True)
        return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE)

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        before, after = (Counter(map(str.lower, self._pattern.findall(text))) for text in (row.text, edit.text))
        if before == after:
            return None
        word = next(word for word in (*before, *after) if before[word] != after[word])
        return f"{word!r} has to stay: it is {before[word]} times in the text and {after[word]} in the counterpart"


@dataclass(frozen=True)
class Changed(Validator):
    """The text differs, not by spaces alone, and so do the edited variable's value and the words that say it."""

    reason: ClassVar[str] = "variable unchanged"

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        if row.text.split() == edit.text.split():
            return "the text is the same but for spaces"
        if edit.before == edit.after:
            return f"{edit.variable} is {edit.before!r} before and after"
        finder = spec.variable(edit.variable).finder
        before = [row.text[slice(*one.span)].lower() for one in finder.find(row) if one.span is not None]
        if before:
            found = finder.find(Row(edit.text, row.label, row.columns))
            if before == [edit.text[slice(*one.span)].lower() for one in found if one.span is not None]:
                return f"the words that say {edit.variable} are the same: {', '.join(before)}"
        return None


@dataclass(frozen=True)
class EditDistance(Validator):
    """At most this share of tokens changes: Levenshtein distance over the number of tokens of the longer text.

    The default is that half of the longer text stays, whatever the data.
    """

    reason: ClassVar[str] = "edit too large"
    bound: float = 0.5

    def __post_init__(self):
        if not 0 < self.bound < 1:
            raise SpecError(f"the bound {self.bound} on the edit distance has to be a share between 0 and 1")

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        distance = edit_distance(row.text, edit.text)
        if distance <= self.bound:
            return None
        return f"{distance:.2f} of the tokens change, and at most {self.bound:g} may"
