"""CLadder in its three published forms: the real files where they are there, else rows of our own."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from icp import data
from icp.errors import DataError

REAL = os.environ.get("ICP_DATA")
MODEL = {
    "model_id": 3, "story_id": "tea", "difficulty": "hard",
    "background": "Imagine a world: Tea has a direct effect on sleep.",
    "variable_mapping": {
        "Xname": "tea", "X1": "drinking tea", "X0": "not drinking tea", "Yname": "sleep", "Y1": "deep sleep",
        "Y0": "no sleep",
    },
}  # fmt: skip
META = {
    "story_id": "tea", "graph_id": "chain", "query_type": "ate", "rung": 2, "formal_form": "E[Y | do(X = 1)]",
    "model_id": 3,
}  # fmt: skip
STEPS = {"step0": "Let X = tea; Y = sleep.", "step4": "P(Y=1 | X=0) = 0.20\nP(Y=1 | X=1) = 0.30", "end": "0.10 > 0"}
NESTED = {
    "question_id": 7, "given_info": "For people who drink tea, the probability of deep sleep is 30%.",
    "question": "Will drinking tea increase the chance of deep sleep?", "answer": "yes", "meta": META,
    "reasoning": STEPS,
}  # fmt: skip


def real(name):
    path = Path(REAL or "-") / "cladder" / name
    if not path.is_file():
        pytest.skip(f"ICP_DATA names no folder with cladder/{name}: the real files are not copied into this project")
    return path


def written(folder, name, content):
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def table(folder, **changed):
    row = {
        "question_id": 7, "prompt": "Is tea good?", "answer": "no", "meta": str({**META, "groundtruth": float("nan")}),
        "reasoning": str(STEPS), "has_anticommonsense": "True", "nonsense": "", **changed,
    }  # fmt: skip
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    return path


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("cladder.csv", {"nonsense": 499, "anti": 398, "easy": 171, "hard": 169, "commonsense": 41}),
        ("processed_o1_preview_results_top1000_rand.csv", {"nonsense": 371, "commonsense": 318, "anti": 311}),
        ("test-generate-easy.json", {"easy": 844}),
        ("test-generate-anti.json", {"anti": 844}),
    ],
)
def test_real_rows_by_split(name, splits):
    path = real(name)
    models = real("test-model-meta.json") if path.suffix == ".json" else None
    rows = data.cladder(path, models=models)
    assert Counter(row.split for row in rows) == splits
    assert all((row.mapping is None) == (models is None) for row in rows)
    assert {row.rung for row in rows} == {1, 2, 3}
    assert all("nan" not in (row.reasoning or "").splitlines() for row in rows)
    assert Counter(row.query_type for row in rows if row.reasoning is None).keys() == {"backadj"}


def test_a_nested_row_takes_its_background_words_and_split_from_its_model(tmp_path):
    models = written(tmp_path, "models.json", [MODEL])
    (row,) = data.cladder(written(tmp_path, "rows.json", [NESTED]), models=models)
    assert row.prompt.startswith("Imagine a world: Tea has a direct effect on sleep. For people who drink tea, ")
    assert row.prompt.endswith("30%. Will drinking tea increase the chance of deep sleep?")
    assert (row.split, row.answer, row.mapping["X0"]) == ("hard", True, "not drinking tea")
    assert row.reasoning.splitlines()[1:] == ["P(Y=1 | X=0) = 0.20", "P(Y=1 | X=1) = 0.30", "0.10 > 0"]


def test_a_table_of_the_generators_fields(tmp_path):
    (row,) = data.cladder(table(tmp_path))
    assert (row.split, row.answer, row.graph, row.reasoning.count("\n")) == ("anti", False, "chain", 3)
    (row,) = data.cladder(table(tmp_path, has_anticommonsense="False", nonsense="1.0", reasoning=""))
    assert (row.split, row.reasoning) == ("nonsense", None)


def test_nested_rows_without_their_models_are_refused(tmp_path):
    rows = written(tmp_path, "rows.json", [NESTED])
    with pytest.raises(DataError, match=r"rows.json, row 0: nested rows have no background: .*test-model-meta.json"):
        data.cladder(rows)
    other = written(tmp_path, "models.json", [{**MODEL, "model_id": 4}])
    with pytest.raises(DataError, match=r"row 0: the field 'meta.model_id' is 3, and .*models.json has no such model"):
        data.cladder(rows, models=other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answer": "maybe"}, "line 2: the field 'answer' is 'maybe', and should be one of 'yes', 'no'"),
        ({"meta": "story"}, "line 2: the field 'meta' is 'story', and should be a dictionary as Python prints it"),
        ({"meta": "{'story_id': 'tea'}"}, "the field 'graph_id' is None, and should be a text that is not empty"),
        ({"has_anticommonsense": "perhaps"}, "the field 'has_anticommonsense' is 'perhaps', and should be one of"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        data.cladder(table(tmp_path, **changed))
