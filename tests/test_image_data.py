"""Images with a planted background, drawn and read: what is planted is there, and what is malformed is refused."""

import shutil

import pytest
import torch
from PIL import Image as Picture

import icp
from icp.data import coloured_shapes, pictures, waterbirds

HEADER = "img_id,img_filename,y,split,place,place_filename"
LINES = (
    "1,001.Albatross/a.jpg,1,0,1,/o/ocean/1.jpg", "2,001.Albatross/b.jpg,1,0,0,/b/bamboo_forest/2.jpg",
    "3,004.Groove_billed_Ani/c.jpg,0,0,0,/b/bamboo_forest/3.jpg", "4,004.Groove_billed_Ani/d.jpg,0,1,1,/o/ocean/4.jpg",
    "5,001.Albatross/e.jpg,1,2,1,/o/ocean/5.jpg",
)  # fmt: skip


def background(shown):
    """Red less blue, in the mean over all pixels: positive on the warm background."""
    return float((shown.pixels[0] - shown.pixels[2]).mean())


def test_the_background_agrees_with_the_class_at_the_stated_rate_and_the_counterpart_has_the_other():
    probe = coloured_shapes(40, 0.9, seed=3)
    agree = [(example.group == "warm") == (example.label == 0) for example in probe.examples]
    assert [sum(agree[label::2]) for label in (0, 1)] == [18, 18]
    for example in probe.examples:
        warm, cold = sorted((example.text, example.counterpart), key=background, reverse=True)
        assert background(warm) > background(cold)
        assert (example.text == warm) == (example.group == "warm")
        assert {example.group, example.counterpart_group} == {"warm", "cold"}


def test_a_pair_differs_in_the_background_alone_and_the_shape_is_the_class():
    probe = coloured_shapes(60, 0.5, seed=1, noise=0.0)
    for example in probe.examples:
        shape = (example.text.pixels == example.counterpart.pixels).all(0)
        assert 30 < int(shape.sum()) < 200, "the same drawing in both, and not all of the image"
        assert example.text.pixels[:, shape].unique(dim=1).shape[1] == 1, "one colour"
        outside = (example.text.pixels - example.counterpart.pixels)[:, ~shape]
        assert torch.allclose(outside.abs(), torch.tensor([1.6, 0, 1.6])[:, None].expand_as(outside))
        rows, columns = shape.any(1).nonzero(), shape.any(0).nonzero()
        corner = shape[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        filled = float(corner.double().mean())
        assert (filled > 0.65) == (example.label == 0), "a disc fills 79% of its square, a cross 54%"


def test_the_same_arguments_draw_the_same_images_and_another_seed_shares_none():
    one, again, other = (coloured_shapes(8, 0.75, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert {e.text for e in one.examples}.isdisjoint(e.text for e in other.examples)
    assert {e.template for e in one.examples}.isdisjoint(e.template for e in other.examples)
    aligned, swapped = coloured_shapes(8, 1.0), coloured_shapes(8, 0.0)
    assert [e.text for e in aligned.examples] == [e.counterpart for e in swapped.examples]


@pytest.mark.parametrize(
    ("given", "says"),
    (
        (dict(count=1, agreement=0.5), "at least 2"),
        (dict(count=4, agreement=0.5, size=8), "at least 12 x 12"),
        (dict(count=4, agreement=1.5), "agreement=1.5 is a share"),
        (dict(count=4, agreement=0.5, noise=-1.0), "noise=-1.0 at least 0"),
    ),
)
def test_shapes_that_cannot_be_drawn_are_refused(given, says):
    with pytest.raises(icp.DataError, match=says):
        coloured_shapes(**given)


def pixels(path):
    """In the place of a picture's decoder: the file's one byte, everywhere."""
    return torch.full((3, 4, 4), path.read_bytes()[0] / 255)


@pytest.fixture
def birds(tmp_path):
    folder = tmp_path / "waterbirds"
    folder.mkdir()
    (folder / "metadata.csv").write_text("\n".join((HEADER, *LINES)) + "\n")
    for number, line in enumerate(LINES):
        file = folder / line.split(",")[1]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([number]))
    return folder


def test_waterbirds_are_read_by_split_with_their_groups(birds):
    train = waterbirds(birds, "train", pixels)
    assert [(e.label, e.group, e.word) for e in train.examples] == [
        (1, "water", "001.Albatross"), (1, "land", "001.Albatross"), (0, "land", "004.Groove_billed_Ani"),
    ]  # fmt: skip
    assert train.examples[0].answers == ("landbird", "waterbird")
    assert [float(e.text.pixels[0, 0, 0]) for e in train.examples] == pytest.approx([0, 1 / 255, 2 / 255])
    assert [len(waterbirds(birds, split, pixels)) for split in ("val", "test")] == [1, 1]
    few = waterbirds(birds, "train", pixels, limit=2, seed=1)
    assert len(few) == 2 and {*few.examples} < {*train.examples}


def rewritten(folder, old, new):
    file = folder / "metadata.csv"
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "split", "says"),
    (
        (
            lambda f: rewritten(f, ",place,", ",where,"),
            "train",
            r"no field 'place' .*Waterbirds has \(img_id, img",
        ),
        (
            lambda f: rewritten(f, "b.jpg,1,0,0", "b.jpg,2,0,0"),
            "train",
            "line 3.*the field .y. is .2.*one of .0., ",
        ),
        (lambda f: rewritten(f, "d.jpg,0,1,1", "d.jpg,0,3,1"), "train", "the field 'split' is '3'"),
        (lambda f: rewritten(f, "e.jpg,1,2,1", "e.jpg,1,1,1"), "test", "no row of the split 'test'"),
        (lambda f: (f / "metadata.csv").unlink(), "train", "has no metadata.csv"),
        (lambda f: shutil.rmtree(f / "001.Albatross"), "train", "names '001.Albatross/a.jpg', and there is no such"),
        (lambda f: None, "dev", "no split 'dev' of Waterbirds: use one of train, val, test"),
    ),
)
def test_another_schema_or_folder_is_refused(birds, spoil, split, says):
    spoil(birds)
    with pytest.raises(icp.DataError, match=says):
        waterbirds(birds, split, pixels)


def test_pictures_are_resized_and_normalised(tmp_path):
    Picture.new("RGB", (20, 10), (255, 0, 51)).save(tmp_path / "plain.png")
    found = pictures((4, 6))(tmp_path / "plain.png")
    assert found.shape == (3, 4, 6)
    assert torch.allclose(found, torch.tensor([1.0, -1.0, -0.6])[:, None, None].expand(3, 4, 6))
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(icp.DataError, match="no picture that Pillow reads"):
        pictures(4)(tmp_path / "no.png")
