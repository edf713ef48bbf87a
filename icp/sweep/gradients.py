"""A forward pass that keeps its graph, and the gradients of P that are read off it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from icp.bound import Property
from icp.errors import IcpError
from icp.hooks import captured
from icp.model import Model
from icp.sites import Site
from icp.sweep.plan import Layout, require_finite


@dataclass(frozen=True, eq=False)
class Trace:
    """The sum of P over the rows, and the values [row, pos, width] of `sites` by their names, on one graph.

    `entered[l]` and `left[l]` are the residual stream [row, pos, d_model] before and after block `l`.
    """

    sites: list[Site]
    total: Tensor
    values: dict[str, Tensor]
    entered: dict[int, Tensor]
    left: dict[int, Tensor]

    def gradients(self, *, keep: bool = False) -> dict[str, Tensor]:
        """dP/da [row, pos, width] of every site; `keep` leaves the graph for more of them."""
        found = torch.autograd.grad(self.total, [self.values[site.name] for site in self.sites], retain_graph=keep)
        return dict(zip((site.name for site in self.sites), found))

    def dropped(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """(l, gradients that pass block `l` by its skip connection alone), of the sites before it, for each block `l`.

        The gradient at the block's output is handed to its input, and goes on from there; a block with no site before
        it is left out, and a site's own block passes it nothing.
        """
        earlier = {layer: [site for site in self.sites if _is_before(site, layer)] for layer in sorted(self.left)}
        layers = [layer for layer, sites in earlier.items() if sites]
        if not layers:
            return
        skipped = torch.autograd.grad(self.total, [self.left[layer] for layer in layers], retain_graph=True)
        for layer, gradient in zip(layers, skipped):
            values = [self.values[site.name] for site in earlier[layer]]
            found = torch.autograd.grad(self.entered[layer], values, gradient, retain_graph=True)
            yield layer, dict(zip((site.name for site in earlier[layer]), found))


class Dropping:
    """GradDrop's average over blocks of the estimates of one site's units, [unit, example] each."""

    def __init__(self, plain: Tensor):
        self.plain, self.total = plain, torch.zeros_like(plain)

    def take(self, estimate: Tensor) -> None:
        """Add the estimate with one block dropped that comes after the site."""
        self.total += estimate.abs()

    def estimate(self, site: Site, blocks: int) -> Tensor:
        """The mean over all blocks that the units are not in; dropping one that comes before them changes nothing."""
        earlier = 0 if site.layer is None else site.layer + site.on_residual
        inside = site.layer is not None and not site.on_residual
        magnitude = (self.total + earlier * self.plain.abs()) / (blocks - inside)
        return torch.where(self.plain < 0, -magnitude, magnitude)


def require_gradient(p: Tensor, property: Property) -> None:
    """Raise `IcpError` where P, computed from values that have gradients, has none."""
    if not p.requires_grad:
        raise IcpError(f"{property.label} has no gradient, so no first-order estimate: use 'exact'")


def _is_before(site: Site, layer: int) -> bool:
    return site.layer is None or site.layer < layer


def traced(
    model: Model,
    layout: Layout,
    examples: Tensor,
    sites: list[Site],
    *,
    start: int = 0,
    hidden: Tensor | None = None,
    replaced: Tensor | None = None,
) -> Trace:
    """Run these examples from block `start` on, entered with `hidden` where `start` is not 0.

    `replaced` [row, pos, width], where given, takes the place of the values of the one site there is. Raises `IcpError`
    where P has no gradient.
    """
    values: dict[str, Tensor] = {}
    entered: dict[int, Tensor] = {}
    left: dict[int, Tensor] = {}
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        if replaced is None:
            stack.enter_context(captured(sites, values, differentiable=True))
        else:
            (site,) = sites
            values[site.name] = replaced.detach().requires_grad_()
            stack.callback(site.hook(lambda old: values[site.name]).remove)
        for layer, block in enumerate(model.blocks[start:], start):

            def enter(module, args, layer=layer):
                entered[layer] = args[0]

            def leave(module, args, output, layer=layer):
                left[layer] = output[0] if isinstance(output, tuple) else output

            stack.callback(block.register_forward_pre_hook(enter).remove)
            stack.callback(block.register_forward_hook(leave).remove)
        p = layout.value(model, examples, start=start, hidden=hidden)
        total = p.sum()
    require_gradient(p, layout.tokens.property)
    texts = [layout.tokens.probe.examples[e].text for e in examples.tolist()]
    require_finite(p.detach(), lambda i: repr(texts[i]))
    return Trace(sites, total, values, entered, left)
