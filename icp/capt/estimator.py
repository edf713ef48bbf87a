"""What finds the events of a prompt. It sees the prompt alone: no answer, no reasoning, no other field of the row."""

from dataclasses import dataclass

from icp.capt.abstraction import Abstraction


@dataclass(frozen=True)
class Failure:
    """Why there is no abstraction of a prompt: `reason` is the name that it is counted under, `told` a sentence."""

    prompt: str
    reason: str
    told: str


@dataclass(frozen=True)
class Estimator:
    """Base of what finds events; a frozen record, whose `label` is part of the key under which results are cached."""

    @property
    def label(self) -> str:
        return repr(self)

    def estimate(self, prompt: str) -> Abstraction | Failure:
        raise NotImplementedError
