"""Presets: every one trains, what is given overrides it, and an unknown one names the others."""

import sys

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS
from peft import LoraConfig

import icp


def rows():
    return icp.Probe(tuple(icp.Example(x, y, (" she", " he"), label=i % 2) for i, (x, y) in enumerate(EQUAL_PAIRS)))


def asked(monkeypatch, **options):
    """The adapters' config and the arguments of one step of training."""
    seen, module = {}, sys.modules["icp.finetune"]
    real = module._trained

    def watch(losses, adapters, arguments, *others):
        seen.update(lora=adapters.peft_config["default"], arguments=arguments)
        seen["history"] = real(losses, adapters, arguments, *others)
        return seen["history"]

    with monkeypatch.context() as patched:
        patched.setattr(module, "_trained", watch)
        given = {"max_steps": 1, "logging_steps": 1} | options.pop("arguments", {})
        model = BY_NAME["llama"].model(torch.float32)
        invariance = icp.Invariance(model.units("head"))
        icp.finetune(model, rows(), invariance=invariance, arguments=given, progress=False, **options)
    return seen


@pytest.mark.parametrize("name", icp.PRESETS)
def test_every_preset_trains_and_is_what_it_says(name, monkeypatch):
    seen = asked(monkeypatch, preset=name)
    preset = icp.PRESETS[name]
    assert seen["history"][0]["penalty"] > 0
    assert seen["lora"].r == preset.lora["r"] and seen["lora"].lora_alpha == preset.lora["lora_alpha"]
    for option, value in preset.arguments.items():
        assert getattr(seen["arguments"], option) == value


def test_that_of_the_proposal_has_its_batch_and_its_rate():
    given = icp.PRESETS["llama-2-7b"].arguments
    assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] == 32
    assert given["learning_rate"] == 2e-5


def test_what_is_given_overrides_a_preset(monkeypatch):
    seen = asked(monkeypatch, preset="smollm2-360m", lora=LoraConfig(r=3, target_modules=["q_proj"]),
                 arguments={"learning_rate": 0.123})  # fmt: skip
    assert seen["lora"].r == 3 and seen["arguments"].learning_rate == 0.123
    assert seen["arguments"].per_device_train_batch_size == 8


def test_a_preset_is_named_and_cannot_be_changed():
    with pytest.raises(icp.IcpError, match=r"unknown preset 'gpt5': use one of smollm2-135m, .*llama-2-7b"):
        icp.finetune(BY_NAME["llama"].model(torch.float32), rows(), preset="gpt5")
    with pytest.raises(TypeError):
        icp.PRESETS["smollm2-135m"].lora["r"] = 1
