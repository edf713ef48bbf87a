"""`load`: a `Model` from whatever you have, checked against its architecture row."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from icp.embedded import minilm, smollm2
from icp.errors import ArtefactError, ModelError
from icp.families import BRIDGE, HOOKED_TRANSFORMER, family_of
from icp.family import Family
from icp.files import read_json
from icp.fitting import check
from icp.images import PROCESSORS, Captioned, Patches
from icp.model import TOWER, TOWER_FORMAT, Model
from icp.quiet import quiet_transformers
from icp.weights import copied, without_name

LARGEST = 2
"""What the first CLIPs' configs say of the end token, by which `transformers` takes the largest id of a text."""

HEAD, IMAGE_HEAD = "ForSequenceClassification", "ForImageClassification"


@dataclass(frozen=True)
class Told:
    """What was said of a model besides its name."""

    tokenizer: Any = None
    tower: str | None = None
    captions: dict[str, str] | None = None


def load(source: Any, tokenizer: Any = None, *, dtype: torch.dtype | None = None, device: "str | None" = None,
         tower: str | None = None, captions: Mapping[str, str] | None = None,
         trust_remote_code: bool = False) -> Model:  # fmt: skip
    """A `Model` from whatever you have.

    `source` is `"smollm2"` (the embedded default, dequantised), `"minilm"` (a sentence encoder), a hub id, a local
    folder, a `transformers` model with its tokenizer, a peft model (its adapters are merged into a copy), a
    `HookedTransformer` or a `TransformerBridge`. With a classification head in place of the unembedding, answers are
    the class names of the config. An encoder without a head gives representations (`icp.Similarity`). A model of images
    comes without a tokenizer; what it takes are pixels (`icp.Image`).

    Of a CLIP, `tower` says whose units are meant, `"text"` or `"vision"`: it gives representations, which are compared
    with those of texts and images alike (`icp.Similarity`). With `captions`, one for each name of a class, images are
    classified by the caption that is most like them (Radford et al. 2021, without its ensembles), and the units are
    those of the vision tower unless `tower` says otherwise. A folder that such a model was saved into gives the same
    again. `tokenizer` is that of the texts; `Model.other` is the other tower of the same weights.

    Weights are fp32 unless `dtype` says otherwise; a module that is handed in keeps its dtype and device.

    Raises `ModelError` where the source is unknown, has no tokenizer or no architecture row, or does not fit its row,
    and for a device that is not there.
    """
    told = Told(tokenizer, *_classed(tower, captions))
    if isinstance(source, (str, Path)):
        _require_device(device)
        model = _from_folder_or_hub(str(source), told, dtype or torch.float32, trust_remote_code)
        if device is not None:
            model.module.to(device)
    elif isinstance(source, nn.Module):
        if dtype is not None or device is not None:
            raise ModelError("dtype and device belong to loading by name: move the module itself before handing it in")
        model = _from_module(source, told)
    else:
        raise ModelError(f"cannot load a model from a {type(source).__name__}: give a name, a folder or a module")
    for each in model.towers:
        check(each)
    return model


def _classed(tower: str | None, captions: Mapping[str, str] | None) -> tuple[str | None, dict[str, str] | None]:
    """The tower that captions stand for; raises `ModelError` for captions that cannot classify."""
    if captions is None:
        return tower, None
    told = [each for pair in captions.items() for each in pair] if isinstance(captions, Mapping) else []
    if len(told) < 4 or not all(isinstance(each, str) and each.strip() for each in told):
        raise ModelError(f"captions={captions!r}: give a caption for each of two or more names of classes")
    return tower or "vision", dict(captions)


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


def _from_folder_or_hub(name: str, told: Told, dtype: torch.dtype, trust_remote_code: bool) -> Model:
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
    if told.tower is None and (path / TOWER).is_file():
        saved = read_json(path / TOWER, *TOWER_FORMAT)
        if not {"tower", "captions"} <= set(saved):
            raise ArtefactError(f"{path / TOWER} is damaged (it lacks its tower or captions): delete it, and say which")
        tower, captions = _classed(saved["tower"], saved["captions"])
        told = replace(told, tower=tower, captions=captions)
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"the folder {where} has no config.json: it is not a saved transformers model")
    try:
        config = AutoConfig.from_pretrained(where, **options)
        family = family_of(config.model_type, told.tower)  # before gigabytes of weights are read
        classifies = any(name.endswith(HEAD) for name in config.architectures or ())
        kind = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
        if family.tower:
            kind = AutoModel
        elif family.pixels:
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
    if kind is AutoModel and not family.tower:
        _require_mean(name, path / "1_Pooling" / "config.json")
        if found["missing_keys"] and all(key.startswith("pooler.") for key in found["missing_keys"]):
            module.pooler, found["missing_keys"] = None, set()  # it takes the first token, which is not read here
    _require_whole(name, found)
    tokenizer = told.tokenizer
    try:
        if family.tower or not family.pixels:
            tokenizer = told.tokenizer or AutoTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"no tokenizer in {name!r}: save it into that folder with tokenizer.save_pretrained, "
            f"or pass icp.load({name!r}, tokenizer=...) ({_first_line(error)})"
        ) from error
    model = _from_module(module, replace(told, tokenizer=tokenizer), name)
    if family.pixels or family.tower:
        model = _with_processors(model, where)
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


def _with_processors(model: Model, where: str) -> Model:
    """The model with the files that say how pixels are made of pictures, kept for its images."""
    from transformers.utils import cached_file

    files = []
    for name in PROCESSORS:
        try:
            files.append((name, Path(cached_file(where, name)).read_text("utf-8")))
        except OSError:  # it came without
            continue
    return replace(
        model,
        **{
            name: replace(read, processors=tuple(files))
            for name in ("tokenizer", "beside")
            if isinstance(read := getattr(model, name), Patches)
        },
    )


def _from_module(module: nn.Module, told: Told, name: str | None = None) -> Model:
    kinds = {base.__name__ for base in type(module).__mro__}
    if "PeftModel" in kinds:
        if module.active_peft_config.is_prompt_learning:
            raise ModelError(
                f"a {module.active_peft_config.peft_type.value} adapter cannot be merged into weights: "
                "load its base model, or use an adapter such as LoRA"
            )
        name = name or getattr(getattr(module, "config", None), "_name_or_path", "") or None
        return _from_module(_merged(module), told, name)
    if any("BaseTunerLayer" in {base.__name__ for base in type(part).__mro__} for part in module.modules()):
        raise ModelError(
            f"this {type(module).__name__} has adapters inside, which are not its own weights: load the peft model "
            "around it, or merge them first"
        )
    tokenizer, beside = told.tokenizer, None
    if "TransformerBridge" in kinds or "HookedTransformer" in kinds:
        tokenizer = tokenizer or module.tokenizer
        bridge = "TransformerBridge" in kinds
        family, kind = (BRIDGE, "bridge") if bridge else (HOOKED_TRANSFORMER, "hooked_transformer")
        name = name or getattr(module.cfg, "model_name", kind)
    elif hasattr(module, "config") and hasattr(module.config, "model_type"):
        family, kind = family_of(module.config.model_type, told.tower), "transformers"
        name = name or getattr(module.config, "_name_or_path", "") or module.config.model_type
        if not family.causal and getattr(module.config, "is_decoder", False):
            raise ModelError(f"{name} is a {family.name} that is a decoder: only encoders of that row are supported")
        if family.tower:
            family, tokenizer, beside = _tower(family, module, told)
        elif type(module).__name__.endswith(HEAD):
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
    if told.tower and not family.tower:
        raise ModelError(f"{name} has one tower, and tower={told.tower!r} was asked for: leave it and captions out")
    return Model(module, tokenizer, family, kind, name, captions=told.captions, beside=beside)


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


def _tower(family: Family, module: nn.Module, told: Told) -> tuple[Family, Any, Any]:
    """The row of a tower, what it reads with and what the other does; raises `ModelError` without both towers."""
    from transformers import ProcessorMixin

    if not callable(getattr(module, family.features, None)):
        raise ModelError(
            f"a {type(module).__name__} is not the whole of a CLIP: load the CLIPModel, which has both towers"
        )
    if told.tokenizer is None:
        raise ModelError("a CLIP came without the tokenizer of its texts: pass icp.load(model, tokenizer=...)")
    tokenizer = told.tokenizer.tokenizer if isinstance(told.tokenizer, ProcessorMixin) else told.tokenizer
    if tokenizer("a")["input_ids"][-1:] != [tokenizer.eos_token_id]:
        raise ModelError(
            "the tokenizer does not end a text with its end token, at which a CLIP reads it: give the one that the "
            "model was trained with"
        )
    ends_at = max(tokenizer.get_vocab().values()) if module.text_model.eos_token_id == LARGEST else None
    ends_at = module.text_model.eos_token_id if ends_at is None else ends_at
    if ends_at != tokenizer.eos_token_id:
        raise ModelError(
            f"a text of this CLIP ends at the token {ends_at}, and the tokenizer's end token is "
            f"{tokenizer.eos_token_id}: set both to the same token"
        )
    patches = Patches.of(module.config.vision_config)
    said: dict[tuple[int, ...], str] = {}
    longest = module.config.text_config.max_position_embeddings
    for name, caption in (told.captions or {}).items():
        ids = tuple(tokenizer(caption)["input_ids"])
        if len(ids) > longest:
            raise ModelError(f"the caption of {name!r} has {len(ids)} tokens, a text has at most {longest}: shorten it")
        other = said.setdefault(ids, name)
        if other != name:
            raise ModelError(f"the captions of {other!r} and {name!r} are the same tokens: reword one of them")
    if told.captions is not None:
        reader = patches if family.pixels else Captioned.of(patches, tokenizer, told.captions.values())
        return family.captioned(), reader, tokenizer
    return (family, patches, tokenizer) if family.pixels else (family, tokenizer, patches)


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
