"""A problem with the events of its prompt found, and where its reasoning says them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction, Mention
from icp.capt.estimator import Estimator, Failure
from icp.data.problems import Problem
from icp.data.syllogisms import plural, singular


@dataclass(frozen=True)
class Abstracted:
    """`abstraction` is of the prompt alone; `worked` are the mentions of its variables in the reasoning, in order."""

    problem: Problem
    abstraction: Abstraction
    worked: Abstraction | None = None

    @property
    def said(self) -> list[tuple[Mention, str, str]]:
        """Each mention of the prompt and then of the reasoning, its surface, and the word before it."""
        parts = [self.abstraction, *([] if self.worked is None else [self.worked])]
        return [(m, part.surface(m), _before(part.prompt, m.start)) for part in parts for m in part.mentions]

    @property
    def rest(self) -> str:
        """The words of the prompt and the reasoning that are outside of mentions, and the answers."""
        parts = [self.abstraction, *([] if self.worked is None else [self.worked])]
        left = [part.worded([" "] * len(part.mentions)) for part in parts]
        return "\n".join((*left, *self.problem.answers))


def _before(text: str, at: int) -> str:
    return (re.findall(r"[\w'-]+|[.?!:]", text[max(0, at - 20) : at]) or [""])[-1].lower()


def abstract(problem: Problem, estimator: Estimator) -> Abstracted | Failure:
    """The prompt's events as the estimator finds them in the prompt, then the same words in the reasoning."""
    found = estimator.estimate(problem.prompt)
    if isinstance(found, Failure):
        return found
    return Abstracted(problem, found, None if problem.reasoning is None else carried(found, problem.reasoning))


def untouched(problem: Problem) -> Abstracted:
    """The problem with no event found: it is asked as it is, whatever takes the place of events elsewhere."""
    reasoning = problem.reasoning
    return Abstracted(
        problem, Abstraction(problem.prompt, ()), None if reasoning is None else Abstraction(reasoning, ())
    )


def carried(found: Abstraction, text: str) -> Abstraction:
    """Where another text, such as the reasoning, says a prompt's variables: by their surfaces there, in either number.

    The longest surface counts; slots are those of the prompt. What the prompt does not say is not found.
    """
    slot_of: dict[str, tuple[int, bool | None]] = {}
    for mention in found.mentions:
        surface = found.surface(mention)
        slot_of.setdefault(surface, (mention.slot, mention.holds))
    for surface, said in list(slot_of.items()):
        for form in _forms(surface):
            slot_of.setdefault(form, said)
    if not slot_of:
        return Abstraction(text, ())
    either = "|".join(re.escape(form) for form in sorted(slot_of, key=len, reverse=True))
    places = re.finditer(rf"(?<![\w-])(?:{either})(?![\w-])", text)
    mentions = (Mention(one.start(), one.end(), *slot_of[one[0]]) for one in places)
    return Abstraction(text, tuple(mentions))


def _forms(surface: str) -> Iterable[str]:
    """The surface in the other number, with and without a capital."""
    if surface.isdigit():
        return
    small = surface[:1].lower() + surface[1:]
    for form in (surface, small, singular(small), plural(singular(small))):
        yield from (form, form[:1].upper() + form[1:])
