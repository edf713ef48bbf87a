"""Measuring in a lower precision comes with its rank correlation against the model's own."""

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HOOKED, WORDS, bridged, hooked_transformer, make_probe, make_tokenizer
from scipy.stats import spearmanr

import icp

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model(torch.float32)


def scores(effects):
    return np.abs(effects.dP).mean((1, 2))


@pytest.mark.parametrize("positions", ("all", "last"))
def test_bfloat16_says_how_well_it_ranks(model, positions):
    units = model.units("head", "neuron", layers=[0])
    options = dict(positions=positions, **QUIET)
    full = icp.measure(model, make_probe(), units, icp.Mask("mean"), **options)
    low = icp.measure(model, make_probe(), units, icp.Mask("mean"), dtype=torch.bfloat16, **options)
    assert low.header["dtype"] == "torch.bfloat16" and low.dP.dtype == np.float32
    assert low.header["binding"]["weights"] != full.header["binding"]["weights"]
    assert model.dtype == torch.float32 and "rank_correlation" not in full.header
    said = low.header["rank_correlation"]
    assert said["units"] == min(64, len(units)) and said["against"] == "torch.float32"
    ranking = np.argsort(-scores(low), kind="stable")
    chosen = ranking[np.unique(np.linspace(0, len(units) - 1, said["units"]).round().astype(int))]
    assert said["spearman"] == pytest.approx(spearmanr(scores(low)[chosen], scores(full)[chosen]).statistic, abs=1e-9)
    assert 0.9 < said["spearman"] < 1
    assert not np.array_equal(low.dP, full.dP)


def test_logits_of_a_bfloat16_model_are_not_rounded(model):
    """Effects are small differences of large logits: rounded to bfloat16 most of them would be 0."""
    low = icp.measure(model, make_probe(), model.units("neuron"), icp.Mask(), dtype=torch.bfloat16, **QUIET)
    as_bfloat16 = torch.from_numpy(low.clean).bfloat16().float().numpy()
    assert not np.array_equal(low.clean, as_bfloat16)


def test_the_correlation_is_kept_with_the_store_and_not_measured_again(model, tmp_path, monkeypatch):
    options = dict(dtype=torch.bfloat16, store=tmp_path / "s", **QUIET)
    units = model.units("neuron", layers=[1])
    got = icp.measure(model, make_probe(), units, icp.Mask(), **options)
    loaded = icp.Effects.load(tmp_path / "s")
    assert loaded.header["rank_correlation"] == got.header["rank_correlation"]
    assert icp.Effects.load(loaded.save(tmp_path / "copy")).header == loaded.header
    monkeypatch.setattr("icp.sweep.precision._compared", None)
    again = icp.measure(model, make_probe(), units, icp.Mask(), **options)
    assert again.header["rank_correlation"] == got.header["rank_correlation"]
    assert np.array_equal(again.dP, got.dP)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_the_shard_that_finishes_the_store_says_how_well_it_ranks(model, dtype, tmp_path, monkeypatch):
    """What a measurement in one piece says; the others, of a part that may rank otherwise, say nothing."""
    units = model.units("neuron")[::-1]
    call = (model, make_probe(), units, icp.Mask())
    options = dict(dtype=dtype, store=tmp_path / "s", **QUIET)
    whole = icp.measure(*call, dtype=dtype, **QUIET).header["rank_correlation"]
    for shard in ("4/4", "2/4", "3/4", "1/4"):  # three chunks: the fourth has none
        part = icp.measure(*call, shard=shard, **options)
        assert len(part.units) < len(units) and part.header.get("rank_correlation") == (
            whole if shard == "1/4" else None
        )
    assert whole["units"] == 64 and icp.Effects.load(tmp_path / "s").header["rank_correlation"] == whole
    monkeypatch.setattr("icp.sweep.precision._compared", None)
    assert icp.measure(*call, shard="4/4", **options).header["rank_correlation"] == whole


def test_a_finished_store_without_its_correlation_gets_it(model, tmp_path, monkeypatch):
    """As a kill between the last chunk and the comparison leaves it."""
    units = model.units("neuron")
    options = dict(dtype=torch.bfloat16, store=tmp_path / "s", **QUIET)
    with monkeypatch.context() as patched:
        patched.setattr("icp.sweep.precision._compared", None)
        with pytest.raises(TypeError):
            icp.measure(model, make_probe(), units, icp.Mask(), **options)
    got = icp.measure(model, make_probe(), units, icp.Mask(), shard="4/4", **options)
    assert not got.units and got.header["rank_correlation"]["units"] == 64


def test_the_same_dtype_needs_no_copy_and_another_kind_is_refused(model):
    same = icp.measure(model, make_probe(), model.units("head"), icp.Mask(), dtype=torch.float32, **QUIET)
    assert "rank_correlation" not in same.header
    with pytest.raises(icp.IcpError, match=r"cannot measure in torch.int8: use torch.float32"):
        icp.measure(model, make_probe(), model.units("head"), icp.Mask(), dtype=torch.int8, **QUIET)


LONG = icp.Probe.from_texts(
    [f"The {' '.join((WORDS.split() * 3)[:58])} {last}" for last in ("said", "ran")], (" she", " he")
)
"""Texts so long that rotary frequencies rounded to bfloat16 turn keys and queries elsewhere."""


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("name", ("llama", "qwen2", "gpt_neox", "gpt2", "gpt_neo"))
def test_a_lower_dtype_is_what_loading_in_it_gives(name, dtype, tmp_path):
    model = BY_NAME[name].model(torch.float32)
    loaded = icp.load(model.save_pretrained(tmp_path / "m"), make_tokenizer(), dtype=dtype)
    call = (LONG, model.units("head"), icp.Mask())
    low = icp.measure(model, *call, dtype=dtype, **QUIET)
    assert LONG.tokenize(model.tokenizer).text_lengths == [60, 60]
    want = icp.measure(loaded, *call, **QUIET)
    assert np.array_equal(low.clean, want.clean) and np.array_equal(low.dP, want.dP)
    assert low.header["binding"] == want.header["binding"]


@pytest.mark.parametrize("name", ("bridge llama", "bridge gpt2", *(f"hooked {name}" for name in HOOKED)))
def test_a_lens_computes_in_a_lower_dtype_too(name):
    kind, case = name.split()
    if kind == "bridge":
        module = bridged(BY_NAME[case].module(torch.float32), make_tokenizer())
    else:
        module = hooked_transformer(case, torch.float32)
    model = icp.load(module, make_tokenizer())
    units = model.units("neuron", layers=[0])
    low = icp.measure(model, make_probe(), units, icp.Mask(), dtype=torch.bfloat16, **QUIET)
    assert low.header["dtype"] == "torch.bfloat16" and 0.9 < low.header["rank_correlation"]["spearman"] < 1
