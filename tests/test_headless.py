"""Encoders without a head: the cosine of representations with a reference sentence, measured, cut and saved."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HEADLESS, make_masked_tokenizer, make_tokenizer
from transformers import AutoModel

import icp
from icp import embedded

REFERENCES = ("The old doctor laughed quickly", "she ran")
PROBE = icp.Probe(
    (
        icp.Example("The nurse said that", "The flight attendant said that", REFERENCES),
        icp.Example("It was late and the doctor ran home", "It was late and the nurse ran home", REFERENCES[::-1]),
    )
)
LABELLED = icp.Probe(tuple(replace(PROBE.examples[0], label=label) for label in (0, 1)))
QUIET = {"progress": False, "property": icp.Similarity()}


def representation(model, text):
    """The mean over all tokens of one text alone, straight from the module."""
    with torch.no_grad():
        return model.module(torch.tensor([model.tokenizer(text)["input_ids"]])).last_hidden_state[0].mean(0)


def cosine(one, other):
    return float(one @ other / one.norm() / other.norm())


@pytest.mark.parametrize("padding_side", ("left", "right"))
@pytest.mark.parametrize("answer", (0, 1))
def test_a_similarity_is_the_cosine_with_the_reference(answer, padding_side):
    model, asked = HEADLESS.model(), icp.Similarity(answer)
    found = icp.measure(model, PROBE, ["blocks.0.attn.hook_z[1]"], icp.Mask("zero"), property=asked, progress=False,
                        padding_side=padding_side)  # fmt: skip
    for row, example in enumerate(PROBE.examples):
        reference = representation(model, example.answers[answer])
        clean, other = (cosine(representation(model, t), reference) for t in (example.text, example.counterpart))
        assert found.clean[row] == pytest.approx(clean, abs=1e-12)
        assert found.total[row] == pytest.approx(other - clean, abs=1e-12)
    assert found.dP.all() and found.header["unit_of_P"] == "cosine"


def test_an_intervention_does_not_reach_the_reference():
    model = HEADLESS.model()
    unit = icp.Unit.parse("blocks.1.mlp.hook_post[7]")
    found = icp.measure(model, PROBE, unit, icp.Mask("zero"), **QUIET)
    references = [representation(model, example.answers[0]) for example in PROBE.examples]
    handle = model.site(unit).hook(lambda values: values * (torch.arange(48) != 7))
    edited = [cosine(representation(model, e.text), r) for e, r in zip(PROBE.examples, references)]
    under = icp.measure(model, PROBE, "blocks.0.mlp.hook_post[3]", icp.Scale(1.0), **QUIET)
    handle.remove()
    np.testing.assert_allclose(found.clean + found.dP[0, 0], edited, atol=1e-12)
    np.testing.assert_allclose(under.clean, edited, atol=1e-12)


def test_estimates_and_gaps_and_stores(tmp_path):
    model, units = HEADLESS.model(), HEADLESS.model().units("head", "neuron")[:20]
    small = [icp.Scale(1 - 1e-6)]
    exact = icp.measure(model, PROBE, units, small, store=tmp_path / "store", **QUIET)
    estimate = icp.measure(model, PROBE, units, small, method="linear", **QUIET)
    np.testing.assert_allclose(estimate.dP, exact.dP, atol=1e-12)
    again = icp.measure(model, PROBE, units, small, store=tmp_path / "store", **QUIET)
    assert np.array_equal(again.dP, exact.dP)
    gap = icp.measure(model, PROBE, units[0], small, progress=False, property=icp.PairGap(icp.Similarity()))
    np.testing.assert_allclose(gap.clean, -exact.total, atol=1e-12)
    sets = icp.measure_sets(model, PROBE, [units], icp.Swap("counterpart"), property=icp.Similarity(), progress=False)
    assert np.abs(sets.dP).max() > 1e-3


def test_a_cut_encoder_is_saved_as_transformers_saves_it(tmp_path):
    model = HEADLESS.model(torch.float32)
    cut = icp.prune(model, icp.Selection.of(model, [*model.units("neuron")[3:9], *model.units("embed")[:1]]))
    cut.save_pretrained(tmp_path / "cut")
    again, plain = icp.load(str(tmp_path / "cut")), AutoModel.from_pretrained(tmp_path / "cut")
    assert again.binding == cut.binding and again.selection == cut.selection
    there, was = (representation(replace(cut, module=m.eval()), "she ran") for m in (plain, model.module))
    assert torch.equal(there, representation(cut, "she ran")) and not torch.allclose(there, was)


def test_an_encoder_may_have_no_pooler():
    whole = HEADLESS.module(torch.float32)
    without = icp.load(BY_NAME["bert"].module(torch.float32).bert, make_masked_tokenizer())
    assert without.family.reads == "mean" and without.module.pooler is None and whole.pooler is not None


def test_a_saved_encoder_without_a_pooler_has_none_made_up(tmp_path):
    model = icp.load(BY_NAME["bert"].module(torch.float32).bert, make_masked_tokenizer())
    model.save_pretrained(tmp_path / "bare")
    again = icp.load(str(tmp_path / "bare"))
    assert again.module.pooler is None and again.binding == model.binding


@pytest.mark.parametrize(
    ("modes", "says"),
    (
        ({"cls_token": True, "mean_tokens": False}, "pools by cls_token, as its"),
        ({"cls_token": True, "mean_tokens": True}, "pools by cls_token and mean_tokens"),
        ({"mean_tokens": False}, "pools by nothing"),
    ),
)
def test_another_pooling_is_refused(modes, says, tmp_path):
    HEADLESS.model(torch.float32).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "1_Pooling").mkdir()
    config = tmp_path / "model" / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}))
    assert icp.load(str(tmp_path / "model")).unembed is None
    config.write_text(json.dumps({f"pooling_mode_{mode}": on for mode, on in modes.items()}))
    with pytest.raises(icp.ModelError, match=says):
        icp.load(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("act", "error", "says"),
    (
        (lambda m: icp.measure(m, PROBE, m.units("head"), icp.Mask()), icp.ProbeError,
         "an answer to 'The nurse said that' needs logits, and this model has no head"),
        (lambda m: icp.measure(m, PROBE, m.units("head"), icp.Mask(), property=icp.NextTokenLoss()), icp.ProbeError,
         "a next-token loss needs logits, and this model has no head"),
        (lambda m: icp.measure(m, PROBE, m.units("head"), icp.Mask(), property=icp.Similarity(2)), icp.ProbeError,
         "has no answer number 2: a similarity needs a reference there"),
        (lambda m: icp.finetune(m, LABELLED), icp.ProbeError, "this model has no head"),
        (lambda m: icp.load(BY_NAME["llama"].module().model, make_tokenizer()), icp.ModelError,
         "a LlamaModel has no head, so that it gives no logits: load it as"),
        (lambda m: icp.measure(BY_NAME["bert"].model(), PROBE, "hook_embed[0]", icp.Mask(), **QUIET), icp.ProbeError,
         "a similarity needs a model without a head, such as a BertModel"),
        (lambda m: m.view(), icp.ModelError, "has no BertModel, so that there is no view"),
    ),
)  # fmt: skip
def test_a_wrong_head_is_one_sentence(act, error, says):
    with pytest.raises(error, match=says):
        act(HEADLESS.model())


@pytest.fixture(scope="module")
def minilm():
    return icp.load("minilm")


@pytest.mark.smollm2
def test_minilm_finds_paraphrases_closer(minilm):
    """Its published use; the cosines are those of its module, the mean over attended tokens."""
    texts = ("A man is eating food.", "Someone is having a meal.", "The market fell sharply on Tuesday.")
    near, far = (cosine(representation(minilm, texts[0]), representation(minilm, text)) for text in texts[1:])
    probe = icp.Probe(tuple(icp.Example(text, answers=texts[:1]) for text in texts))
    found = icp.measure(minilm, probe, "blocks.0.attn.hook_z[0]", icp.Mask("zero"), **QUIET)
    np.testing.assert_allclose(found.clean, [1, near, far], atol=1e-5)
    assert near > 0.5 > far


@pytest.mark.smollm2
def test_minilm_estimates_rank_as_exact_effects_do(minilm):
    pairs = [("The nurse talked about her work.", "The engineer talked about his work.")]
    probe = icp.Probe.from_pairs(pairs, answers=("A woman talked.",))
    units = minilm.units("head")
    exact, estimate = (
        icp.measure(minilm, probe, units, icp.Swap("counterpart"), method=how, **QUIET).dP[:, 0, 0]
        for how in ("exact", "linear")
    )
    assert np.corrcoef(exact, estimate)[0, 1] > 0.8


@pytest.mark.smollm2
def test_minilm_comes_from_the_cache(minilm, monkeypatch):
    monkeypatch.setattr(embedded.subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    assert icp.load(embedded.minilm()).binding == minilm.binding and len(minilm.units("head", "neuron")) == 6 * 1548


@pytest.mark.smollm2
def test_minilm_goes_through_every_check(minilm):
    found = icp.verify(minilm)
    assert found.holds and sum(check.holds is None for check in found.checks) == 2, str(found)
