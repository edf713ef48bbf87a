"""Counterfactual words by a model behind an OpenAI-compatible address. Nothing is sent unless you make one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from icp.chat import Chat
from icp.counterfactual.rows import Rejection
from icp.counterfactual.spec import Spec
from icp.counterfactual.written import Shot, Written
from icp.errors import NoAnswerError


@dataclass(frozen=True)
class Endpoint(Written):
    """A served model writes the words that say another value; see `Written` for what is kept of them.

    How texts are sent, what is tried again and what `answers` keeps is as in `icp.chat.Chat`. The first answer is asked
    for at temperature 0; `samples` more, at `temperature`, come with seeds counted from `seed`. A text that gets no
    answer is rejected (`request failed`); `EndpointError` is raised for what no other text would get around. With
    `answers` a run that ended early goes on where it was, and the same run later makes the same pairs.
    """

    variable: str
    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    shots: Sequence[Shot] = ()
    to: Sequence[str] = ()
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0
    max_tokens: int = 24
    most_words: int = 6
    timeout: float = 60.0
    retries: int = 3
    pause: float = 1.0
    answers: str | Path | None = None

    @cached_property
    def _chat(self) -> Chat:
        return Chat(self.base_url, self.model, self.api_key, self.timeout, self.retries, self.pause, self.answers)

    def begin(self, spec: Spec) -> None:
        super().begin(spec)
        _ = self._chat

    def write(self, prompts: Sequence[str]) -> list[list[str] | Rejection]:
        return [self._write(prompt) for prompt in prompts]

    def _write(self, prompt: str) -> list[str] | Rejection:
        found = []
        for number in range(self.samples):
            try:
                temperature, seed = self.temperature if number else 0.0, self.seed + number
                found.append(self._chat.answer(prompt, max_tokens=self.max_tokens, temperature=temperature, seed=seed))
            except NoAnswerError as error:
                return Rejection("request failed", str(error))
        return found
