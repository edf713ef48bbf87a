"""What differs between a text and its counterpart, token by token."""

import re
from itertools import pairwise

from icp.counterfactual.rows import Edit, Row, Span
from icp.counterfactual.words import WORD

TOKEN = re.compile(rf"{WORD.pattern}|[^\w\s]|_")
"""A word, or one sign that is neither a word nor a space."""


def edited_spans(text: str, counterpart: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Where the text differs, and what the counterpart has there, one span for one: `Edit.spans` and `new_spans`.

    A longest common subsequence of tokens stays; what lies between is an edit, less the spaces around it that both
    have. Putting what the counterpart has into the text's spans gives the counterpart, character by character. Where
    something was only put in or left out, the span on the other side is empty.
    """
    from rapidfuzz.distance import LCSseq

    ours, theirs = list(TOKEN.finditer(text)), list(TOKEN.finditer(counterpart))
    matching = LCSseq.opcodes([m.group() for m in ours], [m.group() for m in theirs])
    spans, new_spans = [], []
    for start, stop, new_start, new_stop in _gaps(matching, ours, theirs, len(text), len(counterpart)):
        before, after = text[start:stop], counterpart[new_start:new_stop]
        if before == after:
            continue
        leading, trailing = _shared_spaces(before, after)
        at, new_at = start + leading, new_start + leading
        spans.append((at, stop - trailing))
        new_spans.append((new_at, new_stop - trailing))
    return tuple(spans), tuple(new_spans)


def edit_distance(text: str, counterpart: str) -> float:
    """Levenshtein distance of the tokens over the number of tokens of the longer text: 0 the same, 1 nothing shared."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(TOKEN.findall(text), TOKEN.findall(counterpart))


def span_fault(row: Row, edit: Edit) -> str | None:
    """Why the spans of an edit are not where its two texts differ, in one sentence; None where they are.

    Inside the spans the texts may share words: an edit may say more than the least that tells them apart.
    """
    if len(edit.spans) != len(edit.new_spans) or not edit.spans:
        return f"the edit names {len(edit.spans)} spans of the text and {len(edit.new_spans)} of the counterpart"
    for text, spans in ((row.text, edit.spans), (edit.text, edit.new_spans)):
        flat = [0, *(place for span in spans for place in span), len(text)]
        if any(one > other for one, other in pairwise(flat)):
            return f"the spans {spans} are not in order within the {len(text)} characters of {text[:60]!r}"
    for kept, new in zip(outside(row.text, edit.spans), outside(edit.text, edit.new_spans)):
        if kept != new:
            return f"the texts differ outside the spans: {_about(kept, new)!r} becomes {_about(new, kept)!r}"
    return None


def outside(text: str, spans: tuple[Span, ...]) -> list[str]:
    """What of the text lies before, between and after the spans, which are in order and apart."""
    starts, stops = (0, *(stop for _, stop in spans)), (*(start for start, _ in spans), len(text))
    return [text[start:stop] for start, stop in zip(starts, stops)]


def _gaps(matching, ours, theirs, length: int, new_length: int):
    """(start, stop, new_start, new_stop) in characters between tokens that stay, and before and after them all."""
    at, new_at = 0, 0
    for part in matching:
        if part.tag != "equal":
            continue
        for i, j in zip(range(part.src_start, part.src_end), range(part.dest_start, part.dest_end)):
            yield at, ours[i].start(), new_at, theirs[j].start()
            at, new_at = ours[i].end(), theirs[j].end()
    yield at, length, new_at, new_length


def _shared_spaces(before: str, after: str) -> tuple[int, int]:
    """How many spaces both begin with, and how many, beside these, both end with."""
    shorter, leading, trailing = min(len(before), len(after)), 0, 0
    while leading < shorter and before[leading] == after[leading] and before[leading].isspace():
        leading += 1
    while (
        trailing < shorter - leading
        and before[-1 - trailing] == after[-1 - trailing]
        and before[-1 - trailing].isspace()
    ):
        trailing += 1
    return leading, trailing


def _about(text: str, other: str) -> str:
    """The part of a text that the other one does not share with it at its beginning or its end, with some context."""
    first = next((i for i, (a, b) in enumerate(zip(text, other)) if a != b), min(len(text), len(other)))
    last = next((i for i, (a, b) in enumerate(zip(text[::-1], other[::-1])) if a != b), min(len(text), len(other)))
    return text[max(0, first - 10) : max(first, len(text) - last) + 10][:80]
