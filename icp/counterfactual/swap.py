"""Swapping the whole words that say one value of a variable for words that say another."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from icp.counterfactual.editors import Editor
from icp.counterfactual.lexicon import Entry, Lexicon
from icp.counterfactual.pronouns import partner_of
from icp.counterfactual.rows import Edit, Rejection, Row, Span, replaced
from icp.counterfactual.spec import Spec
from icp.counterfactual.words import cased_like, joined, plural, with_its_article
from icp.errors import SpecError

APOSTROPHES = ("'", "\u2019")


@dataclass(frozen=True)
class LexiconSwap(Editor):
    """Every word of a text that says the variable's value becomes a word that says another one.

    The variable has to be found by a `Lexicon`. A word becomes its partner, or, where the lexicon is not aligned or
    `any_word` is asked for, any word of the other value: drawn from the text and `seed`, the same word for the same one
    in a text and different words for different ones as far as they go; a list that names plurals beside singulars is
    not for that. Case, plural and possessive are kept, `a` and `an` follow the new word. `to` names the values that it
    may become, all by default; each makes a proposal, in an order drawn from the text and `seed`.

    Rejected with a reason: a text that does not say the variable (`no word of the variable`), has it inside another
    word only (`inside another word`), says two values (`two values`), has a word with several partners that the words
    around it do not settle (`ambiguous word`; see `pronouns`), or one whose possessive the new word would spell
    otherwise (`possessive`: the ladies' and the gentlemen's).
    """

    variable: str
    to: Sequence[str] = ()
    any_word: bool = False
    seed: int = 0

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)

    def begin(self, spec: Spec) -> None:
        lexicon = lexicon_of(self.variable, spec, "a lexicon swap")
        for value in self.to:
            if value not in lexicon.values:
                raise SpecError(f"{self.variable!r} cannot become {value!r}: it is one of {', '.join(lexicon.values)}")

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        lexicon = lexicon_of(self.variable, spec, "a lexicon swap")
        entries = lexicon.entries(row.text)
        if not entries:
            yield _nothing(self.variable, row.text, lexicon)
            return
        said = list(dict.fromkeys(one.value for one in entries))
        if len(said) > 1:
            yield Rejection("two values", f"{row.text!r} says {' and '.join(said)} for {self.variable}")
            return
        others = [value for value in self.to or lexicon.values if value != said[0]]
        for value in sorted(others, key=lambda value: draw(self.seed, row.text, value)):
            yield swapped(row, self.variable, lexicon, entries, value, self.any_word, self.seed)


def swapped(
    row: Row, variable: str, lexicon: Lexicon, entries: Sequence[Entry], value: str, any_word: bool, seed: int
) -> Edit | Rejection:
    """The edit that swaps these entries of the row, which all say one value, for words of this other one."""
    chosen: dict[tuple[int, ...], str] = {}
    changes: list[tuple[Span, str]] = []
    for one in entries:
        old = row.text[slice(*one.span)]
        if any_word or not lexicon.aligned:
            new = chosen.get(one.places) or _any(lexicon.words[value], set(chosen.values()), row.text, old, seed)
            chosen[one.places] = new
        else:
            partners = {joined(word): word for word in (lexicon.words[value][place] for place in one.places)}
            settled = partner_of(row.text, one.span) if len(partners) > 1 else next(iter(partners))
            if settled not in partners:
                told = f"{old!r} at character {one.span[0]} of {row.text!r} may be {' or '.join(partners.values())}"
                return Rejection("ambiguous word", told)
            new = partners[settled]
        listed = lexicon.words[one.value][one.places[0]]
        new, listed = (plural(new), plural(listed)) if one.plural else (new, listed)
        new = cased_like(new, old, listed)
        if (why := _possessive(row.text, one.span, old, new)) is not None:
            return why
        changes.append(with_its_article(row.text, one.span, old, new))
    text, spans, new_spans = replaced(row.text, changes)
    return Edit(text, variable, entries[0].value, value, spans, new_spans)


def lexicon_of(variable: str, spec: Spec, what: str) -> Lexicon:
    """The lexicon by which the spec finds the variable; raises `SpecError` where it finds it otherwise."""
    finder = spec.variable(variable).finder
    if not isinstance(finder, Lexicon):
        raise SpecError(f"{variable!r} is found by a {type(finder).__name__}, and {what} needs a Lexicon")
    return finder


def draw(*what: object) -> int:
    """A number that depends on these alone."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=8).digest())


def _nothing(variable: str, text: str, lexicon: Lexicon) -> Rejection:
    holder = lexicon.inside(text)
    if holder is not None:
        return Rejection("inside another word", f"{holder!r} holds a word for {variable} as a part: {text!r}")
    return Rejection("no word of the variable", f"no word of {text!r} says {variable}")


def _any(words: Sequence[str], taken: set[str], text: str, old: str, seed: int) -> str:
    free = [word for word in words if word not in taken] or list(words)
    return free[draw(seed, text, joined(old)) % len(free)]


def _possessive(text: str, span: Span, old: str, new: str) -> Rejection | None:
    if text[span[1] : span[1] + 1] not in APOSTROPHES:
        return None
    with_s = text[span[1] + 1 : span[1] + 2].lower() == "s"
    ends = old[-1].lower() == "s", new[-1].lower() == "s"
    if ends == ((False, True) if with_s else (True, False)):
        told = f"the possessive of {old!r} is not spelt as that of {new!r}, at character {span[0]} of {text!r}"
        return Rejection("possessive", told)
    return None
