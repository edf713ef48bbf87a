"""The benchmark of CAPT: what it trains and tests on, what it counts, and that it goes on where it stopped."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import capt as benchmark
import capt_summary
import numpy as np
import pytest
from reasoner import puzzle, reasoner


@pytest.fixture
def size(tmp_path, monkeypatch):
    """Puzzles of our own, causal questions, and a tiny model."""
    draw, folder = random.Random(0), tmp_path / "data"
    (folder / "prontoqa").mkdir(parents=True)
    rows = [puzzle(draw) for _ in range(120)]
    (folder / "prontoqa" / "prontoqa.json").write_text(json.dumps({"next_steps": rows}))
    (folder / "corr2cause").mkdir()
    questions = [f'"Premise: Of {n} variables A correlates with B. Hypothesis: A causes B.",{n % 2}' for n in range(8)]
    (folder / "corr2cause" / "corr2cause.csv").write_text("\n".join(["input,label", *questions]))
    monkeypatch.setenv("ICP_DATA", str(folder))
    model = reasoner().save_pretrained(tmp_path / "model")
    return replace(
        benchmark.QUICK, model=str(model), hops=(2, 3), rows=8, epochs=2, tested=5, other_rows=(4,), questions=8
    )


def test_nothing_that_is_tested_on_is_trained_on_and_tests_are_the_same_for_every_seed(size, tmp_path):
    study = benchmark.Study(size, tmp_path)
    points = [
        {"what": "prontoqa", "rows": 8, "epochs": 2, "rate": 0.0, "renaming": "random", "seed": seed} for seed in (0, 1)
    ]
    first, second = (study.rows(point) for point in points)
    assert len(first) == 8 and first != second
    assert study.rows(points[0] | {"rows": 4}) == first[:4], "more rows hold those of fewer"
    skeletons = {row.problem.skeleton for row in (*first, *second)}
    assert set(study.tests) == set(capt_summary.SHOWN) - {"train", "exchanged"}
    for problems in study.tests.values():
        assert len(problems) == 5 and not skeletons & {one.skeleton for one in problems}
    most = max(row.abstraction.slots for row in study.found(study.problems[0], points[0]))
    assert all(row.abstraction.slots > most for row in study.found(study.tests["more symbols"], points[0]))
    assert study.tests == benchmark.Study(size, tmp_path).tests
    spoilt = study.found(study.tests["id"], points[0] | {"rate": 1.0})
    assert [row.problem for row in spoilt] == study.tests["id"], "what finds nothing is asked as it is"


def test_the_parts_share_points_and_no_point_is_run_twice(size):
    found = benchmark.jobs(benchmark.Size(), benchmark.PARTS)
    assert len({json.dumps(job, sort_keys=True) for job in found}) == len(found)
    assert {job["epochs"] for job in benchmark.jobs(benchmark.Size(), ["setting"])} == {4, 8, 16, 32}
    found = [job for job in found if job["epochs"] in (0, 2, 8)]
    points = [tuple(job[name] for name in ("what", "renaming", "rows", "epochs", "rate")) for job in found]
    assert {seeds for point in set(points) if (seeds := points.count(point)) != 3} == {1}, "the untrained model, once"
    usual = ("prontoqa", "random", 200, 8, 0.0)
    assert usual in points and ("prontoqa", "random", 200, 8, 0.4) in points
    assert ("prontoqa", "null", 500, 8, 0.0) in points and ("prontoqa", "order", 200, 2, 0.0) in points
    assert len(benchmark.jobs(size, ["steps"])) == 4


def split(right, forms=(0, 0, 1, 1)):
    return {"right": right, "forms": list(forms)}


def run_of(renaming, seed, right, train="1111", **settings):
    splits = {"train": split(train), "id": split("1111"), "anti": split(right), "nonsense": split(right)}
    if not settings:
        splits |= {"paraphrased": split(right)}
    return {
        "what": "prontoqa", "renaming": renaming, "rows": 200, "epochs": 8, "rate": 0.0, "seed": seed,
        "splits": splits, "history": [[10, 1.0], [20, 0.5 + seed]], "commit": "c",
        "seconds_of_processor": {"training": 1800.0, "testing": 0.0}, **settings,
    }  # fmt: skip


def test_a_summary_worked_by_hand():
    rounds = [
        run_of("null", 0, "1010"), run_of("null", 1, "0010"), run_of("random", 0, "1110"), run_of("random", 1, "1111"),
        run_of("null", 0, "1000", epochs=0), run_of("random", 0, "0000", rate=0.4),
        run_of("random", 0, "1000", rows=100), run_of("null", 0, "0000", what="reasoned"),
        run_of("random", 0, "0001", what="reasoned"),
    ]  # fmt: skip
    found = capt_summary.summary(rounds)
    null, random_ = found["renamings"]["null"]["anti"], found["renamings"]["random"]["anti"]
    assert null["mean"] == 37.5 and null["seeds"] == [50, 25] and null["ci"][0] < 37.5 < null["ci"][1]
    assert random_["mean"] == 87.5
    gain = found["random_less"]["null"]["anti"]
    assert gain["mean"] == 50 and gain["seeds"] == [25, 75] and gain["ci"][0] < 50 < gain["ci"][1]
    assert found["renamings"]["untrained"]["anti"] == {"mean": 25.0, "ci": None, "seeds": [25.0]}
    assert found["errors"]["random"]["0.4"]["anti"]["mean"] == 0 and set(found["errors"]["random"]) == {"0.0", "0.4"}
    assert set(found["rows"]["random"]) == {"100", "200"} and not found["steps"]
    assert found["renamings"]["null"]["loss"] == [[10, 20], [1.0, 1.0]] and found["core_hours"] == 4.5
    assert found["renamings"]["null"]["train"]["ci"] is None
    assert (
        found["reasoning_random_less_null"]["anti"]["seeds"] == [25] and found["reasoning"]["null"]["id"]["mean"] == 100
    )
    told = capt_summary.table(found)
    assert "random less null" in told and "random, errors 0.4" in told
    bars = [trace for trace in capt_summary.picture(found).data if trace.type == "bar"]
    assert {name for bar in bars for name in bar.x} == {"null", "random", "untrained"}


def test_f1_of_causal_questions_worked_by_hand():
    def of(renaming, epochs, seed, said):
        told = {"said": said, "answers": ["Yes", "Yes", "No", "No"], "forms": [0, 1, 2, 3]}
        return {"what": "corr2cause", "renaming": renaming, "epochs": epochs, "seed": seed, "causal": told}

    found = capt_summary.causal(
        [of("null", 0, 0, ["Yes"] * 4), of("null", 8, 1, ["No"] * 4), of("null", 8, 0, ["Yes", "Yes", "No", None])]
    )
    assert found["untrained"]["f1"]["mean"] == pytest.approx(2 / 3)
    assert found["null"]["f1"]["seeds"] == [1.0, 0.0] and found["null"]["accuracy"]["seeds"] == [0.75, 0.5]
    assert found["null"]["unparsed"]["mean"] == 0.125


def test_a_study_runs_and_goes_on_where_it_stopped(size, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))
    monkeypatch.setattr(benchmark, "QUICK", size)
    made, real_run = [], benchmark.run

    def counted(job, *rest):
        made.append(job)
        return real_run(job, *rest)

    monkeypatch.setattr(benchmark, "run", counted)
    path = tmp_path / "out.json"
    benchmark.main(path, quick=True, only=["renamings"])
    assert [job["renaming"] for job in made] == ["null", *benchmark.RENAMINGS]
    more = ["renamings", "errors", "reasoning", "corr2cause"]
    benchmark.main(path, quick=True, only=more)
    assert len({json.dumps(job, sort_keys=True) for job in made}) == len(made), "nothing is run twice"
    found = json.loads(path.read_text())
    assert set(found["renamings"]) == {*benchmark.RENAMINGS, "untrained"}
    for name in benchmark.RENAMINGS:
        row = found["renamings"][name]
        shown = [kind for kind in capt_summary.SHOWN if kind in row]
        assert shown == [k for k in capt_summary.SHOWN if k != "exchanged" or name not in ("null", "names")]
        assert all(0 <= row[kind]["mean"] <= 100 for kind in shown)
    assert set(found["corr2cause"]) == {"untrained", "null", "random"}
    assert set(found["errors"]["random"]) == {"0.0", "0.2"}
    assert set(found["reasoning"]) == {"null", "random"}
    assert set(found["reasoning"]["null"]) == {"train", *benchmark.MAIN, "loss"}
    assert "plotly" in path.with_suffix(".html").read_text() and "random less null" in capsys.readouterr().out
    assert np.isfinite(found["core_hours"])
    count = len(made)
    benchmark.main(path, quick=True, only=more)
    assert len(made) == count


def test_a_run_that_fails_leaves_the_others(size, tmp_path, monkeypatch):
    def failing(job, *_):
        if job["renaming"] == "names":
            raise capt_error
        return {key: run_of(job["renaming"], 0, "1111")[key] for key in ("splits", "history", "commit")} | {
            "seconds_of_processor": {}
        }

    capt_error = ValueError("not that one")
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))
    monkeypatch.setattr(benchmark, "QUICK", size)
    monkeypatch.setattr(benchmark, "run", failing)
    path = tmp_path / "out.json"
    with pytest.raises(SystemExit, match=r"1 runs failed, the others are kept: .*'names'.*: not that one"):
        benchmark.main(path, quick=True, only=["renamings"])
    kept = {row["renaming"] for row in json.loads(path.read_text())["rounds"]}
    assert kept == {"null", "random", "order", "fixed"}


def test_what_cannot_be_run(tmp_path, monkeypatch):
    with pytest.raises(Exception, match="there is no part 'tables'"):
        benchmark.main(tmp_path / "x.json", only=["tables"])
    with pytest.raises(Exception, match="are two sizes: choose one"):
        benchmark.main(tmp_path / "x.json", quick=True, authors=True)
    monkeypatch.delenv("ICP_DATA", raising=False)
    with pytest.raises(SystemExit, match="set ICP_DATA to the folder"):
        benchmark.data_folder()
