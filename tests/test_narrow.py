"""What is left out of a forward pass: attention whose output is known, and positions of the last block nobody reads."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, PARTNERS, make_probe, make_tokenizer
from reference import Naive, Plain

import icp

QUIET = {"progress": False}
WHATS = [icp.Mask("zero"), icp.Mask("mean"), icp.Scale(-1.5), icp.Swap("counterpart")]
FULL = ("llama", "gpt2")
LASTS = {
    "llama": ("model.layers.2", "self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj"),
    "gpt2": ("transformer.h.2", "attn", "attn.c_proj", "mlp", "mlp.c_proj"),
}


def heads_of(case):
    last = case.layers - 1
    return [f"blocks.{layer}.attn.hook_z[{head}]" for layer in (0, last) for head in (0, 1, 3)]


def units_of(case):
    last = case.layers - 1
    return [
        *heads_of(case), f"blocks.{last}.attn.hook_z[2,7]", "blocks.0.attn.hook_z[1,0]", "blocks.0.mlp.hook_post[3]",
        f"blocks.{last}.mlp.hook_post[5]", f"blocks.{last}.hook_resid_post[4]", "blocks.0.hook_resid_post[4]",
        "hook_embed[3]",
    ]  # fmt: skip


@contextmanager
def noted(monkeypatch, model, part, note):
    """`note(part, values)` for every run of a part, or another of its class, in a pass that reads P.

    No hook is needed to see it, since a hook would have everything computed.
    """
    assert model._tuple_output is not None  # the first time, a probing pass finds out what a block returns
    reading = []
    forward, read = type(part).forward, icp.Model.read

    def noting(self, *args, **kwargs):
        if reading:
            note(self, args[0] if args else kwargs["hidden_states"])
        return forward(self, *args, **kwargs)

    def reads(self, *args, **kwargs):
        reading.append(True)
        try:
            return read(self, *args, **kwargs)
        finally:
            reading.pop()

    with monkeypatch.context() as patched:
        patched.setattr(type(part), "forward", noting)
        patched.setattr(icp.Model, "read", reads)
        yield


@pytest.mark.parametrize("property", (icp.LogitDifference(), icp.NextTokenLoss()), ids=lambda p: p.label)
@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_heads_of_the_first_and_the_last_block_equal_the_naive_loop(name, property):
    case, module = BY_NAME[name], BY_NAME[name].module()
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), property, partners=PARTNERS)
    want = naive.dP(units_of(case), WHATS)
    assert (np.abs(want[:6]).max(axis=(1, 2)) > 1e-3).all()
    model = icp.load(module, make_tokenizer())
    for batch_size in (1, 3, None) if name in FULL else (5,):
        got = icp.measure(model, make_probe(), units_of(case), WHATS, property=property, batch_size=batch_size, **QUIET)
        assert np.abs(got.dP - want).max() < case.atol


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize(("property", "positions"), ((icp.LogitDifference(), 1), (icp.NextTokenLoss(), 8)), ids=str)
def test_the_last_block_computes_the_positions_that_are_read(name, property, positions, monkeypatch):
    """One position a row where P reads one, and all of them where it reads most."""
    model, shapes = BY_NAME[name].model(), []
    block, _, attn_out, _, mlp_out = LASTS[name]
    for path in (attn_out, mlp_out):
        part = model.module.get_submodule(f"{block}.{path}")

        def note(ran, values, part=part):
            if ran is part:
                shapes.append(tuple(values.shape[:2]))

        with noted(monkeypatch, model, part, note):
            icp.measure(model, make_probe(), "blocks.0.mlp.hook_post[3]", WHATS, batch_size=8, property=property,
                        **QUIET)  # fmt: skip
    assert shapes and {shape[1] for shape in shapes} == {positions}
    assert {shape[0] for shape in shapes} == {4, 8}


@pytest.mark.parametrize("layer", (0, 1, 2))
@pytest.mark.parametrize("name", FULL)
def test_a_head_runs_without_its_attention(name, layer, monkeypatch):
    """P with an edit takes the attention of the later blocks; P without takes all."""
    model, ran = BY_NAME[name].model(), []
    block, attention, *_ = LASTS[name]
    part = model.module.get_submodule(f"{block}.{attention}")
    with noted(monkeypatch, model, part, lambda part, values: ran.append(part.layer_idx)):
        icp.measure(model, make_probe(), f"blocks.{layer}.attn.hook_z[1]", icp.Mask(), batch_size=8, **QUIET)
    without = 2  # x and its counterpart
    assert [ran.count(block) - without for block in range(3)] == [0] * (layer + 1) + [1] * (2 - layer)


def places(module, name):
    """Where a user may look at, or change, what the last block gives."""
    block, attention, attn_out, mlp, mlp_out = LASTS[name]
    decoder = block.split(".")[0]
    norm = {"llama": "model.norm", "gpt2": "transformer.ln_f"}[name]
    return {
        "attention": (f"{block}.{attention}", "output"),
        "attention's projection": (f"{block}.{attn_out}", "output"),
        "into attention's projection": (f"{block}.{attn_out}", "input"),
        "mlp": (f"{block}.{mlp}", "output"),
        "into the mlp": (f"{block}.{mlp}", "input"),
        "mlp's projection": (f"{block}.{mlp_out}", "output"),
        "block": (block, "output"),
        "into the block": (block, "input"),
        "final norm": (norm, "output"),
        "into the final norm": (norm, "input"),
        "decoder": (decoder, "output"),
        "into the unembedding": ("lm_head", "input"),
        "unembedding": ("lm_head", "output"),
        "logits": ("", "output"),
    }


PLACES = tuple(places(None, "llama"))


def mixed(values):
    """Each position takes from every earlier one: what is not computed would show."""
    return torch.tanh(values) + 0.1 * values.cumsum(1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", FULL)
def test_a_hook_that_mixes_positions_finds_them_all(name, place):
    case, module = BY_NAME[name], BY_NAME[name].module()
    path, side = places(module, name)[place]
    target = module.get_submodule(path)

    def before(module, args):
        return (mixed(args[0]), *args[1:])

    def after(module, args, output):
        if hasattr(output, "last_hidden_state"):
            output.last_hidden_state = mixed(output.last_hidden_state)
            return output
        if hasattr(output, "logits"):
            output.logits = mixed(output.logits)
            return output
        return (mixed(output[0]), *output[1:]) if isinstance(output, tuple) else mixed(output)

    model = icp.load(module, make_tokenizer())
    untouched = icp.measure(model, make_probe(), units_of(case), WHATS, **QUIET)
    handle = target.register_forward_pre_hook(before) if side == "input" else target.register_forward_hook(after)
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    want = naive.dP(units_of(case), WHATS)
    got = icp.measure(model, make_probe(), units_of(case), WHATS, batch_size=5, **QUIET)
    handle.remove()
    assert np.abs(want - untouched.dP).max() > 0.01, "the user's hook changed nothing"
    assert np.abs(got.clean - naive.clean).max() < 1e-9
    assert np.abs(got.dP - want).max() < 1e-9


@pytest.mark.parametrize("place", PLACES)
def test_a_hook_that_looks_sees_what_the_model_computes(place):
    """At every position, not only where P reads."""
    module = BY_NAME["llama"].module()
    path, side = places(module, "llama")[place]
    target, seen = module.get_submodule(path), []

    def look(values):
        values = getattr(values, "last_hidden_state", getattr(values, "logits", values))
        values = values[0] if isinstance(values, tuple) else values
        seen.append(values.detach().clone())

    model = icp.load(module, make_tokenizer())
    handle = (
        target.register_forward_pre_hook(lambda m, args, kwargs: look(args[0] if args else kwargs["hidden_states"]),
                                         with_kwargs=True)
        if side == "input"
        else target.register_forward_hook(lambda m, args, output: look(output))
    )  # fmt: skip
    texts = icp.Probe(tuple(replace(example, counterpart=None) for example in make_probe().examples))
    icp.measure(model, texts, "blocks.0.mlp.hook_post[3]", icp.Scale(1.0), batch_size=4, **QUIET)
    got = list(seen)
    seen.clear()
    with torch.no_grad():
        model.logits(model.pad(make_probe().tokenize(model.tokenizer).inputs))
    handle.remove()
    whole = [values for values in got if values.shape == seen[0].shape]
    assert whole
    mask = model.pad(make_probe().tokenize(model.tokenizer).inputs).mask
    for values in (whole[0], whole[-1]):
        assert (values - seen[0])[mask].abs().max() < 1e-9


def test_a_read_of_the_same_position_twice_is_read_twice():
    """Two answers of one text, each read from the same logits."""
    from icp.hooks import Reads

    model = BY_NAME["llama"].model()
    batch = model.pad(make_probe().tokenize(model.tokenizer).inputs)
    rows, positions = torch.tensor([0, 0, 2, 3, 3]), torch.tensor([3, 3, 7, 1, 7])
    with torch.no_grad():
        want = model.logits(batch)[rows, positions]
        assert (model.read(batch, Reads(rows, positions)) - want).abs().max() < 1e-12
        none = model.read(batch, Reads(rows[:0], positions[:0]))
    assert none.shape == (0, want.shape[1])
