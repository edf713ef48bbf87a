"""What a cut saves: weights that are zero, and time."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from icp.batch import Batch
from icp.errors import IcpError, ModelError
from icp.hooks import Reads
from icp.model import Model
from icp.probes import Probe
from icp.statistics import mean_interval

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Efficiency:
    """`pruned` of `parameters` weights became exactly zero; `seconds` [model, round] are of passes before and after.

    Both models ran in turn, in one process on `device`, each round once over the same `examples`.
    """

    parameters: int
    pruned: int
    seconds: Float[np.ndarray, "model=2 round"]
    examples: int
    device: str

    @property
    def percent_pruned(self) -> float:
        return 100 * self.pruned / self.parameters

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """Rows with `value`, `low` and `high`: parameters pruned in percent, milliseconds a pass before and after, and
        the time after as a multiple of that before.

        Times are means over rounds with t-intervals; the multiple is the geometric mean over rounds, paired. One round
        has no interval.
        """
        import pandas

        before, after = (mean_interval(1000 * seconds, level=level) for seconds in self.seconds)
        ratio = mean_interval(np.log(self.seconds[1] / self.seconds[0]), level=level)
        rows = {
            "parameters pruned, %": {"mean": self.percent_pruned, "low": float("nan"), "high": float("nan")},
            "latency before, ms": before,
            "latency after, ms": after,
            "latency after / before": {end: float(np.exp(ratio[end])) for end in ("mean", "low", "high")},
        }
        table = pandas.DataFrame(rows).T[["mean", "low", "high"]]
        return table.rename(columns={"mean": "value"}).rename_axis("quantity")


def efficiency(
    before: Model,
    after: Model,
    probe: Probe,
    rounds: int = 20,
    batch_size: int = 16,
    clock: Callable[[], float] = time.perf_counter,
) -> Efficiency:
    """How many weights a cut set to zero, and how long forward passes over a probe take before and after it.

    A weight counts as pruned where it is exactly zero after and was not before; the total is of all weights before. A
    zero takes as long to multiply by as any other number, so the time falls only where weights are gone or skipped.
    Both models take turns, and who goes first alternates, after a round that is not timed; a pass gives the logits
    after each text's last token. Raises `IcpError` for models of other weights, tokenizers or devices, and for no
    rounds.
    """
    if rounds < 1 or batch_size < 1:
        raise IcpError(f"rounds and batch_size are at least 1, got {rounds} and {batch_size}")
    for what, one, other in (
        ("tokenizer", before.binding["tokenizer"], after.binding["tokenizer"]),
        ("device", str(before.device), str(after.device)),
    ):
        if one != other:
            raise ModelError(f"the {what} before is {one} and after {other}: compare a model with what was cut from it")
    parameters, pruned = _counted(before, after)
    inputs = probe.tokenize(before.tokenizer).inputs
    parts = [inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size)]
    models = (before, after)
    batches = [[_prepared(model, part) for part in parts] for model in models]
    seconds = np.empty((2, rounds))
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for model in models:
            stack.enter_context(model.frozen())
        for number in range(-1, rounds):
            for place in (0, 1) if number % 2 else (1, 0):
                took = _timed(models[place], batches[place], clock)
                if number >= 0:
                    seconds[place, number] = took
    return Efficiency(parameters, pruned, seconds, len(probe), str(before.device))


def _counted(before: Model, after: Model) -> tuple[int, int]:
    """How many weights there are before, and how many of them became zero."""
    now = dict(after.module.named_parameters())
    parameters = pruned = 0
    for name, weight in before.module.named_parameters():
        if name not in now or now[name].shape != weight.shape:
            there = f"has the shape {tuple(now[name].shape)}" if name in now else "is missing"
            raise ModelError(
                f"the weight {name!r} has the shape {tuple(weight.shape)} before and {there} after: compare a model "
                "with what was cut from it"
            )
        parameters += weight.numel()
        pruned += int(((now[name] == 0) & (weight != 0).to(now[name].device)).sum())
    return parameters, pruned


def _prepared(model: Model, sequences: list[list[int]]) -> tuple[Batch, Reads]:
    last = torch.tensor([len(sequence) - 1 for sequence in sequences], device=model.device)
    return model.pad(sequences), Reads(torch.arange(len(sequences), device=model.device), last)


def _timed(model: Model, batches: list[tuple[Batch, Reads]], clock: Callable[[], float]) -> float:
    """Seconds that one pass over all batches takes, until the device has finished."""
    _finished(model.device)
    start = clock()
    for batch, reads in batches:
        model.read(batch, reads)
    _finished(model.device)
    return clock() - start


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
