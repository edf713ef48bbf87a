"""From an address to a module, a side of it, and a slice of its values.

Every site's values are seen as `[row, pos, width]`, whatever shape the module uses; a unit is a run of that last axis.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from icp.errors import UnitError
from icp.family import Part, Projection, outgoing
from icp.units import Unit

Values = Float[Tensor, "row pos width"]


@dataclass(frozen=True)
class Handles:
    """Several hooks as one."""

    parts: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        for part in self.parts:
            part.remove()


@dataclass(frozen=True, eq=False)
class Site:
    """Where the units of one hook point live in a live model.

    `unit_width` is the number of value dimensions one index covers: `d_head` for attention heads, else 1.
    `block` and `projection` say which weights carry the values into the residual stream; both are None where none do
    (residual and embedding dimensions, queries, keys). `additive` says that an edit here changes the block's output by
    exactly `edit @ outgoing`, so that the block need not run again, and `on_residual` that the values are themselves
    the block's output. `part` is the part of a fused projection's output that is meant, of heads of width `unit_width`.
    `flat` says that the module sees rows and positions as one axis; where `abreast` is not 1, a row holds so many texts
    side by side, which the module sees one under another, and its block is not entered: the whole model runs.
    """

    name: str
    layer: int | None
    module: nn.Module
    side: str
    width: int
    unit_width: int
    additive: bool
    block: nn.Module | None = None
    projection: Projection | None = None
    on_residual: bool = False
    part: Part | None = None
    flat: bool = False
    abreast: int = 1

    @property
    def outgoing(self) -> Float[Tensor, "width d_model"] | None:
        """The projection into the residual stream, a view of the weights as they are now; None where there is none.

        A parameter's storage may be replaced (`param.data = ...`, `load_state_dict(assign=True)`, `module.to(...)`), so
        a view that is kept would go on showing the old one.
        """
        return None if self.projection is None else outgoing(self.block, self.projection)[0].detach()

    @property
    def bias(self) -> Float[Tensor, " d_model"] | None:
        """The bias of that projection as it is now; None where there is none."""
        bias = None if self.projection is None else outgoing(self.block, self.projection)[1]
        return None if bias is None else bias.detach()

    @property
    def start(self) -> int:
        """The block to enter so that a hook here still runs."""
        return 0 if self.layer is None or self.abreast > 1 else self.layer

    @property
    def additive_entrance(self) -> int | None:
        """The block whose input an affine edit here changes by a known amount, or None where a block must rerun."""
        return self.layer + 1 if (self.additive or self.on_residual) and self.abreast == 1 else None

    def columns(self, unit: Unit) -> range:
        """The run of the value axis that `unit` covers; raises `UnitError` where it is out of range."""
        head_site = self.unit_width > 1
        sizes = (self.width // self.unit_width, self.unit_width) if head_site else (self.width,)
        for index, size in zip(unit.index, sizes):
            if not 0 <= index < size:
                raise UnitError(f"unit {unit} is out of range: {self.name} has indices 0 to {size - 1} on that axis")
        if unit.kind in ("head", "query", "key"):
            return range(unit.index[0] * self.unit_width, (unit.index[0] + 1) * self.unit_width)
        flat = unit.index[0] * self.unit_width + unit.index[1] if unit.kind == "value" else unit.index[0]
        return range(flat, flat + 1)

    def hook(self, edit: Callable[[Values], Values | None]) -> "RemovableHandle | Handles":
        """Register `edit` on the module; it sees `[row, pos, width]` and returns a replacement, or None to look on."""
        if not self.flat:
            return self._hook(edit, lambda tensor: side_by_side(tensor, self.abreast))
        shapes: list[torch.Size] = []
        entered = self.block.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape[:2]))
        return Handles((entered, self._hook(edit, lambda tensor: tensor.unflatten(0, shapes[-1]))))

    def _hook(self, edit: Callable[[Values], Values | None], seen: Callable[[Tensor], Values]) -> RemovableHandle:
        hook = _Hook(self, edit, seen)
        if self.side == "input":
            return self.module.register_forward_pre_hook(hook.on_input)
        return self.module.register_forward_hook(hook.on_output)


@dataclass(frozen=True, eq=False)
class _Hook:
    """An edit of a site in the form in which PyTorch calls hooks of its module.

    The module's tensors are `seen` as [row, pos, width of all parts].
    """

    site: Site
    edit: Callable[[Values], Values | None]
    seen: Callable[[Tensor], Values]

    def on_input(self, module, args):
        new = self._replaced(args[0])
        return None if new is None else (new, *args[1:])

    def on_output(self, module, args, output):
        if not isinstance(output, tuple):
            return self._replaced(output)
        new = self._replaced(output[0])
        return None if new is None else (new, *output[1:])

    def _replaced(self, tensor: Tensor) -> Tensor | None:
        part, parts = self.site.part, self._parts(self.seen(tensor))
        index = 0 if part is None else part.index
        new = self.edit(parts[index].flatten(2))
        if new is None:
            return None
        parts[index] = new.view(parts[index].shape)
        return parts[0].view(tensor.shape) if part is None else torch.stack(parts, -2).view(tensor.shape)

    def _parts(self, flat: Values) -> list[Tensor]:
        """All of a module's values, as the parts they are made of."""
        part = self.site.part
        if part is None:
            return [flat]
        inner = self.site.unit_width if part.by_head else self.site.width
        return list(flat.unflatten(-1, (-1, part.count, inner)).unbind(-2))


def side_by_side(tensor: Tensor, abreast: int) -> Values:
    """What a module sees as [text, pos, ...], with so many texts in a row."""
    return tensor.flatten(2).unflatten(0, (-1, abreast)).flatten(1, 2)


def columns_of(sites: dict[str, Site], units: list[Unit], device: torch.device) -> Tensor:
    """Value-axis indices `[unit, width]` of units that are all of one width."""
    return torch.tensor([list(sites[u.site].columns(u)) for u in units], device=device)
