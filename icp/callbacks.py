"""Callbacks of a `transformers.Trainer`; imported where they are used, since `transformers` is slow to import."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import TrainerCallback

from icp.errors import SensitivityWarning
from icp.losses import Losses
from icp.watch import Watched


class SavesStates(TrainerCallback):
    """Writes what objectives keep into each checkpoint, last of all, as the file `name`."""

    def __init__(self, states: tuple[dict[str, Tensor], ...], name: str):
        self.states, self.name = states, name

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            tensors = {
                f"{number}.{name}": value.contiguous()
                for number, mine in enumerate(self.states)
                for name, value in mine.items()
            }
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file(tensors or {"none": torch.zeros(1)}, folder / "partial")
            (folder / "partial").rename(folder / self.name)


class AfterSteps(TrainerCallback):
    """Does something after each step of the optimiser."""

    def __init__(self, act: Callable[[], None]):
        self.act = act

    def on_step_end(self, args, state, control, **kwargs):
        self.act()


class LogsTheLast(TrainerCallback):
    """Logs the last step too, so that a run of few steps has a history."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_log |= state.global_step >= state.max_steps


class WatchesPairs(TrainerCallback):
    """Measures pairs before, while and after training; keeps it in the log, which checkpoints hold; warns once."""

    def __init__(self, watched: Watched, losses: Losses):
        self.watched, self.losses, self.warned = watched, losses, False

    def on_train_begin(self, args, state, control, **kwargs):
        if not self._seen(state):
            self._measure(state)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.watched.watch.every == 0 or state.global_step >= state.max_steps:
            self._measure(state)

    def _measure(self, state):
        state.log_history.append(self.watched.shares(self.losses) | {"step": state.global_step})
        told = self.watched.warning(self._seen(state))
        if told is not None and not self.warned and state.is_world_process_zero:
            self.warned = True
            warnings.warn(told, SensitivityWarning, stacklevel=2)

    def _seen(self, state):
        return [entry for entry in state.log_history if "sensitivity" in entry]


class Bar(TrainerCallback):
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
