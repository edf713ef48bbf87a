"""LoRA adapters (Hu et al. 2021) by peft: put on, kept off what was pruned, merged, saved."""

import copy
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icp.errors import ModelError, PruneError
from icp.files import writing_folder
from icp.model import Model
from icp.selection import Choice
from icp.units import Unit

if TYPE_CHECKING:
    import pandas
    from peft import LoraConfig, PeftModel


@dataclass(frozen=True, eq=False)
class Tuning:
    """How a model was fine-tuned: the adapters that were merged into it, and what was logged.

    `history` has one mapping a logged step: `step`, `epoch`, `loss`, and its parts `task` and `penalty`; with
    `icp.PairWatch`, `consistency` and `sensitivity` too, or alone.
    """

    config: Any
    weights: dict[str, Tensor]
    history: tuple[dict[str, int | float], ...]

    def table(self) -> "pandas.DataFrame":
        """The history, one row a logged step."""
        import pandas

        return pandas.DataFrame(self.history).set_index("step")

    def save_pretrained(self, folder: "str | Path", base: "str | Path | None" = None) -> Path:
        """Write the adapters as peft does: `AutoPeftModelForCausalLM.from_pretrained(folder)` loads them and the base.

        `base` names the folder or hub id that has the weights of the model before training (default: the one that it
        was loaded from). Raises `ModelError` without it for a model that was cut, merged or made in memory: on the
        weights that it came from, the adapters would be another model.
        """
        named = base or self.config.base_model_name_or_path
        if not named:
            raise ModelError(
                "these adapters are of a model that was cut, merged or made in memory, so that no folder or hub id is "
                "known to have its weights: save that model by its save_pretrained and give the folder as base=, or "
                "save the fine-tuned model whole"
            )
        return self.write(folder, str(named))

    def write(self, folder: "str | Path", base: str | None) -> Path:
        """The same, naming this base or, by None, none: for a run, which knows its model by digests."""
        from safetensors.torch import save_file

        config = copy.copy(self.config)
        config.base_model_name_or_path = base
        with writing_folder(folder, "adapter_config.json", '"peft_type"', ("README.md",)) as work:
            config.save_pretrained(work)
            save_file(self.weights, work / "adapter_model.safetensors", {"format": "pt"})
        return Path(folder)


def default_lora(model: Model, **options: Any) -> "LoraConfig":
    """Rank 8 and alpha 16 on every linear layer of the blocks; a classification head is trained as it is.

    `options` of the config take the place of these.
    """
    from peft import LoraConfig

    projection = model.blocks[0].get_submodule(model.family.mlp_out.module)
    transposed = not isinstance(projection, nn.Linear)
    given = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": None}
    if model.unembed is not None and model.classes is not None:
        given |= {"modules_to_save": [model.family.unembed.split(".")[0]]}
        given |= {} if model.family.pixels else {"task_type": "SEQ_CLS"}  # peft has none for images
    elif model.family.causal:
        given |= {"task_type": "CAUSAL_LM"}
    if not model.family.causal:  # whose heads have linear layers of their own
        given |= {"exclude_modules": rf"(?!{re.escape(model.family.blocks)}\.).*"}
    return LoraConfig(**given | {"fan_in_fan_out": transposed} | options)


def put_on(adapters: "PeftModel", weights: dict[str, Tensor]) -> None:
    """Give the adapters these weights of theirs."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(adapters, weights)


def adapted(module: nn.Module, config: "LoraConfig") -> "PeftModel":
    """The module with new adapters on it, whose config is a copy: peft writes what it finds out into it."""
    from peft import get_peft_model

    with warnings.catch_warnings():  # peft reads an attribute that transformers has renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(module, copy.deepcopy(config))


def carrying(model: Model, module: nn.Module) -> Model:
    """`model` around a module that is trained: its own, a copy of it, or what a peft model is put on.

    Raises `ModelError` for another architecture's, and for adapters that put tokens of their own before the text.
    """
    kinds = {base.__name__ for base in type(module).__mro__}
    if "PeftModel" in kinds:
        if module.active_peft_config.is_prompt_learning:
            raise ModelError(
                f"a {module.active_peft_config.peft_type.value} adapter shifts every position: use one such as LoRA"
            )
        module = module.get_base_model()
    if type(module) is not type(model.module):
        raise ModelError(
            f"a {type(module).__name__} is trained and the losses are of {model.name}, a "
            f"{type(model.module).__name__}: give both the same model"
        )
    return replace(model, module=module)


def weights_of(adapters: "PeftModel") -> dict[str, Tensor]:
    """The adapters' own weights, as peft saves them."""
    from peft import get_peft_model_state_dict

    return {name: value.detach().cpu().clone() for name, value in get_peft_model_state_dict(adapters).items()}


def keep_pruned(model: Model) -> Callable[[], None]:
    """Keep the adapters of `model`, whose module they are on, from writing what was cut back into the weights.

    A projection's adapter multiplies A [rank, in] first: the columns of pruned units in A are set to 0 and get no
    gradient, so that B A stays exactly 0 there. Of units with erased directions, A and its gradient lose what lies
    along these. What is returned does so again, which every optimiser step needs: one that scales each element apart,
    as Adam does, does not keep to the subspace that gradients lie in. Raises `PruneError` where other weights of a
    projection are trained.
    """
    kept: list[tuple[nn.Parameter, Callable[[Tensor], Tensor]]] = []
    for choice in _cut_away(model):
        unit = choice.unit
        projection = _projection(model, unit)
        columns = list(model.holding(unit).site(unit).columns(unit)) if unit.layer is not None else []
        for name, parameter in projection.named_parameters():
            if not parameter.requires_grad or "lora_B" in name or name.endswith("bias"):
                continue
            if "lora_A" not in name or not columns:
                raise PruneError(
                    f"{unit} was pruned and would be trained back through {name}: leave it out of modules_to_save and "
                    "of the adapters' targets"
                )
            cut = _without(choice, columns)
            parameter.register_hook(cut)
            kept.append((parameter, cut))

    def again() -> None:
        with torch.no_grad():
            for parameter, cut in kept:
                parameter.copy_(cut(parameter))

    again()
    return again


def _without(choice: Choice, columns: list[int]) -> Callable[[Tensor], Tensor]:
    """Takes from a matrix [rank, in] what lies in these columns, or along the directions that were erased there."""
    if choice.role == "prune":
        return lambda matrix: matrix.index_fill(1, torch.tensor(columns, device=matrix.device), 0)
    basis = torch.linalg.qr(torch.tensor(choice.along, dtype=torch.float64).T)[0]

    def cut(matrix):
        where, axes = torch.tensor(columns, device=matrix.device), basis.to(matrix.device)
        mine = matrix[:, where].double()
        return matrix.index_copy(1, where, (mine - mine @ axes @ axes.T).to(matrix))

    return cut


def require_pruned(model: Model) -> None:
    """Raise `PruneError` where a pruned unit's outgoing weights are not exactly zero, or erased directions are back."""
    for choice in _cut_away(model):
        site = model.holding(choice.unit).site(choice.unit)
        if site.outgoing is None:
            continue
        weights = site.outgoing[list(site.columns(choice.unit))].double()
        if choice.role == "erase":
            along = torch.nn.functional.normalize(torch.tensor(choice.along, dtype=torch.float64), dim=1).to(weights)
            left, scale = (along @ weights).abs().max(), site.outgoing.abs().max()
            epsilon = max(torch.finfo(dtype).eps for dtype in (model.dtype, torch.float32))  # adapters are in float32
            back = left > 50 * epsilon**0.75 * scale
        else:
            back = weights.any()
        if back:
            raise PruneError(
                f"{choice.unit} was pruned and has outgoing weights again: this is a fault of icp, report it"
            )


def _cut_away(model: Model) -> list[Choice]:
    """What was cut from the weights for good."""
    return [] if model.selection is None else [c for c in model.selection.choices if c.role in ("prune", "erase")]


def _projection(model: Model, unit: Unit) -> nn.Module:
    if unit.layer is None:
        return model.module.get_submodule(model.holding(unit).family.embed)
    site = model.holding(unit).site(unit)
    return site.block.get_submodule(site.projection.module)
