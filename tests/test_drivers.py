"""The inputs that drive a unit, against hooks written by hand on the plain modules."""

import json

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_probe, make_tokenizer

import icp
from icp.drivers import DrivingInput

UNITS = (
    "blocks.1.mlp.hook_post[5]",
    "blocks.2.attn.hook_z[3]",
    "blocks.0.attn.hook_z[1,6]",
    "blocks.1.hook_resid_post[4]",
    "hook_embed[17]",
)
TOP = 3


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model()


@pytest.fixture(scope="module")
def found(model):
    return icp.drivers(model, make_probe(), UNITS, top=TOP)


def by_hand(model, text):
    """Each of `UNITS` at each token of one unpadded text, read off the llama modules themselves."""
    seen, layers = {}, model.module.model.layers
    d_head = 8

    def keep(name):
        return lambda module, args, output: seen.update({name: (args[0], output)})

    with torch.no_grad():
        handles = [
            layers[1].mlp.down_proj.register_forward_hook(keep("neuron")),
            layers[2].self_attn.o_proj.register_forward_hook(keep("head")),
            layers[0].self_attn.o_proj.register_forward_hook(keep("value")),
            layers[1].register_forward_hook(keep("resid")),
            model.module.model.embed_tokens.register_forward_hook(keep("embed")),
        ]
        model.module(torch.tensor([make_tokenizer()(text)["input_ids"]]))
        for handle in handles:
            handle.remove()
        z, weight = seen["head"][0][0], layers[2].self_attn.o_proj.weight
        only = torch.zeros_like(z)
        only[:, 3 * d_head : 4 * d_head] = z[:, 3 * d_head : 4 * d_head]
        rows = (
            seen["neuron"][0][0, :, 5],
            (only @ weight.T).pow(2).sum(-1).sqrt(),
            seen["value"][0][0, :, d_head + 6],
            seen["resid"][1][0, :, 4],
            seen["embed"][1][0, :, 17],
        )
        return dict(zip(UNITS, [row.numpy() for row in rows]))


def test_activations_are_what_a_hook_on_the_module_sees(model, found):
    for unit in UNITS:
        for driving in found.inputs[unit]:
            expected = by_hand(model, driving.text)[unit]
            np.testing.assert_allclose(driving.activations, expected, rtol=1e-9, atol=1e-12)
            assert len(driving.tokens) == len(expected)
            assert "".join(driving.tokens) == driving.text


def test_a_head_is_never_negative_and_the_others_keep_their_sign(found):
    values = {unit: np.concatenate([d.activations for d in found.inputs[unit]]) for unit in UNITS}
    assert (values.pop("blocks.2.attn.hook_z[3]") >= 0).all()
    assert all((row < 0).any() for row in values.values())


def test_the_strongest_texts_come_first_and_each_for_a_reason_of_its_own(model, found):
    probe = make_probe()
    texts = list(dict.fromkeys(t for e in probe.examples for t in (e.text, e.counterpart)))
    hands = {text: by_hand(model, text) for text in texts}
    for unit in UNITS:
        peaks = {text: float(np.abs(hands[text][unit]).max()) for text in texts}
        contexts = {text: tuple(text.split()[: int(np.abs(hands[text][unit]).argmax()) + 1]) for text in texts}
        best = {}
        for text in sorted(texts, key=lambda text: -peaks[text]):
            best.setdefault(contexts[text], text)
        expected = list(best.values())[:TOP]
        listed = [driving.text for driving in found.inputs[unit]]
        assert len(listed) == TOP and len(set(listed)) == TOP
        for mine, hand in zip(listed, expected):
            assert contexts[mine] == contexts[hand] and peaks[mine] == pytest.approx(peaks[hand], rel=1e-9)


def test_counterparts_are_among_the_texts(model):
    probe = icp.Probe.from_pairs([("The nurse ran", "The doctor ran")], answers=(" she", " he"))
    found = icp.drivers(model, probe, UNITS[:1], top=9)
    assert {d.text for d in found.inputs[UNITS[0]]} == {"The nurse ran", "The doctor ran"}
    assert found.header["texts"] == 2


def test_texts_that_peak_in_one_shared_context_fill_up_only_what_is_left(model):
    """All begin with the word of largest embedding: one text stands for it, the others follow by their next word."""
    chosen = model.copy()
    values = {"The": 5.0, " carpenter": 1.0, " nurse": 2.0, " doctor": -3.0, " ran": 0.5}
    with torch.no_grad():
        for word, value in values.items():
            (token,) = make_tokenizer()(word)["input_ids"]
            chosen.module.model.embed_tokens.weight[token, 0] = value
    probe = icp.Probe.from_texts(["The carpenter ran", "The nurse ran", "The doctor ran"])
    found = icp.drivers(chosen, probe, ["hook_embed[0]"], top=3).inputs["hook_embed[0]"]
    assert [d.activations for d in found] == [(5.0, 1.0, 0.5), (5.0, -3.0, 0.5), (5.0, 2.0, 0.5)]
    assert found[0].tokens == ("The", " carpenter", " ran")


def test_the_cue_is_where_a_text_and_its_counterpart_differ(found):
    """By hand, for the four pairs of `helpers.PAIRS`; a text of two pairs would have both cues."""
    places = {"The nurse said that": (1,), "The carpenter said that": (1,), "The doctor smiled because": (1,),
              "The flight attendant smiled because": (1, 2), "It was late and the nurse said that": (5,),
              "It was late and the doctor said that": (5,), "The old nurse went home early because": (2,),
              "The old flight attendant went home early because": (2, 3)}  # fmt: skip
    listed = [driving for inputs in found.inputs.values() for driving in inputs]
    assert len({driving.text for driving in listed}) > 3
    for driving in listed:
        assert driving.cue == places[driving.text], driving.text


def test_a_text_in_several_pairs_has_all_their_cues_and_one_without_has_none(model):
    pairs = [("The nurse ran", "The doctor ran"), ("The nurse ran", "The nurse laughed"), ("It ran", None)]
    probe = icp.Probe(tuple(icp.Example(x, other) for x, other in pairs))
    found = {d.text: d.cue for d in icp.drivers(model, probe, UNITS[:1], top=9).inputs[UNITS[0]]}
    assert found == {"The nurse ran": (1, 2), "The doctor ran": (1,), "The nurse laughed": (2,), "It ran": ()}


def test_nothing_is_left_on_the_model(model, found):
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.module.modules())


def test_saved_and_loaded_it_is_the_same(found, tmp_path):
    path = found.save(tmp_path / "drivers.json")
    assert icp.Drivers.load(path) == found


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(found, tmp_path, share):
    path = found.save(tmp_path / "drivers.json")
    text = path.read_text("utf-8")
    path.write_text(text[: int(share * len(text))], "utf-8")
    with pytest.raises(icp.ArtefactError, match=r"drivers\.json cannot be read as 'icp-drivers'.*cut short"):
        icp.Drivers.load(path)


def test_foreign_newer_and_damaged_files_are_refused(found, tmp_path):
    path = found.save(tmp_path / "drivers.json")
    stored = json.loads(path.read_text("utf-8"))
    for change, message in (
        ({"format": "icp-evaluation"}, "holds 'icp-evaluation', not 'icp-drivers'"),
        ({"version": 1}, "has version 1, this icp reads version 2"),
        ({"inputs": None}, "is damaged"),
        ({"inputs": {"blocks.0.nothing[1]": []}}, "is damaged.*nothing"),
        (
            {"inputs": {UNITS[0]: [{"text": "x", "tokens": ["x", "y"], "activations": [1.0], "cue": []}]}},
            "2 tokens but 1",
        ),
        ({"inputs": {UNITS[0]: [{"text": "x", "tokens": ["x"], "activations": [1.0], "cue": [1]}]}}, "but a cue at"),
    ):
        path.write_text(json.dumps(stored | change), "utf-8")
        with pytest.raises(icp.ArtefactError, match=message):
            icp.Drivers.load(path)
    with pytest.raises(icp.ArtefactError, match=r"nowhere\.json"):
        icp.Drivers.load(tmp_path / "nowhere.json")


def test_what_a_head_reads_goes_into_the_file_and_only_heads_read(found):
    assert list(found.reads) == ["blocks.2.attn.hook_z[3]"]
    assert sum(found.reads["blocks.2.attn.hook_z[3]"].values()) == pytest.approx(1)


def test_bad_input_is_refused(model):
    probe = make_probe()
    with pytest.raises(icp.UnitError, match=r"hook_post\[9999\] is out of range"):
        icp.drivers(model, probe, ["blocks.0.mlp.hook_post[9999]"])
    with pytest.raises(icp.UnitError, match="no units were given"):
        icp.drivers(model, probe, [])
    with pytest.raises(icp.IcpError, match="top=0"):
        icp.drivers(model, probe, UNITS, top=0)
    broken = model.copy()
    with torch.no_grad():
        broken.module.model.embed_tokens.weight[3] = float("nan")
    with pytest.raises(icp.NotFiniteError, match=r"activation of hook_embed\[17\]"):
        icp.drivers(broken, icp.Probe.from_texts([make_tokenizer().decode([3])]), ["hook_embed[17]"])


def test_the_peak_is_the_largest_in_absolute_value():
    assert DrivingInput("a b c", ("a", " b", " c"), (1.0, -3.0, 2.0)).peak == 1
