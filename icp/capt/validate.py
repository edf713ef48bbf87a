"""Whether an abstraction may be trained on: nothing of the events is left, and nothing else was touched."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from icp.capt.abstracted import Abstracted, abstract
from icp.capt.abstraction import Abstraction
from icp.capt.estimator import Estimator, Failure
from icp.capt.inverse import restored
from icp.data.problems import Problem
from icp.data.syllogisms import singular

NEGATION = re.compile(r"\b(?:not|no|never|without|cannot)\b|n't\b", re.IGNORECASE)
FUNCTION_WORDS = {
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "been", "being", "both", "by", "do", "does", "doing",
    "each", "either", "every", "for", "from", "had", "has", "have", "having", "her", "his", "if", "in", "into", "is",
    "it", "its", "more", "most", "never", "no", "not", "of", "off", "on", "or", "other", "out", "over", "own", "so",
    "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those",
    "through", "to", "too", "under", "up", "was", "were", "who", "whose", "will", "with", "without", "would",
}  # fmt: skip
ENGLISH = 0.15
"""The least share of function words in English: CLadder, PrOntoQA and Corr2Cause have 0.27 and more, nonsense too."""


@dataclass(frozen=True)
class Validator:
    """What is asked of an abstraction. `allowed` are words of events that may also stand outside of them.

    Function words may anyway. `most` is how many events a prompt may have: the size of the pool of symbols. That
    variables which gold keeps apart share a symbol is for `icp.capt.quality` to say: a prompt alone does not tell.
    """

    allowed: frozenset[str] = frozenset()
    most: int | None = None

    def reasons(self, row: Abstracted) -> list[str]:
        """Why the abstraction is not valid, by the names under which refusals are counted; empty where it is."""
        found, mentions = row.abstraction, row.abstraction.mentions
        surfaces = [found.surface(mention) for mention in mentions]
        answers = {answer.lower() for answer in row.problem.answers}
        digits = [_splits_digits(found, m.start, m.stop) for m in mentions]
        checks = {
            "no events": not mentions,
            "more events than symbols": self.most is not None and found.slots > self.most,
            "an event is an answer": any(surface.lower() in answers for surface in surfaces),
            "an event goes beyond a sentence": any(re.search(r"[.?!:]\s|[?\n]|\.$", surface) for surface in surfaces),
            "digits in an event": any(digits),
            "two symbols for one event": _split(found),
            "polarity lost": any(NEGATION.search(s) and m.holds is not False for s, m in zip(surfaces, mentions)),
            "event word left": bool(self.left(found, surfaces)),
            "event word left in the reasoning": row.worked is not None and bool(self.left(row.worked, surfaces)),
            "round trip": restored(found.text, found, _placeholders(found)) != found.prompt,
        }
        return [reason for reason, holds in checks.items() if holds]

    def left(self, text: Abstraction, surfaces: Sequence[str]) -> set[str]:
        """The words of events that stand outside of the mentions of a text, as singulars without capitals."""
        rest = _words(text.worded([" "] * len(text.mentions)))
        return (_words(" ".join(surfaces)) & rest) - {singular(word) for word in self.allowed}


@dataclass(frozen=True)
class Abstractions:
    """What an estimator made of problems: the valid ones, and each refusal with its reason."""

    rows: tuple[Abstracted, ...]
    refused: tuple[Failure, ...]

    @property
    def reasons(self) -> Counter[str]:
        """How many problems each reason refused."""
        return Counter(failure.reason for failure in self.refused)


def abstract_all(
    problems: Sequence[Problem], estimator: Estimator, validator: Validator | None = None, *, progress: bool = False
) -> Abstractions:
    """Abstract the prompts, and refuse what is not valid; a refusal is counted under its first reason and tells all.

    A prompt that is `not English` is refused unread. Leave `validator` out for the usual one; nothing is kept that it
    refuses.
    """
    validator = Validator() if validator is None else validator
    rows, refused = [], []
    for problem in tqdm(problems, unit="prompt", desc="abstract", disable=not progress, leave=False):
        if not english(problem.prompt):
            refused.append(Failure(problem.prompt, "not English", f"{problem.prompt[:60]!r} is not English"))
            continue
        row = abstract(problem, estimator)
        if isinstance(row, Failure):
            refused.append(row)
        elif reasons := validator.reasons(row):
            refused.append(Failure(problem.prompt, reasons[0], f"{problem.prompt[:60]!r}: {', '.join(reasons)}"))
        else:
            rows.append(row)
    return Abstractions(tuple(rows), tuple(refused))


def english(text: str) -> bool:
    """Whether most letters are of the plain alphabet and, of eight words or more, enough are function words."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    letters = "".join(words)
    if 2 * sum(letter.isascii() for letter in letters) < len(letters):
        return False
    return len(words) < 8 or sum(word in FUNCTION_WORDS for word in words) >= ENGLISH * len(words)


def _placeholders(found: Abstraction) -> list[str]:
    return [f"{{symbol_{slot + 1}}}" for slot in range(found.slots)]


def _words(text: str) -> set[str]:
    words = {word.lower() for word in re.findall(r"[^\W\d_][\w'-]+", text)}
    return {singular(word) for word in words - FUNCTION_WORDS}


def _splits_digits(found: Abstraction, start: int, stop: int) -> bool:
    """Whether a mention holds a figure: digits that are not a whole number on their own, or that count or measure."""
    surface, text = found.prompt[start:stop], found.prompt
    beside = re.match(r"\s?%|\d|\.\d", text[stop:]) or re.search(r"[\d.,$]$", text[:start])
    return re.search(r"\d", surface) is not None and (not surface.isdigit() or beside is not None)


def _split(found: Abstraction) -> bool:
    slot_of: dict[str, int] = {}
    names = ((singular(found.surface(m).lower()), m.slot) for m in found.mentions)
    return any(slot_of.setdefault(name, slot) != slot for name, slot in names)
