"""What a model answers: the probability of each answer, beside the labels and groups that it is judged by."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from icp.errors import ArtefactError, ProbeError
from icp.model import Model
from icp.probes import Probe
from icp.properties import ClassProbability
from icp.statistics import Clusters
from icp.sweep.memory import within_memory
from icp.sweep.plan import Layout, Plan, require_finite

BINS = 15


@dataclass(frozen=True, eq=False)
class Cases:
    """What answers are judged by: labels (indices into `answers`), groups, templates and words of the same examples.

    `digest` tells the probe that they are of from others.
    """

    digest: str
    answers: tuple[str, ...]
    labels: Int[np.ndarray, " example"]
    groups: tuple[str | None, ...]
    clusters: Clusters

    def __post_init__(self):
        if not len(self.labels) == len(self.groups) == len(self.clusters):
            raise ArtefactError(
                f"there are {len(self.labels)} labels, {len(self.groups)} groups and {len(self.clusters)} clusters: "
                "give one of each an example"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, probe: Probe) -> "Cases":
        """Raises `ProbeError` naming the example that has no label, fewer than two answers, or other answers."""
        first = probe.examples[0]
        for row, example in enumerate(probe.examples):
            if example.label is None:
                raise ProbeError(f"row {row} ({example.text!r}) has no label: give the index of its right answer")
            if len(example.answers) < 2:
                raise ProbeError(f"row {row} ({example.text!r}) has 1 answer: give two or more to choose among")
            if example.answers != first.answers:
                raise ProbeError(
                    f"row {row} ({example.text!r}) has the answers {example.answers} and row 0 {first.answers}: "
                    "classes are the same answers in every row"
                )
        return cls(
            probe.digest,
            first.answers,
            np.array([example.label for example in probe.examples]),
            tuple(example.group for example in probe.examples),
            probe.clusters,
        )

    @property
    def group_names(self) -> list[str]:
        return sorted({group for group in self.groups if group is not None})

    @property
    def group_codes(self) -> Int[np.ndarray, " example"]:
        """Each example's place in `group_names`; -1 where it has no group."""
        place = {name: code for code, name in enumerate(self.group_names)}
        return np.array([place.get(group, -1) for group in self.groups], dtype=np.int64)

    def without_group(self) -> str:
        """What keeps these cases from being told apart by group, in one sentence; nothing where all have one of two."""
        missing = [row for row, group in enumerate(self.groups) if group is None]
        if missing:
            return (
                f"row {missing[0]} has no group: give every example the value of its cue (a swapped pair has that of "
                "its `counterpart_group`)"
            )
        if len(self.group_names) < 2:
            return f"all examples have the group {self.group_names[0]!r}: give two or more groups to compare"
        return ""

    def empty_cell(self, labels: tuple[int, ...]) -> str:
        """The first (label, group) without examples, of these labels, in one sentence; nothing where all have some."""
        for label in labels:
            for code, group in enumerate(self.group_names):
                if not ((self.labels == label) & (self.group_codes == code)).any():
                    return (
                        f"no example has the label {self.answers[label]!r} and the group {group!r}: give some, or "
                        "leave that group out"
                    )
        return ""


@dataclass(frozen=True, eq=False)
class Predictions:
    """`probabilities` are among the answers, and sum to 1. Of equal ones neither is the model's answer."""

    probabilities: Float[np.ndarray, "example answer"]
    cases: Cases

    def __post_init__(self):
        if self.probabilities.shape != (len(self.cases), len(self.cases.answers)):
            raise ArtefactError(
                f"there are probabilities {self.probabilities.shape} of {len(self.cases)} examples with "
                f"{len(self.cases.answers)} answers: evaluate all models on the same probe"
            )
        fine = (np.abs(self.probabilities.sum(1) - 1) < 1e-6) & (self.probabilities >= 0).all(1)
        if not fine.all():
            row = int(np.argmin(fine))
            raise ArtefactError(
                f"the probabilities of row {row} are {self.probabilities[row].tolist()}: they are to be at least 0 and "
                "to sum to 1"
            )

    @property
    def answered(self) -> Int[np.ndarray, " example"]:
        """The index of the likeliest answer; -1 where two are equally likely."""
        return answered(self.probabilities)

    @property
    def right(self) -> Bool[np.ndarray, " example"]:
        return self.answered == self.cases.labels

    @property
    def confidence(self) -> Float[np.ndarray, " example"]:
        """The probability of the likeliest answer."""
        return self.probabilities.max(1)


def answered(probabilities: Float[np.ndarray, "example answer"]) -> Int[np.ndarray, " example"]:
    """The index of the likeliest answer; -1 where two are equally likely."""
    best = probabilities.max(1, keepdims=True)
    return np.where((probabilities == best).sum(1) == 1, probabilities.argmax(1), -1)


def probabilities_of(model: Model, probe: Probe) -> Float[np.ndarray, "example answer"]:
    """Softmax, in float64, over the next-token logits of the answers, under whatever hooks are installed.

    Raises `ProbeError` where examples have other numbers of answers or an answer is not one token, and
    `NotFiniteError` where the model returns no number.
    """

    def attempt(layout: Layout, plan: Plan) -> torch.Tensor:
        parts = []
        for rows in torch.arange(layout.examples, device=model.device).split(plan.batch_size):
            reads, index = layout.reads(rows)
            logits = model.read(layout.batch_of(rows), reads)
            parts.append(logits.gather(1, layout.bound.targets[index]))
        return torch.cat(parts)

    with model.frozen(), torch.no_grad():
        layout = Layout.of(model, probe.tokenize(model.tokenizer, ClassProbability()), "right")
        logits, _ = within_memory(Plan.of(model, layout), partial(attempt, layout))
        require_finite(logits, lambda row: f"an answer to {probe.examples[row].text!r}")
        return logits.double().softmax(1).cpu().numpy()
