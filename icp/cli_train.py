"""The command that trains: `icp finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from icp.cli_measure import Device, ModelArgument, Quiet
from icp.errors import IcpError


def finetune(
    model: ModelArgument,
    train: Annotated[
        Path,
        typer.Argument(help="JSON lines with text, answers and label; a counterpart to be swapped, or saved pairs."),
    ],
    out: Annotated[Path, typer.Option(help="Checkpoints, the adapters and the merged model; it is resumed.")],
    selection: Annotated[
        Path | None, typer.Option(help="A saved selection, over which the answer is kept as it is; default: plain.")
    ] = None,
    any_weights: Annotated[bool, typer.Option("--any-weights", help="Take a selection made on other weights.")] = False,
    weight: Annotated[float | None, typer.Option(help="Of --selection: the invariance's weight; 1.")] = None,
    divergence: Annotated[str | None, typer.Option(help="Of --selection: kl, js, cosine or contrastive; kl.")] = None,
    intervention: Annotated[
        list[str], typer.Option(help="Of --selection: swap:counterpart, mask:mean, scale:ALPHA; may be given again.")
    ] = (),
    units_per_step: Annotated[int | None, typer.Option(help="Of --selection: so many units at a time.")] = None,
    preset: Annotated[str | None, typer.Option(help="Defaults by the size of the model, such as llama-2-7b.")] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    epochs: Annotated[float | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step on each device.")] = None,
    seed: Annotated[int, typer.Option(help="Of the adapters, the order of rows, and dropout.")] = 0,
    device: Device = None,
    quiet: Quiet = False,
):
    """Fine-tune by LoRA, plainly or with the invariance, and save adapters and the merged model."""
    import icp
    from icp.interventions import intervention_of
    from icp.pairs import read_rows

    options = {"weight": weight, "divergence": divergence, "units_per_step": units_per_step}
    options = {name: value for name, value in options.items() if value is not None}
    if intervention:
        options["interventions"] = [intervention_of(label) for label in intervention]
    if selection is None and (options or any_weights):
        raise IcpError("--weight, --divergence, --intervention, --units-per-step and --any-weights go with --selection")
    invariance = None
    if selection is not None:
        invariance = icp.Invariance(icp.Selection.load(selection), weights="any" if any_weights else "same", **options)
    arguments = {
        "learning_rate": learning_rate, "num_train_epochs": epochs, "per_device_train_batch_size": batch_size,
    }  # fmt: skip
    tuned = icp.finetune(
        icp.load(model, device=device),
        read_rows(train),
        invariance=invariance,
        arguments={name: value for name, value in arguments.items() if value is not None},
        preset=preset,
        folder=out,
        seed=seed,
        progress=not quiet,
    )
    last = tuned.tuning.history[-1]
    folder = tuned.save_pretrained(out / "model")
    typer.echo(f"step {last['step']}: task {last['task']:.4f}, penalty {last['penalty']:.4f}")
    typer.echo(f"adapters: {out / 'adapter'}\nmerged model: {folder}")
