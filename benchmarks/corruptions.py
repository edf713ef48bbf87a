"""Pairs made bad in one way each, to measure what a validator lets through.

Each function takes a pair, its spec and a seeded `random.Random`, and returns the pair with another edit; None where
this pair cannot be made bad in that way.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from icp.counterfactual.difference import TOKEN, edited_spans
from icp.counterfactual.rows import Edit, Row, Span, replaced
from icp.counterfactual.spec import Spec
from icp.counterfactual.validator import Validator
from icp.errors import SpecError

Pair = tuple[Row, Edit]
Corruption = Callable[[Row, Edit, Spec, Random], Pair | None]

OTHER_WORD = "meanwhile"


def edited_outside(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair | None:
    """One more word of the counterpart is replaced, which the edit does not tell."""
    places = _words_outside(edit.text, edit.new_spans)
    if not places:
        return None
    place = random.choice(places)
    text, _, _ = replaced(edit.text, [(place, OTHER_WORD)])
    shift = len(text) - len(edit.text)
    moved = tuple((one + shift * (one >= place[1]), two + shift * (one >= place[1])) for one, two in edit.new_spans)
    return row, replace(edit, text=text, new_spans=moved)


def text_unchanged(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair:
    """The counterpart is the text itself."""
    return row, replace(edit, text=row.text, new_spans=edit.spans)


def cue_untouched(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair | None:
    """Another word is edited, and the variable that the edit names is left as it was."""
    places = _words_outside(row.text, edit.spans)
    if not places:
        return None
    text, spans, new_spans = replaced(row.text, [(random.choice(places), OTHER_WORD)])
    return row, replace(edit, text=text, spans=spans, new_spans=new_spans)


def cause_flipped(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair | None:
    """Words of the counterpart that say a cause are replaced by those of another value; the label stays as told.

    It takes causes with `labels` that a lexicon finds.
    """
    for cause in spec.causes:
        words: Mapping[str, Sequence[str]] = getattr(cause.finder, "words", {})
        found = [one for one in cause.finder.find(Row(edit.text, row.label, row.columns)) if one.span is not None]
        changes = []
        for value, span in found:
            labels = cause.labels or {}
            others = [other for other in words if labels.get(other, value) != labels.get(value, value)]
            if others:
                changes.append((span, random.choice(words[random.choice(others)])))
        if changes:
            return row, _to(edit, row, replaced(edit.text, changes)[0])
    return None


def other_counterpart(others: Sequence[Edit]) -> Corruption:
    """A function that gives a pair the counterpart of another one, drawn from these."""

    def crossed(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair | None:
        strange = [other for other in others if other.text not in (edit.text, row.text)]
        return (row, _to(edit, row, random.choice(strange).text)) if strange else None

    return crossed


def word_left_out(words: Sequence[str]) -> Corruption:
    """A function that takes one of these words out of the counterpart."""
    lowered = {word.lower() for word in words}

    def without(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair | None:
        places = [m.span() for m in TOKEN.finditer(edit.text) if m.group().lower() in lowered]
        if not places:
            return None
        return row, _to(edit, row, replaced(edit.text, [(random.choice(places), "")])[0])

    return without


def words_shuffled(row: Row, edit: Edit, spec: Spec, random: Random) -> Pair | None:
    """The counterpart's words in another order."""
    words = edit.text.split()
    shuffled = random.sample(words, len(words))
    return None if shuffled == words else (row, _to(edit, row, " ".join(shuffled)))


def rates(
    validator: Validator, pairs: Iterable[Pair], spec: Spec, corrupt: Corruption, seed: int = 0
) -> dict[str, float]:
    """`accept`, the share of these pairs that are accepted, and `reject`, that of the corrupted ones rejected.

    Both are fractions. `pairs` and `corrupted` say how many there were: pairs that cannot be made bad in this way are
    left out of the second. Raises `SpecError` where none can.
    """
    pairs, random = list(pairs), Random(seed)
    bad = [made for row, edit in pairs if (made := corrupt(row, edit, spec, random)) is not None]
    if not bad:
        raise SpecError(f"none of the {len(pairs)} pairs can be made bad in this way: give others")
    validator.begin(spec)
    accepted = sum(why is None for why in validator.reject_all(pairs, spec))
    rejected = sum(why is not None for why in validator.reject_all(bad, spec))
    return {"accept": accepted / len(pairs), "reject": rejected / len(bad), "pairs": len(pairs), "corrupted": len(bad)}


def _words_outside(text: str, spans: Sequence[Span]) -> list[Span]:
    """Words of three letters or more that no span touches."""
    found = (m.span() for m in TOKEN.finditer(text) if len(m.group()) > 2 and m.group().lower() != OTHER_WORD)
    return [(start, stop) for start, stop in found if all(stop <= one or other <= start for one, other in spans)]


def _to(edit: Edit, row: Row, text: str) -> Edit:
    """The edit with another counterpart, and with the spans in which that one differs."""
    spans, new_spans = edited_spans(row.text, text)
    return replace(edit, text=text, spans=spans, new_spans=new_spans)
