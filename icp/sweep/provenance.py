"""What the numbers of a measurement depend on besides the weights: token ids, config, buffers, arithmetic, versions."""

import hashlib
import json
from importlib.metadata import version
from typing import Any

import torch

from icp.model import Model
from icp.probes import Probe
from icp.sweep.plan import Layout
from icp.tokenizing import encode
from icp.weights import buffers_digest

NO_ARITHMETIC = {
    "_name_or_path", "architecture", "architectures", "attn_implementation", "bos_token_id", "device", "dtype",
    "eos_token_id", "id2label", "label2id", "model_name", "n_devices", "output_attentions", "output_hidden_states",
    "pad_token_id", "problem_type", "return_dict", "tokenizer_name", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Entries of configs that say where a model is from and how it is called; its dtype is in the header by itself."""


def provenance(model: Model, layout: Layout, reference: Probe | None) -> dict[str, Any]:
    """Entries for the header of a measurement.

    `tokens` is a digest of the ids that are run, of the counterparts', of the reference's, and of what P reads;
    `config` one of all that may change what the modules compute, names, paths and the attention kernel left out;
    `buffers` one of the tensors that are no parameters.
    """
    from icp import __version__

    return {
        "tokens": _tokens(model, layout, reference),
        "config": _digest([{k: v for k, v in each.items() if k not in NO_ARITHMETIC} for each in model.settings]),
        "buffers": buffers_digest(model.module),
        "arithmetic": {"float32_matmul": _float32_matmul(model.device), "autocast": _autocast(model.device)},
        "versions": {"icp": __version__, "torch": torch.__version__} | {name: version(name) for name in model.packages},
    }


def _tokens(model: Model, layout: Layout, reference: Probe | None) -> str:
    tokens, bound = layout.tokens, layout.bound
    told = [] if reference is None else [encode(model.tokenizer, example.text, "") for example in reference.examples]
    targets = bound.targets if bound.tokens is None else bound.tokens[bound.targets]
    if targets.is_floating_point():  # worked out from answers, which the header has
        targets = torch.zeros(0)
    read = [part.tolist() for part in (bound.example, bound.positions, targets, bound.weights)]
    return _digest([tokens.inputs, tokens.text_lengths, tokens.counterparts, told, read])


def _float32_matmul(device: torch.device) -> str:
    """How float32 matrices are multiplied: `ieee`, or in less precision `tf32` or `bf16`."""
    backend = torch.backends.cuda.matmul if device.type == "cuda" else torch.backends.mkldnn.matmul
    try:
        precision = backend.fp32_precision
    except AttributeError:  # torch before 2.9
        lower = {"highest": "ieee", "high": "tf32", "medium": "tf32" if device.type == "cuda" else "bf16"}
        return lower[torch.get_float32_matmul_precision()]
    return "ieee" if precision == "none" else precision


def _autocast(device: torch.device) -> str:
    on = torch.is_autocast_enabled(device.type)
    return str(torch.get_autocast_dtype(device.type)) if on else "off"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
