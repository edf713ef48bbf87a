"""What a module's parameters are: a digest of them, and a copy."""

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn


def weights_digest(module: nn.Module) -> str:
    """A digest of every parameter's shape, dtype and bytes, the same on any device and under any module names."""
    with ThreadPoolExecutor() as threads:  # hashing leaves the interpreter free
        digests = threads.map(_digest, module.parameters())
        return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _digest(parameter: nn.Parameter) -> bytes:
    digest = hashlib.sha256(repr((tuple(parameter.shape), str(parameter.dtype))).encode())
    digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
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
