"""Counterfactual words by a local language model."""

from collections.abc import Sequence
from dataclasses import dataclass

from icp.counterfactual.written import Shot, Written
from icp.generation import generate
from icp.model import Model


@dataclass(frozen=True)
class LanguageModel(Written):
    """A local model (`icp.load`) writes the words that say another value; see `Written` for what is kept of them.

    Of each prompt the greedy answer comes first; further `samples` are drawn with `temperature` and `seed`. The model
    should not be the one that is trained on the pairs.
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

    def write(self, prompt: str) -> list[str]:
        how = {"seed": self.seed, "max_tokens": self.max_tokens}
        [answers] = generate(self.model, [prompt], **how)
        if self.samples > 1:
            [drawn] = generate(self.model, [prompt], samples=self.samples - 1, temperature=self.temperature, **how)
            answers = [*answers, *drawn]
        return answers
