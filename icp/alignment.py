"""Aligning an input with its counterpart by token diff."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from icp.images import PatchTokens


@dataclass(frozen=True)
class Alignment:
    """For each token of x, the position of its partner in x'; or, where that is impossible, why.

    Equal runs pair up one to one, and a replaced run of equal length too. Where the lengths of a replaced run differ,
    its last tokens pair up (that is where a word's meaning has been assembled) and surplus leading tokens of x all take
    the first token of the run in x'. The patches of images pair up in their places.
    """

    positions: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    problem: str | None = None


def align(x: list[int], counterpart: list[int]) -> Alignment:
    """Align token lists. `changed` are the positions of x that lie in a replaced run."""
    if x == counterpart:
        return Alignment(problem="the counterpart has the same tokens as the input, so there is no cue to swap")
    if isinstance(x, PatchTokens):
        return Alignment(tuple(range(len(x))), differing(x, counterpart))
    positions = [-1] * len(x)
    changed: list[int] = []
    for tag, i, i_end, j, j_end in _runs(x, counterpart):
        if tag == "delete":
            where = f"position {i}" if i_end - i == 1 else f"positions {i} to {i_end - 1}"
            return Alignment(problem=f"the token(s) at {where} have no partner: the counterpart leaves them out")
        if tag == "replace" and (i_end - i, j_end - j) == (len(x), len(counterpart)):
            return Alignment(problem="the input and its counterpart share no token")
        for position in range(i, i_end):
            positions[position] = j + position - i if tag == "equal" else max(j, j_end - (i_end - position))
            if tag == "replace":
                changed.append(position)
    return Alignment(tuple(positions), tuple(changed))


def differing(x: list[int], counterpart: list[int]) -> tuple[int, ...]:
    """The positions of x that its counterpart does not have, whether or not the two can be aligned."""
    if isinstance(x, PatchTokens):
        return tuple(position for position, (mine, other) in enumerate(zip(x, counterpart)) if mine != other)
    return tuple(i for tag, start, end, _, _ in _runs(x, counterpart) if tag != "equal" for i in range(start, end))


def differing_words(text: str, counterpart: str) -> list[tuple[str, str]]:
    """Both texts in pieces, word by word: (what the text says, what its counterpart says there), often the same.

    The first parts joined give the text, the second the counterpart; one of them is empty where the other has a word
    more.
    """
    mine, theirs = (re.findall(r"\w+|\s+|[^\w\s]", each) for each in (text, counterpart))
    pieces = (("".join(mine[i:i_end]), "".join(theirs[j:j_end])) for _, i, i_end, j, j_end in _runs(mine, theirs))
    return [piece for piece in pieces if any(piece)]


def _runs(x: list[int] | list[str], counterpart: list[int] | list[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """`difflib` opcodes of what lies between the equal ends, which its longest match could otherwise cross."""
    shortest = min(len(x), len(counterpart))
    start = next((i for i in range(shortest) if x[i] != counterpart[i]), shortest)
    tail = next((i for i in range(shortest - start) if x[-1 - i] != counterpart[-1 - i]), shortest - start)
    end, counterpart_end = len(x) - tail, len(counterpart) - tail
    yield "equal", 0, start, 0, start
    middle = SequenceMatcher(None, x[start:end], counterpart[start:counterpart_end], autojunk=False)
    for tag, i, i_end, j, j_end in middle.get_opcodes():
        yield tag, i + start, i_end + start, j + start, j_end + start
    yield "equal", end, len(x), counterpart_end, len(counterpart)
