"""Problems as rows to train and evaluate on, and a data set that draws its symbols anew each epoch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from icp.capt.abstracted import Abstracted
from icp.capt.renaming import Renaming, drawn
from icp.data.problems import Problem
from icp.errors import DataError
from icp.examples import Example
from icp.probes import Probe
from icp.tokenizing import encode

ANSWER = "\nAnswer:"
WORKED = "\nReasoning:"
END = "\n\n"
"""What a worked solution ends with, so that a model that writes one can stop."""


def answer_probe(problems: Sequence[Problem]) -> Probe:
    """The prompt and `Answer:`, with the answers as label words: to train on the answer alone, and to evaluate.

    Errors cluster by the skeleton (`template`) and the story (`word`); `group` is the split.
    """
    return Probe(
        tuple(
            Example(
                one.prompt + ANSWER, answers=tuple(f" {answer}" for answer in one.answers),
                label=one.answers.index(one.answer), template=one.skeleton, word=one.story, group=one.split,
            )
            for one in problems
        )
    )  # fmt: skip


def worked_probe(problems: Sequence[Problem]) -> Probe:
    """The prompt and `Reasoning:`, completed by the reasoning and the answer; for rows of one answer to complete.

    Raises `DataError` where a problem has no reasoning.
    """
    return Probe(tuple(replace(_worked(one), template=one.skeleton, word=one.story) for one in problems))


def _worked(problem: Problem) -> Example:
    if problem.reasoning is None:
        raise DataError(f"{problem.prompt[:60]!r} has no reasoning to train on: train on the answers alone")
    told = f" {problem.reasoning}{ANSWER} {problem.answer}{END}"
    return Example(problem.prompt + WORKED, answers=(told,), label=0)


class Redrawn(torch.utils.data.Dataset):
    """Tokens of prompts with their completions, with symbols drawn anew each epoch; for a `Trainer` of one's own.

    An item has `input_ids` and `labels`, which are -100 on the prompt; `collate` pads a batch of them. `set_epoch` is
    called by data loaders of accelerate, and so by `transformers.Trainer`; a draw depends on the seed, the epoch and
    the row, so that an epoch that is begun again is the same. `icp.finetune` takes rows that are fixed:
    `icp.capt.train` gives it copies for as many epochs.
    """

    def __init__(
        self, rows: Sequence[Abstracted], renaming: Renaming, tokenizer: Any, *, reasoning: bool = False, seed: int = 0
    ):
        if not rows:
            raise DataError("there are no rows to train on: give some that were abstracted")
        self.rows, self.renaming, self.tokenizer = tuple(rows), renaming, tokenizer
        self.reasoning, self.seed, self.epoch = reasoning, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def problem(self, number: int) -> Problem:
        """The row of this number as it is in this epoch."""
        return drawn(self.rows[number], self.renaming, number, self.epoch, self.seed)

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        one = self.problem(number)
        text, told = one.prompt + ANSWER, f" {one.answer}"
        if self.reasoning:
            example = _worked(one)
            text, told = example.text, example.answers[0]
        ids = encode(self.tokenizer, text, told)
        asked = len(encode(self.tokenizer, text, ""))
        return {"input_ids": ids, "labels": [-100] * asked + ids[asked:]}

    def collate(self, items: Sequence[dict[str, list[int]]]) -> dict[str, Int[Tensor, "row pos"]]:
        """`input_ids`, `attention_mask` and `labels` [row, pos], padded on the right."""
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id

        def padded(rows, value):
            return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, value)

        ids = padded([item["input_ids"] for item in items], pad)
        mask = padded([[1] * len(item["input_ids"]) for item in items], 0)
        return {"input_ids": ids, "attention_mask": mask, "labels": padded([item["labels"] for item in items], -100)}
