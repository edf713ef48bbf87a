"""Coloured shapes on a coloured background, drawn at run time: the shape is the class, the background a planted cue."""

import random

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icp.errors import DataError
from icp.examples import Example
from icp.images import Image
from icp.probes import Probe

CLASSES = ("disc", "cross")
BACKGROUNDS = {"warm": (0.8, 0.0, -0.8), "cold": (-0.8, 0.0, 0.8)}
"""Red, green and blue of the backgrounds, of which the first goes with the first class; pixels lie about 0."""


def coloured_shapes(count: int, agreement: float, seed: int = 0, *, size: int = 24, noise: float = 0.3) -> Probe:
    """`count` images [3, size, size] of a disc or a cross, half of each, with the class as the label.

    In a share `agreement` of each class, rounded to images, the background is the one that goes with the class. The
    counterpart is the same drawing on the other background: the same shape, place, colour, and pixel noise (normal, of
    standard deviation `noise`). A shape is green, of a shade that is drawn and says nothing of its class. `group` is
    the background, and `template` the drawing, which no other seed or row shares. The same arguments give the same
    images.

    Raises `DataError` for sizes that a shape does not fit into, and for shares that are none.
    """
    if count < 2 or size < 12:
        raise DataError(f"{count} images of {size} x {size}: draw at least 2, of at least 12 x 12 pixels")
    if not (0 <= agreement <= 1 and noise >= 0):
        raise DataError(f"agreement={agreement} is a share from 0 to 1, and noise={noise} at least 0")
    labels = [row % 2 for row in range(count)]
    agrees = [False] * count
    for label in (0, 1):
        mine = [row for row in range(count) if labels[row] == label]
        for row in random.Random(f"agreement {seed} {label}").sample(mine, round(agreement * len(mine))):
            agrees[row] = True
    return Probe(tuple(_example(seed, row, labels[row], agrees[row], size, noise) for row in range(count)))


def _example(seed: int, row: int, label: int, agrees: bool, size: int, noise: float) -> Example:
    rng = torch.Generator().manual_seed(int(random.Random(f"drawing {seed} {row}").getrandbits(48)))
    inside = _mask(label, size, rng)
    colour = torch.tensor([0.0, 0.5, 0.0]) + torch.rand(3, generator=rng) * torch.tensor([0.4, 0.5, 0.4])
    grain = noise * torch.randn(3, size, size, generator=rng)
    mine = label if agrees else 1 - label
    names = list(BACKGROUNDS)
    images = [
        Image(torch.where(inside, colour[:, None, None], _plain(names[which])) + grain) for which in (mine, 1 - mine)
    ]
    return Example(
        *images, CLASSES, label, template=f"drawing {seed}.{row}", group=names[mine], counterpart_group=names[1 - mine]
    )


def _plain(background: str) -> Float[Tensor, "channel 1 1"]:
    return torch.tensor(BACKGROUNDS[background])[:, None, None]


def _mask(label: int, size: int, rng: torch.Generator) -> Bool[Tensor, "height width"]:
    """Where the shape is: its radius is 3 to 4 tenths of the image, its middle up to a twentieth off the image's."""
    radius, *off = (torch.rand(3, generator=rng) * size / 10).tolist()
    radius += 0.3 * size
    middle = [(size - 1) / 2 - size / 20 + each for each in off]
    down, across = (torch.arange(size)[:, None] - middle[0]).abs(), (torch.arange(size)[None] - middle[1]).abs()
    if CLASSES[label] == "disc":
        return down**2 + across**2 <= (0.8 * radius) ** 2  # about the area of the cross
    bar = 0.32 * radius
    return ((down <= bar) & (across <= radius)) | ((across <= bar) & (down <= radius))
