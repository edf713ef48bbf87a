"""Hooked = cut = saved: logits under a selection's hooks, after `prune`, and from plain `transformers` agree."""

import copy
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from helpers import BY_NAME, CASES, bridged, hooked_transformer, make_tokenizer
from transformers import AutoModelForCausalLM

import icp

CUTTABLE = (
    "blocks.0.attn.hook_z[1]",
    "blocks.1.attn.hook_z[2,5]",
    "blocks.0.mlp.hook_post[7]",
    "blocks.1.mlp.hook_post[0]",
)
ROWS = [[3, 5, 9, 20, 7, 11, 30], [4, 8, 15, 16, 23]]
NO_BIAS = ("mistral", "qwen2")

KINDS = {
    "heads": ("blocks.0.attn.hook_z[1]", "blocks.1.attn.hook_z[3]", "blocks.1.attn.hook_z[0]"),
    "neurons": ("blocks.0.mlp.hook_post[7]", "blocks.1.mlp.hook_post[0]", "blocks.1.mlp.hook_post[47]"),
    "mixed": ("blocks.0.attn.hook_z[0]", "blocks.0.attn.hook_z[2,3]", "blocks.1.attn.hook_z[2,6]",
              "blocks.0.mlp.hook_post[40]", "hook_embed[3]"),
    "embed": ("hook_embed[0]", "hook_embed[31]"),
}  # fmt: skip


def selection(model, units, role):
    """`zero`, `mean` and `erase` (constants drawn at random: any will do), or `scale` by 0.3."""
    generator, choices = torch.Generator().manual_seed(1), []
    for address in units:
        unit = icp.Unit.parse(address)
        width = len(model.site(unit).columns(unit))
        if role == "erase" and unit.layer is not None:
            choices.append(erasing(unit, torch.randn(width, generator=generator, dtype=torch.float64)))
            continue
        shift = tuple(torch.randn(width, generator=generator, dtype=torch.float64).tolist()) if role == "mean" else ()
        alpha = 0.3 if role == "scale" else 0.0
        choices.append(icp.Choice(unit, "scale" if role == "scale" else "prune", alpha, shift))
    return icp.Selection(tuple(choices), model.binding)


def erasing(unit, vector, shift=None):
    """Erases what is read by `vector`, along `vector` plus something that is orthogonal to it."""
    other = vector.flip(0) - (vector.flip(0) @ vector) / (vector @ vector) * vector
    along, read = (tuple(v.tolist()) for v in (vector + other, vector / (vector @ vector)))
    return icp.Choice(unit, "erase", 0.0, tuple(vector.tolist()) if shift is None else shift, (along,), (read,))


def logits_of(model):
    """Logits of a padded batch, those at padding left out."""
    batch = model.pad(ROWS)
    with torch.no_grad(), model.frozen():
        return model.logits(batch)[batch.mask]


def close(actual, expected, dtype):
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-5}[dtype] * float(expected.abs().max())
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def refuses_mean(case, kind):
    return case.name in NO_BIAS and kind != "embed"


@pytest.mark.parametrize(
    ("kind", "dtype"), [*((kind, torch.float64) for kind in KINDS), ("mixed", torch.float32)], ids=str
)
@pytest.mark.parametrize("role", ["zero", "mean", "scale", "erase"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_hooked_is_cut_is_saved(case, kind, role, dtype, tmp_path):
    model = case.model(dtype)
    chosen = selection(model, KINDS[kind], role)
    if role in ("mean", "erase") and refuses_mean(case, kind):
        with pytest.raises(
            icp.PruneError, match=rf"{case.name} has no bias to fold the mean of blocks\.0\..*Mask\('zero'\)"
        ):
            icp.prune(model, chosen)
        return
    clean = logits_of(model)
    with chosen.applied(model):
        hooked = logits_of(model)
    assert (hooked - clean).abs().max() > 1e-3 * clean.abs().max(), "the cut must matter"
    assert torch.equal(logits_of(model), clean)

    pruned = icp.prune(model, chosen)
    close(logits_of(pruned), hooked, dtype)

    folder = pruned.save_pretrained(tmp_path / "pruned")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    batch = model.pad(ROWS)
    with torch.no_grad():
        saved = plain(input_ids=batch.ids, attention_mask=batch.mask.long(), position_ids=batch.position_ids).logits
    close(saved[batch.mask], hooked, dtype)
    assert torch.equal(saved[batch.mask], logits_of(icp.load(folder, dtype=dtype)))


WEIGHTS = {
    "llama": ("model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.down_proj", True),
    "mistral": ("model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.down_proj", True),
    "qwen2": ("model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.down_proj", True),
    "gpt2": ("transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp.c_proj", False),
    "gpt_neo": ("transformer.h.{}.attn.attention.out_proj", "transformer.h.{}.mlp.c_proj", True),
    "gpt_neox": ("gpt_neox.layers.{}.attention.dense", "gpt_neox.layers.{}.mlp.dense_4h_to_h", True),
    "gpt_neox_sequential": ("gpt_neox.layers.{}.attention.dense", "gpt_neox.layers.{}.mlp.dense_4h_to_h", True),
}
"""The projections, and whether they store [d_model, d_in] (`nn.Linear`) or the transpose (`Conv1D`)."""


@pytest.mark.parametrize("role", ["zero", "mean"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outgoing_weights_of_pruned_units_are_exactly_zero_and_no_others_change(case, role):
    if role == "mean" and case.name in NO_BIAS:
        pytest.skip("refuses mean-pruning, see above")
    model = case.model()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    pruned = icp.prune(model, selection(model, CUTTABLE, role))
    attention, mlp, linear = WEIGHTS[case.name]
    cut = {  # d_head is 8
        attention.format(0): range(8, 16), attention.format(1): [2 * 8 + 5], mlp.format(0): [7], mlp.format(1): [0],
    }  # fmt: skip
    for name, value in pruned.module.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module in cut and kind == "weight":
            ours, theirs = (value, before[name]) if linear else (value.T, before[name].T)
            columns = list(cut[module])
            rest = [c for c in range(ours.shape[1]) if c not in columns]
            assert torch.count_nonzero(theirs[:, columns]) == theirs[:, columns].numel()
            assert torch.count_nonzero(ours[:, columns]) == 0
            assert torch.equal(ours[:, rest], theirs[:, rest])
        elif role == "zero" or kind != "bias":
            assert torch.equal(value, before[name]), name
    assert len(pruned.module.state_dict()) >= len(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_original_stays_as_it_was(case):
    model = case.model()
    state = {key: value.clone() for key, value in model.module.state_dict().items()}
    config, binding = copy.deepcopy(model.config.to_dict()), model.binding
    pruned = icp.prune(model, selection(model, KINDS["mixed"], "zero" if case.name in NO_BIAS else "mean"))
    assert model.selection is None and pruned.selection is not None
    assert model.config.to_dict() == config and model.binding == binding
    assert list(model.module.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())
    ours = {p.data_ptr() for p in model.module.parameters()}
    assert not ours & {p.data_ptr() for p in pruned.module.parameters()}, "the copy has weights of its own"


def test_a_llama_config_says_that_it_has_biases_now(tmp_path):
    model = BY_NAME["llama"].model(torch.float32)
    neuron = icp.prune(model, selection(model, KINDS["neurons"], "mean"))
    assert (neuron.config.mlp_bias, neuron.config.attention_bias) == (True, False)
    both = icp.prune(neuron, selection(neuron, KINDS["heads"], "mean"))
    assert (both.config.mlp_bias, both.config.attention_bias) == (True, True)
    reloaded = AutoModelForCausalLM.from_pretrained(both.save_pretrained(tmp_path / "both"))
    assert reloaded.config.mlp_bias and reloaded.config.attention_bias
    block = reloaded.model.layers[2]  # a block in which nothing was cut
    for module in (block.mlp.down_proj, block.mlp.up_proj, block.self_attn.q_proj, block.self_attn.o_proj):
        assert torch.count_nonzero(module.bias) == 0
    assert torch.count_nonzero(reloaded.model.layers[0].mlp.down_proj.bias) > 0


def test_zero_pruning_adds_no_bias():
    model = BY_NAME["llama"].model()
    assert not icp.prune(model, selection(model, KINDS["neurons"], "zero")).config.mlp_bias


def test_a_gpt_neox_without_attention_bias_is_given_one(tmp_path):
    module = BY_NAME["gpt_neox"].make()
    config = copy.deepcopy(module.config)
    config.attention_bias = False
    from helpers import randomised

    model = icp.load(randomised(type(module)(config)).double().eval(), make_tokenizer())
    assert model.blocks[0].attention.dense.bias is None
    chosen = selection(model, KINDS["heads"], "mean")
    with chosen.applied(model):
        hooked = logits_of(model)
    pruned = icp.prune(model, chosen)
    assert pruned.config.attention_bias and not model.config.attention_bias
    close(logits_of(icp.load(pruned.save_pretrained(tmp_path / "m"), dtype=torch.float64)), hooked, torch.float64)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "qwen2"])
def test_a_tied_embedding_is_untied_before_it_is_cut(name, tmp_path):
    model = BY_NAME[name].model()
    assert model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight
    pruned = icp.prune(model, selection(model, KINDS["embed"], "zero"))
    reloaded = AutoModelForCausalLM.from_pretrained(pruned.save_pretrained(tmp_path / "m"), dtype=torch.float64)
    for module in (pruned.module, reloaded):
        assert module.config.tie_word_embeddings is False
        assert torch.count_nonzero(module.get_input_embeddings().weight[:, [0, 31]]) == 0
        assert torch.equal(module.get_output_embeddings().weight, model.module.get_output_embeddings().weight)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_saved_folder_carries_its_selection(case, tmp_path):
    model = case.model(torch.float32)
    pruned = icp.prune(model, selection(model, KINDS["mixed"], "zero"))
    folder = pruned.save_pretrained(tmp_path / "pruned")
    reloaded = icp.load(folder)
    assert reloaded.selection == pruned.selection
    assert reloaded.binding == pruned.binding == reloaded.selection.binding
    reloaded.selection.require_fit(reloaded)
    assert [str(u) for u in reloaded.selection.role("prune")] == list(KINDS["mixed"])
    assert icp.load(case.model(torch.float32).save_pretrained(tmp_path / "whole")).selection is None


def test_pruning_twice_joins_the_selections(tmp_path):
    model = BY_NAME["gpt2"].model()
    first = icp.prune(model, selection(model, KINDS["heads"], "mean"))
    second = icp.prune(first, selection(first, KINDS["neurons"], "scale"))
    heads, neurons = selection(model, KINDS["heads"], "mean"), selection(model, KINDS["neurons"], "scale")
    at_once = icp.prune(model, icp.Selection(heads.choices + neurons.choices, model.binding))
    close(logits_of(second), logits_of(at_once), torch.float64)
    assert second.selection.choices == heads.choices + neurons.choices
    assert second.selection.binding == second.binding != model.binding
    folder = second.save_pretrained(tmp_path / "pruned")
    assert icp.load(folder, dtype=torch.float64).selection == second.selection


CUTS = {
    "zero": icp.Choice(icp.Unit.parse("hook_embed[3]")),
    "mean": icp.Choice(icp.Unit.parse("hook_embed[3]"), "prune", 0.0, (1.5,)),
    "other mean": icp.Choice(icp.Unit.parse("hook_embed[3]"), "prune", 0.0, (-0.7,)),
    "half": icp.Choice(icp.Unit.parse("hook_embed[3]"), "scale", 0.5),
    "third": icp.Choice(icp.Unit.parse("hook_embed[3]"), "scale", 1 / 3),
}


@pytest.mark.parametrize("unit", ["hook_embed[3]", "blocks.1.mlp.hook_post[0]"])
@pytest.mark.parametrize(("earlier", "later"), list(permutations(CUTS, 2)))
def test_a_unit_cut_twice_has_the_one_choice_that_says_what_both_did(unit, earlier, later):
    model = BY_NAME["gpt2"].model()
    cut = model
    for name in (earlier, later):
        choice = replace(CUTS[name], unit=icp.Unit.parse(unit))
        cut = icp.prune(cut, icp.Selection((choice,), cut.binding))
    assert cut.selection.units == [icp.Unit.parse(unit)]
    with cut.selection.applied(model, weights="any"):
        hooked = logits_of(model)
    close(logits_of(cut), hooked, torch.float64)


def test_what_was_cut_stays_on_record_when_the_unit_gets_another_role():
    model = BY_NAME["gpt2"].model()
    first = icp.prune(model, icp.Selection.of(model, ["blocks.0.mlp.hook_post[7]", "hook_embed[3]"]))
    again = icp.Selection.of(first, ["blocks.0.mlp.hook_post[7]"], "regularise").choices
    second = icp.prune(
        first, icp.Selection((*again, *icp.Selection.of(first, ["hook_embed[4]"]).choices), first.binding)
    )
    assert [str(u) for u in second.selection.role("prune")] == [
        "blocks.0.mlp.hook_post[7]", "hook_embed[3]", "hook_embed[4]",
    ]  # fmt: skip


HEAD, DIMENSION = (icp.Unit.parse(f"blocks.0.attn.hook_z[{index}]") for index in ("1", "1,3"))
OVERLAP = r"blocks\.0\.attn\.hook_z\[1.*\] and blocks\.0\.attn\.hook_z\[1.*\] cover the same values: keep one of them"


@pytest.mark.parametrize("units", [(HEAD, DIMENSION), (DIMENSION, HEAD), (HEAD, HEAD)], ids=str)
@pytest.mark.parametrize("role", ["prune", "scale"])
def test_cuts_that_cover_the_same_values_are_refused(role, units):
    model = BY_NAME["gpt2"].model()
    clean = logits_of(model)
    chosen = icp.Selection(tuple(icp.Choice(unit, role) for unit in units), model.binding)
    with pytest.raises(icp.UnitError, match=OVERLAP):
        icp.prune(model, chosen)
    with pytest.raises(icp.UnitError, match=OVERLAP):
        with chosen.applied(model):
            pass
    assert torch.equal(logits_of(model), clean)


@pytest.mark.parametrize("units", [(HEAD, DIMENSION), (DIMENSION, HEAD)], ids=str)
def test_a_cut_that_covers_a_part_of_an_earlier_one_is_refused(units):
    model = BY_NAME["gpt2"].model()
    first = icp.prune(model, icp.Selection.of(model, [units[0]]))
    with pytest.raises(icp.UnitError, match=OVERLAP):
        icp.prune(first, icp.Selection.of(first, [units[1]]))


def test_a_role_that_cuts_nothing_may_cover_what_is_cut():
    model = BY_NAME["gpt2"].model()
    chosen = icp.Selection((icp.Choice(HEAD, "regularise"), icp.Choice(DIMENSION)), model.binding)
    assert icp.prune(model, chosen).selection.choices == chosen.choices


def test_saving_again_replaces_the_whole_folder(tmp_path):
    model = BY_NAME["gpt2"].model(torch.float32)
    pruned = icp.prune(model, selection(model, KINDS["heads"], "zero"))
    folder = pruned.save_pretrained(tmp_path / "m")
    model.save_pretrained(folder)
    assert not (folder / "icp_selection.safetensors").exists()
    assert icp.load(folder).selection is None
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("role", ["zero", "mean", "scale"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_pruning_a_bridge_gives_a_bridge(name, role):
    case = BY_NAME[name]
    model = icp.load(bridged(case.module(), make_tokenizer()))
    chosen = selection(model, KINDS["mixed"], role)
    clean = logits_of(model)
    with chosen.applied(model):
        hooked = logits_of(model)
    pruned = icp.prune(model, chosen)
    assert (pruned.kind, type(pruned.module)) == ("bridge", type(model.module))
    close(logits_of(pruned), hooked, torch.float64)
    assert torch.equal(logits_of(model), clean)
    plain = case.model()
    by_transformers = logits_of(icp.prune(plain, selection(plain, KINDS["mixed"], role)))
    close(by_transformers, hooked, torch.float32)  # transformers' RMSNorm computes in float32, the bridge's does not


@pytest.mark.parametrize("role", ["zero", "mean", "scale"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_pruning_a_hooked_transformer_gives_a_hooked_transformer(name, role):
    model = icp.load(hooked_transformer(name))
    chosen = selection(model, KINDS["mixed"], role)
    clean = logits_of(model)
    with chosen.applied(model):
        hooked = logits_of(model)
    assert (hooked - clean).abs().max() > 1e-3
    pruned = icp.prune(model, chosen)
    assert (pruned.kind, type(pruned.module)) == ("hooked_transformer", type(model.module))
    close(logits_of(pruned), hooked, torch.float64)
    assert torch.equal(logits_of(model), clean)


def test_transformer_lens_models_have_no_checkpoint_to_save(tmp_path):
    model = icp.load(bridged(BY_NAME["gpt2"].module(), make_tokenizer()))
    with pytest.raises(icp.ModelError, match=r"a bridge has no transformers checkpoint: .*icp\.load\(<hub id>\)"):
        model.save_pretrained(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_what_weights_cannot_express_is_refused():
    model = BY_NAME["llama"].model()
    with pytest.raises(
        icp.PruneError, match=r"blocks\.1\.hook_resid_post\[3\] cannot be cut from weights.*mask it with"
    ):
        icp.prune(model, icp.Selection.of(model, ["hook_embed[0]", "blocks.1.hook_resid_post[3]"]))
    for role in ("regularise", "keep"):
        with pytest.raises(icp.PruneError, match="the selection cuts nothing: give it units with the role 'prune'"):
            icp.prune(model, icp.Selection.of(model, ["hook_embed[0]"], role))


def test_roles_that_do_not_cut_are_left_alone():
    model = BY_NAME["llama"].model()
    kept = icp.Selection.of(model, ["blocks.0.attn.hook_z[1]"], "regularise").choices
    cut = icp.Selection.of(model, ["blocks.0.mlp.hook_post[1]"]).choices
    pruned = icp.prune(model, icp.Selection(kept + cut, model.binding))
    close(logits_of(pruned), logits_of(icp.prune(model, icp.Selection(cut, model.binding))), torch.float64)
    assert pruned.selection.role("regularise") == [kept[0].unit]


def other_tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["zebra"])
    return tokenizer


def test_a_selection_of_another_model_is_refused_naming_both():
    model = BY_NAME["llama"].model()
    chosen = icp.Selection.of(model, ["blocks.0.mlp.hook_post[1]"])
    others = {
        "architecture": BY_NAME["mistral"].model(),
        "tokenizer": icp.load(model.module, other_tokenizer()),
        "weights": BY_NAME["llama"].model(seed=1),
    }
    for key, other in others.items():
        for call in (lambda o=other: icp.prune(o, chosen), lambda o=other: chosen.applied(o).__enter__()):
            with pytest.raises(icp.ArtefactError) as error:
                call()
            assert f"another {key} ({chosen.binding[key]}) than the model's ({other.binding[key]})" in str(error.value)
            assert chosen.binding[key] != other.binding[key]
        assert ("weights='any' uses it all the same" in str(error.value)) == (key == "weights")
        if key != "weights":
            with pytest.raises(icp.ArtefactError, match=f"another {key}"):
                icp.prune(other, chosen, weights="any")
    with pytest.raises(icp.ArtefactError, match="unknown weights='some': use 'same' or 'any'"):
        icp.prune(model, chosen, weights="some")


def test_weights_any_uses_a_selection_on_other_weights():
    model, other = BY_NAME["llama"].model(), BY_NAME["llama"].model(seed=1)
    chosen = selection(model, CUTTABLE, "mean")
    with chosen.applied(other, weights="any"):
        hooked = logits_of(other)
    pruned = icp.prune(other, chosen, weights="any")
    close(logits_of(pruned), hooked, torch.float64)
    assert pruned.selection.binding == pruned.binding


def test_one_changed_weight_is_another_model():
    model = BY_NAME["llama"].model()
    chosen = icp.Selection.of(model, ["blocks.0.mlp.hook_post[1]"])
    with torch.no_grad():
        model.module.model.layers[0].mlp.up_proj.weight[3, 4] += 1e-9
    with pytest.raises(icp.ArtefactError, match="another weights"):
        icp.prune(model, chosen)


def test_constants_of_another_width_are_refused():
    model = BY_NAME["llama"].model()
    bad = icp.Choice(icp.Unit.parse("blocks.0.attn.hook_z[1]"), "prune", 0.0, (1.0, 2.0))
    with pytest.raises(icp.ArtefactError, match=r"hook_z\[1\] has 8 values, the selection holds 2 for it"):
        icp.prune(model, icp.Selection((bad,), model.binding))


def test_a_selection_refuses_units_and_roles_that_are_not_there():
    model = BY_NAME["llama"].model()
    with pytest.raises(icp.UnitError, match="out of range"):
        icp.Selection.of(model, ["blocks.0.mlp.hook_post[48]"])
    with pytest.raises(icp.UnitError, match="unknown role 'cut' of hook_embed"):
        icp.Selection.of(model, ["hook_embed[0]"], "cut")
    with pytest.raises(icp.UnitError, match="unknown role 'cut': use one of prune, scale, erase, regularise, keep"):
        icp.Selection.of(model, ["hook_embed[0]"]).role("cut")
    with pytest.raises(icp.UnitError, match=r"role 'prune' with alpha=0.5"):
        icp.Selection.of(model, ["hook_embed[0]"], "prune", 0.5)
    with pytest.raises(icp.UnitError, match=r"role 'scale' with alpha=None"):
        icp.Selection.of(model, ["hook_embed[0]"], "scale")


@pytest.mark.parametrize(
    ("role", "alpha", "shift", "words"),
    [
        ("prune", 0.5, (), r"alpha=0.5 of hook_embed\[0\] goes with the role 'scale', not with 'prune'"),
        ("keep", 0.5, (), "goes with the role 'scale', not with 'keep'"),
        ("scale", 0.5, (1.0,), r"a shift of hook_embed\[0\] goes with the role 'prune' or 'erase', not with 'scale'"),
        ("regularise", 0.0, (1.0,), "goes with the role 'prune' or 'erase', not with 'regularise'"),
        ("erase", 0.0, (1.0,), r"hook_embed\[0\] with the role 'erase' has 0 directions read by 0"),
        ("scale", float("inf"), (), r"hook_embed\[0\] cannot be scaled by inf: give a finite alpha"),
        ("scale", float("nan"), (), "cannot be scaled by nan: give a finite alpha"),
    ],
)
def test_a_choice_refuses_constants_that_its_role_has_no_use_for(role, alpha, shift, words):
    with pytest.raises(icp.UnitError, match=words):
        icp.Choice(icp.Unit.parse("hook_embed[0]"), role, alpha, shift)


@pytest.mark.parametrize(("role", "alpha"), [("prune", None), ("scale", 0.5)])
def test_a_head_and_one_of_its_dimensions_are_not_chosen_together(role, alpha):
    model = BY_NAME["llama"].model()
    with pytest.raises(icp.UnitError, match="cover the same values"):
        icp.Selection.of(model, ["blocks.0.attn.hook_z[1]", "blocks.0.attn.hook_z[1,3]"], role, alpha)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_the_proof_notices_a_cut_that_was_not_made(monkeypatch, dtype):
    import sys

    monkeypatch.setattr(sys.modules["icp.prune"], "_cut_projection", lambda model, choices: None)
    model = BY_NAME["llama"].model(dtype)
    with pytest.raises(icp.PruneError, match=r"the cut left outgoing weights of blocks\.0\.mlp\.hook_post\[1\]"):
        icp.prune(model, icp.Selection.of(model, ["blocks.0.mlp.hook_post[1]"]))


def test_the_proof_notices_a_cut_that_is_a_millionth_off(monkeypatch):
    import sys

    module = sys.modules["icp.prune"]
    cut = module._cut_projection

    def inexact(model, choices):
        cut(model, choices)
        model.module.model.layers[0].mlp.down_proj.weight[:, 2] += 1e-6

    monkeypatch.setattr(module, "_cut_projection", inexact)
    model = BY_NAME["llama"].model()
    with pytest.raises(icp.PruneError, match="the cut copy differs from the hooked model by"):
        icp.prune(model, icp.Selection.of(model, ["blocks.0.mlp.hook_post[1]"]))


def test_a_pruned_model_says_how_its_selection_came_about():
    model = BY_NAME["llama"].model()
    chosen = icp.Selection.of(model, ["blocks.0.mlp.hook_post[1]"])
    assert icp.prune(model, chosen).selection.origin == chosen.origin == {"made": "by hand"}
