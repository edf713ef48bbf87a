"""How a batch runs through a model: read at its output, entered at a block, stopped at a site."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icp.anatomy import Anatomy
from icp.batch import Batch, CaptionBatch, ImageBatch
from icp.errors import ModelError, ProbeError
from icp.hooks import (
    Reads,
    captured,
    narrowed,
    reading,
    set_aside,
    showing,
    standing_in,
    started_at,
    stopping_after,
    stopping_at,
)
from icp.images import Captioned, Image
from icp.sites import Site
from icp.tokenizing import Input, encode

IMAGES_A_PASS = 32


class Running(Anatomy):
    """Base class of `icp.model.Model`: forward passes, whole or in part, and what a user's hooks let them leave out."""

    def pad(self, sequences: list[list[int]], side: str = "right") -> Batch:
        """Token lists as one batch on the model's device, padded on `side`; of images, their patches.

        Raises `ProbeError` where one is longer than the model's context.
        """
        if side not in ("left", "right"):
            raise ModelError(f"unknown padding side {side!r}: use 'left' or 'right'")
        if self.family.abreast:
            return self._abreast(sequences)
        if self.family.pixels:
            return ImageBatch.of(sequences, self.device, self.dtype)
        filler = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        if self.family.tower:  # whose representation is read at the first end token, which often pads too
            filler = int(self.tokenizer.eos_token_id == 0)
        longest = max(len(s) for s in sequences)
        if self.context is not None and longest > self.context:
            words = self.tokenizer.decode(max(sequences, key=len)[:60], skip_special_tokens=True).split()
            raise ProbeError(
                f"{' '.join(words)[:60]!r} has {longest} tokens, {self.name} reads at most {self.context}: shorten it"
            )
        return Batch.padded(sequences, side, filler, self.device, self.family.first_position(self.config))

    def trial(self, rows: int, length: int) -> Batch:
        """A batch to try the model on, always the same: token ids drawn from the vocabulary, or images of noise."""
        if self.family.pixels:
            return self.pad([self.tokenizer.encode(self.tokenizer.noise(row)) for row in range(rows)])
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, len(self.tokenizer), (rows, length), generator=generator)
        if self.family.tower:
            drawn[:, -1] = self.tokenizer.eos_token_id
        return self.pad(drawn.tolist())

    def arguments(self, batch: Batch) -> dict[str, Any]:
        """Keyword arguments of the module's forward, or of what gives a tower's representations."""
        if self.family.reads == "captions" and not self.family.abreast:
            return batch.arguments() | self._captions().arguments()
        return batch.arguments() | ({"use_cache": False} if self.family.causal else {})

    @cached_property
    def captioned(self) -> Captioned:
        """What the text tower reads under captions."""
        return (
            self.tokenizer if self.family.abreast else Captioned.of(self.tokenizer, self.beside, self.captions.values())
        )

    def _captions(self) -> Batch:
        """A caption a row."""
        return Batch.padded([*map(list, self.captioned.captions)], "right", self.captioned.filler, self.device)

    def _abreast(self, images: list[list[int]]) -> CaptionBatch:
        """All captions in the row of each image."""
        captions = self._captions()
        ids, mask = (each.flatten().expand(len(images), -1) for each in (captions.ids, captions.mask))
        pixels = ImageBatch.of(images, self.device, self.dtype).pixels
        return CaptionBatch(ids, mask, pixels, len(captions.ids), self._seen)

    @torch.no_grad()
    def _seen(self, pixels: Tensor) -> Tensor:
        """What the vision tower makes of images."""
        parts = pixels.split(IMAGES_A_PASS)
        return torch.cat([self.module.get_image_features(part).pooler_output for part in parts])

    def _zero_shot(self, batch: CaptionBatch) -> Tensor:
        """Logits [row, class]: the scaled cosine of each row's image and its captions (Radford et al. 2021)."""
        texts = getattr(self.module, self.family.features)(**batch.captions.arguments()).pooler_output
        texts, images = (each / each.norm(dim=-1, keepdim=True) for each in (texts, batch.images.to(texts.dtype)))
        cosines = torch.einsum("rcd,rd->rc", texts.unflatten(0, (-1, batch.count)), images)
        return cosines * self.module.logit_scale.exp()

    def answering(self, output: Any) -> Tensor:
        """The logits in what the module's forward gives."""
        if self.family.reads != "captions":
            return output.logits
        if not self.family.abreast:
            return output.logits_per_image
        rows = torch.arange(len(output.logits_per_image), device=self.device)  # each image has captions of its own
        return output.logits_per_image.unflatten(1, (len(rows), -1))[rows, rows]

    def _forward(self, batch: Batch, reads: Reads | None = None) -> Tensor:
        if self.kind == "hooked_transformer":
            return self.module(batch.ids, attention_mask=batch.mask.long(), return_type="logits")
        if self.family.cut_to_first:
            with showing(self.blocks[-1], Reads.first_of(batch.mask) if reads is None else reads):
                return self.module(**self.arguments(batch)).logits[:, None]
        if self.family.reads == "pooled":
            return getattr(self.module, self.family.features)(**self.arguments(batch)).pooler_output[:, None]
        if self.family.abreast and not (self.module._forward_hooks or self.module._forward_pre_hooks):
            return self._zero_shot(batch)[:, None]
        if self.family.reads in ("first", "captions"):
            return self.answering(self.module(**self.arguments(batch)))[:, None]
        if self.family.reads == "mean":
            hidden = self.module(**self.arguments(batch)).last_hidden_state
            hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
            counted = batch.mask[:, :, None].to(hidden.dtype)
            return (hidden * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True)
        if self.classes is not None:  # its own forward pass keeps the last token's logits only
            hidden = self.module.base_model(**self.arguments(batch)).last_hidden_state
            return self.unembed(hidden)
        module = self.module.original_model if self.kind == "bridge" else self.module
        return module(**self.arguments(batch)).logits

    def logits(self, batch: Batch) -> Float[Tensor, "row pos vocab"]:
        """All logits, under whatever hooks are installed; [row, 1, class] of a head that takes the first token.

        Of a model without a head, representations [row, 1, d_model].
        """
        return self._forward(batch)

    def represent(self, inputs: Sequence[Input]) -> Float[Tensor, "input d_model"]:
        """Of a model without a head, what it gives for each input by itself, with no hook on any module.

        What the other tower reads goes through that.
        """
        with set_aside(self.module), self.frozen(), torch.no_grad():
            each = {one: self._representation(one) for one in dict.fromkeys(inputs)}
        return torch.stack([each[one] for one in inputs])

    def _representation(self, one: Input) -> Float[Tensor, " d_model"]:
        elsewhere = self.family.tower is not None and isinstance(one, Image) != self.family.pixels
        model = self.other if elsewhere else self
        return model.logits(model.pad([encode(model.tokenizer, one, "")]))[0, 0]

    def read(
        self,
        batch: Batch,
        reads: Reads,
        *,
        start: int = 0,
        hidden: Float[Tensor, "row pos d_model"] | None = None,
        attention: Float[Tensor, "row pos d_model"] | None = None,
    ) -> Float[Tensor, "read token"]:
        """Only the logits that `reads` names; from block `start` on, entered with `hidden`, where `start` is not 0.

        `attention` is what the attention of block `start` adds to the residual stream, where it is known and need not
        run. Where nothing looks into the last block, it computes only the positions that are read.
        """
        seen = self._hooked_logits or not self.unseen(-1) or any(m._forward_hooks for m in self._around)
        narrow = 2 * len(reads.rows) < batch.ids.numel() and not seen and not self.family.represents
        with ExitStack() as stack:
            stack.enter_context(started_at(self.entrances, start, hidden, self._tuple_output))
            if attention is not None:
                stack.enter_context(standing_in(self.attention(start), attention))
            if narrow:
                stack.enter_context(narrowed(self._positionwise, reads))
            if self.family.one_output:
                logits = self._forward(batch, reads)[:, 0]
                logits = logits if self.family.cut_to_first else logits[reads.rows]
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                return logits if reads.tokens is None else logits[:, reads.tokens]
            if self._hooked_logits:
                logits = self._forward(batch)[reads.rows, reads.positions]
                return logits if reads.tokens is None else logits[:, reads.tokens]
            with reading(self.unembed, *self.unembed_weights(), reads):
                return self._forward(batch)[:, 0]

    def entering(
        self,
        batch: Batch,
        layer: int,
        store: dict[str, Tensor],
        sites: list[Site],
        keep: Callable[[str, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The residual stream [row, pos, d_model] at the entrance of block `layer` (or of the final norm).

        The blocks from there on are not run. `sites` before it are captured into `store`, as `keep` leaves them.
        """
        seen: list[Tensor] = []
        if layer < len(self.entrances):
            stopping = stopping_at(self.entrances[layer], seen)
        else:  # nothing takes in what the last block gives
            stopping = stopping_after(self.at("resid", layer - 1), seen)
        with captured(sites, store, keep=keep), stopping:
            self._forward(batch)
        return seen[0]

    def reaching(
        self, batch: Batch, site: Site, hidden: Float[Tensor, "row pos d_model"] | None
    ) -> Float[Tensor, "row pos width"]:
        """A site's values, its block entered with `hidden` (unless it is the first) and nothing run after the site."""
        seen: list[Tensor] = []
        with started_at(self.entrances, site.start, hidden, self._tuple_output), stopping_after(site, seen):
            self._forward(batch)
        return seen[0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode inside; every module's own mode put back afterwards."""
        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    @cached_property
    def _tuple_output(self) -> bool:
        """Whether blocks return a tuple, as a pass of our own shows: hooks that are there are not to see it."""
        kinds: list[bool] = []
        with set_aside(self.module), self.frozen(), torch.no_grad():
            self.blocks[0].register_forward_hook(lambda m, a, output: kinds.append(isinstance(output, tuple)))
            self._forward(self.trial(1, 2))
        return kinds[0]

    def additive_entrance(self, site: Site) -> int | None:
        """The block where an affine edit of this site can be added to the residual stream, its own block not run.

        None where that block must run: because the site is not additive, or because the user hooked what follows it.
        """
        entrance = site.additive_entrance
        if entrance == len(self.blocks) and not self.family.whole_after:
            return None  # nothing follows the last block, or it is given single positions
        return None if entrance is None or self.user_hooked(site.layer, inside=not site.on_residual) else entrance

    def user_hooked(self, layer: int, *, inside: bool = True) -> bool:
        """Whether a hook that the user attached may act on what block `layer` adds to the residual stream.

        That is a hook at the next entrance or, `inside` the block, one after a projection; between a projection and the
        residual stream lie only modules without parameters.
        """
        if any(following._forward_pre_hooks for following in self.entrances[layer + 1 : layer + 2]):
            return True
        return inside and any(
            part._forward_hooks or (part._forward_pre_hooks and next(part.parameters(), None) is None)
            for part in self.blocks[layer].modules()
        )

    def unseen(self, layer: int) -> bool:
        """Whether a block is a `transformers` module that no hook looks into, so that parts of it may be left out."""
        layer %= len(self.blocks)
        parts = (*self.blocks[layer].modules(), *self.entrances[layer + 1 : layer + 2])
        return self.kind == "transformers" and not any(m._forward_hooks or m._forward_pre_hooks for m in parts)

    @property
    def _hooked_logits(self) -> bool:
        """Whether a hook of the user's sees the logits, so that it must be given all of them."""
        roots = (self.module, getattr(self.module, "original_model", self.module))
        parts = [] if self.unembed is None else list(self.unembed.modules())
        return any(m._forward_hooks for m in roots) or any(m._forward_hooks or m._forward_pre_hooks for m in parts)

    @cached_property
    def _around(self) -> list[nn.Module]:
        """The modules that the blocks lie in: their outputs show every position of the last block."""
        path = self.family.blocks.split(".")
        return [self.module.get_submodule(".".join(path[:depth])) for depth in range(len(path))]

    @cached_property
    def _positionwise(self) -> list[nn.Module]:
        """The parts of the last block that act on each position alone."""
        return [self.blocks[-1].get_submodule(part) for part in self.family.positionwise]

    @property
    def takes_past(self) -> bool:
        """Whether attention can be handed clean keys and values of earlier positions, and a mask of our own.

        Hooks of the user's, which would see only the late positions, speak against it.
        """
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in self.module.modules())
        fits = self.family.causal and self.family.masked_by_position
        if self.kind != "transformers" or hooked or not fits:
            return False
        return self.config._attn_implementation in ("sdpa", "eager")
