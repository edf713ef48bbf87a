"""Padded inputs: what a forward pass is called with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded inputs; `position_ids` count attended tokens from `first` on, so that padding never shifts a position."""

    ids: Int[Tensor, "row pos"]
    mask: Bool[Tensor, "row pos"]
    first: int = field(default=0, kw_only=True)

    @classmethod
    def padded(
        cls, sequences: list[list[int]], side: str, filler: int, device: torch.device, first: int = 0
    ) -> "Batch":
        """Token lists as rows of equal length, padded with `filler` on `side`."""
        longest = max(len(sequence) for sequence in sequences)
        ids = torch.full((len(sequences), longest), filler, dtype=torch.long)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            start = longest - len(sequence) if side == "left" else 0
            ids[row, start : start + len(sequence)] = torch.tensor(sequence, dtype=torch.long)
            mask[row, start : start + len(sequence)] = True
        return cls(ids.to(device), mask.to(device), first=first)

    @property
    def position_ids(self) -> Int[Tensor, "row pos"]:
        return (self.mask.long().cumsum(1) - 1).clamp(min=0) + self.first

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of a `transformers` model's forward."""
        return {"input_ids": self.ids, "attention_mask": self.mask.long(), "position_ids": self.position_ids}

    def __getitem__(self, rows: Int[Tensor, " row"]) -> "Batch":
        return Batch(self.ids[rows], self.mask[rows], first=self.first)


@dataclass(frozen=True, eq=False)
class ImageBatch(Batch):
    """Images, all of one shape and so without padding; `ids` number the patches, and no model reads them."""

    pixels: Float[Tensor, "row channel height width"]

    @classmethod
    def of(cls, images: list[list[int]], device: torch.device, dtype: torch.dtype) -> "ImageBatch":
        """Images as their `PatchTokens`."""
        ids = torch.tensor(images, device=device)
        pixels = torch.stack([image.pixels for image in images]).to(device, dtype)
        return cls(ids, torch.ones_like(ids, dtype=torch.bool), pixels)

    def arguments(self) -> dict[str, Any]:
        return {"pixel_values": self.pixels}

    def __getitem__(self, rows: Int[Tensor, " row"]) -> "ImageBatch":
        return ImageBatch(self.ids[rows], self.mask[rows], self.pixels[rows])


@dataclass(frozen=True, eq=False)
class CaptionBatch(ImageBatch):
    """In every row an image, and `count` captions side by side, padded to one length.

    `seen` gives the representations of images, which are asked for once.
    """

    count: int
    seen: Callable[[Tensor], Tensor]

    @cached_property
    def images(self) -> Float[Tensor, "row d"]:
        """The representations of the images."""
        return self.seen(self.pixels)

    @property
    def position_ids(self) -> Int[Tensor, "row pos"]:
        """Places in the row, since every row holds the same captions."""
        return torch.arange(self.ids.shape[1], device=self.ids.device).expand(len(self.ids), -1)

    @property
    def captions(self) -> Batch:
        """One caption a row, as the text tower takes them."""
        ids, mask = (each.unflatten(1, (self.count, -1)).flatten(0, 1) for each in (self.ids, self.mask))
        return Batch(ids, mask)

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | self.captions.arguments()

    def __getitem__(self, rows: Int[Tensor, " row"]) -> "CaptionBatch":
        part = CaptionBatch(self.ids[rows], self.mask[rows], self.pixels[rows], self.count, self.seen)
        part.__dict__["images"] = self.images[rows]
        return part
