"""An abstract text that somebody else wrote, such as a language model, read back as mentions of the prompt."""

import re

from icp.capt.abstraction import PLACEHOLDER, Abstraction
from icp.capt.estimator import Failure

ENDING = re.compile(r"(?:=([01])\b|e?s\b)?")


def read_rewritten(prompt: str, abstract: str) -> Abstraction | Failure:
    """Where a prompt has what `{symbol_1}`, `{symbol_2}` ... stand for in its abstract form.

    What is between placeholders has to be the prompt's, to the letter, but for `a` and `an`, the ending that a
    placeholder was left with (`{symbol_1}s`), and how it says that the mention does not hold: by a `not` before it that
    the prompt has not got, or by `=0` after it; `=1` says that it does.

    A failure says where the text was changed: `no placeholders`, `text changed outside of events`.
    """
    places = list(PLACEHOLDER.finditer(abstract))
    if not places:
        return Failure(prompt, "no placeholders", f"{abstract[:60]!r} has no placeholder such as {{symbol_1}}")
    pattern, marks, at = [], [], 0
    for place in places:
        pattern += (_as_said(abstract[at : place.start()]), r"(\S(?:[^\n.?!]*?\S)?)")
        ending = ENDING.match(abstract, place.end())
        marks.append(ending[1])
        at = ending.end()
    pattern.append(_as_said(abstract[at:]))
    found = re.fullmatch("".join(pattern), prompt)
    if found is None:
        return Failure(prompt, "text changed outside of events", _where(prompt, pattern, abstract))
    mentions = []
    for number, (place, mark) in enumerate(zip(places, marks), 1):
        start, stop = found.span(number)
        denied = abstract[: place.start()].endswith("not ") and not prompt[:start].endswith("not ")
        mentions.append((start, stop, place[1], False if denied or mark == "0" else True if mark == "1" else None))
    return Abstraction.of(prompt, mentions)


def _as_said(text: str) -> str:
    """A pattern of literal text, in which an article before a placeholder may be either, and `not` may be missing."""
    denied = text.endswith("not ")
    text = text.removesuffix("not ") if denied else text
    pattern = re.sub(r"\b([Aa])n?\\ $", r"\1n?\\ ", re.escape(text))
    return pattern + (r"(?:not\ )?" if denied else "")


def _where(prompt: str, pattern: list[str], abstract: str) -> str:
    """What is between two placeholders, and the first of its kind that the prompt does not have there."""
    fits = [re.match("".join(pattern[: n + 1]), prompt) for n in range(0, len(pattern), 2)]
    bad = 2 * fits.index(None) if None in fits else len(pattern) - 1
    between = PLACEHOLDER.split(abstract)[bad]
    return f"the abstract text says {between[:120]!r}, which the prompt {prompt[:60]!r} does not say there"
