"""Where to begin a fine-tune, by the size of the model: options of the adapters and of the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from icp.errors import IcpError


@dataclass(frozen=True)
class Preset:
    """Options of `peft.LoraConfig`, and of `transformers.TrainingArguments`, over those that `icp.finetune` has."""

    lora: Mapping[str, Any]
    arguments: Mapping[str, Any]


def _preset(rank: int, batch: int, accumulated: int, rate: float, **arguments: Any) -> Preset:
    given = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "learning_rate": rate}
    return Preset(MappingProxyType({"r": rank, "lora_alpha": 2 * rank}), MappingProxyType(given | arguments))


_LARGE = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}, "bf16": True}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smollm2-135m": _preset(8, 8, 1, 5e-4),
        "smollm2-360m": _preset(8, 8, 1, 3e-4),
        "smollm2-1.7b": _preset(16, 8, 2, 1e-4, warmup_steps=10, **_LARGE),
        "llama-2-7b": _preset(16, 4, 8, 2e-5, warmup_steps=10, **_LARGE),
    }
)
"""Presets by the models they are for; `icp.finetune(..., preset=name)` takes one, and explicit arguments override it.

Only that of SmolLM2-135M has been run. That of Llama-2-7B is what the method's proposal asks for: batches of 32 (here 8
times 4) and a learning rate of 2e-5, with weights of the invariance from 0.1 to 1.0, to be given with it; its rank, its
warm-up and both other presets are starting points that nobody has tried.
"""


def preset_of(name: str | None) -> Preset:
    """The preset of this name, or an empty one; raises `IcpError` naming the others."""
    if name is None:
        return Preset({}, {})
    if name not in PRESETS:
        raise IcpError(f"unknown preset {name!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[name]
