"""Image classifiers: pixels in the place of tokens, through every part of the toolkit."""

import base64
import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_tokenizer
from PIL import Image as Picture
from transformers import AutoModelForImageClassification, ViTModel

import icp
from icp.images import Patches
from icp.losses import Losses
from icp.sections import driving
from icp.sections.pictures import STRONGEST
from icp.sections.text import BLUE, RED

NAMES = ("bad", "good", "neither")
SHAPE = (3, 12, 16)


def image(seed):
    return icp.Image(torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))


def other_corner(shown, seed=99):
    """The same image with another patch at the top left and another at the bottom right."""
    pixels, others = shown.pixels.clone(), image(seed).pixels
    pixels[:, :4, :4], pixels[:, 8:, 12:] = others[:, :4, :4], others[:, 8:, 12:]
    return icp.Image(pixels)


def rows(count=4, answers=NAMES):
    drawn = [image(seed) for seed in range(count)]
    return icp.Probe(
        tuple(
            icp.Example(
                x, other_corner(x), answers, i % 2, f"t{i}", group="ab"[i // 2 % 2], counterpart_group="ba"[i // 2 % 2]
            )
            for i, x in enumerate(drawn)
        )
    )


def own(module, shown):
    """What the module itself says of one image."""
    with torch.no_grad():
        return module(shown.pixels[None].to(next(module.parameters()).dtype)).logits[0]


@pytest.fixture(scope="module")
def model():
    return BY_NAME["vit"].model()


def test_patches_are_tokens_whose_numbers_tell_their_pixels():
    patches = Patches(SHAPE, (4, 4))
    x = image(0)
    here, there = (patches.encode(each) for each in (x, other_corner(x)))
    assert patches.grid == (3, 4) and len(here) == 13
    assert [place for place in range(13) if here[place] != there[place]] == [1, 12]
    assert patches.place(0) == "class token" and patches.place(12) == "patch 2, 3"
    assert torch.equal(patches.cut(x.pixels)[6], x.pixels[:, 4:8, 8:12])


@pytest.mark.parametrize(
    ("property", "of"),
    (
        (icp.LogitDifference(), lambda logits: logits[0] - logits[1]),
        (icp.Probability(1), lambda logits: logits.softmax(-1)[1]),
        (icp.ClassProbability(), lambda logits: logits[:2].softmax(-1)[0]),
    ),
    ids=lambda value: getattr(value, "label", ""),
)
def test_the_classes_are_read_as_the_module_gives_them(model, property, of):
    probe = rows(answers=NAMES[:2])
    found = icp.measure(model, probe, ["blocks.1.attn.hook_z[1]"], icp.Mask("zero"), property=property, progress=False)
    for row, example in enumerate(probe.examples):
        clean, other = (float(of(own(model.module, each))) for each in (example.text, example.counterpart))
        assert found.clean[row] == pytest.approx(clean, rel=1e-9)
        assert found.total[row] == pytest.approx(other - clean, abs=1e-9)
    assert found.dP.all()


PLACES = (("cue", [1, 12]), ((0, 1), [0]), ("rest", [0, *range(2, 12)]))


@pytest.mark.parametrize(("positions", "edited"), PLACES)
def test_effects_at_positions_are_those_of_hooks_on_patches(model, positions, edited):
    unit, probe = "blocks.0.attn.hook_z[2]", rows(2, NAMES[:2])
    found = icp.measure(model, probe, unit, icp.Swap("counterpart"), positions=positions, progress=False).dP[0, 0]
    site = model.site(unit)

    def difference(shown, hook=lambda module, args: None):
        handle = site.module.register_forward_pre_hook(hook)
        logits = own(model.module, shown)
        handle.remove()
        return float(logits[0] - logits[1])

    def keeping(values):
        return lambda module, args: values.append(args[0].clone())

    def swapping(values):
        def swap(module, args):
            new = args[0].clone()
            new[:, edited, 16:24] = values[0][:, edited, 16:24]
            return (new,)

        return swap

    for row, example in enumerate(probe.examples):
        lent = []
        difference(example.counterpart, keeping(lent))
        want = difference(example.text, swapping(lent)) - difference(example.text)
        assert found[row] == pytest.approx(want, abs=1e-9) and want != 0


def test_batches_stores_and_plans_change_nothing(model, tmp_path):
    units, whats = model.units("head", "neuron")[::7], [icp.Mask("mean"), icp.Swap("counterpart"), icp.Mask("resample")]
    probe = rows(5, NAMES[:2])
    whole = icp.measure(model, probe, units, whats, progress=False)
    for size in (1, 2):
        again = icp.measure(model, probe, units, whats, batch_size=size, progress=False)
        np.testing.assert_allclose(again.dP, whole.dP, atol=1e-12)
    icp.measure(model, probe, units, whats, store=tmp_path / "effects", progress=False)
    stored = icp.Effects.load(tmp_path / "effects")
    np.testing.assert_array_equal(stored.dP, whole.dP)
    assert stored.header["examples"][0]["text"] == str(probe.examples[0].text)


def test_from_measuring_to_a_folder_that_transformers_loads(model, tmp_path):
    model = replace(
        model, tokenizer=replace(model.tokenizer, processors=(("preprocessor_config.json", '{"size": 12}'),))
    )
    probe = rows(6, NAMES[:2])
    units = model.units("head", "neuron")
    cue = icp.measure(model, probe, units, icp.Swap("counterpart"), method="linear", progress=False)
    cost = icp.measure(
        model, probe.balanced(), units, icp.Mask("mean"), property=icp.TaskLoss(), method="linear", progress=False
    )
    ranking = icp.selectivity(cue, cost)
    frontier = icp.frontier(model, probe, ranking, icp.Mask("mean"), sizes=[1, 4], progress=False)
    selection = frontier.select(top=4)
    pruned = icp.prune(model, selection)
    pruned.save_pretrained(tmp_path / "cut")
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "cut", dtype=torch.float64).eval()
    again = icp.load(str(tmp_path / "cut"), dtype=torch.float64)
    assert again.binding == pruned.binding and again.selection == pruned.selection
    assert again.tokenizer == model.tokenizer
    for example in probe.examples:
        clean, cut = (own(each.module, example.text) for each in (model, pruned))
        assert not torch.allclose(clean, cut, atol=1e-3)
        torch.testing.assert_close(own(plain, example.text), cut, atol=1e-12, rtol=0)
        with selection.applied(model):
            torch.testing.assert_close(own(model.module, example.text), cut, atol=1e-12, rtol=0)


def test_it_is_trained_and_evaluated():
    model, probe = BY_NAME["vit"].model(torch.float32), rows()
    fast = {"num_train_epochs": 40, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1}
    cut = icp.prune(model, icp.Selection.of(model, model.units("neuron")[3:9]))
    steady = icp.Invariance(model.units("head")[:2], weight=1.0)
    tuned = icp.finetune(cut, probe, invariance=steady, arguments=fast, progress=False)
    history = tuned.tuning.history
    assert history[-1]["task"] < 0.5 * history[0]["task"] and history[0]["penalty"] > 0
    table = icp.evaluate({"cut": cut, "tuned": tuned}, probe, ["accuracy"]).values
    assert table["tuned"]["accuracy"].mean() == 1 > table["cut"]["accuracy"].mean()


def test_the_loss_is_the_cross_entropy_of_the_classes(model):
    probe = rows(3)
    losses = Losses.of(model, probe, icp.Objective())
    task = -sum(own(model.module, e.text).log_softmax(-1)[e.label].item() for e in probe.examples) / 3
    assert losses.on(model.module).step([0, 1, 2], 0).task.item() == pytest.approx(task, rel=1e-6)


def test_a_probe_and_pairs_of_images_are_saved_with_their_pixels(tmp_path):
    probe = rows()
    probe.save(tmp_path / "probe.jsonl")
    again = icp.Probe.load(tmp_path / "probe.jsonl")
    assert again == probe and again.digest == probe.digest
    assert torch.equal(again.examples[1].counterpart.pixels, probe.examples[1].counterpart.pixels)
    assert again.swapped().examples[0].text == probe.examples[0].counterpart
    icp.PreservingPairs(probe).save(tmp_path / "pairs.json")
    assert icp.PreservingPairs.load(tmp_path / "pairs.json").probe == probe
    train, test = probe.split(by="text", fractions=(0.5, 0.5))
    assert len(train) + len(test) == len(probe) and {*train.examples}.isdisjoint(test.examples)


def test_pixels_that_were_changed_in_the_file_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    file = tmp_path / "probe.jsonl.images.safetensors"
    rows().save(tmp_path / "probe.jsonl")
    save_file({name: pixels + 1 for name, pixels in load_file(file).items()}, file)
    with pytest.raises(icp.ArtefactError, match="other pixels for 'image"):
        icp.Probe.load(tmp_path / "probe.jsonl")
    file.write_bytes(b"cut short")
    with pytest.raises(icp.ArtefactError, match="no whole file of images"):
        icp.Probe.load(tmp_path / "probe.jsonl")


def wide():
    return icp.Probe((icp.Example(icp.Image(torch.zeros(3, 16, 16)), answers=NAMES[:2]),))


def texts():
    return icp.Probe((icp.Example("The nurse said that", answers=NAMES[:2]),))


def other_head():
    module = BY_NAME["vit"].module(torch.float32)
    module.config.num_labels = 1
    return module


HEAD = "blocks.0.attn.hook_z[1]"


@pytest.mark.parametrize(
    ("act", "error", "says"),
    (
        (lambda m: icp.measure(m, wide(), HEAD, icp.Mask()), icp.ProbeError,
         r"has the shape \[3, 16, 16\], this model takes \[3, 12, 16\]"),
        (lambda m: icp.measure(m, texts(), HEAD, icp.Mask()), icp.ProbeError, "is a text, and this model reads images"),
        (lambda m: icp.measure(BY_NAME["gpt2"].model(), wide(), HEAD, icp.Mask()), icp.ProbeError,
         "is no text, and this model reads texts"),
        (lambda m: icp.measure(m, rows(2, ("bad", "worse")), HEAD, icp.Mask()), icp.ProbeError,
         "the answer 'worse' of image [0-9a-f]{16} is no class of this model: they are bad, good, neither"),
        (lambda m: icp.measure(m, rows(), HEAD, icp.Mask(), property=icp.LogLikelihood()), icp.ProbeError,
         "needs logits of tokens, and this model gives those of its classes"),
        (lambda m: icp.load(ViTModel(m.config)), icp.ModelError, "a ViTModel, which gives no logits of classes"),
        (lambda m: icp.load(other_head()), icp.ModelError, r"a head of 1 output\(s\)"),
        (lambda m: icp.load(m.module, make_tokenizer()), icp.ModelError, "reads images.*leave the tokenizer out"),
        (lambda m: icp.prune(m, icp.Selection.of(m, ["hook_embed[3]"])), icp.PruneError,
         "patches, positions and the class token all write it"),
        (lambda m: icp.Image(torch.zeros(3, 4, 4, dtype=torch.uint8)), icp.ProbeError,
         r"the type torch.uint8: give floats \[channel, height, width\]"),
        (lambda m: icp.Image(torch.zeros(4, 4)), icp.ProbeError, r"has the shape \(4, 4\)"),
        (lambda m: icp.Image(torch.full((1, 2, 2), torch.nan)), icp.ProbeError, "NaN or infinite"),
        (lambda m: icp.Example(image(0), "a text"), icp.ProbeError, "of an image one of the same shape"),
        (lambda m: icp.Example(image(0), icp.Image(torch.zeros(3, 4, 4))), icp.ProbeError, "of the same shape"),
    ),
)  # fmt: skip
def test_what_cannot_be_done_with_images_is_refused(model, act, error, says):
    with pytest.raises(error, match=says):
        act(model)


def test_an_image_is_known_by_its_pixels_and_keeps_them():
    pixels = torch.randn(SHAPE)
    one, other = icp.Image(pixels), icp.Image(pixels.clone())
    assert one == other and hash(one) == hash(other) and str(one) == str(other)
    pixels[0, 0, 0] += 1
    assert one == other != icp.Image(pixels)


def test_what_drives_a_unit_is_told_in_places_of_the_image(model, tmp_path):
    probe = rows()
    found = icp.drivers(model, probe, ["blocks.0.mlp.hook_post[3]", "blocks.1.attn.hook_z[1]"], top=2)
    assert found.reads == {}, "its answer is not read at the last patch"
    names = {str(each) for example in probe.examples for each in (example.text, example.counterpart)}
    for one in found.inputs["blocks.0.mlp.hook_post[3]"]:
        assert one.text in names and len(one.tokens) == len(one.activations) == 13
        assert one.tokens[:2] == ("class token", "patch 0, 0") and one.tokens[-1] == "patch 2, 3"
        assert one.cue and set(one.cue) < set(range(1, 13)), "the patches that differ, and not the class token"
    assert type(found).load(found.save(tmp_path / "drivers.json")).inputs == found.inputs


def test_the_report_shows_the_picture_with_its_patches_shaded(model, tmp_path):
    probe, unit = rows(), "blocks.0.mlp.hook_post[3]"
    found = icp.drivers(model, probe, [unit, "blocks.1.attn.hook_z[1]"], top=2)
    page = ElementTree.fromstring(f"<i>{driving(found, None).body.replace('<wbr>', '')}</i>")
    pictures = page.findall(".//svg")
    assert len(pictures) == 4 and len({svg.get("aria-label") for svg in pictures}) > 1
    shown, first = pictures[0], found.inputs[unit][0]
    patches, framed = ([r for r in shown.findall("rect") if (r.get("class") == "cue") is cue] for cue in (False, True))
    assert [patch[0].text.split(":")[0] for patch in patches] == list(first.tokens[1:])
    most = max(abs(a) for one in found.inputs[unit] for a in one.activations)
    for patch, activation in zip(patches, first.activations[1:]):
        assert float(patch.get("fill-opacity")) == pytest.approx(STRONGEST * abs(activation) / most, abs=1e-3)
        assert patch.get("fill") == f"rgb({','.join(map(str, RED if activation > 0 else BLUE))})"
    sizes = {name: float(patches[0].get(name)) for name in ("width", "height")}
    left = float(patches[0].get("x"))
    for position, patch in enumerate(patches):
        row, column = divmod(position, 4)
        assert float(patch.get("y")) == pytest.approx(row * sizes["height"])
        assert float(patch.get("x")) - left == pytest.approx(column * sizes["width"])
    corners = [(float(r.get("x")) / sizes["width"], float(r.get("y")) / sizes["height"]) for r in framed]
    assert [1 + 4 * round(y) + round(x) for x, y in corners] == sorted(first.cue) == [1, 12]
    encoded = shown.find("image").get("href").removeprefix("data:image/png;base64,")
    png = Picture.open(io.BytesIO(base64.b64decode(encoded)))
    pixels = next(e for e in (*(e.text for e in probe.examples), *(e.counterpart for e in probe.examples))
                  if str(e) == first.text).pixels  # fmt: skip
    stretched = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255
    assert png.size == (16, 12)
    np.testing.assert_allclose(np.array(png).transpose(2, 0, 1), stretched, atol=0.51)


def test_drivers_without_their_pixels_are_refused(model, tmp_path):
    found = icp.drivers(model, rows(), ["blocks.0.mlp.hook_post[3]"], top=1)
    path = found.save(tmp_path / "drivers.json")
    (tmp_path / "drivers.json.images.safetensors").unlink()
    with pytest.raises(icp.ArtefactError, match="there are not both, the pixels and the size of a patch"):
        icp.Drivers.load(path)
