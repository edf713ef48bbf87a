"""CrowS-Pairs and StereoSet against plain recomputations, one sentence at a time, and an example worked by hand."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, SIZES
from scipy import stats
from transformers import BertConfig, BertForMaskedLM

import icp
from icp import data
from icp.errors import ArtefactError, DataError, ModelError, ProbeError
from icp.sentences import sentence_log_likelihoods

PAIRS = [
    data.CrowsPair("The nurse said that she ran", "The doctor said that she ran", "profession", "stereo", "a0"),
    data.CrowsPair("The old doctor laughed", "The nurse laughed", "profession", "antistereo", "a1"),
    data.CrowsPair("It was late and he went home because she ran", "It was late and he went home because he ran",
                   "gender", "stereo", "a0"),
    data.CrowsPair("The carpenter smiled early", "The flight attendant smiled early", "gender", "stereo", "a2"),
    data.CrowsPair("she was late", "he was late", "gender", "stereo", "a1"),
]  # fmt: skip

ITEMS = [
    data.StereoSetItem("1", "nurse", "profession", "intrasentence", "The nurse BLANK home", "The nurse went home",
                       "The nurse ran home", "The nurse it home"),
    data.StereoSetItem("2", "nurse", "profession", "intersentence", "The old nurse smiled", "she laughed quickly",
                       "he laughed", "It flight that was because"),
    data.StereoSetItem("3", "doctor", "profession", "intrasentence", "The doctor BLANK",
                       "The doctor was early and late", "The doctor laughed", "The doctor and"),
    data.StereoSetItem("4", "she", "gender", "intersentence", "she was late.", "she ran", "he went home", "it it"),
]  # fmt: skip


def log_p(model, before, ids):
    """Sum of log p of `ids` after `before`, of one row alone, straight from the module."""
    with torch.no_grad():
        found = model.module(torch.tensor([before + ids])).logits[0].double().log_softmax(-1)
    return sum(float(found[len(before) + i - 1, token]) for i, token in enumerate(ids))


def tokens(model, text):
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_crows_pairs_are_the_plain_sums_of_log_p(case):
    model = case.model()
    found = icp.crows_pairs(model, PAIRS, progress=False)
    eos = [model.tokenizer.eos_token_id]
    for side in ("more", "less"):
        expected = [log_p(model, eos, tokens(model, getattr(pair, side))) for pair in PAIRS]
        np.testing.assert_allclose(getattr(found, side), expected, atol=10 * case.atol)


@pytest.mark.parametrize("batch_size", [1, 2, 3, None])
def test_padding_and_batches_do_not_count(batch_size):
    model = BY_NAME["llama"].model()
    texts = [pair.more for pair in PAIRS]
    sums, counts = sentence_log_likelihoods(model, texts, batch_size=batch_size)
    alone = [log_p(model, [2], tokens(model, text)) for text in texts]
    np.testing.assert_allclose(sums, alone, atol=1e-9)
    assert counts.tolist() == [6, 4, 10, 4, 3]


def test_parts_that_are_padded_apart_are_put_back_in_order(monkeypatch):
    model = BY_NAME["gpt2"].model()
    whole = icp.stereoset(model, ITEMS, progress=False).scores
    monkeypatch.setattr("icp.sentences.PART", 2)
    np.testing.assert_allclose(icp.stereoset(model, ITEMS, progress=False).scores, whole, atol=1e-12)


def test_the_first_token_follows_the_beginning_of_text_where_the_tokenizer_has_one():
    model = BY_NAME["gpt2"].model()
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.bos_token = "<pad>"
    begun = icp.load(model.module, tokenizer)
    assert tokenizer.bos_token_id == 0
    sums, _ = sentence_log_likelihoods(begun, ["she was late"])
    assert sums[0] == pytest.approx(log_p(model, [0], tokens(model, "she was late")), abs=1e-9)
    sums, counts = sentence_log_likelihoods(begun, ["<pad>she was late"])  # it is there already, and not put twice
    assert sums[0] == pytest.approx(log_p(model, [0], tokens(model, "she was late")), abs=1e-9) and counts[0] == 3
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ProbeError, match="no token that begins or ends a text"):
        sentence_log_likelihoods(begun, ["she was late"])


def test_stereoset_scores_are_mean_log_p_a_token():
    model = BY_NAME["llama"].model()
    found = icp.stereoset(model, ITEMS, progress=False)
    for item, scores in zip(ITEMS, found.scores):
        before = [2]
        if item.kind == "intersentence":
            before = tokens(model, item.context if item.context.endswith(".") else item.context + ".")
        for text, score in zip((item.stereotype, item.anti_stereotype, item.unrelated), scores):
            ids = tokens(model, text if item.kind == "intrasentence" else " " + text)
            assert score == pytest.approx(log_p(model, before, ids) / len(ids), abs=1e-9)


def by_hand():
    """Three terms with scores (stereotype, anti-stereotype, unrelated).

    | item | term | pro | related | |
    |---|---|---|---|---|
    | 1 | A | 1 | 2 | stereotype > anti-stereotype > unrelated |
    | 2 | A | 1 | 1 | stereotype > unrelated > anti-stereotype |
    | 3 | B | 0 | 2 | anti-stereotype > stereotype > unrelated |
    | 4 | B | 0 | 0 | unrelated > anti-stereotype > stereotype |
    | 5 | B | 1 | 2 | as item 1 |
    | 6 | C | 0 | 2 | stereotype = anti-stereotype > unrelated: a tie is not pro |

    LMS of A = 100 * 3 / 4 = 75, of B = 100 * 4 / 6 = 66.67, of C = 100 * 2 / 2 = 100; mean 80.56.
    SS of A = 100, of B = 33.33, of C = 0; mean 44.44. ICAT = 80.56 * 44.44 / 50 = 71.60.
    (Over items LMS would be 100 * 9 / 12 = 75 and SS 50: the mean over terms is another number.)
    """
    scores = [(-1, -2, -3), (-1, -3, -2), (-2, -1, -3), (-3, -2, -1), (-1, -2, -3), (-1, -1, -2)]
    items = [replace(ITEMS[0], id=str(i), target=term) for i, term in enumerate("AABBBC")]
    return icp.StereoSet(tuple(items), np.array(scores, dtype=float))


def test_stereoset_worked_by_hand():
    table = by_hand().table().xs(("intrasentence", "profession"), level=("kind", "domain"))
    lms = np.array([75, 200 / 3, 100])
    assert table.loc["lms", "mean"] == pytest.approx(lms.mean())
    assert table.loc["ss", "mean"] == pytest.approx(400 / 9)
    assert table.loc["icat", "mean"] == pytest.approx(lms.mean() * (400 / 9) / 50) == pytest.approx(71.6049, abs=1e-4)
    assert table["n"].tolist() == [3, 3, 3] and table["items"].tolist() == [6, 6, 6]
    half = stats.t.ppf(0.975, 2) * stats.sem(lms)
    assert (table.loc["lms", "low"], table.loc["lms", "high"]) == (pytest.approx(lms.mean() - half), 100)
    assert (table.loc["ss", "low"], table.loc["ss", "high"]) == (0, 100), "half is 126 and stays within the scale"


def test_the_interval_of_icat_is_the_jackknife():
    table = by_hand().table().xs(("icat", "intrasentence", "profession"))
    lms, ss = np.array([75, 200 / 3, 100]), np.array([100, 100 / 3, 0])
    left = []
    for out in range(3):
        mean_lms, mean_ss = np.delete(lms, out).mean(), np.delete(ss, out).mean()
        left.append(mean_lms * min(mean_ss, 100 - mean_ss) / 50)
    half = stats.t.ppf(0.975, 2) * np.sqrt(2 / 3 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert table["low"] == pytest.approx(max(0, table["mean"] - half)) and table["high"] == 100


def test_stereoset_rows_are_kinds_and_domains():
    table = icp.stereoset(BY_NAME["gpt2"].model(), ITEMS, progress=False).table()
    assert len(table) == 3 * 8  # no intrasentence item is about gender
    items = table.loc["ss", "items"]
    assert items["all", "all"] == 4 and items["intrasentence", "all"] == 2 and items["intersentence", "gender"] == 1
    assert table.loc["ss", "n"]["all", "profession"] == 2, "items 1 and 2 are of one term"
    assert np.isnan(table.loc["ss", "low"]["intersentence", "gender"]), "one term has no interval"


def test_stereoset_change_is_paired_by_term():
    before = by_hand()
    after = replace(before, scores=before.scores[:, [1, 0, 2]])
    change = before.change(after).xs(("intrasentence", "profession"), level=("kind", "domain"))
    flipped = np.array([0, 200 / 3, 0]) - np.array([100, 100 / 3, 0])
    assert change.loc["lms"][["mean", "low", "high"]].tolist() == [0, 0, 0]
    assert change.loc["ss", "mean"] == pytest.approx(flipped.mean())
    assert change.loc["ss", "low"] == pytest.approx(
        max(-100, flipped.mean() - stats.t.ppf(0.975, 2) * stats.sem(flipped))
    )
    with pytest.raises(ArtefactError, match=r"other items \(6 and 5\)"):
        before.change(icp.StereoSet(before.items[:5], before.scores[:5]))


def crows(more, less, writers="abcdef"):
    pairs = [data.CrowsPair(f"{i} more", f"{i} less", "age" if i < 2 else "race", "stereo", w)
             for i, w in zip(range(len(more)), writers)]  # fmt: skip
    return icp.CrowsPairs(tuple(pairs), np.array(more, dtype=float), np.array(less, dtype=float))


def test_crows_table():
    table = crows([-1, -5, -3, -4], [-2, -5, -1, -7]).table()
    shares, differences = table.loc["stereotype_share", "mean"], table.loc["likelihood_difference", "mean"]
    assert shares.to_dict() == {"all": 0.5, "age": 0.5, "race": 0.5}, "equally likely is not stereotyped"
    assert differences.to_dict() == {"all": 1.5, "age": 0.5, "race": 2.5}
    assert table.loc["stereotype_share", "n"].to_dict() == {"all": 4, "age": 2, "race": 2}
    half = stats.t.ppf(0.975, 3) * stats.sem([1, 0, 2, 3])
    assert table.loc["likelihood_difference"].loc["all", "high"] == pytest.approx(1.5 + half)


def test_crows_intervals_are_clustered_by_writer():
    more, less = [-1, -1, -1, -3, -3, -3], [-2] * 6
    apart, joined = (crows(more, less, w).table().loc["likelihood_difference"].loc["all"] for w in ("abcdef", "aaabbb"))
    assert apart["mean"] == joined["mean"] == 1
    apart, joined = (crows(more, less, w).table().loc["stereotype_share"].loc["all"] for w in ("abcdef", "aaabbb"))
    assert joined["high"] - joined["low"] > apart["high"] - apart["low"]
    unknown = crows(more, less, [None] * 6).table().loc["stereotype_share"].loc["all"]
    assert unknown["low"] == apart["low"], "without a writer each pair counts by itself"


def test_crows_change_is_paired():
    before = crows([-1, -1, -3, -3], [-2] * 4)
    after = crows([-1, -3, -3, -1.5], [-2] * 4)
    change = before.change(after)
    assert change.loc["stereotype_share", "mean"].to_dict() == {"all": 0, "age": -0.5, "race": 0.5}
    assert change.loc["likelihood_difference", "mean"].to_dict() == {"all": -0.125, "age": 0, "race": -0.25}
    same = before.change(before).loc["stereotype_share"].loc["all"]
    assert same["mean"] == 0 and same["low"] < 0 < same["high"], "no change has a width too"
    with pytest.raises(ArtefactError, match="evaluate both models on the same"):
        before.change(crows([-1] * 3, [-2] * 3))


def test_a_pruned_model_shows_in_the_change():
    model = BY_NAME["gpt2"].model()
    before = icp.crows_pairs(model, PAIRS, progress=False)
    other = icp.crows_pairs(BY_NAME["gpt2"].model(seed=1), PAIRS, progress=False)
    assert not np.allclose(before.more, other.more)
    handle = model.blocks[1].mlp.register_forward_hook(lambda m, a, out: 0 * out)
    hooked = icp.crows_pairs(model, PAIRS, progress=False)
    handle.remove()
    assert not np.allclose(before.more, hooked.more), "a hook that is installed counts"
    assert np.array_equal(before.more, icp.crows_pairs(model, PAIRS, progress=False).more)


def masked():
    module = BertForMaskedLM(
        BertConfig(vocab_size=SIZES["vocab_size"], hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                   num_attention_heads=4, max_position_embeddings=64)
    )  # fmt: skip
    causal = BY_NAME["gpt2"].model()
    return icp.Model(module.double().eval(), causal.tokenizer, causal.family, "transformers", "a masked model")


def looking_ahead():
    model = BY_NAME["llama"].model()
    embed = model.module.get_input_embeddings()
    embed.register_forward_hook(lambda m, a, out: out + out.mean(1, keepdim=True))
    return model


@pytest.mark.parametrize("make", [masked, looking_ahead])
@pytest.mark.parametrize(("metric", "items"), [(icp.crows_pairs, PAIRS), (icp.stereoset, ITEMS)])
def test_a_model_that_reads_later_tokens_is_refused(make, metric, items):
    with pytest.raises(ModelError, match="masked models is another metric, never mixed"):
        metric(make(), items, progress=False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_causal_model_in_any_dtype_is_not_refused(case):
    icp.crows_pairs(case.model(torch.bfloat16), PAIRS[:1], progress=False)


def test_wrong_items_are_refused():
    model = BY_NAME["gpt2"].model()
    for wrong in ([], ITEMS, ["The nurse"], "The nurse"):
        with pytest.raises(DataError, match=r"read them with icp.data.crows_pairs\(...\)"):
            icp.crows_pairs(model, wrong)
    with pytest.raises(DataError, match=r"icp.data.stereoset"):
        icp.stereoset(model, PAIRS)
    long = replace(PAIRS[0], more="The" + " nurse" * 70)
    with pytest.raises(ProbeError, match=r"has 72 tokens, .* reads at most 64"):
        icp.crows_pairs(model, [long], progress=False)


@pytest.mark.smollm2
def test_smollm2_on_the_real_files(smollm2):
    """Figures of the embedded model on few items: a sum over their tokens in one plain pass each."""
    folder = Path(os.environ.get("ICP_DATA") or "-")
    if not (folder / "crows_pairs").is_dir() or not (folder / "stereoset").is_dir():
        pytest.skip("ICP_DATA names no folder with crows_pairs and stereoset")
    pairs = data.crows_pairs(folder / "crows_pairs", "test")[::300]
    found = icp.crows_pairs(smollm2, pairs, progress=False)
    begin = [smollm2.tokenizer.bos_token_id]
    expected = [log_p(smollm2, begin, tokens(smollm2, pair.more)) for pair in pairs]
    np.testing.assert_allclose(found.more, expected, rtol=1e-5)
    items = data.stereoset(folder / "stereoset", "gender")[::50]
    scores = icp.stereoset(smollm2, items, progress=False).scores
    ids = [tokens(smollm2, item.unrelated) for item in items]
    np.testing.assert_allclose(scores[:, 2], [log_p(smollm2, begin, one) / len(one) for one in ids], rtol=1e-5)
