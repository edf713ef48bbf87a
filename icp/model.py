"""`Model`: a module that computes, its tokenizer, its architecture row, and its sites. `icp.loading` makes them."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icp.batch import Batch
from icp.errors import ModelError, ProbeError, UnitError
from icp.families import CLASSIFIER, Family, outgoing, unwrap
from icp.hooks import (
    Reads,
    captured,
    narrowed,
    reading,
    set_aside,
    standing_in,
    started_at,
    stopping_after,
    stopping_at,
)
from icp.quiet import quiet_transformers
from icp.sites import Site
from icp.tokenizing import Classes
from icp.units import KINDS, Unit, site_name
from icp.weights import copied, weights_digest

CHECKPOINT_FILES = ("icp_selection.safetensors", "generation_config.json", "model.safetensors.index.json")


@dataclass(frozen=True, eq=False)
class Model:
    """What `load` returns.

    `kind` is `"transformers"`, `"bridge"` or `"hooked_transformer"`: the module computes on itself whichever it is.
    `selection` is what was cut from it, where something was (see `icp.prune`).
    """

    module: nn.Module
    tokenizer: Any
    family: Family
    kind: str
    name: str
    selection: Any = None
    tuning: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what was found out about the live module: a copy of that would hold on to tensors of its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def config(self) -> Any:
        return self.module.config if self.kind == "transformers" else self.module.cfg

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The configs of all that computes: a bridge has its own and that of the module it is laid over."""
        original = [self.module.original_model.config] if self.kind == "bridge" else []
        return [config.to_dict() for config in (self.config, *original)]

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages besides torch whose code computes."""
        lens = {"transformers": (), "bridge": ("transformer-lens",), "hooked_transformer": ("transformer-lens",)}
        return ("transformers", *lens[self.kind])

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return list(self.module.get_submodule(self.family.blocks))

    @cached_property
    def entrances(self) -> list[nn.Module]:
        """The blocks and, after them, the final norm: where a residual stream can be read or handed in."""
        return [*self.blocks, self.module.get_submodule(self.family.final_norm)]

    @property
    def unembed(self) -> nn.Module:
        return self.module.get_submodule(self.family.unembed)

    @cached_property
    def classes(self) -> Classes | None:
        """The classes of a classification head, read at the last token; None for a language model."""
        if self.family.unembed != CLASSIFIER:
            return None
        return Classes(tuple(self.config.id2label[number] for number in range(self.config.num_labels)))

    @property
    def answered_by(self) -> Any:
        """What knows the column of logits that an answer has: the tokenizer or, of a classification head, `Classes`."""
        return self.classes or self.tokenizer

    @property
    def context(self) -> int | None:
        """The longest input in tokens, where the config says so."""
        return getattr(self.config, "max_position_embeddings", None) or getattr(self.config, "n_ctx", None)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Every site by its hook point name, in the order in which a forward pass meets them."""
        family, config = self.family, self.config
        parallel, n_heads = bool(family.parallel(config)), int(family.n_heads(config))
        n_key_heads = int(family.n_key_heads(config))
        embed = self.module.get_submodule(family.embed)
        d_model = self.unembed_weights()[0].shape[1]
        sites = [Site(site_name("embed", None), None, embed, "output", d_model, 1, False)]
        for layer, block in enumerate(self.blocks):
            d_head = outgoing(block, family.attn_out)[0].shape[0] // n_heads
            for kind, point, count in (("query", family.queries, n_heads), ("key", family.keys, n_key_heads)):
                module, name = block.get_submodule(point.module), site_name(kind, layer)
                sites.append(Site(name, layer, module, point.side, count * d_head, d_head, False, part=point.part))
            for kind, point, projection in (
                ("head", family.heads, family.attn_out),
                ("neuron", family.neurons, family.mlp_out),
            ):
                width = outgoing(block, projection)[0].shape[0]
                unit_width = width // n_heads if kind == "head" else 1
                additive = parallel or kind == "neuron"
                module = block.get_submodule(point.module)
                name = site_name(kind, layer)
                sites.append(Site(name, layer, module, point.side, width, unit_width, additive, block, projection))
            sites.append(Site(site_name("resid", layer), layer, block, "output", d_model, 1, False, on_residual=True))
        return {site.name: site for site in sites}

    def site(self, unit: Unit | str) -> Site:
        """The site of a unit; raises `UnitError` where the model has no such site or no such index."""
        unit = Unit.parse(unit)
        if unit.site not in self.sites:
            raise UnitError(
                f"no site {unit.site!r} in {self.name}: it has {len(self.blocks)} blocks, "
                f"blocks.0 to blocks.{len(self.blocks) - 1}, and hook_embed"
            )
        self.sites[unit.site].columns(unit)
        return self.sites[unit.site]

    def additive_entrance(self, site: Site) -> int | None:
        """The block where an affine edit of this site can be added to the residual stream, its own block not run.

        None where that block must run: because the site is not additive, or because the user hooked what follows it.
        """
        entrance = site.additive_entrance
        return None if entrance is None or self.user_hooked(site.layer, inside=not site.on_residual) else entrance

    def user_hooked(self, layer: int, *, inside: bool = True) -> bool:
        """Whether a hook that the user attached may act on what block `layer` adds to the residual stream.

        That is a hook at the next entrance or, `inside` the block, one after a projection; between a projection and the
        residual stream lie only modules without parameters.
        """
        if self.entrances[layer + 1]._forward_pre_hooks:
            return True
        return inside and any(
            part._forward_hooks or (part._forward_pre_hooks and next(part.parameters(), None) is None)
            for part in self.blocks[layer].modules()
        )

    def units(self, *kinds: str, layers: "list[int] | range | None" = None) -> list[Unit]:
        """Every unit of the named kinds (`neuron`, `head`, `value`, `resid`, `embed`, `query`, `key`), by block.

        `layers` narrows it to some blocks. Raises `UnitError` for an unknown kind or block.
        """
        if not kinds:
            raise UnitError(f"name at least one kind of unit: {', '.join(KINDS)}")
        for layer in layers if layers is not None else ():
            if not 0 <= layer < len(self.blocks):
                raise UnitError(f"no block {layer} in {self.name}: it has blocks 0 to {len(self.blocks) - 1}")
        found = []
        for kind in dict.fromkeys(kinds):
            chosen = [None] if kind == "embed" else (range(len(self.blocks)) if layers is None else layers)
            for layer in chosen:
                site = self.sites[site_name(kind, layer)]
                count = site.width // site.unit_width
                match kind:
                    case "value":
                        found += [Unit(site.name, (h, d)) for h in range(count) for d in range(site.unit_width)]
                    case _:
                        found += [Unit(site.name, (i,)) for i in range(count)]
        return sorted(found)

    def pad(self, sequences: list[list[int]], side: str = "right") -> Batch:
        """Token lists as one batch on the model's device, padded on `side`.

        Raises `ProbeError` where one is longer than the model's context.
        """
        if side not in ("left", "right"):
            raise ModelError(f"unknown padding side {side!r}: use 'left' or 'right'")
        longest = max(len(s) for s in sequences)
        if self.context is not None and longest > self.context:
            words = self.tokenizer.decode(max(sequences, key=len)[:60], skip_special_tokens=True).split()
            raise ProbeError(
                f"{' '.join(words)[:60]!r} has {longest} tokens, {self.name} reads at most {self.context}: shorten it"
            )
        filler = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        return Batch.padded(sequences, side, filler, self.device)

    def _forward(self, batch: Batch) -> Tensor:
        if self.kind == "hooked_transformer":
            return self.module(batch.ids, attention_mask=batch.mask.long(), return_type="logits")
        if self.classes is not None:  # its own forward pass keeps the last token's logits only
            hidden = self.module.base_model(**batch.arguments(), use_cache=False).last_hidden_state
            return self.unembed(hidden)
        module = self.module.original_model if self.kind == "bridge" else self.module
        return module(**batch.arguments(), use_cache=False).logits

    def unembed_weights(self) -> tuple[Tensor, Tensor | None]:
        """[vocab, d_model] and the bias [vocab] or None; of a classification head, a row a class."""
        module = unwrap(self.unembed)
        if hasattr(module, "W_U"):
            return module.W_U.T, module.b_U
        return module.weight, module.bias

    def vocabulary_read(self, property: Any) -> int:
        """How many logits a position costs when this property reads it."""
        return self.unembed_weights()[0].shape[0] if property.reads_whole_vocabulary else 1

    def logits(self, batch: Batch) -> Float[Tensor, "row pos vocab"]:
        """All logits, under whatever hooks are installed."""
        return self._forward(batch)

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
        narrow = 2 * len(reads.rows) < batch.ids.numel() and not seen
        with ExitStack() as stack:
            stack.enter_context(started_at(self.entrances, start, hidden, self._tuple_output))
            if attention is not None:
                stack.enter_context(standing_in(self.attention(start), attention))
            if narrow:
                stack.enter_context(narrowed(self._positionwise, reads))
            if self._hooked_logits:
                logits = self._forward(batch)[reads.rows, reads.positions]
                return logits if reads.tokens is None else logits[:, reads.tokens]
            with reading(self.unembed, *self.unembed_weights(), reads):
                return self._forward(batch)[:, 0]

    def attention(self, layer: int) -> nn.Module:
        """The attention of a block, whose first output is added to the residual stream."""
        return self.blocks[layer].get_submodule(self.family.attn_out.module.rpartition(".")[0])

    @cached_property
    def _around(self) -> list[nn.Module]:
        """The modules that the final norm lies in: their outputs show every position of the last block."""
        path = self.family.final_norm.split(".")
        return [self.module.get_submodule(".".join(path[:depth])) for depth in range(len(path))]

    @cached_property
    def _positionwise(self) -> list[nn.Module]:
        """The parts of the last block that act on each position alone: the MLP and the attention's output."""
        parts = self.family.mlp_out.module.rpartition(".")[0], self.family.attn_out.module
        return [self.blocks[-1].get_submodule(part) for part in parts]

    @property
    def takes_past(self) -> bool:
        """Whether attention can be handed clean keys and values of earlier positions, and a mask of our own.

        Hooks of the user's, which would see only the late positions, speak against it.
        """
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in self.module.modules())
        if self.kind != "transformers" or hooked or not self.family.masked_by_position:
            return False
        return self.config._attn_implementation in ("sdpa", "eager")

    def unseen(self, layer: int) -> bool:
        """Whether a block is a `transformers` module that no hook looks into, so that parts of it may be left out."""
        following = self.entrances[1:][layer]
        parts = (*self.blocks[layer].modules(), following)
        return self.kind == "transformers" and not any(m._forward_hooks or m._forward_pre_hooks for m in parts)

    @property
    def _hooked_logits(self) -> bool:
        """Whether a hook of the user's sees the logits, so that it must be given all of them."""
        roots = (self.module, getattr(self.module, "original_model", self.module))
        parts = self.unembed.modules()
        return any(m._forward_hooks for m in roots) or any(m._forward_hooks or m._forward_pre_hooks for m in parts)

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
        with captured(sites, store, keep=keep), stopping_at(self.entrances[layer], seen):
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

    @cached_property
    def _tuple_output(self) -> bool:
        """Whether blocks return a tuple, as a pass of our own shows: hooks that are there are not to see it."""
        kinds: list[bool] = []
        with set_aside(self.module), self.frozen(), torch.no_grad():
            self.blocks[0].register_forward_hook(lambda m, a, output: kinds.append(isinstance(output, tuple)))
            self._forward(self.pad([[0, 1]]))
        return kinds[0]

    def require_unchanged(self) -> None:
        """Raise `ModelError` where modules were replaced since they were first looked up, or adapters put on them."""
        if any("BaseTunerLayer" in {base.__name__ for base in type(m).__mro__} for m in self.module.modules()):
            raise ModelError(
                f"adapters were put on the module of {self.name} after it was loaded: load the peft model around it"
            )
        try:
            now = replace(self)
            same = [*map(id, now.entrances)] == [*map(id, self.entrances)] and all(
                site.module is self.sites[name].module and site.block is self.sites[name].block
                for name, site in now.sites.items()
            )
        except AttributeError:
            same = False
        if not same:
            raise ModelError(f"modules of {self.name} were replaced after it was loaded: load the module again")

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

    def view(self):
        """A `TransformerBridge` over the same weights, to look inside with.

        Parameters are shared (a GPT-2 or GPT-NeoX bridge holds its own split q, k and v); this model's module tree
        stays as it is. A model that is a TransformerLens model already is its own view.
        """
        if self.kind != "transformers":
            return self.module
        if self.classes is not None:
            raise ModelError("TransformerLens has no classification heads: view the language model that it is based on")
        from transformer_lens.model_bridge import TransformerBridge

        shared = copy.deepcopy(self.module, memo={id(p): p for p in self.module.parameters()})
        return TransformerBridge.boot_transformers(
            self.name, hf_model=shared, tokenizer=copy.deepcopy(self.tokenizer), device=self.device, dtype=self.dtype
        )

    @property
    def binding(self) -> dict[str, str]:
        """Digests of the architecture, the tokenizer and the weights, as artefacts record them."""
        return {
            "architecture": self._architecture,
            "tokenizer": self._tokenizer_digest,
            "weights": weights_digest(self.module),
        }

    @cached_property
    def _architecture(self) -> str:
        widest = self.sites[site_name("neuron", 0)]
        head = self.sites[site_name("head", 0)]
        vocab, d_model = self.unembed_weights()[0].shape
        heads = head.width // head.unit_width
        sizes = f"heads {heads}x{head.unit_width}, d_mlp {widest.width}, vocab {vocab}"
        return f"{self._model_type}, layers {len(self.blocks)}, d_model {d_model}, {sizes}"

    @property
    def _model_type(self) -> str:
        """The architecture's own name, the same for a model and for its bridge."""
        if self.kind == "hooked_transformer":
            return str(self.config.original_architecture or self.kind)
        return (self.module.original_model if self.kind == "bridge" else self.module).config.model_type

    @cached_property
    def _tokenizer_digest(self) -> str:
        vocab = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256(json.dumps(vocab).encode()).hexdigest()[:16]

    def copy(self) -> "Model":
        """A model of the same kind with weights of its own."""
        return replace(self, module=copied(self.module))

    def save_pretrained(self, folder: "str | Path") -> Path:
        """Write the weights, tokenizer and, where something was cut, the selection; `transformers` loads the folder.

        The folder appears whole or not at all. Raises `ModelError` for TransformerLens models, which have no
        `transformers` checkpoint.
        """
        from icp.files import writing_folder

        if self.kind != "transformers":
            raise ModelError(
                f"a {self.kind} has no transformers checkpoint: load the same model with icp.load(<hub id>) to save it"
            )
        with quiet_transformers(), writing_folder(folder, "config.json", '"model_type"', CHECKPOINT_FILES) as work:
            self.module.save_pretrained(work)
            self.tokenizer.save_pretrained(work)
            if self.selection is not None:
                self.selection.save(work / "icp_selection.safetensors")
        return Path(folder)
