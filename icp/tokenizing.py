"""Text to tokens, with a continuation whose tokens can be told apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from icp.errors import ProbeError
from icp.images import Image, Patches

Input = str | Image
"""What an example holds."""


@dataclass(frozen=True)
class Classes:
    """The classes of a classification head, by the names in its config, or of captions.

    Where answers are looked up as tokens of a language model, it takes the tokenizer's place.
    """

    names: tuple[str, ...]
    first: bool = False
    """Whether the head takes the first token, and not the last."""

    def columns(self, answers: tuple[str, ...], text: Input) -> list[int]:
        """The number of each answer's class; raises `ProbeError` for an answer that is no class."""
        for answer in answers:
            if answer not in self.names:
                raise ProbeError(
                    f"the answer {answer!r} of {text!r} is no class of this model: they are {', '.join(self.names)}"
                )
        return [self.names.index(answer) for answer in answers]


@dataclass(frozen=True)
class Masked:
    """The tokenizer of a masked language model, where answers are looked up as what may stand at the mask token."""

    tokenizer: Any

    @property
    def mask(self) -> int:
        """The mask token; raises `ProbeError` where the tokenizer has none."""
        if self.tokenizer.mask_token_id is None:
            raise ProbeError("the tokenizer has no mask token, at which a masked language model is read: give it one")
        return self.tokenizer.mask_token_id

    def position(self, ids: list[int]) -> int:
        """Where the mask token is; raises `ProbeError` where there is none, or several."""
        mask = self.mask
        if ids.count(mask) != 1:
            raise ProbeError(
                f"{self.tokenizer.decode(ids)!r} has {ids.count(mask)} mask tokens: write one "
                f"{self.tokenizer.mask_token} where the answer goes"
            )
        return ids.index(mask)


@dataclass(frozen=True)
class Represented:
    """A model without a head in the place of a tokenizer: its answers are texts or images, by their representations."""

    represent: Callable[[Sequence[Input]], Float[Tensor, "input d_model"]]


def require_head(answered_by: Any, what: str) -> None:
    """Raise `ProbeError` where `what` needs logits, and the model has no head that gives them."""
    if isinstance(answered_by, Represented):
        raise ProbeError(
            f"{what} needs logits, and this model has no head that gives them: measure property=icp.Similarity(), or "
            "load a model with a head"
        )


def require_vocabulary(tokenizer: Any, what: str) -> None:
    """Raise `ProbeError` where `what` needs the logits of next tokens, and there are others."""
    require_head(tokenizer, what)
    if isinstance(tokenizer, Classes | Patches):
        raise ProbeError(f"{what} needs logits of tokens, and this model gives those of its classes")
    if isinstance(tokenizer, Masked):
        raise ProbeError(
            f"{what} needs a model of the next token, and this one fills in its mask token: put that where one answer "
            "of one token goes, and read it by LogitDifference, Probability, ClassProbability or TaskLoss, or score "
            "whole texts by PseudoLogLikelihood"
        )


def require_words(answer: Input) -> None:
    """Raise `ProbeError` for an answer that is an image, where a model writes words."""
    if isinstance(answer, Image):
        raise ProbeError(f"the answer {answer} is no text, and this model answers in words: give a text")


def answer_position(answered_by: Any, ids: list[int]) -> int:
    """The position whose logits answer: of classes and masked models, as they have it; else the last."""
    if isinstance(answered_by, Masked):
        return answered_by.position(ids)
    return 0 if isinstance(answered_by, Classes) and answered_by.first else len(ids) - 1


def encode(tokenizer: Any, text: Input, continuation: Input) -> list[int]:
    """The tokens of `text` as the tokenizer makes them, special tokens included, and then those of `continuation`.

    Of an image they are its patches. Raises `ProbeError` for an image where the model reads text, and the other way.
    """
    if isinstance(tokenizer, Patches):
        if continuation:
            require_vocabulary(tokenizer, f"the likelihood of {continuation!r}")
        return tokenizer.encode(text)
    if isinstance(text, Image):
        raise ProbeError(f"{text} is no text, and this model reads texts: give words")
    ids = tokenizer(text)["input_ids"]
    if not ids:
        raise ProbeError(f"{text!r} has no tokens under this tokenizer: give it some words")
    return ids + continued(tokenizer, text, continuation) if continuation else ids


def continued(tokenizer: Any, text: Input, continuation: Input) -> list[int]:
    """The tokens that `continuation` adds to `text`; raises `ProbeError` where the tokenizer merges the two."""
    require_vocabulary(tokenizer, f"the likelihood of {continuation!r}")
    require_words(continuation)
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    both = tokenizer(text + continuation, add_special_tokens=False)["input_ids"]
    if both[: len(before)] != before or len(both) == len(before):
        raise ProbeError(
            f"{continuation!r} does not begin a new token after {text!r}: answers usually start with a space, "
            "and the text must not end with one"
        )
    return both[len(before) :]
