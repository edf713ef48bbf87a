"""The command that proves an architecture's row: `icp verify`."""

from typing import Annotated

import typer

from icp.cli_measure import Device, ModelArgument


def verify(
    model: ModelArgument,
    seed: Annotated[int, typer.Option(help="Of the inputs, which are drawn from the vocabulary.")] = 0,
    device: Device = None,
):
    """Check that all of the toolkit holds on a model: exit status 0 only where every check does."""
    from icp import load
    from icp.verify import verify as verified

    found = verified(load(model, device=device), seed=seed, report=lambda check: typer.echo(str(check)))
    typer.echo(found.summary)
    if not found.holds:
        raise typer.Exit(1)
