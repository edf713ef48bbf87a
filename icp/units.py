"""Addresses of units, spelt as TransformerLens spells hook points.

| kind | spelling | what it is |
|---|---|---|
| neuron | `blocks.3.mlp.hook_post[512]` | an MLP activation after the non-linearity |
| head | `blocks.5.attn.hook_z[2]` | an attention head's output before the output projection |
| value | `blocks.5.attn.hook_z[2,17]` | one dimension of a head's output |
| resid | `blocks.4.hook_resid_post[33]` | one dimension of the residual stream after a block |
| embed | `hook_embed[12]` | one dimension of the token embedding; of images, of what the first block takes in |
| query | `blocks.5.attn.hook_q[2]` | an attention head's queries, before any rotary embedding |
| key | `blocks.5.attn.hook_k[0]` | a key head's keys, before any rotary embedding; there is one a key-value head |

Where a model has two towers, theirs comes first: `vision.blocks.3.mlp.hook_post[512]`, `text.hook_embed[12]`.
"""

import re
from dataclasses import dataclass
from functools import cached_property, total_ordering
from typing import Any

from icp.errors import UnitError

KINDS = ("neuron", "head", "value", "resid", "embed", "query", "key")

TOWERS = ("text", "vision")

_ADDRESS = re.compile(r"^(?P<site>[A-Za-z_][\w.]*)\[(?P<index>\d+(?:\s*,\s*\d+)*)\]$")
_SITES = {
    re.compile(r"^blocks\.(\d+)\.mlp\.hook_post$"): {1: "neuron"},
    re.compile(r"^blocks\.(\d+)\.attn\.hook_z$"): {1: "head", 2: "value"},
    re.compile(r"^blocks\.(\d+)\.attn\.hook_q$"): {1: "query"},
    re.compile(r"^blocks\.(\d+)\.attn\.hook_k$"): {1: "key"},
    re.compile(r"^blocks\.(\d+)\.hook_resid_post$"): {1: "resid"},
    re.compile(r"^hook_embed$"): {1: "embed"},
}


def site_name(kind: str, layer: int | str | None, tower: str | None = None) -> str:
    """The hook point where units of `kind` live in block `layer` (None for the embedding, `"L"` for any block)."""
    before = f"{tower}." if tower else ""
    match kind:
        case "neuron":
            return f"{before}blocks.{layer}.mlp.hook_post"
        case "head" | "value":
            return f"{before}blocks.{layer}.attn.hook_z"
        case "query":
            return f"{before}blocks.{layer}.attn.hook_q"
        case "key":
            return f"{before}blocks.{layer}.attn.hook_k"
        case "resid":
            return f"{before}blocks.{layer}.hook_resid_post"
        case "embed":
            return f"{before}hook_embed"
    raise UnitError(f"unknown kind of unit {kind!r}: use one of {', '.join(KINDS)}")


@total_ordering
@dataclass(frozen=True)
class Unit:
    """A frozen address. It holds no activations; ordering is by block, then site, then index."""

    site: str
    index: tuple[int, ...]

    def __post_init__(self):
        _ = self.kind  # an address that names no kind of unit never comes to exist

    @classmethod
    def parse(cls, address: Any) -> "Unit":
        """Read an address such as `blocks.3.mlp.hook_post[512]`.

        Raises `UnitError` where the spelling or the site is not one of those in the module's table.
        """
        if isinstance(address, Unit):
            return address
        if not isinstance(address, str):
            raise UnitError(f"{address!r} is no unit: give an address such as blocks.3.mlp.hook_post[512], or a Unit")
        found = _ADDRESS.match(address.strip())
        if not found:
            raise UnitError(
                f"cannot read the unit address {address!r}: "
                "write it as TransformerLens prints hook points, such as blocks.3.mlp.hook_post[512]"
            )
        return cls(found["site"], tuple(int(i) for i in found["index"].split(",")))

    @cached_property
    def _match(self) -> tuple[int | None, str]:
        inside = self.site.removeprefix(f"{self.tower}.")
        for pattern, kinds in _SITES.items():
            found = pattern.match(inside)
            if found and len(self.index) in kinds:
                return (int(found[1]) if found.groups() else None), kinds[len(self.index)]
        raise UnitError(
            f"unknown site {self.site!r} with {len(self.index)} index(es): the sites are blocks.L.mlp.hook_post[i], "
            "blocks.L.attn.hook_z[head], blocks.L.attn.hook_z[head,dim], blocks.L.attn.hook_q[head], "
            "blocks.L.attn.hook_k[key head], blocks.L.hook_resid_post[i] and hook_embed[i], after 'text.' or 'vision.' "
            "where a model has two towers"
        )

    @property
    def tower(self) -> str | None:
        """`"text"` or `"vision"` where the model has two towers."""
        first = self.site.partition(".")[0]
        return first if first in TOWERS else None

    @property
    def layer(self) -> int | None:
        """The block, or None for the embedding."""
        return self._match[0]

    @property
    def kind(self) -> str:
        return self._match[1]

    @property
    def _order(self) -> tuple:
        return (-1 if self.layer is None else self.layer, self.site, len(self.index), self.index)

    def __lt__(self, other: "Unit") -> bool:
        return self._order < other._order

    def __str__(self) -> str:
        return f"{self.site}[{','.join(map(str, self.index))}]"

    def __repr__(self) -> str:
        return f"Unit({str(self)!r})"
