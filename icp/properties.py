"""The built-in properties: of an answer, of a text, of a pair, of a representation."""

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icp.bound import Property
from icp.errors import IcpError, ProbeError
from icp.tokenizing import (
    Classes,
    Masked,
    Represented,
    answer_position,
    continued,
    require_head,
    require_vocabulary,
    require_words,
)

if TYPE_CHECKING:
    from icp.probes import Tokens


@dataclass(frozen=True)
class LogitDifference(Property):
    """logit(answers[0]) - logit(answers[1]) after the last token, or at the mask token, in logits."""

    unit = "logits"
    reads_whole_vocabulary = False

    def targets(self, tokens, example, tokenizer):
        return [_answer(tokens, example, tokenizer, _answer_tokens(tokens, example, tokenizer, exactly=2))]

    def of(self, logits, targets):
        picked = logits.gather(1, targets)
        return picked[:, 0] - picked[:, 1]


@dataclass(frozen=True)
class Probability(Property):
    """The probability of answer number `answer` as the next token, or at the mask, among the whole vocabulary."""

    answer: int = 0
    unit = "probability"

    def targets(self, tokens, example, tokenizer):
        ids = _answer_tokens(tokens, example, tokenizer, has=self.answer)
        return [_answer(tokens, example, tokenizer, [ids[self.answer]])]

    def of(self, logits, targets):
        return logits.softmax(-1).gather(1, targets)[:, 0]


@dataclass(frozen=True)
class ClassProbability(Property):
    """The probability of answer number `answer` among the answers only (softmax over their logits)."""

    answer: int = 0
    unit = "probability"
    reads_whole_vocabulary = False

    def targets(self, tokens, example, tokenizer):
        ids = _answer_tokens(tokens, example, tokenizer, has=self.answer)
        if len(ids) == 1:
            text = tokens.probe.examples[example].text
            raise ProbeError(f"{text!r} has 1 answer: among the answers it would always win, so give two or more")
        right_first = [ids[self.answer], *ids[: self.answer], *ids[self.answer + 1 :]]
        return [_answer(tokens, example, tokenizer, right_first)]

    def of(self, logits, targets):
        return logits.gather(1, targets).softmax(-1)[:, 0]


@dataclass(frozen=True)
class LogLikelihood(Property):
    """log p(answer number `answer` | text) in nats, summed over the tokens of the continuation."""

    answer: int = 0
    unit = "nats"

    def continuation(self, example):
        if not 0 <= self.answer < len(example.answers):
            raise ProbeError(f"{example.text!r} has no answer number {self.answer}: it has {len(example.answers)}")
        return example.answers[self.answer]

    def targets(self, tokens, example, tokenizer):
        require_vocabulary(tokenizer, "a log-likelihood")
        return _next_tokens(tokens.inputs[example], tokens.text_lengths[example], 1.0)

    def of(self, logits, targets):
        return _log_probability(logits, targets)


@dataclass(frozen=True)
class TaskLoss(Property):
    """-log p(the right answer) in nats; the right answer is `answers[label]`, one token.

    The probability is among the whole vocabulary, or with `among_answers` among the answers only (the loss of a
    classifier that must choose one of them).
    """

    among_answers: bool = False
    unit = "nats"

    @property
    def reads_whole_vocabulary(self) -> bool:
        return not self.among_answers

    def targets(self, tokens, example, tokenizer):
        row = tokens.probe.examples[example]
        if row.label is None:
            raise ProbeError(f"a task loss needs the right answer of {row.text!r}: give the example a label")
        if self.among_answers:
            return ClassProbability(row.label).targets(tokens, example, tokenizer)
        ids = _answer_tokens(tokens, example, tokenizer, has=row.label)
        return [_answer(tokens, example, tokenizer, [ids[row.label]])]

    def of(self, logits, targets):
        if self.among_answers:
            return -_log_probability(logits.gather(1, targets), torch.zeros_like(targets[:, :1]))
        return -_log_probability(logits, targets)


@dataclass(frozen=True)
class ErrorRate(Property):
    """1 where another answer has at least the logit of the right one, `answers[label]`, else 0: a share of errors.

    It has no gradient, so it is measured exactly or not at all.
    """

    unit = "share"
    reads_whole_vocabulary = False

    def targets(self, tokens, example, tokenizer):
        return TaskLoss(among_answers=True).targets(tokens, example, tokenizer)

    def of(self, logits, targets):
        picked = logits.gather(1, targets)
        wrong = (picked[:, 0] <= picked[:, 1:].amax(1)).to(logits.dtype)
        return torch.where(picked.isfinite().all(1), wrong, torch.nan)


@dataclass(frozen=True)
class NextTokenLoss(Property):
    """The language-modelling loss of the text itself: mean -log p(next token), in nats a token."""

    unit = "nats per token"

    def targets(self, tokens, example, tokenizer):
        require_vocabulary(tokenizer, "a next-token loss")
        ids = tokens.inputs[example]
        if len(ids) < 2:
            raise ProbeError(f"{tokens.probe.examples[example].text!r} has one token: a next-token loss needs two")
        return _next_tokens(ids, 1, 1.0 / (len(ids) - 1))

    def of(self, logits, targets):
        return -_log_probability(logits, targets)


@dataclass(frozen=True)
class PseudoLogLikelihood(Property):
    """The sum over a text's tokens of log p(token | all others), each masked alone, in nats (Salazar et al. 2020).

    For masked language models. Tokens that begin and end a text are not scored. A text is run once a token, with
    whatever is done to a unit done in every run; a counterpart has the partner of the masked token masked.
    """

    unit = "nats"

    def targets(self, tokens, example, tokenizer):
        if not tokens.masked:
            raise ProbeError(
                f"{self.label} masks each token of a text in turn: it is measured, and read in no other way"
            )
        position, token = tokens.masked[example]
        return [(position, 1.0, [token])]

    def of(self, logits, targets):
        return _log_probability(logits, targets)


@dataclass(frozen=True)
class PairGap(Property):
    """P(x) - P(x') of another property, the intervention acting in both runs."""

    of_property: Property = LogitDifference()

    @property
    def unit(self) -> str:
        return self.of_property.unit

    @property
    def reads_whole_vocabulary(self) -> bool:
        return self.of_property.reads_whole_vocabulary

    def continuation(self, example):
        return self.of_property.continuation(example)

    def targets(self, tokens, example, tokenizer):
        return self.of_property.targets(tokens, example, tokenizer)

    def bind(self, tokens, tokenizer, device):
        return self.of_property.bind(tokens, tokenizer, device)

    def of(self, logits, targets):
        return self.of_property.of(logits, targets)


@dataclass(frozen=True)
class Similarity(Property):
    """The cosine of an input's representation and that of answer number `answer`, a reference.

    For a model without a head. A representation is the mean of what the last block gives over attended tokens, those
    that begin and end a text among them (Reimers and Gurevych 2019, mean pooling), or what the model makes of it by
    itself: of a CLIP's towers the projected features, so that a text and an image can be compared (Radford et al.
    2021). That of the reference is the one that the module gives without any hook: no intervention reaches it.
    """

    answer: int = 0
    unit = "cosine"

    def targets(self, tokens, example, tokenizer):
        row = tokens.probe.examples[example]
        if not 0 <= self.answer < len(row.answers):
            raise ProbeError(
                f"{row.text!r} has no answer number {self.answer}: a similarity needs a reference there to compare with"
            )
        return [(0, 1.0, [self.answer])]

    def bind(self, tokens, tokenizer, device):
        if not isinstance(tokenizer, Represented):
            raise ProbeError(
                "a similarity needs a model without a head, such as a BertModel, and this one has one: measure what "
                "its logits say, or load the encoder alone (of a CLIP, a tower without captions)"
            )
        bound = super().bind(tokens, tokenizer, device)
        references = [example.answers[self.answer] for example in tokens.probe.examples]
        return replace(bound, targets=tokenizer.represent(references))

    def of(self, logits, targets):
        return torch.nn.functional.cosine_similarity(logits, targets.to(logits.dtype))


def property_of(name: str) -> Property:
    """The built-in property of this name as its class makes it by default; raises `IcpError` naming the others."""
    kinds = (
        LogitDifference, Probability, ClassProbability, LogLikelihood, TaskLoss, ErrorRate, NextTokenLoss,
        PseudoLogLikelihood, Similarity, PairGap,
    )  # fmt: skip
    known = {kind.__name__: kind for kind in kinds}
    if name not in known:
        raise IcpError(f"unknown property {name!r}: use one of {', '.join(known)}")
    return known[name]()


def require_single(property: Property) -> None:
    """Raise `IcpError` for a property of two runs where only one is made."""
    if isinstance(property, PairGap):
        raise IcpError(
            f"{property.label} is read off two runs, which only icp.measure makes: pass {property.of_property.label}"
        )


def require_label(named: Any, stored: bool) -> None:
    """Raise `IcpError` where the label of a class of the user's own may be another's, or changes from run to run.

    `named` is a property or an intervention.
    """
    if isinstance(named, PairGap):
        return require_label(named.of_property, stored)
    own = {"label", "__dataclass_fields__"} & set(vars(type(named)))
    if not own and (stored or is_dataclass(named)):
        raise IcpError(
            f"{type(named).__name__} is not a dataclass of its own, so that its label {named.label!r} may not tell it "
            "from another: decorate it with @dataclass(frozen=True), or give it a label"
        )


def _log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.gather(1, targets)[:, 0] - logits.logsumexp(-1)


def _answer(tokens: "Tokens", example: int, tokenizer: Any, ids: list[int]) -> tuple[int, float, list[int]]:
    return answer_position(tokenizer, tokens.inputs[example]), 1.0, ids


def _next_tokens(ids: Sequence[int], first: int, weight: float) -> list[tuple[int, float, list[int]]]:
    """Score tokens `first` and later, each read one position before it."""
    return [(position - 1, weight, [ids[position]]) for position in range(first, len(ids))]


def _answer_tokens(
    tokens: "Tokens", example: int, tokenizer: Any, *, exactly: int | None = None, has: int = 0
) -> list[int]:
    """One token id an answer; raises `ProbeError` for answers that are missing, several tokens, or the same token."""
    row = tokens.probe.examples[example]
    require_head(tokenizer, f"an answer to {row.text!r}")
    if exactly is not None and len(row.answers) != exactly:
        raise ProbeError(
            f"{row.text!r} has {len(row.answers)} answers, a logit difference needs {exactly}: "
            "pass answers=(' yes', ' no')"
        )
    if not 0 <= has < len(row.answers):
        raise ProbeError(f"{row.text!r} has no answer number {has}: it has {len(row.answers)}")
    if isinstance(tokenizer, Classes):
        return tokenizer.columns(row.answers, row.text)
    found = []
    for answer in row.answers:
        require_words(answer)
        if isinstance(tokenizer, Masked):
            ids = tokenizer.tokenizer(answer, add_special_tokens=False)["input_ids"]
        else:
            ids = continued(tokenizer, row.text, answer)
        if len(ids) != 1:
            pieces = getattr(tokenizer, "tokenizer", tokenizer).convert_ids_to_tokens(ids)
            raise ProbeError(f"the answer {answer!r} is {len(ids)} tokens {pieces}: use one token, or LogLikelihood")
        found += ids
    if len(set(found)) < len(found):
        raise ProbeError(f"two of the answers {row.answers} are the same token: P would always be 0")
    return found
