"""The `transformers.Trainer` that minimises an objective; imported where it is used, since it is slow to import."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback

from icp.batch import Batch
from icp.errors import NotFiniteError
from icp.hooks import Reads, reading
from icp.live import watched
from icp.model import Model
from icp.rows import Rows
from icp.step import Objective, Step

STATE = "icp_objective.safetensors"


class ObjectiveTrainer(Trainer):
    """Minimises the sum of what objectives say of each step.

    `measured` is around the module that carries the adapters. A checkpoint counts as whole once it holds `STATE`.
    """

    def __init__(
        self,
        measured: Model,
        rows: Rows,
        objectives: list[Objective],
        states: list[dict[str, Tensor]],
        progress: bool,
        **given: Any,
    ):
        super().__init__(train_dataset=_Numbers(len(rows)), data_collator=_Collator(measured, rows), **given)
        self.model_accepts_loss_kwargs = False  # losses are means over a batch
        self.measured, self.rows, self.objectives, self.states = measured, rows, objectives, states
        self.parts: list[tuple[Tensor, Tensor]] = []
        self.remove_callback(PrinterCallback)
        self.add_callback(_States(self))
        self.add_callback(_Bar(progress))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        index = inputs["row"].tolist()
        batch = Batch(inputs["input_ids"], inputs["attention_mask"].bool())
        reads, targets = self.rows.reads(index, batch.ids.device)
        dropout, clean = _Randomness(batch.ids.device), {}
        sites = {site.name: site for objective in self.objectives for site in objective.watches(self.measured)}
        with watched(self.measured.module, list(sites.values()), clean):
            logits = self._logits(model, batch, reads)

        def run(batch, reads):
            with dropout.replayed():
                return self._logits(model, batch, reads)

        steps = [
            Step(
                self.state.global_step,
                self.measured,
                self.rows,
                index,
                batch,
                reads,
                targets,
                logits,
                clean,
                run,
                state,
            )
            for state in self.states
        ]
        task = self.objectives[0].task(steps[0])
        penalty = sum(objective.penalty(step) for objective, step in zip(self.objectives, steps))
        loss = task + penalty
        if not torch.isfinite(loss):
            raise NotFiniteError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1} (task {task.item()}, penalty "
                f"{penalty.item()}): lower the learning rate; what was saved before is in {self.args.output_dir}"
            )
        self.parts.append((task.detach(), penalty.detach()))
        return (loss, {"logits": logits}) if return_outputs else loss

    def _logits(self, model: torch.nn.Module, batch: Batch, reads: Reads) -> Tensor:
        """[read, token] in float32 at least; `model` is the module, wrapped where several processes train it."""
        unembed = self.measured.unembed
        if any(parameter.requires_grad for parameter in unembed.parameters()):
            logits = model(**batch.arguments(), use_cache=False).logits[reads.rows, reads.positions]
            logits = logits if reads.tokens is None else logits[:, reads.tokens]
        else:
            with reading(unembed, *self.measured.unembed_weights(), reads):
                logits = model(**batch.arguments(), use_cache=False).logits[:, 0]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def log(self, logs, *args, **kwargs):
        if "loss" in logs and self.parts:
            task, penalty = (float(torch.stack(part).mean()) for part in zip(*self.parts))
            logs |= {"task": task, "penalty": penalty}
            self.parts.clear()
        super().log(logs, *args, **kwargs)

    def run(self) -> None:
        """Train, from the last whole checkpoint on where there is one."""
        whole = [path.parent for path in Path(self.args.output_dir).glob(f"checkpoint-*/{STATE}")]
        if not whole:
            self.train()
            return
        last = max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))
        stored = load_file(last / STATE)
        for number, state in enumerate(self.states):
            for name in state:
                state[name] = stored[f"{number}.{name}"].to(state[name].device)
        self.train(resume_from_checkpoint=str(last))


class _Numbers(torch.utils.data.Dataset):
    """The numbers of the training rows."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> int:
        return row


class _Collator:
    """Rows as a right-padded batch."""

    def __init__(self, model: Model, rows: Rows):
        self.model, self.rows = model, rows

    def __call__(self, rows: list[int]) -> dict[str, Tensor]:
        batch = self.rows.batch(self.model, rows)
        return {"input_ids": batch.ids, "attention_mask": batch.mask.long(), "row": torch.tensor(rows)}


class _States(TrainerCallback):
    """Writes what the objectives keep into each checkpoint, last of all."""

    def __init__(self, trainer: ObjectiveTrainer):
        self.trainer = trainer

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            tensors = {
                f"{number}.{name}": value.contiguous()
                for number, mine in enumerate(self.trainer.states)
                for name, value in mine.items()
            }
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file(tensors or {"none": torch.zeros(1)}, folder / "partial")
            (folder / "partial").rename(folder / STATE)


class _Bar(TrainerCallback):
    """Steps done, time left and the last loss."""

    def __init__(self, shown: bool):
        self.shown = shown
        self.bar: Any = None

    def on_train_begin(self, args, state, control, **kwargs):
        shown = self.shown and state.is_local_process_zero
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="fine-tune", unit="step", leave=False,
            disable=not shown,
        )  # fmt: skip

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


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
