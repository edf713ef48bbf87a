"""`load`: a `Model` from whatever you have, checked against its architecture row."""

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icp.embedded import minilm, smollm2
from icp.errors import ModelError, NotFiniteError
from icp.families import BRIDGE, HOOKED_TRANSFORMER, Family, family_of
from icp.hooks import captured
from icp.images import PROCESSOR, Patches
from icp.model import Model
from icp.quiet import quiet_transformers
from icp.units import site_name
from icp.weights import copied, without_name

HEAD, IMAGE_HEAD = "ForSequenceClassification", "ForImageClassification"


def load(source: Any, tokenizer: Any = None, *, dtype: torch.dtype | None = None, device: "str | None" = None,
         trust_remote_code: bool = False) -> Model:  # fmt: skip
    """A `Model` from whatever you have.

    `source` is `"smollm2"` (the embedded default, dequantised), `"minilm"` (a sentence encoder), a hub id, a local
    folder, a `transformers` model with its tokenizer, a peft model (its adapters are merged into a copy), a
    `HookedTransformer` or a `TransformerBridge`. With a classification head in place of the unembedding, answers are
    the class names of the config. An encoder without a head gives representations (`icp.Similarity`). A model of images
    comes without a tokenizer; what it takes are pixels (`icp.Image`).
    Weights are fp32 unless `dtype` says otherwise; a module that is handed in keeps its dtype and device.

    Raises `ModelError` where the source is unknown, has no tokenizer or no architecture row, or does not fit its row,
    and for a device that is not there.
    """
    if isinstance(source, (str, Path)):
        _require_device(device)
        model = _from_folder_or_hub(str(source), tokenizer, dtype or torch.float32, trust_remote_code)
        if device is not None:
            model.module.to(device)
    elif isinstance(source, nn.Module):
        if dtype is not None or device is not None:
            raise ModelError("dtype and device belong to loading by name: move the module itself before handing it in")
        model = _from_module(source, tokenizer)
    else:
        raise ModelError(f"cannot load a model from a {type(source).__name__}: give a name, a folder or a module")
    check(model)
    return model


def _require_device(device: str | None) -> None:
    """Raise `ModelError` for a device that is not there, before gigabytes of weights are read."""
    try:
        if device is not None:
            torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"cannot load onto the device {device!r} ({_first_line(error)}): give 'cpu', 'cuda' or 'cuda:1', where it "
            "is there"
        ) from error


def _from_folder_or_hub(name: str, tokenizer: Any, dtype: torch.dtype, trust_remote_code: bool) -> Model:
    from safetensors import SafetensorError
    from transformers import (
        MODEL_MAPPING,
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageClassification,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    path = {"smollm2": smollm2, "minilm": minilm}.get(name, lambda: Path(name))()
    where = str(path) if path.is_dir() else name
    options = {"trust_remote_code": trust_remote_code}
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"the folder {where} has no config.json: it is not a saved transformers model")
    try:
        config = AutoConfig.from_pretrained(where, **options)
        family = family_of(config.model_type)  # before gigabytes of weights are read
        classifies = any(name.endswith(HEAD) for name in config.architectures or ())
        kind = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
        if family.pixels:
            kind = AutoModelForImageClassification
        elif not (classifies or family.causal):
            bare = MODEL_MAPPING[type(config)].__name__ in (config.architectures or ())
            kind = AutoModel if bare else AutoModelForMaskedLM
        reading = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
        with quiet_transformers():
            module, found = kind.from_pretrained(where, dtype=dtype, **reading, **options)
    except (OSError, ValueError, SafetensorError) as error:
        way_out = "give 'smollm2', a hub id, or a folder that save_pretrained wrote as safetensors"
        if "trust_remote_code" in str(error):
            way_out = "pass trust_remote_code=True only if you trust it"
        raise ModelError(f"cannot load a model from {name!r}: {_first_line(error)} ({way_out})") from error
    if kind is AutoModel:
        _require_mean(name, path / "1_Pooling" / "config.json")
        if found["missing_keys"] and all(key.startswith("pooler.") for key in found["missing_keys"]):
            module.pooler, found["missing_keys"] = None, set()  # it takes the first token, which is not read here
    _require_whole(name, found)
    try:
        if not family.pixels:
            tokenizer = tokenizer or AutoTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"no tokenizer in {name!r}: save it into that folder with tokenizer.save_pretrained, "
            f"or pass icp.load({name!r}, tokenizer=...) ({_first_line(error)})"
        ) from error
    model = _from_module(module, tokenizer, name=name)
    processor = path / PROCESSOR
    if family.pixels and processor.is_file():
        model = replace(model, tokenizer=replace(model.tokenizer, processor=processor.read_text("utf-8")))
    kept = path / "icp_selection.safetensors"
    if kept.is_file():
        from icp.selection import Selection

        model = replace(model, selection=Selection.load(kept))
    return model


def _require_whole(name: str, found: dict[str, Any]) -> None:
    """Raise `ModelError` where `transformers` made up weights that the checkpoint lacks or has in another shape."""
    for key, stored, expected in found["mismatched_keys"]:
        raise ModelError(
            f"the checkpoint {name!r} has {key} with shape {tuple(stored)}, its config says {tuple(expected)}: "
            "mend its config.json or save it again"
        )
    if found["missing_keys"]:
        raise ModelError(
            f"the checkpoint {name!r} lacks {len(found['missing_keys'])} weight(s), such as "
            f"{min(found['missing_keys'])}: they would be random; save the whole model again"
        )


def _require_mean(name: str, pooling: Path) -> None:
    """Raise `ModelError` where the config of a sentence encoder makes something else of a text than a mean."""
    try:
        told = json.loads(pooling.read_text("utf-8")) if pooling.is_file() else {"pooling_mode_mean_tokens": True}
    except ValueError as error:
        raise ModelError(f"{pooling} is not JSON ({error}): it is cut short or foreign") from error
    modes = [key.removeprefix("pooling_mode_") for key, on in told.items() if key.startswith("pooling_mode_") and on]
    if modes != ["mean_tokens"]:
        raise ModelError(
            f"{name!r} pools by {' and '.join(modes) or 'nothing'}, as its 1_Pooling/config.json says: only the mean "
            "over attended tokens is supported"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _from_module(module: nn.Module, tokenizer: Any, name: str | None = None) -> Model:
    kinds = {base.__name__ for base in type(module).__mro__}
    if "PeftModel" in kinds:
        if module.active_peft_config.is_prompt_learning:
            raise ModelError(
                f"a {module.active_peft_config.peft_type.value} adapter cannot be merged into weights: "
                "load its base model, or use an adapter such as LoRA"
            )
        name = name or getattr(getattr(module, "config", None), "_name_or_path", "") or None
        return _from_module(_merged(module), tokenizer, name)
    if any("BaseTunerLayer" in {base.__name__ for base in type(part).__mro__} for part in module.modules()):
        raise ModelError(
            f"this {type(module).__name__} has adapters inside, which are not its own weights: load the peft model "
            "around it, or merge them first"
        )
    if "TransformerBridge" in kinds or "HookedTransformer" in kinds:
        tokenizer = tokenizer or module.tokenizer
        bridge = "TransformerBridge" in kinds
        family, kind = (BRIDGE, "bridge") if bridge else (HOOKED_TRANSFORMER, "hooked_transformer")
        name = name or getattr(module.cfg, "model_name", kind)
    elif hasattr(module, "config") and hasattr(module.config, "model_type"):
        family, kind = family_of(module.config.model_type), "transformers"
        name = name or getattr(module.config, "_name_or_path", "") or module.config.model_type
        if not family.causal and getattr(module.config, "is_decoder", False):
            raise ModelError(f"{name} is a {family.name} that is a decoder: only encoders of that row are supported")
        if type(module).__name__.endswith(HEAD):
            family = _classifying(family, module.config, tokenizer)
        elif family.pixels:
            tokenizer = _patches(module, tokenizer, name)
        elif getattr(module, "base_model", None) is module:
            family = _without_head(family, module)
    else:
        raise ModelError(
            f"a {type(module).__name__} is neither a transformers model, a peft model, a HookedTransformer "
            "nor a TransformerBridge: load one of these"
        )
    if tokenizer is None:
        raise ModelError(f"{name} came without a tokenizer: pass icp.load(model, tokenizer=...)")
    return Model(module, tokenizer, family, kind, name)


def _classifying(family: Family, config: Any, tokenizer: Any) -> Family:
    """The row of a model with a classification head; raises `ModelError` where it could not tell the last token."""
    _require_choice(config)
    last = family.classifier.reads == "last"
    if (
        last
        and tokenizer is not None
        and (config.pad_token_id is None or config.pad_token_id != tokenizer.pad_token_id)
    ):
        raise ModelError(
            f"the config's pad_token_id is {config.pad_token_id} and the tokenizer's {tokenizer.pad_token_id}: a "
            "classification head finds the last token by it, so set both to the same token"
        )
    return family.classifying()


def _without_head(family: Family, module: nn.Module) -> Family:
    """The row of an encoder without a head; raises `ModelError` for a decoder, which would answer nothing."""
    if family.causal:
        raise ModelError(
            f"a {type(module).__name__} has no head, so that it gives no logits: load it as transformers' "
            "AutoModelForCausalLM or AutoModelForSequenceClassification does (only encoders are read without a head)"
        )
    return family.headless()


def _patches(module: nn.Module, tokenizer: Any, name: str) -> Patches:
    """What stands in the place of a vision model's tokenizer; raises `ModelError` where it has no class logits."""
    if not type(module).__name__.endswith(IMAGE_HEAD):
        raise ModelError(
            f"{name} is a {type(module).__name__}, which gives no logits of classes: load one with a head for them, "
            f"such as a ViT{IMAGE_HEAD}"
        )
    _require_choice(module.config)
    if tokenizer is not None and not isinstance(tokenizer, Patches):
        raise ModelError(f"{name} reads images, and a {type(tokenizer).__name__} came with it: leave the tokenizer out")
    return Patches.of(module.config) if tokenizer is None else tokenizer


def _require_choice(config: Any) -> None:
    """Raise `ModelError` for a head that does not choose a class."""
    if config.num_labels < 2 or config.problem_type not in (None, "single_label_classification"):
        raise ModelError(
            f"a head of {config.num_labels} output(s) for {config.problem_type or 'one'} is not one that chooses a "
            "class among two or more: only those are supported"
        )


def _merged(module: Any) -> nn.Module:
    """The base model with the active adapters merged into a copy; without them where they are switched off."""
    enabled = module.get_model_status().enabled
    if enabled == "irregular":
        raise ModelError("some of this peft model's adapters are switched off and some are on: switch all of them")
    base = copied(module)
    if enabled:
        merged = base.merge_and_unload()
        return without_name(merged) if hasattr(merged, "config") else merged
    if module.get_model_status().merged_adapters:
        base.unmerge_adapter()
    return base.unload()


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
        batch = model.trial(1, 4)
        values: dict[str, Tensor] = {}
        entered: dict[int, Tensor] = {}
        added: dict[int, list[Tensor]] = {layer: [] for layer in range(len(model.blocks))}
        handles = [
            entrance.register_forward_pre_hook(lambda m, args, layer=layer: entered.update({layer: args[0]}))
            for layer, entrance in enumerate(entrances)
        ]
        try:
            with captured(sites, values):
                clean = model.logits(batch)
        finally:
            for handle in handles:
                handle.remove()
        if not torch.isfinite(clean).all():
            raise NotFiniteError(f"{model.name} returns NaN or infinity on a plain input: its weights are damaged")
        stream = (*batch.ids.shape, model.sites["hook_embed"].width)
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
            gained = entered[layer + 1] - entered[layer]
            if not torch.allclose(sum(parts), gained, rtol=0.02, atol=0.02 * float(gained.abs().max())):
                raise misfit(f"in block {layer} the parts do not add up to what the residual stream gained")
        middle = len(model.blocks) // 2
        for kind in ("head", "neuron", "resid", "embed"):
            site = model.sites[site_name(kind, None if kind == "embed" else middle)]
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
                    point = model.sites[site_name(kind, layer)]
                    stack.callback(point.hook(lambda v: torch.full_like(v, torch.nan)).remove)
                without = model.logits(batch)
            if torch.equal(without, changed):
                raise misfit(f"editing {site_name(kind, 'L')} changes nothing in any block")


def _moved(values: Tensor) -> Tensor:
    return values + torch.linspace(1, 2, values.shape[-1], dtype=values.dtype, device=values.device)
