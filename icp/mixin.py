"""`ObjectiveMixin`: what makes any `transformers.Trainer` minimise objectives, such as the invariance.

It overrides `compute_loss`, as `Trainer` asks for, since a `compute_loss_func` is shown neither the inputs nor the
model, and an intervention runs the model again.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icp.adapters import keep_pruned
from icp.errors import ArtefactError, IcpError, NotFiniteError
from icp.losses import Losses
from icp.rows import Rows

STATE = "icp_objective.safetensors"
INSTEAD = (
    "evaluate with icp.evaluate(icp.load(trainer.model, tokenizer), held_out), or pass own_loss=True with data sets, a "
    "collator and a loss of your own"
)


def last_checkpoint(folder: "str | Path") -> Path | None:
    """The last whole checkpoint in a folder: one counts as whole once it holds `STATE`."""
    numbers = {path.parent.name.removeprefix("checkpoint-") for path in Path(folder).glob(f"checkpoint-*/{STATE}")}
    last = max((int(number) for number in numbers if number.isdecimal()), default=None)
    return None if last is None else Path(folder) / f"checkpoint-{last}"


class ObjectiveMixin:
    """Mix it into a `transformers.Trainer`, or a subclass of your own, in front:

        class Mine(icp.ObjectiveMixin, Trainer): ...

        losses = icp.Losses.of(model, train, icp.Invariance(units))  # `model` as it is before training
        Mine(losses=losses, model=get_peft_model(model.module, lora), args=arguments).train()

    The rows of `losses` are then the training set, and their task loss and penalty what is minimised; logs have both.
    With `own_loss=True` the training set, the collator and the loss stay those of the Trainer, and the penalty alone is
    added: each batch has to hold, as `row`, the numbers of its rows in `losses`. Evaluation is then the Trainer's own,
    by its own loss without the penalty, whether there is a `row` or not; without `own_loss`, use `icp.evaluate`.

    What objectives keep is saved in checkpoints, and `train(resume_from_checkpoint=...)` reads it. What was pruned from
    the model stays pruned. Several GPUs are for `accelerate launch`: without it one is used, since the replicas of
    `torch.nn.DataParallel` share the hooks and would mix up what they see.

    Raises `IcpError` without `args`, for batches without rows and for data that would not be used, `NotFiniteError`
    where the loss is not finite, `ArtefactError` for a checkpoint that holds no states, `ModelError` for a model that
    is not that of `losses`.
    """

    def __init__(self, *given: Any, losses: Losses, own_loss: bool = False, **options: Any):
        if not own_loss:
            _require_unsaid(options)
            options = {"train_dataset": _Numbers(len(losses.rows)), "data_collator": _Collator(losses.rows)} | options
        arguments = given[1] if len(given) > 1 else options.get("args")
        if arguments is None:
            raise IcpError("no training arguments were given: pass args=TrainingArguments(...)")
        if not own_loss and arguments.label_smoothing_factor:
            raise IcpError(
                f"label_smoothing_factor={arguments.label_smoothing_factor} is not heeded, since the loss is that of "
                "the objectives: leave it out, or pass own_loss=True"
            )
        if arguments.n_gpu > 1:
            arguments._n_gpu = 1
        losses.require_batch(arguments.per_device_train_batch_size)
        super().__init__(*given, **options)
        self.model_accepts_loss_kwargs = False  # losses are means over a batch
        self.own_loss, self.losses = own_loss, losses.on(self.model)
        self.parts: list[tuple[Tensor, Tensor]] = []
        from icp.callbacks import AfterSteps, SavesStates

        self.add_callback(AfterSteps(keep_pruned(self.losses.model)))
        self.add_callback(SavesStates(self.losses.states, STATE))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not model.training:
            given = _without_rows(inputs)
            return super().compute_loss(model, given, return_outputs, num_items_in_batch=num_items_in_batch)
        if "row" not in inputs:
            raise IcpError(
                "a training batch has no 'row', the numbers of its rows in losses: let each example of the data set "
                "have it, and set remove_unused_columns=False"
            )
        inputs = dict(inputs)
        index, step = inputs.pop("row").tolist(), self.state.global_step
        share = 1
        if self.own_loss:
            share = 1 / self._undivided
            task, outputs = super().compute_loss(model, inputs, True, num_items_in_batch=num_items_in_batch)
            penalty = share * self.losses.step(index, step, model).penalty
        else:
            found = self.losses.step(index, step, model)
            task, penalty, outputs = found.task, found.penalty, {"logits": found.logits}
        loss = task + penalty
        if not torch.isfinite(loss):
            raise NotFiniteError(
                f"the loss is {loss.item()} at step {step + 1} (task {task.item()}, penalty {penalty.item()}): lower "
                f"the learning rate; {self._left}"
            )
        self._agree()
        self.parts.append((task.detach() / share, penalty.detach() / share))
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, *given, **options):
        return super().prediction_step(model, _without_rows(inputs), *given, **options)

    def get_eval_dataloader(self, *given, **options):
        self._require_own_collator()
        return super().get_eval_dataloader(*given, **options)

    def get_test_dataloader(self, *given, **options):
        self._require_own_collator()
        return super().get_test_dataloader(*given, **options)

    def _require_own_collator(self) -> None:
        if isinstance(self.data_collator, _Collator):
            raise IcpError(f"this Trainer has the training rows of losses and nothing else: {INSTEAD}")

    @property
    def _left(self) -> str:
        """What is left of a training that stops."""
        last = last_checkpoint(self.args.output_dir)
        return "no checkpoint was saved before" if last is None else f"the last checkpoint is {last}"

    def _agree(self) -> None:
        """Average what objectives keep over the processes, each of which has seen other rows; what they count stays."""
        if self.accelerator.num_processes > 1:
            for value in (value for state in self.losses.states for value in state.values()):
                if value.is_floating_point():
                    value.copy_(self.accelerator.reduce(value.to(self.args.device), "mean"))

    @property
    def _undivided(self) -> int:
        """The number of batches that a step accumulates, where the Trainer does not divide the loss by it."""
        stated = getattr(self, "loss_is_scaled_for_ga", None)
        scaled = self.compute_loss_func is not None if stated is None else stated
        return self.current_gradient_accumulation_steps if scaled else 1

    def log(self, logs, *args, **kwargs):
        if "loss" in logs and self.parts:
            means = torch.stack([torch.stack(part).mean() for part in zip(*self.parts)])
            task, penalty = self.accelerator.reduce(means, "mean").tolist()
            logs |= {"task": task, "penalty": penalty}
            self.parts.clear()
        super().log(logs, *args, **kwargs)

    def train(self, resume_from_checkpoint: "str | Path | bool | None" = None, *given: Any, **options: Any):
        if resume_from_checkpoint is True:
            from transformers.trainer_utils import get_last_checkpoint

            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True
        if isinstance(resume_from_checkpoint, str | Path):
            resume_from_checkpoint = str(resume_from_checkpoint)
            self._take_states(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, *given, **options)

    def _take_states(self, checkpoint: Path) -> None:
        from safetensors.torch import load_file

        if not (checkpoint / STATE).is_file():
            raise ArtefactError(
                f"{checkpoint} holds no {STATE}: it was cut short, or saved without icp.ObjectiveMixin; resume from "
                "another"
            )
        stored = load_file(checkpoint / STATE)
        for number, state in enumerate(self.losses.states):
            for name in state:
                if f"{number}.{name}" not in stored:
                    raise ArtefactError(f"{checkpoint / STATE} has no {number}.{name}: it is of other objectives")
                state[name] = stored[f"{number}.{name}"].to(state[name].device)


def _require_unsaid(options: dict[str, Any]) -> None:
    """Raise `IcpError` for data or a loss that a Trainer on the rows of `losses` would not use, or could not read."""
    for name in ("train_dataset", "data_collator", "eval_dataset", "compute_metrics"):
        if options.get(name) is not None:
            raise IcpError(f"{name} was given, and this Trainer has the training rows of losses alone: {INSTEAD}")
    if options.get("compute_loss_func") is not None:
        raise IcpError(
            "compute_loss_func was given, and the loss is that of the objectives: leave it out, or pass own_loss=True "
            "to add their penalty to it"
        )


def _without_rows(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name != "row"}


class _Numbers(torch.utils.data.Dataset):
    """The numbers of the training rows."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> int:
        return row


class _Collator:
    """Rows by their numbers, and their tokens for the Trainer to count."""

    def __init__(self, rows: Rows):
        self.rows = rows

    def __call__(self, rows: list[int]) -> dict[str, Tensor]:
        tokens = [torch.tensor(self.rows.tokens.inputs[row]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        return {"input_ids": padded, "row": torch.tensor(rows)}
