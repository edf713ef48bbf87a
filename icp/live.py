"""Interventions on the graph: what is put in stays differentiable, and activation checkpointing sees the edits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from torch import Tensor, nn

from icp.errors import ModelError
from icp.sites import Site

Edits = list[tuple[Site, Callable[[Tensor], Tensor | None]]]


@contextmanager
def watched(root: nn.Module, sites: list[Site], store: dict[str, Tensor]) -> Iterator[None]:
    """Put the values [row, pos, width] of `sites` into `store` under their names, on the graph."""

    def keeper(name):
        def look(values):
            store.setdefault(name, values)

        return look

    with replaced(root, [(site, keeper(site.name)) for site in sites]):
        yield


@contextmanager
def replaced(root: nn.Module, edits: Edits) -> Iterator[None]:
    """Run what is inside with each site's values [row, pos, width] replaced by what its function makes of them.

    A block of `root` that is checkpointed runs again in the backward pass, when this is over. It then finds the edits
    in place as they were.
    """
    running = [True]
    with ExitStack() as stack:
        for layer in root.modules():
            if getattr(layer, "gradient_checkpointing", False):
                _require_graph(layer)
                stack.enter_context(_rerun_with(lambda: _installed(edits), layer, running))
        stack.enter_context(_installed(edits))
        stack.callback(running.clear)
        yield


def _require_graph(layer: nn.Module) -> None:
    """Raise `ModelError` where a block first runs without a graph, so that what is taken from it has no gradient."""
    if getattr(layer._gradient_checkpointing_func, "keywords", {}).get("use_reentrant"):
        raise ModelError(
            "activation checkpointing with use_reentrant=True would detach what is swapped in, and the model would "
            "learn to lean on the cue through what was not swapped: use "
            "gradient_checkpointing_kwargs={'use_reentrant': False}"
        )


@contextmanager
def _installed(edits: Edits) -> Iterator[None]:
    with ExitStack() as stack:
        for site, edit in edits:
            stack.callback(site.hook(edit).remove)
        yield


@contextmanager
def _rerun_with(
    installed: Callable[[], AbstractContextManager], layer: nn.Module, running: list[bool]
) -> Iterator[None]:
    """See that when `layer` runs again, after `running` was emptied, it does so within `installed()`."""
    checkpoint = layer._gradient_checkpointing_func

    def checkpointed(forward, *args, **kwargs):
        def again(*args, **kwargs):
            if running:
                return forward(*args, **kwargs)
            with installed():
                return forward(*args, **kwargs)

        return checkpoint(again, *args, **kwargs)

    layer._gradient_checkpointing_func = checkpointed
    try:
        yield
    finally:
        layer._gradient_checkpointing_func = checkpoint
