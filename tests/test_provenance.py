"""What a store is bound to: each thing that numbers depend on is refused by its name when it is another one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BY_NAME, bridged, hooked_transformer, make_probe, make_tokenizer, some_units
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing

import icp

CASE = BY_NAME["qwen2"]
WHATS = [icp.Mask("mean"), icp.Swap("counterpart")]
CALL = {"progress": False, "batch_size": 64}


@pytest.fixture(scope="module")
def model():
    return CASE.model()


def refused(words, path, **change):
    call = dict(probe=make_probe(), units=some_units(CASE), interventions=WHATS, store=path, **CALL)
    before = {file: file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}
    with pytest.raises(icp.ArtefactError) as error:
        icp.measure(**call | change)
    assert "holds another measurement" in str(error.value) and "choose another path or delete it" in str(error.value)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert {file: file.read_bytes() for file in Path(path).rglob("*") if file.is_file()} == before


@pytest.fixture
def stored(model, tmp_path):
    icp.measure(model, make_probe(), some_units(CASE), WHATS, store=tmp_path / "effects", **CALL)
    return tmp_path / "effects"


def other_tokenizer():
    """The same words under the same numbers, and one more that the probe does not have."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["unheard"])
    return tokenizer


def test_another_tokenizer_is_refused(model, stored):
    refused(["differs in binding.tokenizer ("], stored, model=icp.load(CASE.module(), other_tokenizer()))


def test_other_weights_are_refused(model, stored):
    other = model.copy()
    with torch.no_grad():
        other.blocks[1].mlp.down_proj.weight[0, 0] += 1e-6
    refused(["differs in binding.weights ("], stored, model=other)


def test_the_other_padding_side_is_refused(model, stored):
    refused(["differs in padding_side", '"right" there, "left" here'], stored, model=model, padding_side="left")


@pytest.mark.parametrize("what", ("torch", "icp", "transformers"))
def test_another_version_is_refused(model, stored, what, monkeypatch):
    if what == "transformers":
        monkeypatch.setattr("icp.sweep.provenance.version", lambda package: "0.0.1")
    else:
        monkeypatch.setattr(f"{what}.__version__", "0.0.1")
    refused([f"differs in versions.{what} (", '"0.0.1" here'], stored, model=model)


def test_another_reference_of_the_means_is_refused(model, stored, tmp_path):
    one, other = (icp.Probe.from_texts([text]) for text in ("It was late", "It was late and"))
    refused(["differs in reference"], stored, model=model, reference=one)
    call = dict(probe=make_probe(), units=some_units(CASE), interventions=WHATS)
    icp.measure(model, **call, store=tmp_path / "one", reference=one, **CALL)
    refused(["differs in reference", one.digest, other.digest], tmp_path / "one", model=model, reference=other)


def test_a_hook_that_was_not_there_is_noticed(model, stored):
    """Neither weights nor names tell: what the model computes without intervention does."""
    other = model.copy()
    handle = other.blocks[0].register_forward_hook(lambda module, args, output: output * 1.01)
    refused(["without intervention P of 'The nurse said that' is", "a hook or a setting of a module differs"], stored,
            model=other)  # fmt: skip
    handle.remove()
    handle = other.blocks[0].register_forward_hook(lambda module, args, output: None)
    kept = icp.measure(other, make_probe(), some_units(CASE), WHATS, store=stored, **CALL)
    assert np.array_equal(kept.dP, icp.measure(model, make_probe(), some_units(CASE), WHATS, **CALL).dP)


def test_a_config_that_was_changed_is_noticed(model, stored):
    other = model.copy()
    for block in other.blocks:
        block.self_attn.scaling *= 1.1
    refused(["without intervention P of"], stored, model=other)


def test_another_attention_kernel_or_plan_is_not_another_measurement(model, tmp_path):
    """They agree to rounding."""
    call = dict(probe=make_probe(), units=some_units(CASE), interventions=WHATS, progress=False)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        module = CASE.module(dtype)
        path = tmp_path / str(dtype)
        icp.measure(icp.load(module, make_tokenizer()), **call, store=path, batch_size=1)
        module.set_attn_implementation("eager")
        icp.measure(icp.load(module, make_tokenizer()), **call, store=path, batch_size=7)


def retokenizing(*, first=None, **replaced):
    """The same vocabulary; some words read as others, or every text begun with a token."""
    tokenizer = make_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Replace(*pair) for pair in replaced.items()])
    if first is not None:
        special = [(first, tokenizer.convert_tokens_to_ids(first))]
        backend.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=special)
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [retokenizing(first="<eos>"), retokenizing(carpenter="doctor"), retokenizing(**{" he": " it"})],
    ids=("inputs", "a counterpart", "an answer"),
)
def test_other_tokens_of_the_same_vocabulary_are_refused(model, stored, tokenizer):
    other = icp.load(CASE.module(), tokenizer)
    assert other.binding == model.binding
    refused(["differs in tokens ("], stored, model=other)


def test_other_tokens_of_a_reference_are_refused(model, stored, tmp_path):
    other = icp.load(CASE.module(), retokenizing(quickly="ran"))
    icp.measure(other, make_probe(), some_units(CASE), WHATS, store=stored, **CALL)
    reference = icp.Probe.from_texts(["The nurse ran quickly"])
    call = dict(units=some_units(CASE), interventions=WHATS, reference=reference, store=tmp_path / "told", **CALL)
    icp.measure(model, make_probe(), **call)
    refused(["differs in tokens ("], tmp_path / "told", model=other, reference=reference)


def test_a_setting_that_numbers_depend_on_is_refused(stored):
    for name, value in (("rms_norm_eps", 1e-5), ("rope_parameters", {"rope_type": "default", "rope_theta": 5e5})):
        module = CASE.make()
        config = type(module.config)(**module.config.to_dict() | {name: value})
        other = type(module)(config).double().eval()
        other.load_state_dict(CASE.module().state_dict())
        other = icp.load(other, make_tokenizer())
        refused(["differs in " + ("buffers, " if "rope" in name else "") + "config"], stored, model=other)


def test_names_paths_and_dtypes_of_a_config_do_not_count(model, tmp_path):
    call = dict(probe=make_probe(), units=some_units(CASE), interventions=WHATS, store=tmp_path / "effects", **CALL)
    model.module.config.use_cache = False
    kept = icp.measure(CASE.model(torch.float32), **call)
    for folder in ("one", "other"):
        CASE.model(torch.float32).save_pretrained(tmp_path / folder)
        assert np.array_equal(icp.measure(icp.load(tmp_path / folder, make_tokenizer()), **call).dP, kept.dP)


def test_other_buffers_are_refused(model, stored):
    other = model.copy()
    other.module.model.rotary_emb.inv_freq *= 1 + 1e-12
    refused(["differs in buffers ("], stored, model=other)


def test_other_arithmetic_is_refused(model, stored):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        refused(["differs in arithmetic.float32_matmul", '"ieee" there, "tf32" here'], stored, model=model)
    finally:
        torch.set_float32_matmul_precision(before)
    with torch.autocast("cpu", torch.bfloat16):
        refused(["differs in arithmetic.autocast", '"off" there, "torch.bfloat16" here'], stored, model=model)


def test_a_store_from_before_these_were_kept_is_refused(model, stored):
    file = stored / "zarr.json"
    meta = json.loads(file.read_text())
    for name in ("tokens", "config", "buffers", "arithmetic"):
        del meta["attributes"]["header"][name]
    file.write_text(json.dumps(meta))
    named = "differs in arithmetic.autocast, arithmetic.float32_matmul, buffers, config, tokens ("
    refused([named, 'null there, "off" here'], stored, model=model)


def test_the_package_that_computes_is_in_the_header(model):
    def versions(model):
        return set(icp.measure(model, make_probe(), "hook_embed[0]", icp.Mask(), **CALL).header["versions"])

    lens = {"icp", "torch", "transformers", "transformer-lens"}
    assert versions(model) == lens - {"transformer-lens"}
    assert versions(icp.load(bridged(CASE.module(), make_tokenizer()), make_tokenizer())) == lens


def test_a_hooked_transformer_says_what_computes():
    header = icp.measure(
        icp.load(hooked_transformer("llama")), make_probe(), "hook_embed[0]", icp.Mask(), **CALL
    ).header
    assert "transformer-lens" in header["versions"] and len(header["config"]) == 16


@pytest.mark.parametrize("property", (icp.Probability(), icp.PairGap(icp.Probability())))
def test_a_change_of_a_small_probability_is_noticed(model, property, tmp_path):
    """All P here are below 0.0001, and change by a few hundredths of themselves."""
    probe = icp.Probe(make_probe().examples[1:])
    call = dict(units=some_units(CASE), interventions=WHATS, property=property, store=tmp_path / "effects", **CALL)
    assert 0 < np.abs(icp.measure(model, probe, **call).clean).max() < 1e-4
    other = model.copy()
    other.blocks[0].register_forward_hook(lambda module, args, output: output * 1.01)
    refused(["without intervention P of"], tmp_path / "effects", model=other, probe=probe, property=property)


def test_a_probability_of_zero_is_the_same_measurement(tmp_path):
    never = CASE.model()
    call = dict(probe=make_probe(), units=some_units(CASE), interventions=WHATS, property=icp.Probability(),
                store=tmp_path / "effects", **CALL)  # fmt: skip
    only = torch.zeros(never.unembed.out_features, dtype=torch.float64)
    only[0] = 1e6
    handle = never.unembed.register_forward_hook(lambda module, args, output: output + only)
    assert not icp.measure(never, **call).clean.any()
    icp.measure(never, **call)
    handle.remove()
    with pytest.raises(icp.ArtefactError, match=r"without intervention P of .* is 0 there and"):
        icp.measure(never, **call)


def test_a_change_of_the_counterparts_alone_is_noticed(model, stored):
    """What they lend, and the total effect, change; P(x) does not."""
    other = model.copy()
    word = other.tokenizer.convert_tokens_to_ids(" carpenter")
    other.module.model.embed_tokens.register_forward_hook(
        lambda module, args, output: output * torch.where(args[0] == word, 1.01, 1)[..., None]
    )
    refused(["without intervention P of 'The carpenter said that' is"], stored, model=other)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16, torch.float16))
def test_probabilities_of_another_plan_are_not_another_measurement(dtype, tmp_path):
    properties = (icp.Probability(), icp.ClassProbability(), icp.LogLikelihood(), icp.PairGap(icp.Probability()))
    for number, property in enumerate(properties):
        call = dict(units=some_units(CASE), interventions=WHATS, property=property, store=tmp_path / str(number))
        for kernel, size in (("sdpa", 1), ("eager", 7)):
            module = CASE.module(dtype)
            module.set_attn_implementation(kernel)
            icp.measure(icp.load(module, make_tokenizer()), make_probe(), **call, batch_size=size, progress=False)
