"""What `measure` was given, told apart from what it takes, before anything is written."""

import math
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from icp.bound import Property
from icp.errors import IcpError, ModelError, ProbeError
from icp.interventions import Erase, Intervention
from icp.model import Model
from icp.probes import Probe
from icp.sweep.ray import Ray


def require_kinds(
    model: Any,
    probe: Any,
    reference: Any,
    positions: Any,
    batch_size: Any,
    store: Any,
    memory: Any = None,
    dtype: Any = None,
    runner: Any = None,
) -> None:
    """Raise `IcpError` for an argument of another kind than `measure` says, and for a model that is no longer whole."""
    if not isinstance(model, Model):
        raise ModelError(
            f"cannot measure a {type(model).__name__}: pass what icp.load(...) returns for a model, a name or a folder"
        )
    model.require_unchanged()
    for name, given in (("probe", probe), ("reference", reference)):
        if not isinstance(given, Probe) and (name == "probe" or given is not None):
            raise ProbeError(
                f"{name} is a {type(given).__name__}, not a Probe: make one with icp.Probe.from_pairs(...), "
                "from_texts(...) or load(path)"
            )
    if isinstance(positions, tuple) and not all(
        _whole(place) or (place is None and number) for number, place in enumerate(positions)
    ):
        raise ProbeError(f"positions={positions!r} is no span: give ints, such as (0, 2) or (-3, None)")
    if batch_size is not None and not _whole(batch_size):
        raise IcpError(f"batch_size={batch_size!r} is no number of rows: give an int of at least 1")
    number = isinstance(memory, Real) and not isinstance(memory, bool)
    if memory is not None and not (number and math.isfinite(memory)):
        raise IcpError(f"memory={memory!r} is no number of bytes: give one such as 8e9, or leave it out")
    if store is not None and not isinstance(store, str | Path):
        raise IcpError(f"store={store!r} is no path: give one as a string or a pathlib.Path, or leave it out")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise IcpError(f"dtype={dtype!r} is no dtype: give one such as torch.bfloat16, or leave it out")
    if runner is not None and not isinstance(runner, Ray):
        raise IcpError(f"runner={runner!r} is no runner: pass icp.Ray(...), or leave it out")


def require_property(property: Any) -> None:
    """Raise `IcpError` for what is not a property that was made."""
    if not isinstance(property, Property):
        raise IcpError(f"{property!r} is not a property: pass LogitDifference(), TaskLoss() or another one, made")


def require_interventions(interventions: list[Any]) -> None:
    """Raise `IcpError` for what is not an intervention."""
    for what in interventions:
        if not isinstance(what, Intervention):
            raise IcpError(
                f"{what!r} is not an intervention: pass Mask(...), Scale(...), Swap(...) or your own subclass"
            )
        if isinstance(what, Erase):
            raise IcpError(
                f"{what!r} is fitted on pairs and has no single effects: give it to icp.frontier, or prune with "
                "icp.erasure(model, units, pairs)"
            )


def _whole(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)
