"""From symbols back to the events: by what stood at each place, and by one name a variable."""

import re
from collections.abc import Sequence

from icp.capt.abstraction import PLACEHOLDER, Abstraction, agreeing
from icp.data.syllogisms import plural, singular

ONE = {"a", "an", "each", "every", "any"}


def restored(text: str, found: Abstraction, symbols: Sequence[str]) -> str | None:
    """A text with symbols as it was before, symbol by symbol in order; None where they do not stand as in the prompt.

    What is between symbols is taken from `text`, so that the result is the prompt only if nothing else was changed; an
    article before a symbol agrees with what it gives way to.
    """
    either = "|".join(re.escape(one) for one in sorted(set(symbols), key=len, reverse=True))
    places = list(re.finditer(rf"(?<!\w)(not )?({either})(?!\w)", text)) if symbols else []
    if len(places) != len(found.mentions):
        return None
    parts, at = [], 0
    for place, mention in zip(places, found.mentions):
        if place[2] != symbols[mention.slot] or (mention.holds is False and place[1] is None):
            return None
        start = place.start() if mention.holds is False else place.start(2)
        surface = found.surface(mention)
        parts += (agreeing(text[at:start], surface), surface)
        at = place.end()
    return "".join((*parts, text[at:]))


def names_of(found: Abstraction) -> list[tuple[str, str]]:
    """One name of each variable, in both numbers: a plural that the prompt says, and else the one formed by rule.

    For prompts that say their events in one form or two, as PrOntoQA's do: classes in either number, the others in one.
    """
    said: list[dict[bool, str]] = [{} for _ in range(found.slots)]
    classes = set()
    for mention in found.mentions:
        surface, before, after = found.surface(mention), *_around(found.prompt, mention.start, mention.stop)
        many = _many(before, after)
        if before in (".", "?", "!", ":", "") and not _capital(found, mention.slot):
            surface = surface[:1].lower() + surface[1:]
        said[mention.slot].setdefault(many, surface)
        if before in ONE or after == "are" or (many and singular(surface) != surface):
            classes.add(mention.slot)
    pairs = []
    for slot, forms in enumerate(said):
        one = forms.get(False) or (singular(forms[True]) if slot in classes else forms[True])
        pairs.append((one, forms.get(True) or (plural(one) if slot in classes else one)))
    return pairs


def named(text: str, names: Sequence[tuple[str, str]]) -> str:
    """An abstract text (`Abstraction.text`) told with these names, in the number and with the capital of each place."""
    parts, at = [], 0
    for place in PLACEHOLDER.finditer(text):
        before, after = _around(text, place.start(), place.end())
        word = names[int(place[1]) - 1][_many(before, after)]
        if before in (".", "?", "!", ":", ""):
            word = word[:1].upper() + word[1:]
        parts += (agreeing(text[at : place.start()], word), word)
        at = place.end()
    return "".join((*parts, text[at:]))


def _around(text: str, start: int, stop: int) -> tuple[str, str]:
    before = re.findall(r"[\w'-]+|[.?!:]", text[max(0, start - 20) : start])
    if before[-1:] == ["not"]:
        before.pop()
    after = re.match(r"\s*(\w+)", text[stop : stop + 20])
    return before[-1].lower() if before else "", after[1].lower() if after else ""


def _many(before: str, after: str) -> bool:
    return before == "are" or (after == "are" and before not in ONE)


def _capital(found: Abstraction, slot: int) -> bool:
    """Whether the variable has a capital within a sentence, or is never said there."""
    inner = [
        found.surface(m)
        for m in found.mentions
        if m.slot == slot and _around(found.prompt, m.start, m.stop)[0] not in (".", "?", "!", ":", "")
    ]
    return any(surface[0].isupper() for surface in inner)
