"""Training and test problems that share no skeleton or no story, and the proof that they do not."""

import random
from collections.abc import Sequence

from icp.data.problems import Problem
from icp.errors import DataError

FIELDS = ("skeleton", "story")


def split(
    problems: Sequence[Problem], by: str | Sequence[str] = "skeleton", test: float = 0.2, seed: int = 0
) -> tuple[list[Problem], list[Problem]]:
    """Training and test problems with no value of the fields `by` in common; about the share `test` of values is held
    out, of each field on its own, and problems with one value on either side are in neither part.

    Raises `DataError` where a problem has no such field, or a part would be empty.
    """
    fields = (by,) if isinstance(by, str) else tuple(by)
    if not fields or not set(fields) <= set(FIELDS) or not 0 < test < 1:
        raise DataError(f"a split is by {' or '.join(FIELDS)}, and holds out a share above 0 and below 1: {by}, {test}")
    held = {}
    for name in fields:
        values = {getattr(one, name) for one in problems}
        if None in values:
            raise DataError(f"cannot split by {name}: some problems have none")
        if len(values) == 1:
            raise DataError(f"cannot split by {name}: all problems have the same one; take others too")
        ordered = sorted(values)
        random.Random(f"{seed}/{name}").shuffle(ordered)
        held[name] = set(ordered[: max(1, round(test * len(ordered)))])
    parts: tuple[list[Problem], list[Problem]] = ([], [])
    for one in problems:
        places = {getattr(one, name) in held[name] for name in fields}
        if len(places) == 1:
            parts[places.pop()].append(one)
    for part, name in zip(parts, ("training", "test")):
        if not part:
            raise DataError(f"the split by {', '.join(fields)} has no {name} problems: there are too few values")
    require_apart(*parts, by=fields)
    return parts


def require_apart(train: Sequence[Problem], test: Sequence[Problem], by: Sequence[str] = FIELDS) -> None:
    """Raise `DataError` naming a test problem whose skeleton or story, or whose very prompt, was trained on."""
    for name in (*by, "prompt"):
        seen = {getattr(one, name) for one in train} - {None}
        for number, one in enumerate(test):
            if getattr(one, name) in seen:
                raise DataError(
                    f"the {name} {getattr(one, name)[:60]!r} of test problem {number} was trained on: split by it, and "
                    "build other test splits from the problems of the test part alone"
                )


def by_symbols(problems: Sequence[Problem], counts: Sequence[int], most: int) -> tuple[list[Problem], list[Problem]]:
    """Problems whose prompts say at most `most` variables, and those that say more; `counts` has how many each says.

    Raises `DataError` where a part would be empty.
    """
    few = [one for one, count in zip(problems, counts, strict=True) if count <= most]
    many = [one for one, count in zip(problems, counts, strict=True) if count > most]
    if not few or not many:
        raise DataError(f"{len(few)} problems say at most {most} variables and {len(many)} more: choose another bound")
    return few, many
