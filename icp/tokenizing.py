"""Text to tokens, with a continuation whose tokens can be told apart."""

from dataclasses import dataclass
from typing import Any

from icp.errors import ProbeError


@dataclass(frozen=True)
class Classes:
    """The classes of a classification head, by the names in its config; where answers are looked up as tokens of a
    language model, it takes the tokenizer's place."""

    names: tuple[str, ...]

    def columns(self, answers: tuple[str, ...], text: str) -> list[int]:
        """The number of each answer's class; raises `ProbeError` for an answer that is no class."""
        for answer in answers:
            if answer not in self.names:
                raise ProbeError(
                    f"the answer {answer!r} of {text!r} is no class of this model: they are {', '.join(self.names)}, "
                    "as its config's id2label has them"
                )
        return [self.names.index(answer) for answer in answers]


def require_vocabulary(tokenizer: Any, what: str) -> None:
    """Raise `ProbeError` where `what` needs the logits of tokens, and there are those of classes."""
    if isinstance(tokenizer, Classes):
        raise ProbeError(f"{what} needs logits of tokens, and this model gives those of its classes")


def encode(tokenizer: Any, text: str, continuation: str) -> list[int]:
    """The tokens of `text` as the tokenizer makes them, special tokens included, and then those of `continuation`."""
    ids = tokenizer(text)["input_ids"]
    if not ids:
        raise ProbeError(f"{text!r} has no tokens under this tokenizer: give it some words")
    return ids + continued(tokenizer, text, continuation) if continuation else ids


def continued(tokenizer: Any, text: str, continuation: str) -> list[int]:
    """The tokens that `continuation` adds to `text`; raises `ProbeError` where the tokenizer merges the two."""
    require_vocabulary(tokenizer, f"the likelihood of {continuation!r}")
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    both = tokenizer(text + continuation, add_special_tokens=False)["input_ids"]
    if both[: len(before)] != before or len(both) == len(before):
        raise ProbeError(
            f"{continuation!r} does not begin a new token after {text!r}: answers usually start with a space, "
            "and the text must not end with one"
        )
    return both[len(before) :]
