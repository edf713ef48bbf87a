"""A prompt with its events found: which characters say which variable, and whether they say that it holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from icp.errors import DataError

PLACEHOLDER = re.compile(r"\{symbol_(\d+)\}")
ARTICLE = re.compile(r"\b([Aa])n?(?= $)")
VOWEL_LETTER = re.compile("[AEFHILMNORSX]")
VOWEL_SOUND = re.compile(r"(?!uni[^mn]|one|eu|us[eu])[aeiou]|8|1[18]\b", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Mention:
    """Characters of a prompt, the first and the one after the last, that say the variable numbered `slot`.

    `holds` is True where they say that it is so ("smokers"), False where they say that it is not ("nonsmokers"), None
    where they name the variable ("smoking") or the polarity stands in words outside of them ("is not [furry]").
    """

    start: int
    stop: int
    slot: int
    holds: bool | None = None


@dataclass(frozen=True)
class Abstraction:
    """A prompt and its mentions, in order and apart. `of` counts slots from 0 in the order of their first mention.

    A text that goes with a prompt, such as its reasoning, keeps the slots of the prompt, in whatever order.

    Raises `DataError` where mentions overlap or lie outside of the prompt.
    """

    prompt: str
    mentions: tuple[Mention, ...]

    def __post_init__(self):
        at = 0
        for mention in self.mentions:
            if not at <= mention.start < mention.stop <= len(self.prompt):
                told = self.prompt[mention.start : mention.stop]
                raise DataError(f"the event {told!r} of {self.prompt[:60]!r} overlaps another or lies outside of it")
            if mention.slot < 0:
                raise DataError(f"slot {mention.slot} of {self.prompt[:60]!r} is below 0: count from 0")
            at = mention.stop

    @classmethod
    def of(cls, prompt: str, found: Sequence[tuple[int, int, str, bool | None]]) -> "Abstraction":
        """From characters with the name of their variable, in any order; slots are numbered by first mention."""
        slots: dict[str, int] = {}
        mentions = []
        for start, stop, name, holds in sorted(found, key=lambda one: one[:2]):
            mentions.append(Mention(start, stop, slots.setdefault(name, len(slots)), holds))
        return cls(prompt, tuple(mentions))

    @property
    def slots(self) -> int:
        """How many variables there are."""
        return 1 + max((mention.slot for mention in self.mentions), default=-1)

    def surface(self, mention: Mention) -> str:
        return self.prompt[mention.start : mention.stop]

    @property
    def text(self) -> str:
        """The abstract prompt: `{symbol_1}` for the first variable, `not {symbol_1}` where it is said not to hold."""
        return self.filled([f"{{symbol_{slot + 1}}}" for slot in range(self.slots)])

    def filled(self, symbols: Sequence[str]) -> str:
        """The prompt with a symbol in the place of each variable's mentions, one a slot."""
        words = (symbols[mention.slot] for mention in self.mentions)
        return self.worded([f"not {one}" if m.holds is False else one for m, one in zip(self.mentions, words)])

    def worded(self, words: Sequence[str]) -> str:
        """The prompt with other words, one a mention; `a` or `an` before a mention agrees with what now follows."""
        parts, at = [], 0
        for mention, word in zip(self.mentions, words, strict=True):
            before = self.prompt[at : mention.start]
            parts += (before if word == self.surface(mention) else agreeing(before, word), word)
            at = mention.stop
        return "".join((*parts, self.prompt[at:]))


def agreeing(before: str, word: str) -> str:
    """A text that ends in an indefinite article with the one that `word` takes; other texts as they are.

    A word of capitals is read letter by letter.
    """
    vowel = VOWEL_LETTER if word.isupper() else VOWEL_SOUND
    article = "an" if vowel.match(word) else "a"
    return ARTICLE.sub(lambda found: article.capitalize() if found[1] == "A" else article, before)
