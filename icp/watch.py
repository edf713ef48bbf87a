"""Whether a model that is being trained grows insensitive to the cause, seen on pairs of both kinds."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icp.apart import OnPairs
from icp.errors import IcpError, ProbeError
from icp.held_out import require_apart
from icp.losses import Losses
from icp.pairs import FlippingPairs, Pairs, PreservingPairs
from icp.rows import Rows

ROWS_A_PASS = 32
ROUNDING = 1e-9


@dataclass(frozen=True)
class PairWatch:
    """Pairs of both kinds, held out from training, on which `icp.finetune(watch=...)` measures the model.

    Before the first step, every `every` steps and after the last, `Model.tuning.history` has `consistency`, the share
    of the label-preserving pairs whose members are given the same answer, and `sensitivity`, that of the label-flipping
    pairs whose members are given different ones (as `icp.evaluate`). An `icp.SensitivityWarning` is given, once, where
    sensitivity is `by` or more below the highest so far: the model then learns to ignore the cause, which makes it
    consistent (it answers all alike) or, where it answers by the cue instead, less so; the warning says which. A model
    that was never sensitive cannot lose it, so read the numbers too. The highest of many measurements flatters: with
    fewer than a hundred pairs of a kind a few that waver are enough for the warning.

    Measuring costs a forward pass over all members, and changes nothing in the training.
    """

    preserving: Pairs
    flipping: Pairs
    every: int = 50
    by: float = 0.1

    def __post_init__(self):
        for pairs, kind in ((self.preserving, PreservingPairs), (self.flipping, FlippingPairs)):
            if not isinstance(pairs, kind):
                raise ProbeError(f"a watch needs {kind.kind} pairs and was given {pairs.kind} ones in their place")
        if self.every < 1:
            raise IcpError(f"every={self.every} steps: give at least 1")
        if not 0 < self.by <= 1:
            raise IcpError(f"by={self.by} is a share of the pairs: give more than 0 and at most 1")

    @property
    def label(self) -> str:
        return f"PairWatch({self.preserving.digest}, {self.flipping.digest}, every={self.every}, by={self.by})"


@dataclass(frozen=True, eq=False)
class Watched:
    """A watch whose pairs are tokens."""

    watch: PairWatch
    preserving: Rows
    flipping: Rows

    @classmethod
    def of(cls, watch: PairWatch, losses: Losses) -> "Watched":
        """Raises `ProbeError` for pairs that have no label words, or that share texts with what is trained on."""
        trained = [losses.rows.probe, *(one.pairs for one in losses.objectives if isinstance(one, OnPairs))]
        rows = []
        for pairs in (watch.preserving, watch.flipping):
            require_apart(pairs, trained, f"a watch needs {pairs.kind} pairs that are not trained on")
            rows.append(Rows.of(losses.model, pairs))
            if not rows[-1].classified:
                raise ProbeError("a watch compares answers, and these pairs have one each: give them label words")
        return cls(watch, *rows)

    def shares(self, losses: Losses) -> dict[str, float]:
        """Consistency and sensitivity of the model as it is."""
        with losses.model.frozen(), torch.no_grad():
            alike, flipped = (_answers(losses, rows) for rows in (self.preserving, self.flipping))
        return {
            "consistency": _share(alike, alike[0] == alike[1]),
            "sensitivity": _share(flipped, flipped[0] != flipped[1]),
        }

    def warning(self, seen: Sequence[dict[str, int | float]]) -> str | None:
        """What to warn of after the last of these measurements, each with its `step`; None where there is nothing."""
        now, best = seen[-1], max(seen, key=lambda one: one["sensitivity"])
        if best["sensitivity"] - now["sensitivity"] < self.watch.by - ROUNDING:
            return None
        down = now["consistency"] < best["consistency"]
        went = "fell too," if down else "rose," if now["consistency"] > best["consistency"] else "stayed,"
        return (
            f"from step {best['step']} to step {now['step']} sensitivity fell from {best['sensitivity']:.1%} to "
            f"{now['sensitivity']:.1%} of {len(self.flipping)} label-flipping pairs, and consistency {went} from "
            f"{best['consistency']:.1%} to {now['consistency']:.1%} of {len(self.preserving)} label-preserving ones: "
            f"as where a model learns to {'answer by the cue' if down else 'ignore the cause'}; check which kind is "
            "penalised, or lower the weight"
        )


def _answers(losses: Losses, rows: Rows) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """The answer to each row and to its counterpart; -1 where two are equally likely."""
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for index in torch.arange(len(rows)).split(ROWS_A_PASS):
        batch, reads = rows.batch(losses.model, index.tolist()), rows.reads(index.tolist(), losses.model.device)[0]
        others = rows.counterparts(losses.model, index.tolist())
        found[0].append(_answered(losses.logits(batch, reads)))
        found[1].append(_answered(losses.logits(others.batch, others.reads(reads))))
    return torch.cat(found[0]), torch.cat(found[1])


def _answered(logits: Float[Tensor, "row answer"]) -> Int[Tensor, " row"]:
    best = logits == logits.max(1, keepdim=True).values
    return torch.where(best.sum(1) == 1, best.int().argmax(1), -1)


def _share(answers: tuple[Int[Tensor, " row"], Int[Tensor, " row"]], which: Bool[Tensor, " row"]) -> float:
    """The share of pairs; one whose member has no answer is neither alike nor different."""
    return (which & (answers[0] >= 0) & (answers[1] >= 0)).double().mean().item()
