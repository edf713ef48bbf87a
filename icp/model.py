"""A `Model` is a module that computes, its tokenizer, its architecture row, and what was done to it."""

import copy
import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from icp.errors import ModelError
from icp.families import family_of
from icp.family import Family
from icp.images import Patches
from icp.quiet import quiet_transformers
from icp.running import Running
from icp.units import TOWERS, Unit
from icp.weights import copied, weights_digest

TOWER, TOWER_FORMAT = "icp_tower.json", ("icp-tower", 1)
CHECKPOINT_FILES = ("icp_selection.safetensors", TOWER, "generation_config.json", "model.safetensors.index.json")


@dataclass(frozen=True, eq=False)
class Model(Running):
    """What `load` returns.

    `kind` is `"transformers"`, `"bridge"` or `"hooked_transformer"`: the module computes on itself whichever it is.
    `selection` is what was cut from it, where something was (see `icp.prune`). Of a model with two towers it is one of
    them, with the tokenizer of the texts or the `Patches` of the images that it reads: `beside` has those of the other.
    With `captions` by class, images are classified by them, whichever tower it is: `beside` is then the tokenizer of
    the captions.
    """

    module: nn.Module
    tokenizer: Any
    family: Family
    kind: str
    name: str
    selection: Any = None
    tuning: Any = None
    captions: dict[str, str] | None = None
    beside: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what was found out about the live module: a copy of that would hold on to tensors of its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The configs of all that computes: a bridge has its own and that of the module it is laid over."""
        own = self.module.config if self.kind == "transformers" else self.module.cfg
        original = [self.module.original_model.config] if self.kind == "bridge" else []
        captions = [] if self.captions is None else [{"captions": self.captions}]
        return [*(config.to_dict() for config in (own, *original)), *captions]

    @cached_property
    def other(self) -> "Model":
        """The other tower of the same module, under the same captions if any.

        Raises `ModelError` where there is one tower.
        """
        if self.family.tower is None:
            raise ModelError(f"{self.name} has one tower: there is no other")
        (tower,) = (tower for tower in TOWERS if tower != self.family.tower)
        family = family_of(self._model_type, tower)
        if self.captions is None:
            return replace(self, tokenizer=self.beside, beside=self.tokenizer, family=family)
        reader = self.captioned.patches if self.family.abreast else self.captioned
        return replace(self, tokenizer=reader, family=family.captioned())

    @property
    def towers(self) -> "tuple[Model, ...]":
        """This model and, of two towers, the other."""
        return (self,) if self.family.tower is None else (self, self.other)

    def holding(self, unit: Unit) -> "Model":
        """The tower of this module that a unit of either is in: this model, where there is one."""
        either = self.family.tower is not None and unit.tower is not None
        return self.other if either and unit.tower != self.family.tower else self

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages besides torch whose code computes."""
        lens = {"transformers": (), "bridge": ("transformer-lens",), "hooked_transformer": ("transformer-lens",)}
        return ("transformers", *lens[self.kind])

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

    def view(self):
        """A `TransformerBridge` over the same weights, to look inside with.

        Parameters are shared (a GPT-2 or GPT-NeoX bridge holds its own split q, k and v); this model's module tree
        stays as it is. A model that is a TransformerLens model already is its own view. Raises `ModelError` where
        TransformerLens does not have the architecture.
        """
        if self.kind != "transformers":
            return self.module
        if self.unviewable is not None:
            raise ModelError(f"{self.unviewable}, so that there is no view of {self.name}")
        from transformer_lens.model_bridge import TransformerBridge

        shared = copy.deepcopy(self.module, memo={id(p): p for p in self.module.parameters()})
        shared.config.architectures = [self._listed]
        tokenizer = None if self.family.pixels else copy.deepcopy(self.tokenizer)
        return TransformerBridge.boot_transformers(
            self.name, hf_model=shared, tokenizer=tokenizer, device=self.device, dtype=self.dtype
        )

    @property
    def unviewable(self) -> str | None:
        """Why there is no view: TransformerLens does not list the architecture. None where it does."""
        if self.kind != "transformers" or self._listed is not None:
            return None
        return f"TransformerLens {version('transformer-lens')} has no {type(self.module).__name__}"

    @property
    def _listed(self) -> str | None:
        """The name by which TransformerLens has the architecture, if it has it."""
        from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

        names = (kind.__name__ for kind in type(self.module).__mro__)
        return next((name for name in names if name in SUPPORTED_ARCHITECTURES), None)

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
        if self.family.tower is None:
            return f"{self._model_type}, {self._sizes}"
        sizes = {each.family.tower: each._sizes for each in (self, self.other)}
        return ", ".join([self._model_type, *(f"{tower}: {sizes[tower]}" for tower in TOWERS)])

    @cached_property
    def _sizes(self) -> str:
        widest, head = self.at("neuron", 0), self.at("head", 0)
        outputs = "no head" if self.unembed is None else f"vocab {len(self.unembed_weights()[0])}"
        heads = head.width // head.unit_width
        sizes = f"heads {heads}x{head.unit_width}, d_mlp {widest.width}, {outputs}"
        return f"layers {len(self.blocks)}, d_model {self.d_model}, {sizes}"

    @property
    def _model_type(self) -> str:
        """The architecture's own name, the same for a model and for its bridge."""
        if self.kind == "hooked_transformer":
            return str(self.config.original_architecture or self.kind)
        return (self.module.original_model if self.kind == "bridge" else self.module).config.model_type

    @cached_property
    def _tokenizer_digest(self) -> str:
        read = [self.tokenizer] if self.beside is None else [self.tokenizer, self.beside]
        return " and ".join(sorted(map(_digest, read)))

    def copy(self) -> "Model":
        """A model of the same kind with weights of its own."""
        return replace(self, module=copied(self.module))

    def save_pretrained(self, folder: "str | Path") -> Path:
        """Write the weights, tokenizer and, where something was cut, the selection; `transformers` loads the folder.

        Of a model with two towers all is written, and which tower this is, so that `icp.load(folder)` gives the same.
        The folder appears whole or not at all. Raises `ModelError` for TransformerLens models, which have no
        `transformers` checkpoint.
        """
        from icp.files import write_json, writing_folder

        if self.kind != "transformers":
            raise ModelError(
                f"a {self.kind} has no transformers checkpoint: load the same model with icp.load(<hub id>) to save it"
            )
        with quiet_transformers(), writing_folder(folder, "config.json", '"model_type"', CHECKPOINT_FILES) as work:
            self.module.save_pretrained(work)
            for read in (self.tokenizer, self.beside):
                if read is not None:
                    read.save_pretrained(work)
            if self.selection is not None:
                self.selection.save(work / "icp_selection.safetensors")
            if self.family.tower is not None:
                write_json(work / TOWER, *TOWER_FORMAT, {"tower": self.family.tower, "captions": self.captions})
        return Path(folder)


def _digest(tokenizer: Any) -> str:
    if isinstance(tokenizer, Patches):
        return tokenizer.digest
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(vocab).encode()).hexdigest()[:16]
