"""How good an estimator is: its abstractions against gold ones, prompt by prompt.

B-cubed: Bagga and Baldwin, LREC 1998. Twinless mentions count as in Stoyanov et al., ACL 2009 (B-cubed 0): a mention
that the other side has not scores nothing on its own side.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction, Mention
from icp.capt.estimator import Failure
from icp.errors import DataError


@dataclass(frozen=True)
class Score:
    """Precision, recall and their harmonic mean, fractions; a side that has no mention scores 0."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class Quality:
    """An estimator against gold, over the prompts that have gold; shares are fractions.

    `rows` prompts have gold and `without_gold` have none, by reason. `agrees` is the share whose abstraction has gold's
    mentions, gold's variables, and gold's polarity at every mention; `valid` is the share of those that agree and that
    the validator passed too, None where its verdicts were not given. `consistent` asks of polarity only that a variable
    keeps its two states apart, whichever is called the positive one. `refused` are the prompts without an abstraction,
    by reason; they do not agree, and have no mentions. `spans` compares exact characters, `b_cubed` the mentions that
    share a symbol; `polarity` is the share with gold's polarity of the states that both find (NaN where there is none).
    """

    rows: int
    agrees: float
    valid: float | None
    consistent: float
    spans: Score
    b_cubed: Score
    polarity: float
    refused: Mapping[str, int]
    without_gold: Mapping[str, int]


def quality(
    pairs: Iterable[tuple[Abstraction | Failure, Abstraction | Failure]], passed: Sequence[bool] | None = None
) -> Quality:
    """Of pairs (estimate, gold); `passed` says of each pair whether the validator passed the estimate.

    Raises `DataError` where none has gold, the two are of different prompts, or there is not one verdict a pair.
    """
    pairs = list(pairs)
    if passed is not None and len(passed) != len(pairs):
        raise DataError(f"there are {len(pairs)} pairs and {len(passed)} verdicts of the validator: give one a pair")
    for estimate, gold in pairs:
        if estimate.prompt != gold.prompt:
            raise DataError(f"an estimate of {estimate.prompt[:40]!r} is compared with gold of {gold.prompt[:40]!r}")
    without = Counter(gold.reason for _, gold in pairs if isinstance(gold, Failure))
    known = [(estimate, gold) for estimate, gold in pairs if isinstance(gold, Abstraction)]
    if not known:
        raise DataError(f"none of {len(pairs)} prompts has gold: there is nothing to compare with")
    refused = Counter(estimate.reason for estimate, _ in known if isinstance(estimate, Failure))
    found = [
        (estimate if isinstance(estimate, Abstraction) else Abstraction(gold.prompt, ()), gold)
        for estimate, gold in known
    ]
    agreed = [so for one, other in found for so in _agreed(one, other)]
    same = [_key(one) == _key(other) for one, other in found]
    valid = None
    if passed is not None:
        verdicts = [fine for fine, (_, gold) in zip(passed, pairs) if isinstance(gold, Abstraction)]
        valid = sum(one and fine for one, fine in zip(same, verdicts)) / len(known)
    return Quality(
        rows=len(known),
        agrees=sum(same) / len(known),
        valid=valid,
        consistent=sum(same_up_to_orientation(one, other) for one, other in found) / len(known),
        spans=_spans(found),
        b_cubed=_b_cubed(found),
        polarity=sum(agreed) / len(agreed) if agreed else float("nan"),
        refused=dict(refused),
        without_gold=dict(without),
    )


def same_up_to_orientation(one: Abstraction, other: Abstraction) -> bool:
    """Whether two abstractions differ at most in which state of a variable is called the positive one."""
    if [key[:3] for key in _key(one)] != [key[:3] for key in _key(other)]:
        return False
    turned: dict[int, bool] = {}
    for mine, theirs in zip(one.mentions, other.mentions):
        if theirs.holds is not None:
            differs = (mine.holds is False) != (theirs.holds is False)
            if turned.setdefault(theirs.slot, differs) != differs:
                return False
    return True


def _key(abstraction: Abstraction) -> list[tuple[int, int, int, bool]]:
    """What an abstraction says: a name and a state that holds are written alike."""
    return [(mention.start, mention.stop, mention.slot, mention.holds is False) for mention in abstraction.mentions]


def _by_span(abstraction: Abstraction) -> dict[tuple[int, int], Mention]:
    return {(mention.start, mention.stop): mention for mention in abstraction.mentions}


def _agreed(one: Abstraction, other: Abstraction) -> Iterator[bool]:
    mine = _by_span(one)
    for span, theirs in _by_span(other).items():
        if span in mine and theirs.holds is not None:
            yield (mine[span].holds is False) == (theirs.holds is False)


def _spans(found: list[tuple[Abstraction, Abstraction]]) -> Score:
    common = sum(len(_by_span(one).keys() & _by_span(other).keys()) for one, other in found)
    mine, theirs = (sum(len(pair[side].mentions) for pair in found) for side in (0, 1))
    return Score(common / mine if mine else 0.0, common / theirs if theirs else 0.0)


def _b_cubed(found: list[tuple[Abstraction, Abstraction]]) -> Score:
    return Score(_shared(found), _shared([pair[::-1] for pair in found]))


def _shared(found: list[tuple[Abstraction, Abstraction]]) -> float:
    """The mean over the first one's mentions of the share of its symbol's mentions that the second has together too."""
    shares = []
    for one, other in found:
        mine, theirs = _clusters(one), _clusters(other)
        shares += [
            len(cluster & theirs[span]) / len(cluster) if span in theirs else 0.0 for span, cluster in mine.items()
        ]
    return sum(shares) / len(shares) if shares else 0.0


def _clusters(abstraction: Abstraction) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """For every mention the mentions of its symbol, by span."""
    by_slot: dict[int, set[tuple[int, int]]] = {}
    for span, mention in _by_span(abstraction).items():
        by_slot.setdefault(mention.slot, set()).add(span)
    return {span: by_slot[mention.slot] for span, mention in _by_span(abstraction).items()}
