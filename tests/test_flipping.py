"""Losses on label-flipping pairs against plain computations, several of them in one run, and the kinds they refuse."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS
from training import batch_step, gradients

import icp
from icp import baselines, data
from icp.divergence import kl
from icp.rows import Rows

ANSWERS = (" she", " he", " it")
TEXTS = (*EQUAL_PAIRS, ("It was late and the nurse said", "It was late and the old doctor said"))
PROBE = icp.Probe(tuple(icp.Example(x, other, ANSWERS, label) for (x, other), label in zip(TEXTS, (0, 1, 2, 0))))
FLIPPING = icp.FlippingPairs(PROBE, (1, 2, 0, 2))
PRESERVING = icp.PreservingPairs(PROBE)
LOSSES = (baselines.FlippedCrossEntropy(), baselines.FlippedMargin(), baselines.SwappedConsistency())
IDS = [type(loss).__name__ for loss in LOSSES]


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model()


def logits(model, text):
    found = model.module(torch.tensor([model.tokenizer(text)["input_ids"]])).logits[0, -1]
    return found[[model.tokenizer(answer)["input_ids"][0] for answer in ANSWERS]]


def plainly(model, loss):
    """The mean over the pairs, one pair at a time."""
    found = []
    for example, label in zip(PROBE.examples, FLIPPING.flipped):
        one, other = logits(model, example.text), logits(model, example.counterpart)
        match loss:
            case baselines.FlippedCrossEntropy():
                found.append(-other.log_softmax(0)[label])
            case baselines.FlippedMargin():
                lacking = [loss.margin - (one[example.label] - one[label]),
                           loss.margin - (other[label] - other[example.label])]  # fmt: skip
                found.append(sum(torch.relu(value) for value in lacking) / 2)
            case baselines.SwappedConsistency():
                found.append(kl(one.detach()[None], other[None])[0])
    return loss.weight * torch.stack(found).mean()


@pytest.mark.parametrize(
    "loss",
    (
        baselines.FlippedCrossEntropy(2.0), baselines.FlippedMargin(0.5, margin=0.3),
        baselines.FlippedMargin(margin=4.0), baselines.SwappedConsistency(3.0),
    ),
)  # fmt: skip
def test_each_is_the_plain_computation_in_value_and_gradient(model, loss):
    found, expected = loss.penalty(batch_step(model, FLIPPING, loss)), plainly(model, loss)
    assert expected.item() > 1e-3
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    got, want = gradients(model, found), gradients(model, expected)
    largest = max(value.abs().max().item() for value in want.values())
    assert max((got[name] - want[name]).abs().max().item() for name in want) < 1e-5 * largest


def test_a_margin_that_is_kept_costs_nothing_and_one_member_alone_does_not_keep_it(model):
    step = batch_step(model, FLIPPING)
    columns = torch.arange(len(PROBE))

    def lost(ahead, other):
        one, two = torch.zeros(len(PROBE), 3).double(), torch.zeros(len(PROBE), 3).double()
        one[columns, step.targets], two[columns, step.flipped] = ahead, other
        there = dataclasses.replace(step, logits=one, run=lambda batch, reads: two)
        return baselines.FlippedMargin(margin=2.0).penalty(there).item()

    assert lost(2.0, 2.5) == 0
    assert lost(9.0, 0.5) == pytest.approx(0.75)
    assert lost(-1.0, 9.0) == pytest.approx(1.5)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_label_preserving_pairs_are_refused(model, loss):
    name = type(loss).__name__
    with pytest.raises(icp.ProbeError, match=f"{name} needs label-flipping pairs and was given label-preserving"):
        icp.Losses.of(model, PRESERVING, loss)
    with pytest.raises(icp.ProbeError, match="needs label-flipping pairs"):
        icp.Losses.of(model, PROBE, icp.OnPairs(loss, PROBE, per_step=2))


@pytest.mark.parametrize("weight", (0.0, -1.0, float("nan")))
@pytest.mark.parametrize("loss", (*LOSSES, baselines.Consistency()), ids=[*IDS, "Consistency"])
def test_weights_and_margins_are_positive(loss, weight):
    with pytest.raises(icp.IcpError, match=r"weight=.* has to be a positive number"):
        dataclasses.replace(loss, weight=weight)
    with pytest.raises(icp.IcpError, match=r"margin=.* has to be a positive number"):
        baselines.FlippedMargin(margin=weight)


def test_pairs_of_both_kinds_are_penalised_in_one_step(model):
    """Beside plain rows: the sum of what each loss is on its own pairs."""
    some = (
        icp.OnPairs(baselines.Consistency(), icp.PreservingPairs(PROBE.swapped()), per_step=4),
        icp.OnPairs(baselines.FlippedCrossEntropy(), FLIPPING, per_step=4),
        icp.OnPairs(baselines.FlippedMargin(0.5), FLIPPING, per_step=4, seed=3),
    )
    rows = icp.Probe(tuple(dataclasses.replace(example, counterpart=None) for example in PROBE.examples))
    found = icp.Losses.of(model, rows, some).step([0, 1, 2, 3], number=0)
    swapped = icp.PreservingPairs(PROBE.swapped())
    expected = baselines.Consistency().penalty(batch_step(model, swapped)) + sum(
        one.objective.penalty(batch_step(model, FLIPPING)) for one in some[1:]
    )
    assert found.penalty.item() == pytest.approx(expected.item(), rel=1e-4)
    assert found.task.item() == pytest.approx(batch_step(model, rows).row_losses.mean().item(), rel=1e-5)


def test_several_objectives_train_and_are_told_apart_in_a_folder(model, tmp_path):
    arguments = {"max_steps": 12, "per_device_train_batch_size": 4, "learning_rate": 1e-2}
    call = dict(arguments=arguments, progress=False)
    both = (baselines.FlippedCrossEntropy(), baselines.FlippedMargin())
    tuned = icp.finetune(model, FLIPPING, objective=both, folder=tmp_path / "run", **call)

    def lost(model):
        return sum(loss.penalty(batch_step(model, FLIPPING)).item() for loss in both)

    assert lost(tuned) < 0.2 * lost(model)
    with pytest.raises(icp.ArtefactError, match="was begun with objectives"):
        icp.finetune(model, FLIPPING, objective=both[0], folder=tmp_path / "run", **call)


def test_two_objectives_that_say_what_the_task_is_are_refused(model):
    with pytest.raises(icp.IcpError, match="GroupDRO says what the task's loss is, as does CounterfactualAugmentation"):
        icp.Losses.of(model, PRESERVING, (baselines.CounterfactualAugmentation(), baselines.GroupDRO()))


def test_pairs_whose_members_have_both_labels_need_no_others(model):
    """Every x of one class: its counterpart is of the other."""
    alike = icp.Probe(tuple(dataclasses.replace(example, label=0) for example in PROBE.examples))
    assert Rows.of(model, icp.FlippingPairs(alike, (1, 2, 1, 2))).flipped.tolist() == [1, 2, 1, 2]
    with pytest.raises(icp.ProbeError, match="all 4 rows have the label 0"):
        Rows.of(model, icp.PreservingPairs(alike))


def test_other_labels_of_the_counterparts_are_another_run(model, tmp_path):
    arguments = {"max_steps": 1, "per_device_train_batch_size": 4}
    others = icp.FlippingPairs(PROBE, (2, 0, 1, 1))
    on = [icp.OnPairs(baselines.FlippedMargin(), pairs, per_step=2) for pairs in (FLIPPING, others)]
    assert on[0].label != on[1].label
    call = dict(objective=baselines.FlippedMargin(), arguments=arguments, folder=tmp_path / "run", progress=False)
    icp.finetune(model, FLIPPING, **call)
    with pytest.raises(icp.ArtefactError, match="was begun with rows"):
        icp.finetune(model, others, **call)


def test_short_reviews_that_people_rewrote_are_a_contrast_set(model):
    folder = Path(os.environ.get("ICP_DATA") or "-") / "cad_imdb"
    if not folder.is_dir():
        pytest.skip("ICP_DATA names no folder with cad_imdb: the real files are not copied into this project")
    pairs = data.cad_imdb(folder, "test").to_pairs("{text} nurse", (" she", " he"))
    short = [row for row, example in enumerate(pairs.probe.examples)
             if max(len(text.split(" ")) for text in (example.text, example.counterpart)) < 40]  # fmt: skip
    few = icp.FlippingPairs.of([pairs.probe.examples[row] for row in short], [pairs.flipped[row] for row in short])
    assert len(few) > 1
    metrics = ["accuracy", "contrast_accuracy", "pairwise_accuracy"]
    found = icp.evaluate(model, few.probe, metrics, flipping=few).values[model.name]
    others = icp.Probe(tuple(dataclasses.replace(example, label=label)
                             for example, label in zip(few.probe.swapped().examples, few.flipped)))  # fmt: skip
    assert (
        found["contrast_accuracy"] == icp.evaluate(model, others, ["accuracy"]).values[model.name]["accuracy"]
    ).all()
    assert (found["pairwise_accuracy"] == found["accuracy"] * found["contrast_accuracy"]).all()
