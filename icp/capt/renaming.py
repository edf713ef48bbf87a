"""What takes the place of events: symbols drawn afresh, in order, or one an event for good; other names; or nothing."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from icp.capt.abstracted import Abstracted
from icp.capt.symbols import pool, without_those_in
from icp.data.ontologies import WORDS, Word
from icp.data.problems import Problem
from icp.data.syllogisms import singular
from icp.errors import DataError

ONE = {"a", "an", "each", "every", "any", "is"}
NAMES = tuple(word for word in WORDS if word.family != "fictional")


class Renaming:
    """Base of what takes the place of events; a frozen record. A draw depends on the generator and the row alone."""

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        """One text for each of `row.said`. Raises `DataError` where there are not enough."""
        raise NotImplementedError


@dataclass(frozen=True)
class Null(Renaming):
    """Plain fine-tuning: the events as they are."""

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        return [surface for _, surface, _ in row.said]


@dataclass(frozen=True)
class Random(Renaming):
    """Symbols drawn afresh for every copy of every row, from those that are no word of its text or answers."""

    symbols: tuple[str, ...] = field(default_factory=pool)

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        free = _enough(self.symbols, row)
        return _symbolic(row, rng.sample(free, row.abstraction.slots))


@dataclass(frozen=True)
class Order(Renaming):
    """The first symbols in their order, the first for the variable that the prompt says first."""

    symbols: tuple[str, ...] = field(default_factory=pool)

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        return _symbolic(row, _enough(self.symbols, row))


@dataclass(frozen=True)
class Fixed(Renaming):
    """A control: an event has the same symbol in every row, so that a symbol is a name that can be memorised.

    An event that is not in the table is given one of `others` at random, and refused where there are none.
    """

    table: tuple[tuple[str, str], ...]
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Abstracted], symbols: tuple[str, ...], seed: int = 0) -> "Fixed":
        """A symbol for each event of these rows, test rows among them; raises `DataError` where there are too few."""
        events = sorted({name for row in rows for name in _event_names(row)})
        taken = "\n".join({row.rest for row in rows})
        free = without_those_in(symbols, taken)
        if len(events) > len(free):
            raise DataError(
                f"the rows have {len(events)} events, and {len(free)} symbols are none of their words: take a larger "
                "pool, or the random renaming"
            )
        return cls(tuple(zip(events, random.Random(seed).sample(free, len(events)))))

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        known = dict(self.table)
        names = _event_names(row)
        strange = [name for name in names if name not in known]
        if strange and not self.others:
            raise DataError(f"{strange[0]!r} has no symbol of its own: let Fixed.of see this row too, or name others")
        here = {known[name] for name in names if name in known}
        if taken := sorted(here - set(without_those_in(tuple(here), row.rest))):
            raise DataError(f"{taken[0]!r} is the symbol of an event and a word of {row.problem.prompt[:60]!r} too")
        if strange:
            free = _enough(tuple(one for one in self.others if one not in here), row, len(strange))
            known |= dict(zip(strange, rng.sample(free, len(strange))))
        return _symbolic(row, [known[name] for name in names])


@dataclass(frozen=True)
class Names(Renaming):
    """Other real names of the same kind, in the number and with the capital that the place asks for.

    An event is looked up in `known`, and its new name drawn from those of its kind in `names` that are not in the row.
    """

    names: tuple[Word, ...] = NAMES
    known: tuple[Word, ...] = WORDS

    def words(self, row: Abstracted, rng: random.Random) -> list[str]:
        of_form = {form.lower(): word for word in self.known for form in word.forms}
        slots: dict[int, Word] = {}
        for mention, surface, _ in row.said:
            if surface.lower() not in of_form:
                raise DataError(f"{surface!r} is in no list of names, so that there is no other of its kind")
            slots.setdefault(mention.slot, of_form[surface.lower()])
        here = {word.singular for word in slots.values()}
        new: dict[int, Word] = {}
        for kind in sorted({word.kind for word in slots.values()}):
            asked = [slot for slot, word in slots.items() if word.kind == kind]
            free = sorted({w.singular: w for w in self.names if w.kind == kind and w.singular not in here}.items())
            if len(free) < len(asked):
                raise DataError(
                    f"{len(asked)} names of the kind {kind} are asked for, and there are {len(free)} others"
                )
            new |= {slot: word for slot, (_, word) in zip(asked, rng.sample(free, len(asked)))}
        return [_form(slots[m.slot], new[m.slot], surface, before) for m, surface, before in row.said]


def renamed(row: Abstracted, renaming: Renaming, rng: random.Random) -> Problem:
    """The problem with its events renamed in the prompt and the reasoning alike; answer, story and skeleton stay.

    Raises `DataError` where there are more events than symbols or names.
    """
    words = renaming.words(row, rng)
    count = len(row.abstraction.mentions)
    reasoning = None if row.worked is None else row.worked.worded(words[count:])
    return replace(row.problem, prompt=row.abstraction.worded(words[:count]), reasoning=reasoning)


def copies(rows: Sequence[Abstracted], renaming: Renaming, count: int = 1, seed: int = 0) -> list[Problem]:
    """Each row `count` times, one block after the other, every copy of every row with a draw of its own.

    A draw depends on the seed, the number of the copy and the number of the row.
    """
    if count < 1:
        raise DataError(f"{count} copies of each row were asked for: take at least 1")
    return [drawn(row, renaming, number, copy, seed) for copy in range(count) for number, row in enumerate(rows)]


def drawn(row: Abstracted, renaming: Renaming, number: int, copy: int, seed: int) -> Problem:
    """A copy of the row of this number."""
    return renamed(row, renaming, random.Random(f"{seed}/{copy}/{number}"))


def _enough(symbols: tuple[str, ...], row: Abstracted, count: int | None = None) -> list[str]:
    free = without_those_in(symbols, row.rest)
    count = row.abstraction.slots if count is None else count
    if count > len(free):
        raise DataError(
            f"{row.problem.prompt[:60]!r} has {count} events, and {len(free)} of {len(symbols)} "
            "symbols are none of its words: take a larger pool"
        )
    return free


def _symbolic(row: Abstracted, symbols: Sequence[str]) -> list[str]:
    return [f"not {symbols[m.slot]}" if m.holds is False else symbols[m.slot] for m, _, _ in row.said]


def _event_names(row: Abstracted) -> list[str]:
    """A name of each variable of the prompt: what it says first, as a singular without capitals."""
    found: dict[int, str] = {}
    for mention in row.abstraction.mentions:
        found.setdefault(mention.slot, singular(row.abstraction.surface(mention).lower()))
    return [found[slot] for slot in range(row.abstraction.slots)]


def _form(old: Word, new: Word, surface: str, before: str) -> str:
    """The new word in the number of the old one, and with a capital where the old one was given one."""
    lower = surface.lower()
    many = lower == (old.plural or "").lower() and (lower != old.singular.lower() or before not in ONE)
    form = new.plural if many and new.plural else new.singular
    given = surface[0].isupper() and not old.singular[0].isupper()
    raised = surface[0].isupper() and before in ("", ".", "?", "!", ":")
    return form[0].upper() + form[1:] if given or raised else form
