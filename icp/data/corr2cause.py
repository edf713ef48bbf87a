"""Corr2Cause: does a causal hypothesis follow from what correlates and what is independent?

Jin et al., ICLR 2024 (arXiv 2306.05836), hub `causalnlp/corr2cause`; and a table with the number of variables and the
kind of hypothesis beside each row.
"""

from pathlib import Path
from typing import Any

from icp.data.problems import Problem
from icp.data.reader import read
from icp.data.schema import Choice, Form, Schema
from icp.errors import DataError

ANSWERS = ("Yes", "No")
LABEL = Choice({"1": "Yes", "0": "No"})


def _problem(row: dict[str, Any]) -> list[Problem]:
    premise, mark, hypothesis = row["input"].partition("Hypothesis:")
    if not mark or not premise.startswith("Premise:") or not hypothesis.strip():
        raise DataError(f"the field 'input' is {row['input'][:60]!r}, and should be 'Premise: ... Hypothesis: ...'")
    kind, skeleton = row.get("template"), " ".join(premise.split())
    return [Problem(row["input"], row["label"], ANSWERS, story=kind, skeleton=skeleton, query_type=kind)]


CORR2CAUSE = Schema(
    "Corr2Cause",
    (
        Form({"input": str, "label": LABEL, "template": str}, _problem, answer="label"),
        Form({"input": str, "label": LABEL}, _problem, answer="label"),
    ),
    {"train": (), "dev": (), "test": ("corr2cause.csv",)},
)


def corr2cause(
    source: "str | Path", split: str | None = None, config: str | None = None, *, unanswered: list[str] | None = None
) -> list[Problem]:
    """Problems with the answers Yes and No, for the published labels 1 and 0.

    The skeleton is the premise, which several hypotheses share, so that a split by it has no premise on both sides; the
    story and the type of query are the kind of hypothesis, where the rows name it. Rows without an answer are refused;
    where there is a list `unanswered` they are left out, and the place of each is added to it.
    """
    return read(CORR2CAUSE, source, split, config, unanswered)
