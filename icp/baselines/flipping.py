"""Losses on label-flipping pairs, whose counterpart has another label: cross-entropy, a margin, and what not to do.

The first two are penalties, which go together with each other and with consistency on label-preserving pairs: give
`icp.finetune(objective=...)` several, each on the training rows or, by `icp.OnPairs`, on pairs of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from icp.baselines.paired import Consistency, Paired, require_positive
from icp.pairs import FlippingPairs, Pairs


@dataclass(frozen=True)
class FlippedCrossEntropy(Paired):
    """`weight` times -log p(y' | x'), in nats: counterparts x' are trained on with their own label (Kaushik et al.
    2020).

    x itself is trained on where the pairs are the training rows, and not where they are pairs of their own.
    """

    wanted: ClassVar[type[Pairs]] = FlippingPairs
    weight: float = 1.0

    def __post_init__(self):
        require_positive("weight", self.weight)

    def penalty(self, step):
        lost = torch.nn.functional.cross_entropy(self.other(step), step.flipped, reduction="none")
        return self.weight * step.over_rows(lost).mean()


@dataclass(frozen=True)
class FlippedMargin(Paired):
    """Of each member of a pair, its own label is to be `margin` logits ahead of the other member's.

    With d = logit_y - logit_y', `weight` times the mean of max(0, margin - d(x)) and max(0, margin + d(x')): the
    multi-class hinge of Weston and Watkins (1999), on the two labels that a pair tells apart. It is 0 where both
    members are told apart by the margin; unlike cross-entropy it asks for no more.
    """

    wanted: ClassVar[type[Pairs]] = FlippingPairs
    weight: float = 1.0
    margin: float = 1.0

    def __post_init__(self):
        require_positive("weight", self.weight)
        require_positive("margin", self.margin)

    def penalty(self, step):
        right, flipped = step.targets[:, None], step.flipped[:, None]
        ahead, other = (
            (logits.gather(1, right) - logits.gather(1, flipped))[:, 0] for logits in (step.logits, self.other(step))
        )
        lacking = ((self.margin - ahead).clamp(min=0) + (self.margin + other).clamp(min=0)) / 2
        return self.weight * step.over_rows(lacking).mean()


@dataclass(frozen=True)
class SwappedConsistency(Consistency):
    """`Consistency` on label-FLIPPING pairs: a baseline that fails, kept to show how. Do not train a model with it.

    Warning: it edits the cause, fixes the cue, and penalises that the answer changes. It teaches the model to ignore
    the cause and to answer by the cue. On a logistic toy whose cue agrees with the label 95% of the time, plain
    training scores 95.8% / 68.1% / 40.1% with the cue as in training / random / inverted, this loss at weight 1 scores
    95.1% / 49.9% / 5.0%, while the share of pairs answered alike reads 100%; consistency on label-preserving pairs
    scores 86.3% / 83.7% / 81.6%. `icp.finetune(watch=icp.PairWatch(...))` warns while it happens.
    """

    wanted: ClassVar[type[Pairs]] = FlippingPairs
