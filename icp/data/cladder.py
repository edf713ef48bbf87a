"""CLadder: yes-or-no questions about small causal graphs, told as stories of sense, against it, or without any.

Jin et al., NeurIPS 2023 (arXiv 2312.04350), https://github.com/causalNLP/cladder; hub `causalnlp/CLadder`.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.data.problems import Problem
from icp.data.reader import read
from icp.data.schema import Choice, Form, Maybe, Schema, checked
from icp.errors import DataError

ANSWERS = ("Yes", "No")
ANSWER = Choice({"yes": True, "no": False})
SPLITS = Choice(
    {"easy": "easy", "hard": "hard", "commonsense": "commonsense", "anticommonsense": "anti", "nonsense": "nonsense"}
)
TOLD = Choice({"True": True, "False": False, "1.0": True, "0.0": False, "1": True, "0": False})

FILES = {"test": ("full_v1.5_default.csv", "cladder.csv")}


@dataclass(frozen=True)
class CausalQuestion:
    """A prompt with its answer, and what the generator knew of it.

    `split` is one of commonsense, easy, hard, anti and nonsense. `formal` is the quantity asked for, `reasoning` the
    worked solution line by line (None where the form in which the data came has none). `mapping` gives the words of
    each variable: `Xname` its name, `X1` and `X0` its states, as the generator's table of models has them. An estimator
    sees `prompt` alone.
    """

    id: str
    prompt: str
    answer: bool
    split: str
    query_type: str
    rung: int
    story: str
    graph: str
    formal: str
    reasoning: str | None = None
    mapping: Mapping[str, str] | None = None

    @property
    def problem(self) -> Problem:
        """To be answered Yes or No; the skeleton is the graph, the type of query and the quantity asked for.

        Figures and polarities differ within a skeleton too, so that a split by it holds out whole kinds of question.
        """
        skeleton = f"{self.graph}: {self.query_type}: {self.formal}"
        answer = ANSWERS[not self.answer]
        return Problem(
            self.prompt, answer, ANSWERS, self.reasoning, self.split, self.story, skeleton, self.query_type, self.rung
        )  # fmt: skip


META = {"story_id": str, "graph_id": str, "query_type": str, "rung": int, "formal_form": str}
STEPS = {name: Maybe(str) for name in ("step0", "step1", "step2", "step3", "step4", "step5", "end")}
WORDS = {f"{variable}{part}": Maybe(str) for variable in ("X", "Y", "V1", "V2", "V3") for part in ("name", "1", "0")}


def _of_hub(row: dict[str, Any]) -> list[CausalQuestion]:
    lines = [line for line in (row["reasoning"] or "").splitlines() if line != "nan"]
    return [
        CausalQuestion(
            row["id"], row["prompt"], row["label"], row["question_property"], row["query_type"], row["rung"],
            row["story_id"], row["graph_id"], row["formal_form"], "\n".join(lines) or None,
        )
    ]  # fmt: skip


def _of_table(row: dict[str, Any]) -> list[CausalQuestion]:
    meta = checked(_literal(row["meta"], "meta"), Form(META, list), "the field 'meta'")
    steps = row["reasoning"] and checked(_literal(row["reasoning"], "reasoning"), Form(STEPS, list), "'reasoning'")
    split = "nonsense" if row["nonsense"] else "anti" if row["has_anticommonsense"] else "commonsense"
    return [_question(row, row["prompt"], split, meta, steps)]


def _literal(text: str, field: str) -> dict[str, Any]:
    """A dictionary that stands in a table as Python prints it; what is not a number (`nan`) is read as None."""
    try:
        value = ast.literal_eval(text.replace(": nan", ": None"))
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"the field {field!r} is {text[:60]!r}, and should be a dictionary as Python prints it")
    return value


def _question(row, prompt, split, meta, steps, mapping=None) -> CausalQuestion:
    lines = [line for step in (steps or {}).values() if step for line in step.splitlines()]
    return CausalQuestion(
        str(row["question_id"]), prompt, row["answer"], split, meta["query_type"], meta["rung"], meta["story_id"],
        meta["graph_id"], meta["formal_form"], "\n".join(lines) or None, mapping,
    )  # fmt: skip


HUB = Form(
    {
        "id": str, "prompt": str, "label": ANSWER, "reasoning": Maybe(str), "rung": int, "query_type": str,
        "graph_id": str, "story_id": str, "question_property": SPLITS, "formal_form": str,
    },
    _of_hub,
    answer="label",
)  # fmt: skip
TABLE = Form(
    {
        "question_id": int, "prompt": str, "answer": ANSWER, "meta": str, "reasoning": Maybe(str),
        "has_anticommonsense": TOLD, "nonsense": Maybe(TOLD),
    },
    _of_table,
    answer="answer",
)  # fmt: skip
NESTED = {
    "question_id": int, "given_info": Maybe(str), "question": str, "answer": ANSWER,
    "meta": {"model_id": int, **META}, "reasoning": Maybe(STEPS),
}  # fmt: skip
MODEL = Form(
    {
        "model_id": int, "story_id": str, "background": str, "variable_mapping": WORDS, "difficulty": Maybe(SPLITS),
        "nonsense": Maybe(TOLD), "anticommonsense": Maybe({"variable": str}),
    },
    lambda row: [row],
)  # fmt: skip


def cladder_models(source: "str | Path") -> dict[int, dict[str, Any]]:
    """The generator's models by number: `background`, `story_id`, `mapping` (see `CausalQuestion`) and `split`."""
    found = {}
    for row in read(Schema("CLadder's models", (MODEL,), {}), source):
        split = "nonsense" if row["nonsense"] else "anti" if row["anticommonsense"] else row["difficulty"]
        mapping = {place: words for place, words in row["variable_mapping"].items() if words}
        found[row["model_id"]] = {
            "background": row["background"], "story_id": row["story_id"], "mapping": mapping,
            "split": split or "commonsense",
        }  # fmt: skip
    return found


def cladder(
    source: "str | Path",
    split: str | None = None,
    config: str | None = None,
    *,
    models: "str | Path | None" = None,
    unanswered: list[str] | None = None,
) -> list[CausalQuestion]:
    """The questions of a file, folder or hub id, in any of three published forms.

    The hub's table (`question_property`, `formal_form`); a table of the generator's fields with `has_anticommonsense`
    and `nonsense`, whose commonsense split is not divided into easy and hard; the generator's own nested JSON, whose
    backgrounds, words and splits stand in a second file, which `models` names (`test-model-meta.json`).

    Rows without an answer are refused; where there is a list `unanswered` they are left out, and the place of each is
    added to it. Raises `DataError` where a row has another schema, the nested form comes without `models`, or a model
    is not there.
    """
    known = cladder_models(models) if models is not None else None

    def nested(row: dict[str, Any]) -> list[CausalQuestion]:
        number = row["meta"]["model_id"]
        if known is None:
            raise DataError("nested rows have no background: name the file of models, models='test-model-meta.json'")
        if number not in known:
            raise DataError(f"the field 'meta.model_id' is {number}, and {models} has no such model")
        found = known[number]
        prompt = " ".join(f"{found['background']} {row['given_info'] or ''} {row['question']}".split())
        return [_question(row, prompt, found["split"], row["meta"], row["reasoning"], found["mapping"])]

    forms = (HUB, TABLE, Form(NESTED, nested, answer="answer"))
    return read(Schema("CLadder", forms, FILES), source, split, config, unanswered)
