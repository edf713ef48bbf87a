"""The closed grammar of PrOntoQA's sentences: classes, their properties, and an individual, in a few phrasings."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

SENTENCE = re.compile(r"[^.?!:\n]+[.?!:]?")
FRAME = re.compile(r"(?:true or false|is the following statement true or false)[:?]", re.IGNORECASE)
ASKED = re.compile(r"is it (?:true or false|true|false) that ", re.IGNORECASE)
WORDS = r"[\w'-]+(?: [\w'-]+){0,3}?"
SAYS = re.compile(
    rf"(?:(each|every|any|an?|all) )?({WORDS}) (is|are) (not )?(?:an? )?({WORDS})[.?!]?", re.IGNORECASE
)  # fmt: skip
NO_SUBJECT = {
    "there", "it", "this", "that", "these", "those", "he", "she", "they", "we", "you", "i", "what", "who", "how",
}  # fmt: skip
IRREGULAR = {
    "children": "child", "deer": "deer", "fish": "fish", "geese": "goose", "men": "man", "mice": "mouse",
    "people": "person", "sheep": "sheep", "women": "woman",
}  # fmt: skip
PLURAL = {one: many for many, one in IRREGULAR.items()}


@dataclass(frozen=True)
class Term:
    """Where a word or a few stand in a text, and the `name` of what they say: their singular, without capitals."""

    start: int
    stop: int
    name: str


@dataclass(frozen=True)
class Statement:
    """That all of a class, or an individual, belongs to a class or has a property, or does not (`holds`)."""

    subject: Term
    predicate: Term
    individual: bool
    holds: bool


def read_statements(text: str) -> tuple[list[Statement], list[str]]:
    """The statements of a text in order, the one that is asked about among them, and the sentences that are none."""
    found, strange = [], []
    for sentence in SENTENCE.finditer(text):
        start = sentence.start() + len(sentence[0]) - len(sentence[0].lstrip())
        said = sentence[0].strip()
        if not said or FRAME.fullmatch(said):
            continue
        if asked := ASKED.match(said):
            start, said = start + asked.end(), said[asked.end() :]
        parts = SAYS.fullmatch(said)
        if parts is None or parts[2].lower() in NO_SUBJECT:
            strange.append(said)
            continue
        plural = parts[3].lower() == "are"
        individual = parts[1] is None and not plural
        subject = parts[2] if individual else _name(parts[2], plural)
        found.append(
            Statement(
                Term(start + parts.start(2), start + parts.end(2), subject),
                Term(start + parts.start(5), start + parts.end(5), _name(parts[5], plural)),
                individual,
                parts[4] is None,
            )
        )
    return found, strange


def _name(words: str, plural: bool) -> str:
    return singular(words.lower()) if plural else words.lower()


def singular(words: str) -> str:
    """The singular of a plural that English forms by rule, such as `painted ladies`; other words as they are."""
    front, _, last = words.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif last.endswith("ies") and len(last) > 4:
        last = last[:-3] + "y"
    elif last.endswith(("uses", "sses", "xes", "ches", "shes")):
        last = last[:-2]
    elif len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is")):
        last = last[:-1]
    return f"{front} {last}".strip()


def plural(words: str) -> str:
    """The plural that English forms by rule, and a few that it does not."""
    if words in PLURAL:
        return PLURAL[words]
    if re.search(r"[^aeiou]y$", words):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("s", "x", "ch", "sh")) else "s")


def skeleton_of(facts: Iterable[Statement], asked: Statement) -> str:
    """A digest of what is said and asked about, without words, phrasing, order and polarities.

    Polarities are left out because the answer is whether those of the question and of what follows agree: were two
    texts that differ in them alone held apart, the words of the question would give away the answers to train on, and
    the same rule would be wrong about those to test on.

    Colours of a graph are refined from its neighbourhoods (Weisfeiler and Leman 1968): texts that differ in names alone
    have one digest.
    """
    facts = list(facts)
    colours: dict[str, str] = {}
    for one in (*facts, asked):
        colours[one.subject.name] = "individual" if one.individual else colours.get(one.subject.name, "")
        colours.setdefault(one.predicate.name, "")
    colours[asked.predicate.name] = "asked"
    for _ in range(len(colours)):
        said: dict[str, list[str]] = {name: [colour] for name, colour in colours.items()}
        for one in facts:
            subject, predicate = one.subject.name, one.predicate.name
            said[subject].append(f">{colours[predicate]}")
            said[predicate].append(f"<{colours[subject]}")
        refined = {name: _digest([own, *sorted(others)]) for name, (own, *others) in said.items()}
        if len(set(refined.values())) == len(set(colours.values())):
            break
        colours = refined
    return _digest(sorted(refined.values()))


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
