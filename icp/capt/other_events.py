"""Events swapped for real ones of other stories, for prompts that say an event in many ways, such as CLadder's."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from icp.capt.abstracted import Abstracted
from icp.capt.renaming import Renaming
from icp.errors import DataError

BEGINS = ("", ".", "?", "!", ":")
"""What stands before the first word of a sentence."""


@dataclass(frozen=True)
class Event:
    """How the rows of a story most often name an event, say that it holds, and say that it does not."""

    story: str | None
    name: str
    holds: str
    denied: str


@dataclass(frozen=True)
class OtherEvents(Renaming):
    """`Names` for events that are told in clauses: each is swapped for one that another story tells.

    A mention becomes the words that the other event has for its polarity, so that the polarity stays in words and a
    place may hold a phrase where a clause was ("if ringing alarm"). For rows of real events: give `of` no nonsense.
    """

    events: tuple[Event, ...]

    @classmethod
    def of(cls, rows: Sequence[Abstracted]) -> "OtherEvents":
        """The events of these rows that are named, said to hold, and said not to in other words, by story and name."""
        said: dict[tuple[str | None, str], dict[bool | None, Counter[str]]] = {}
        for row in rows:
            names = _names(row)
            for mention, surface, before in row.said:
                if mention.slot in names:
                    known = said.setdefault((row.problem.story, names[mention.slot]), {})
                    known.setdefault(mention.holds, Counter())[_inner(surface, before)] += 1
        found = []
        for (story, name), known in sorted(said.items(), key=lambda one: (one[0][0] or "", one[0][1])):
            holds = _commonest(known.get(True, Counter()))
            denied = _commonest(Counter({text: n for text, n in known.get(False, Counter()).items() if text != holds}))
            if holds is not None and denied is not None:
                found.append(Event(story, name, holds, denied))
        return cls(tuple(found))

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        here = set(_names(row).values())
        others: dict[str, list[Event]] = {}
        for event in self.events:
            if event.story != row.problem.story and event.name not in here:
                others.setdefault(event.name, []).append(event)
        if len(others) < row.abstraction.slots:
            raise DataError(
                f"{row.problem.prompt[:60]!r} has {row.abstraction.slots} events, and other stories tell {len(others)} "
                "others: make OtherEvents of rows of more stories"
            )
        drawn = [rng.choice(others[name]) for name in rng.sample(sorted(others), row.abstraction.slots)]
        told = []
        for mention, surface, before in row.said:
            event = drawn[mention.slot]
            word = {None: event.name, True: event.holds, False: event.denied}[mention.holds]
            raised = surface[0].isupper() and before in BEGINS
            told.append(word[0].upper() + word[1:] if raised else word)
        return told


def _commonest(said: Counter[str]) -> str | None:
    return max(said, key=lambda text: (said[text], text), default=None)


def _names(row: Abstracted) -> dict[int, str]:
    """What the prompt first names each variable, where it does."""
    found: dict[int, str] = {}
    for mention, surface, before in row.said:
        if mention.holds is None:
            found.setdefault(mention.slot, _inner(surface, before))
    return found


def _inner(surface: str, before: str) -> str:
    """The words as they stand within a sentence; an abbreviation keeps its capitals."""
    if before in BEGINS and not surface[:2].isupper():
        return surface[0].lower() + surface[1:]
    return surface
