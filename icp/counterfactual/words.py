"""English words in a text: where they are, their case, their plural, and the indefinite article before them."""

import re
from unicodedata import normalize

LETTERS = "[^\\W_]+(?:[\u0300-\u036f]+[^\\W_]*)*"
WORD = re.compile(f"{LETTERS}(?:['\u2019](?![sS]\\b){LETTERS})*")
"""Letters, with accents that are characters of their own, and digits, with apostrophes inside.

A hyphen parts words, and so does a possessive or contracted 's.
"""

ARTICLE = re.compile(r"(?<![^\W_])(an?)\s+\Z", re.IGNORECASE)
LEADING = re.compile(r"an?\s+(?=\S)", re.IGNORECASE)
VOWEL = re.compile(
    r"(?!eu|one\b|once\b|uni(?!n|m)|us[aeu]|ut[ei]|ur[aiou]|ub[ie]|ugan|uk[er])(?:[aeiou]|h(?:eir|onest|ono|our))",
    re.IGNORECASE,
)
IRREGULAR = {"man": "men", "child": "children", "person": "people", "wife": "wives", "hero": "heroes",
             "thief": "thieves"}  # fmt: skip
REGULAR_MEN = ("german", "human", "norman", "ottoman", "roman", "shaman", "talisman")


def joined(entry: str) -> str:
    """The words of an entry in lower case with one space between them."""
    return " ".join(plain(match.group()) for match in WORD.finditer(entry))


def plain(word: str) -> str:
    """In lower case, with a straight apostrophe, and each accent in one character with its letter."""
    return (word if word.isascii() else normalize("NFC", word)).lower().replace("\u2019", "'")


def plural(noun: str) -> str:
    """Of the noun's last word: a few irregular ones and what ends in them (`postman`, `housewife`), else -s or -es."""
    lower = noun.lower()
    for singular, irregular in IRREGULAR.items():
        if lower.endswith(singular) and not lower.endswith(REGULAR_MEN):
            return noun[: len(noun) - len(singular) + 1] + irregular[1:]
    if lower.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if lower.endswith("y") and lower[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def cased_like(new: str, old: str, listed: str) -> str:
    """The new word in the case that the old one has in the text, where a list has it as `listed`.

    An old word as it is listed leaves the new one as that is listed; one in lower case, in capitals, or with a capital
    for its first word or for each of them is followed; any other case leaves the new one as it is listed.
    """
    if old == listed:
        return new
    if old == old.lower():
        return new.lower()
    if old == old.upper() and sum(letter.isalpha() for letter in old) > 1:
        return new.upper()
    words = old.split()
    if all(word[:1].isupper() for word in words) and (len(words) > 1 or old[1:] == old[1:].lower()):
        return " ".join(word[:1].upper() + word[1:] for word in new.split(" "))
    if old[:1].isupper() and old[1:] == old[1:].lower():
        return new[:1].upper() + new[1:]
    return new


def with_article(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The span with the indefinite article directly before it, where there is one."""
    before = ARTICLE.search(text, max(0, span[0] - 8), span[0])
    return span if before is None else (before.start(1), span[1])


def without_article(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The span without an indefinite article that it begins with."""
    match = LEADING.match(text, *span)
    return span if match is None else (match.end(), span[1])


def article_for(word: str) -> str:
    """`an` before a vowel as it is spoken, by its spelling and a few exceptions; `a` otherwise."""
    return "an" if VOWEL.match(word) else "a"


def article_after(article: str, old: str, new: str) -> str:
    """The article in its case where it stands before the new word; one that did not go with the old word is left."""
    if article.lower() != article_for(old) or article_for(old) == article_for(new):
        return article
    other = article_for(new)
    if article == article.upper() and len(article) > 1:
        return other.upper()
    return other.capitalize() if article[0].isupper() else other


def with_its_article(text: str, span: tuple[int, int], old: str, new: str) -> tuple[tuple[int, int], str]:
    """What to replace by what, so that the new word takes the old one's place with an article that goes with it."""
    start, stop = with_article(text, span)
    before = text[start : span[0]]
    article = before.rstrip()
    if article and (other := article_after(article, old, new)) != article:
        return (start, stop), other + before[len(article) :] + new
    return span, new
