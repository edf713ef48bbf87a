"""Chunks that are measured for the first examples only: where a probe is too large to be held, several are at a time.

They lie beside the store's own files, each written whole or not at all, until the chunk is finished, and say with how
many rows a forward pass they were measured: several such numbers where memory ran out, or a resume had another plan.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from icp.errors import ArtefactError
from icp.files import writing_file

Begun = tuple[Float[np.ndarray, "unit intervention example"], int]
"""dP of a chunk, and of how many examples, from the first on, it is measured."""


def keep(store: Path, chunk: range, dP: Float[np.ndarray, "unit intervention example"], batch_sizes: list[int]) -> None:
    """Keep the effects of a chunk's first examples, unless another process has kept more of them, or finished it.

    Raises `ArtefactError` where the disk does not take them.
    """
    path = _file(store, chunk)
    if _reached(path) > dP.shape[2]:
        return
    try:
        with writing_file(path) as work:
            save_file({"dP": np.ascontiguousarray(dP)}, work, {"batch_sizes": json.dumps(batch_sizes)})
    except ArtefactError as error:
        # Another process has finished the chunk meanwhile: its `drop` takes work files along, whosever they are.
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def kept(store: Path, chunk: range, examples: int) -> tuple[Begun, list[int]] | None:
    """What was kept of a chunk, with room for all its examples, and its batch sizes.

    Raises `ArtefactError` for a damaged file.
    """
    path = _file(store, chunk)
    try:
        with safe_open(path, framework="numpy") as file:
            found, batch_sizes = file.get_tensor("dP"), json.loads(file.metadata()["batch_sizes"])
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged ({error}): delete it, and the same call measures it again") from error
    dP = np.full((*found.shape[:2], examples), np.nan, found.dtype)
    dP[:, :, : found.shape[2]] = found
    return (dP, found.shape[2]), batch_sizes


def drop(store: Path, chunk: range) -> None:
    """Forget what was kept of a finished chunk, and what was being written of it."""
    file = _file(store, chunk)
    for path in (file, *file.parent.glob(f".{file.name}-*")):
        path.unlink(missing_ok=True)


def _reached(path: Path) -> int:
    """Of how many examples a file holds the effects; of none where there is no whole one."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_slice("dP").get_shape()[2]
    except (FileNotFoundError, SafetensorError):
        return 0


def _file(store: Path, chunk: range) -> Path:
    return store / "dP" / "begun" / f"{chunk.start}.safetensors"
