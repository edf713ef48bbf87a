"""PrOntoQA in other words: against what is true, in words that mean nothing, rephrased, and with more symbols."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from icp.capt.abstracted import Abstracted, abstract
from icp.capt.abstraction import agreeing
from icp.capt.estimator import Failure
from icp.capt.inverse import names_of
from icp.capt.renaming import NAMES, Names, renamed
from icp.capt.syllogism_rules import SyllogismRules
from icp.capt.symbols import CONSONANTS
from icp.data.ontologies import WORDS, Word
from icp.data.problems import Problem
from icp.data.syllogisms import Statement, plural, read_statements, skeleton_of
from icp.errors import DataError

TRIES = 200
PHRASINGS = {
    "each": "each {one} is {negated}{a}",
    "every": "every {one} is {negated}{a}",
    "plural": "{some} are {negated}{many}",
    "all": "all {some} are {negated}{many}",
    "any": "any {one} is {negated}{a}",
    "a": "{an} is {negated}{a}",
}
"""How a fact is told: PrOntoQA's first three, and three that it does not have."""
QUESTIONS = ("True or false: {}", "Is the following statement true or false? {}", "Is it true or false that {}?")


@dataclass(frozen=True)
class Ontology:
    """What holds of classes: (class, class or property, whether it has it), with all that follows.

    What is true of the world and said by no row is not known here.
    """

    held: frozenset[tuple[str, str, bool]]

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "Ontology":
        """The facts of all prompts together, and what follows for the classes within classes."""
        told = {fact for one in problems for fact in _facts(one.prompt)}
        above: dict[str, set[tuple[str, bool]]] = {}
        for subject, predicate, holds in told:
            above.setdefault(subject, set()).add((predicate, holds))
        closed = set()
        for subject in above:
            known, new = set(), set(above[subject])
            while new:
                known |= new
                new = {more for name, holds in new if holds for more in above.get(name, ())} - known
            closed |= {(subject, *one) for one in known}
        return cls(frozenset(closed))

    def any_true(self, prompt: str) -> bool:
        """Whether a fact of the prompt holds."""
        return any(fact in self.held for fact in _facts(prompt))


def _facts(prompt: str) -> set[tuple[str, str, bool]]:
    statements, _ = read_statements(prompt)
    return {(one.subject.name, one.predicate.name, one.holds) for one in statements if not one.individual}


def anti_sense(problem: Problem, ontology: Ontology, seed: int = 0) -> Problem:
    """The problem told of other real classes, properties and individuals, none of whose facts holds.

    What follows stays, and so does the answer. Raises `DataError` where no such names are found.
    """
    row, rng = _row(problem), random.Random(f"{seed}/{problem.prompt}")
    for _ in range(TRIES):
        found = renamed(row, Names(), rng)
        if not ontology.any_true(found.prompt):
            return replace(found, split="anti", story=None)
    raise DataError(f"{TRIES} draws of other names for {problem.prompt[:60]!r} all said something true")


def non_sense(problem: Problem, seed: int = 0) -> Problem:
    """The problem told in invented words, drawn afresh for this row; its individuals have other real names."""
    row, rng = _row(problem), random.Random(f"{seed}/{problem.prompt}")
    made = _invented(2 * row.abstraction.slots, rng, problem.prompt)
    classes = [Word(one, "class", "nonsense", plural(one)) for one in made[::2]]
    properties = [Word(one, "property", "nonsense") for one in made[1::2]]
    people = [word for word in NAMES if word.kind == "individual"]
    return replace(renamed(row, Names((*classes, *properties, *people)), rng), split="nonsense", story=None)


def retold(
    problem: Problem, phrasings: Sequence[str], seed: int = 0, question: str = QUESTIONS[0], shuffled: bool = False
) -> Problem:
    """The problem with each fact told in one of `phrasings`, drawn at random, in the prompt and the reasoning alike.

    `question` has `{}` for what is asked about; `shuffled` puts the facts into another order. To hold phrasings out,
    train on rows told in some of `PHRASINGS`, and test on others. Raises `DataError` for a phrasing that there is not.
    """
    for name in phrasings:
        if name not in PHRASINGS:
            raise DataError(f"there is no phrasing {name!r}: there are {', '.join(PHRASINGS)}")
    if not phrasings or question.count("{}") != 1:
        raise DataError(f"{phrasings} and {question!r}: give a phrasing or more, and a question with one {{}}")
    row, rng = _row(problem), random.Random(f"{seed}/{problem.prompt}")
    slot_of = {mention.start: mention.slot for mention in row.abstraction.mentions}
    *facts, asked = read_statements(problem.prompt)[0]
    pairs = names_of(row.abstraction)
    names = {term.name: pairs[slot_of[term.start]] for one in (*facts, asked) for term in (one.subject, one.predicate)}
    classes = {one.subject.name for one in facts if not one.individual}
    classes |= {one.predicate.name for one in facts if len(set(names[one.predicate.name])) == 2}
    chosen = {_said(one): PHRASINGS[rng.choice(phrasings)] for one in facts if not one.individual}

    def told(one):
        return _told(one, chosen.get(_said(one), "{one} is {negated}{a}"), names, classes)

    sentences = [told(one) for one in facts]
    if shuffled:
        rng.shuffle(sentences)
    claim = told(asked)
    prompt = " ".join(sentences) + "\n" + question.format(claim.removesuffix(".") if question.endswith("?") else claim)
    worked = problem.reasoning and " ".join(told(one) for one in read_statements(problem.reasoning)[0])
    return replace(problem, prompt=prompt, reasoning=worked)


def with_more_symbols(problem: Problem, slots: int, seed: int = 0) -> Problem:
    """The problem with facts on further classes among its own, so that it says `slots` variables; the answer stays.

    What is added is invented, and the individual belongs to none of it. The skeleton is that of the longer prompt.
    Raises `DataError` where it says as many variables already.
    """
    row, rng = _row(problem), random.Random(f"{seed}/{problem.prompt}")
    have = row.abstraction.slots
    if slots <= have:
        raise DataError(f"{problem.prompt[:60]!r} says {have} variables already: ask for more than {slots}")
    first = next(one for one in read_statements(problem.prompt)[0] if not one.individual)
    facts, _, question = problem.prompt.rpartition("\n")
    sentences = [f"{part.removesuffix('.')}." for part in facts.split(". ")]
    slot = next(mention.slot for mention in row.abstraction.mentions if mention.start == first.subject.start)
    above, _ = names_of(row.abstraction)[slot]
    for word in _invented(slots - have, rng, problem.prompt):
        sentences.insert(rng.randrange(len(sentences)), agreeing("Each {} is a ", above).format(word) + f"{above}.")
        above = word
    prompt = " ".join(sentences) + "\n" + question
    *said, asked = read_statements(prompt)[0]
    return replace(problem, prompt=prompt, skeleton=skeleton_of(said, asked))


def _row(problem: Problem) -> Abstracted:
    row = abstract(problem, SyllogismRules())
    if isinstance(row, Failure):
        raise DataError(f"{problem.prompt[:60]!r} cannot be told otherwise: {row.told}")
    return row


def _said(one: Statement) -> tuple[str, str, bool]:
    return one.subject.name, one.predicate.name, one.holds


def _told(one: Statement, phrasing: str, names: dict[str, tuple[str, str]], classes: set[str]) -> str:
    (subject, subjects), (predicate, predicates) = names[one.subject.name], names[one.predicate.name]
    a = agreeing("a ", predicate) + predicate if one.predicate.name in classes else predicate
    said = phrasing.format(
        one=subject, some=subjects, a=a, many=predicates, negated="" if one.holds else "not ",
        an=agreeing("a ", subject) + subject,
    )  # fmt: skip
    return f"{said[0].upper()}{said[1:]}."


def _invented(count: int, rng: random.Random, text: str) -> list[str]:
    """Words of five letters that a text and PrOntoQA do not have, nor one that denies."""
    known = {form for word in WORDS for form in word.forms} | set(text.split()) | {"never"}
    found: dict[str, None] = {}
    while len(found) < count:
        made = "".join(rng.choice(CONSONANTS).lower() + rng.choice("aeiou") for _ in range(2)) + rng.choice(
            "bdgklmnprt"
        )
        if made not in known:
            found[made] = None
    return list(found)
