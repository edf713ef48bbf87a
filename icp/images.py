"""Images as inputs: pixels that are known by their digest, and the patches that a model's tokens are.

To a vision transformer an image is a sequence of tokens as a text is to a language model: the class token, and one
patch after another, row by row. A patch's number is a digest of its pixels, so that tokens that are the same have the
same number, in an image and in its counterpart.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from icp.errors import ArtefactError, ProbeError
from icp.files import writing_file

CLASS_TOKEN = 0
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
FORMAT = "icp-images"


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels [channel, height, width] as a model takes them: floats of the right size, normalised as it expects.

    Two images are the same where their pixels are; `str()` gives a name made of their digest. Raises `ProbeError` for
    pixels of another kind or that are not finite.
    """

    pixels: Any

    def __post_init__(self):
        pixels = torch.as_tensor(self.pixels)
        if pixels.ndim != 3 or not pixels.is_floating_point():
            raise ProbeError(
                f"an image has the shape {tuple(pixels.shape)} and the type {pixels.dtype}: give floats [channel, "
                "height, width], as the model's image processor makes them"
            )
        if not pixels.isfinite().all():
            raise ProbeError("an image has pixels that are NaN or infinite: give finite ones")
        object.__setattr__(self, "pixels", pixels.detach().to("cpu", torch.float32, copy=True).contiguous())

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.pixels.shape)

    @cached_property
    def digest(self) -> str:
        """A short digest of the shape and the pixels, which are kept in float32."""
        told = repr(self.shape).encode() + self.pixels.numpy().tobytes()
        return hashlib.sha256(told).hexdigest()[:16]

    def __str__(self) -> str:
        return f"image {self.digest}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __lt__(self, other: "Image") -> bool:
        return self.digest < other.digest


def save_images(path: "str | Path", inputs: Iterable[Any]) -> None:
    """Write the images among the inputs beside the file that names them, once each; nothing where there is none."""
    images = {str(each): each.pixels for each in inputs if isinstance(each, Image)}
    if images:
        with writing_file(_beside(path)) as work:
            save_file(images, work, {"format": FORMAT})


def load_images(path: "str | Path") -> dict[str, Image]:
    """The images beside a file by their names, none where no such file is; raises `ArtefactError` for a bad one."""
    file = _beside(path)
    if not file.is_file():
        return {}
    try:
        images = {name: Image(pixels) for name, pixels in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{file} is no whole file of images ({error}): save its probe again") from error
    for name, image in images.items():
        if name != str(image):
            raise ArtefactError(f"{file} has other pixels for {name!r} than were saved: save its probe again")
    return images


def _beside(path: "str | Path") -> Path:
    return Path(path).with_name(f"{Path(path).name}.images.safetensors")


class PatchTokens(list[int]):
    """An image as a model's tokens, a number each; `pixels` are the image's."""

    def __init__(self, numbers: list[int], pixels: Float[Tensor, "channel height width"]):
        super().__init__(numbers)
        self.pixels = pixels


@dataclass(frozen=True)
class Patches:
    """What a vision model has in the place of a tokenizer: the shape of its images, and the side of their patches.

    `processors` are the names and texts of the files in which `transformers` keeps how pixels are made of pictures,
    where a model came with any; they are saved with the model again.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    processors: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, config: Any) -> "Patches":
        """As a vision model's config has it: `image_size` and `patch_size`, one side or height and width."""
        height, width = _both(config.image_size)
        return cls((config.num_channels, height, width), _both(config.patch_size))

    @property
    def grid(self) -> tuple[int, int]:
        """How many patches there are down and across."""
        return self.shape[1] // self.size[0], self.shape[2] // self.size[1]

    @property
    def digest(self) -> str:
        """A short digest of the shapes, as a tokenizer has one of its vocabulary."""
        return hashlib.sha256(repr((self.shape, self.size)).encode()).hexdigest()[:16]

    def encode(self, image: "Image | str") -> PatchTokens:
        """The class token and the patches; raises `ProbeError` for a text, and for an image of another shape."""
        if not isinstance(image, Image):
            raise ProbeError(f"{image!r} is a text, and this model reads images: give icp.Image(pixels)")
        if image.shape != self.shape:
            raise ProbeError(
                f"{image} has the shape {list(image.shape)}, this model takes {list(self.shape)}: resize it, or leave "
                "it out"
            )
        return PatchTokens([CLASS_TOKEN, *map(_number, self.cut(image.pixels))], image.pixels)

    def cut(self, pixels: Float[Tensor, "channel height width"]) -> Float[Tensor, "patch channel down across"]:
        """The patches row by row; what is left over at the right and at the bottom is in none, as in the models."""
        down, across = self.size
        rows = pixels.unfold(1, down, down).unfold(2, across, across)
        return rows.flatten(1, 2).transpose(0, 1)

    def noise(self, seed: int) -> Image:
        """Pixels drawn from the standard normal distribution, to try a model on."""
        return Image(torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)))

    def place(self, position: int) -> str:
        """What a position holds, in words."""
        return "class token" if position == 0 else "patch {}, {}".format(*divmod(position - 1, self.grid[1]))

    def save_pretrained(self, folder: "str | Path") -> None:
        """Write the files that the model came with; sizes are in its config."""
        for name, text in self.processors:
            (Path(folder) / name).write_text(text, "utf-8")


@dataclass(frozen=True)
class Captioned(Patches):
    """What the text tower has in the place of a tokenizer where images are classified by captions.

    Its tokens are those of all captions side by side, the same for every image: shorter ones end in `filler`.
    """

    captions: tuple[tuple[int, ...], ...] = ()
    filler: int = 0

    @classmethod
    def of(cls, patches: Patches, tokenizer: Any, captions: Iterable[str]) -> "Captioned":
        """For images that have these patches, and a filler that does not look like the end of a text."""
        ids = tuple(tuple(tokenizer(caption)["input_ids"]) for caption in captions)
        filler = int(tokenizer.eos_token_id == 0)
        return cls(patches.shape, patches.size, patches.processors, ids, filler)

    @property
    def patches(self) -> Patches:
        """What the vision tower has."""
        return Patches(self.shape, self.size, self.processors)

    @property
    def longest(self) -> int:
        """The tokens of the longest caption."""
        return max(map(len, self.captions))

    def encode(self, image: "Image | str") -> PatchTokens:
        """All captions' tokens; raises `ProbeError` as for the patches of the image, whose pixels come with them."""
        padded = ((*caption, *[self.filler] * (self.longest - len(caption))) for caption in self.captions)
        return PatchTokens([token for caption in padded for token in caption], super().encode(image).pixels)


def _both(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _number(patch: Tensor) -> int:
    return int.from_bytes(hashlib.blake2b(patch.contiguous().numpy().tobytes(), digest_size=7).digest())
