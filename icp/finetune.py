"""`finetune`: LoRA through `transformers.Trainer`, minimising an objective, with or without the invariance."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icp.adapters import Tuning, adapted, default_lora, require_pruned, weights_of
from icp.apart import OnPairs
from icp.errors import IcpError, ModelError
from icp.invariance import Invariance
from icp.losses import Losses
from icp.model import Model
from icp.pairs import Pairs
from icp.presets import preset_of
from icp.probes import Probe
from icp.runs import Run, provenance
from icp.step import Objective
from icp.watch import PairWatch, Watched
from icp.weights import copied, without_name

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import TrainingArguments

ARGUMENTS = {
    "per_device_train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 5e-4, "lr_scheduler_type": "linear",
    "warmup_steps": 0, "weight_decay": 0.0, "logging_steps": 10, "report_to": "none", "save_strategy": "epoch",
    "save_total_limit": 2, "remove_unused_columns": False, "dataloader_pin_memory": False,
}  # fmt: skip


def finetune(
    model: Model,
    train: "Probe | Pairs",
    *,
    preset: str | None = None,
    lora: "LoraConfig | None" = None,
    objective: Objective | Sequence[Objective] | None = None,
    invariance: Invariance | OnPairs | None = None,
    watch: PairWatch | None = None,
    arguments: Mapping[str, Any] | None = None,
    folder: "str | Path | None" = None,
    seed: int = 0,
    progress: bool = True,
) -> Model:
    """A copy of `model`, fine-tuned on labelled rows, with the adapters merged; `Model.tuning` says how it was made.

    Rows with the same two or more answers are classified: the loss is the cross-entropy of the answers' logits after
    the text. Rows with one answer each are completed: it is that of the answer's tokens, over the whole vocabulary.
    Without more that is plain fine-tuning (ERM). `objective` replaces it or adds to it (`icp.baselines`), `invariance`
    keeps the output as it is under interventions; `icp.OnPairs` takes either on pairs of its own. Of several objectives
    the first may replace the loss, and the penalties of all are added. `watch` measures pairs that are held out, and
    warns where the model grows insensitive to the cause. What was pruned from `model` stays pruned.

    `lora` is a `peft.LoraConfig` (default: rank 8, alpha 16, every linear layer of the blocks); `arguments` are those
    of `transformers.TrainingArguments`; `preset` names defaults for both by the model's size (`icp.PRESETS`). With
    `folder`, checkpoints are kept there, the same call resumes from the last, and the adapters end up in
    `folder/adapter` (of a model that was cut or merged in memory they name no base, until `Tuning.save_pretrained` is
    told one). Start a script by `accelerate launch` to train on several GPUs: each process returns the same model, and
    the first one writes.

    Raises `ProbeError` naming the row that cannot be trained on, `ModelError` for a model that is not a plain
    `transformers` one, `ArtefactError` for a folder of another run, `NotFiniteError` where the loss is not finite.
    """
    if model.kind != "transformers":
        raise ModelError(f"a {model.kind} cannot be fine-tuned: load the same model with icp.load(<hub id>)")
    from transformers import TrainingArguments

    objective = Objective() if objective is None else objective
    some = (objective,) if isinstance(objective, Objective) else tuple(objective)
    losses = Losses.of(model, train, some if invariance is None else (*some, invariance))
    watched = None if watch is None else Watched.of(watch, losses)
    start = preset_of(preset)
    config = default_lora(model, **start.lora) if lora is None else lora
    saves = {"save_strategy": "no"} if folder is None else {}
    options = ARGUMENTS | saves | dict(start.arguments) | dict(arguments or {})
    _require_arguments(options, folder)
    losses.require_batch(options["per_device_train_batch_size"])
    with seeded(seed), TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        asked = TrainingArguments(
            output_dir=str(place), seed=seed, disable_tqdm=True, use_cpu=model.device.type == "cpu", **options
        )
        adapters = adapted(copied(model.module), config)
        config = adapters.active_peft_config
        if folder is None:
            history = _trained(losses, adapters, asked, progress, watched)
        else:
            with asked.main_process_first(local=False, desc="what is asked"):
                told = provenance(model, losses.rows, losses.objectives, config, options, seed)
                run = Run(Path(folder), told if watch is None else told | {"watch": watch.label})
            history = run.finished(adapters)
            if history is None:
                history = _trained(losses, adapters, asked, progress, watched)
                with asked.main_process_first(local=False, desc="the end of the run"):
                    if asked.process_index == 0:
                        run.finish(Tuning(config, weights_of(adapters), history))
        tuning = Tuning(config, weights_of(adapters), history)
        found = replace(model, module=without_name(adapters.merge_and_unload().eval()), tuning=tuning)
    require_pruned(found)
    return found


def _require_arguments(options: Mapping[str, Any], folder: "str | Path | None") -> None:
    """Raise `IcpError` for a training argument that there is not, is given another way, or would do nothing."""
    from transformers import TrainingArguments

    elsewhere = {"output_dir": "folder", "seed": "seed", "disable_tqdm": "progress", "use_cpu": "icp.load(device=)"}
    known = {field.name for field in fields(TrainingArguments)}
    for name, value in options.items():
        if name in elsewhere:
            raise IcpError(f"{name}={value!r} among the arguments: say it by {elsewhere[name]}")
        if name not in known:
            close = get_close_matches(name, known, 3)
            raise IcpError(
                f"there is no training argument {name!r}" + (f": did you mean {', '.join(close)}?" * bool(close))
            )
    if options.get("label_smoothing_factor"):
        raise IcpError("label_smoothing_factor is not heeded: the loss is that of icp's objectives; leave it out")
    for name in ("eval_strategy", "eval_on_start", "load_best_model_at_end"):
        if options.get(name, "no") not in ("no", False):
            raise IcpError(
                f"{name}={options[name]!r}: there are no rows to evaluate on while training; leave it out, and use "
                "icp.evaluate afterwards"
            )
    if folder is None and options["save_strategy"] != "no":
        raise IcpError(f"save_strategy={options['save_strategy']!r} without a folder keeps nothing: give folder= too")
    if not options["learning_rate"] >= 0:
        raise IcpError(f"learning_rate={options['learning_rate']} has to be at least 0")
    if options.get("max_steps", -1) <= 0 and not options["num_train_epochs"] > 0:
        raise IcpError(f"num_train_epochs={options['num_train_epochs']} trains nothing: give more than 0")
    if not options["per_device_train_batch_size"] >= 1:
        raise IcpError(f"per_device_train_batch_size={options['per_device_train_batch_size']} has to be at least 1")


def _trained(
    losses: Losses, adapters: "PeftModel", asked: "TrainingArguments", progress: bool, watched: Watched | None
) -> tuple[dict[str, int | float], ...]:
    """Train the adapters, and say what was logged, a mapping a step."""
    from icp.trainer import ObjectiveTrainer

    trainer = ObjectiveTrainer(losses, progress, watched, model=adapters, args=asked)
    trainer.run()
    steps: dict[int, dict[str, int | float]] = {}
    for entry in trainer.state.log_history:
        if "loss" in entry or "sensitivity" in entry:
            steps.setdefault(entry["step"], {}).update(entry)
    return tuple(steps[number] for number in sorted(steps))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside; afterwards as if nothing had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    cuda = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=cuda):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
