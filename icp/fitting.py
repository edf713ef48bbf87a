"""Whether a live module fits its architecture row: what `load` looks at."""

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from icp.errors import ModelError, NotFiniteError
from icp.hooks import captured
from icp.model import Model
from icp.sites import side_by_side
from icp.units import site_name


def check(model: Model) -> None:
    """Compare the architecture row with the live module; raises `ModelError` naming what does not fit.

    One short forward pass shows that every site has the width its weights say, and that in every block the outputs of
    the two projections add up to what the residual stream gained, unless they are normed or the user hooked it. Four
    more show that editing a site of each kind changes the output, and two that the queries, and the keys, of some block
    do.
    """

    def misfit(why: object) -> ModelError:
        return ModelError(f"{model.name} does not fit the row {model.family.name!r}: {why}")

    with torch.no_grad(), model.frozen():
        try:
            sites, entrances = list(model.sites.values()), model.entrances
        except AttributeError as error:
            raise misfit(error) from error
        batch, abreast = model.trial(1, 4), sites[0].abreast
        values: dict[str, Tensor] = {}
        entered: dict[int, Tensor] = {}
        added: dict[int, list[Tensor]] = {layer: [] for layer in range(len(model.blocks))}

        def noted(module, args, layer):
            entered[layer] = args[0] if abreast == 1 else side_by_side(args[0], abreast)

        handles = [
            entrance.register_forward_pre_hook(partial(noted, layer=layer)) for layer, entrance in enumerate(entrances)
        ]
        try:
            with captured(sites, values):
                clean = model.logits(batch)
        finally:
            for handle in handles:
                handle.remove()
        if not torch.isfinite(clean).all():
            raise NotFiniteError(f"{model.name} returns NaN or infinity on a plain input: its weights are damaged")
        stream = (*batch.ids.shape, model.d_model)
        for layer in range(len(model.blocks) + model.family.whole_after):
            if layer not in entered or entered[layer].shape != stream:
                where = model.family.after if layer == len(model.blocks) else f"block {layer}"
                seen = tuple(entered[layer].shape) if layer in entered else "nothing"
                raise misfit(f"a residual stream {stream} should enter {where}, the live module lets in {seen}")
        for site in sites:
            if site.name not in values or values[site.name].shape[-1] != site.width:
                seen = values[site.name].shape[-1] if site.name in values else "nothing"
                raise misfit(f"{site.name} should carry {site.width} values, the live module carries {seen}")
            if site.outgoing is not None:
                if site.outgoing.shape[1] != stream[2]:
                    raise misfit(
                        f"{site.name} should write {stream[2]} values, its projection {site.outgoing.shape[1]}"
                    )
                part = values[site.name] @ site.outgoing
                added[site.layer].append(part if site.bias is None else part + site.bias)
        for layer, parts in added.items():
            if model.family.norm != "before" or model.user_hooked(layer):
                continue
            gained = values[model.at("resid", layer).name] - entered[layer]
            if not torch.allclose(sum(parts), gained, rtol=0.02, atol=0.02 * float(gained.abs().max())):
                raise misfit(f"in block {layer} the parts do not add up to what the residual stream gained")
        middle = len(model.blocks) // 2
        for kind in ("head", "neuron", "resid", "embed"):
            site = model.at(kind, None if kind == "embed" else middle)
            handle = site.hook(_moved)
            try:
                changed = model.logits(batch)
            finally:
                handle.remove()
            if torch.equal(changed, clean):
                raise misfit(f"editing {site.name} changes nothing")
        for kind in ("query", "key"):
            with ExitStack() as stack:
                stack.callback(site.hook(_moved).remove)
                for layer in range(len(model.blocks)):
                    # NaN, since no finite query shows where all keys are 0.
                    point = model.at(kind, layer)
                    stack.callback(point.hook(lambda v: torch.full_like(v, torch.nan)).remove)
                without = model.logits(batch)
            if torch.equal(without, changed):
                raise misfit(f"editing {site_name(kind, 'L')} changes nothing in any block")


def _moved(values: Tensor) -> Tensor:
    return values + torch.linspace(1, 2, values.shape[-1], dtype=values.dtype, device=values.device)
