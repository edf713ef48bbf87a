"""The hook registry: install all or none, edit each row of a batch in its own way, always remove.

It works alike on plain `transformers` modules, a `TransformerBridge` and a `HookedTransformer`: a site is a module and
a side of it. Hooks that the user attached stay where they are.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from icp.interventions import Intervention, affine
from icp.sites import Site, Values


@dataclass(frozen=True, eq=False)
class SiteEdits:
    """Edits of one site in one batch: entry `e` changes columns `columns[e]` of row `rows[e]`.

    At the positions where `where[e]` holds, `a -> alpha * a + shift` (`interventions.affine`). `custom`, a user's own
    intervention, replaces the affine rule where it is given.
    """

    rows: Int[Tensor, " edit"]
    columns: Int[Tensor, "edit width"]
    where: Bool[Tensor, "edit pos"]
    alpha: Float[Tensor, " edit"]
    shift: Float[Tensor, "edit pos width"] | None = None
    custom: Intervention | None = None

    def of(self, old: Float[Tensor, "edit pos width"]) -> Float[Tensor, "edit pos width"]:
        """New values of the edited columns, from their old ones."""
        if self.custom is not None:
            new = self.custom.replace(old, self.where)
        else:
            shift = torch.zeros_like(old) if self.shift is None else self.shift
            new = affine(old, self.alpha[:, None, None], shift)
        return torch.where(self.where[:, :, None], new, old)

    def apply(self, values: Values) -> Values:
        """A copy of `values` [row, pos, width] with the edits made.

        Where several edited versions of one input share a row, one behind the other, each counts as a row.
        """
        new = values.clone().view(-1, self.where.shape[1], values.shape[2])
        positions = torch.arange(new.shape[1], device=values.device)
        at = (self.rows[:, None, None], positions[None, :, None], self.columns[:, None, :])
        new[at] = self.of(new[at])
        return new.view(values.shape)


@contextmanager
def edited(edits: Iterable[tuple[Site, SiteEdits]]) -> Iterator[None]:
    """Run what is inside with every edit in place; afterwards, whatever happened, with none."""
    with ExitStack() as stack:
        for site, edit in edits:
            stack.callback(site.hook(edit.apply).remove)
        yield


def on_input(module: nn.Module, look: Callable[[Tensor], None]) -> RemovableHandle:
    """Show a module's first input to `look`."""
    return module.register_forward_pre_hook(lambda module, args: look(args[0]))


def on_output(module: nn.Module, look: Callable[[Tensor], None]) -> RemovableHandle:
    """Show a module's first output to `look`."""

    def post(module, args, output):
        look(output[0] if isinstance(output, tuple) else output)

    return module.register_forward_hook(post)


@contextmanager
def set_aside(module: nn.Module) -> Iterator[None]:
    """No hook of any part of `module` inside; afterwards those that were there, and only they."""
    kept = [(part, part._forward_hooks, part._forward_pre_hooks) for part in module.modules()]
    try:
        for part, *_ in kept:
            part._forward_hooks, part._forward_pre_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for part, after, before in kept:
            part._forward_hooks, part._forward_pre_hooks = after, before


class _Captured(Exception):
    """Unwinds a forward pass once all that was asked for is in hand."""


@contextmanager
def captured(
    sites: list[Site],
    store: dict[str, Tensor],
    *,
    differentiable: bool = False,
    keep: Callable[[str, Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Put the values [row, pos, width] of `sites` into `store` under their names, or what `keep` makes of them.

    `differentiable` keeps them on the graph, so that `torch.autograd.grad` can be taken with respect to them.
    """

    with ExitStack() as stack:
        for site in sites:
            stack.callback(site.hook(_Keeper(site.name, store, differentiable, keep)).remove)
        yield


@dataclass(frozen=True, eq=False)
class _Keeper:
    """Looks on at one site for `captured`."""

    name: str
    store: dict[str, Tensor]
    differentiable: bool
    keep: Callable[[str, Tensor], Tensor] | None

    def __call__(self, values: Values) -> Values | None:
        if not self.differentiable:
            self.store[self.name] = values.detach() if self.keep is None else self.keep(self.name, values.detach())
            return None
        self.store[self.name] = values if values.requires_grad else values.detach().requires_grad_()
        return self.store[self.name]


@contextmanager
def stopping_at(module: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    """Stop the forward pass at the entrance of `module`, appending its input [row, pos, d_model] to `seen`."""

    def stop(module, args):
        seen.append(args[0].detach())
        raise _Captured

    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(stop).remove)
        stack.enter_context(suppress(_Captured))
        yield


@contextmanager
def stopping_after(site: Site, seen: list[Tensor]) -> Iterator[None]:
    """Stop the forward pass at a site, appending its values [row, pos, width] to `seen`."""

    def stop(values):
        seen.append(values.detach())
        raise _Captured

    with ExitStack() as stack:
        stack.callback(site.hook(stop).remove)
        stack.enter_context(suppress(_Captured))
        yield


@contextmanager
def started_at(entrances: list[nn.Module], layer: int, hidden: Tensor | None, tuple_output: bool) -> Iterator[None]:
    """Skip the blocks before `layer` and enter there with `hidden` [row, pos, d_model].

    `entrances` are the blocks and, after them, the final norm. Skipped blocks get a pass-through forward, so that the
    model's own code still builds masks and rotary embeddings and runs the rest.
    """

    with ExitStack() as stack:
        for block in entrances[:layer]:
            stack.enter_context(_forward_as(block, _passing_a_tuple if tuple_output else _passing))
        if hidden is not None:
            entrance = entrances[layer].register_forward_pre_hook(lambda module, args: (hidden, *args[1:]))
            stack.callback(entrance.remove)
        yield


def _passing(hidden_states, *args, **kwargs):
    return hidden_states


def _passing_a_tuple(hidden_states, *args, **kwargs):
    return hidden_states, None


@contextmanager
def _forward_as(module: nn.Module, forward) -> Iterator[None]:
    """Give one module another forward; an instance attribute that was there before is put back."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before


@contextmanager
def reading(unembed: nn.Module, weight: Tensor, bias: Tensor | None, reads: "Reads") -> Iterator[None]:
    """Let the unembedding compute only the positions and tokens that `reads` names.

    Its output is then [read, 1, token], and what the model does to logits afterwards (a soft cap, a scale) still
    happens. `weight` is [vocab, d_model]. Logits are float32 at least: effects are small differences of them.
    """
    if reads.tokens is not None:
        weight = weight[reads.tokens]
        bias = None if bias is None else bias[reads.tokens]

    precise = torch.promote_types(weight.dtype, torch.float32)
    weight, bias = weight.to(precise), None if bias is None else bias.to(precise)
    with _forward_as(unembed, partial(_logits, weight, bias, reads)):
        yield


def _logits(weight: Tensor, bias: Tensor | None, reads: "Reads", hidden: Tensor, *args, **kwargs) -> Tensor:
    return nn.functional.linear(hidden[reads.rows, reads.positions].to(weight.dtype), weight, bias)[:, None]


@contextmanager
def showing(block: nn.Module, reads: "Reads") -> Iterator[None]:
    """Let a head that takes the first position of what the last block gives have the positions that are read.

    What the block gives on is [read, 1, d_model].
    """

    def shown(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        one = hidden[reads.rows, reads.positions][:, None]
        return (one, *output[1:]) if isinstance(output, tuple) else one

    with ExitStack() as stack:
        stack.callback(block.register_forward_hook(shown).remove)
        yield


@contextmanager
def standing_in(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Let an attention module return `output` [row, pos, d_model] without running."""
    with _forward_as(module, lambda *args, **kwargs: (output, None)):
        yield


@contextmanager
def narrowed(modules: list[nn.Module], reads: "Reads") -> Iterator[None]:
    """Let modules that act on each position alone compute only the positions that are read; elsewhere they give 0."""

    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(_forward_as(module, partial(_narrow, module.forward, reads)))
        yield


def _narrow(whole: Callable[[Tensor], Tensor], reads: "Reads", values: Tensor) -> Tensor:
    computed = whole(values[reads.rows, reads.positions][:, None])[:, 0]
    output = computed.new_zeros(*values.shape[:2], computed.shape[1])
    output[reads.rows, reads.positions] = computed
    return output


@dataclass(frozen=True, eq=False)
class Reads:
    """Which logits of a batch are computed: entry `r` is row `rows[r]` at position `positions[r]`, for `tokens`.

    `tokens` None means the whole vocabulary.
    """

    rows: Int[Tensor, " read"]
    positions: Int[Tensor, " read"]
    tokens: Int[Tensor, " token"] | None = None

    @classmethod
    def first_of(cls, mask: Bool[Tensor, "row pos"]) -> "Reads":
        """The first attended position of every row."""
        return cls(torch.arange(len(mask), device=mask.device), mask.int().argmax(1))
