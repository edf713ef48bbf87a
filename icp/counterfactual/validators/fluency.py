"""A check by a language model: how much less likely the counterpart is than the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from icp.counterfactual.rows import Edit, Row
from icp.counterfactual.spec import Spec
from icp.counterfactual.validator import Validator
from icp.errors import SpecError
from icp.model import Model
from icp.sentences import require_causal, sentence_log_likelihoods


@dataclass(frozen=True)
class PerplexityRatio(Validator):
    """The counterpart's perplexity is at most `bound` times that of the text, under a causal model.

    Perplexity is exp(- mean log p of a token). Where a text has more tokens than the model reads, its pair is rejected.
    """

    reason: ClassVar[str] = "counterpart too unlikely"
    model: Model
    bound: float = 2.0
    batch_size: int | None = None

    def __post_init__(self):
        if not self.bound > 0:
            raise SpecError(f"the bound {self.bound} on the ratio of perplexities has to be above 0")

    def begin(self, spec: Spec) -> None:
        require_causal(self.model)

    def reject_all(self, pairs: Sequence[tuple[Row, Edit]], spec: Spec) -> list[str | None]:
        told = [self._too_long(row, edit) for row, edit in pairs]
        scored = [place for place, why in enumerate(told) if why is None]
        if not scored:
            return told
        texts = [pairs[place][0].text for place in scored] + [pairs[place][1].text for place in scored]
        sums, counts = sentence_log_likelihoods(self.model, texts, batch_size=self.batch_size)
        before, after = (sums / counts).reshape(2, len(scored))
        for place, ratio in zip(scored, np.exp(before - after)):
            if not ratio <= self.bound:
                told[place] = f"the perplexity is {ratio:.2f} times that of the text, and at most {self.bound:g} times"
        return told

    def _too_long(self, row: Row, edit: Edit) -> str | None:
        for what, text in (("text", row.text), ("counterpart", edit.text)):
            tokens = len(self.model.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
            if self.model.context is not None and tokens > self.model.context:
                return f"the {what} has {tokens} tokens, and {self.model.name} reads {self.model.context}"
        return None
