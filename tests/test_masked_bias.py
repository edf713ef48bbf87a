"""CrowS-Pairs and StereoSet of masked models, against plain recomputations in float64, one masked token at a time."""

from dataclasses import replace
from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HEADLESS, make_tokenizer, randomised
from test_bias import ITEMS, PAIRS
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

import icp
from icp.data import StereoSetItem
from icp.errors import ArtefactError, DataError, ProbeError
from icp.masked_sentences import blank_probabilities

MASKED = ("bert", "roberta", "distilbert")
INTRA = [item for item in ITEMS if item.kind == "intrasentence"]


def log_p(model, ids, place, token):
    """log p of a token where `ids` has its mask, straight from the module."""
    assert ids[place] == model.tokenizer.mask_token_id and ids.count(ids[place]) == 1
    with torch.no_grad():
        return float(model.module(torch.tensor([ids])).logits[0, place].double().log_softmax(-1)[token])


def authors_crows(model, one, other):
    """`mask_unigram` of the authors' metric.py: over the equal opcodes of the ids, without the first and the last."""
    first, second = (model.tokenizer(text)["input_ids"] for text in (one, other))
    template1, template2 = [], []
    for kind, i, i_end, j, j_end in SequenceMatcher(None, [*map(str, first)], [*map(str, second)]).get_opcodes():
        if kind == "equal":
            template1 += range(i, i_end)
            template2 += range(j, j_end)
    sums = []
    for ids, template in ((first, template1), (second, template2)):
        rows = (([*ids[:at], model.tokenizer.mask_token_id, *ids[at + 1 :]], at) for at in template[1:-1])
        sums.append(sum(log_p(model, row, at, ids[at]) for row, at in rows))
    return sums


@pytest.mark.parametrize("batch_size", (1, 3, None))
@pytest.mark.parametrize("name", MASKED)
def test_crows_pairs_score_the_tokens_that_both_sentences_have(name, batch_size):
    model = BY_NAME[name].model()
    found = icp.crows_pairs(model, PAIRS, batch_size=batch_size, progress=False)
    wanted = np.array([authors_crows(model, pair.more, pair.less) for pair in PAIRS])
    np.testing.assert_allclose(np.stack([found.more, found.less], 1), wanted, atol=1e-9)
    table = found.table()
    assert table.loc["stereotype_share", "mean"]["all"] == (wanted[:, 0] > wanted[:, 1]).mean()
    difference = table.loc["pseudo_likelihood_difference", "mean"]["all"]
    assert difference == pytest.approx(np.abs(wanted[:, 0] - wanted[:, 1]).mean())
    assert set(table["score"]) == {"pseudo-log-likelihood of shared tokens"}


def test_a_pair_without_a_shared_token_prefers_neither():
    model = BY_NAME["bert"].model()
    found = icp.crows_pairs(model, [replace(PAIRS[0], more="she ran", less=" he smiled quickly")], progress=False)
    assert found.more[0] == found.less[0] == 0 and found.stereotyped[0] == 0


@pytest.mark.parametrize("name", MASKED)
def test_stereoset_scores_the_word_that_fills_the_blank(name):
    model = BY_NAME[name].model()
    found = icp.stereoset(model, INTRA, progress=False)
    mask = model.tokenizer.mask_token
    words = ((" went", " ran", " it"), (" was", " laughed", " and"))
    for item, scores, fillings in zip(INTRA, found.scores, words):
        ids = model.tokenizer(item.context.replace("BLANK", mask))["input_ids"]
        place = ids.index(model.tokenizer.mask_token_id)
        tokens = [model.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in fillings]
        np.testing.assert_allclose(scores, [np.exp(log_p(model, ids, place, token)) for token in tokens], rtol=1e-9)
    assert set(found.table()["score"]) == {"probability of the blank"}


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory):
    """A BERT whose words are of several pieces."""
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] the nurse fire ##fight ##er ran doctor ##s home . an"
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "vocab.txt").write_text(words.replace(" ", "\n"))
    config = BertConfig(vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                        num_attention_heads=4, max_position_embeddings=64)  # fmt: skip
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    return icp.load(randomised(BertForMaskedLM(config)).double().eval(), tokenizer)


def test_a_word_in_pieces_scores_the_mean_probability_of_each_after_those_before_it(in_pieces):
    tokenizer = in_pieces.tokenizer
    pieces = tokenizer("firefighters", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(pieces) == ["fire", "##fight", "##er", "##s"]
    begin = tokenizer("the", add_special_tokens=False)["input_ids"]
    end = tokenizer("ran home.", add_special_tokens=False)["input_ids"]
    expected = []
    for done, piece in enumerate(pieces):
        ids = [tokenizer.cls_token_id, *begin, *pieces[:done], tokenizer.mask_token_id, *end, tokenizer.sep_token_id]
        expected.append(np.exp(log_p(in_pieces, ids, 2 + done, piece)))
    found = blank_probabilities(in_pieces, [("the BLANK ran home.", "The Firefighters, ran home.")])
    assert found[0] == pytest.approx(np.mean(expected), rel=1e-9)
    assert found[0] != pytest.approx(np.exp(np.mean(np.log(expected))), rel=1e-3), "not of logs"


def test_what_is_pruned_shows_and_is_paired():
    model = BY_NAME["bert"].model(torch.float32)
    cut = icp.prune(model, icp.Selection.of(model, model.units("head")[:3]))
    before, after = (icp.crows_pairs(m, PAIRS, progress=False) for m in (model, cut))
    assert not np.allclose(before.more, after.more)
    change = before.change(after)
    assert change.loc["stereotype_share", "mean"]["all"] == (after.stereotyped - before.stereotyped).mean()


def test_causal_and_masked_results_are_never_mixed():
    masked, causal = BY_NAME["bert"].model(), BY_NAME["gpt2"].model()
    for metric, items in ((icp.crows_pairs, PAIRS), (icp.stereoset, INTRA)):
        one, other = (metric(model, items, progress=False) for model in (masked, causal))
        assert one.score != other.score == "log-likelihood"
        for before, after in ((one, other), (other, one)):
            with pytest.raises(ArtefactError, match="these are never mixed"):
                before.change(after)


def without_mask():
    return icp.load(BY_NAME["bert"].module(torch.float32), make_tokenizer())


def with_blank(context, sentence):
    return [StereoSetItem("1", "nurse", "profession", "intrasentence", context, sentence, sentence, sentence)]


@pytest.mark.parametrize(
    ("act", "error", "says"),
    (
        (lambda m: icp.crows_pairs(without_mask(), PAIRS, progress=False), ProbeError, "has no mask token"),
        (lambda m: icp.stereoset(without_mask(), INTRA, progress=False), ProbeError, "has no mask token"),
        (lambda m: icp.stereoset(m, ITEMS, progress=False), DataError, "intersentence items have none"),
        (lambda m: icp.stereoset(m, with_blank("she ran", "she ran")), DataError, "has no BLANK"),
        (lambda m: icp.stereoset(m, with_blank("she ran BLANK", "she ran")), DataError, "has no word where"),
        (lambda m: icp.stereoset(m, with_blank("she BLANK", "she ...")), DataError, "has no word where"),
        (lambda m: icp.crows_pairs(BY_NAME["bert_classes"].model(), PAIRS), ProbeError, "gives those of its classes"),
        (lambda m: icp.crows_pairs(HEADLESS.model(), PAIRS), ProbeError, "no head"),
    ),
)  # fmt: skip
def test_what_cannot_be_scored_is_one_sentence(act, error, says):
    with pytest.raises(error, match=says):
        act(BY_NAME["bert"].model())
