"""A question with the answers that count as right."""

from dataclasses import dataclass

from icp.errors import DataError


@dataclass(frozen=True)
class Question:
    """`aliases` are right answers, all of one meaning; a question that has none cannot be answered from its context."""

    text: str
    aliases: tuple[str, ...]
    context: str | None = None


def without_context(text: str, answers: list[str]) -> list[Question]:
    """A question that is answered from memory, as the one row it is; raises `DataError` where it has no answer."""
    if not answers:
        raise DataError(f"the question {text!r} has no answers: this is a split without them, or a damaged row")
    return [Question(text, unique(answers))]


def unique(answers: list[str]) -> tuple[str, ...]:
    """Each answer once, in order."""
    return tuple(dict.fromkeys(answers))
