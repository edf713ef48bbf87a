"""What a step of training loses, under objectives: for `icp.finetune`, for a `Trainer` of one's own, for any loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icp.adapters import carrying
from icp.apart import OnPairs
from icp.batch import Batch
from icp.errors import IcpError
from icp.hooks import Reads, reading
from icp.live import watched
from icp.model import Model
from icp.pairs import Pairs
from icp.probes import Probe
from icp.rows import Rows
from icp.step import Objective, Step


@dataclass(frozen=True, eq=False)
class Loss:
    """What one batch loses, on the graph: `task` in nats, `penalty` as the objectives weigh it, both means over rows.

    `logits` are what was read, a row of them for each read.
    """

    task: Float[Tensor, ""]
    penalty: Float[Tensor, ""]
    logits: Float[Tensor, "read token"]

    @property
    def total(self) -> Float[Tensor, ""]:
        return self.task + self.penalty


@dataclass(frozen=True, eq=False)
class Losses:
    """Training rows, and the objectives that say what is lost on them: `Losses.of(model, train, objectives)`.

    The first objective says what the task's loss is; the penalties of all are added. `looks_at` has the rows that each
    penalty is taken on: the training rows, or pairs of its own. `states` are the objectives' own, which change while
    training.
    """

    model: Model
    rows: Rows
    objectives: tuple[Objective, ...]
    looks_at: tuple[Rows, ...]
    states: tuple[dict[str, Tensor], ...]

    @classmethod
    def of(cls, model: Model, train: "Probe | Pairs", objectives: "Objective | Sequence[Objective]") -> "Losses":
        """`model` is the one before training, which objectives may measure, with no adapters on it yet.

        Raises `IcpError` where a row, the model or an objective is not one that can be trained with.
        """
        model.require_unchanged()
        some = (objectives,) if isinstance(objectives, Objective) else tuple(objectives)
        if not some:
            raise IcpError("no objective was given: icp.Objective() is plain fine-tuning")
        for objective in some[1:]:
            if type(objective).task is not Objective.task:
                raise IcpError(
                    f"{type(objective).__name__} says what the task's loss is, as does {type(some[0]).__name__} before "
                    "it: give one such objective, first, and only penalties after it"
                )
        rows = Rows.of(model, train)
        looks_at = tuple(Rows.of(model, each.pairs) if isinstance(each, OnPairs) else rows for each in some)
        return cls(model, rows, some, looks_at, tuple(each.begin(model, its) for each, its in zip(some, looks_at)))

    def require_batch(self, size: int) -> None:
        """Raise `IcpError` where an objective cannot be minimised on batches of so many rows."""
        for objective, rows in zip(self.objectives, self.looks_at):
            objective.require_batch(rows, size)

    def on(self, module: nn.Module) -> "Losses":
        """The same of the module that is trained: the model's own, a copy of it, or a peft model around either.

        States are copied, so that each training begins with those of the beginning.
        """
        states = tuple({name: value.clone() for name, value in state.items()} for state in self.states)
        return replace(self, model=carrying(self.model, module), states=states)

    def step(self, index: list[int], number: int, forward: Callable | None = None) -> Loss:
        """What the rows numbered `index` lose at step `number` of the training.

        `forward` is the module as it is called, where that is a wrapper of the model's (such as one that several
        processes train).
        """
        forward = self.model.module if forward is None else forward
        here = self._observed(self.rows, index, number, forward)
        task, penalties = self.objectives[0].task(here(self.states[0])), []
        for objective, rows, state in zip(self.objectives, self.looks_at, self.states):
            there = here
            if isinstance(objective, OnPairs):
                there = self._observed(rows, objective.rows_of(rows, number), number, forward)
            penalties.append(objective.penalty(there(state)))
        return Loss(task, sum(penalties), here({}).logits)

    def _observed(
        self, rows: Rows, index: list[int], number: int, forward: Callable
    ) -> Callable[[dict[str, Tensor]], Step]:
        """What a run over these rows shows, as a step for an objective's state."""
        batch = rows.batch(self.model, index)
        reads, targets = rows.reads(index, batch.ids.device)
        dropout, clean = _Randomness(batch.ids.device), {}
        sites = {
            site.name: site
            for objective, its in zip(self.objectives, self.looks_at)
            if its is rows
            for site in objective.watches(self.model)
        }
        with watched(self.model.module, list(sites.values()), clean):
            logits = self.logits(batch, reads, forward)

        def run(batch, reads):
            with dropout.replayed():
                return self.logits(batch, reads, forward)

        return partial(Step, number, self.model, rows, index, batch, reads, targets, logits, clean, run)

    def logits(self, batch: Batch, reads: Reads, forward: Callable | None = None) -> Float[Tensor, "read token"]:
        """What is read of a run, in float32 at least; `forward` as in `step`."""
        forward = self.model.module if forward is None else forward
        if self.model.classes is not None:  # of each row, the last token's, where it is read
            logits = self.model.answering(forward(**self.model.arguments(batch)))[reads.rows][:, reads.tokens]
        elif any(parameter.requires_grad for parameter in self.model.unembed.parameters()):
            logits = forward(**self.model.arguments(batch)).logits[reads.rows, reads.positions]
            logits = logits if reads.tokens is None else logits[:, reads.tokens]
        else:
            with reading(self.model.unembed, *self.model.unembed_weights(), reads):
                logits = forward(**self.model.arguments(batch)).logits[:, 0]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class _Randomness:
    """Where the random numbers of a device stood, so that a second run draws the same dropout."""

    def __init__(self, device: torch.device):
        self.cuda = device if device.type == "cuda" else None
        self.then = self._now()

    def _now(self) -> tuple[Tensor, Tensor | None]:
        return torch.get_rng_state(), None if self.cuda is None else torch.cuda.get_rng_state(self.cuda)

    def _set(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if self.cuda is not None:
            torch.cuda.set_rng_state(state[1], self.cuda)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Random numbers from then on inside; afterwards those that would have come."""
        now = self._now()
        self._set(self.then)
        try:
            yield
        finally:
            self._set(now)
