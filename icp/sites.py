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
from icp.units import Unit

Values = Float[Tensor, "row pos width"]


@dataclass(frozen=True, eq=False)
class Site:
    """Where the units of one hook point live in a live model.

    `unit_width` is the number of value dimensions one index covers: `d_head` for attention heads, else 1.
    `outgoing` is the projection into the residual stream `[width, d_model]` (a view of the live weights) and `bias`
    its bias; both are None for residual and embedding dimensions. `additive` says that an edit here changes the
    block's output by exactly `edit @ outgoing`, so that the block need not run again.
    """

    name: str
    layer: int | None
    module: nn.Module
    side: str
    width: int
    unit_width: int
    additive: bool
    outgoing: Tensor | None = None
    bias: Tensor | None = None

    @property
    def start(self) -> int:
        """The block to enter so that a hook here still runs."""
        return 0 if self.layer is None else self.layer

    @property
    def additive_entrance(self) -> int | None:
        """The block whose input an affine edit here changes by a known amount, or None where a block must rerun."""
        on_residual = self.outgoing is None and self.layer is not None
        return self.layer + 1 if self.additive or on_residual else None

    def columns(self, unit: Unit) -> range:
        """The run of the value axis that `unit` covers; raises `UnitError` where it is out of range."""
        head_site = self.unit_width > 1
        sizes = (self.width // self.unit_width, self.unit_width) if head_site else (self.width,)
        for index, size in zip(unit.index, sizes):
            if not 0 <= index < size:
                raise UnitError(f"unit {unit} is out of range: {self.name} has indices 0 to {size - 1} on that axis")
        if unit.kind == "head":
            return range(unit.index[0] * self.unit_width, (unit.index[0] + 1) * self.unit_width)
        flat = unit.index[0] * self.unit_width + unit.index[1] if unit.kind == "value" else unit.index[0]
        return range(flat, flat + 1)

    def hook(self, edit: Callable[[Values], Values | None]) -> RemovableHandle:
        """Register `edit` on the module; it sees `[row, pos, width]` and returns a replacement, or None to look on."""

        def replaced(tensor):
            new = edit(tensor.flatten(2))
            return None if new is None else new.view(tensor.shape)

        if self.side == "input":

            def pre(module, args):
                new = replaced(args[0])
                return None if new is None else (new, *args[1:])

            return self.module.register_forward_pre_hook(pre)

        def post(module, args, output):
            if not isinstance(output, tuple):
                return replaced(output)
            new = replaced(output[0])
            return None if new is None else (new, *output[1:])

        return self.module.register_forward_hook(post)


def columns_of(sites: dict[str, Site], units: list[Unit], device: torch.device) -> Tensor:
    """Value-axis indices `[unit, width]` of units that are all of one width."""
    return torch.tensor([list(sites[u.site].columns(u)) for u in units], device=device)
