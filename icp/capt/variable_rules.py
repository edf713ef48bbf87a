"""Events of Corr2Cause's prompts, whose variables are letters already."""

import re
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction
from icp.capt.estimator import Estimator, Failure

LISTED = re.compile(r"closed system of (\d+) variables, ([^.]+)\.")
LETTER = re.compile(r"\b[A-Z]\b")


@dataclass(frozen=True)
class VariableRules(Estimator):
    """Every place of the letters that the premise lists as variables.

    There is no story to take away: what `Random` removes here is which letters they are, and that they come in the
    order of the alphabet. `Order` gives back the prompt in other letters, or in its own where the pool begins with
    them; it is a second control beside `Null`, and what it gains over it is chance. A letter that is not listed, and a
    list of another length than it says, are failures.
    """

    def estimate(self, prompt: str) -> Abstraction | Failure:
        listed = LISTED.search(prompt)
        if listed is None:
            return Failure(prompt, "no events", f"{prompt[:60]!r} lists no variables of a closed system")
        names = re.split(r",? and |, ", listed[2])
        if len(set(names)) != int(listed[1]) or not all(map(LETTER.fullmatch, names)):
            told = f"{listed[0]!r} does not list {listed[1]} different letters"
            return Failure(prompt, "a list of something else", told)
        places = list(LETTER.finditer(prompt))
        strange = [place[0] for place in places if place[0] not in names]
        if strange:
            return Failure(prompt, "unknown name", f"{strange[0]!r} is none of the variables {', '.join(names)}")
        return Abstraction.of(prompt, [(place.start(), place.end(), place[0], None) for place in places])
