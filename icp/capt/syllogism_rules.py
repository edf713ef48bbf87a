"""Events of PrOntoQA's prompts: by the grammar of its sentences, and by its closed vocabulary."""

import re
from dataclasses import dataclass
from functools import lru_cache

from icp.capt.abstraction import Abstraction
from icp.capt.estimator import Estimator, Failure
from icp.data.ontologies import WORDS, Word
from icp.data.syllogisms import read_statements

PLAIN = {
    "a", "all", "an", "any", "are", "each", "every", "false", "following", "is", "it", "not", "or", "statement", "that",
    "the", "true",
}  # fmt: skip


@dataclass(frozen=True)
class SyllogismRules(Estimator):
    """Reads `Each X is a Y`, `Xs are not Z` and their like; any class, property or individual, known or not.

    Singular and plural are one variable, and `not` stays outside of what is found. A sentence of another make is a
    failure: what it says would be left standing.
    """

    def estimate(self, prompt: str) -> Abstraction | Failure:
        statements, strange = read_statements(prompt)
        if strange:
            told = f"no rule reads {strange[0]!r}: the sentences are of the make of 'Each X is a Y' and 'Xs are not Z'"
            return Failure(prompt, "a sentence that no rule reads", told)
        terms = [term for one in statements for term in (one.subject, one.predicate)]
        if not terms:
            return Failure(prompt, "no events", f"{prompt[:60]!r} says of nothing what it is")
        return Abstraction.of(prompt, [(term.start, term.stop, term.name, None) for term in terms])


@dataclass(frozen=True)
class ClosedVocabulary(Estimator):
    """Gold for PrOntoQA: the longest words of a closed list, whatever the sentence that they stand in.

    A prompt with any other word than those of PrOntoQA's phrasings has no gold, and is a failure that says so.
    """

    words: tuple[Word, ...] = WORDS

    @property
    def label(self) -> str:
        return f"ClosedVocabulary({', '.join('/'.join(word.forms) for word in self.words)})"

    def estimate(self, prompt: str) -> Abstraction | Failure:
        pattern, names = _pattern(self.words)
        found, rest, at = [], [], 0
        for one in pattern.finditer(prompt):
            found.append((one.start(), one.end(), names[one[0].lower()], None))
            rest.append(prompt[at : one.start()])
            at = one.end()
        unknown = [word for part in (*rest, prompt[at:]) for word in re.findall(r"\w+", part)]
        unknown = [word for word in unknown if word.lower() not in PLAIN]
        if unknown or not found:
            told = f"{unknown[0]!r} is not in the closed vocabulary" if unknown else f"{prompt[:60]!r} has none of it"
            return Failure(prompt, "no gold", told)
        return Abstraction.of(prompt, found)


@lru_cache(maxsize=8)
def _pattern(words: tuple[Word, ...]) -> tuple[re.Pattern, dict[str, str]]:
    """What finds each form of each word, the longest first, and the singular of each form."""
    names = {form.lower(): word.singular for word in words for form in word.forms}
    forms = sorted({form for word in words for form in word.forms}, key=len, reverse=True)
    either = [f"[{form[0]}{form[0].upper()}]{re.escape(form[1:])}" for form in forms]
    return re.compile(r"\b(?:" + "|".join(either) + r")\b"), names
