"""Counterfactual words by a local language model."""

from collections.abc import Sequence
from dataclasses import dataclass

from icp.counterfactual.rows import Rejection
from icp.counterfactual.written import Shot, Written
from icp.errors import ProbeError
from icp.generation import generate, prompt_tokens
from icp.model import Model


@dataclass(frozen=True)
class LanguageModel(Written):
    """A local model (`icp.load`) writes the words that say another value; see `Written` for what is kept of them.

    Of each prompt the greedy answer comes first; further `samples` are drawn with `temperature` and `seed`. A text for
    which the model has no room is rejected (`prompt too long`). The model should not be the one that is trained on the
    pairs.
    """

    variable: str
    model: Model
    shots: Sequence[Shot] = ()
    to: Sequence[str] = ()
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0
    max_tokens: int = 12
    most_words: int = 6

    def write(self, prompts: Sequence[str]) -> list[list[str] | Rejection]:
        found: dict[str, list[str] | Rejection] = {}
        for prompt in prompts:
            try:
                prompt_tokens(self.model, prompt, self.max_tokens)
            except ProbeError as error:
                found[prompt] = Rejection("prompt too long", str(error))
        asked, how = [one for one in prompts if one not in found], {"seed": self.seed, "max_tokens": self.max_tokens}
        answers = generate(self.model, asked, **how)
        if self.samples > 1:
            drawn = generate(self.model, asked, samples=self.samples - 1, temperature=self.temperature, **how)
            answers = [first + others for first, others in zip(answers, drawn)]
        found |= zip(asked, answers)
        return [found[prompt] for prompt in prompts]
