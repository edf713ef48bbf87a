"""Where the attention of heads goes, against transformers' own weights, and by hand on the planted model."""

import copy

import numpy as np
import planted
import pytest
import torch
from helpers import BY_NAME, CASES, bridged, make_probe, make_tokenizer

import icp
from icp.reading import PLACES, reading

TEXTS = [text for example in make_probe().examples for text in (example.text, example.counterpart)]
ROWS = [make_tokenizer()(text)["input_ids"] for text in TEXTS]
CUES = [(1,), (1,), (1,), (1, 2), (5,), (5,), (2, 3), (2,)]
HEADS = [icp.Unit.parse(f"blocks.{layer}.attn.hook_z[{head}]") for layer, head in ((1, 2), (0, 0), (1, 3))]


def by_hand(module, head):
    """The shares on the cue, itself, the first token and elsewhere, of one unpadded text after the other."""
    eager = copy.deepcopy(module)
    eager.set_attn_implementation("eager")
    found = []
    for row, cue in zip(ROWS, CUES):
        with torch.no_grad():
            seen = eager(torch.tensor([row]), output_attentions=True).attentions[head.layer][0, head.index[0], -1]
        on_cue, on_last, on_first = (float(seen[list(at)].sum()) for at in (cue, [-1], [0]))
        found.append([on_cue, on_last, on_first, 1 - on_cue - on_last - on_first])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shares_are_those_of_the_attention_weights(case, monkeypatch):
    monkeypatch.setattr("icp.reading.ROWS_A_PASS", 3)
    model = case.model()
    found = reading(model, ROWS, CUES, HEADS)
    assert list(found) == list(map(str, HEADS))
    for head in HEADS:
        np.testing.assert_allclose(list(found[str(head)].values()), by_hand(model.module, head), atol=1e-6)


def test_padding_does_not_enter_even_where_a_window_sees_nothing_else():
    """In float64, whose least number is less than float32's, such a row of the mask makes softmax NaN."""
    model = BY_NAME["mistral"].model()
    longest, shortest = max(ROWS, key=len), min(ROWS, key=len)
    assert len(longest) - len(shortest) >= model.config.sliding_window
    head = HEADS[:1]
    alone = [reading(model, [row], [(1,)], head)[str(head[0])] for row in (longest, shortest)]
    both = reading(model, [longest, shortest], [(1,), (1,)], head)[str(head[0])]
    assert both == pytest.approx({place: (alone[0][place] + alone[1][place]) / 2 for place in PLACES})


def test_a_head_that_attends_to_all_alike_reads_every_place_alike():
    """The planted heads have no queries: each of the four tokens of a text gets a quarter."""
    found = icp.drivers(planted.model(), planted.probe().take(9), [planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON])
    assert found.reads == {planted.SPURIOUS_HEAD: pytest.approx(dict.fromkeys(PLACES, 0.25))}


def test_each_token_counts_once_where_the_cue_is_the_last_or_the_first():
    model = planted.model()
    row = planted.tokenizer()("the pink great film")["input_ids"]
    head = [icp.Unit.parse(planted.SPURIOUS_HEAD)]
    found = reading(model, [row, row], [(3,), (0, 3)], head)[planted.SPURIOUS_HEAD]
    assert found == pytest.approx({"cue": 0.375, "itself": 0.0, "first": 0.125, "elsewhere": 0.5})


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails, monkeypatch):
    model = BY_NAME["llama"].model()
    asked = model.config._attn_implementation
    assert asked != "eager", "else nothing is switched"
    if fails:
        monkeypatch.setattr("icp.reading.run_capturing", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reading(model, ROWS, CUES, HEADS)
    else:
        reading(model, ROWS, CUES, HEADS)
    assert model.config._attn_implementation == asked
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.module.modules())


def test_nothing_is_said_where_there_is_nothing_to_read():
    model = BY_NAME["llama"].model()
    assert reading(model, [], [], HEADS) == reading(model, ROWS, CUES, []) == {}
    bare = icp.Probe.from_texts(["The nurse ran"])
    assert icp.drivers(model, bare, HEADS).reads == {}, "no text has a cue"
    lens = icp.load(bridged(model.module, make_tokenizer()))
    assert icp.drivers(lens, make_probe(), HEADS).reads == {}
