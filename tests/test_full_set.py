"""Contract 10: with every head and neuron swapped, an equal-length pair gives the counterpart's output."""

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, EQUAL_PAIRS, HOOKED, bridged, hooked_transformer, make_probe, make_tokenizer

import icp

EVERY = [("transformers", case.name) for case in CASES]
EVERY += [("bridge", "llama"), ("bridge", "gpt2"), *(("hooked_transformer", name) for name in HOOKED)]
SWAP = icp.Swap("counterpart")


def model_of(kind, name):
    if kind == "hooked_transformer":
        return icp.load(hooked_transformer(name))
    module = BY_NAME[name].module()
    return icp.load(module if kind == "transformers" else bridged(module, make_tokenizer()), make_tokenizer())


def probe_of():
    """Pairs whose tokens differ in the middle only, so that embeddings agree wherever P reads."""
    rows = [icp.Example(e.text, e.counterpart, (" she went home", " he")) for e in make_probe(EQUAL_PAIRS[:2]).examples]
    return icp.Probe(tuple(rows))


@pytest.mark.parametrize("batch_size", (1, None))
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_swapping_everything_gives_the_counterparts_output(kind, name, batch_size):
    model, atol = model_of(kind, name), BY_NAME[name].atol
    heads, neurons, embedding = (model.units(what) for what in ("head", "neuron", "embed"))
    sets = [[*heads, *neurons], heads, neurons, [*heads, *neurons, *embedding], embedding]
    options = dict(property=icp.LogLikelihood(), batch_size=batch_size, progress=False)
    got = icp.measure_sets(model, probe_of(), sets, SWAP, **options)
    total = icp.measure(model, probe_of(), ["hook_embed[0]"], SWAP, **options).total
    assert np.abs(total).min() > 1e-3
    assert np.abs(got.dP[0] - total).max() < atol
    assert np.abs(got.dP[1] - total).max() < atol, "all heads together are a cut"
    assert np.abs(got.dP[3] - total).max() < atol, "swapping the embeddings too changes nothing more"
    assert np.abs(got.dP[4] - total).max() < atol, "swapping the embeddings is giving the other input"
    assert np.abs(got.dP[2] - total).max() > 1e-3, "the neurons alone are not enough"


@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_where_the_embeddings_differ_the_output_does(name):
    """Read at the changed token itself, the swapped run still has x's own embedding, and so not the output of x'."""
    model = BY_NAME[name].model()
    probe = icp.Probe.from_pairs([("The old nurse", "The old doctor")], answers=(" she", " he"))
    parts = model.units("head", "neuron")
    got = icp.measure_sets(model, probe, [parts, [*parts, *model.units("embed")]], SWAP, progress=False)
    total = icp.measure(model, probe, ["hook_embed[0]"], SWAP, progress=False).total
    assert np.abs(got.dP[0] - total).min() > 0.01
    assert np.abs(got.dP[1] - total).max() < 1e-9


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_zeroing_everything_leaves_the_embedding(name):
    """With every part masked, the output depends on the token that is read and on no other."""
    model = BY_NAME[name].model()
    probe = icp.Probe.from_texts(["The nurse said that", "The doctor said that"], answers=(" she", " he"))
    got = icp.measure_sets(model, probe, [model.units("head", "neuron")], icp.Mask("zero"), progress=False)
    after = got.clean + got.dP[0]
    assert abs(got.clean[0] - got.clean[1]) > 0.01
    assert abs(after[0] - after[1]) < BY_NAME[name].atol
    assert torch.isfinite(torch.tensor(after)).all()
