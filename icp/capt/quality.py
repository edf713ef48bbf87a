"""How well an estimator's abstractions agree with gold: spans, co-reference and polarity."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction
from icp.capt.estimator import Failure
from icp.errors import DataError


def span_f1(found: Sequence[Abstraction | Failure], gold: Sequence[Abstraction]) -> float:
    """F1 of the mentions whose first and last characters are gold's, over all prompts together; 1 where none are."""
    both = mine = theirs = 0
    for one, other in _pairs(found, gold):
        spans, right = ({(m.start, m.stop) for m in each} for each in (one, other.mentions))
        both, mine, theirs = both + len(spans & right), mine + len(spans), theirs + len(right)
    return 2 * both / (mine + theirs) if mine + theirs else 1.0


def b_cubed(found: Sequence[Abstraction | Failure], gold: Sequence[Abstraction]) -> float:
    """F1 of B-cubed (Bagga and Baldwin 1998): do mentions of one variable share a slot, and only they?

    Precision is a mean over the mentions found, recall one over gold's, over all prompts together; a mention that the
    other side does not have, by its first and last characters, counts 0.
    """
    precision, recall = [], []
    for one, other in _pairs(found, gold):
        mine, theirs = ({(m.start, m.stop): m.slot for m in each} for each in (one, other.mentions))
        shared = Counter((slot, theirs[span]) for span, slot in mine.items() if span in theirs)
        of_mine, of_gold = Counter(mine.values()), Counter(theirs.values())
        precision += [shared[slot, theirs.get(span)] / of_mine[slot] for span, slot in mine.items()]
        recall += [shared[mine.get(span), slot] / of_gold[slot] for span, slot in theirs.items()]
    if not precision or not recall:
        return float(not precision and not recall)
    p, r = sum(precision) / len(precision), sum(recall) / len(recall)
    return 2 * p * r / (p + r) if p + r else 0.0


def agrees(found: Abstraction | Failure, gold: Abstraction) -> bool:
    """Whether the mentions are gold's: the same characters, the same variables and the same polarity."""
    return isinstance(found, Abstraction) and found.mentions == gold.mentions


@dataclass(frozen=True)
class Quality:
    """`rows` with gold and `ungold` rows without; of the rows with gold the share that is `valid` with gold's polarity.

    `b3` and `span_f1` are over the rows with gold too.
    """

    rows: int
    ungold: int
    valid: float
    b3: float
    span_f1: float


def quality(
    found: Sequence[Abstraction | Failure], gold: Sequence[Abstraction | Failure], valid: Sequence[bool]
) -> Quality:
    """The figures of an estimator on prompts; `valid[i]` says whether the validator passed `found[i]`.

    A row counts as valid where the validator passed it and it agrees with gold; rows whose gold is a `Failure` are
    counted apart. Raises `DataError` where the lengths differ or no row has gold.
    """
    if not len(found) == len(gold) == len(valid):
        raise DataError(
            f"{len(found)} abstractions, {len(gold)} of gold and {len(valid)} verdicts: give one each a row"
        )
    rows = [(one, right, fine) for one, right, fine in zip(found, gold, valid) if isinstance(right, Abstraction)]
    if not rows:
        raise DataError(f"none of {len(gold)} rows has gold: there is nothing to compare with")
    mine, right = [one for one, _, _ in rows], [one for _, one, _ in rows]
    good = sum(fine and agrees(one, other) for one, other, fine in rows)
    return Quality(len(rows), len(gold) - len(rows), good / len(rows), b_cubed(mine, right), span_f1(mine, right))


def _pairs(found: Sequence[Abstraction | Failure], gold: Sequence[Abstraction]):
    for one, other in zip(found, gold, strict=True):
        if one.prompt != other.prompt:
            raise DataError(f"an abstraction of {one.prompt[:60]!r} is compared with gold of {other.prompt[:60]!r}")
        yield (one.mentions if isinstance(one, Abstraction) else ()), other
