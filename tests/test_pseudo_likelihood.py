"""The pseudo-log-likelihood of masked models, against plain sums of log p, one masked token at a time."""

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HEADLESS, make_tokenizer

import icp
from icp.masking import rows_of

MASKED = ("bert", "roberta", "distilbert")
PLL = icp.PseudoLogLikelihood()
PROBE = icp.Probe(
    (
        icp.Example("The nurse said that", "The flight attendant said that"),
        icp.Example("It was late and the doctor ran home", "It was late and the nurse ran home"),
        icp.Example("she strange ran"),
    )
)
PAIRED = icp.Probe(PROBE.examples[:2])
UNITS = ["blocks.1.attn.hook_z[2]", "blocks.0.mlp.hook_post[5]", "hook_embed[3]"]
QUIET = {"property": PLL, "progress": False}


def hidden(model, ids, position):
    return [*ids[:position], model.tokenizer.mask_token_id, *ids[position + 1 :]]


def plainly(model, text):
    """The sum over all tokens but the first and the last of log p, straight from the module."""
    ids, total = model.tokenizer(text)["input_ids"], 0.0
    for position in range(1, len(ids) - 1):
        with torch.no_grad():
            logits = model.module(torch.tensor([hidden(model, ids, position)])).logits[0, position]
        total += float(logits.double().log_softmax(-1)[ids[position]])
    return total


@pytest.mark.parametrize("name", MASKED)
def test_it_is_the_sum_over_tokens_each_masked_alone(name):
    model = BY_NAME[name].model()
    found = icp.measure(model, PROBE, UNITS, icp.Mask("zero"), batch_size=3, **QUIET)
    clean = np.array([plainly(model, example.text) for example in PROBE.examples])
    others = [plainly(model, example.counterpart) for example in PAIRED.examples]
    np.testing.assert_allclose(found.clean, clean, atol=1e-9)
    np.testing.assert_allclose(found.total[:2], others - clean[:2], atol=1e-9)
    assert np.isnan(found.total[2]) and found.dP.shape == (3, 1, 3)
    for unit, dP in zip(UNITS, found.dP[:, 0]):
        site = model.site(unit)
        columns = torch.tensor(list(site.columns(icp.Unit.parse(unit))))
        handle = site.hook(lambda values, columns=columns: values.index_fill(2, columns, 0))
        edited = [plainly(model, example.text) for example in PROBE.examples]
        handle.remove()
        np.testing.assert_allclose(dP, edited - clean, atol=1e-9)
        assert np.abs(dP).min() > 1e-6


def test_a_swap_takes_the_counterparts_values_with_the_partner_masked():
    model, unit = BY_NAME["bert"].model(), "blocks.0.mlp.hook_post[5]"
    pair = icp.Probe(PROBE.examples[1:2])
    found = icp.measure(model, pair, unit, icp.Swap("counterpart"), **QUIET).dP[0, 0, 0]
    texts = pair.examples[0].text, pair.examples[0].counterpart
    ids, other = (model.tokenizer(text)["input_ids"] for text in texts)
    total, lent = 0.0, []

    def run(row, edit):
        handle = model.site(unit).hook(edit)
        with torch.no_grad():
            logits = model.module(torch.tensor([row])).logits[0]
        handle.remove()
        return logits.log_softmax(-1)

    for position in range(1, len(ids) - 1):
        run(hidden(model, other, position), lambda values: lent.append(values[:, :, 5].clone()))
        row = hidden(model, ids, position)
        edited = run(row, lambda values: torch.cat([values[..., :5], lent[-1][..., None], values[..., 6:]], 2))
        total += float((edited - run(row, lambda values: None))[position, ids[position]])
    assert found == pytest.approx(total, abs=1e-9) and abs(found) > 1e-4


def test_estimates_sets_gaps_and_stores(tmp_path):
    model = BY_NAME["roberta"].model()
    small = icp.Scale(1 - 1e-6)
    exact = icp.measure(model, PAIRED, UNITS, small, store=tmp_path / "store", **QUIET)
    assert np.array_equal(icp.measure(model, PAIRED, UNITS, small, store=tmp_path / "store", **QUIET).dP, exact.dP)
    estimate = icp.measure(model, PAIRED, UNITS, small, method="linear", **QUIET)
    np.testing.assert_allclose(estimate.dP, exact.dP, atol=1e-9)
    assert np.abs(exact.dP).max() > 1e-7
    gap = icp.measure(model, PAIRED, UNITS, small, property=icp.PairGap(PLL), progress=False)
    np.testing.assert_allclose(gap.clean, -exact.total, atol=1e-9)
    alone = icp.measure(model, PAIRED, UNITS[:1], icp.Mask("mean"), **QUIET)
    sets = icp.measure_sets(model, PAIRED, [UNITS[:1], UNITS], icp.Mask("mean"), **QUIET)
    np.testing.assert_allclose(sets.dP[0], alone.dP[0, 0], atol=1e-9)
    np.testing.assert_allclose(sets.clean, exact.clean, atol=1e-12)


def test_every_token_is_masked_once_and_an_unknown_one_too():
    model = BY_NAME["bert"].model()
    tokens, mask = rows_of(model, PROBE, PLL), model.tokenizer.mask_token_id
    for ids, (position, _) in zip(tokens.inputs, tokens.masked):
        assert ids[position] == mask and ids.count(mask) == 1
    assert tokens.example == (0,) * 4 + (1,) * 8 + (2,) * 3
    assert tokens.masked[-2] == (2, model.tokenizer.unk_token_id)
    assert tokens.folded(np.ones((2, 15))).tolist() == [[4, 8, 3]] * 2


def without_mask():
    return icp.load(BY_NAME["bert"].module(torch.float32), make_tokenizer())


@pytest.mark.parametrize(
    ("make", "texts", "what", "says"),
    (
        (without_mask, ["she ran"], icp.Mask(), "the tokenizer has no mask token"),
        (BY_NAME["bert"].model, ["she <mask> ran"], icp.Mask(), "has a mask token: each token is masked in turn"),
        (BY_NAME["bert"].model, ["<sep>"], icp.Mask(), "has no tokens of its own"),
        (BY_NAME["llama"].model, ["she ran"], icp.Mask(), "needs a masked language model: a causal one has"),
        (BY_NAME["bert_classes"].model, ["she ran"], icp.Mask(), "needs a masked language model"),
        (HEADLESS.model, ["she ran"], icp.Mask(), "needs a masked language model"),
        (BY_NAME["bert"].model, ["she ran", "he ran"], icp.Swap(example=0), "no other example lends its values"),
        (BY_NAME["bert"].model, [("she ran", "he ran"), ("The old nurse", "The nurse")], icp.Swap("counterpart"),
         r"counterpart: row 1 \('The old nurse'\): the token"),
    ),
)  # fmt: skip
def test_what_has_none_is_refused_in_one_sentence(make, texts, what, says):
    with pytest.raises(icp.ProbeError, match=says):
        icp.measure(make(), icp.Probe.from_texts(texts), "blocks.0.attn.hook_z[1]", what, **QUIET)
