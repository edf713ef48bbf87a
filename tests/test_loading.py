"""`load` takes whatever you have, leaves it as it was, and says in one sentence what it cannot take."""

import copy
import json

import pytest
import torch
from helpers import (
    BY_NAME,
    CASES,
    SIZES,
    VOCABULARY,
    bridged,
    hooked_transformer,
    make_probe,
    make_tokenizer,
    randomised,
)
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import icp
from icp import families

IDS = torch.tensor([[3, 5, 9, 20, 7]])


def logits_of(model: icp.Model) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model.pad(IDS.tolist()))


def saved(folder, name="llama", with_tokenizer=True):
    """A folder with a tiny checkpoint, in fp32 as most are."""
    BY_NAME[name].module(torch.float32).save_pretrained(folder)
    if with_tokenizer:
        make_tokenizer().save_pretrained(folder)
    return folder


def refused(words, source, tokenizer=None, kind=icp.ModelError, **options):
    with pytest.raises(kind) as error:
        icp.load(source, tokenizer, **options)
    message = str(error.value)
    for word in [words] if isinstance(words, str) else words:
        assert word in message
    assert "\n" not in message


def every_hook(module):
    return [
        hook
        for part in module.modules()
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
        for hook in hooks
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_transformers_model_computes_on_itself_and_stays_as_it_was(case):
    module = case.module()
    module.train()
    keys, config = list(module.state_dict()), module.config.to_dict()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = icp.load(module, make_tokenizer())
    assert model.module is module and model.kind == "transformers"
    assert model.family.name == case.name.removesuffix("_sequential")
    assert module.training and list(module.state_dict()) == keys and module.config.to_dict() == config
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not every_hook(module)
    with model.frozen():
        assert torch.equal(logits_of(model), module(IDS).logits)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_view_shares_the_weights_and_leaves_the_module_tree(case):
    model = case.model(torch.float32)
    keys, own = list(model.module.state_dict()), dict(model.module.named_parameters())
    clean = logits_of(model)
    view = model.view()
    assert type(view).__name__ == "TransformerBridge"
    assert list(model.module.state_dict()) == keys
    assert all(own[name] is parameter for name, parameter in model.module.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(view(IDS), clean, atol=1e-5, rtol=1e-4)
        assert torch.equal(logits_of(model), clean)
    shared = {p.data_ptr() for p in view.parameters()} & {p.data_ptr() for p in own.values()}
    embedding = model.module.get_input_embeddings().weight
    assert embedding.data_ptr() in shared and len(shared) > len(own) / 2
    assert not every_hook(model.module)


def test_a_view_sees_a_change_of_the_weights():
    model = BY_NAME["llama"].model(torch.float32)
    view = model.view()
    with torch.no_grad():
        before = view(IDS).clone()
        model.module.model.layers[1].mlp.down_proj.weight.mul_(2)
        torch.testing.assert_close(view(IDS), logits_of(model), atol=1e-5, rtol=1e-4)
        assert (view(IDS) - before).abs().max() > 0.1


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neox"])
def hooked(request):
    """Skips under TransformerLens 4, which has no `HookedTransformer`."""
    return hooked_transformer(request.param)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neo", "gpt_neox"])
def test_a_bridge_computes_on_itself(name):
    case = BY_NAME[name]
    bridge = bridged(case.module(torch.float32), make_tokenizer())
    model = icp.load(bridge)
    assert (model.kind, model.module, model.view()) == ("bridge", bridge, bridge)
    torch.testing.assert_close(logits_of(model), logits_of(case.model(torch.float32)), atol=1e-5, rtol=1e-4)
    assert len(model.units("head", "neuron")) == case.layers * (4 + 48)


def test_a_hooked_transformer_computes_on_itself(hooked):
    model = icp.load(hooked)
    assert (model.kind, model.module, model.view()) == ("hooked_transformer", hooked, hooked)
    with torch.no_grad():
        assert torch.equal(logits_of(model), hooked(IDS))
    assert len(model.units("head", "neuron")) == 2 * (4 + 48)
    refused("came without a tokenizer", _without_tokenizer(hooked))


def _without_tokenizer(hooked):
    alone = copy.copy(hooked)
    alone.tokenizer = None
    return alone


@pytest.fixture(params=["llama", "gpt2"])
def adapted(request):
    """A peft model whose LoRA has done something: B is not 0."""
    peft = pytest.importorskip("peft")
    targets = {"llama": ["q_proj", "o_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}[request.param]
    torch.manual_seed(0)
    fused = request.param == "gpt2"
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, fan_in_fan_out=fused
    )  # fmt: skip
    return peft.get_peft_model(BY_NAME[request.param].module(), config).eval()


def test_a_peft_model_is_merged_into_a_copy(adapted):
    keys = list(adapted.state_dict())
    before = {key: value.clone() for key, value in adapted.state_dict().items()}
    with torch.no_grad():
        tuned = adapted(IDS).logits
        with adapted.disable_adapter():
            base = adapted(IDS).logits
    assert (tuned - base).abs().max() > 0.01, "the adapter must matter"
    model = icp.load(adapted, make_tokenizer())
    torch.testing.assert_close(logits_of(model), tuned, atol=1e-9, rtol=0)
    assert not any("lora" in key for key in model.module.state_dict())
    assert list(adapted.state_dict()) == keys
    assert all(torch.equal(value, before[key]) for key, value in adapted.state_dict().items())
    with torch.no_grad():
        assert torch.equal(adapted(IDS).logits, tuned)
    assert len(icp.measure(model, make_probe(), ["hook_embed[0]"], icp.Mask(), progress=False).clean) == 4


def test_switched_off_adapters_are_left_out(adapted):
    with torch.no_grad(), adapted.disable_adapter():
        base = adapted(IDS).logits
        model = icp.load(adapted, make_tokenizer())
    torch.testing.assert_close(logits_of(model), base, atol=1e-9, rtol=0)
    assert not any("lora" in key for key in model.module.state_dict())
    adapted.merge_adapter()
    adapted.base_model.disable_adapter_layers()
    torch.testing.assert_close(logits_of(icp.load(adapted, make_tokenizer())), base, atol=1e-9, rtol=0)
    adapted.base_model.enable_adapter_layers()
    next(part for part in adapted.modules() if hasattr(part, "lora_A")).enable_adapters(False)
    refused("some of this peft model's adapters are switched off", adapted, make_tokenizer())


def test_a_module_with_adapters_inside_is_refused(adapted):
    refused("has adapters inside, which are not its own weights", adapted.base_model.model, make_tokenizer())


def test_adapters_on_something_else_are_refused():
    peft = pytest.importorskip("peft")
    other = peft.get_peft_model(nn.Sequential(nn.Linear(2, 2)), peft.LoraConfig(target_modules=["0"]))
    refused("a Sequential is neither a transformers model, a peft model", other, make_tokenizer())


def test_an_adapter_without_weights_to_merge_is_refused():
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    prompted = peft.get_peft_model(BY_NAME["llama"].module(), config)
    refused(["PROMPT_TUNING", "cannot be merged", "LoRA"], prompted, make_tokenizer())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_folder_loads_as_the_model_that_was_saved(case, tmp_path):
    case.module(torch.float32).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    for source in (tmp_path, str(tmp_path)):
        model = icp.load(source)
        assert model.dtype == torch.float32 and model.selection is None
        assert torch.equal(logits_of(model), logits_of(case.model(torch.float32)))
    assert icp.load(tmp_path, dtype=torch.float64, device="cpu").dtype == torch.float64


def test_a_folder_without_a_tokenizer_takes_one(tmp_path):
    saved(tmp_path, with_tokenizer=False)
    refused(["no tokenizer in", str(tmp_path), "tokenizer.save_pretrained", "tokenizer=..."], tmp_path)
    assert icp.load(tmp_path, make_tokenizer()).name == str(tmp_path)
    refused("llama came without a tokenizer: pass icp.load(model, tokenizer=...)", BY_NAME["llama"].module())


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    refused([str(tmp_path), "has no config.json", "not a saved transformers model"], tmp_path)
    (tmp_path / "config.json").write_text("{")
    refused(["cannot load a model from", "not a valid JSON"], tmp_path)
    (tmp_path / "config.json").write_text("{}")
    refused(["cannot load a model from", "model_type"], tmp_path)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "smolm2", "/no/such/folder"])
def test_an_unknown_name_is_named(name):
    refused([f"cannot load a model from {name!r}", "'smollm2', a hub id, or a folder"], name)


def test_weights_that_are_not_whole_are_refused(tmp_path):
    from safetensors.torch import save_file

    weights = saved(tmp_path) / "model.safetensors"
    whole, key = weights.read_bytes(), "model.layers.1.mlp.down_proj.weight"
    state = BY_NAME["llama"].module(torch.float32).state_dict()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(["cannot load a model from", "as safetensors"], tmp_path)
    weights.write_bytes(b"something else")
    refused(["cannot load a model from", "as safetensors"], tmp_path)
    save_file({k: v for k, v in state.items() if k != key}, weights, {"format": "pt"})
    refused([f"lacks 1 weight(s), such as {key}", "they would be random"], tmp_path)
    save_file(state | {key: torch.zeros(3, 4)}, weights, {"format": "pt"})
    refused([key, "(3, 4)", "(32, 48)"], tmp_path)


def test_pickled_weights_are_never_read(tmp_path):
    torch.save(BY_NAME["llama"].module().state_dict(), saved(tmp_path) / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    refused(["cannot load a model from", "as safetensors"], tmp_path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\nclass C: pass\nclass M: pass\n")
    auto = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": auto}))
    refused(["cannot load a model from", "trust_remote_code"], tmp_path)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "llama, layers 2, d_model 32, heads 4x8, d_mlp 48, vocab {vocab}"),
        ({"num_hidden_layers": 3}, "llama, layers 3, d_model 32, heads 4x8, d_mlp 48, vocab {vocab}"),
        ({"hidden_size": 64}, "llama, layers 2, d_model 64, heads 4x16, d_mlp 48, vocab {vocab}"),
        ({"num_attention_heads": 2}, "llama, layers 2, d_model 32, heads 2x16, d_mlp 48, vocab {vocab}"),
        ({"head_dim": 16}, "llama, layers 2, d_model 32, heads 4x16, d_mlp 48, vocab {vocab}"),
        ({"intermediate_size": 40}, "llama, layers 2, d_model 32, heads 4x8, d_mlp 40, vocab {vocab}"),
        ({"vocab_size": len(VOCABULARY) + 1}, "llama, layers 2, d_model 32, heads 4x8, d_mlp 48, vocab {more}"),
    ],
)
def test_the_binding_names_the_architectures_sizes(change, says):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**SIZES | sizes | {"num_key_value_heads": 2} | change)
    binding = icp.load(randomised(LlamaForCausalLM(config)).eval(), make_tokenizer()).binding
    assert binding["architecture"] == says.format(vocab=len(VOCABULARY), more=len(VOCABULARY) + 1)


def test_models_of_two_types_with_the_same_weights_have_other_bindings():
    """A Mistral without a window computes what a Llama of the same config does."""
    mistral = BY_NAME["mistral"].module()
    mistral.config.sliding_window = None
    llama = LlamaForCausalLM(LlamaConfig(**mistral.config.to_dict() | {"model_type": "llama"})).double().eval()
    llama.load_state_dict(mistral.state_dict())
    one, other = icp.load(llama, make_tokenizer()).binding, icp.load(mistral, make_tokenizer()).binding
    assert one == other | {"architecture": other["architecture"].replace("mistral", "llama")}
    assert one["architecture"].startswith("llama, ") and other["architecture"].startswith("mistral, ")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_one_changed_weight_anywhere_changes_the_binding_of_the_weights_only(name, dtype):
    model = BY_NAME[name].model(dtype)
    before = model.binding
    seen = {before["weights"]}
    for parameter in model.module.parameters():
        weight = parameter.data.view(-1)[-1:]
        old = weight.clone()
        for changed in (torch.nextafter(old, torch.full_like(old, 9.0)), -old):  # its lowest bit, its highest
            weight.copy_(changed)
            binding = model.binding
            assert binding == before | {"weights": binding["weights"]} and binding["weights"] not in seen
            seen.add(binding["weights"])
        weight.copy_(old)
    assert model.binding == before


def _bloom():
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(vocab_size=53, hidden_size=16, n_layer=1, n_head=2))


def _t5():
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=53, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


@pytest.mark.parametrize(("make", "name"), [(_bloom, "bloom"), (_t5, "t5")])
def test_an_unknown_architecture_names_the_known_ones(make, name, tmp_path):
    module = make()
    module.save_pretrained(tmp_path)
    words = [f"'{name}'", "llama, mistral, qwen2, qwen3", "gpt2, gpt_neo, gpt_neox", "add a row to icp/families.py"]
    refused(words, module, make_tokenizer())
    (tmp_path / "model.safetensors").unlink()  # the config alone says so, before any weights are read
    refused(words, tmp_path)


def test_what_is_no_model_is_refused():
    refused("a Linear is neither a transformers model, a peft model, a HookedTransformer", nn.Linear(2, 2), "tokenizer")
    refused("cannot load a model from a int: give a name, a folder or a module", 7)
    refused("move the module itself before handing it in", BY_NAME["llama"].module(), dtype=torch.float32)
    refused("move the module itself before handing it in", BY_NAME["llama"].module(), device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_refused(value):
    module = BY_NAME["gpt2"].module()
    with torch.no_grad():
        module.transformer.h[1].mlp.c_proj.weight[0, 0] = value
    refused("returns NaN or infinity on a plain input", module, make_tokenizer(), kind=icp.NotFiniteError)
    assert not every_hook(module)


def wrong(monkeypatch, **changes):
    """A llama row with something wrong in it, in place of the right one."""
    row = next(f for f in families.FAMILIES if f.name == "llama")
    changed = families.replace(row, **changes)
    monkeypatch.setattr(families, "FAMILIES", (changed, *(f for f in families.FAMILIES if f is not row)))


FIT = "llama does not fit the row 'llama'"
Q, UP = families.Projection("self_attn.q_proj"), families.Projection("mlp.up_proj")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attn_out": Q}, [FIT, "in block 0 the parts do not add up to what the residual stream gained"]),
        ({"heads": families.Point("self_attn.o_proj", "output")}, [FIT, "in block 0 the parts do not add up"]),
        ({"neurons": families.Point("mlp.up_proj", "input")}, [FIT, "hook_post should carry 48 values", "carries 32"]),
        ({"mlp_out": UP}, [FIT, "blocks.0.mlp.hook_post should carry 32 values"]),
        ({"neurons": families.Point("mlp.up_proj", "output")}, [FIT, "in block 0 the parts do not add up"]),
        ({"blocks": "model.layer"}, [FIT, "has no attribute `layer`"]),
        ({"after": "model.ln_f"}, [FIT, "ln_f"]),
        ({"unembed": "head"}, [FIT, "head"]),
        ({"embed": "model.wte"}, [FIT, "wte"]),
        ({"embed": "lm_head"}, [FIT, "hook_embed"]),
        ({"after": "model.embed_tokens"}, [FIT, "should enter model.embed_tokens, the live module lets in (1, 4)"]),
        ({"attn_out": families.Projection("self_attn.k_proj")}, [FIT, "attn.hook_z should write 32 values"]),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_the_live_module_is_refused(monkeypatch, changes, words):
    module = BY_NAME["llama"].module()
    wrong(monkeypatch, **changes)
    refused(words, module, make_tokenizer())
    assert not every_hook(module)


class Shifted(nn.Linear):
    def forward(self, values):
        return super().forward(values) + 1


def test_a_wrong_block_is_named():
    """Only the last block does something that the row does not know of."""
    module = BY_NAME["llama"].module()
    module.model.layers[2].mlp.down_proj.__class__ = Shifted
    refused([FIT, "in block 2 the parts do not add up"], module, make_tokenizer())
    assert not every_hook(module)


@pytest.mark.parametrize(
    ("name", "site"), [("self_attn.o_proj", "blocks.1.attn.hook_z"), ("mlp.down_proj", "blocks.1.mlp.hook_post")]
)
def test_a_site_whose_editing_changes_nothing_is_named(name, site):
    module = BY_NAME["llama"].module()
    with torch.no_grad():
        module.get_submodule(f"model.layers.1.{name}").weight.zero_()
    refused([FIT, f"editing {site} changes nothing"], module, make_tokenizer())


@pytest.mark.parametrize(
    ("model_type", "says"),
    (
        ("mixtral", "a mixture of experts: each token goes through a few of many MLPs"),
        ("mamba", "blocks whose state, not attention heads, carries information"),
        ("t5", "no architecture row .* add a row to icp/families.py"),
    ),
)
def test_an_architecture_that_is_not_known_is_refused_with_the_reason(model_type, says):
    with pytest.raises(icp.ModelError, match=says):
        families.family_of(model_type)
