"""Queries and keys: exact effects as TransformerLens has them, on every architecture, and no cut of what has no cut."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from helpers import (
    BY_NAME,
    CASES,
    HOOKED,
    PARTNERS,
    bridged,
    hooked_transformer,
    make_probe,
    make_tokenizer,
)
from reference import Lens, Naive, Plain

import icp
from icp import families
from icp.hooks import captured
from icp.plots.style import short

QUIET = {"progress": False}
NAMES = [case.name for case in CASES]
NAN_IN_FLOAT64 = ("mistral",)  # a float64 bridge returns NaN where a sliding window sees padding only


@dataclass(frozen=True)
class UnitNorm(icp.Intervention):
    """A user's own, which needs a vector's dimensions together."""

    def replace(self, values, where):
        return values / values.norm(dim=-1, keepdim=True)


WHATS = [
    icp.Mask("zero"), icp.Mask("mean"), icp.Scale(-1.5), icp.Swap("counterpart"), icp.Mask("resample"), UnitNorm(),
    icp.Swap("blocks.1.attn.hook_q[2]"), icp.Swap("blocks.0.attn.hook_z[1]"),
]  # fmt: skip


def units_of(name, layers=None):
    """The first and last query and key head of the first and the last block."""
    case = BY_NAME[name]
    last = (layers or case.layers) - 1
    keys = {"llama": 2, "mistral": 2, "qwen2": 1}.get(name, 4)
    return [f"blocks.{layer}.attn.hook_{point}[{head}]"
            for layer in (0, last) for point, count in (("q", 4), ("k", keys)) for head in {0, count - 1}]  # fmt: skip


def close(got, want, atol):
    assert np.abs(want).max() > 0.01
    assert np.abs(got - want).max() <= atol


@pytest.mark.parametrize("positions", ("all", "last", (1, 3)), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_exact_effects_equal_the_naive_loop(name, positions):
    module, units = BY_NAME[name].module(), units_of(name)
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), positions=positions, partners=PARTNERS)
    want = naive.dP(units, WHATS)
    if positions == "all":
        assert (np.abs(want).max(axis=2) > 0).all(), "an edit without any effect tests nothing"
    model = icp.load(module, make_tokenizer())
    for batch_size in (3, None):
        got = icp.measure(model, make_probe(), units, WHATS, positions=positions, batch_size=batch_size, **QUIET)
        close(got.dP, want, BY_NAME[name].atol)


@pytest.mark.parametrize("name", NAMES)
def test_joint_effects_equal_the_naive_loop(name):
    module, last = BY_NAME[name].module(), BY_NAME[name].layers - 1
    sets = [
        [f"blocks.{last}.attn.hook_q[{h}]" for h in range(4)],
        ["blocks.0.attn.hook_q[1]", "blocks.0.attn.hook_k[0]", "blocks.0.attn.hook_z[3]", "blocks.0.mlp.hook_post[9]"],
    ]
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    for what in (icp.Mask("mean"), icp.Swap("counterpart")):
        got = icp.measure_sets(icp.load(module, make_tokenizer()), make_probe(), sets, what, batch_size=3, **QUIET)
        close(got.dP, np.array([naive.joint(members, what) for members in sets]), BY_NAME[name].atol)


@pytest.mark.parametrize("name", NAMES)
def test_effects_equal_run_with_hooks_on_a_bridge(name):
    """Of a bridge measured as it is, and of the plain module that it was made of."""
    dtype = torch.float32 if name in NAN_IN_FLOAT64 else torch.float64
    module, units, whats = BY_NAME[name].module(dtype), units_of(name), [WHATS[0], *WHATS[2:4], WHATS[6]]
    bridge = bridged(module, make_tokenizer())
    lens = Naive(Lens(bridge), make_tokenizer(), make_probe(), partners=PARTNERS)
    want = lens.dP(units, whats)
    got = icp.measure(icp.load(bridge), make_probe(), units, whats, batch_size=3, **QUIET)
    close(got.dP, want, 1e-4 if dtype == torch.float32 else BY_NAME[name].atol)
    got = icp.measure(icp.load(module, make_tokenizer()), make_probe(), units, whats, **QUIET)
    exactly = name.startswith("gpt")
    scale = float(lens.backend.run(lens.inputs[0]).abs().max())
    close(got.dP, want, BY_NAME[name].atol if exactly else 1e-4 * scale)


@pytest.mark.parametrize("ungrouped", (False, True))
@pytest.mark.parametrize("name", HOOKED)
def test_a_hooked_transformer_is_measured_as_its_own_run_with_hooks_says(name, ungrouped):
    module = hooked_transformer(name)
    if ungrouped:
        if module.cfg.n_key_value_heads is None:
            pytest.skip("its heads are not grouped")
        module.set_ungroup_grouped_query_attention(True)
    model = icp.load(module)
    assert len(model.units("key", layers=[0])) == (2 if name == "llama" and not ungrouped else 4)
    units = units_of("gpt2" if ungrouped else name, layers=2)
    lens = Naive(Lens(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    close(icp.measure(model, make_probe(), units, WHATS, batch_size=3, **QUIET).dP, lens.dP(units, WHATS), 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_looking_on_and_changing_nothing_changes_not_one_bit(name):
    model = BY_NAME[name].model()
    units = model.units("query", "key")
    names = {unit.site for unit in units}
    batch, values = model.pad([[3, 5, 9, 20, 7]]), {}
    with torch.no_grad():
        clean = model.logits(batch)
        with captured([model.sites[n] for n in names], values):
            assert torch.equal(model.logits(batch), clean)
        with captured([model.sites[n] for n in names], {}, differentiable=True):
            assert torch.equal(model.logits(batch), clean)
    assert set(values) == names
    assert (icp.measure(model, make_probe(), units, icp.Scale(1.0), batch_size=4, **QUIET).dP == 0).all()


@pytest.mark.parametrize("unit", ("blocks.1.attn.hook_q[3]", "blocks.1.attn.hook_k[0]"))
def test_no_selection_cuts_a_query_or_a_key(unit):
    model, kind = BY_NAME["llama"].model(), "query" if "hook_q" in unit else "key"
    words = rf"{kind} writes nothing into the residual stream: cut its head, blocks.L.attn.hook_z\[head\]"
    calls = (
        lambda: icp.Selection.of(model, [unit]),
        lambda: icp.Selection.of(model, [unit], "scale", 0.5),
        lambda: icp.Choice(icp.Unit.parse(unit), "prune", 0.0, (0.0,) * 8),
        lambda: icp.frontier(model, make_probe(), ranking(model, unit), icp.Mask("mean"), **QUIET),
    )
    for call in calls:
        with pytest.raises(icp.UnitError, match=words) as error:
            call()
        assert unit in str(error.value) and "\n" not in str(error.value)
    watched = icp.Selection.of(model, [unit], "keep")
    with pytest.raises(icp.PruneError, match="cuts nothing"):
        icp.prune(model, watched)


def ranking(model, unit):
    return icp.indirect_effect(icp.measure(model, make_probe(), [unit], icp.Swap("counterpart"), **QUIET))


def test_a_point_that_nothing_passes_is_refused_at_load(monkeypatch):
    gpt2 = families.family_of("gpt2")
    for where, words in (
        (families.Point("mlp.c_fc", "output"), "hook_q should carry 32 values, the live module carries 48"),
        (families.Point("attn.no_such", "output"), "no_such"),
    ):
        row = replace(gpt2, queries=where)
        monkeypatch.setattr("icp.loading.family_of", lambda model_type, tower, row=row: row)
        with pytest.raises(icp.ModelError, match=f"does not fit the row 'gpt2'.*{words}"):
            BY_NAME["gpt2"].model()


def test_queries_whose_editing_changes_nothing_are_named(monkeypatch):
    row = replace(families.family_of("llama"), queries=families.Point("idle", "output"))
    monkeypatch.setattr("icp.loading.family_of", lambda model_type, tower: row)
    module = BY_NAME["llama"].module()
    for block in module.model.layers:
        block.idle = torch.nn.Linear(32, 32).double()
        block.register_forward_pre_hook(unread)
    with pytest.raises(icp.ModelError, match=r"editing blocks\.L\.attn\.hook_q changes nothing in any block"):
        icp.load(module, make_tokenizer())


def unread(block, args):
    """A branch that is computed and read by nothing."""
    block.idle(args[0])


def test_a_vector_drives_by_its_norm():
    model, texts = BY_NAME["gpt2"].model(), icp.Probe.from_texts(["The nurse said that", "she went home early"])
    unit = "blocks.1.attn.hook_q[2]"
    found = icp.drivers(model, texts, [unit])
    for driving in found.inputs[unit]:
        values = {}
        with torch.no_grad(), captured([model.sites["blocks.1.attn.hook_q"]], values):
            model.logits(model.pad([make_tokenizer()(driving.text)["input_ids"]]))
        np.testing.assert_allclose(
            driving.activations, values["blocks.1.attn.hook_q"][0, :, 16:24].norm(dim=-1), atol=1e-9
        )


def test_short_labels_tell_the_kinds_apart():
    addresses = ("blocks.3.attn.hook_q[1]", "blocks.3.attn.hook_k[1]", "blocks.3.attn.hook_z[1]")
    assert [short(icp.Unit.parse(address)) for address in addresses] == ["L3 Q1", "L3 K1", "L3 H1"]


@pytest.mark.smollm2
def test_effects_on_real_weights_equal_run_with_hooks(smollm2):
    pairs = [("The nurse said that", "The carpenter said that"), ("My friend is a nurse", "My friend is a pilot")]
    probe = icp.Probe.from_pairs(pairs, answers=(" she", " he"))
    units = ["blocks.20.attn.hook_q[3]", "blocks.4.attn.hook_k[1]", "blocks.0.attn.hook_k[2]"]
    whats = [icp.Mask("mean"), icp.Swap("counterpart")]
    lens = Naive(Lens(smollm2.view()), smollm2.tokenizer, probe)
    got = icp.measure(smollm2, probe, units, whats, **QUIET)
    close(got.dP, lens.dP(units, whats), 1e-4 * float(lens.backend.run(lens.inputs[0]).abs().max()))
