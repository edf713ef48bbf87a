"""Every metric against numbers worked out from the full logits; intervals against scipy."""

import copy

import numpy as np
import planted
import pytest
import torch
from helpers import BY_NAME, make_probe
from scipy import stats

import icp
from icp.evaluation import Inputs


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return BY_NAME[request.param].model()


@pytest.fixture(scope="module")
def probe():
    return make_probe()


def log_probabilities(model, text):
    """log p of every next token [pos, vocab], of one text alone, straight from the module; and its tokens."""
    ids = model.tokenizer(text)["input_ids"]
    with torch.no_grad():
        return model.module(torch.tensor([ids])).logits[0].log_softmax(-1).numpy(), ids


def by_hand(model, probe):
    """Each metric [example], one example and one answer at a time."""
    found = {"gap": [], "accuracy": [], "task_loss": [], "next_token_loss": []}
    for example in probe.examples:
        answers = [model.tokenizer(a)["input_ids"][0] for a in example.answers]
        at_end, gaps = {}, []
        for text in (example.text, example.counterpart):
            log_p, ids = log_probabilities(model, text)
            at_end[text] = log_p[-1]
            gaps.append(log_p[-1][answers[0]] - log_p[-1][answers[1]])
            if text == example.text:
                found["next_token_loss"].append(-np.mean([log_p[i - 1][ids[i]] for i in range(1, len(ids))]))
        mine = at_end[example.text]
        found["gap"].append(abs(gaps[0] - gaps[1]))
        found["accuracy"].append(float(np.argmax([mine[a] for a in answers]) == example.label))
        found["task_loss"].append(-mine[answers[example.label]])
    return {metric: np.array(values) for metric, values in found.items()}


def test_metrics_are_what_the_full_logits_say(model, probe):
    expected = by_hand(model, probe)
    assert 0 < expected["accuracy"].sum() < len(probe), "some right, some wrong, or accuracy is not tested"
    evaluation = icp.evaluate(model, probe, metrics=list(expected))
    for metric, values in expected.items():
        np.testing.assert_allclose(evaluation.values[model.name][metric], values, atol=1e-9, err_msg=metric)


def test_metrics_of_a_bfloat16_model_are_near_those_of_the_same_weights_in_float32(model, probe):
    rounded = icp.load(copy.deepcopy(model.module).bfloat16(), model.tokenizer)
    full = icp.load(copy.deepcopy(rounded.module).float(), model.tokenizer)
    metrics = ["gap", "accuracy", "task_loss", "next_token_loss"]
    found = icp.evaluate({"bfloat16": rounded, "float32": full}, probe, metrics).values
    for metric, values in found["float32"].items():
        np.testing.assert_allclose(found["bfloat16"][metric], values, atol=0.03 * np.abs(values).max(), err_msg=metric)


def test_accuracy_is_among_any_number_of_answers(model, probe):
    answers = (" she", " he", " it", " the")
    for label in range(4):
        of_four = icp.Probe(tuple(icp.Example(e.text, answers=answers, label=label) for e in probe.examples))
        found = icp.evaluate(model, of_four).values[model.name]["accuracy"]
        ids = [model.tokenizer(a)["input_ids"][0] for a in answers]
        best = [int(np.argmax(log_probabilities(model, e.text)[0][-1][ids])) for e in probe.examples]
        assert found.tolist() == [float(b == label) for b in best]


def test_the_probability_of_each_answer_is_what_the_full_logits_say(model, probe):
    """Texts of several lengths in one batch, each as it is alone."""
    answers = (" she", " he", " it", " the")
    of_four = icp.Probe(tuple(icp.Example(e.text, answers=answers, label=0) for e in probe.examples))
    found = icp.evaluate(model, of_four, ["ece"]).answers.predictions(model.name)
    ids = [model.tokenizer(a)["input_ids"][0] for a in answers]
    for row, example in enumerate(of_four.examples):
        alone = np.exp(log_probabilities(model, example.text)[0][-1][ids])
        np.testing.assert_allclose(found.probabilities[row], alone / alone.sum(), atol=1e-9)


def test_answers_that_tie_are_not_right():
    """Neither answer then has the largest logit."""
    blind = icp.load(planted.module(), planted.tokenizer())
    with torch.no_grad():
        blind.module.lm_head.weight[[planted.WORDS.index(word) for word in ("good", "bad")]] = 0
    found = icp.evaluate(blind, planted.probe().take(8), ["accuracy"]).values[blind.name]["accuracy"]
    assert found.tolist() == [0.0] * 8


def test_the_gap_of_another_property(model, probe):
    found = icp.evaluate(model, probe, ["gap"], property=icp.Probability(1)).values[model.name]["gap"]
    for value, example in zip(found, probe.examples):
        he = model.tokenizer(" he")["input_ids"][0]
        p = [np.exp(log_probabilities(model, text)[0][-1][he]) for text in (example.text, example.counterpart)]
        assert value == pytest.approx(abs(p[0] - p[1]), abs=1e-9)


def test_metrics_follow_what_the_probe_has(model, probe):
    def metrics_of(**fields):
        rows = tuple(icp.Example(**{"text": "The nurse ran", "answers": (" she", " he")} | fields) for _ in range(2))
        return list(icp.evaluate(model, icp.Probe(rows)).values[model.name])

    assert list(icp.evaluate(model, probe).values[model.name]) == ["gap", "accuracy", "task_loss"]
    assert metrics_of(label=0) == ["accuracy", "task_loss"]
    assert metrics_of(counterpart="The doctor ran") == ["gap"]


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_intervals_are_t_intervals_of_the_mean(level):
    values = np.array([0.1, 0.4, -0.3, 0.9, 0.2])
    row = icp.Evaluation({"m": {"gap": values}}).table(level).loc[("gap", "m")]
    low, high = stats.t.interval(level, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert (row["mean"], row["low"], row["high"], row["n"]) == pytest.approx((values.mean(), low, high, 5))


@pytest.mark.parametrize(("right", "count"), [(0, 5), (3, 7), (20, 20)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_accuracy_has_a_wilson_interval(right, count, level):
    values = np.array([1.0] * right + [0.0] * (count - right))
    row = icp.Evaluation({"m": {"accuracy": values}}).table(level).loc[("accuracy", "m")]
    share, z = right / count, stats.norm.ppf(0.5 + level / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((share, centre - half, centre + half), abs=1e-12)
    assert 0 <= row["low"] < row["high"] <= 1


def test_a_change_is_paired_example_by_example():
    """Example by example the second model is 0.1 better: the interval is narrow though the values are far apart."""
    before = np.array([1.0, 5.0, 9.0, 13.0])
    after = before - np.array([0.1, 0.1, 0.15, 0.05])
    evaluation = icp.Evaluation({"before": {"gap": before}, "after": {"gap": after}})
    row = evaluation.change("before", "after").loc["gap"]
    interval = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((-0.1, interval.low, interval.high))
    assert row["relative"] == pytest.approx(-0.1 / 7)
    assert row["high"] < 0
    back = evaluation.change("after", "before").loc["gap"]
    assert (back["low"], back["high"]) == pytest.approx((-row["high"], -row["low"]))


def test_an_accuracy_that_does_not_change_still_has_an_uncertain_change():
    right = np.ones(40)
    row = icp.Evaluation({"a": {"accuracy": right}, "b": {"accuracy": right}}).change("a", "b").loc["accuracy"]
    lost = stats.binomtest(0, 40).proportion_ci(0.95, "wilson").high
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.0, -lost, lost))
    after = np.array([0.0] * 10 + [1.0] * 30)
    row = icp.Evaluation({"a": {"accuracy": right}, "b": {"accuracy": after}}).change("a", "b").loc["accuracy"]
    assert row["mean"] == -0.25 and row["low"] < -0.25 < row["high"] < 0


def test_one_example_has_no_interval_and_a_mean_of_zero_no_relative_change():
    evaluation = icp.Evaluation({"a": {"gap": np.array([0.0])}, "b": {"gap": np.array([2.0])}})
    row = evaluation.table().loc[("gap", "b")]
    assert row["mean"] == 2.0 and np.isnan([row["low"], row["high"]]).all()
    assert np.isnan(evaluation.change("a", "b").loc["gap", "relative"])


def test_several_models_by_name(model, probe):
    other = BY_NAME["gpt2"].model(seed=5)
    table = icp.evaluate({"one": model, "other": other}, probe).table()
    assert set(table.index.get_level_values("model")) == {"one", "other"}
    assert table.loc[("gap", "one"), "mean"] != table.loc[("gap", "other"), "mean"]
    assert table.loc[("gap", "other"), "mean"] == pytest.approx(by_hand(other, probe)["gap"].mean())


def test_what_cannot_be_evaluated_says_why(model, probe):
    bare = icp.Probe.from_texts(["The nurse ran"])
    alone = icp.Probe.from_texts(["The nurse ran"], answers=(" she", " he"))
    one_answer = icp.Probe.from_texts([icp.Example("The nurse ran", answers=(" she",), label=0)])
    for words, call in [
        ("name metrics=['next_token_loss']", lambda: icp.evaluate(model, bare)),
        ("unknown metric 'f2': use one of gap, accuracy", lambda: icp.evaluate(model, probe, ["f2"])),
        ("some examples have no counterpart", lambda: icp.evaluate(model, alone, ["gap"])),
        ("needs the right answer of 'The nurse ran'", lambda: icp.evaluate(model, bare, ["accuracy"])),
        ("no model was given", lambda: icp.evaluate({}, probe)),
        ("'The nurse ran' has 1 answer", lambda: icp.evaluate(model, one_answer, ["accuracy"])),
        ("no model 'c' was evaluated: there are a, b", lambda: icp.Evaluation({"a": {}, "b": {}}).change("a", "c")),
    ]:  # fmt: skip
        with pytest.raises(icp.IcpError) as error:
            call()
        assert words in str(error.value)


def test_an_evaluation_knows_its_models_and_its_inputs(model, probe):
    other = icp.Probe(probe.examples[:2])
    one = icp.evaluate({"m": model}, probe, ["gap"])
    assert one.bindings == {"m": model.binding}
    np.testing.assert_array_equal(one.inputs["gap"].clusters, probe.clusters)
    digests = {
        icp.evaluate({"m": model}, inputs, ["gap"], property=p).inputs["gap"].digest
        for inputs in (probe, other)
        for p in (icp.LogitDifference(), icp.Probability(1))
    }
    assert len(digests) == 4


def test_evaluations_join_by_model_and_by_metric(model, probe):
    whole = icp.evaluate({"a": model, "b": model}, probe, ["gap", "accuracy"])
    parts = [icp.evaluate({name: model}, probe, [metric]) for name in "ab" for metric in ("gap", "accuracy")]
    joined = parts[0] | parts[1] | parts[2] | parts[3]
    assert joined.table().equals(whole.table()) and joined.bindings == whole.bindings
    assert list(parts[0].values["a"]) == ["gap"], "joining leaves its parts as they were"


def test_a_model_that_returns_nan_has_no_accuracy(model, probe):
    broken = model.copy()
    with torch.no_grad():
        broken.unembed.weight.fill_(float("nan"))
    with pytest.raises(icp.NotFiniteError, match="measure in float32, or leave this input out"):
        icp.evaluate(broken, probe, ["accuracy"])
    with pytest.raises(icp.NotFiniteError, match="returns nan for an answer to 'The nurse said that': measure in"):
        icp.evaluate(broken, probe, ["ece"])


def test_a_gap_of_gaps_is_refused(model, probe):
    for call in (
        lambda: icp.evaluate(model, probe, ["gap"], property=icp.PairGap()),
        lambda: icp.measure_sets(model, probe, [["hook_embed[0]"]], icp.Mask(), property=icp.PairGap(), progress=False),
    ):
        with pytest.raises(icp.IcpError, match=r"is read off two runs, which only icp.measure makes: pass LogitDiff"):
            call()


def test_what_cannot_be_joined_or_compared_says_why(model, probe):
    few = icp.Probe(probe.examples[:2])
    gap, accuracy = (icp.evaluate({"a": model}, probe, [metric]) for metric in ("gap", "accuracy"))
    elsewhere = icp.evaluate({"b": model}, few, ["gap"])
    seeded = icp.evaluate({"a": BY_NAME["gpt2"].model(seed=5)}, probe, ["accuracy"])
    values = {"a": {"gap": np.zeros(3)}, "b": {"gap": np.zeros(2)}}
    for words, call in [
        ("'gap' was measured on other inputs there", lambda: gap | elsewhere),
        ("'gap' of 'a' is in both", lambda: gap | gap),
        ("'a' is another model there", lambda: gap | seeded),
        ("'gap' has 2 values for 'b' and 3 for 'a'", lambda: icp.Evaluation(values)),
        ("2 values for 'b' and 1 for its inputs", lambda: icp.Evaluation(
            {"b": values["b"]}, {"gap": Inputs("d", np.zeros((1, 2), int))})),
        ("no metric was measured for both 'a' and 'b'",
         lambda: icp.Evaluation({"a": values["a"], "b": {}}).change("a", "b")),
    ]:  # fmt: skip
        with pytest.raises(icp.IcpError) as error:
            call()
        assert words in str(error.value).replace("'its inputs'", "its inputs")
    assert set((gap | accuracy).values["a"]) == {"gap", "accuracy"}
