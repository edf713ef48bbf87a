"""The planted-cue study: its splits, its arithmetic, what is chosen on what, and that it goes on where it stopped."""

import json
from concurrent.futures import ThreadPoolExecutor

import mitigations
import numpy as np
import planted_cue
import pytest
import robustness
import robustness_plot
from helpers import BY_NAME

import icp

SIZES = planted_cue.Sizes(train=40, rank=10, select=12, test=30)


@pytest.fixture
def folder(tmp_path):
    """SST-2's layout with sentences of our own, some too short or too long and some repeated."""
    (tmp_path / "sst2").mkdir()
    for part, count in (("train", 90), ("dev", 12), ("test", 12)):
        rows = [f"the {part} film number {n} was shown\t{n % 2}" for n in range(count)]
        rows += ["too short\t1", "a " * 20 + "\t0", rows[0], 'it was "nice as things go\t1']
        (tmp_path / "sst2" / f"{part}.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_no_sentence_is_in_two_splits_and_what_is_tested_on_is_the_same_for_every_seed(folder):
    by_seed = [planted_cue.splits(folder, seed, SIZES) for seed in (0, 1)]
    for splits in by_seed:
        parts = [splits.train, splits.rank, splits.select, splits.test]
        assert [len(part) for part in parts] == [40, 10, 12, 30]
        texts = [text for part in parts for text, _ in part]
        assert len(set(texts)) == len(texts) and not {"too short", ("a " * 20).strip()} & set(texts)
    assert by_seed[0].test == by_seed[1].test and by_seed[0].train != by_seed[1].train
    held = [text for text, _ in by_seed[0].test if " train film" not in text]
    assert len(held) == 25, "all 24 of SST-2's own, and the odd one once"
    with pytest.raises(SystemExit, match="150 sentences are wanted to train, rank and select on, and there are"):
        planted_cue.splits(folder, 0, planted_cue.Sizes(train=100, rank=20, select=30, test=30))
    with pytest.raises(SystemExit, match=r"there is no .*dev\.tsv"):
        planted_cue.read(folder / "nowhere", "dev")


def test_the_cue_agrees_with_the_label_as_often_as_asked(folder):
    rows = planted_cue.splits(folder, 0, SIZES).train
    probe = planted_cue.agreeing(rows, 0.9, seed=3)
    for label in (0, 1):
        mine = [example for example in probe.examples if example.label == label]
        agreeing = sum(example.group == ("Paul", "Anna")[label] for example in mine)
        assert agreeing == round(0.9 * len(mine))
    for example, (text, _) in zip(probe.examples, rows):
        assert example.text == f"Review by {example.group}: {text}\nSentiment:"
        assert {example.text, example.counterpart} == {f"Review by {n}: {text}\nSentiment:" for n in ("Paul", "Anna")}
    assert {example.group for example in planted_cue.aligned(rows).examples if example.label == 0} == {"Paul"}
    both = planted_cue.both(rows).examples
    assert [example.group for example in both[:4]] == ["Paul", "Anna"] * 2 and both[0].counterpart == both[1].text


def test_figures_tell_right_from_wrong_by_the_value_of_the_cue(monkeypatch):
    """Three sentences with labels 0, 1, 1; an answer is 0 where the logit difference is positive."""
    both = planted_cue.both([("it was bad", 0), ("it was good", 1), ("how very good", 1)])
    values = np.array([2.0, -1.0, -1.0, -3.0, 4.0, 1.0])  # Paul, Anna; Paul goes with 0
    monkeypatch.setattr(mitigations, "clean_values", lambda *_: values)
    found = mitigations.figures(BY_NAME["gpt2"].model(), both)
    assert found == {"aligned": "110", "inverted": "010", "labels": "011", "gap": pytest.approx((3 + 2 + 3) / 3)}


def test_accuracies_of_a_case_worked_by_hand():
    right = np.array([[1, 1, 0, 1], [1, 0, 0, 1]])  # aligned and inverted
    sums = robustness.counted(right, np.array([0, 0, 1, 1]))
    assert {name: float(value) for name, value in robustness.accuracy(sums.sum(0)).items()} == {
        "aligned": 75.0, "inverted": 50.0, "worst_group": 50.0,
    }  # fmt: skip
    twice = robustness.accuracy(sums[[0, 1, 1, 3]].sum(0))  # the second one stands there for the third as well
    assert {name: float(value) for name, value in twice.items()} == {
        "aligned": 100.0, "inverted": 50.0, "worst_group": pytest.approx(100 / 3),
    }  # fmt: skip


def row(method, seed, settings, aligned, inverted, part="test"):
    return {
        "part": part, "method": method, "seed": seed, "settings": settings, "aligned": aligned, "inverted": inverted,
        "labels": "0011", "gap": 1.0, "seconds": {"a": 1.0}, "seconds_here": 1.0, "seconds_tested": 1.0, "commit": "c",
    }  # fmt: skip


def test_settings_are_chosen_by_the_worst_group_of_what_they_are_selected_on():
    grid = robustness.METHODS["consistency"].settings
    bits = ["1101" if number in (1, 2) else "1100" for number in range(len(grid))]
    rounds = [row("consistency", 0, setting, b, b, "tuning") for setting, b in zip(grid, bits)]
    rounds.append(row("consistency", 0, grid[0], "1111", "1111"))
    protocol = robustness.Protocol()
    assert robustness.chosen("consistency", rounds, protocol) == grid[1]
    assert robustness.chosen("erm", rounds, protocol) == {}
    assert robustness.chosen("consistency", rounds, robustness.Protocol(tuned=False)) == grid[0]


def test_only_the_settings_that_were_settled_on_last_are_summarised():
    """As when a grid has grown in a study that goes on: the seeds of two settings are no six seeds of one."""
    tested = [row("icp_reg", seed, {"units": 200, "weight": 3.0}, "1111", "1100") for seed in (0, 1, 2)]
    curve = [row("chosen", seed, {"weight": 3.0, "units": 30}, "1111", "1100", "curve") for seed in (0, 1, 2)]
    again = [row("icp_reg", seed, {"units": 200, "weight": 5.0}, "1111", "1111") for seed in (0, 1)]
    again += [row("chosen", 0, {"weight": 5.0, "units": 30}, "1111", "1111", "curve")]
    again += [row("chosen", 0, {"weight": 5.0, "units": 10}, "1111", "0011", "curve")]
    found = robustness.summary([*tested, *curve, *again, row("erm", 0, {}, "1111", "0000")])
    assert found["methods"]["icp_reg"]["seeds"] == [0, 1]
    assert found["methods"]["icp_reg"]["inverted_seeds"] == [100.0, 100.0]
    assert found["curve"]["chosen"]["30"]["seeds"] == [0] and found["curve"]["chosen"]["30"]["inverted"] == 100.0
    assert found["curve"]["chosen"]["10"]["inverted"] == 50.0 and found["methods"]["erm"]["seeds"] == [0]


def fake(job, protocol, folder):
    """As many right answers as the method's name is long, and more for a larger weight."""
    fake.made.append(job)
    good = min(3, len(job.method) // 4 + (job.settings.get("weight") == 3.0))
    return {
        "aligned": "1" * 4, "inverted": "1" * good + "0" * (4 - good), "labels": "0011", "gap": 0.5,
        "seconds": {"a": 1.0}, "seconds_here": 1.0, "seconds_tested": 1.0, "commit": "abc",
    }  # fmt: skip


def test_a_study_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(robustness, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(robustness, "run", fake)
    fake.made, path = [], tmp_path / "out.json"
    robustness.main(path, only=["erm", "consistency"], workers=1)
    grid = robustness.METHODS["consistency"].settings
    assert len(fake.made) == 3 + len(grid) + 3, "erm, the grid of consistency on one seed, and consistency"
    assert {job.seed for job in fake.made if job.part == "tuning"} == {0}
    robustness.main(path, workers=1)
    keys = [json.dumps(job.key, sort_keys=True) for job in fake.made]
    assert len(set(keys)) == len(keys), "nothing is run twice"
    found = json.loads(path.read_text())
    assert set(found["methods"]) == set(robustness.METHODS)
    told = found["methods"]["consistency"]
    assert told["settings"] == {"weight": 3.0} and told["seeds"] == [0, 1, 2]
    assert told["inverted"] == 75.0 and told["inverted_seeds"] == [75.0] * 3
    low, high = told["inverted_ci"]
    assert low < 75 < high
    assert {"aligned_ci", "worst_group_ci", "worst_group_seeds"} <= set(told)
    assert found["differences"]["icp_reg - erm"]["seeds"] == [0, 1, 2]
    curves = mitigations.CURVES
    assert set(found["curve"]) == {name for name, curve in curves.items() if not curve.more}
    assert "2000" in found["curve"]["chosen"]
    assert {job.settings["weight"] for job in fake.made if job.method == "consistency on more pairs"} == {3.0}
    assert found["commits"] == ["abc"]
    assert "plotly" in path.with_suffix(".html").read_text()
    assert "icp_reg" in capsys.readouterr().out
    made = len(fake.made)
    robustness.main(path, workers=1)
    assert len(fake.made) == made
    robustness.main(path, workers=1, ablations=True)
    assert set(json.loads(path.read_text())["curve"]) == set(curves)


def test_a_run_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def failing(job, protocol, folder):
        if job.seed == 1:
            raise icp.IcpError("not that one")
        return fake(job, protocol, folder)

    monkeypatch.setattr(robustness, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(robustness, "run", failing)
    fake.made, path = [], tmp_path / "out.json"
    with pytest.raises(SystemExit, match=r"1 runs failed, the others are kept: .*'seed': 1.*: not that one"):
        robustness.main(path, only=["erm"], workers=1)
    assert {row["seed"] for row in json.loads(path.read_text())["rounds"]} == {0, 2}


def test_the_front_holds_what_nothing_else_exceeds():
    points = np.array([[50, 97], [87, 90], [85, 89], [87, 91], [40, 97], [90, 80]])
    assert robustness_plot.pareto(points) == [5, 3, 0]


def test_names_stand_clear_of_each_other():
    points = np.array([[50.0, 97.0], [50.5, 97.1], [51.0, 97.0], [87.0, 90.0], [86.8, 90.2]])
    names = ["erm", "weight_decay", "jtt", "consistency", "icp_reg"]
    offsets = robustness_plot.beside(points, names)
    at = (points - points.min(0)) / (points.max(0) - points.min(0)) * robustness_plot.PIXELS + np.array(offsets)
    for one in range(len(names)):
        for other in range(one):
            apart = abs(at[one] - at[other])
            assert apart[0] >= 3.5 * (len(names[one]) + len(names[other])) or apart[1] >= 18
    assert robustness_plot.beside(points[:1], ["erm"])[0] != (0, 0)


def test_every_method_of_the_issue_is_in_the_table():
    names = (
        "base erm icp_prune_only icp_prune icp_reg icp_hybrid cda consistency logit_pairing adversarial mmd ipw "
        "group_dro jtt dfr weight_decay influence"
    )
    assert set(names.split()) <= set(robustness.METHODS)


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """On a tiny model with few words, two rows a group."""
    monkeypatch.setattr(planted_cue, "ANSWERS", (" she", " he"))
    monkeypatch.setattr(planted_cue, "CUES", {"name": ("The{} said that {}", (" nurse", " doctor"))})
    sentences = [
        (f"the {word} {verb}", label) for word in ("nurse", "doctor") for verb, label in (("ran", 0), ("slept", 1))
    ]
    splits = planted_cue.Splits(sentences * 2, sentences, sentences, sentences)
    arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 4}
    return mitigations.Trial(BY_NAME["llama"].model(), splits, 0, 0.75, "name", arguments, tmp_path)


def changed(model, base):
    before, after = base.module.state_dict(), model.module.state_dict()
    return {key for key, value in after.items() if key not in before or not value.equal(before[key])}


@pytest.mark.parametrize("name", mitigations.CURVES)
def test_every_curve_makes_models(name, trial):
    curve = mitigations.CURVES[name]
    few = {"units": 4, "heads": 3, "pairs": 3, "third": 1}
    settings = curve.settings(curve.values[0], {"weight": 3.0})
    model = curve.make(trial, **{key: few.get(key, value) for key, value in settings.items()})
    assert changed(model, trial.base)


@pytest.mark.parametrize("name", [name for name in robustness.METHODS if name != "base"])
def test_every_method_makes_a_model(name, trial, tmp_path):
    """The settings are those that are tried first."""
    method = mitigations.METHODS[name]
    settings = method.settings[0]
    few = {"units": 4, "heads": 3, "cut": ["directions", 3]}
    model = method.make(trial, **{key: few.get(key, value) for key, value in settings.items()})
    assert (
        name in ("erm", "dfr")
        or any(path.name.startswith(name) for path in tmp_path.glob("*-seconds.json"))
        or (name.startswith("icp_") and (tmp_path / "cue-seconds.json").exists())
    )
    chosen, drawn = trial.chosen(12), trial.by_chance(12)
    assert sorted(unit.kind for unit in chosen) == sorted(unit.kind for unit in drawn)
    assert set(chosen) != set(drawn)
    assert changed(model, trial.base)
