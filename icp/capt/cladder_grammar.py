"""The closed grammar of CLadder's prompts: each sentence is one of a few clauses, its phrases stand in known places.

Jin et al., NeurIPS 2023 (arXiv 2312.04350). The grammar is public and was read off all prompts of the data at hand. It
knows no story: what a phrase says, and of which variable, is found by others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

INTRODUCTION = re.compile(r"Imagine[^:]*:\s*")
FRAME = frozenset(["conditions", "factors", "relationships", "unobserved"])
"""Words of the opening and of a clause that stories say too: for `Validator(FRAME)`, which lets them stand."""
SENTENCE = re.compile(r"\S.*?[.?](?=\s|$)", re.DOTALL)
ALTERNATIVE = re.compile(r"\s+or\s+(?!(?:higher|lower|more|less)\b)")
LINK = re.compile(r"\s+and\s+")

CLAUSES = {
    "effect": r"(?P<name>.+?) has a direct effect on (?P<names>.+)\.",
    "unobserved": r"(?P<name>.+) is unobserved\.",
    "correlation": r"For (?P<given>.+), the correlation between (?P<event>.+) and (?P<event_2>.+) is -?[\d.]+\.",
    "conditional": r"For (?P<given>.+), the probability of (?P<event>.+) is -?[\d.]+%\.",
    "overall": r"The overall probability of (?P<event>.+) is -?[\d.]+%\.",
    "joint": r"The probability of (?P<events>.+) is -?[\d.]+%\.",
    "law": r"(?:We know that )?(?P<causes>.+?) causes (?P<effects>.+?)"
    r"(?:, and we know that (?P<causes_2>.+?) causes (?P<effects_2>.+?))?\.",
    "observed": r"We observed (?P<facts>.+)\.",
    "method": r"Method [12]: We look (?:directly )?at (?:how (?P<name>.+?) correlates with (?P<name_2>.+?)"
    r"|this correlation)(?: in general| case by case according to (?P<names>.+))\.",
    "which_method": r"To understand how (?P<name>.+) affects (?P<name_2>.+), is it more correct to use the Method [12] "
    r"than Method [12]\?",
    "marginal": r"Is (?P<event>.+) (?:more|less) likely than (?P<opposite>.+) overall\?",
    "observing": r"Is the chance of (?P<event>.+) (?:larger|smaller) when observing (?P<event_2>.+)\?",
    "increase": r"Will (?P<event>.+) (?:in|de)crease the chance of (?P<event_2>.+)\?",
    "had_been": r"For (?P<given>.+), would it be (?:more|less) likely to see (?P<event>.+) if (?P<contrary>.+)\?",
    "through": r"Does (?P<name>.+) (?:positive|negative)ly affect (?P<name_2>.+) through (?P<names>.+)\?",
    "disregard": r"If we disregard the mediation effect through (?P<names>.+), would (?P<name>.+) "
    r"(?:positive|negative)ly affect (?P<name_2>.+)\?",
    "instead": r"Would (?P<event>.+) if (?P<event_2>.+) instead of (?P<opposite>.+)\?",
    "collider": r"If we look at (?P<given>.+), does it mean that (?P<event>.+) (?:affects|does not affect) "
    r"(?P<event_2>.+)\?",
    "explaining": r"If we look at (?P<given>.+), does the chance of (?P<event>.+) (?:in|de)crease when "
    r"(?P<event_2>.+)\?",
}  # fmt: skip
PATTERNS = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in CLAUSES.items()}
LISTS = {"names": LINK, "given": LINK, "events": LINK, "facts": LINK, "effects": LINK, "effects_2": LINK}
LISTS |= {"causes": re.compile(f"{LINK.pattern}|{ALTERNATIVE.pattern}"), "causes_2": LISTS["effects"]}
LISTS["causes_2"] = LISTS["causes"]


@dataclass(frozen=True)
class Phrase:
    """Characters of a prompt, the first and the one after the last, and the place in the clause that they fill."""

    start: int
    stop: int
    place: str
    text: str


@dataclass(frozen=True)
class Clause:
    """A sentence: its kind, a key of `CLAUSES`, and its phrases in the order in which they stand."""

    kind: str
    text: str
    phrases: tuple[Phrase, ...]

    def of(self, *places: str) -> list[Phrase]:
        return [phrase for phrase in self.phrases if phrase.place in places]


def clauses(prompt: str) -> list[Clause] | str:
    """The clauses of a prompt in order, after its opening up to a colon; or the first text that is none of them."""
    found: list[Clause] = []
    opening = INTRODUCTION.match(prompt)
    at = opening.end() if opening else 0
    for sentence in SENTENCE.finditer(prompt, at):
        for kind, pattern in PATTERNS.items():
            match = pattern.fullmatch(sentence.group())
            if match:
                found.append(Clause(kind, sentence.group(), tuple(_phrases(match, sentence.start()))))
                break
        else:
            return sentence.group()
        at = sentence.end()
    return prompt[at:].strip() or found


def _phrases(match: re.Match, offset: int) -> Iterator[Phrase]:
    spans = sorted((match.span(place), place) for place, text in match.groupdict().items() if text is not None)
    for (start, stop), place in spans:
        at = start
        for link in (*LISTS[place].finditer(match.string, start, stop), None) if place in LISTS else (None,):
            end = link.start() if link else stop
            yield Phrase(offset + at, offset + end, place, match.string[at:end])
            at = link.end() if link else stop
