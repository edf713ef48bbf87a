"""Where everything is in a live model: blocks, sites, units, and the head that its output is read from."""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from icp.errors import UnitError
from icp.family import Family, outgoing, unwrap
from icp.sites import Site
from icp.tokenizing import Classes, Masked, Represented
from icp.units import KINDS, Unit, site_name


class Anatomy:
    """Base class of `icp.model.Model`, which has these fields: a module read by its architecture row."""

    module: nn.Module
    tokenizer: Any
    family: Family
    kind: str
    name: str
    captions: dict[str, str] | None
    beside: Any

    @property
    def config(self) -> Any:
        """The module's, or its tower's."""
        whole = self.module.config if self.kind == "transformers" else self.module.cfg
        return getattr(whole, f"{self.family.tower}_config") if self.family.tower else whole

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return list(self.module.get_submodule(self.family.blocks))

    @cached_property
    def entrances(self) -> list[nn.Module]:
        """The blocks and, last, what takes in their output: where a residual stream can be read or handed in."""
        after = [] if self.family.after is None else [self.module.get_submodule(self.family.after)]
        return [*self.blocks, *after]

    @property
    def unembed(self) -> nn.Module | None:
        """None where there is no head."""
        return None if self.family.unembed is None else self.module.get_submodule(self.family.unembed)

    def unembed_weights(self) -> tuple[Tensor, Tensor | None]:
        """[vocab, d_model] and the bias [vocab] or None; of a classification head, a row a class."""
        module = unwrap(self.unembed)
        if hasattr(module, "W_U"):
            return module.W_U.T, module.b_U
        return module.weight, module.bias

    def vocabulary_read(self, property: Any) -> int:
        """How many logits a position costs when this property reads it."""
        if self.family.represents:
            return self.module.config.projection_dim if self.family.tower else self.d_model
        if not property.reads_whole_vocabulary:
            return 1
        return len(self.classes.names) if self.classes else self.unembed_weights()[0].shape[0]

    @cached_property
    def classes(self) -> Classes | None:
        """The classes of a classification head, or of captions; None for a language model."""
        if self.family.reads == "captions":
            return Classes(tuple(self.captions), first=True)
        if self.family.reads not in ("last", "first"):
            return None
        names = tuple(self.config.id2label[number] for number in range(self.config.num_labels))
        return Classes(names, first=self.family.reads == "first")

    @property
    def answered_by(self) -> Any:
        """What knows where an answer is read and its column of logits: `Classes`, `Masked` or the tokenizer.

        Of a model without a head, what gives the representation of an answer.
        """
        if self.family.reads == "mask":
            return Masked(self.tokenizer)
        if self.family.represents:
            return Represented(self.represent)
        return self.classes or self.tokenizer

    @property
    def context(self) -> int | None:
        """The longest input in tokens, where the config says so."""
        longest = getattr(self.config, "max_position_embeddings", None) or getattr(self.config, "n_ctx", None)
        return longest and longest - self.family.first_position(self.config)

    @property
    def d_model(self) -> int:
        if self.unembed is None:
            return outgoing(self.blocks[0], self.family.attn_out)[0].shape[1]
        return self.unembed_weights()[0].shape[1]

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
        embed, d_model = self.module.get_submodule(family.embed), self.d_model
        named = partial(site_name, tower=family.tower)
        sites = [Site(named("embed", None), None, embed, "output", d_model, 1, False)]
        for layer, block in enumerate(self.blocks):
            d_head = outgoing(block, family.attn_out)[0].shape[0] // n_heads
            for kind, point, count in (("query", family.queries, n_heads), ("key", family.keys, n_key_heads)):
                module, name = block.get_submodule(point.module), named(kind, layer)
                sites.append(Site(name, layer, module, point.side, count * d_head, d_head, False, part=point.part))
            for kind, point, projection in (
                ("head", family.heads, family.attn_out),
                ("neuron", family.neurons, family.mlp_out),
            ):
                width = outgoing(block, projection)[0].shape[0]
                unit_width = width // n_heads if kind == "head" else 1
                additive = family.norm == "before" and (parallel or kind == "neuron")
                module, where = block.get_submodule(point.module), (named(kind, layer), layer)
                values = width, unit_width, additive, block, projection
                sites.append(Site(*where, module, point.side, *values, flat=point.flat))
            sites.append(Site(named("resid", layer), layer, block, "output", d_model, 1, False, on_residual=True))
        abreast = len(self.captions) if family.abreast else 1
        return {site.name: replace(site, abreast=abreast) for site in sites}

    def at(self, kind: str, layer: int | None) -> Site:
        """The site where units of `kind` live in block `layer`, None for the embedding."""
        return self.sites[site_name(kind, layer, self.family.tower)]

    def site(self, unit: Unit | str) -> Site:
        """The site of a unit; raises `UnitError` where the model has no such site or no such index."""
        unit = Unit.parse(unit)
        if unit.site not in self.sites:
            if unit.tower != self.family.tower and unit.tower and self.family.tower:
                raise UnitError(
                    f"{unit} is in the {unit.tower} tower, and this is the {self.family.tower} tower of {self.name}: "
                    "model.other is the other one"
                )
            before = f"{self.family.tower}." if self.family.tower else ""
            raise UnitError(
                f"no site {unit.site!r} in {self.name}: it has {len(self.blocks)} blocks, "
                f"{before}blocks.0 to {before}blocks.{len(self.blocks) - 1}, and {before}hook_embed"
            )
        self.sites[unit.site].columns(unit)
        return self.sites[unit.site]

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
                site = self.at(kind, layer)
                count = site.width // site.unit_width
                match kind:
                    case "value":
                        found += [Unit(site.name, (h, d)) for h in range(count) for d in range(site.unit_width)]
                    case _:
                        found += [Unit(site.name, (i,)) for i in range(count)]
        return sorted(found)

    def attention(self, layer: int) -> nn.Module:
        """The attention of a block, whose first output is added to the residual stream."""
        return self.blocks[layer].get_submodule(self.family.attention)
