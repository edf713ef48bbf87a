"""PrOntoQA: is what follows from a few made-up or true facts true or false?

Saparov and He, ICLR 2023 (arXiv 2210.01240). Two published forms: Logic-LM's `dev.json` (Pan et al. 2023), whose
classes are invented, and the true ontology of `{"next_steps": [...]}`, whose facts hold of animals and numbers.
"""

from pathlib import Path
from typing import Any

from icp.data.ontologies import family
from icp.data.problems import Problem
from icp.data.reader import read
from icp.data.schema import Choice, Form, Schema
from icp.data.syllogisms import Statement, read_statements, skeleton_of
from icp.errors import DataError

ANSWERS = ("True", "False")


def _fictional(row: dict[str, Any]) -> list[Problem]:
    return [_problem(row["context"], row["question"], row["answer"], row["explanation"], "fictional")]


def _true(rows: dict[str, Any]) -> list[Problem]:
    found = []
    for index, row in enumerate(rows["next_steps"]):
        claims, steps = row["claims"], row["next_steps"]
        last = steps[-1] if steps else None
        if len(claims) != len(steps) or last != "Finish.":
            raise DataError(
                f"next_steps[{index}] has {len(claims)} claims and {len(steps)} steps, the last {last!r}: each "
                "claim has a step that follows it, and the last is 'Finish.'"
            )
        reasoning = [claims[0], *(part for pair in zip(steps[:-1], claims[1:]) for part in pair)]
        try:
            answer = _follows(claims[-1], row["Query"])
            found.append(_problem(f"{row['Facts']} {claims[0]}", row["Query"], answer, reasoning, "true"))
        except DataError as error:
            raise DataError(f"next_steps[{index}]: {error}") from error
    return found


PRONTOQA = Schema(
    "PrOntoQA",
    (
        Form(
            {
                "context": str, "question": str, "answer": Choice({"A": "True", "B": "False"}), "explanation": [str],
            },
            _fictional,
            answer="answer",
        ),
        Form({"next_steps": [{"Facts": str, "Query": str, "claims": [str], "next_steps": [str]}]}, _true),
    ),
    {"validation": ("dev.json", "logiclm_dev.json"), "true": ("prontoqa.json",)},
)  # fmt: skip


def prontoqa(
    source: "str | Path", split: str | None = None, config: str | None = None, *, unanswered: list[str] | None = None
) -> list[Problem]:
    """Problems with the answers True and False: facts, what the individual is, and on a line of its own the question.

    The reasoning alternates what is known of the individual with the fact that is used next, of which there are as many
    as `query_type` has hops. `split` of a problem is fictional or true. Rows of the true ontology have no answer: it is
    True where the last claim is what is asked, and False where it is its denial.

    Invented ones without an answer are refused; where there is a list `unanswered` they are left out, and the place of
    each is added to it. Raises `DataError` where a row has another schema, or its last claim neither says nor denies
    what is asked.
    """
    return read(PRONTOQA, source, split, config, unanswered)


def _problem(facts: str, question: str, answer: str, reasoning: list[str], split: str) -> Problem:
    prompt = f"{facts}\n{question}"
    statements, strange = read_statements(prompt)
    if strange or len(statements) < 2:
        told = strange[0] if strange else prompt[:60]
        raise DataError(f"{told!r} does not say of a class or an individual what it is: PrOntoQA's sentences do")
    [first, *_] = [one for one in statements if one.individual]
    skeleton, story = skeleton_of(statements[:-1], statements[-1]), family(first.predicate.name)
    return Problem(
        prompt, answer, ANSWERS, " ".join(reasoning), split, story, skeleton, hops_told(len(reasoning) // 2)
    )  # fmt: skip


def hops_told(hops: int) -> str:
    """The type of a query that takes so many facts in a row to answer."""
    return f"{hops} hop" + "s" * (hops > 1)


def _follows(claim: str, query: str) -> str:
    known, asked = (_one(text) for text in (claim, query))
    if (known.subject.name, known.predicate.name) != (asked.subject.name, asked.predicate.name):
        raise DataError(f"the last claim is {claim!r}, which neither says nor denies what is asked, {query!r}")
    return ANSWERS[known.holds != asked.holds]


def _one(text: str) -> Statement:
    statements, strange = read_statements(text)
    if strange or len(statements) != 1:
        raise DataError(f"{text!r} is not one sentence of what an individual is")
    return statements[0]
