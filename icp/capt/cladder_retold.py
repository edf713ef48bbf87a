"""CLadder's problems told and asked in ways that it does not have, to test on what was not trained on."""

from collections.abc import Sequence
from dataclasses import replace

from icp.capt.cladder_grammar import INTRODUCTION, NEW_FACTS, NEW_QUESTIONS, OPENING, clauses
from icp.data.problems import Problem
from icp.errors import DataError


def reworded(problem: Problem, facts: bool = True, question: bool = False) -> Problem:
    """A problem of CLadder whose `facts` or `question` are told by templates of our own.

    Those are direct effects, probabilities overall and of one event under conditions, and the opening; other kinds of
    fact stay as they are. Events, figures, the order of facts, the answer and the skeleton stay too. Raises `DataError`
    for a prompt that is not of CLadder's grammar, of which nothing can be told otherwise, or whose question cannot.
    """
    found = clauses(problem.prompt)
    if isinstance(found, str):
        raise DataError(f"{problem.prompt[:60]!r} cannot be told otherwise: {found[:60]!r} is no clause of CLadder's")
    if question and not any(clause.kind in NEW_QUESTIONS for clause in found):
        raise DataError(f"{problem.prompt[-60:]!r} does not end in a question that can be asked otherwise")
    templates = (NEW_FACTS if facts else {}) | (NEW_QUESTIONS if question else {})
    opening = INTRODUCTION.match(problem.prompt)
    told = [OPENING if facts else opening.group().rstrip()] if opening else []
    told += [
        templates[clause.kind].format_map(clause.places) if clause.kind in templates else clause.text
        for clause in found
    ]
    if (prompt := " ".join(told)) == problem.prompt:
        raise DataError(f"{problem.prompt[:60]!r} has nothing that can be told otherwise")
    return replace(problem, prompt=prompt)


def cladder_told_otherwise(problems: Sequence[Problem]) -> list[Problem]:
    """Test problems of CLadder as they are, and each twice over: "paraphrased" and "new question" join its `split`."""
    return [
        *problems,
        *(replace(reworded(one), split=f"{one.split}, paraphrased") for one in problems),
        *(replace(reworded(one, facts=False, question=True), split=f"{one.split}, new question") for one in problems),
    ]
