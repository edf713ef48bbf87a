"""The naive loop: one unit, one intervention, one input, unpadded and whole, with PyTorch's own hooks or another's.

It shares nothing with the engines but the row: where a site's module is, and on which side of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icp.images import Image, PatchTokens
from icp.interventions import Mask, Scale, Swap
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference
from icp.tokenizing import Input, encode
from icp.units import Unit

Edit = Callable[[Tensor], Tensor | None]
"""From a site's values [pos, width] to new ones, or None to look on."""

Run = Callable[[list[int], str, Edit], Tensor]
"""The logits [pos, vocab], or [1, class], of token ids, or patches, under an edit of one site; without a head
[pos, d_model]."""


def plainly(model: Model) -> Run:
    """The module called as its makers call it, with a hook of PyTorch's."""

    def run(ids: list[int], name: str, edit: Edit) -> Tensor:
        site, own = model.sites[name], torch.tensor(_attended(model, ids), device=model.device)

        def changed(tensor):
            rows = tensor.reshape(-1, tensor.shape[-1])
            columns = torch.tensor(_columns(site), device=rows.device)
            new = edit(rows[own[:, None], columns])
            if new is None:
                return None
            rows = rows.clone()
            rows[own[:, None], columns] = new
            return rows.view(tensor.shape)

        def before(module, args):
            new = changed(args[0])
            return None if new is None else (new, *args[1:])

        def after(module, args, output):
            new = changed(output[0] if isinstance(output, tuple) else output)
            return None if new is None else (new, *output[1:]) if isinstance(output, tuple) else new

        hooks = site.module.register_forward_pre_hook, site.module.register_forward_hook
        handle = hooks[0](before) if site.side == "input" else hooks[1](after)
        try:
            logits = _called(model, ids)
        finally:
            handle.remove()
        return logits.view(-1, logits.shape[-1])

    return run


def _called(model: Model, ids: list[int]) -> Tensor:
    """What the module gives: logits, or of a model without a head what the last block gives, or a pooled feature."""
    given = _given(model, ids)
    match model.family.reads:
        case "captions":
            captions = model.beside([*model.captions.values()], padding=True, return_tensors="pt").to(model.device)
            return model.module(captions["input_ids"], given, captions["attention_mask"]).logits_per_image
        case "pooled":
            return getattr(model.module, model.family.features)(given).pooler_output
        case "mean":
            return model.module(given).last_hidden_state
    return model.module(given).logits


def _attended(model: Model, ids: list[int]) -> list[int]:
    """The rows of what a module sees that are tokens: of captions of several lengths, all but the filler."""
    if not model.family.abreast:
        return list(range(len(ids)))
    captions = [model.beside(caption)["input_ids"] for caption in model.captions.values()]
    longest = max(map(len, captions))
    return [longest * number + place for number, caption in enumerate(captions) for place in range(len(caption))]


def _given(model: Model, ids: list[int]) -> Tensor:
    """What the module is called with: [1, pos] token ids, or of patches the image [1, channel, height, width]."""
    if isinstance(ids, PatchTokens):
        return ids.pixels[None].to(model.device, model.dtype)
    return torch.tensor([ids], device=model.device)


def _columns(site: Any) -> list[int]:
    """Where a site's values are among those of its module, in their order."""
    if site.part is None:
        return list(range(site.width))
    inner = site.unit_width if site.part.by_head else site.width
    run = [site.part.index * inner + place for place in range(inner)]
    return [start * site.part.count * inner + place for start in range(site.width // inner) for place in run]


def through_the_view(model: Model, view: Any) -> Run:
    """A TransformerLens view of the same weights, with its own `run_with_hooks`."""

    def run(ids: list[int], name: str, edit: Edit) -> Tensor:
        def hooked(value, hook):
            new = edit(value.flatten(2)[0])
            return None if new is None else new.view(value.shape)

        logits = view.run_with_hooks(_given(model, ids), fwd_hooks=[(name, hooked)], return_type="logits")
        return logits.view(-1, logits.shape[-1])

    return run


@dataclass(frozen=True, eq=False)
class Loop:
    """dP by naive loops over a probe whose pairs are aligned one to one: of the logit difference, or of the cosine."""

    model: Model
    probe: Probe
    run: Run

    def dP(self, units: list[Unit], interventions: list[Any]) -> Float[np.ndarray, "unit intervention example"]:
        """dP of zero and mean masks, scales, and swaps with the counterpart."""
        tokens = self.probe.tokenize(self.model.tokenizer, LogitDifference())
        with torch.no_grad(), self.model.frozen():
            reads = self._reads(tokens)
            clean = [read(self._plain(ids)) for ids, read in zip(tokens.inputs, reads)]
            edited = [[self._each(unit, what, tokens, reads) for what in interventions] for unit in units]
            return np.array(edited) - clean

    def _plain(self, ids: list[int]) -> Tensor:
        return self.run(ids, self.model.at("embed", None).name, lambda value: None)

    def _each(self, unit: Unit, what: Any, tokens: Any, reads: list[Callable[[Tensor], float]]) -> list[float]:
        """P of every example under the intervention."""
        name, columns = unit.site, list(self.model.site(unit).columns(unit))

        def values(ids):
            seen: list[Tensor] = []
            self.run(ids, name, lambda value: seen.append(value[:, columns].clone()))
            return seen[0]

        mean = torch.cat([values(ids) for ids in tokens.inputs]).mean(0) if what == Mask("mean") else None
        found = []
        for example, (ids, other) in enumerate(zip(tokens.inputs, tokens.counterparts)):
            lent = values(other) if what == Swap("counterpart") else mean

            def edit(value, lent=lent):
                new = value.clone()
                alpha = what.alpha if isinstance(what, Scale) else 0.0
                new[:, columns] = alpha * value[:, columns] if lent is None else lent
                return new

            found.append(reads[example](self.run(ids, name, edit)))
        return found

    def _reads(self, tokens: Any) -> list[Callable[[Tensor], float]]:
        """From what a run gives to P, a function an example."""
        if self.model.family.represents:
            return [partial(_cosine, self._reference(example.answers[0])) for example in self.probe.examples]
        return [partial(self._difference, tokens, example) for example in range(len(tokens.inputs))]

    def _reference(self, answer: Input) -> Tensor:
        """The representation of what is compared with, in either tower."""
        either = self.model.towers
        model = next((one for one in either if one.family.pixels == isinstance(answer, Image)), self.model)
        return _called(model, encode(model.tokenizer, answer, "")).flatten(0, -2).mean(0)

    def _difference(self, tokens: Any, example: int, logits: Tensor) -> float:
        ((position, _, (yes, no)),) = LogitDifference().targets(tokens, example, self.model.answered_by)
        read = logits[0] if self.model.classes is not None else logits[position]
        return float(read[yes] - read[no])


def _cosine(reference: Tensor, hidden: Tensor) -> float:
    mean = hidden.mean(0)
    return float(mean @ reference / (mean.norm() * reference.norm()))
