"""Gold with errors at a rate, so that accuracy can be drawn against the quality of an estimator."""

import random
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction
from icp.capt.estimator import Estimator, Failure
from icp.errors import DataError

KINDS = ("missed", "split", "merged")


@dataclass(frozen=True)
class Corrupted(Estimator):
    """Each mention that `gold` finds is spoilt with the probability `rate`, independently, by one of `errors`.

    `missed`: it is left standing as it is; `split`: it becomes a variable of its own; `merged`: it is taken for another
    variable of the prompt. Which are, depends on the seed and the prompt alone, and those spoilt at a rate are spoilt
    at every higher rate too. Validation refuses most prompts with a missed or split mention, so that a curve over the
    rate is drawn from `icp.capt.abstracted.abstract`, which does not validate.
    """

    gold: Estimator
    rate: float
    seed: int = 0
    errors: tuple[str, ...] = KINDS

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise DataError(f"the rate of errors is {self.rate}, and should be 0 to 1")
        if not self.errors or not set(self.errors) <= set(KINDS):
            raise DataError(f"the errors {self.errors} are not some of {', '.join(KINDS)}")

    @property
    def label(self) -> str:
        return f"Corrupted({self.gold.label}, {self.rate}, {self.seed}, {self.errors})"

    def estimate(self, prompt: str) -> Abstraction | Failure:
        found = self.gold.estimate(prompt)
        if isinstance(found, Failure):
            return found
        rng, kept = random.Random(f"{self.seed}/{prompt}"), []
        for number, mention in enumerate(found.mentions):
            drawn, error, other = rng.random(), rng.choice(self.errors), rng.random()
            name = f"variable {mention.slot}"
            if drawn < self.rate:
                if error == "missed":
                    continue
                others = [slot for slot in range(found.slots) if slot != mention.slot]
                if error == "split" or not others:
                    name = f"mention {number}"
                else:
                    name = f"variable {others[int(other * len(others))]}"
            kept.append((mention.start, mention.stop, name, mention.holds))
        if not kept:
            return Failure(prompt, "no events", f"every mention of {prompt[:60]!r} was missed")
        return Abstraction.of(prompt, kept)
