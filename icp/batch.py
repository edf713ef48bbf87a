"""Padded inputs: what a forward pass is called with."""

from dataclasses import dataclass, field
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
