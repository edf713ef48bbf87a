"""Sites show a model's weights as they are now, also where a parameter was given other storage since `icp.load`."""

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HOOKED, bridged, hooked_transformer, make_probe, make_tokenizer

import icp
from icp.families import outgoing

CASE = BY_NAME["llama"]
QUIET = {"progress": False}


def made(name, seed=0):
    kind, _, case = name.rpartition(" ")
    if kind == "hooked":
        return icp.load(hooked_transformer(case))
    module, tokenizer = BY_NAME[case].module(seed=seed), make_tokenizer()
    return icp.load(bridged(module, tokenizer), tokenizer) if kind == "bridge" else icp.load(module, tokenizer)


def by_data(module, wanted):
    for parameter, value in zip(module.parameters(), wanted):
        parameter.data = value


def by_assignment(module, wanted):
    names = [name for name, _ in module.named_parameters()]
    module.load_state_dict(dict(zip(names, wanted)), assign=True, strict=False)


def measured(model):
    units = [f"blocks.{layer}.{rest}" for layer in (0, 1) for rest in ("mlp.hook_post[5]", "attn.hook_z[1]")]
    return icp.measure(model, make_probe(), units, [icp.Mask(), icp.Swap("counterpart")], **QUIET).dP


def fresh(model):
    """The same module, whose sites nobody has looked at."""
    return icp.load(model.module, model.tokenizer)


LENSES = ("bridge llama", "bridge gpt2", *(f"hooked {name}" for name in HOOKED))
"""A bridge translates names when it loads a state dict, so these have their storage replaced one parameter a time."""


@pytest.mark.parametrize(
    "name, replaced",
    [*((name, way) for name in BY_NAME for way in (by_data, by_assignment)), *((name, by_data) for name in LENSES)],
)
def test_weights_with_other_storage_are_the_ones_that_count(name, replaced):
    model = made(name)
    before = measured(model)
    replaced(model.module, [parameter.detach().roll(1, 0) for parameter in model.module.parameters()])
    after = measured(model)
    assert np.array_equal(after, measured(fresh(model)))
    assert np.abs(after - before).max() > 1e-3
    for site in model.sites.values():
        if site.projection is not None:
            weight, bias = outgoing(model.blocks[site.layer], site.projection)
            assert site.outgoing.data_ptr() == weight.data_ptr() and not site.outgoing.requires_grad
            assert (site.bias is None) == (bias is None) and (bias is None or torch.equal(site.bias, bias))


def test_a_model_that_changed_its_dtype_is_measured_in_the_new_one():
    model, wanted = CASE.model(), CASE.model(torch.float32)
    model.module.to(torch.float32)
    assert np.array_equal(measured(model), measured(wanted))


def test_a_view_edits_the_live_weights():
    model = CASE.model()
    by_data(model.module, [parameter.detach().clone() for parameter in model.module.parameters()])
    model.sites["blocks.1.mlp.hook_post"].outgoing[5] = 0
    assert not model.blocks[1].mlp.down_proj.weight[:, 5].any()
