"""Fine-tuning: what is trained, what is kept, what is refused, and that a killed run comes to the same end."""

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, EQUAL_PAIRS, bridged, make_tokenizer
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

import icp
import icp.baselines
from icp.finetune import seeded
from icp.step import Objective

ANSWERS = (" she", " he")
FAST = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1}
QUIET = {"arguments": FAST, "progress": False}


def rows(count=6):
    examples = []
    for number in range(count):
        x, other = EQUAL_PAIRS[number % len(EQUAL_PAIRS)]
        if number % 2:
            x, other = other, x
        examples.append(icp.Example(x, other, ANSWERS, label=number % 2, group=("a", "b")[number % 2]))
    return icp.Probe(tuple(examples))


def completions(count=4):
    texts = ("The nurse said that", "The old carpenter", "It was late and", "The doctor")
    return icp.Probe(tuple(icp.Example(text, answers=(" she went home",)) for text in texts[:count]))


def losses(model):
    return [entry["loss"] for entry in model.tuning.history]


def logits(module, text="The old nurse said"):
    with torch.no_grad():
        return module(torch.tensor([make_tokenizer()(text)["input_ids"]])).logits


@pytest.mark.parametrize("train", (rows(), completions()), ids=("label words", "completions"))
@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_the_loss_falls_and_the_original_stays(name, train):
    model = BY_NAME[name].model(torch.float32)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    tuned = icp.finetune(model, train, arguments=FAST | {"num_train_epochs": 6}, progress=False)
    assert np.mean(losses(tuned)[-3:]) < 0.7 * np.mean(losses(tuned)[:3])
    after = model.module.state_dict()
    assert list(after) == list(before) == list(tuned.module.state_dict())
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not torch.equal(logits(tuned.module), logits(model.module))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in tuned.module.modules())


def test_the_loss_of_label_words_is_the_cross_entropy_among_them():
    model = BY_NAME["llama"].model(torch.float32)
    first = losses(icp.finetune(model, rows(2), arguments=FAST | {"max_steps": 1}, progress=False))[0]
    expected = icp.measure_sets(model, rows(2), [[]], icp.Mask("zero"), property=icp.TaskLoss(among_answers=True),
                                progress=False).clean.mean()  # fmt: skip
    assert first == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_completion_is_the_mean_over_its_tokens():
    model = BY_NAME["llama"].model(torch.float32)
    first = losses(icp.finetune(model, completions(2), arguments=FAST | {"max_steps": 1}, progress=False))[0]
    likelihood = icp.measure_sets(model, completions(2), [[]], icp.Mask("zero"), property=icp.LogLikelihood(),
                                  progress=False).clean  # fmt: skip
    assert first == pytest.approx(-likelihood.mean() / 3, rel=1e-5)


def test_the_same_seed_gives_the_same_bits_and_draws_nothing_from_the_caller():
    model = BY_NAME["llama"].model(torch.float32)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, second, other = (icp.finetune(model, rows(), seed=seed, **QUIET) for seed in (0, 0, 1))
    assert losses(first) == losses(second) != losses(other)
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), second.module.parameters()))
    assert (np.random.get_state()[1] == states[0]).all() and torch.equal(torch.get_rng_state(), states[1])
    python = random.getstate()
    with seeded(3):
        drawn = random.random()
    assert random.getstate() == python and drawn == random.Random(3).random()


@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_adapters_and_merged_model_load_in_peft_and_transformers(name, tmp_path):
    model = BY_NAME[name].model(torch.float32)
    tuned = icp.finetune(model, rows(), **QUIET)
    model.save_pretrained(tmp_path / "base")
    tuned.tuning.save_pretrained(tmp_path / "adapter", base=tmp_path / "base")
    tuned.save_pretrained(tmp_path / "merged")
    unmerged = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(logits(unmerged), logits(tuned.module), atol=1e-4)
    assert torch.equal(logits(merged), logits(tuned.module))
    assert not torch.allclose(logits(merged), logits(model.module), atol=1e-2)


def changed_in_memory(model, how):
    """The model that was loaded from a folder, changed in one of the ways in which its weights are no longer there."""
    match how:
        case "cut":
            return icp.prune(model, icp.Selection.of(model, model.units("neuron")[3:9]))
        case "tuned":
            return icp.finetune(model, rows(), **QUIET)
        case "merged":
            adapters = get_peft_model(model.copy().module, LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM"))
            return icp.load(adapters, model.tokenizer)
        case "last layer":
            return icp.baselines.last_layer_retraining(icp.finetune(model, rows(), **QUIET), crossed())
    return None


def crossed():
    """Rows of every label with every group."""
    pairs = [icp.Example(e.text, answers=ANSWERS, label=label, group=group)
             for e, label, group in zip(rows(4).examples, (0, 0, 1, 1), "abab")]  # fmt: skip
    return icp.Probe(tuple(pairs))


@pytest.mark.parametrize("how", ("cut", "tuned", "merged", "last layer"))
def test_adapters_never_name_a_base_that_is_not_theirs(how, tmp_path):
    BY_NAME["llama"].model(torch.float32).save_pretrained(tmp_path / "hub")
    model = icp.load(tmp_path / "hub")
    plain = icp.finetune(model, rows(), **QUIET)
    plain.tuning.save_pretrained(tmp_path / "plain")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    assert torch.allclose(logits(loaded), logits(plain.module), atol=1e-4), "unchanged, it is known where it is from"
    changed = changed_in_memory(model, how)
    assert changed.name == model.name
    tuned = icp.finetune(changed, rows(), folder=tmp_path / "run", **QUIET)
    assert json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())["base_model_name_or_path"] is None
    with pytest.raises(icp.ModelError, match=r"cut, merged or made in memory, .* give the folder as base="):
        tuned.tuning.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    changed.save_pretrained(tmp_path / "base")
    tuned.tuning.save_pretrained(tmp_path / "adapter", base=tmp_path / "base")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.allclose(logits(loaded), logits(tuned.module), atol=1e-4)
    wrong = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "hub"), tmp_path / "adapter")
    assert not torch.allclose(logits(wrong.eval()), logits(tuned.module), atol=1e-2)


def test_the_last_layer_of_a_tuned_model_is_in_no_adapters():
    model = BY_NAME["llama"].model(torch.float32)
    tuned = icp.finetune(model, rows(), **QUIET)
    assert icp.baselines.last_layer_retraining(tuned, crossed()).tuning is None


def test_one_lora_config_serves_two_models():
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    for name in ("llama", "gpt_neox"):
        tuned = icp.finetune(BY_NAME[name].model(torch.float32), rows(), lora=lora, **QUIET)
        assert tuned.tuning.config.target_modules != "all-linear"
    assert lora.target_modules == "all-linear"


@pytest.mark.parametrize("how", ("prune", "mean"))
@pytest.mark.parametrize("name", ("llama", "gpt2", "gpt_neox"))
def test_what_was_pruned_stays_pruned(name, how):
    model = BY_NAME[name].model(torch.float32)
    units = [model.units("head")[1], *model.units("neuron")[3:9], model.units("value")[5 * 8 + 1]]
    selection = icp.Selection.of(model, units)
    if how == "mean":
        width = {unit: len(model.site(unit).columns(unit)) for unit in units}
        choices = tuple(icp.Choice(unit, "prune", 0.0, (0.5,) * width[unit]) for unit in units)
        selection = dataclasses.replace(selection, choices=choices)
    pruned = icp.prune(model, selection)
    tuned = icp.finetune(pruned, rows(), **QUIET)
    for unit in units:
        site = tuned.site(unit)
        assert not site.outgoing[list(site.columns(unit))].any()
    other = tuned.site(model.units("neuron")[0])
    assert not torch.equal(other.outgoing, pruned.site(model.units("neuron")[0]).outgoing), "the rest is trained"
    assert tuned.selection == pruned.selection


@pytest.mark.parametrize("name", ("llama", "gpt2", "gpt_neox"))
def test_what_was_erased_stays_erased(name):
    model = BY_NAME[name].model(torch.float32)
    chosen = icp.erasure(model, [model.units("head")[1], *model.units("neuron")[3:9]], rows())
    pruned = icp.prune(model, chosen)
    tuned = icp.finetune(pruned, rows(), **QUIET)
    for choice in chosen.choices:
        site = tuned.site(choice.unit)
        along = torch.tensor(choice.along[0]) / torch.tensor(choice.along[0]).norm()
        weights = site.outgoing[list(site.columns(choice.unit))]
        assert (along @ weights).abs().max() < 1e-6 * model.site(choice.unit).outgoing.abs().max()
        before = pruned.site(choice.unit).outgoing[list(site.columns(choice.unit))]
        assert choice.unit.kind == "neuron" or not torch.allclose(weights, before, atol=1e-4), "the rest is trained"


def test_adapters_are_not_those_of_a_model_that_was_cut_afterwards():
    model = BY_NAME["llama"].model(torch.float32)
    tuned = icp.finetune(model, rows(), **QUIET)
    assert tuned.tuning is not None
    assert icp.prune(tuned, icp.Selection.of(tuned, model.units("head")[:1])).tuning is None


def test_without_the_guard_an_erased_direction_would_come_back(monkeypatch):
    model = BY_NAME["llama"].model(torch.float32)
    pruned = icp.prune(model, icp.erasure(model, model.units("head")[:2], rows()))
    monkeypatch.setattr("icp.mixin.keep_pruned", lambda model: lambda: None)
    with pytest.raises(icp.PruneError, match="outgoing weights again"):
        icp.finetune(pruned, rows(), **QUIET)


def test_without_the_guard_a_pruned_unit_would_come_back(monkeypatch):
    model = BY_NAME["llama"].model(torch.float32)
    pruned = icp.prune(model, icp.Selection.of(model, model.units("neuron")[3:9]))
    monkeypatch.setattr("icp.mixin.keep_pruned", lambda model: lambda: None)
    with pytest.raises(icp.PruneError, match="outgoing weights again"):
        icp.finetune(pruned, rows(), **QUIET)


class Stop(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Dying(Objective):
    """Plain, with a state that counts; dies where the class says so."""

    label = "dying"

    def begin(self, model, rows):
        return {"seen": torch.zeros(1)}

    def penalty(self, step):
        step.state["seen"] += 1
        if step.number == Dying.at:
            raise Stop
        return step.state["seen"].sum() * 1e-3


@pytest.mark.parametrize("regularised", (False, True))
def test_a_killed_run_comes_to_the_same_end(tmp_path, regularised):
    model = BY_NAME["llama"].model(torch.float32)
    lora = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.2, task_type="CAUSAL_LM")
    options = QUIET | {"lora": lora, "objective": Dying()}
    if regularised:
        options["invariance"] = icp.Invariance(model.units("head"), units_per_step=3)
    Dying.at = None
    whole = icp.finetune(model, rows(), folder=tmp_path / "whole", **options)
    Dying.at = 4
    with pytest.raises(Stop):
        icp.finetune(model, rows(), folder=tmp_path / "killed", **options)
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["asked.json", "checkpoint-3"]
    Dying.at = None
    resumed = icp.finetune(model, rows(), folder=tmp_path / "killed", **options)
    assert losses(resumed) == losses(whole)
    assert all(torch.equal(a, b) for a, b in zip(whole.module.parameters(), resumed.module.parameters()))
    Dying.at = 0
    again = icp.finetune(model, rows(), folder=tmp_path / "killed", **options)
    assert again.tuning.history == resumed.tuning.history
    assert all(torch.equal(a, b) for a, b in zip(again.module.parameters(), resumed.module.parameters()))
    with pytest.raises(icp.ArtefactError, match="was begun with seed 0, this call has 1"):
        icp.finetune(model, rows(), folder=tmp_path / "killed", seed=1, **options)


@pytest.mark.parametrize(("every", "logged"), ((1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (100, [6])))
def test_the_last_step_is_always_logged(every, logged):
    model = BY_NAME["llama"].model(torch.float32)
    tuned = icp.finetune(model, rows(), arguments=FAST | {"logging_steps": every}, progress=False)
    assert [entry["step"] for entry in tuned.tuning.history] == logged


def test_plain_fine_tuning_is_resumed_by_another_process(tmp_path):
    model = BY_NAME["llama"].model(torch.float32)
    icp.finetune(model, rows(), folder=tmp_path, **QUIET)
    assert json.loads((tmp_path / "asked.json").read_text())["asked"]["objectives"] == ["Objective()"]


@pytest.mark.parametrize(
    ("given", "says"),
    (
        ({"seed": 3}, "seed=3 among the arguments: say it by seed"),
        ({"output_dir": "x"}, "say it by folder"),
        ({"learning_rte": 1e-3}, "there is no training argument 'learning_rte': did you mean learning_rate"),
        ({"label_smoothing_factor": 0.5}, "label_smoothing_factor is not heeded"),
        ({"eval_strategy": "epoch"}, "eval_strategy='epoch': there are no rows to evaluate on while training"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end=True: there are no rows"),
        ({"learning_rate": -1.0}, r"learning_rate=-1\.0 has to be at least 0"),
        ({"num_train_epochs": 0}, "num_train_epochs=0 trains nothing"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0 has to be at least 1"),
    ),
)
def test_training_arguments_that_make_no_sense_are_refused(tmp_path, given, says):
    with pytest.raises(icp.IcpError, match=says):
        icp.finetune(BY_NAME["llama"].model(torch.float32), rows(), arguments=given, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@dataclasses.dataclass(frozen=True)
class Diverging(Objective):
    def penalty(self, step):
        return step.logits.sum() * (float("nan") if step.number == 4 else 0.0)


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(tmp_path):
    model = BY_NAME["llama"].model(torch.float32)
    with pytest.raises(icp.NotFiniteError, match=r"the loss is nan at step 5 .*penalty nan"):
        icp.finetune(model, rows(), objective=Diverging(), folder=tmp_path, **QUIET)
    assert (tmp_path / "checkpoint-3" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "adapter").exists()


def test_it_says_what_is_left_where_the_loss_is_not_finite(tmp_path):
    model = BY_NAME["llama"].model(torch.float32)
    with pytest.raises(icp.NotFiniteError, match=r"learning rate; no checkpoint was saved before$"):
        icp.finetune(model, rows(), objective=Diverging(), **QUIET)
    with pytest.raises(icp.NotFiniteError, match=f"the last checkpoint is {tmp_path / 'checkpoint-3'}$"):
        icp.finetune(model, rows(), objective=Diverging(), folder=tmp_path, **QUIET)
    with pytest.raises(icp.IcpError, match="save_strategy='steps' without a folder keeps nothing: give folder= too"):
        icp.finetune(model, rows(), arguments={"save_strategy": "steps"}, progress=False)


def test_a_comparison_of_the_rows_of_a_batch_needs_two(tmp_path):
    model = BY_NAME["llama"].model(torch.float32)
    alone = FAST | {"per_device_train_batch_size": 1, "max_steps": 1}
    compared = icp.Invariance(model.units("head"), divergence="contrastive", interventions=icp.Mask("zero"))
    call = {"invariance": compared, "progress": False}
    with pytest.raises(icp.IcpError, match="there is nothing to compare: give at least"):
        icp.finetune(model, rows(), arguments=alone, folder=tmp_path / "run", **call)
    assert not (tmp_path / "run").exists()
    pairs = icp.finetune(model, rows(), arguments=alone | {"per_device_train_batch_size": 2}, **call)
    tokens = icp.finetune(model, completions(), arguments=alone, **call)
    assert all(tuned.tuning.history[0]["penalty"] > 0 for tuned in (pairs, tokens)), "of a completion there are three"


def changed(**change):
    examples = list(rows().examples)
    examples[3] = dataclasses.replace(examples[3], **change)
    return icp.Probe(tuple(examples))


ONE_CLASS = icp.Probe(tuple(dataclasses.replace(example, label=1) for example in rows().examples))
LONG = tuple(dataclasses.replace(example, answers=(" she", " went home")) for example in rows().examples)


@pytest.mark.parametrize(
    ("train", "says"),
    (
        (changed(label=None), "row 3 .* has no label"),
        (changed(answers=(" he", " she")), "row 3 .* has the answers .* and row 0"),
        (changed(answers=(" he",), label=0), "row 3 .* has the answers"),
        (icp.Probe.from_texts(["The nurse said"]), "has no answer"),
        (ONE_CLASS, r"all 6 rows have the label 1 \(' he'\)"),
        (icp.Probe(LONG), "is 2 tokens"),
        (changed(text="The nurse " * 40, counterpart=None), "has 81 tokens, .* reads at most 64"),
    ),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_that_cannot_be_trained_on_are_refused_before_anything_is_written(train, says, tmp_path):
    with pytest.raises(icp.ProbeError, match=says):
        icp.finetune(BY_NAME["llama"].model(torch.float32), train, folder=tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_a_bridge_is_refused_and_told_what_to_load():
    model = icp.load(bridged(BY_NAME["llama"].module(), make_tokenizer()))
    with pytest.raises(icp.ModelError, match=r"a bridge cannot be fine-tuned: .*icp.load\(<hub id>\)"):
        icp.finetune(model, rows(), **QUIET)


def test_weights_that_would_bring_a_pruned_unit_back_are_refused():
    model = BY_NAME["llama"].model(torch.float32)
    pruned = icp.prune(model, icp.Selection.of(model, ["blocks.1.mlp.hook_post[4]"]))
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["down_proj"], task_type="CAUSAL_LM")
    with pytest.raises(icp.PruneError, match=r"would be trained back through modules_to_save"):
        icp.finetune(pruned, rows(), lora=lora, **QUIET)
