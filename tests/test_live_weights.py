"""Sites show a model's weights as they are now, also where a parameter was given other storage since `icp.load`."""

import copy

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HOOKED, bridged, hooked_transformer, make_probe, make_tokenizer
from test_encoders import class_rows, masked_rows
from test_vision import rows

import icp
from icp.drawn import drawn_pairs
from icp.family import outgoing

CASE = BY_NAME["llama"]
QUIET = {"progress": False}


def made(name):
    """A model by what holds it and its case; Gemma 2 in float32, since in float64 its attention, which is not fused,
    gives NaN for padded rows."""
    kind, _, case = name.rpartition(" ")
    if kind == "hooked":
        return icp.load(hooked_transformer(case))
    if kind == "bridge":
        return icp.load(bridged(BY_NAME[case].module(), make_tokenizer()), make_tokenizer())
    return BY_NAME[case].model(torch.float32 if case == "gemma2" else torch.float64)


def by_data(module, wanted):
    for parameter, value in zip(module.parameters(), wanted):
        parameter.data = value


def by_assignment(module, wanted):
    names = [name for name, _ in module.named_parameters()]
    module.load_state_dict(dict(zip(names, wanted)), assign=True, strict=False)


def measured(model):
    sites = [(model.at(kind, layer).name, place) for layer in (0, 1) for kind, place in (("neuron", 5), ("head", 1))]
    units = [f"{name}[{place}]" for name, place in sites]
    probe, property = make_probe(), icp.LogitDifference()
    if model.family.tower is not None:
        probe, property = drawn_pairs(model), icp.ClassProbability() if model.classes else icp.Similarity()
    elif model.unembed is None:
        probe, property = class_rows(("The old nurse ran",)), icp.Similarity()
    elif model.family.pixels:
        probe = rows(answers=("bad", "good"))
    elif not model.family.causal:
        probe = class_rows(("bad", "good")) if model.classes else masked_rows()
    whats = [icp.Mask(), *[icp.Swap("counterpart")] * (not model.family.abreast)]
    return icp.measure(model, probe, units, whats, property=property, **QUIET).dP


def fresh(model):
    """The same module, whose sites nobody has looked at."""
    texts = model.tokenizer if model.beside is None or not model.family.pixels else model.beside
    return icp.load(model.module, texts, tower=model.family.tower, captions=model.captions)


LENSES = ("bridge llama", "bridge gpt2", *(f"hooked {name}" for name in HOOKED))
"""A bridge translates names when it loads a state dict, so these have their storage replaced one parameter a time."""


@pytest.mark.parametrize(
    "name, replaced",
    [*((name, way) for name in BY_NAME for way in (by_data, by_assignment)), *((name, by_data) for name in LENSES)],
)
def test_weights_with_other_storage_are_the_ones_that_count(name, replaced):
    model = made(name)
    before = measured(model)
    old = [parameter.detach() for parameter in model.module.parameters()]
    replaced(model.module, [value.roll(1, 0) if value.ndim else 2 * value for value in old])
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


def _swapped(model, path):
    parent, _, name = path.rpartition(".")
    old = model.module.get_submodule(path)
    setattr(model.module.get_submodule(parent), name, copy.deepcopy(old))


@pytest.mark.parametrize("path", ("layers", "layers.1", "layers.1.mlp", "layers.1.mlp.down_proj", "norm"))
def test_a_module_that_was_replaced_since_loading_is_noticed(path):
    model = BY_NAME["llama"].model()
    call = dict(interventions=icp.Mask("zero"), progress=False)
    icp.measure(model, make_probe(), model.units("neuron")[:2], **call)
    _swapped(model, f"model.{path}")
    with pytest.raises(icp.ModelError, match="modules of llama were replaced after it was loaded: load"):
        icp.measure(model, make_probe(), model.units("neuron")[:2], **call)
    again = icp.load(model.module, model.tokenizer)
    icp.measure(again, make_probe(), again.units("neuron")[:2], **call)


@pytest.mark.parametrize("measured", (icp.measure, icp.measure_sets, icp.co_ablation))
def test_adapters_that_were_put_on_since_loading_are_noticed(measured):
    from peft import LoraConfig, get_peft_model

    model = BY_NAME["llama"].model()
    units = model.units("head")[:2]
    given = [units] if measured is icp.measure_sets else units
    measured(model, make_probe(), given, icp.Mask("zero"), progress=False)
    get_peft_model(model.module, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    with pytest.raises(icp.ModelError, match="adapters were put on the module of llama after it was loaded"):
        measured(model, make_probe(), given, icp.Mask("zero"), progress=False)
