"""Waterbirds: a bird on a background of land or water, which agrees with the kind of bird in most training images.

Sagawa et al., ICLR 2020 (`waterbird_complete95_forest2water2` of kohpangwei/group_DRO): a folder with `metadata.csv`
and the images that it names.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from icp.data.reader import read
from icp.data.schema import Choice, Form, Schema
from icp.errors import DataError
from icp.examples import Example
from icp.images import Image
from icp.probes import Probe

CLASSES, PLACES = ("landbird", "waterbird"), ("land", "water")
SPLITS = {"train": 0, "val": 1, "test": 2}
METADATA = "metadata.csv"

_ZERO_ONE = Choice({"0": 0, "1": 1})
WATERBIRDS = Schema(
    "Waterbirds",
    (
        Form(
            {
                "img_id": int, "img_filename": str, "y": _ZERO_ONE, "split": Choice({"0": 0, "1": 1, "2": 2}),
                "place": _ZERO_ONE, "place_filename": str,
            },
            lambda row: [row],
        ),
    ),
    {},
)  # fmt: skip

Pixels = Callable[[Path], Tensor]
"""From a picture's file to what a model takes, [channel, height, width]."""


def waterbirds(source: "str | Path", split: str, pixels: Pixels, *, limit: int | None = None, seed: int = 0) -> Probe:
    """The images of a split ("train", "val" or "test") with their kind of bird as the label and the place as the group.

    `pixels` makes an image of a file: `icp.data.pictures(size)`, or a model's own image processor. With `limit`, so
    many are drawn by `seed`. `word` is the species, of which there are several images. The data set has no
    counterparts: the same bird was not put on both places.

    Raises `DataError` for a folder without `metadata.csv`, naming line and field for one of another schema, and for a
    picture that it names and that is not there.
    """
    folder = Path(source)
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r} of Waterbirds: use one of {', '.join(SPLITS)}")
    if not (folder / METADATA).is_file():
        raise DataError(f"{folder} has no {METADATA}: give the folder of Waterbirds, with it and the pictures it names")
    rows = [row for row in read(WATERBIRDS, folder / METADATA) if row["split"] == SPLITS[split]]
    if not rows:
        raise DataError(f"{folder / METADATA} has no row of the split {split!r} ({SPLITS[split]})")
    if limit is not None and limit < len(rows):
        kept = sorted(random.Random(seed).sample(range(len(rows)), limit))
        rows = [rows[index] for index in kept]
    return Probe(tuple(_example(folder, row, pixels) for row in rows))


def _example(folder: Path, row: dict, pixels: Pixels) -> Example:
    file = folder / row["img_filename"]
    if not file.is_file():
        raise DataError(f"{folder / METADATA} names {row['img_filename']!r}, and there is no such picture: unpack all")
    species = Path(row["img_filename"]).parts[0] if "/" in row["img_filename"] else None
    return Example(Image(pixels(file)), None, CLASSES, row["y"], word=species, group=PLACES[row["place"]])


def pictures(
    size: int | tuple[int, int], mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)
) -> Pixels:
    """Reads a picture in red, green and blue, resized to `size` (a side, or height and width), as (value - mean) / std.

    Values are from 0 to 1; the mean and the standard deviation by channel are those of the model's image processor.
    Raises `DataError` for a file that is no picture.
    """
    import numpy as np
    from PIL import Image as Picture

    height, width = (size, size) if isinstance(size, int) else size

    def pixels(path: Path) -> Tensor:
        try:
            with Picture.open(path) as picture:
                resized = picture.convert("RGB").resize((width, height), Picture.Resampling.BICUBIC)
        except OSError as error:
            raise DataError(f"{path} is no picture that Pillow reads ({error}): it is cut short or foreign") from error
        values = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
        return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    return pixels
