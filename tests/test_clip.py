"""CLIP: two towers, images classified by captions, and the similarity of images and texts."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from helpers import BY_NAME, CAPTIONS, VOCABULARY, make_ending_tokenizer, make_tokenizer
from transformers import CLIPForImageClassification, CLIPModel, CLIPVisionModel

import icp
from icp.baselines import last_layer_retraining

SHAPE = (3, 12, 12)
TEXTS = ("The nurse ran", "The old doctor laughed quickly")


def image(seed):
    return icp.Image(torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))


def other_corner(shown):
    pixels = shown.pixels.clone()
    pixels[:, :4, :4] = image(99).pixels[:, :4, :4]
    return icp.Image(pixels)


def images(count=4, answers=tuple(CAPTIONS)):
    drawn = [image(seed) for seed in range(count)]
    label = None if len(answers) == 1 else 1
    return icp.Probe(
        tuple(icp.Example(x, other_corner(x), answers, label and i % 2, f"t{i}") for i, x in enumerate(drawn))
    )


def grouped():
    """Every class with every cue."""
    cells = [(label, group) for label in range(3) for group in "ab"]
    return icp.Probe(
        tuple(replace(e, label=label, group=group) for e, (label, group) in zip(images(6).examples, cells))
    )


def texts(*answers):
    return icp.Probe(
        (
            icp.Example("The nurse said that", "The flight attendant said that", answers),
            icp.Example("It was late and the doctor ran home", "It was late and the nurse ran home", answers),
        )
    )


def alone(model, tower):
    """A tower without captions."""
    return icp.load(model.module, make_ending_tokenizer(), tower=tower)


def ranking(*units, by="S"):
    return icp.Scores(pandas.DataFrame({by: np.arange(len(units), 0.0, -1)}, index=[*map(str, units)]), by)


@pytest.fixture(scope="module")
def classifier():
    return BY_NAME["clip"].model()


@pytest.fixture(scope="module")
def vision():
    return BY_NAME["clip_vision"].model()


def said(module, shown, captions):
    """Logits of one image for the captions, as the module gives them."""
    tokens = make_ending_tokenizer()(list(captions), padding=True, return_tensors="pt")
    pixels = shown.pixels[None].to(next(module.parameters()).dtype)
    with torch.no_grad():
        return module(tokens["input_ids"], pixels, tokens["attention_mask"]).logits_per_image[0]


def cosine(module, shown, text):
    """Of one image and one text: what the module gives, without the scale of its logits."""
    return float(said(module, shown, [text])[0] / module.logit_scale.detach().exp())


def test_captions_are_read_as_the_module_gives_them(classifier):
    probe = images()
    found = icp.measure(
        classifier, probe, ["vision.blocks.1.attn.hook_z[1]"], icp.Mask("zero"), property=icp.ClassProbability(1),
        progress=False,
    )  # fmt: skip
    for row, example in enumerate(probe.examples):
        clean, other = (
            float(said(classifier.module, each, CAPTIONS.values()).softmax(-1)[1])
            for each in (example.text, example.counterpart)
        )
        assert found.clean[row] == pytest.approx(clean, rel=1e-9)
        assert found.total[row] == pytest.approx(other - clean, abs=1e-9)
    assert found.dP.all() and len({str(u) for u in classifier.units("head")}) == 12


def test_a_similarity_is_the_same_from_either_tower(vision):
    shown = image(7)
    (example,) = texts(shown).examples[:1]
    from_text = icp.measure(
        vision.other, icp.Probe((example,)), "text.blocks.0.attn.hook_z[1]", icp.Scale(1.0),
        property=icp.Similarity(), progress=False,
    )  # fmt: skip
    from_image = icp.measure(
        vision, icp.Probe.from_texts([shown], [example.text]), "vision.blocks.0.attn.hook_z[1]", icp.Scale(1.0),
        property=icp.Similarity(), progress=False,
    )  # fmt: skip
    want = cosine(vision.module, shown, example.text)
    assert from_text.clean[0] == pytest.approx(want, rel=1e-9)
    assert from_image.clean[0] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("padding_side", ("left", "right"))
def test_a_text_that_is_padded_with_its_end_token_is_read_at_its_end(padding_side):
    tokenizer = make_ending_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    model, asked = icp.load(BY_NAME["clip_text"].module(), tokenizer, tower="text"), {"property": icp.Similarity()}
    units, probe = model.units("head", "neuron")[::5], texts(*TEXTS)
    both = icp.measure(model, probe, units, icp.Mask("zero"), padding_side=padding_side, progress=False, **asked)
    for row, example in enumerate(probe.examples):
        alone = icp.measure(model, icp.Probe((example,)), units, icp.Mask("zero"), progress=False, **asked)
        np.testing.assert_allclose(both.dP[:, :, row], alone.dP[:, :, 0], atol=1e-12)
    assert both.dP.any()


def test_an_old_config_whose_end_token_is_wrong_is_read_as_its_module_reads_it():
    """Where the config says 2, `transformers` takes the largest id, as the first CLIPs were saved."""
    module, tokenizer = BY_NAME["clip_text"].module(), make_ending_tokenizer()
    right = icp.load(module, tokenizer, tower="text").represent(TEXTS)
    module.text_model.eos_token_id = module.config.text_config.eos_token_id = 2
    old = icp.load(module, tokenizer, tower="text")
    torch.testing.assert_close(old.represent(TEXTS), right, atol=1e-12, rtol=0)
    probe, asked = texts(*TEXTS), {"property": icp.Similarity(), "progress": False}
    both = icp.measure(old, probe, old.units("head"), icp.Mask("zero"), **asked)
    alone = icp.measure(old, icp.Probe(probe.examples[:1]), old.units("head"), icp.Mask("zero"), **asked)
    np.testing.assert_allclose(both.dP[:, :, :1], alone.dP, atol=1e-12)
    module.text_model.eos_token_id = 7
    with pytest.raises(icp.ModelError, match=f"ends at the token 7, .* end token is {len(VOCABULARY)}"):
        icp.load(module, tokenizer, tower="text")


def test_one_selection_cuts_both_towers_and_stays_cut(classifier, tmp_path):
    units = ["vision.blocks.0.attn.hook_z[2]", "vision.blocks.2.mlp.hook_post[5]", "text.blocks.1.mlp.hook_post[3]",
             "text.hook_embed[4]"]  # fmt: skip
    selection = icp.Selection.of(classifier, units)
    selection.save(tmp_path / "both.safetensors")
    pruned = icp.prune(classifier, icp.Selection.load(tmp_path / "both.safetensors"))
    pruned.save_pretrained(tmp_path / "cut")
    plain = CLIPModel.from_pretrained(tmp_path / "cut", dtype=torch.float64).eval()
    again = icp.load(str(tmp_path / "cut"), dtype=torch.float64)
    assert again.captions == CAPTIONS and again.family == classifier.family
    assert again.selection == pruned.selection and again.binding == pruned.binding
    shown, alone = image(3), icp.prune(classifier, icp.Selection.of(classifier, units[:2]))
    clean, cut, half = (said(each.module, shown, CAPTIONS.values()) for each in (classifier, pruned, alone))
    assert not torch.allclose(clean, cut, atol=1e-3) and not torch.allclose(half, cut, atol=1e-3)
    torch.testing.assert_close(said(plain, shown, CAPTIONS.values()), cut, atol=1e-12, rtol=0)
    with selection.applied(classifier):
        torch.testing.assert_close(said(classifier.module, shown, CAPTIONS.values()), cut, atol=1e-12, rtol=0)
    tuned = icp.finetune(pruned, images(), arguments={"max_steps": 2, "learning_rate": 1e-2}, progress=False)
    for unit in map(icp.Unit.parse, units[:3]):
        site = tuned.holding(unit).site(unit)
        assert not site.outgoing[list(site.columns(unit))].any()


def test_units_of_the_text_tower_move_the_class_of_an_image(classifier):
    """Against the module itself, with the unit edited in every caption; the filler behind short ones never counts."""
    text, probe = classifier.other, images(3)
    assert text.other.family == classifier.family and text.other.tokenizer == classifier.tokenizer
    units = [icp.Unit.parse(f"text.blocks.{place}") for place in ("0.attn.hook_z[1]", "1.mlp.hook_post[5]")]
    asked = {"property": icp.ClassProbability(1), "progress": False}
    found = icp.measure(text, probe, units, [icp.Mask("zero"), icp.Mask("mean")], **asked)
    tokens = make_ending_tokenizer()([*CAPTIONS.values()], padding=True, return_tensors="pt")
    own = tokens["attention_mask"].bool()
    assert not own.all()
    for row, unit in enumerate(units):
        site = text.site(unit)
        columns = list(site.columns(unit))
        for which in (0, 1):

            def edit(module, args, columns=columns, which=which):
                new = args[0].clone()
                new[..., columns] = args[0][own][:, columns].mean(0) if which else 0.0
                return (new,)

            clean = [said(classifier.module, e.text, CAPTIONS.values()).softmax(-1)[1] for e in probe.examples]
            handle = site.module.register_forward_pre_hook(edit)
            edited = [said(classifier.module, e.text, CAPTIONS.values()).softmax(-1)[1] for e in probe.examples]
            handle.remove()
            want = [float(after - before) for after, before in zip(edited, clean)]
            np.testing.assert_allclose(found.dP[row, which], want, atol=1e-12)
    assert (np.abs(found.dP) > 1e-6).all()


def test_a_hook_on_the_whole_module_counts_in_either_tower(classifier):
    def doubled(module, args, output):
        output.logits_per_image = 2 * output.logits_per_image
        return output

    asked = {"property": icp.ClassProbability(1), "progress": False}
    text = ["text.blocks.0.attn.hook_z[0]", "text.blocks.1.mlp.hook_post[3]"]
    before = icp.measure(classifier.other, images(3), text, icp.Mask("zero"), **asked)
    handle = classifier.module.register_forward_hook(doubled)
    try:
        found = icp.measure(classifier.other, images(3), text, icp.Mask("zero"), **asked)
        sets = icp.measure_sets(classifier, images(3), [[unit] for unit in text], icp.Mask("zero"), **asked)
    finally:
        handle.remove()
    np.testing.assert_allclose(found.clean, sets.clean, atol=1e-12)
    np.testing.assert_allclose(found.dP[:, 0], sets.dP, atol=1e-12)
    assert np.abs(found.clean - before.clean).max() > 1e-3


@pytest.mark.parametrize("what", (icp.Mask("zero"), icp.Mask("mean"), icp.Scale(0.5)), ids=str)
def test_a_set_over_both_towers_is_measured_as_it_is_cut(classifier, what):
    probe, asked = images(3), {"property": icp.ClassProbability(1), "progress": False}
    vision = ["vision.blocks.0.attn.hook_z[2]", "vision.blocks.2.mlp.hook_post[5]"]
    text = ["text.blocks.1.mlp.hook_post[3]", "text.blocks.0.attn.hook_z[0]"]
    sets = [[*vision, *text], vision, [], text, [vision[1], text[0]]]
    found = icp.measure_sets(classifier, probe, sets, what, **asked)
    swapped = icp.measure_sets(classifier.other, probe, sets, what, **asked)
    np.testing.assert_array_equal(swapped.dP, found.dP)
    apart = [icp.measure_sets(one, probe, [members], what, **asked) for one, members in
             ((classifier, vision), (classifier.other, text))]  # fmt: skip
    np.testing.assert_allclose(found.dP[[1, 3]], [one.dP[0] for one in apart], atol=1e-12)
    assert np.abs(found.dP[0] - found.dP[1] - found.dP[3]).max() > 1e-9 and not found.dP[2].any()
    ranked = ranking(*vision).joined(ranking(*text))
    costs = {"task": (probe, icp.TaskLoss(among_answers=True))}
    frontier = icp.frontier(classifier, probe, ranked, what, property=icp.ClassProbability(1), costs=costs,
                            sizes=[4], progress=False)  # fmt: skip
    selection = frontier.select(top=4)
    assert {unit.tower for unit in selection.units} == {"text", "vision"}
    cut = icp.prune(classifier, selection)
    for row, example in enumerate(probe.examples):
        after = said(cut.module, example.text, CAPTIONS.values()).softmax(-1)[1]
        assert float(after) == pytest.approx(found.clean[row] + found.dP[0, row], abs=1e-12)
        other = said(cut.module, example.counterpart, CAPTIONS.values()).softmax(-1)[1]
        assert frontier.gap[-1][row] == pytest.approx(float(after - other), abs=1e-12)


def test_the_text_tower_is_trained_under_captions_and_saved(classifier, tmp_path):
    probe, fast = images(), {"max_steps": 3, "learning_rate": 1e-2}
    model = icp.load(BY_NAME["clip"].model(torch.float32).module, make_ending_tokenizer(), tower="text",
                     captions=CAPTIONS)  # fmt: skip
    steady = icp.Invariance(model.units("head")[:2], interventions=[icp.Mask("zero")])
    tuned = icp.finetune(model, probe, invariance=steady, arguments=fast, progress=False)
    assert tuned.tuning.history[0]["penalty"] > 0
    moved = {name.partition(".")[0] for name, value in model.module.named_parameters()
             if not torch.equal(value, tuned.module.get_parameter(name))}  # fmt: skip
    assert moved == {"text_model"}
    tuned.save_pretrained(tmp_path / "tuned")
    again = icp.load(str(tmp_path / "tuned"))
    assert again.family == model.family and again.captions == CAPTIONS and again.tokenizer == model.tokenizer
    unit, asked = "text.blocks.1.mlp.hook_post[3]", {"property": icp.ClassProbability(1), "progress": False}
    one, other = (icp.measure(each, probe, unit, icp.Mask("zero"), **asked) for each in (tuned, again))
    np.testing.assert_array_equal(one.dP, other.dP)


def test_it_is_trained_regularised_and_evaluated():
    model, probe = BY_NAME["clip"].model(torch.float32), images()
    fast = {"num_train_epochs": 60, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1}
    steady = icp.Invariance(model.units("head")[:2], weight=1.0, interventions=[icp.Swap("counterpart")])
    tuned = icp.finetune(model, probe, invariance=steady, arguments=fast, progress=False)
    history = tuned.tuning.history
    assert history[-1]["task"] < 0.6 * history[0]["task"] and history[0]["penalty"] > 0
    table = icp.evaluate({"before": model, "tuned": tuned}, probe, ["accuracy"]).values
    assert table["tuned"]["accuracy"].mean() == 1 > table["before"]["accuracy"].mean()
    text = {name: value for name, value in model.module.named_parameters() if name.startswith("text_model")}
    assert text and all(torch.equal(value, tuned.module.get_parameter(name)) for name, value in text.items())


def test_a_run_is_not_resumed_under_other_captions(tmp_path):
    model, fast = BY_NAME["clip"].model(torch.float32), {"max_steps": 1}
    icp.finetune(model, images(), folder=tmp_path / "run", arguments=fast, progress=False)
    reworded = icp.load(model.module, make_ending_tokenizer(), captions={**CAPTIONS, "bad": "It ran"})
    with pytest.raises(icp.ArtefactError, match="captions"):
        icp.finetune(reworded, images(), folder=tmp_path / "run", arguments=fast, progress=False)


def test_effects_are_stored_by_captions(classifier, tmp_path):
    unit, probe = "vision.blocks.1.mlp.hook_post[4]", images(2)
    icp.measure(classifier, probe, unit, icp.Mask("zero"), property=icp.ClassProbability(), store=tmp_path / "store",
                progress=False)  # fmt: skip
    others = {**CAPTIONS, "bad": "It ran"}
    reworded = icp.load(classifier.module, make_ending_tokenizer(), captions=others)
    with pytest.raises(icp.ArtefactError, match="differs in config"):
        icp.measure(reworded, probe, unit, icp.Mask("zero"), property=icp.ClassProbability(), store=tmp_path / "store",
                    progress=False)  # fmt: skip


def test_a_probe_of_texts_keeps_the_images_it_is_compared_with(tmp_path):
    probe = texts(image(1), image(2))
    probe.save(tmp_path / "probe.jsonl")
    again = icp.Probe.load(tmp_path / "probe.jsonl")
    assert again == probe and torch.equal(again.examples[0].answers[1].pixels, image(2).pixels)


@pytest.mark.parametrize(
    ("act", "says"),
    (
        (lambda m: icp.load(m.module, make_ending_tokenizer()), "has two towers, and tower=None was asked for"),
        (lambda m: icp.load(m.module, make_ending_tokenizer(), tower="audio"), "tower='audio' was asked for"),
        (lambda m: icp.load(m.module, tower="text"), "without the tokenizer of its texts"),
        (lambda m: icp.load(m.module, make_tokenizer(), tower="text"), "does not end a text with its end token"),
        (lambda m: icp.load(m.module, make_ending_tokenizer(), captions={"one": "It ran " * 40, "two": "It"}),
         "the caption of 'one' has 82 tokens, a text has at most 64"),
        (lambda m: icp.load(m.module, make_ending_tokenizer(), captions={"one": "It ran"}), "two or more names"),
        (lambda m: icp.load(m.module, make_ending_tokenizer(), captions={"one": "It", "two": " "}), "two or more"),
        (lambda m: icp.load(BY_NAME["gpt2"].module(), make_tokenizer(), tower="text"), "has one tower"),
        (lambda m: icp.load(BY_NAME["vit"].module(), captions=CAPTIONS), "has one tower"),
        (lambda m: icp.load(CLIPVisionModel(m.module.config.vision_config)), "one tower of a CLIP without the other"),
        (lambda m: icp.load(CLIPForImageClassification(m.module.config), make_ending_tokenizer(), tower="vision"),
         "is not the whole of a CLIP"),
        (lambda m: icp.load(m.module, make_ending_tokenizer(), captions={"one": "zebra", "two": "giraffe"}),
         "the captions of 'one' and 'two' are the same tokens"),
        (lambda m: BY_NAME["gpt2"].model().other, "has one tower"),
        (lambda m: icp.measure(BY_NAME["gpt2"].model(), texts(image(0), image(1)), "hook_embed[1]", icp.Mask()),
         "is no text, and this model answers in words"),
        (lambda m: icp.measure(BY_NAME["bert"].model(), texts(image(0), image(1)), "hook_embed[1]", icp.Mask()),
         "is no text, and this model answers in words"),
        (lambda m: icp.measure(BY_NAME["gpt2"].model(), texts(image(0)), "hook_embed[1]", icp.Mask(),
                               property=icp.LogLikelihood()), "is no text, and this model answers in words"),
        (lambda m: last_layer_retraining(m, grouped()), "no last layer to train again"),
        (lambda m: icp.Selection.of(m, ["text.blocks.0.mlp.hook_post[1]"]).applied(alone(m, "vision")).__enter__(),
         "no hook reaches that"),
        (lambda m: icp.Selection.of(m, ["vision.blocks.0.mlp.hook_post[1]"]).applied(m.other).__enter__(),
         "this is the text tower under captions: use model.other"),
        (lambda m: icp.frontier(alone(m, "vision"), images(answers=("It ran",)), ranking("text.hook_embed[1]"),
                                icp.Mask("zero"), property=icp.Similarity(), costs={}), "no hook reaches that"),
        (lambda m: icp.measure(m, images(), "text.blocks.0.attn.hook_z[1]", icp.Mask()), "model.other is the other"),
        (lambda m: icp.measure_sets(alone(m, "text"), texts(image(0)), [["vision.hook_embed[1]"]], icp.Mask(),
                                    property=icp.Similarity()), "no hook reaches that"),
        (lambda m: icp.measure_sets(m, images(), [["text.hook_embed[1]"]], icp.Swap("counterpart")),
         "cannot edit text.hook_embed.1. in every caption alike"),
        (lambda m: icp.measure_sets(m, images(), [["text.hook_embed[1]"]], icp.Mask("zero"), positions="last"),
         "positions='last' are an image's"),
        (lambda m: icp.measure(m.other, images(), m.other.units("head"), icp.Swap("counterpart")),
         "swapping them changes nothing"),
        (lambda m: icp.measure(m.other, images(), m.other.units("head"), icp.Mask("resample")),
         "swapping them changes nothing"),
        (lambda m: icp.measure(m.other, images(), m.other.units("head"), icp.Mask("zero"), positions="last",
                               property=icp.ClassProbability()), "several captions side by side"),
        (lambda m: icp.measure(m.other, images(), m.other.units("head"), icp.Mask("mean", per_position=True)),
         "a mean at each of their positions is the value that is there"),
        (lambda m: icp.finetune(m.other, images(), invariance=icp.Invariance(
            m.other.units("head"), divergence="cosine", interventions=[icp.Mask()])), "captions are read at several"),
        (lambda m: icp.drivers(m.other, images(), m.other.units("head")), "the same for every image"),
        (lambda m: ranking("text.hook_embed[1]").joined(ranking("text.hook_embed[1]")), "is in both rankings"),
        (lambda m: ranking("text.hook_embed[1]").joined(m.units("head")), "a list is no ranking"),
        (lambda m: ranking("text.hook_embed[1]").joined(ranking("text.hook_embed[2]", by="damage")), "rank both by"),
        (lambda m: icp.measure(m, images(), "blocks.0.attn.hook_z[1]", icp.Mask()), "no site 'blocks.0.attn.hook_z'"),
        (lambda m: icp.measure(m, images(2, ("bad", "worse")), m.units("head"), icp.Mask()), "they are bad, good"),
        (lambda m: icp.measure(alone(m, "text"), images(), "text.hook_embed[1]", icp.Mask(), property=icp.Similarity()),
         "is no text, and this model reads texts"),
        (lambda m: icp.measure(m.other, texts(*TEXTS), m.other.units("head"), icp.Mask()),
         "is a text, and this model reads images"),
        (lambda m: icp.measure(alone(m, "text"), texts(*TEXTS), "text.hook_embed[1]", icp.Mask()),
         "needs logits, and this model has no head"),
        (lambda m: icp.finetune(alone(m, "text"), images()), "is no text, and this model reads texts"),
    ),
)  # fmt: skip
def test_what_cannot_be_done_with_a_clip_is_refused(classifier, act, says):
    with pytest.raises(icp.IcpError, match=says):
        act(classifier)


@pytest.mark.parametrize("name", ("preprocessor_config.json", "processor_config.json"))
def test_a_processor_is_kept_whichever_tower_is_loaded(vision, tmp_path, name):
    kept = replace(vision, tokenizer=replace(vision.tokenizer, processors=((name, '{"size": 12}'),)))
    kept.save_pretrained(tmp_path / "clip")
    for options in ({"tower": "text"}, {"tower": "vision"}, {"captions": CAPTIONS}):
        again = icp.load(str(tmp_path / "clip"), dtype=torch.float64, **options)
        again.save_pretrained(tmp_path / "again")
        assert (tmp_path / "again" / name).read_text() == '{"size": 12}'
        assert again.binding == vision.binding
