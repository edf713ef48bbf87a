"""Events as language models find them: a local one, or one behind an OpenAI-compatible address."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from icp.capt.asked import Asked
from icp.capt.estimator import Failure
from icp.chat import Chat
from icp.errors import NoAnswerError, ProbeError
from icp.generation import generate
from icp.model import Model


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Asked):
    """A local model (`icp.load`), which continues a text; see `Asked` for what it is asked and how it is read.

    A prompt for which the model has no room is a failure (`prompt too long`). The model should not be the one that is
    trained. The embedded default, of 135M parameters, is there to try this out, and too small to do it well.
    """

    model: Model

    @cached_property
    def label(self) -> str:
        """The same for the same weights, tokenizer and settings, wherever the model was loaded from."""
        binding = self.model.binding
        told = f"{binding['weights']} {binding['tokenizer']} {self.model.dtype} {self.settings}"
        return f"LanguageModel({hashlib.sha256(told.encode()).hexdigest()[:16]})"

    def answer(self, asked: str, number: int) -> str | Failure:
        drawn = {"samples": 1, "temperature": self.temperature, "seed": self.seed + number} if number else {}
        try:
            [answers] = generate(self.model, [asked], max_tokens=self.max_tokens, **drawn)
        except ProbeError as error:
            return Failure(asked, "prompt too long", str(error))
        return answers[0]


@dataclass(frozen=True, kw_only=True)
class Endpoint(Asked):
    """A served model; how texts are sent and tried again where the address fails is as in `icp.chat.Chat`.

    A prompt that gets no answer is a failure, `timed out` or `request failed`, and `Cached(..., again=LATER)` asks for
    it again next time. `EndpointError` is raised for what no other prompt would get around.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    tries: int = 3
    pause: float = 1.0
    answers: str | Path | None = None

    def __post_init__(self):
        super().__post_init__()
        _ = self._chat

    @cached_property
    def _chat(self) -> Chat:
        return Chat(self.base_url, self.model, self.api_key, self.timeout, self.tries, self.pause, self.answers)

    @property
    def label(self) -> str:
        return f"Endpoint({self.base_url}, {self.model}, {self.settings})"

    def answer(self, asked: str, number: int) -> str | Failure:
        temperature = self.temperature if number else 0.0
        try:
            return self._chat.answer(
                asked, max_tokens=self.max_tokens, temperature=temperature, seed=self.seed + number
            )
        except NoAnswerError as error:
            return Failure(asked, "timed out" if error.late else "request failed", str(error))


LATER = ("timed out", "request failed")
"""Reasons of failures that may be gone next time."""
