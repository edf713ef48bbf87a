"""An edited copy of a model, and its proof."""

from dataclasses import replace

import torch
from torch import nn

from icp.errors import PruneError
from icp.family import BiasSwitch, Projection, outgoing, unwrap
from icp.interventions import affine
from icp.model import Model
from icp.selection import Choice, Selection, constants, erased, hooked
from icp.sweep.joint import require_disjoint
from icp.units import Unit
from icp.weights import without_name


def prune(model: Model, selection: Selection, *, weights: str = "same") -> Model:
    """Cut the `prune`, `scale` and `erase` choices of a selection into a copy of the model's weights.

    A neuron's, head's or value dimension's outgoing weights become zero, or are scaled, or lose the directions that are
    erased; a mean is folded into the projection's bias. Where the config has a switch for that bias it is turned on;
    where it has none, this raises `PruneError` and names zero-pruning. Embedding dimensions are cut in the embedding,
    which is untied from the unembedding first; those of images cannot be. The copy's logits are compared with the
    hooked original's before it is returned.

    Raises `ArtefactError` where the selection was made on another architecture, tokenizer or, unless `weights="any"`,
    on other weights, and `UnitError` where two cuts cover the same values: a unit that was cut before may be cut again,
    a head that was cut before and one of its dimensions may not.
    """
    selection.require_fit(model, weights)
    joined = _joined(model.selection, selection)
    require_disjoint(model, [choice.unit for choice in joined if choice.cuts])
    cuts = [choice for choice in selection.choices if choice.cuts]
    if not cuts:
        raise PruneError("the selection cuts nothing: give it units with the role 'prune', 'scale' or 'erase'")
    for choice in cuts:
        if choice.unit.kind == "resid":
            raise PruneError(
                f"{choice.unit} cannot be cut from weights, since every block writes and reads the residual stream: "
                "mask it with hooks, or cut the neurons and heads that write it"
            )
        if choice.unit.layer is None and model.holding(choice.unit).family.of_patches:
            raise PruneError(
                f"{choice.unit} cannot be cut from weights, since patches, positions and the class token all write it: "
                "mask it with hooks, or cut the neurons and heads that read it"
            )
    pruned = model.copy()
    if pruned.kind == "transformers":
        without_name(pruned.module)
    by_site: dict[str, list[Choice]] = {}
    for choice in cuts:
        by_site.setdefault(choice.unit.site, []).append(choice)
    with torch.no_grad():
        for choices in by_site.values():
            unit = choices[0].unit
            (_cut_embedding if unit.layer is None else _cut_projection)(pruned.holding(unit), choices)
    pruned = replace(pruned, selection=Selection(joined, pruned.binding, selection.origin), tuning=None)
    _prove(model, pruned, selection)
    return pruned


def _cut_projection(model: Model, choices: list[Choice]) -> None:
    unit = choices[0].unit
    row = model.family.mlp_out if unit.kind == "neuron" else model.family.attn_out
    switch = model.family.mlp_bias if unit.kind == "neuron" else model.family.attn_bias
    columns, alpha, shift = constants(model, choices)
    if shift.any():
        _require_bias(model, unit, row, switch)
    weight, bias = outgoing(model.blocks[unit.layer], row)
    if shift.any():
        bias += shift @ weight[columns]
    for where, matrix in erased(model, choices):
        weight[where] = (matrix @ weight[where].double()).to(weight)
    weight[columns] = torch.where(alpha[:, None] == 0, 0, weight[columns] * alpha[:, None])


def _require_bias(model: Model, unit: Unit, row: Projection, switch: BiasSwitch | None) -> None:
    """See that the unit's projection has a bias, turning on the config's switch for it where that is needed."""
    if outgoing(model.blocks[unit.layer], row)[1] is not None:
        return
    if model.kind == "bridge":
        _add_bias(unwrap(model.blocks[unit.layer].get_submodule(row.module)))
        return
    if switch is None:
        raise PruneError(
            f"{model.family.name} has no bias to fold the mean of {unit} into, and no config option for one: "
            "use zero-pruning, Mask('zero')"
        )
    setattr(model.config, switch.option, True)
    for block in model.blocks:
        for name in switch.modules:
            module = block.get_submodule(name)
            if module.bias is None:
                _add_bias(module)


def _add_bias(module: nn.Module) -> None:
    module.bias = nn.Parameter(torch.zeros_like(module.weight[:, 0]))


def _cut_embedding(model: Model, choices: list[Choice]) -> None:
    root = model.module
    name = "embed" if model.kind != "transformers" else model.family.embed
    embedding = unwrap(root.get_submodule(name))
    unembedding = None if model.unembed is None else unwrap(model.unembed)
    weight = embedding.W_E if hasattr(embedding, "W_E") else embedding.weight
    if getattr(unembedding, "weight", None) is weight:
        unembedding.weight = nn.Parameter(weight.detach().clone())
        if getattr(unembedding, "bias", None) is not None:  # BERT's is tied to another by the same switch
            unembedding.bias = nn.Parameter(unembedding.bias.detach().clone())
        if model.kind == "transformers":
            model.config.tie_word_embeddings = False
    columns, alpha, shift = constants(model, choices)
    weight[:, columns] = affine(weight[:, columns], alpha, shift / model.family.embed_scale(model.config))


def _joined(before: Selection | None, selection: Selection) -> tuple[Choice, ...]:
    """Everything that has been cut so far, one choice a unit; of the roles that cut nothing, the latest."""
    joined = {} if before is None else {choice.unit: choice for choice in before.choices}
    for choice in selection.choices:
        earlier = joined.get(choice.unit)
        if earlier is None or not earlier.cuts:
            joined[choice.unit] = choice
        elif choice.cuts and "erase" in (earlier.role, choice.role):
            raise PruneError(
                f"{choice.unit} was cut before (role {earlier.role!r}) and cannot have the role {choice.role!r} as "
                "well: cut the original model"
            )
        elif choice.cuts:
            joined[choice.unit] = _composed(earlier, choice)
    return tuple(joined.values())


def _composed(earlier: Choice, later: Choice) -> Choice:
    """The one cut that two of the same unit amount to.

    In the embedding the later one acts on what the earlier left. In a projection it acts on the unit's own values,
    which then go through the weights that the earlier left.
    """
    if earlier.role == later.role == "scale":
        return replace(earlier, alpha=earlier.alpha * later.alpha)
    first, last = (earlier, later) if later.unit.layer is None else (later, earlier)
    if last.role == "prune":
        return last
    return replace(first, shift=tuple(last.alpha * value for value in first.shift))


def _prove(model: Model, pruned: Model, selection: Selection) -> None:
    """See that pruned weights are zero, and compare hooked and cut logits on fixed pseudo-random inputs.

    Raises `PruneError` where they are not. Logits alone prove little in bfloat16, where rounding is as large as what a
    unit does.
    """
    for choice in selection.choices:
        site = pruned.holding(choice.unit).site(choice.unit)
        if (
            choice.role == "prune"
            and site.outgoing is not None
            and site.outgoing[list(site.columns(choice.unit))].any()
        ):
            raise PruneError(f"the cut left outgoing weights of {choice.unit}: please report this architecture")
    for one, other in zip(model.towers, pruned.towers):
        batch = one.trial(2, 8)
        with torch.no_grad(), one.frozen(), other.frozen():
            with hooked(one, selection.choices):
                expected = one.logits(batch)
            cut = other.logits(batch)
        scale = float(expected.abs().max())
        difference = float((expected - cut).abs().max())
        tolerance = min(0.25, 50 * torch.finfo(model.dtype).eps ** 0.75) * scale
        if not difference <= tolerance:
            raise PruneError(
                f"the cut copy differs from the hooked model by {difference:.3g} in a logit (tolerance "
                f"{tolerance:.3g}): please report this architecture"
            )
