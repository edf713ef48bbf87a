"""Decoders with a classification head: read as they read themselves, measured, trained, saved and loaded as such."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers import EQUAL_PAIRS, PAIRS, SIZES, make_tokenizer, randomised
from peft import PeftModel
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

import icp
from icp import baselines
from icp.losses import Losses

CLASSES = ("bad", "good", "neither")
FAST = {"num_train_epochs": 12, "per_device_train_batch_size": 3, "learning_rate": 1e-2, "logging_steps": 1}


def module(name, dtype=torch.float64, **options):
    names = SIZES | {"num_labels": len(CLASSES), "id2label": dict(enumerate(CLASSES))} | options
    if name == "gpt2":
        config = GPT2Config(n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=64, **names)
        return randomised(GPT2ForSequenceClassification(config)).to(dtype).eval()
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, **names,
    )  # fmt: skip
    return randomised(LlamaForSequenceClassification(config)).to(dtype).eval()


def model_of(name, dtype=torch.float64):
    return icp.load(module(name, dtype), make_tokenizer())


def rows(pairs=(*EQUAL_PAIRS, PAIRS[2])):
    return icp.Probe(tuple(icp.Example(x, other, CLASSES, label=i % 3) for i, (x, other) in enumerate(pairs)))


def own(module, text):
    """What the head itself says of one text."""
    return module(torch.tensor([make_tokenizer()(text)["input_ids"]])).logits[0]


BOTH = pytest.mark.parametrize("name", ("llama", "gpt2"))


@BOTH
def test_effects_are_those_on_what_the_head_itself_says(name):
    model = model_of(name)
    unit = model.units("head")[5]
    pairs = [dataclasses.replace(example, answers=("good", "bad"), label=0) for example in rows().examples]
    found = icp.measure(model, icp.Probe(tuple(pairs)), [unit], icp.Mask("zero"), progress=False)
    columns = list(model.site(unit).columns(unit))

    def zero(values):
        new = values.clone()
        new[:, :, columns] = 0
        return new

    for row, example in enumerate(pairs):
        with torch.no_grad():
            clean = own(model.module, example.text)
            handle = model.site(unit).hook(zero)
            edited = own(model.module, example.text)
            handle.remove()
        assert found.clean[row] == pytest.approx(float(clean[1] - clean[0]), rel=1e-9)
        assert found.dP[0, 0, row] == pytest.approx(float(edited[1] - edited[0] - clean[1] + clean[0]), abs=1e-9)
    assert np.abs(found.dP).min() > 1e-4


@BOTH
def test_the_loss_is_over_the_classes_and_everything_swapped_is_consistency(name):
    """A batch of padded rows, on the modules with and without adapters."""
    model = model_of(name)
    losses = Losses.of(model, rows(EQUAL_PAIRS), icp.Invariance([*model.units("head"), *model.units("neuron")]))
    loss = losses.on(model.module).step([0, 1, 2], 0)
    task = penalty = 0.0
    for example in rows(EQUAL_PAIRS).examples:
        clean, other = (own(model.module, text).log_softmax(-1) for text in (example.text, example.counterpart))
        task -= clean[example.label].item() / 3
        penalty += (clean.exp() * (clean - other)).sum().item() / 3
    assert loss.task.item() == pytest.approx(task, rel=1e-6)
    assert loss.penalty.item() == pytest.approx(penalty, rel=1e-6) and penalty > 1e-3


@BOTH
def test_it_is_trained_with_its_head_and_saved_as_transformers_and_peft_do(name, tmp_path):
    model = model_of(name, torch.float32)
    before = model.module.score.weight.clone()
    invariance = icp.Invariance(
        model.units("head"), weight=0.1, rerank=icp.Rerank(every=4, top=3), keep=["hook_embed[1]"]
    )
    tuned = icp.finetune(model, rows(), invariance=invariance, arguments=FAST, progress=False)
    losses = [entry["loss"] for entry in tuned.tuning.history]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert torch.equal(model.module.score.weight, before) and not torch.equal(tuned.module.score.weight, before)
    tuned.save_pretrained(tmp_path / "merged")
    model.save_pretrained(tmp_path / "base")
    tuned.tuning.save_pretrained(tmp_path / "adapter", base=tmp_path / "base")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    adapted = PeftModel.from_pretrained(module(name, torch.float32), tmp_path / "adapter").eval()
    again = icp.load(str(tmp_path / "merged"))
    assert again.classes.names == CLASSES and again.binding == tuned.binding
    for example in rows().examples:
        found, *others = (own(m, example.text) for m in (tuned.module, merged, again.module, adapted))
        assert torch.equal(found, others[0]) and torch.equal(found, others[1])
        assert torch.allclose(found, others[2], atol=1e-4)
        assert not torch.allclose(found, own(model.module, example.text), atol=1e-2)
    right = icp.evaluate(tuned, rows(), ["accuracy"]).values[tuned.name]["accuracy"]
    assert right.mean() == 1


def test_what_was_pruned_stays_pruned():
    model = model_of("llama", torch.float32)
    pruned = icp.prune(model, icp.Selection.of(model, model.units("neuron")[3:9]))
    tuned = icp.finetune(pruned, rows(), arguments=FAST | {"max_steps": 2}, progress=False)
    assert not tuned.module.model.layers[0].mlp.down_proj.weight[:, 3:9].any()


def test_a_class_probability_is_the_softmax_of_the_heads_logits():
    model = model_of("llama")
    losses = icp.measure_sets(model, rows(), [[]], icp.Mask("zero"), property=icp.TaskLoss(), progress=False).clean
    for row, example in enumerate(rows().examples):
        expected = -math.log(own(model.module, example.text).softmax(-1)[example.label].item())
        assert losses[row] == pytest.approx(expected, rel=1e-6)


def changed(**change):
    return icp.Probe(tuple(dataclasses.replace(example, **change) for example in rows().examples))


@pytest.mark.parametrize(
    ("act", "error", "says"),
    (
        (lambda model: icp.finetune(model, icp.Probe(tuple(
            dataclasses.replace(e, answers=(" she", " he"), label=i % 2) for i, e in enumerate(rows().examples)))),
         icp.ProbeError,
         r"the answer ' she' of .* is no class of this model: they are bad, good, neither"),
        (lambda model: icp.finetune(model, icp.Probe(tuple(
            dataclasses.replace(e, answers=CLASSES[:2], label=i % 2) for i, e in enumerate(rows().examples)))),
         icp.ProbeError, "give every row all of them"),
        (lambda model: icp.finetune(model, changed(answers=(" she went",), label=0)), icp.ProbeError,
         "needs logits of tokens, and this model gives those of its classes"),
        (lambda model: icp.measure(model, rows(), model.units("head"), icp.Mask("zero"), property=icp.NextTokenLoss()),
         icp.ProbeError, "a next-token loss needs logits of tokens"),
        (lambda model: icp.finetune(model, icp.Probe((*rows().examples, dataclasses.replace(
            rows().examples[0], text="The nurse <pad>", counterpart=None)))),
         icp.ProbeError, "row 4 .* ends with the padding token"),
        (lambda model: model.view(), icp.ModelError, "has no LlamaForSequenceClassification, so"),
        (lambda model: icp.load(module("llama", pad_token_id=None), make_tokenizer()), icp.ModelError,
         "the config's pad_token_id is None and the tokenizer's 0"),
        (lambda model: icp.load(module("gpt2", num_labels=1, id2label={0: "score"}), make_tokenizer()), icp.ModelError,
         r"a head of 1 output\(s\) for one"),
        (lambda model: icp.load(module("gpt2", problem_type="multi_label_classification"), make_tokenizer()),
         icp.ModelError, r"a head of 3 output\(s\) for multi_label_classification"),
    ),
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_a_head_of_classes_cannot_do_is_refused(act, error, says):
    with pytest.raises(error, match=says):
        act(model_of("llama", torch.float32))


@BOTH
def test_a_head_is_trained_on_flipping_pairs_and_watched(name):
    """Its own weights are trained, so that it has to be read as it is then."""
    model = model_of(name, torch.float32)
    pairs = icp.FlippingPairs(rows(), (1, 2, 0, 1))
    held = icp.Probe(tuple(icp.Example(f"It laughed and {x}", f"It laughed and {y}", CLASSES, i % 3)
                           for i, (x, y) in enumerate(EQUAL_PAIRS)))  # fmt: skip
    watch = icp.PairWatch(icp.PreservingPairs(held), icp.FlippingPairs(held, (1, 2, 0)), every=5, by=1.0)
    losses = (baselines.FlippedCrossEntropy(), baselines.FlippedMargin())
    tuned = icp.finetune(model, pairs, objective=losses, watch=watch, arguments=FAST, progress=False)
    found = icp.evaluate(tuned, held, ["consistency", "sensitivity"], flipping=watch.flipping).values[tuned.name]
    for metric, values in found.items():
        assert tuned.tuning.history[-1][metric] == pytest.approx(values.mean())
    trained = icp.evaluate(tuned, pairs.probe, ["pairwise_accuracy"], flipping=pairs).values[tuned.name]
    assert trained["pairwise_accuracy"].all()
