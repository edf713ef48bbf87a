"""Callbacks of a `transformers.Trainer`; imported where they are used, since `transformers` is slow to import."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import TrainerCallback


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
