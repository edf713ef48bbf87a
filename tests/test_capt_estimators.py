"""The benchmark of estimators: what it counts, on prompts of our own, and that the annotations fit the real rows."""

import json
from collections import Counter
from dataclasses import replace

import capt_estimators as benchmark
import pytest
from test_data import real
from test_renaming import PROBLEM

from icp import capt
from icp.capt import Abstraction, Failure

GOLD = capt.SyllogismRules().estimate(PROBLEM.prompt)
ROW = benchmark.Row("a:0", replace(PROBLEM, story="cats"), GOLD)


def found(row, abstraction=None):
    return capt.Abstracted(row.problem, GOLD if abstraction is None else abstraction)


def test_a_share_counts_what_agrees_and_passes_and_lists_the_others():
    merged = Abstraction(PROBLEM.prompt, tuple(replace(m, slot=0) for m in GOLD.mentions))
    rows = [replace(ROW, id=f"a:{n}") for n in range(4)] + [replace(ROW, id="a:4", gold=Failure("", "no gold", ""))]
    rows[4] = replace(rows[4], gold=replace(rows[4].gold, prompt=PROBLEM.prompt))
    left = Abstraction(PROBLEM.prompt, GOLD.mentions[:-1])
    made = [found(rows[0]), found(rows[1], merged), Failure(PROBLEM.prompt, "junk", ""), found(rows[3], left)]
    told = benchmark.measured(rows, [*made, found(rows[4])], by_name=True)
    assert (told["valid"], told["rows"], told["disagrees"]) == (0.25, 4, ["a:1", "a:2", "a:3"])
    assert (told["without_gold"], told["refused"], told["invalid"]) == (
        {"no gold": 1}, {"junk": 1}, {"event word left": 1},
    )  # fmt: skip
    assert told["valid_ci"][0] < 0.25 < told["valid_ci"][1] and told["polarity"] is None
    assert told["round_trip"] == {"share": 1.0, "rows": 3, "others": {}}
    assert told["round_trip_by_name"]["share"] == pytest.approx(2 / 3)
    assert sum(map(len, told["round_trip_by_name"]["others"].values())) == 1


def test_why_a_text_does_not_come_back():
    prompt = "Cats are furry. A cat naps."
    one = Abstraction.of(prompt, [(0, 4, "cat", None)])
    assert benchmark.why_not(one, None) == "the symbols do not stand as they did"
    assert benchmark.why_not(one, prompt.replace("Cats", "cats")) == "a capital"
    assert benchmark.why_not(one, prompt.replace("Cats", "Cat")) == "a number of an event that is not formed by rule"
    assert benchmark.why_not(one, prompt.replace("Cats", "All cats")) == "a variable is said in words of its own"


def test_a_draw_is_the_same_again_and_has_so_many_of_each_split():
    rows = [
        replace(ROW, id=f"{split}:{n}", problem=replace(PROBLEM, split=split))
        for split in benchmark.DRAWN for n in range(30)
    ]  # fmt: skip
    drawn = benchmark.drawn(rows)
    assert drawn == benchmark.drawn(rows) != benchmark.drawn(rows, seed=1) and len({row.id for row in drawn}) == 100
    assert Counter(row.problem.split for row in drawn) == benchmark.DRAWN


def test_annotations_fit_the_real_rows_and_no_others(monkeypatch, tmp_path):
    folder = real("cladder").parent
    rows = benchmark.cladder_rows(folder / "cladder") + benchmark.prontoqa_rows(folder / "prontoqa")
    marked = benchmark.annotated(rows)
    assert [row.id for row, _ in marked] == [row.id for row in benchmark.drawn(rows)] and len(marked) == 100
    told = benchmark.against([(by_hand, by_hand) for _, by_hand in marked])
    assert told["agrees"] == told["span_f1"] == told["b3"] == 1 and told["mentions"] > 1500
    less = [(Abstraction(one.prompt, one.mentions[1:]), one) for _, one in marked]
    assert benchmark.against(less)["span_f1"] < 1 and benchmark.against(less)["agrees"] == 0
    stored = json.loads(benchmark.ANNOTATIONS.read_text("utf-8"))
    stored["rows"][0]["digest"] = "0" * 16
    monkeypatch.setattr(benchmark, "ANNOTATIONS", tmp_path / "x.json")
    benchmark.ANNOTATIONS.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="is not the prompt that was annotated"):
        benchmark.annotated(rows)
