"""The units whose effect is kept: the effect against measured ones, the loss by hand, and that it holds in training."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS
from training import batch_step, gradients

import icp
from icp.rows import Rows
from icp.sensitivity import log_odds, reference_effects

ANSWERS = (" she", " he")
KEEP = ("blocks.0.attn.hook_z[1]", "blocks.1.mlp.hook_post[5]")


def rows():
    pairs = [*EQUAL_PAIRS, ("It was late and the nurse said", "It was late and the doctor said")]
    return icp.Probe(tuple(icp.Example(x, other, ANSWERS, label=i % 2) for i, (x, other) in enumerate(pairs)))


def completions():
    return icp.Probe(tuple(icp.Example(text, answers=(" went home",)) for text in ("The nurse", "It was late and she")))


def effects(model, probe=None):
    """dP of masking all of KEEP, measured: P the logit difference of the right answer."""
    probe = rows() if probe is None else probe
    found = icp.measure_sets(model, probe, [KEEP], icp.Mask("zero"), progress=False).dP[0]
    return found * np.array([1 if example.label == 0 else -1 for example in probe.examples])


@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_the_reference_is_the_measured_effect_on_the_right_answer(name):
    model = BY_NAME[name].model()
    found = reference_effects(model, Rows.of(model, rows()), [icp.Unit.parse(unit) for unit in KEEP], batch_size=3)
    assert found.numpy() == pytest.approx(effects(model), rel=1e-6, abs=1e-9)
    assert found.abs().min() > 1e-4


def test_log_odds_are_those_of_the_right_token_against_all_others():
    logits = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 6, 3, 3, 1])
    p = logits.softmax(-1)[torch.arange(5), targets]
    assert torch.allclose(log_odds(logits, targets), (p / (1 - p)).log())


@pytest.mark.parametrize("train", (rows(), completions()), ids=("label words", "completions"))
def test_the_loss_is_what_is_lacking_of_the_reference_in_its_direction(train):
    model = BY_NAME["llama"].model()
    invariance = icp.Invariance(["blocks.2.attn.hook_z[0]"], interventions=icp.Scale(1.0), keep=KEEP, keep_weight=3.0)
    step = batch_step(model, train, invariance)
    now = step.state["kept"].clone()
    assert invariance.penalty(step).item() == pytest.approx(0, abs=1e-9), "nothing is lost before training"
    step.state["kept"].copy_(-now)
    expected = 3 * step.over_rows(2 * now.abs()).mean()
    assert invariance.penalty(step).item() == pytest.approx(expected.item(), rel=1e-6), "all of it and more is lost"
    step.state["kept"].copy_(now / 2)
    assert invariance.penalty(step).item() == 0, "an effect may grow"
    assert max(float(g.abs().max()) for g in gradients(model, invariance.penalty(step)).values()) < 1e-12


def fell(**keep):
    """By how many logits the effects fell, on average, when the model was trained to ignore all before block 1."""
    model = BY_NAME["llama"].model(torch.float32)
    invariance = icp.Invariance(model.units("resid", layers=[0]), weight=3.0, interventions=icp.Mask("zero"), **keep)
    arguments = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "num_train_epochs": 20}
    tuned = icp.finetune(model, rows(), invariance=invariance, arguments=arguments, progress=False)
    before, after = effects(model), effects(tuned)
    return float((np.abs(before) - np.sign(before) * after).clip(min=0).mean() / np.abs(before).mean())


def test_an_effect_that_training_would_remove_is_kept():
    assert fell() > 0.5
    assert fell(keep=KEEP, keep_weight=3.0) < 0.2


def test_it_is_part_of_the_label_and_of_a_selection():
    model = BY_NAME["llama"].model()
    units = model.units("head")[:4]
    plain = icp.Invariance(units[:2])
    assert "keep" not in plain.label, "runs begun before there was such a term go on"
    assert len({plain.label, icp.Invariance(units[:2], keep=units[2:]).label,
                icp.Invariance(units[:2], keep=units[3:]).label}) == 3  # fmt: skip
    choices = (icp.Choice(units[0], "prune"), icp.Choice(units[1], "keep"))
    selection = icp.Selection(choices, model.binding)
    both = icp.Invariance(selection, keep=selection)
    assert both.units == (units[0],) and both.keep == (units[1],)


@pytest.mark.parametrize(
    ("options", "says"),
    (
        (
            {"keep": ["blocks.0.attn.hook_z[1,3]"]},
            r"hook_z\[1,3\] is kept and .*hook_z\[1\] regularised",
        ),
        ({"keep": KEEP, "keep_weight": 0.0}, "keep_weight=0.0 has to be a positive number"),
        ({"keep": ["blocks.9.attn.hook_z[1]"]}, "no site"),
        ({"keep": [KEEP[1], KEEP[1]]}, "cover the same values"),
        ({"keep": icp.Selection((icp.Choice(icp.Unit.parse(KEEP[1])),), {})}, "has the role 'keep'"),
    ),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_units_that_cannot_be_kept_are_refused(options, says):
    with pytest.raises(icp.IcpError, match=says):
        model = BY_NAME["llama"].model()
        icp.Invariance(["blocks.0.attn.hook_z[1]"], **options).begin(model, Rows.of(model, rows()))


def test_the_model_is_left_as_it_was():
    model = BY_NAME["llama"].model()
    model.module.train()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    invariance = dataclasses.replace(icp.Invariance(["blocks.2.attn.hook_z[0]"]), keep=KEEP)
    invariance.penalty(batch_step(model, rows(), invariance))
    assert model.module.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
