"""Words of our own that rules read phrases by: what shares a root, what tells a topic, and what denies."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
APOSTROPHE = re.compile(r"'(?:s\b|t\b|(?=\s|$))")
GROUP = re.compile(r"^(?:people|patients|children|infants|farms|areas|situations|students|individuals) with ")
PREFIX = re.compile(r"^(?:non-?(?=[a-z]{4})|un(?!i(?:on|q|t|f|v)|der|til|less)(?=[a-z]{5}))")
ENDING = re.compile(
    r"(?<=[a-z]{3})s$|(?<=[a-z]{4})(?:iveness|fulness|ability|ation|ness|ment|ence|ency|ance|ity|ive|ing|ion|ent|ant|ies"
    r"|ous|ed|er|es|al|ic|s|e|y)$"
)

EMPTY = frozenset(
    """
    a all an and any are as at be been being by can cannot could days decides did do does doesn don experiences for
    from get gets getting gotten got had has have having if in individual individuals is it level levels many more my no
    non not of on only or patient patients people person place resident situation situations status student students
    than that the their there these they this those to was were when where which who with would
    """.split()  # noqa: SIM905
)
"""Words that say nothing of a variable, or name only those whom it is about."""

TOPICS = {
    "gender": "male female man woman men women",
    "age": "old young youth elderly",
    "season": "rainy dry",
    "weather": "rain rains rainy sunny",
    "personality": "kind kindness mean meanness",
    "effort": "hard-working lazy",
    "education": "degree degrees",
    "proximity": "close far near living lives",
    "lifespan": "life",
    "mood": "happy sad happiness sadness saddness",
    "survival": "survives dies death dead lives alive",
    "prisoner": "dead alive",
    "poverty": "poor rich",
    "costs": "bill bills pay pays paid",
    "quality": "clean polluted",
    "residency": "in-state out-of-state",
    "occupation": "job jobs worker workers",
    "relationship": "single married",
    "appearance": "attractive",
    "decision": "elevator stairs",
    "habit": "study studying",
    "admission": "accepted rejected admitted acceptance rejection",
    "disease": "dying dies recovering recovers",
    "vitmain": "vitamin",
    "wife": "wives",
    "foot": "feet",
    "forest": "burns fire",
    "drug": "medication",
    "obesity": "weight",
    "factors": "confounder",
    "confounders": "confounder",
    "ability": "able swim",
    "fame": "famous",
    "man": "blow blowing blown",
    "smoker": "chain-smoker",
    "maternal": "mother mothers",
    "waking": "wakes wake gotten",
    "arriving": "arrives arrive",
}
"""Words that tell a topic and have not its root."""

NEGATIONS = frozenset(["not", "no", "cannot", "without", "lack", "lacks", "absence", "avoid", "avoids", "avoided"])
"""Words that deny in any story."""

DENIALS = NEGATIONS | frozenset(
    """
    refuse refuses refusing refused refusal deficiency prevention discouragement low lower reduced decreased small few
    poor young youth thin short straight blue blond local out-of-state inactive polluted problems late dry off bright
    sad sadness saddness mean meanness lazy reject rejects rejected rejection silent single pale stairs
    """.split()  # noqa: SIM905
)
"""Words that say that a thing is not so, or the lesser of two opposites."""

FATAL = frozenset(["die", "dies", "dying", "died", "death", "dead"])
"""Words of death: an event like others, and the denial of survival."""

CURED = re.compile(r"\brecover\w* from\b")
FATE = re.compile(r"\b(?:recover|die|dying|death)")


@dataclass(frozen=True)
class Lexicon:
    """Which words tell a topic, as pairs (word, topic), and which deny."""

    topics: frozenset[tuple[str, str]] = field(
        default=frozenset((word, topic) for topic, told in TOPICS.items() for word in told.split()), repr=False
    )
    denials: frozenset[str] = field(default=DENIALS, repr=False)

    @property
    def digest(self) -> str:
        """Eight characters that change with the words."""
        return sha256(repr((sorted(self.topics), sorted(self.denials))).encode()).hexdigest()[:8]

    def without(self, said: Iterable[str]) -> "Lexicon":
        """The lexicon without the words of some phrases, negations kept: as it would be, had they never been seen."""
        gone = {word for phrase in said for word in WORD.findall(phrase.lower())}
        return Lexicon(
            frozenset(pair for pair in self.topics if pair[0] not in gone), self.denials - (gone - NEGATIONS)
        )


@lru_cache(maxsize=1 << 14)
def words(text: str) -> tuple[str, ...]:
    """The words of a phrase that say what it is about, in order; the people are put aside in "people with ..."."""
    plain = APOSTROPHE.sub(" ", GROUP.sub("", text.lower()))
    return tuple(PREFIX.sub("", word) for word in WORD.findall(plain) if word not in EMPTY and len(word) > 1)


@lru_cache(maxsize=1 << 16)
def closeness(word: str, other: str, lexicon: Lexicon) -> float:
    """How far a word tells the other: 1.5 where the lexicon has it tell that topic, 1 for a common root, else 0."""
    if (word, other) in lexicon.topics:
        return 1.5
    root, branch = sorted((ENDING.sub("", word), ENDING.sub("", other)), key=len)
    return float(root == branch or (len(root) >= 4 and branch.startswith(root) and len(branch) - len(root) < 4))


@lru_cache(maxsize=1 << 16)
def likeness(text: str, name: str, lexicon: Lexicon) -> float:
    """How far a phrase tells what another names, 0 to about 1.5: Dice's share of common words, the last one above all.

    The last word of a phrase is most often its head ("smoking gene" is a gene).
    """
    said, named = words(text), words(name)
    if not said or not named:
        return 0.0
    found = [max(closeness(word, other, lexicon) for other in named) for word in said]
    return (2 * sum(found) + 0.2 * (found[-1] > 0)) / (len(said) + len(named))


def denies(text: str, lexicon: Lexicon, fate: bool = False) -> bool:
    """Whether a phrase says that something is not so: by an odd number of denials, prefixes included.

    `fate` counts death as a denial too.
    """
    found = WORD.findall(text.lower().replace("n't", " not"))
    denials = lexicon.denials | FATAL if fate else lexicon.denials
    return sum((word in denials) + bool(PREFIX.match(word)) for word in found) % 2 == 1


def opposed(text: str, other: str, lexicon: Lexicon) -> bool:
    """Whether two phrases about one thing say opposite things of it ("recovers from scurvy" and "scurvy")."""
    texts = (text.lower(), other.lower())
    cured = sum(bool(CURED.search(one)) and not FATE.search(two) for one, two in (texts, texts[::-1]))
    return (denies(text, lexicon, fate=True) + denies(other, lexicon, fate=True) + cured) % 2 == 1


ENGLISH = Lexicon()
"""The words of this module."""
