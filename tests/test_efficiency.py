"""Weights that a cut set to zero are counted, and both models are timed in turn; the clock is made up."""

import numpy as np
import pytest
import torch
from helpers import BY_NAME, hooked_transformer, make_probe, make_tokenizer

import icp

UNITS = ["blocks.0.mlp.hook_post[3]", "blocks.0.mlp.hook_post[5]", "blocks.1.attn.hook_z[2]"]


class Clock:
    """Time passes only while a model runs: as much as `takes` says of it, in seconds a batch."""

    def __init__(self, monkeypatch, takes):
        self.now, self.ran, self.looks = 0.0, [], 0
        read = icp.Model.read

        def timed(model, batch, reads, **options):
            self.now += takes[id(model)]
            self.ran.append(id(model))
            return read(model, batch, reads, **options)

        monkeypatch.setattr(icp.Model, "read", timed)

    def __call__(self):
        self.looks += 1
        return self.now


@pytest.fixture(scope="module")
def models():
    before = BY_NAME["llama"].model(torch.float32)
    return before, icp.prune(before, icp.Selection.of(before, UNITS))


def test_the_weights_that_a_cut_set_to_zero_are_counted(models):
    found = icp.efficiency(*models, make_probe(), rounds=1)
    assert found.pruned == 2 * 32 + 8 * 32  # two columns of the MLP's output, and a head's eight of the attention's
    assert found.parameters == sum(p.numel() for p in models[0].module.parameters())
    assert found.percent_pruned == pytest.approx(100 * 320 / found.parameters)
    assert icp.efficiency(models[1], models[1], make_probe(), rounds=1).pruned == 0
    assert icp.efficiency(models[0], models[0], make_probe(), rounds=1).pruned == 0


def test_a_hooked_transformer_is_counted_too():
    before = icp.load(hooked_transformer("gpt2"), make_tokenizer())
    after = icp.prune(before, icp.Selection.of(before, UNITS[:1]))
    assert icp.efficiency(before, after, make_probe(), rounds=1).pruned == 32


def test_both_models_are_timed_in_turn_and_who_goes_first_alternates(models, monkeypatch):
    before, after = models
    clock = Clock(monkeypatch, {id(before): 0.010, id(after): 0.004})
    found = icp.efficiency(before, after, make_probe(), rounds=3, batch_size=3, clock=clock)
    turns = [before, after, after, before, before, after, after, before]
    assert clock.ran == [id(model) for model in turns for _ in range(2)], "four examples are two batches"
    assert clock.looks == 2 * len(turns)
    np.testing.assert_allclose(found.seconds, [[0.020] * 3, [0.008] * 3])
    assert (found.examples, found.device) == (4, "cpu")


def test_the_table_pairs_times_by_round():
    seconds = np.array([[1.0, 2.0, 4.0], [0.5, 1.0, 2.0]])
    table = icp.Efficiency(1000, 30, seconds, 4, "cpu").table()
    assert table.loc["parameters pruned, %", "value"] == 3.0
    assert table.loc["latency before, ms", "value"] == pytest.approx(7000 / 3)
    assert table.loc["latency before, ms", "low"] < 0 < table.loc["latency before, ms", "high"]
    np.testing.assert_allclose(table.loc["latency after / before"], 0.5)
    uneven = icp.Efficiency(1000, 30, seconds * np.array([[1, 1, 1], [1, 2, 4]]), 4, "cpu").table()
    row = uneven.loc["latency after / before"]
    assert row["value"] == pytest.approx(1.0) and row["low"] < 1 < row["high"]
    one = icp.Efficiency(1000, 30, seconds[:, :1], 4, "cpu").table()
    assert one.loc["latency after, ms", "value"] == 500 and np.isnan(one.loc["latency after, ms", "low"])


def test_modes_are_put_back(models):
    models[0].module.train()
    try:
        icp.efficiency(*models, make_probe(), rounds=1)
        assert models[0].module.training and not models[1].module.training
    finally:
        models[0].module.eval()


def test_models_that_cannot_be_compared_say_why(models):
    before, after = models
    probe = make_probe()
    deeper = BY_NAME["gpt2"].model(torch.float32)
    for words, call in [
        ("rounds and batch_size are at least 1, got 0 and 16", lambda: icp.efficiency(before, after, probe, rounds=0)),
        ("is missing after: compare a model with what was cut from it", lambda: icp.efficiency(before, deeper, probe)),
        ("the tokenizer before is", lambda: icp.efficiency(before, other_tokens(before), probe)),
    ]:
        with pytest.raises(icp.IcpError) as error:
            call()
        assert words in str(error.value)


def other_tokens(model):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["another"])
    return icp.load(model.module, tokenizer)
