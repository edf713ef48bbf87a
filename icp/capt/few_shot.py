"""What language models are asked, and how their answers become mentions: a JSON list of events, each in its words."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction
from icp.capt.estimator import Estimator, Failure
from icp.errors import DataError

TASK = """List the events of a text, each with all the words by which the text says it, copied exactly. "yes" has the \
words that name the event or say that it is so, "no" the words that say that it is not so. Answer with one line of JSON.
"""
LABELS = ("Text:", "Events:")


@dataclass(frozen=True)
class Shot:
    """A worked example: a text, and its events as (words that say yes, words that say no)."""

    text: str
    events: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    @property
    def told(self) -> str:
        return json.dumps([{"yes": yes} | ({"no": no} if no else {}) for yes, no in self.events], ensure_ascii=False)


SHOTS = (
    Shot(
        "Rain has a direct effect on traffic. For days without rain, the probability of heavy traffic is 12%. For rainy"
        " days, the probability of heavy traffic is 41%. Will rain increase the chance of heavy traffic?",
        ((("Rain", "rainy days"), ("days without rain",)), (("traffic", "heavy traffic"), ())),
    ),
    Shot(
        "Each poodle is a dog. Dogs are not quiet. Milo is a poodle. True or false: Milo is quiet.",
        ((("poodle",), ()), (("dog", "Dogs"), ()), (("quiet",), ()), (("Milo",), ())),
    ),
    Shot(
        "Exercise has a direct effect on stamina. The probability of no exercise and poor stamina is 30%. The "
        "probability of exercise and poor stamina is 9%. Is the chance of poor stamina larger when observing exercise?",
        ((("Exercise",), ("no exercise",)), (("stamina", "poor stamina"), ())),
    ),
)


@dataclass(frozen=True, kw_only=True)
class FewShot(Estimator):
    """Base of the estimators that ask a model; see `events_in` for how an answer is read.

    The model is asked with worked examples (`shots`). The first answer is its best; where none can be made of it, it is
    asked `retries` times more, each time for another draw at `temperature`, and what was wrong with the last answer is
    the failure.
    """

    shots: Sequence[Shot] = SHOTS
    retries: int = 2
    temperature: float = 0.7
    seed: int = 0
    max_tokens: int = 512

    def __post_init__(self):
        if self.retries < 0 or self.max_tokens < 1 or not self.temperature > 0:
            raise DataError(
                f"retries={self.retries}, max_tokens={self.max_tokens} and temperature={self.temperature}: give at "
                "least 0, at least 1, and more than 0"
            )

    @property
    def settings(self) -> str:
        """For the label: all that an answer depends on besides the model."""
        shots = [(shot.text, shot.told) for shot in self.shots]
        return f"{TASK}, {shots}, {self.retries}, {self.temperature}, {self.seed}, {self.max_tokens}"

    def answer(self, asked: str, number: int) -> str | Failure:
        """The model's best answer for number 0, and else a draw; or why there is none, which is not tried again."""
        raise NotImplementedError

    def estimate(self, prompt: str) -> Abstraction | Failure:
        found: Abstraction | Failure = Failure(prompt, "no events", "")
        for number in range(1 + self.retries):
            answer = self.answer(self.asked(prompt), number)
            if isinstance(answer, Failure):
                return Failure(prompt, answer.reason, answer.told)
            found = events_in(prompt, answer)
            if isinstance(found, Abstraction):
                break
        return found

    def asked(self, prompt: str) -> str:
        """The task, worked examples, and the prompt on one line, up to where the answer begins."""
        text, events = LABELS
        shown = [f"{text} {shot.text}\n{events} {shot.told}\n" for shot in self.shots]
        return "\n".join((TASK, *shown, f"{text} {' '.join(prompt.split())}\n{events}"))


def events_in(prompt: str, answer: str) -> Abstraction | Failure:
    """The places of a prompt where the words of the events in an answer stand, in capitals or not.

    Within the words of an event shorter ones are not looked for. Failures: `no list of events` for what is no JSON list
    of `{"yes": [...], "no": [...]}` with words, `no events` for an empty one, `words that are not there`, and
    `overlapping events` where two claim the same words.
    """
    events = _list_in(answer)
    if events is None:
        return Failure(prompt, "no list of events", f"the answer {answer[:120]!r} has no JSON list of events")
    said = [(words, str(n), holds) for n, event in enumerate(events) for words, holds in event]
    if not said:
        return Failure(prompt, "no events", f"the answer lists no event of {prompt[:60]!r}")
    claims: dict[tuple[int, int], set[tuple[str, bool | None]]] = {}
    for words, name, holds in said:
        spaced = r"\s+".join(map(re.escape, words.split()))
        places = list(re.finditer(rf"(?<![\w-]){spaced}(?![\w-])", prompt, re.IGNORECASE))
        if not places:
            return Failure(
                prompt, "words that are not there", f"the answer has the words {words!r}: the prompt has not"
            )
        for place in places:
            claims.setdefault(place.span(), set()).add((name, holds))
    kept = [
        (start, stop, told) for (start, stop), told in claims.items()
        if not any(a <= start and stop <= b and (a, b) != (start, stop) for a, b in claims)
    ]  # fmt: skip
    kept.sort(key=lambda one: one[:2])
    for (start, stop, told), after in zip(kept, [*kept[1:], None]):
        if len(told) > 1 or (after is not None and after[0] < stop):
            return Failure(prompt, "overlapping events", f"two events claim words of {prompt[start:stop]!r}")
    return Abstraction.of(prompt, [(start, stop, *next(iter(told))) for start, stop, told in kept])


def _list_in(answer: str) -> list[list[tuple[str, bool | None]]] | None:
    """The events of the first JSON list, as words and whether they deny; None where it is not one of events."""
    start = answer.find("[")
    try:
        listed, _ = json.JSONDecoder().raw_decode(answer[max(start, 0) :])
    except ValueError:
        return None
    if not isinstance(listed, list):
        return None
    events = []
    for one in listed:
        if not isinstance(one, dict) or not set(one) <= {"yes", "no"}:
            return None
        words = [(word, None if key == "yes" else False) for key, of in one.items() for word in _words(of)]
        if not words:
            return None
        events.append(words)
    return events


def _words(of: object) -> list[str]:
    """The words of a list of texts; an empty one where it is something else."""
    if isinstance(of, list) and all(isinstance(word, str) and word.strip() for word in of):
        return of
    return []
