"""Attention stays fused wherever nothing hooks the pattern, also from a late block or position on."""

from collections import Counter

import pytest
import torch
from helpers import BY_NAME, make_probe

import icp


@pytest.fixture
def calls(monkeypatch):
    """How often the fused kernel ran, how often a softmax, and (after `watch(attention)`) how often such a module."""
    seen = Counter()

    def count(owner, name, key):
        real = getattr(owner, name)

        def call(*arguments, **options):
            seen[key] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    count(torch.nn.functional, "scaled_dot_product_attention", "fused")
    for owner in (torch.nn.functional, torch, torch.Tensor):
        count(owner, "softmax", "softmax")
    seen.watch = lambda attention: count(type(attention), "forward", "attention")
    return seen


@pytest.mark.parametrize("positions", ("all", "last"))
@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_an_exact_sweep_of_heads_and_neurons_is_fused(name, positions, calls):
    model = BY_NAME[name].model()
    calls.clear()
    calls.watch(model.attention(0))
    whats = [icp.Mask("mean"), icp.Swap("counterpart")]
    options = dict(positions=positions, batch_size=8, progress=False)
    icp.measure(model, make_probe(), model.units("head", "neuron"), whats, **options)
    assert calls["attention"] > 10 * len(model.blocks), "hardly more than the clean runs"
    assert calls["fused"] == calls["attention"] and calls["softmax"] == 0


def test_eager_attention_would_be_seen(calls):
    model = BY_NAME["llama"].model()
    model.module.set_attn_implementation("eager")
    calls.clear()
    calls.watch(model.attention(0))
    model.logits(model.pad([[3, 4, 5]]))
    assert calls["attention"] == 3 <= calls["softmax"] and calls["fused"] == 0
