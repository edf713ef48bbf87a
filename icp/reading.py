"""What a head reads: how its attention is shared out among the tokens of a text."""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import torch

from icp.model import Model
from icp.sweep.donors import run_capturing
from icp.units import Unit

PLACES = ("cue", "itself", "first", "elsewhere")
ROWS_A_PASS = 32


def reading(
    model: Model, rows: list[list[int]], cues: list[tuple[int, ...]], heads: Sequence[Unit]
) -> dict[str, dict[str, float]]:
    """For each head the shares of its attention, from the last token of a text, on the four `PLACES`; they sum to 1.

    These are the tokens at `cues`, the last one itself, the first one, and all others, each token counted in the first
    of them that it belongs to; the mean over the texts, `rows` of tokens. Attention is worked out by the model's plain
    ("eager") path; a TransformerLens model, which has none to switch to, gives nothing, and so do no texts, and a model
    that is not causal: its answer is read elsewhere than at the last token.
    """
    if model.kind != "transformers" or not model.family.causal or not rows or not heads:
        return {}
    shares = {str(head): torch.zeros(len(PLACES), dtype=torch.float64) for head in heads}
    sites = [model.sites[name] for name in dict.fromkeys(head.site for head in heads)]
    asked, weights = model.config._attn_implementation, {}
    handles = []
    try:
        model.config._attn_implementation = "eager"
        for site in sites:

            def keep(module, args, output, layer=site.layer):
                weights[layer] = output[1]

            handles.append(model.attention(site.layer).register_forward_hook(keep))
        with model.frozen():
            for some in _alike(rows):
                run_capturing(model, model.pad([rows[number] for number in some], "right"), sites)
                for head in heads:
                    for row, number in enumerate(some):
                        last = len(rows[number]) - 1
                        seen = weights[head.layer][row, head.index[0], last].double().cpu()
                        shares[str(head)].index_add_(0, _places(last, cues[number]), seen / len(rows))
    finally:
        model.config._attn_implementation = asked
        for handle in handles:
            handle.remove()
    return {head: dict(zip(PLACES, found.tolist())) for head, found in shares.items()}


def _alike(rows: list[list[int]]) -> Iterator[list[int]]:
    """The numbers of rows that share a pass: of one length, since padding can make "eager" attention NaN in float64."""
    numbers = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    for _, alike in groupby(numbers, key=lambda number: len(rows[number])):
        while some := list(islice(alike, ROWS_A_PASS)):
            yield some


def _places(last: int, cue: tuple[int, ...]) -> torch.Tensor:
    """For each position up to `last`, the index of its place in `PLACES`."""
    found = torch.full((last + 1,), PLACES.index("elsewhere"))
    found[0] = PLACES.index("first")
    found[last] = PLACES.index("itself")
    found[list(cue)] = PLACES.index("cue")
    return found
