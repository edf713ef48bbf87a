"""Bias, questions and shift before and after: their arithmetic, what they are measured on, and that they go on."""

import csv
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import bias
import changes
import numpy as np
import planted_cue
import pytest
import qa
import qa_probes
import robustness
import shift
import torchmetrics.functional.classification as metrics
from helpers import BY_NAME
from test_bias import ITEMS, PAIRS

import icp
from icp import data
from icp.statistics import mean_interval, standard_error


def test_a_change_is_paired_and_its_interval_over_seeds_and_examples():
    draw = np.random.default_rng(0)
    before = draw.normal(size=(1, 400))
    after = before + 0.5 + 0.1 * draw.normal(size=(3, 400))
    found = changes.change(changes.counted(before), changes.counted(after))
    assert found["before"] == pytest.approx(before.mean()) and found["after"] == pytest.approx(after.mean())
    own = (after - before).mean(1)
    assert found["change"]["seeds"] == pytest.approx(own) and found["change"]["mean"] == pytest.approx(own.mean())
    error = np.hypot(standard_error((after - before).mean(0)), own.std(ddof=1) / 3**0.5)
    low, high = found["change"]["ci"]
    assert 1.9 * error < found["change"]["mean"] - low < 4.4 * error, "between z and t of two degrees of freedom"
    assert low + high == pytest.approx(2 * found["change"]["mean"])


def test_a_single_seed_has_the_interval_over_examples():
    values = 50 + np.random.default_rng(0).normal(size=(1, 300))
    low, high = changes.level(changes.counted(values))["ci"]
    plain = mean_interval(values[0])
    assert (low, high) == pytest.approx((plain["low"], plain["high"]), abs=0.02)


def test_what_does_not_vary_has_no_interval_and_what_is_no_number_no_mean():
    same = changes.change(changes.counted(np.ones((1, 5))), changes.counted(np.ones((2, 5))))
    assert same["change"] == {"mean": 0.0, "ci": None, "seeds": [0.0, 0.0]}
    none = changes.change(np.zeros((1, 5, 2)), np.zeros((2, 5, 2)))
    assert none["change"]["mean"] is None and none["before"] is None
    said = changes.table({"cut": {"share": same, "ratio": none}})
    assert "share                     cut             1.000    1.000   +0.000" in said
    assert said.splitlines()[2].endswith("none     none   none")


def test_numbers_in_a_line_come_back():
    values = np.array([[0.0, 1.0, -2.5], [1e-7, 0.12346, 33.0]])
    assert changes.packed(values) == "0 1 -2.5 0 0.1235 33"
    assert changes.unpacked(changes.packed(values, 6)) == pytest.approx(values.reshape(-1), abs=1e-6)


def test_all_of_one_kind_and_always_the_same_of_the_others():
    rows = [SimpleNamespace(bias_type=("gender", "age", "race")[n % 3], number=n) for n in range(30)]
    found = bias.drawn(rows, None, 5)
    assert [row.number for row in found[:10]] == list(range(0, 30, 3))
    assert found == bias.drawn(rows, None, 5) and len({row.number for row in found}) == 15
    assert len(bias.drawn(rows, 2, 50)) == 22


ALONE = [replace(item, kind="intrasentence", bias_type=domain) for item in ITEMS for domain in ("gender", "race")]


def bias_inputs():
    found = object.__new__(bias.Inputs)
    found.crows, found.stereo = PAIRS, ALONE
    found.texts = icp.Probe.from_texts([pair.more for pair in PAIRS])
    return found


def test_figures_of_bias_are_those_of_the_package():
    inputs, models = bias_inputs(), [BY_NAME["llama"].model(seed=seed) for seed in (0, 1, 2)]
    before, *after = (inputs.measured(model) for model in models)
    found = inputs.figures(before, after)
    stereo = [icp.stereoset(model, ALONE, progress=False) for model in models]
    for metric in ("LMS", "SS", "ICAT"):
        for domain, shown in (("gender", "gender"), ("race", "others")):
            rows = [result.table().loc[(metric.lower(), "intrasentence", domain), "mean"] for result in stereo]
            told = found[f"{metric}, {shown}"]
            assert told["before"] == pytest.approx(rows[0])
            assert told["change"]["seeds"] == pytest.approx([row - rows[0] for row in rows[1:]])
    crows = [icp.crows_pairs(model, PAIRS, progress=False) for model in models]
    shares = [100 * result.table().loc[("stereotype_share", "gender"), "mean"] for result in crows]
    assert found["crows_pairs, gender"]["before"] == pytest.approx(shares[0])
    assert found["crows_pairs, gender"]["after"] == pytest.approx(np.mean(shares[1:]))
    losses = icp.evaluate(models[0], inputs.texts, ["next_token_loss"]).table()["mean"]
    assert found["loss, nats"]["before"] == pytest.approx(float(losses.iloc[0]), abs=1e-4)
    assert any(row["change"]["mean"] for row in found.values()), "other models give other figures"


TEMPLATES = ("The {} said that", "The old {} smiled because", "It was late and the {} ran and", "The {} went home and")
WORDS = (("nurse", "doctor"), ("nurse", "carpenter"), ("doctor", "carpenter"), ("carpenter", "nurse"))
ANSWERS = (" she", " he")


def our_sentences():
    """Of the demo's shape, of words that the tiny tokenizer knows."""
    pairs = [
        icp.Example(form.format(hers), form.format(his), ANSWERS, template=form, word=f"{hers}/{his}")
        for form in TEMPLATES
        for hers, his in WORDS
    ]
    names = [
        icp.Example(form.format(word), None, ANSWERS, label=label, template=form, word="/".join(both), group=word)
        for form in TEMPLATES
        for both in WORDS
        for label, word in enumerate(both)
    ]
    neutral = [icp.Example(form.format("it"), template=form) for form in TEMPLATES]
    return SimpleNamespace(**{
        name: lambda rows=rows: icp.Probe(tuple(rows))
        for name, rows in (("pairs", pairs), ("names", names), ("neutral", neutral))
    })  # fmt: skip


def test_bias_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    base, inputs, seen = BY_NAME["llama"].model(), bias_inputs(), []
    monkeypatch.setattr(bias.planted_cue, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(bias.icp, "load", lambda name: base)
    monkeypatch.setattr(bias, "sentences", our_sentences())
    monkeypatch.setattr(bias, "BUDGETS", {"neutral": 5.0, "names": 5.0})
    real = inputs.measured
    monkeypatch.setattr(inputs, "measured", lambda model: seen.append(model) or real(model))
    monkeypatch.setattr(bias, "Inputs", lambda folder, **sizes: inputs)
    path = tmp_path / "bias.json"
    bias.main(path, quick=True, threads=1)
    assert len(seen) == 3 and seen[0] is base and len({id(model) for model in seen}) == 3
    found = json.loads(path.read_text())
    assert set(found["figures"]) == set(found["own"]) == {"pruned", "erased"}
    assert found["own"]["erased"]["units"]["mean"] == 10 and found["own"]["pruned"]["gap, %"]["mean"] != 0
    bias.main(path, quick=True, threads=1)
    assert len(seen) == 3, "nothing is measured twice"
    assert "crows_pairs, gender" in capsys.readouterr().out


def claim(number, text, label, evidence="It was late", word="w"):
    return data.Claim(number, text, label, evidence, word=word)


def test_four_claims_are_two_each_supported_and_refuted():
    rows = [claim("1", "b", 1), claim("10000002", "b", 0), claim("10000003", "a", 0), claim("10000004", "a", 1)]
    (four,) = qa_probes.fours(rows)
    assert [(row.claim, row.label) for row in four] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    with pytest.raises(SystemExit, match="'w' is not two claims, each supported once and refuted once"):
        qa_probes.fours([replace(rows[0], label=0), *rows[1:]])


def test_accuracy_on_claims_of_a_case_worked_by_hand():
    """Two groups; the median is 2.5. The first believes its first claim whatever the evidence."""
    values = np.array([4.0, 3.0, 2.0, 1.0, 9.0, 0.0, 8.0, -1.0])
    right = qa.fever_right(values)
    assert (right == 100 * np.array([[1, 0, 0, 1], [1, 1, 1, 1]])).all()
    suggested = qa.sign(np.array([5.0, -5.0, 6.0, -6.0]))
    assert (suggested == [[1, -1], [1, -1]]).all()
    assert qa.fever_gap(values, suggested).tolist() == [100.0, 0.0]
    assert qa.fever_gap(values, -suggested).tolist() == [-100.0, 0.0]
    assert qa.claims_apart(values).tolist() == [2.0, 1.0]


def test_the_gap_is_told_by_what_claims_suggested_before_and_by_what_they_suggest_now():
    """After, the first claim alone suggests the opposite, and answers with evidence are those of before."""
    inputs = object.__new__(qa.Inputs)
    inputs.questions, inputs.facts = {}, icp.Probe.from_texts(["one", "two"])
    before = {"evidence": [4.0, 3.0, 2.0, 1.0], "alone": [5.0, -5.0], "facts": [1.0, 2.0], "samples": [1.0]}
    after = before | {"alone": [-5.0, 5.0]}
    lines = [{name: changes.packed(values) for name, values in row.items()} for row in (before, after)]
    found = inputs.figures(lines[0], lines[1:])
    assert (found["fever, gap in accuracy"]["before"], found["fever, gap in accuracy"]["after"]) == (100.0, 100.0)
    assert (found["fever, gap by its own"]["before"], found["fever, gap by its own"]["after"]) == (100.0, -100.0)


def test_figures_of_questions_are_those_of_the_package():
    questions = [data.Question(f"q{number}", (alias,)) for number, alias in enumerate(("ann", "bob", "cat", "dan"))]
    found = [icp.qa.judged(questions, said) for said in (["ann", "x", "", "y"], ["ann", "bob", "x", ""], [""] * 4)]
    arrays = [np.stack([one.exact, one.right, one.abstained]) for one in found]
    before, after, silent = (qa.answered_features(changes.unpacked(changes.packed(a)))[None] for a in arrays)
    rows = {"exact match": "exact_match", "hallucination": "hallucination_rate", "abstention": "abstention_rate"}
    for name, of in qa.ANSWERED.items():
        told = changes.change(before, after, None, of)
        assert told["before"] == pytest.approx(100 * found[0].table().loc[rows[name], "mean"])
        assert told["change"]["mean"] == pytest.approx(100 * found[0].change(found[1]).loc[rows[name], "mean"])
    assert changes.change(before, silent, None, qa.ANSWERED["hallucination"])["after"] is None


@pytest.mark.skipif("ICP_DATA" not in os.environ, reason="ICP_DATA does not name the folder of real data")
def test_the_real_files_have_what_the_full_runs_take():
    folder = planted_cue.data_folder()
    inputs = qa.Inputs(folder, **{name: qa.FULL[name] for name in qa.PARTS})
    assert len(inputs.evidence) == 4 * qa.FULL["groups"] and len(inputs.rank_fours) == 177
    assert all(len(asked) == qa.FULL["questions"] for asked in inputs.questions.values())
    protocol = robustness.Protocol()
    texts = shift.probes(folder, protocol, **shift.FULL)
    assert {name: len(one.rows) for name, one in texts.items()} == {"sst2": 150, "cad_imdb": 120}
    known = bias.Inputs(folder, **bias.FULL["inputs"])
    assert sum(pair.bias_type == "gender" for pair in known.crows) == 262
    assert len(known.crows) == 262 + 120 and len(known.stereo) == 253 + 120


VERBS = ("ran", "smiled", "laughed", "went home", "was late", "was early")


@pytest.fixture
def known(tmp_path):
    """The layouts of the real files, with rows of our own."""
    fever = tmp_path / "fever_symmetric" / "symmetric_v0.2"
    for folder in (fever, tmp_path / "counterfact", tmp_path / "triviaqa", tmp_path / "nq_open"):
        folder.mkdir(parents=True)
    for split in ("dev", "test"):
        rows = []
        for number, verb in enumerate(VERBS):
            for place, (who, other) in enumerate((("nurse", "doctor"), ("doctor", "nurse"))):
                stem = f"{number + 1}" + ("" if place == 0 else "0000003")
                for label, seen in (("SUPPORTS", who), ("REFUTES", other)):
                    made = f"{number + 1}000000{2 + 2 * place}" if label == "REFUTES" else stem
                    rows.append({"id": made, "claim": f"The {who} {verb}", "label": label,
                                 "evidence": f"It was the {seen} that {verb}"})  # fmt: skip
        (fever / f"fever_symmetric_{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    facts = [
        {"prompt": f"The {who} {verb} because", "subject": who, "ground_truth": ANSWERS[(n + m) % 2].strip(),
         "target_new": ANSWERS[(n + m + 1) % 2].strip()}
        for n, who in enumerate(("nurse", "doctor", "carpenter", "old doctor"))
        for m, verb in enumerate(VERBS)
    ]  # fmt: skip
    (tmp_path / "counterfact" / "counterfact-val.json").write_text(json.dumps(facts))
    asked = [{"question": f"was the {who} late", "golden_answers": ["ran"]} for who in ("nurse", "doctor", "it")]
    (tmp_path / "triviaqa" / "test.jsonl").write_text("\n".join(map(json.dumps, asked)))
    open_rows = [{"question": row["question"], "answer": row["golden_answers"]} for row in asked]
    (tmp_path / "nq_open" / "NQ-open.dev.jsonl").write_text("\n".join(map(json.dumps, open_rows)))
    return tmp_path


def test_what_is_ranked_on_is_not_tested_on(known):
    inputs, model = qa.Inputs(known, groups=3, facts=2, questions=2, sampled=2), BY_NAME["llama"].model()
    assert len(inputs.evidence) == 12 and len(inputs.alone) == 6 and len(inputs.facts) == 2
    assert [len(asked) for asked in inputs.questions.values()] == [2, 2]
    assert not {row.word for row in inputs.facts.examples} & {row.subject for row in inputs.rank_facts}
    for seed in (0, 1):
        pairs = qa_probes.claim_pairs(inputs.rank_fours, seed)
        assert len(pairs) == 6 and all("Evidence" not in one.text + one.counterpart for one in pairs)
        for one in qa_probes.fact_pairs(model, inputs.rank_facts, seed):
            truth = {row.prompt: f" {row.true}" for row in inputs.rank_facts}
            assert (truth[one.text], truth[one.counterpart]) == one.answers and one.answers[0] != one.answers[1]
    assert qa_probes.claim_pairs(inputs.rank_fours, 0) != pairs
    with pytest.raises(SystemExit, match="9 pairs are wanted to rank on, and 6 of 6 can be aligned"):
        qa_probes.aligned(model, pairs, 9)


def test_questions_go_on_where_they_stopped(known, tmp_path, monkeypatch, capsys):
    base, asked = BY_NAME["llama"].model(), []
    monkeypatch.setattr(qa.planted_cue, "data_folder", lambda: known)
    monkeypatch.setattr(qa_probes, "ANSWERS", ANSWERS)
    monkeypatch.setattr(qa_probes, "CLAIM", "{claim} said that")
    monkeypatch.setattr(qa.icp, "load", lambda name: base)
    monkeypatch.setattr(qa, "QUICK", {"groups": 2, "facts": 2, "questions": 2, "sampled": 1, "heads": 3, "pairs": 2})
    real = qa.icp.open_qa
    monkeypatch.setattr(qa.icp, "open_qa", lambda model, *a, **k: asked.append(model) or real(model, *a, **k))
    path = tmp_path / "qa.json"
    qa.main(path, quick=True, threads=1)
    assert len(asked) == 4 * 3 and len({id(model) for model in asked}) == 4
    found = json.loads(path.read_text())
    assert set(found["figures"]) == set(qa.CUTS)
    for figures in found["figures"].values():
        assert figures["facts, nats"]["change"]["mean"] != 0 and "self-consistency" in figures
    qa.main(path, quick=True, threads=1)
    assert len(asked) == 4 * 3, "nothing is asked twice"
    assert "triviaqa, hallucination" in capsys.readouterr().out


def test_shift_of_a_case_worked_by_hand():
    """Two reviews turned round; the second one is answered by the name alone."""
    texts = shift.Texts([("a", 0), ("b", 1), ("c", 1), ("d", 0)], True, "name")
    positive = np.array([[0.1, 0.2], [0.9, 0.6], [0.2, 0.9], [0.3, 0.8]])
    found = {
        name: float(changes.level(values[None], None, shift.NUMBERS.get(name, changes.mean))["mean"])
        for name, values in texts.features(changes.packed(positive, 6)).items()
    }
    chosen = np.maximum(positive, 1 - positive)
    ece = metrics.multiclass_calibration_error(
        *map(shift.torch.tensor, (np.stack([1 - positive, positive], -1).reshape(-1, 2), texts.labels.repeat(2))),
        num_classes=2, n_bins=15,
    )  # fmt: skip
    assert chosen.min() > 0.5
    assert found == {
        "accuracy": 75.0, "accuracy, aligned": 100.0, "accuracy, inverted": 50.0, "consistency": 50.0,
        "sensitivity": 50.0, "ECE": pytest.approx(100 * float(ece)),
    }  # fmt: skip
    assert texts.clusters(4)[:, 1].tolist() == [0, 0, 1, 1] and texts.clusters(2)[:, 1].tolist() == [0, 1]
    alone = shift.Texts(texts.rows, False, "name").features(changes.packed(positive, 6))
    assert not {"sensitivity", "consistency"} & set(alone), "consistency says little alone"


@pytest.fixture
def reviews(tmp_path):
    """SST-2's and the paired reviews' layouts with rows of our own, one pair too long."""
    (tmp_path / "sst2").mkdir()
    for part, count in (("train", 60), ("dev", 12), ("test", 12)):
        rows = [f"the nurse of {part} laughed {n}\t{n % 2}" for n in range(count)]
        (tmp_path / "sst2" / f"{part}.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "cad_imdb" / "combined_paired").mkdir(parents=True)
    with (tmp_path / "cad_imdb" / "combined_paired" / "test_paired.tsv").open("w", newline="") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(["Sentiment", "Text", "batch_id"])
        for number, verb in enumerate(("laughed", "ran " * 200, "smiled")):
            rows.writerow(["Negative", f"The doctor {verb}", number])
            rows.writerow(["Positive", f"The nurse {verb}", number])
    return tmp_path


def test_shift_takes_what_a_study_has_and_makes_nothing(reviews, tmp_path, monkeypatch, capsys):
    """Of three seeds one is tested, of the methods two; a run that is not there is refused, and none is trained."""
    protocol = {
        "seeds": [0, 1, 2], "sentences": {"train": 8, "rank": 4, "select": 4, "test": 10},
        "arguments": {"num_train_epochs": 1, "per_device_train_batch_size": 4}, "tuned": True, "curves": False,
        "agree": 0.95, "cue": "name",
    }  # fmt: skip
    rounds = [{"part": "test", "method": "erm", "seed": 0, "settings": {}},
              {"part": "tuning", "method": "consistency", "seed": 0, "settings": {"weight": 1.0}},
              {"part": "test", "method": "consistency", "seed": 0, "settings": {"weight": 0.3}},
              {"part": "test", "method": "consistency", "seed": 0, "settings": {"weight": 3.0}}]  # fmt: skip
    study, path = tmp_path / "study.json", tmp_path / "shift.json"
    study.write_text(json.dumps({"about": {"protocol": protocol}, "rounds": rounds[:1]}))
    base = BY_NAME["llama"].model()
    monkeypatch.setattr(planted_cue, "ANSWERS", ANSWERS)
    monkeypatch.setattr(planted_cue, "CUES", {"name": ("The{} said that {}", (" nurse", " doctor"))})
    monkeypatch.setattr(planted_cue, "data_folder", lambda: reviews)
    monkeypatch.setattr(robustness.icp, "load", lambda name: base)
    call = dict(study=study, quick=True, threads=1)
    with pytest.raises(SystemExit, match=r"study-runs/seed-0 has no finished 'erm': keep the study's folder"):
        shift.main(path, **call)
    assert not (tmp_path / "study-runs").exists(), "nothing was trained"
    runs = tmp_path / "study-runs"
    made = robustness.trial_of(shift.protocol_of(json.loads(study.read_text())), 0, runs)
    assert len(made.ranking.units) > 100, "plain fine-tuning, and the cue's effects in it"
    trained = sorted((file, file.stat().st_mtime_ns) for file in runs.rglob("*"))
    shift.main(path, **call)
    found = json.loads(path.read_text())
    assert set(found["levels"]) == {"sst2", "cad_imdb"} and set(found["levels"]["sst2"]) == {"base", "erm"}
    assert found["about"]["texts"] == {"sst2": 10, "cad_imdb": 4} and "from_erm" in found

    def ranked(trial, weight):
        assert trial.ranking.units == made.ranking.units
        return trial.base if weight == 3.0 else trial.erm

    moved = {"consistency": SimpleNamespace(make=ranked)}
    monkeypatch.setattr(shift, "METHODS", shift.METHODS | moved)
    for some in (rounds[:3], rounds):
        study.write_text(json.dumps({"about": {"protocol": protocol}, "rounds": some}))
        shift.main(path, **call)
    assert trained == sorted((file, file.stat().st_mtime_ns) for file in runs.rglob("*")), "nothing was written"
    found = json.loads(path.read_text())
    assert [row["method"] for row in found["rounds"]] == ["base", "erm", "consistency", "consistency"]
    assert [row["settings"] for row in found["rounds"][2:]] == [{"weight": 0.3}, {"weight": 3.0}]
    assert found["levels"]["cad_imdb"]["base"] == found["levels"]["cad_imdb"]["consistency"]
    assert found["from_erm"]["cad_imdb"]["consistency"]["ECE"]["change"]["mean"] is not None
    assert "change from plain fine-tuning" in capsys.readouterr().out


def test_shift_says_which_study_is_missing(tmp_path):
    with pytest.raises(SystemExit, match=r"there is no .*nothing\.json: run benchmarks/robustness\.py"):
        shift.main(tmp_path / "out.json", study=tmp_path / "nothing.json")


def test_only_the_settings_that_a_study_settled_on_last_are_taken():
    """Also where not every seed has been tested with them yet."""
    rows = [{"part": "test", "method": "icp_reg", "seed": s, "settings": {"weight": 3.0}} for s in (0, 1, 2)]
    rows += [{"part": "tuning", "method": "icp_reg", "seed": 0, "settings": {"weight": 9.0}}]
    rows += [{"part": "test", "method": "icp_reg", "seed": 0, "settings": {"weight": 5.0}}]
    found = shift.tested({"rounds": rows})
    assert [(row["method"], row["seed"], row["settings"]) for row in found] == [
        ("base", None, {}), ("icp_reg", 0, {"weight": 5.0}),
    ]  # fmt: skip
