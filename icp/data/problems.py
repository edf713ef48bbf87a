"""A prompt that is answered by one of a few words, perhaps with the reasoning that leads there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icp.errors import DataError


@dataclass(frozen=True)
class Problem:
    """`answer` is the right one of `answers`; `reasoning` is a worked solution without the answer, None where none is.

    `split` names the kind of world that the words are of, `story` the words that it is told in, and `skeleton` what is
    left of it without them: problems with one skeleton differ in words, phrasing and order alone. `query_type` is what
    is asked for, `rung` that of Pearl's ladder of causation, where a data set has them.
    """

    prompt: str
    answer: str
    answers: tuple[str, ...]
    reasoning: str | None = None
    split: str | None = None
    story: str | None = None
    skeleton: str | None = None
    query_type: str | None = None
    rung: int | None = None

    def __post_init__(self):
        if self.answer not in self.answers:
            raise DataError(f"the answer {self.answer!r} of {self.prompt[:60]!r} is none of {', '.join(self.answers)}")

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Problem":
        """From its fields by name, as JSON keeps them; raises `TypeError` for another field, or one that is missing."""
        return cls(**{**told, "answers": tuple(told["answers"])})
