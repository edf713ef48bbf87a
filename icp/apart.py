"""A penalty on pairs of its own, apart from the training rows: few pairs, or pairs of other text, are then enough."""

from dataclasses import dataclass

import numpy as np

from icp.errors import IcpError
from icp.pairs import Pairs, PreservingPairs
from icp.probes import Probe
from icp.rows import Rows
from icp.step import Objective


@dataclass(frozen=True)
class OnPairs(Objective):
    """The penalty of `objective` on `pairs`, `per_step` of them a step; the training rows then need no counterparts.

    `objective` is an `icp.Invariance` or a baseline that is a penalty, such as `icp.baselines.Consistency`. The pairs
    have labels, as training rows do, which a divergence between the members of a pair does not look at. Each round
    through the pairs is in a new order, and those that would not fill a last step sit it out. A step costs one more
    forward and backward over the pairs than the penalty on training rows. Where several processes train, and of a step
    that accumulates several batches, all draw the same pairs.
    """

    objective: Objective
    pairs: Probe | Pairs
    per_step: int = 8
    seed: int = 0

    def __post_init__(self):
        kind = type(self.objective)
        if kind is OnPairs or kind.task is not Objective.task or kind.penalty is Objective.penalty:
            raise IcpError(
                f"{kind.__name__} is no penalty that is added to a loss, so it cannot be taken on pairs of their own: "
                "give an icp.Invariance, or a penalty such as Consistency or FlippedMargin"
            )
        if not 1 <= self.per_step <= len(self.pairs):
            raise IcpError(f"per_step={self.per_step} is not between 1 and the {len(self.pairs)} pairs")

    @property
    def label(self) -> str:
        pairs = self.pairs if isinstance(self.pairs, Pairs) else PreservingPairs(self.pairs)
        told = f"{len(pairs)} pairs {pairs.digest}"
        return f"OnPairs({self.objective.label}, {told}, per_step={self.per_step}, seed={self.seed})"

    def begin(self, model, rows):
        return self.objective.begin(model, rows)

    def require_batch(self, rows, size):
        self.objective.require_batch(rows, self.per_step)

    def watches(self, model):
        return self.objective.watches(model)

    def penalty(self, step):
        return self.objective.penalty(step)

    def rows_of(self, rows: Rows, number: int) -> list[int]:
        """The pairs of step `number`, none of them twice: each round is in an order of its own, in whole steps."""
        of_round, place = divmod(number, len(rows) // self.per_step)
        order = np.random.default_rng([self.seed, of_round]).permutation(len(rows))
        return order[place * self.per_step :][: self.per_step].tolist()
