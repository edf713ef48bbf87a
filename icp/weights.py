"""What a module's parameters are: a digest of them (and of buffers), a copy, and a copy in another dtype."""

import copy
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn


def weights_digest(module: nn.Module) -> str:
    """A digest of every parameter's shape, dtype and bytes, the same on any device and under any module names."""
    return _digest(module.parameters())


def buffers_digest(module: nn.Module) -> str:
    """The same of every buffer, such as rotary frequencies and attention masks."""
    return _digest(module.buffers())


def _digest(tensors: Iterable[Tensor]) -> str:
    with ThreadPoolExecutor() as threads:  # hashing leaves the interpreter free
        return hashlib.sha256(b"".join(threads.map(_bytes_digest, tensors))).hexdigest()[:16]


def _bytes_digest(tensor: Tensor) -> bytes:
    digest = hashlib.sha256(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.digest()


def copied(module: nn.Module, device: str | None = None) -> nn.Module:
    """A deep copy, on `device` where one is given: no second copy is made where the module is.

    A bridge's derived q, k and v tensors, which torch will not copy, are detached first.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().to(device, copy=True)
    if device is not None:
        for parameter in module.parameters():
            moved = parameter.detach().to(device, copy=True)
            memo[id(parameter)] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
        memo |= {id(buffer): buffer.to(device, copy=True) for buffer in module.buffers()}
    return copy.deepcopy(module, memo)


def without_name(module: nn.Module) -> nn.Module:
    """The module itself, which no longer says that its weights are those of a folder or a hub id.

    Where they were changed, adapters put on it would name a base that it is not.
    """
    module.name_or_path = module.config._name_or_path = ""
    return module


def copied_in(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A deep copy with its weights in `dtype`, as `from_pretrained(dtype=dtype)` would load them.

    Buffers that no checkpoint holds, such as rotary frequencies, stay as precise as the config made them.
    """
    other = copied(module)
    kept = [(part, name, part._buffers[name]) for part in other.modules() for name in part._non_persistent_buffers_set]
    other.to(dtype)
    for part, name, buffer in kept:
        part._buffers[name] = buffer
    return other
