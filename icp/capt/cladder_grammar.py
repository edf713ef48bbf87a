"""The closed grammar of CLadder's prompts: each sentence is one of a few clauses, its phrases stand in known places.

Jin et al., NeurIPS 2023 (arXiv 2312.04350). The grammar is public and was read off all prompts of the data at hand. It
knows no story: what a phrase says, and of which variable, is found by others.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

INTRODUCTION = re.compile(r"(?:Imagine[^:]*|Suppose[^:.?]*):\s*")
FRAME = frozenset(["conditions", "factors", "relationships", "unobserved"])
"""Words of the opening and of a clause that stories say too: for `Validator(FRAME)`, which lets them stand."""
SENTENCE = re.compile(r"\S.*?[.?](?=\s|$)", re.DOTALL)
ALTERNATIVE = re.compile(r"\s+or\s+(?!(?:higher|lower|more|less)\b)")
LINK = re.compile(r"\s+and\s+")

CLAUSES = {
    "effect": r"(?P<name>.+?) has a direct effect on (?P<names>.+)\.",
    "unobserved": r"(?P<name>.+) is unobserved\.",
    "correlation": r"For (?P<given>.+), the correlation between (?P<event>.+) and (?P<event_2>.+) is -?[\d.]+\.",
    "conditional": r"For (?P<given>.+), the probability of (?P<event>.+) is (?P<word>-?[\d.]+)%\.",
    "overall": r"The overall probability of (?P<event>.+) is (?P<word>-?[\d.]+)%\.",
    "joint": r"The probability of (?P<events>.+) is -?[\d.]+%\.",
    "law": r"(?:We know that )?(?P<causes>.+?) causes (?P<effects>.+?)"
    r"(?:, and we know that (?P<causes_2>.+?) causes (?P<effects_2>.+?))?\.",
    "observed": r"We observed (?P<facts>.+)\.",
    "method": r"Method [12]: We look (?:directly )?at (?:how (?P<name>.+?) correlates with (?P<name_2>.+?)"
    r"|this correlation)(?: in general| case by case according to (?P<names>.+))\.",
    "which_method": r"To understand how (?P<name>.+) affects (?P<name_2>.+), is it more correct to use the Method "
    r"(?P<word>[12]) than Method [12]\?",
    "marginal": r"Is (?P<event>.+) (?P<word>more|less) likely than (?P<opposite>.+) overall\?",
    "observing": r"Is the chance of (?P<event>.+) (?P<word>larger|smaller) when observing (?P<event_2>.+)\?",
    "increase": r"Will (?P<event>.+) (?P<word>in|de)crease the chance of (?P<event_2>.+)\?",
    "had_been": r"For (?P<given>.+), would it be (?P<word>more|less) likely to see (?P<event>.+) if (?P<contrary>.+)\?",
    "through": r"Does (?P<name>.+) (?P<word>positive|negative)ly affect (?P<name_2>.+) through (?P<names>.+)\?",
    "disregard": r"If we disregard the mediation effect through (?P<names>.+), would (?P<name>.+) "
    r"(?P<word>positive|negative)ly affect (?P<name_2>.+)\?",
    "instead": r"Would (?P<event>.+) if (?P<event_2>.+) instead of (?P<opposite>.+)\?",
    "collider": r"If we look at (?P<given>.+), does it mean that (?P<event>.+) (?P<word>affects|does not affect) "
    r"(?P<event_2>.+)\?",
    "explaining": r"If we look at (?P<given>.+), does the chance of (?P<event>.+) (?P<word>in|de)crease when "
    r"(?P<event_2>.+)\?",
}  # fmt: skip
OPENING = "Suppose that only what follows holds, and that nothing else has any effect:"
NEW_FACTS = {
    "effect": "{name} directly affects {names}.",
    "conditional": "The probability of {event} is {word}% for {given}.",
    "overall": "Overall, the probability of {event} is {word}%.",
}
NEW_QUESTIONS = {
    "which_method": "Is Method {word} the more correct one to understand how {name} affects {name_2}?",
    "marginal": "Overall, is {event} {word} likely than {opposite}?",
    "observing": "When observing {event_2}, is the chance of {event} {word}?",
    "increase": "Is the chance of {event_2} {word}creased by {event}?",
    "had_been": "Would it be {word} likely to see {event} for {given} if {contrary}?",
    "through": "Through {names}, does {name} {word}ly affect {name_2}?",
    "disregard": "Would {name} {word}ly affect {name_2} if we disregard the mediation effect through {names}?",
    "instead": "If {event_2} instead of {opposite}, would {event}?",
    "collider": "Does it mean that {event} {word} {event_2} if we look at {given}?",
    "explaining": "Does the chance of {event} {word}crease when {event_2}, if we look at {given}?",
}
"""Ways to say and to ask the same that CLadder does not have, for what is tested on and was not trained on."""


def _pattern_of(kind: str, template: str) -> str:
    """A template with what may stand in its places; its `word` is one of those that the clause has."""
    word = re.search(r"\(\?P<word>.*?\)", CLAUSES[kind])
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(template).replace(r"\_", "_"))
    return pattern.replace("(?P<word>.+)", word.group() if word else "")


PATTERNS = [
    (kind, re.compile(pattern, re.DOTALL))
    for kind, pattern in [
        *CLAUSES.items(),
        *((kind, _pattern_of(kind, template)) for kind, template in (NEW_FACTS | NEW_QUESTIONS).items()),
    ]
]
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
    """A sentence: its kind, a key of `CLAUSES`, its phrases in the order in which they stand, and its places' text.

    Of `places` one may be the `word` that is no phrase: a figure, or one of several that the clause chooses from.
    """

    kind: str
    text: str
    phrases: tuple[Phrase, ...]
    places: Mapping[str, str]

    def of(self, *places: str) -> list[Phrase]:
        return [phrase for phrase in self.phrases if phrase.place in places]


def clauses(prompt: str) -> list[Clause] | str:
    """The clauses of a prompt in order, after its opening up to a colon; or the first text that is none of them."""
    found: list[Clause] = []
    opening = INTRODUCTION.match(prompt)
    at = opening.end() if opening else 0
    for sentence in SENTENCE.finditer(prompt, at):
        for kind, pattern in PATTERNS:
            match = pattern.fullmatch(sentence.group())
            if match:
                phrases = tuple(_phrases(match, sentence.start()))
                places = {place: text for place, text in match.groupdict().items() if text}
                found.append(Clause(kind, sentence.group(), phrases, places))
                break
        else:
            return sentence.group()
        at = sentence.end()
    return prompt[at:].strip() or found


def _phrases(match: re.Match, offset: int) -> Iterator[Phrase]:
    spans = sorted((match.span(place), place) for place, text in match.groupdict().items() if text and place != "word")
    for (start, stop), place in spans:
        at = start
        for link in (*LISTS[place].finditer(match.string, start, stop), None) if place in LISTS else (None,):
            end = link.start() if link else stop
            yield Phrase(offset + at, offset + end, place, match.string[at:end])
            at = link.end() if link else stop
