"""Logic puzzles and causal questions as rows to answer: the real files where they are there, else rows of our own."""

import json
from pathlib import Path

import pytest
from test_data import real

from icp import data
from icp.data.syllogisms import plural, read_statements, singular
from icp.errors import DataError

TRUE = {
    "Facts": "Every cat is a feline. Felines are not bony. Each painted lady is bony.",
    "Query": "True or false: Rex is bony.",
    "claims": ["Rex is a cat.", "Rex is a feline.", "Rex is not bony."],
    "next_steps": ["Every cat is a feline.", "Felines are not bony.", "Finish."],
}
FICTIONAL = {
    "context": "Each wumpus is an impus. Impuses are luminous. Max is a wumpus.",
    "question": "Is the following statement true or false? Max is luminous.",
    "answer": "A",
    "explanation": ["Max is a wumpus.", "Each wumpus is an impus.", "Max is an impus.", "Impuses are luminous."],
}
CAUSAL = "Premise: Suppose there are 2 variables, A and B. A correlates with B.\nHypothesis: A directly causes B."


def written(tmp_path: Path, name: str, content) -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entailed(prompt: str) -> str:
    """The answer by forward chaining over the facts of the prompt, without its published answer or claims."""
    *facts, asked = read_statements(prompt)[0]
    known = {(asked.subject.name, True)}
    while more := {
        (one.predicate.name, one.holds) for one in facts if (one.subject.name, True) in known
    } - known:  # fmt: skip
        known |= more
    positive = (asked.predicate.name, True) in known
    assert positive != ((asked.predicate.name, False) in known), prompt
    return str(positive == asked.holds)


@pytest.mark.parametrize(("name", "count", "true"), [("prontoqa.json", 4000, 2024), ("logiclm_dev.json", 500, 258)])
def test_real_puzzles_have_the_answer_that_follows_from_their_facts(name, count, true):
    rows = data.prontoqa(real("prontoqa") / name)
    assert len(rows) == count and sum(row.answer == "True" for row in rows) == true
    assert all(entailed(row.prompt) == row.answer for row in rows)
    for row in rows[::20]:
        *worked, last = row.reasoning.split(". ")
        individual = worked[0].split()[0]
        assert all(said in row.prompt for said in worked[1::2]), "every other sentence is one of the facts"
        assert all(said.startswith(f"{individual} is ") for said in (*worked[::2], last))


def test_real_causal_questions():
    rows = data.corr2cause(real("corr2cause"), "test")
    assert len(rows) == 400 and sum(row.answer == "Yes" for row in rows) == 62
    assert all(row.query_type == row.story for row in rows)
    assert {row.story for row in rows} >= {"has_collider", "has_confounder", "child", "parent"}


def test_puzzles_of_the_true_ontology(tmp_path):
    [row] = data.prontoqa(written(tmp_path, "x.json", {"next_steps": [TRUE]}))
    assert row.prompt == f"{TRUE['Facts']} Rex is a cat.\n{TRUE['Query']}"
    assert (row.answer, row.answers, row.split, row.story) == ("False", ("True", "False"), "true", "mammals")
    assert row.reasoning == (
        "Rex is a cat. Every cat is a feline. Rex is a feline. Felines are not bony. Rex is not bony."
    )
    denied = TRUE | {"Query": "True or false: Rex is not bony."}
    assert data.prontoqa(written(tmp_path, "y.json", {"next_steps": [denied]}))[0].answer == "True"


def test_fictional_puzzles(tmp_path):
    [row] = data.prontoqa(written(tmp_path, "dev.json", [FICTIONAL]).parent, "validation")
    assert row.prompt == f"{FICTIONAL['context']}\n{FICTIONAL['question']}"
    assert (row.answer, row.split, row.story) == ("True", "fictional", "fictional")
    assert row.query_type == "2 hops"


def test_a_skeleton_is_what_names_phrasing_order_and_polarities_leave(tmp_path):
    def skeleton(**changed):
        return data.prontoqa(written(tmp_path, "x.json", [FICTIONAL | changed]))[0].skeleton

    told = "Sam is a cat. All felines are bony. Cats are felines."
    first = skeleton()
    assert first == skeleton(context=told, question="True or false: Sam is not bony.")
    assert first == skeleton(context="Sam is a cat. Felines are not bony. Cats are felines.", question="Sam is bony.")
    assert first != skeleton(context="Sam is a cat. Felines are bony. Cats are felines.", question="Sam is a feline.")


def test_causal_questions(tmp_path):
    rows = data.corr2cause(written(tmp_path, "x.jsonl", json.dumps({"input": CAUSAL, "label": 0})))
    assert [(row.answer, row.skeleton) for row in rows] == [("No", CAUSAL.partition("\n")[0])]
    with pytest.raises(DataError, match="line 1: the field 'input' is 'Hypothesis: A causes B"):
        data.corr2cause(written(tmp_path, "x.jsonl", json.dumps({"input": "Hypothesis: A causes B.", "label": 0})))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"claims": ["Rex is a cat."]}, r"next_steps\[0\] has 1 claims and 3 steps, the last 'Finish.'"),
        ({"Query": "True or false: Rex is furry."}, r"the last claim is 'Rex is not bony.', which neither says"),
        ({"Facts": "It may rain."}, r"x.json: next_steps\[0\]: 'It may rain.' does not say of a class"),
        ({"claims": ["", "", ""]}, r"the field 'next_steps\[0\].claims\[0\]' is ''"),
    ],
)
def test_puzzles_that_are_none_are_refused(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        data.prontoqa(written(tmp_path, "x.json", {"next_steps": [TRUE | changed]}))


def test_an_answer_that_is_no_answer():
    with pytest.raises(DataError, match=r"the answer 'maybe' of 'Is it so\?' is none of yes, no"):
        data.Problem("Is it so?", "maybe", ("yes", "no"))


@pytest.mark.parametrize(
    ("one", "many"),
    [("painted lady", "painted ladies"), ("impus", "impuses"), ("butterfly", "butterflies"), ("fox", "foxes"),
     ("number", "numbers"), ("day", "days"), ("sheep", "sheep"), ("child", "children")],
)  # fmt: skip
def test_plurals(one, many):
    assert plural(one) == many and singular(many) == one


def test_words_that_are_no_plurals_stay():
    assert [singular(word) for word in ("luminous", "glass", "sheep", "impus", "people", "BS")] == [
        "luminous", "glass", "sheep", "impus", "person", "BS",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("load", "row", "field"),
    [
        (data.prontoqa, FICTIONAL, "answer"),
        (data.corr2cause, {"input": CAUSAL, "label": 0}, "label"),
    ],
)
@pytest.mark.parametrize("empty", [None, "", " ", "missing"])
def test_rows_without_an_answer(tmp_path, load, row, field, empty):
    without = {key: value for key, value in row.items() if key != field}
    without |= {} if empty == "missing" else {field: empty}
    source = written(tmp_path, "x.json", [without, row, without])
    with pytest.raises(DataError, match=f"row 0.*'{field}'"):
        load(source)
    damaged = without | {next(iter(row)): 7}
    with pytest.raises(DataError, match="row 1: the field"):
        load(written(tmp_path, "w.json", [row, damaged]), unanswered=[])
    places: list[str] = []
    assert load(source, unanswered=places) == load(written(tmp_path, "y.json", [row]))
    assert places == [f"{source}, row 0", f"{source}, row 2"]
    with pytest.raises(DataError, match="none of 1 has an answer"):
        load(written(tmp_path, "z.json", [without]), unanswered=[])
