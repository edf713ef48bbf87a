"""Pairs watched while training: the numbers, when a warning is due, and that training is not changed by it."""

import dataclasses
import warnings
from functools import cache

import pytest
import torch
from helpers import BY_NAME

import icp
from icp import baselines
from icp.errors import SensitivityWarning
from icp.losses import Losses
from icp.watch import Watched

ANSWERS = (" she", " he")
CUES = (("nurse", "carpenter"), ("doctor", "attendant"))
VERBS = (("ran", "laughed"), ("smiled", "quickly"))
OPENINGS = ("The", "It was late and the", "The old", "It said that the")


def rows(openings):
    """Every text with both its counterparts: (text, with the other cue, with the other cause, label, cue)."""
    found = []
    for opening in openings:
        for cue, words in enumerate(CUES):
            for place, word in enumerate(words):
                for label, verbs in enumerate(VERBS):
                    for which, verb in enumerate(verbs):
                        other = f"{opening} {CUES[1 - cue][place]} {verb}"
                        flip = f"{opening} {word} {VERBS[1 - label][which]}"
                        found.append((f"{opening} {word} {verb}", other, flip, label, str(cue)))
    return found


def preserving(*openings):
    return icp.PreservingPairs(icp.Probe(tuple(icp.Example(x, o, ANSWERS, y) for x, o, _, y, _ in rows(openings))))


def flipping(*openings):
    some = rows(openings)
    probe = icp.Probe(tuple(icp.Example(x, f, ANSWERS, y) for x, _, f, y, _ in some))
    return icp.FlippingPairs(probe, tuple(1 - y for *_, y, _ in some))


TRAINED, HELD_OUT = OPENINGS[:3], OPENINGS[3:]
WATCH = icp.PairWatch(preserving(*HELD_OUT), flipping(*HELD_OUT), every=5)
CALL = {"arguments": {"max_steps": 20, "learning_rate": 5e-3, "logging_steps": 10}, "progress": False}


@cache
def sensitive():
    """A model that goes by the verb."""
    model = BY_NAME["llama"].model(torch.float32)
    arguments = {"max_steps": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 16}
    return icp.finetune(model, preserving(*TRAINED), arguments=arguments, progress=False)


def watched(model, **options):
    """What is warned of, and the measurements."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SensitivityWarning)
        tuned = icp.finetune(model, watch=WATCH, **CALL, **options)
    told = [str(one.message) for one in caught if one.category is SensitivityWarning]
    return told, tuned


def test_the_swapped_loss_is_warned_of_and_consistency_is_not():
    model = sensitive()
    told, swapped = watched(model, train=flipping(*TRAINED), objective=baselines.SwappedConsistency(20.0))
    first, *_, last = [one for one in swapped.tuning.history if "sensitivity" in one]
    assert first["step"] == 0 and first["sensitivity"] > 0.9 and last["sensitivity"] < 0.3
    assert len(told) == 1, "once, not at every measurement"
    assert "sensitivity fell from" in told[0] and "of 16 label-flipping pairs" in told[0]
    told, consistent = watched(model, train=preserving(*TRAINED), objective=baselines.Consistency(1.0))
    assert told == []
    last = consistent.tuning.history[-1]
    assert last["sensitivity"] > 0.9 and last["consistency"] > 0.9


def test_what_is_measured_is_what_an_evaluation_says():
    _, tuned = watched(sensitive(), train=flipping(*TRAINED), objective=baselines.SwappedConsistency(20.0))
    measured = [one for one in tuned.tuning.history if "sensitivity" in one]
    assert [one["step"] for one in measured] == [0, 5, 10, 15, 20]
    assert [one["step"] for one in tuned.tuning.history if "loss" in one] == [10, 20]
    for model, entry in ((sensitive(), measured[0]), (tuned, measured[-1])):
        values = icp.evaluate(model, WATCH.preserving, ["consistency", "sensitivity"], flipping=WATCH.flipping).values
        for metric, found in values[model.name].items():
            assert entry[metric] == pytest.approx(found.mean()), metric
    assert 0 < measured[1]["sensitivity"] < 1 or measured[0] != measured[-1]


def test_training_is_the_same_without_it_and_goes_on_with_it(tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.2, task_type="CAUSAL_LM")
    call = CALL | {"arguments": CALL["arguments"] | {"max_steps": 6}, "lora": lora, "train": preserving(*TRAINED)}
    model = sensitive()
    plain = icp.finetune(model, **call)
    both = icp.finetune(model, watch=WATCH, folder=tmp_path / "run", **call)
    assert all(torch.equal(a, b) for a, b in zip(plain.module.parameters(), both.module.parameters()))
    again = icp.finetune(model, watch=WATCH, folder=tmp_path / "run", **call)
    assert again.tuning.history == both.tuning.history and "sensitivity" in again.tuning.history[0]
    other = dataclasses.replace(WATCH, every=3)
    with pytest.raises(icp.ArtefactError, match="was begun with watch"):
        icp.finetune(model, watch=other, folder=tmp_path / "run", **call)


def seen(*shares):
    return [{"step": 10 * i, "consistency": c, "sensitivity": s} for i, (c, s) in enumerate(shares)]


@pytest.mark.parametrize(
    ("shares", "says"),
    (
        (((0.5, 0.9), (0.9, 0.8)), "from 90.0% to 80.0% of 16 .* consistency rose, from 50.0% to 90.0% .*ignore the c"),
        (((0.1, 0.2), (0.6, 0.9), (0.5, 0.4)), "from step 10 to step 20 .* fell too, .* answer by the cue"),
        (((0.9, 0.9), (0.9, 0.1)), "consistency stayed, from 90.0% to 90.0%"),
        (((0.5, 0.9), (0.9, 0.81)), None),
        (((0.9, 0.5), (0.2, 0.7)), None),
        (((1.0, 0.0),), None),
    ),
)
def test_a_warning_is_due_where_sensitivity_fell_from_its_highest(shares, says):
    import re

    losses = Losses.of(BY_NAME["llama"].model(torch.float32), preserving(*TRAINED), icp.Objective())
    told = Watched.of(WATCH, losses).warning(seen(*shares))
    assert told is None if says is None else re.search(says, told)


@pytest.mark.parametrize(
    ("change", "says"),
    (
        ({"preserving": flipping(*HELD_OUT)}, "needs label-preserving pairs and was given label-flipping ones"),
        ({"flipping": preserving(*HELD_OUT)}, "needs label-flipping pairs and was given label-preserving ones"),
        ({"every": 0}, "every=0 steps"),
        ({"by": 0.0}, r"by=0\.0 is a share"),
    ),
)
def test_a_watch_that_makes_no_sense_is_refused(change, says):
    with pytest.raises(icp.IcpError, match=says):
        dataclasses.replace(WATCH, **change)


def test_pairs_that_are_trained_on_are_refused_before_anything_is_written(tmp_path):
    model, apart = sensitive(), icp.OnPairs(baselines.Consistency(), preserving(*HELD_OUT), per_step=2)
    for train, objective in ((preserving(*TRAINED, *HELD_OUT), icp.Objective()), (preserving(*TRAINED), apart)):
        with pytest.raises(icp.ProbeError, match=r"that are not trained on: 'It said .* and \d+ more are in both"):
            icp.finetune(model, train, objective=objective, watch=WATCH, folder=tmp_path / "run", **CALL)
    assert not (tmp_path / "run").exists()


class Stop(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Dying(icp.Objective):
    """Plain; dies at the step that the class says."""

    label = "dying"

    def penalty(self, step):
        if step.number == Dying.at:
            raise Stop
        return super().penalty(step)


def test_a_killed_run_goes_on_with_what_was_measured(tmp_path):
    arguments = CALL["arguments"] | {"max_steps": 9, "save_strategy": "steps", "save_steps": 4, "logging_steps": 3}
    call = dict(train=preserving(*TRAINED), objective=Dying(), watch=dataclasses.replace(WATCH, every=2))
    call |= dict(arguments=arguments, progress=False)
    Dying.at = None
    whole = icp.finetune(sensitive(), folder=tmp_path / "whole", **call)
    Dying.at = 6
    with pytest.raises(Stop):
        icp.finetune(sensitive(), folder=tmp_path / "killed", **call)
    Dying.at = None
    resumed = icp.finetune(sensitive(), folder=tmp_path / "killed", **call)
    shares = [
        [{name: one[name] for name in ("step", "consistency", "sensitivity") if name in one} for one in history]
        for history in (whole.tuning.history, resumed.tuning.history)
    ]
    assert shares[0] == shares[1]
    assert [one["step"] for one in shares[0] if "sensitivity" in one] == [0, 2, 4, 6, 8, 9]
