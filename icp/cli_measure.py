"""The commands that measure into a store: `icp measure` and `icp co-ablate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from icp.errors import IcpError

ModelArgument = Annotated[str, typer.Argument(help="'smollm2', 'minilm', a hub id, or a local folder.")]
ProbeArgument = Annotated[Path, typer.Argument(help="JSON lines with at least a text each, or saved pairs.")]
Store = Annotated[Path, typer.Option(help="A zarr folder; it is resumed where it exists, and may be shared.")]
PropertyName = Annotated[str, typer.Option(help="LogitDifference, TaskLoss, NextTokenLoss, ...")]
Span = Annotated[str, typer.Option(help="all, last, cue, rest, or a span such as 2:5.")]
Reference = Annotated[Path | None, typer.Option(help="JSON lines over which mean masks take their means.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows a forward pass.")]
Device = Annotated[str | None, typer.Option(help="Where the model goes: cpu, cuda, cuda:1, ...; default: cpu.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
DTYPES = ("float32", "float64", "bfloat16", "float16")


def measure(
    model: ModelArgument,
    probe: ProbeArgument,
    store: Store,
    kinds: Annotated[str | None, typer.Option(help="Kinds of unit, comma-separated; default: head,neuron.")] = None,
    unit: Annotated[list[str], typer.Option(help="Only this unit; may be given several times.")] = (),
    intervention: Annotated[
        list[str], typer.Option(help="mask:zero, mask:mean, scale:ALPHA, swap:counterpart, ...; may be given again.")
    ] = ("swap:counterpart",),
    property: PropertyName = "LogitDifference",
    method: Annotated[str, typer.Option(help="exact or linear.")] = "exact",
    steps: Annotated[int | None, typer.Option(help="Of linear: gradients along the path of each edit.")] = None,
    grad_drop: Annotated[bool, typer.Option("--grad-drop", help="Of linear: GradDrop, of AtP*.")] = False,
    no_qk_fix: Annotated[bool, typer.Option("--no-qk-fix", help="Of linear: queries and keys as others.")] = False,
    top: Annotated[int | None, typer.Option(help="Look for this many units of largest effect only.")] = None,
    confidence: Annotated[float | None, typer.Option(help="Of --top: of the certificate; default: 0.95.")] = None,
    miss_rate: Annotated[float | None, typer.Option(help="Of --top: at most this share missed; 0.005.")] = None,
    budget: Annotated[float | None, typer.Option(help="Of --top: at most this share of the work; 0.03.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of --top: of the audit's draws; 0.")] = None,
    positions: Span = "all",
    reference: Reference = None,
    batch_size: BatchSize = None,
    memory: Annotated[float | None, typer.Option(help="Gigabytes that each process should stay below.")] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help=f"Measure on a copy in {', '.join(DTYPES)}.")] = None,
    padding_side: Annotated[str, typer.Option(help="right or left.")] = "right",
    shard: Annotated[str | None, typer.Option(help="This part of the sweep only, such as 3/16.")] = None,
    ray: Annotated[str | None, typer.Option(help="A Ray cluster's address, 'auto', or 'local' to start one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ray workers, one model each; default: as many as fit.")] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPUs of each Ray worker; default: 1.")] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(help="GPUs of each Ray worker; default: none.")] = None,
    quiet: Quiet = False,
):
    """Measure effects of every unit of some kinds, or of single units, into a store; alone, in shards, or on Ray.

    With --top only the units of largest effect are looked for, and the certificate says how sure that is.
    """
    from icp import load
    from icp.interventions import intervention_of
    from icp.pairs import read_probe
    from icp.properties import property_of
    from icp.sweep.measure import measure as measured
    from icp.sweep.ray import Ray

    if unit and kinds is not None:
        raise IcpError("--kinds and --unit are two ways to say what to measure: give one of them")
    cluster = _given(workers=workers, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker)
    if ray is None and cluster:
        raise IcpError("--workers, --cpus-per-worker and --gpus-per-worker go with --ray: say which cluster")
    options = dict(
        property=property_of(property),
        method=_method(method, steps, grad_drop, no_qk_fix),
        positions=_span(positions),
        dtype=_dtype(dtype),
        runner=None if ray is None else Ray(ray, **cluster),
        **_given(confidence=confidence, miss_rate=miss_rate, budget=budget, seed=seed),
    )
    loaded = load(model, device=device)
    effects = measured(
        loaded,
        read_probe(probe),
        list(unit) or loaded.units(*_words("head,neuron" if kinds is None else kinds)),
        [intervention_of(label) for label in intervention],
        reference=None if reference is None else read_probe(reference),
        batch_size=batch_size,
        memory=None if memory is None else memory * 1e9,
        padding_side=padding_side,
        store=store,
        shard=shard,
        top=top,
        progress=not quiet,
        **options,
    )
    marked = int(effects.not_finite.sum())
    typer.echo(f"{len(effects.units)} units, {len(effects.interventions)} interventions, {len(effects.clean)} examples")
    if marked:
        typer.echo(f"{marked} rows have no number: the model returned NaN or infinity")
    if effects.certificate is not None:
        typer.echo(str(effects.certificate))
    typer.echo(f"effects: {store if top is None else store / 'top'}")


def co_ablate(
    model: ModelArgument,
    probe: ProbeArgument,
    store: Annotated[Path, typer.Option(help="A zarr folder: RUN/co-ablation.zarr goes into that run's report.")],
    unit: Annotated[list[str], typer.Option(help="One of the units; give two or more.")] = (),
    effects: Annotated[Path | None, typer.Option(help="Or a store of effects: its units of largest mean |dP|.")] = None,
    first: Annotated[int, typer.Option(min=2, help="So many of them.")] = 10,
    intervention: Annotated[str, typer.Option(help="As of icp measure.")] = "mask:mean",
    property: PropertyName = "LogitDifference",
    positions: Span = "all",
    reference: Reference = None,
    batch_size: BatchSize = None,
    device: Device = None,
    quiet: Quiet = False,
):
    """Measure units alone and in pairs: whether one stands in for another, and what that does to their ranking."""
    from icp import load
    from icp.effects import Effects
    from icp.interventions import intervention_of
    from icp.pairs import read_probe
    from icp.properties import property_of
    from icp.scores import spuriousness
    from icp.sweep.co_ablation import co_ablation

    if bool(unit) == (effects is not None):
        raise IcpError("say which units, one way: --unit several times, or --effects with a store")
    result = co_ablation(
        load(model, device=device),
        read_probe(probe),
        list(unit) or spuriousness(Effects.load(effects)).head(first).units,
        intervention_of(intervention),
        property=property_of(property),
        positions=_span(positions),
        reference=None if reference is None else read_probe(reference),
        batch_size=batch_size,
        store=store,
        progress=not quiet,
    )
    typer.echo(result.table().to_string(float_format="{:.4f}".format))
    typer.echo(f"co-ablation: {store}")


def _given(**options: Any) -> dict[str, Any]:
    """What was given; the rest keeps the default that the function called has."""
    return {name: value for name, value in options.items() if value is not None}


def _method(method: str, steps: int | None, grad_drop: bool, no_qk_fix: bool) -> Any:
    from icp.sweep.linear import Linear

    refined = (
        _given(steps=steps) | ({"grad_drop": True} if grad_drop else {}) | ({"qk_fix": False} if no_qk_fix else {})
    )
    if not refined:
        return method
    if method != "linear":
        raise IcpError("--steps, --grad-drop and --no-qk-fix refine estimates: give --method linear too")
    return Linear(**refined)


def _dtype(name: str | None) -> Any:
    if name is None:
        return None
    if name not in DTYPES:
        raise IcpError(f"unknown dtype {name!r}: use one of {', '.join(DTYPES)}")
    import torch

    return getattr(torch, name)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _span(positions: str) -> str | tuple[int, int | None]:
    """`2:5` as (2, 5) and `-3:` as (-3, None); names as they are."""
    start, colon, stop = positions.partition(":")
    if not colon:
        return positions
    try:
        return int(start), int(stop) if stop else None
    except ValueError as error:
        raise IcpError(
            f"cannot read the positions {positions!r}: use all, last, cue, rest, or a span such as 2:5"
        ) from error
