"""Counterfactual words by a model behind an OpenAI-compatible address. Nothing is sent unless you make one."""

from collections.abc import Sequence
from dataclasses import dataclass

from icp.chat import Chat
from icp.counterfactual.rows import Rejection
from icp.counterfactual.written import Shot, Written
from icp.errors import NoAnswerError


@dataclass(frozen=True)
class Endpoint(Written):
    """A served model writes the words that say another value; see `Written` for what is kept of them.

    How texts are sent, what is tried again and which answers are kept is `icp.Chat`'s. The first answer is asked for at
    temperature 0; `samples` more, at `temperature`, come with seeds counted from `seed`. A text that gets no answer is
    rejected (`request failed`); `EndpointError` is raised for what no other text would get around. Where the chat keeps
    its answers, a run that ended early goes on where it was, and the same run later makes the same pairs.
    """

    variable: str
    chat: Chat
    shots: Sequence[Shot] = ()
    to: Sequence[str] = ()
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0
    max_tokens: int = 24
    most_words: int = 6

    def write(self, prompts: Sequence[str]) -> list[list[str] | Rejection]:
        return [self._write(prompt) for prompt in prompts]

    def _write(self, prompt: str) -> list[str] | Rejection:
        found = []
        for number in range(self.samples):
            try:
                temperature, seed = self.temperature if number else 0.0, self.seed + number
                found.append(self.chat.answer(prompt, max_tokens=self.max_tokens, temperature=temperature, seed=seed))
            except NoAnswerError as error:
                return Rejection("request failed", str(error))
        return found
