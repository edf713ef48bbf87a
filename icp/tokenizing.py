"""Text to tokens, with a continuation whose tokens can be told apart."""

from typing import Any

from icp.errors import ProbeError


def encode(tokenizer: Any, text: str, continuation: str) -> list[int]:
    """The tokens of `text` as the tokenizer makes them, special tokens included, and then those of `continuation`."""
    ids = tokenizer(text)["input_ids"]
    if not ids:
        raise ProbeError(f"{text!r} has no tokens under this tokenizer: give it some words")
    return ids + continued(tokenizer, text, continuation) if continuation else ids


def continued(tokenizer: Any, text: str, continuation: str) -> list[int]:
    """The tokens that `continuation` adds to `text`; raises `ProbeError` where the tokenizer merges the two."""
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    both = tokenizer(text + continuation, add_special_tokens=False)["input_ids"]
    if both[: len(before)] != before or len(both) == len(before):
        raise ProbeError(
            f"{continuation!r} does not begin a new token after {text!r}: answers usually start with a space, "
            "and the text must not end with one"
        )
    return both[len(before) :]
