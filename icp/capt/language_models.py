"""Events as language models find them: a local one, or one behind an OpenAI-compatible address."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from icp.capt.estimator import Failure
from icp.capt.few_shot import FewShot
from icp.chat import Chat
from icp.errors import NoAnswerError, ProbeError
from icp.generation import generate
from icp.model import Model


@dataclass(frozen=True, kw_only=True)
class LanguageModel(FewShot):
    """A local model (`icp.load`), which continues a text; see `FewShot` for what it is asked and how it is read.

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
class Endpoint(FewShot):
    """A served model; how texts are sent, and tried again where the address fails, is `icp.Chat`'s.

    A prompt that gets no answer is a failure, `timed out` or `request failed`, and `Cached(..., again=LATER)` asks for
    it again next time. `EndpointError` is raised for what no other prompt would get around.
    """

    chat: Chat

    @property
    def label(self) -> str:
        return f"Endpoint({self.chat.base_url}, {self.chat.model}, {self.settings})"

    def answer(self, asked: str, number: int) -> str | Failure:
        temperature = self.temperature if number else 0.0
        try:
            return self.chat.answer(asked, max_tokens=self.max_tokens, temperature=temperature, seed=self.seed + number)
        except NoAnswerError as error:
            return Failure(asked, "timed out" if error.late else "request failed", str(error))


LATER = ("timed out", "request failed")
"""Reasons of failures that may be gone next time."""
