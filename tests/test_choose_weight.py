"""The choice of a weight: on held-out rows by a stated criterion, against training each weight by hand."""

import dataclasses
import sys

import pytest
import torch
from helpers import BY_NAME

import icp
from icp import baselines

ANSWERS = (" she", " he")
CUES, VERBS = ("nurse", "doctor"), ("ran", "smiled")


def rows(opening, cells=((0, 0), (0, 1), (1, 0), (1, 1))):
    """The label follows the verb, the group is the cue; counterparts have the other cue."""
    examples = []
    for label, cue in cells:
        text, other = (f"{opening} {CUES[c]} {VERBS[label]}" for c in (cue, 1 - cue))
        examples.append(icp.Example(text, other, ANSWERS, label, group=str(cue)))
    return icp.Probe(tuple(examples))


def joined(*probes):
    return icp.Probe(tuple(example for probe in probes for example in probe.examples))


ALIGNED = ((0, 0), (1, 1))
TRAIN = joined(*(rows(opening, ALIGNED) for opening in ("The", "The old", "It was late and the")))
SELECTION = rows("It said that the")
FLIPPING = icp.FlippingPairs.of(
    [dataclasses.replace(e, counterpart=f"It laughed because the {CUES[int(e.group)]} {VERBS[1 - e.label]}")
     for e in rows("It laughed because the").examples],
    [1 - e.label for e in rows("It laughed because the").examples],
)  # fmt: skip
CALL = {"arguments": {"max_steps": 15, "learning_rate": 3e-3}, "progress": False}


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model(torch.float32)


def choose(model, weights=(1.0, 20.0), **options):
    options = {"criterion": "task_loss", "flipping": FLIPPING} | options
    return icp.choose_weight(model, TRAIN, baselines.Consistency, SELECTION, weights=weights, **options, **CALL)


def test_the_model_of_the_best_weight_is_chosen(model):
    found = choose(model)
    by_hand = {w: icp.finetune(model, TRAIN, objective=baselines.Consistency(w), **CALL) for w in (1.0, 20.0)}
    losses = {
        w: icp.evaluate(tuned, SELECTION, ["task_loss"]).values[tuned.name]["task_loss"].mean()
        for w, tuned in by_hand.items()
    }
    assert losses[1.0] != pytest.approx(losses[20.0], rel=1e-3)
    assert found.weight == min(losses, key=losses.get)
    assert all(torch.equal(a, b) for a, b in zip(found.model.module.parameters(),
                                                 by_hand[found.weight].module.parameters()))  # fmt: skip
    table = found.table()
    assert table["mean"].to_dict() == pytest.approx(losses)
    assert table["chosen"].to_dict() == {w: w == found.weight for w in losses}
    assert (table["low"] < table["mean"]).all()
    assert {"consistency", "sensitivity", "pairwise_accuracy"} <= set(found.evaluation.metrics)
    assert found.evaluation.models == ["before", "1.0", "20.0"]


def test_of_equal_models_the_smallest_weight_is_chosen(model):
    arguments = CALL["arguments"] | {"learning_rate": 0.0, "max_steps": 1}
    for weights in ((0.5, 0.1), (0.1, 0.5)):
        found = icp.choose_weight(
            model, TRAIN, baselines.Consistency, SELECTION, weights=weights, arguments=arguments, progress=False
        )
        assert (found.weight, found.criterion) == (0.1, "worst_group_accuracy")


def test_each_weight_is_resumed_from_its_folder(model, tmp_path, monkeypatch):
    first = choose(model, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weight-1.0", "weight-20.0"]
    monkeypatch.setattr(sys.modules["icp.finetune"], "_trained", lambda *_: pytest.fail("trained again"))
    assert choose(model, folder=tmp_path).weight == first.weight


@pytest.mark.parametrize(
    ("options", "says"),
    (
        ({"criterion": "consistency"}, "cannot be chosen by 'consistency', which says nothing of right answers"),
        ({"criterion": "pairwise_accuracy", "flipping": None}, "needs pairs whose label flips"),
        ({"weights": (0.1, 0.1)}, r"the weights \(0.1, 0.1\) have to be"),
        ({"weights": ()}, "one or more different"),
        ({"weights": (0.0,)}, "positive numbers"),
        ({"selection": joined(SELECTION, TRAIN)}, "texts that are not trained on: '.*' and 11 more are in both"),
        ({"selection": icp.Probe((dataclasses.replace(SELECTION.examples[0], text=TRAIN.examples[0].counterpart),))},
         "not trained on: .* is in both"),
        ({"flipping": icp.FlippingPairs.of(TRAIN.examples, [1 - e.label for e in TRAIN.examples])}, "not trained on"),
        ({"test": SELECTION}, "texts that are not of the test"),
        ({"selection": icp.Probe(tuple(dataclasses.replace(e, group=None) for e in SELECTION.examples)),
          "criterion": "worst_group_accuracy"}, "'worst_group_accuracy' cannot be had"),
    ),
)  # fmt: skip
def test_a_choice_that_means_nothing_is_refused_before_training(model, options, says, monkeypatch):
    monkeypatch.setattr(sys.modules["icp.choose_weight"], "finetune", lambda *_, **__: pytest.fail("trained"))
    options = {"selection": SELECTION, "objective": baselines.Consistency} | options
    with pytest.raises(icp.IcpError, match=says):
        icp.choose_weight(model, TRAIN, **options)


def test_pairs_of_a_penalty_count_as_trained_on(model):
    with pytest.raises(icp.ProbeError, match="not trained on"):
        icp.choose_weight(
            model, TRAIN, lambda w: icp.OnPairs(baselines.Consistency(w), SELECTION, per_step=2), SELECTION, **CALL
        )
