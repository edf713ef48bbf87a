"""Encoders: read at the mask token or the first, measured, trained, cut, and saved as transformers saves them."""

from dataclasses import replace

import pytest
import torch
from helpers import BY_NAME, ENCODERS, make_masked_tokenizer, make_tokenizer
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

import icp
from icp.losses import Losses

MASKED = [case.name for case in ENCODERS if not case.name.endswith("_classes")]
TEXTS = (
    ("The nurse said <mask> was late", "The flight attendant said <mask> was late"),
    ("It was late and the doctor said <mask> ran home", "It was late and the nurse said <mask> ran home"),
)


HEAD = ["blocks.0.attn.hook_z[1]"]


def masked_rows(answers=(" she", " he")):
    return icp.Probe(tuple(icp.Example(x, other, answers, label=i) for i, (x, other) in enumerate(TEXTS)))


def class_rows(answers=("bad", "good", "neither")):
    texts = [(x.replace(" <mask>", ""), other.replace(" <mask>", "")) for x, other in TEXTS]
    labels = range(len(texts)) if len(answers) > 1 else [None] * len(texts)
    return icp.Probe(tuple(icp.Example(x, other, answers, label) for (x, other), label in zip(texts, labels)))


def tokens_of(model):
    return [model.tokenizer(answer, add_special_tokens=False)["input_ids"][0] for answer in (" she", " he")]


def own(model, text):
    """What the module itself says of one text: the logits at the mask, or of the classes."""
    ids = model.tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model.module(torch.tensor([ids])).logits[0]
    return logits if model.classes else logits[ids.index(model.tokenizer.mask_token_id)]


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_model_is_read_at_its_mask_token(name):
    model, probe = BY_NAME[name].model(), masked_rows()
    she, he = tokens_of(model)
    for property, of in (
        (icp.LogitDifference(), lambda logits: logits[she] - logits[he]),
        (icp.Probability(1), lambda logits: logits.softmax(-1)[he]),
        (icp.ClassProbability(), lambda logits: logits[[she, he]].softmax(-1)[0]),
    ):
        found = icp.measure(model, probe, HEAD, icp.Mask("zero"), property=property, progress=False)
        for row, example in enumerate(probe.examples):
            clean, other = (float(of(own(model, text))) for text in (example.text, example.counterpart))
            assert found.clean[row] == pytest.approx(clean, rel=1e-9)
            assert found.total[row] == pytest.approx(other - clean, abs=1e-9)
        assert found.dP.all()


@pytest.mark.parametrize("name", [case.name for case in ENCODERS])
def test_rows_and_counterparts_of_any_length_are_read_where_their_answers_are(name):
    model = BY_NAME[name].model()
    probe = class_rows() if model.classes else masked_rows()
    losses = Losses.of(model, probe, icp.Objective())
    columns = [0, 1, 2] if model.classes else tokens_of(model)
    task = -sum(own(model, e.text)[columns].log_softmax(-1)[e.label].item() for e in probe.examples) / 2
    assert losses.on(model.module).step([0, 1], 0).task.item() == pytest.approx(task, rel=1e-6)
    there = losses.rows.counterparts(model, [0, 1])
    reads = there.reads(losses.rows.reads([0, 1], model.device)[0])
    with torch.no_grad():
        found = model.read(there.batch, reads)
    for row, example in enumerate(probe.examples):
        assert torch.allclose(found[row], own(model, example.counterpart)[columns], atol=1e-9)


@pytest.mark.parametrize("name", ("roberta", "distilbert_classes"))
def test_it_is_trained_cut_and_saved(name, tmp_path):
    model = BY_NAME[name].model(torch.float32)
    rows = class_rows() if model.classes else masked_rows()
    cut = icp.prune(model, icp.Selection.of(model, model.units("neuron")[3:9]))
    fast = {"num_train_epochs": 40, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1}
    tuned = icp.finetune(cut, rows, arguments=fast, progress=False)
    losses = [entry["loss"] for entry in tuned.tuning.history]
    assert losses[-1] < 0.7 * losses[0]
    tuned.save_pretrained(tmp_path / "tuned")
    kind = AutoModelForSequenceClassification if model.classes else AutoModelForMaskedLM
    plain = replace(tuned, module=kind.from_pretrained(tmp_path / "tuned").eval())
    again = icp.load(str(tmp_path / "tuned"))
    assert again.binding == tuned.binding and again.selection == tuned.selection
    saved, kept = plain.module.state_dict(), tuned.module.state_dict()
    assert saved.keys() == kept.keys() and all(torch.equal(saved[key], kept[key]) for key in kept)
    for example in rows.examples:  # to rounding: the same numbers, at other addresses in memory
        torch.testing.assert_close(own(plain, example.text), own(tuned, example.text), atol=1e-5, rtol=1e-5)
    assert icp.evaluate(again, rows, ["accuracy"]).values[again.name]["accuracy"].mean() == 1


def unmasked():
    return icp.Probe(tuple(replace(e, text=e.text.replace(" <mask>", "")) for e in masked_rows().examples))


def without_mask():
    return icp.load(BY_NAME["bert"].module(torch.float32), make_tokenizer())


@pytest.mark.parametrize(
    ("act", "error", "says"),
    (
        (lambda m, one: icp.measure(without_mask(), masked_rows(), one, icp.Mask()), icp.ProbeError, "no mask token"),
        (lambda m, one: icp.measure(m, unmasked(), one, icp.Mask()), icp.ProbeError,
         "0 mask tokens: write one <mask> where the answer goes"),
        (lambda m, one: icp.measure(m, masked_rows(), one, icp.Mask(), property=icp.LogLikelihood()), icp.ProbeError,
         "a log-likelihood needs a model of the next token"),
        (lambda m, one: icp.measure(m, masked_rows(), one, icp.Mask(), property=icp.NextTokenLoss()), icp.ProbeError,
         "a next-token loss needs a model of the next token"),
        (lambda m, one: icp.measure(m, masked_rows((" she ran", " he")), one, icp.Mask()), icp.ProbeError,
         "the answer ' she ran' is 2 tokens"),
        (lambda m, one: icp.measure(m, masked_rows(), one, icp.Mask(), method=icp.Linear(grad_drop=True)), icp.IcpError,
         "norms what its skip connections carry"),
    ),
)  # fmt: skip
def test_what_an_encoder_cannot_do_is_refused(act, error, says):
    with pytest.raises(error, match=says):
        act(BY_NAME["bert"].model(torch.float32), HEAD)


def test_a_decoder_made_of_an_encoders_blocks_is_refused():
    module = BY_NAME["bert"].module(torch.float32)
    module.config.is_decoder = True
    with pytest.raises(icp.ModelError, match="a bert that is a decoder: only encoders"):
        icp.load(module, make_masked_tokenizer())
