"""Objectives in a `transformers.Trainer` of the user's own: the same bits as `icp.finetune`, and what is refused."""

import dataclasses

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS, make_tokenizer
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import Trainer, TrainingArguments

import icp
from icp.finetune import ARGUMENTS, seeded
from icp.mixin import STATE, last_checkpoint
from icp.step import Objective

ANSWERS = (" she", " he")
FAST = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1}
LORA = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.2, task_type="CAUSAL_LM")


class Mine(icp.ObjectiveMixin, Trainer):
    pass


def rows():
    examples = []
    for number, (x, other) in enumerate(EQUAL_PAIRS * 2):
        texts = (other, x) if number % 2 else (x, other)
        examples.append(icp.Example(*texts, ANSWERS, label=number % 2))
    return icp.Probe(tuple(examples))


@pytest.fixture
def model():
    return BY_NAME["llama"].model(torch.float32)


def penalised(model):
    return [Objective(), icp.Invariance(model.units("head"), units_per_step=5, weight=2.0)]


def asked(folder, **options):
    options = ARGUMENTS | FAST | {"save_strategy": "no", "use_cpu": True} | options
    return TrainingArguments(output_dir=str(folder), seed=0, disable_tqdm=True, **options)


def trained(model, folder, kind=Mine, lora=LORA, options=None, resume=None, **given):
    """A plain Trainer of one's own, on a copy of the model with adapters."""
    with seeded(0):
        adapters = get_peft_model(model.copy().module, lora)
        losses = icp.Losses.of(model, rows(), penalised(model))
        trainer = kind(losses=losses, model=adapters, args=asked(folder, **(options or {})), **given)
        trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer, name="loss"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(trainer):
    return {name: value.detach() for name, value in trainer.model.named_parameters() if value.requires_grad}


def test_a_trainer_of_ones_own_gives_the_bits_of_finetune(model, tmp_path):
    task, invariance = penalised(model)
    tuned = icp.finetune(model, rows(), lora=LORA, objective=task, invariance=invariance, arguments=FAST,
                         progress=False)  # fmt: skip
    trainer = trained(model, tmp_path)
    for name in ("loss", "penalty", "task"):
        assert logged(trainer, name) == [entry[name] for entry in tuned.tuning.history]
    assert all(value > 0 for value in logged(trainer, "penalty"))
    merged = trainer.model.merge_and_unload()
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), tuned.module.parameters()))


class Last(Trainer):
    """A user's own loss: the cross-entropy of the two answers after the last token, a mean over the batch."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        right = inputs.pop("right")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(picked(outputs, inputs["attention_mask"]), right)
        return (loss, outputs) if return_outputs else loss


def picked(outputs, mask):
    columns = [make_tokenizer()(answer)["input_ids"][0] for answer in ANSWERS]
    return outputs.logits[torch.arange(len(mask)), mask.sum(1) - 1][:, columns]


class MineLast(icp.ObjectiveMixin, Last):
    pass


def own_set(function=False):
    """The user's own examples, each with its number among the rows."""
    tokenizer = make_tokenizer()
    return [
        {"input_ids": tokenizer(example.text)["input_ids"], "row": row}
        | ({"labels": [-100, example.label]} if function else {"right": example.label})
        for row, example in enumerate(rows().examples)
    ]


def collate(examples):
    tokens = [torch.tensor(example["input_ids"]) for example in examples]
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in tokens], batch_first=True)
    others = {name: torch.tensor([e[name] for e in examples]) for name in examples[0] if name != "input_ids"}
    return {"input_ids": ids, "attention_mask": mask, **others}


def summed(outputs, labels, num_items_in_batch=None):
    """A `compute_loss_func`, which itself divides by all that one step accumulates; the first label is not counted."""
    mask = torch.ones(outputs.logits.shape[:2], dtype=torch.long)
    loss = torch.nn.functional.cross_entropy(picked(outputs, mask), labels[:, 1], reduction="sum")
    return loss / num_items_in_batch


@pytest.mark.parametrize("function", (False, True), ids=("compute_loss", "compute_loss_func"))
def test_the_penalty_is_added_to_a_loss_of_ones_own(model, tmp_path, function):
    """With accumulation, which divides a loss by the number of batches, unless it came divided already."""
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    options = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1, "optim": "sgd", "learning_rate": 0.1}
    want = trained(model, tmp_path, lora=lora, options=options)
    given = {"train_dataset": own_set(function), "data_collator": collate, "own_loss": True}
    if function:
        given["compute_loss_func"] = summed
    got = trained(model, tmp_path, Mine if function else MineLast, lora, options, **given)
    for name in ("loss", "penalty", "task"):
        assert logged(got, name) == pytest.approx(logged(want, name), rel=1e-4, abs=1e-6)
    same, plain = weights(want), weights(trained(model, tmp_path, Plain, lora, options))
    for name, value in weights(got).items():
        assert torch.allclose(value, same[name], atol=1e-5), name
    assert any((same[name] - plain[name]).abs().max() > 1e-3 for name in same), "the penalty matters here"


class Plain(Mine):
    def __init__(self, *given, losses, **options):
        super().__init__(*given, losses=dataclasses.replace(losses, objectives=losses.objectives[:1],
                                                            states=losses.states[:1]), **options)  # fmt: skip


def test_it_resumes_from_a_checkpoint_with_what_objectives_keep(model, tmp_path):
    whole = trained(model, tmp_path, options={"save_strategy": "steps", "save_steps": 2})
    assert (tmp_path / "checkpoint-4" / STATE).is_file()
    again = trained(model, tmp_path, options={"save_strategy": "no"}, resume=True)
    assert logged(again) == logged(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())
    (tmp_path / "checkpoint-6" / STATE).unlink()
    with pytest.raises(icp.ArtefactError, match=r"checkpoint-6 holds no icp_objective.safetensors"):
        trained(model, tmp_path, resume=True)


def test_the_last_checkpoint_is_the_last_whole_one(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE).touch()
    (tmp_path / "checkpoint-11").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_what_was_pruned_stays_pruned(model, tmp_path):
    pruned = icp.prune(model, icp.Selection.of(model, model.units("neuron")[3:9]))
    trainer = trained(pruned, tmp_path)
    down = trainer.model.merge_and_unload().model.layers[0].mlp.down_proj.weight
    assert not down[:, 3:9].any() and not torch.equal(down, model.module.model.layers[0].mlp.down_proj.weight)


def test_several_gpus_without_a_launcher_are_one(model, tmp_path):
    """Replicas of `nn.DataParallel` would share the hooks; there are no GPUs here, so only the count is made up."""
    arguments = asked(tmp_path, max_steps=1)
    arguments._n_gpu = 2
    losses = icp.Losses.of(model, rows(), penalised(model))
    trainer = Mine(losses=losses, model=model.copy().module, args=arguments)
    trainer.train()
    assert not isinstance(trainer.model_wrapped, torch.nn.DataParallel)
    assert arguments.train_batch_size == 2 and logged(trainer, "penalty")[0] > 0


def test_evaluation_of_ones_own_loss_is_without_the_penalty_and_leaves_training_alone(model, tmp_path):
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    given = {"train_dataset": own_set(), "data_collator": collate, "own_loss": True}
    plain = trained(model, tmp_path, MineLast, lora, {"label_names": ["right"]}, **given)
    seen = []

    def right(predictions):
        seen.append(predictions)
        return {"count": len(predictions.label_ids)}

    held_out = [{name: value for name, value in one.items() if name != "row"} for one in own_set()]
    options = {"eval_strategy": "epoch", "label_names": ["right"], "per_device_eval_batch_size": 3}
    for eval_set in (own_set(), held_out):
        found = trained(model, tmp_path, MineLast, lora, options, eval_dataset=eval_set, compute_metrics=right, **given)
        for name in ("loss", "task", "penalty"):
            assert logged(found, name) == logged(plain, name)
        assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(found).items())
        with torch.no_grad():
            inputs = collate(held_out)
            outputs = found.model.eval()(inputs["input_ids"], attention_mask=inputs["attention_mask"])
            loss = torch.nn.functional.cross_entropy(picked(outputs, inputs["attention_mask"]), inputs["right"])
        assert logged(found, "eval_loss")[-1] == pytest.approx(loss.item(), rel=1e-5)
        assert logged(found, "eval_count") == [len(own_set())] * 2
        assert seen[-1].predictions.shape[::2] == (len(own_set()), outputs.logits.shape[-1])


def test_a_loss_that_would_not_be_used_is_refused(model, tmp_path):
    """Left alone, a `compute_loss_func` would also leave the loss undivided by the batches that a step accumulates."""
    with pytest.raises(icp.IcpError, match=r"compute_loss_func was given, and .* pass own_loss=True"):
        trained(model, tmp_path, compute_loss_func=summed)
    with pytest.raises(icp.IcpError, match=r"label_smoothing_factor=0\.1 .* pass own_loss=True"):
        trained(model, tmp_path, options={"label_smoothing_factor": 0.1})


@pytest.mark.parametrize("name", ("train_dataset", "data_collator", "eval_dataset", "compute_metrics"))
def test_data_that_would_not_be_used_are_refused(model, tmp_path, name):
    given = {"data_collator": collate, "compute_metrics": len}.get(name, own_set())
    with pytest.raises(icp.IcpError, match=rf"{name} was given, and .* icp\.evaluate\(icp.load.*, or pass own_loss"):
        trained(model, tmp_path, options={"max_steps": 1}, **{name: given})


def test_training_rows_are_not_evaluated_on(model, tmp_path):
    trainer = trained(model, tmp_path, options={"max_steps": 1})
    for evaluated in (trainer.evaluate, trainer.predict):
        with pytest.raises(icp.IcpError, match="this Trainer has the training rows of losses and nothing else: evalua"):
            evaluated(own_set())


def test_evaluation_without_rows_is_the_trainers_own(model, tmp_path):
    held_out = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}] * 2
    trainer = trained(model, tmp_path, options={"max_steps": 1})
    trainer.data_collator = lambda some: {name: torch.tensor([one[name] for one in some]) for name in some[0]}
    with torch.no_grad():
        expected = trainer.model.eval()(**trainer.data_collator(held_out)).loss.item()
    assert trainer.evaluate(held_out)["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    (
        (lambda model: icp.Losses.of(model, rows(), []), icp.IcpError, "no objective was given"),
        (
            lambda model: icp.Losses.of(model, rows(), Objective()).on(BY_NAME["gpt2"].module()),
            icp.ModelError,
            "a GPT2LMHeadModel is trained and the losses are of llama, a LlamaForCausalLM",
        ),
        (
            lambda model: icp.Losses.of(model, rows(), Objective()).on(
                get_peft_model(model.copy().module, PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
            ),
            icp.ModelError,
            "PREFIX_TUNING adapter shifts every position",
        ),
    ),
)
def test_what_does_not_fit_is_refused(model, make, error, says):
    with pytest.raises(error, match=says):
        make(model)


def test_adapters_come_after_the_losses_and_arguments_with_them(model):
    losses = icp.Losses.of(model, rows(), Objective())
    with pytest.raises(icp.IcpError, match="no training arguments were given"):
        Mine(losses=losses, model=model.module)
    get_peft_model(model.module, LORA)
    with pytest.raises(icp.ModelError, match="adapters were put on the module of llama after it was loaded"):
        icp.Losses.of(model, rows(), Objective())


def test_a_batch_without_rows_is_refused(model, tmp_path):
    examples = [{name: value for name, value in one.items() if name != "row"} for one in own_set()]
    with pytest.raises(icp.IcpError, match="a training batch has no 'row'"):
        trained(model, tmp_path, MineLast, own_loss=True, train_dataset=examples, data_collator=collate)


def test_a_batch_that_an_objective_cannot_compare_is_refused(model, tmp_path):
    losses = icp.Losses.of(model, rows(), icp.Invariance(model.units("head"), divergence="contrastive"))
    with pytest.raises(icp.IcpError, match="there is nothing to compare"):
        Mine(losses=losses, model=model.copy().module, args=asked(tmp_path, per_device_train_batch_size=1))


@dataclasses.dataclass(frozen=True)
class Counting(Objective):
    """Counts its steps in what it keeps."""

    def begin(self, model, rows):
        return {"steps": torch.zeros(1)}

    def penalty(self, step):
        step.state["steps"] += 1
        return 0 * step.logits.sum()


def test_two_trainings_by_the_same_losses_begin_alike(model, tmp_path):
    losses = icp.Losses.of(model, rows(), Counting())
    for _ in range(2):
        adapters = get_peft_model(model.copy().module, LORA)
        trainer = Mine(losses=losses, model=adapters, args=asked(tmp_path, max_steps=3))
        trainer.train()
        assert trainer.losses.states[0]["steps"].item() == 3
    assert losses.states[0]["steps"].item() == 0
