"""The commands: thin, each a call that a notebook could make."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from icp import cli_capt, cli_pairs
from icp.cli_measure import ModelArgument, Quiet, co_ablate, measure
from icp.cli_train import finetune
from icp.cli_verify import verify
from icp.errors import IcpError


class OneSentence(TyperGroup):
    """An error of ours is one sentence on stderr and exit status 1; Ctrl-C exits with 130."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except IcpError as error:
            typer.echo(f"icp: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("icp: interrupted; finished work is kept, and the same command resumes", err=True)
            raise typer.Exit(130) from error
        except (MemoryError, RuntimeError) as error:
            from icp.sweep.memory import ran_out

            if not ran_out(error):
                raise
            typer.echo(
                "icp: out of memory: take a smaller --memory or --batch-size, another --device, or a machine that has "
                "more; finished work is kept, and the same command resumes",
                err=True,
            )
            raise typer.Exit(1) from error


app = typer.Typer(cls=OneSentence, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _show_version(wanted: bool | None) -> None:
    if wanted:
        from icp import __version__

        typer.echo(f"icp {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = None,
):
    """Find the units through which a spurious cue reaches a model's answer, and cut them."""


PARTS = ("rank", "select", "test")
FolderArgument = Annotated[Path, typer.Argument(help="The run's folder.")]
Costs = Annotated[
    list[Path],
    typer.Option(help="JSON lines to watch the damage on: examples with labels give a task loss, others a text loss."),
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the report, the artefacts and the pruned model go.")] = Path(
        "icp-demo"
    ),
    model: Annotated[str, typer.Option(help="'smollm2', a hub id, or a local folder.")] = "smollm2",
    seed: Annotated[int, typer.Option(help="Which templates, occupations and names fall into which split.")] = 0,
    quiet: Quiet = False,
):
    """Find the units through which a stereotype reaches the model's answer, cut them, and write a report."""
    from icp.demo.run import run_demo

    for line in run_demo(out, model, seed, progress=not quiet).lines:
        typer.echo(line)
    typer.echo(f"report: {out / 'report.html'}\npruned model: {out / 'pruned'}")


app.command()(measure)
app.command()(co_ablate)


@app.command()
def score(
    model: ModelArgument,
    pairs: Annotated[
        Path, typer.Argument(help="JSON lines with text, counterpart and answers, or saved label-preserving pairs.")
    ],
    out: Annotated[Path, typer.Option(help="The run's folder; it is resumed where it exists.")],
    cost: Costs,
    by: Annotated[list[str], typer.Option(help="Split by these fields: template, word, group.")] = ("template",),
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    kinds: Annotated[str, typer.Option(help="Kinds of unit, comma-separated.")] = "head,neuron",
    candidates: Annotated[int, typer.Option(min=1, help="How many units to measure exactly.")] = 100,
    max_damage: Annotated[float, typer.Option(help="A unit's own damage, in nats, at most.")] = 0.05,
    quiet: Quiet = False,
):
    """Rank units by how much of the cue they carry, on one of three splits of the pairs."""
    from icp import load, steps
    from icp.pairs import Pairs, PreservingPairs, read_rows, require_kind
    from icp.steps import loss_of

    rows = read_rows(pairs)
    if isinstance(rows, Pairs):
        require_kind(rows.probe, type(rows), PreservingPairs, "a ranking by the cue")
        rows = rows.probe
    parts = rows.split(by=by, seed=seed)
    splits = _split_costs(cost, seed)
    loaded = load(model)
    options = dict(
        kinds=tuple(kind.strip() for kind in kinds.split(",")),
        candidates=candidates,
        max_damage=max_damage,
        progress=not quiet,
    )
    ranked = {name: (split[0], loss_of(split[0])) for name, split in splits.items()}
    ranking = steps.score(loaded, parts[0], ranked, out, **options)
    for place, part in enumerate(PARTS):
        parts[place].save(out / f"{part}.jsonl")
        for name, split in splits.items():
            split[place].save(out / f"cost-{name}-{part}.jsonl")
    typer.echo(ranking.head(20).table.to_string(float_format="{:.4f}".format))


@app.command()
def prune(
    model: ModelArgument,
    run: FolderArgument,
    max_damage: Annotated[float, typer.Option(help="The rise of each loss, in nats, at most.")] = 0.02,
    intervention: Annotated[
        str, typer.Option(help="mask:mean, mask:zero, scale:ALPHA, or erase:RANK, so many directions of each head.")
    ] = "mask:mean",
    alone: Annotated[
        float, typer.Option(help="The share of it that one unit may spend by itself, under the mean mask.")
    ] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Where the checkpoint goes; default: pruned/ in the run.")] = None,
    quiet: Quiet = False,
):
    """Measure nested sets jointly on the selecting split, choose one, and save the cut model."""
    import icp
    from icp import steps
    from icp.interventions import intervention_of
    from icp.probes import Probe

    what = intervention_of(intervention)
    select = Probe.load(run / "select.jsonl")
    watched = {
        path.stem.removeprefix("cost-").removesuffix("-select"): path for path in run.glob("cost-*-select.jsonl")
    }
    losses = {name: (probe := Probe.load(path), steps.loss_of(probe)) for name, path in sorted(watched.items())}
    loaded = icp.load(model)
    options = dict(max_damage=max_damage, intervention=what, alone=alone, progress=not quiet)
    selection = steps.cut(loaded, select, losses, run, **options)
    steps.describe(loaded, select, selection, run, progress=not quiet)
    folder = icp.prune(loaded, selection).save_pretrained(out or run / "pruned")
    typer.echo(f"cut {len(selection)} units ({what.label}): {', '.join(map(str, selection.units))}")
    typer.echo(f"pruned model: {folder}")


app.command()(finetune)
app.command()(verify)
app.add_typer(cli_pairs.app, name="pairs")
app.add_typer(cli_capt.app, name="capt")


@app.command()
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Models to compare, each a name or a folder.")],
    probe: Annotated[Path, typer.Option(help="JSON lines to evaluate on, or saved label-preserving pairs.")],
    metric: Annotated[
        list[str],
        typer.Option(
            help="Default: what the probe allows, of gap, accuracy, task_loss, f1, worst_group_accuracy, ece, "
            "demographic_parity_difference, equal_opportunity_difference, and of consistency with sensitivity. "
            "next_token_loss when named."
        ),
    ] = (),
    flipping: Annotated[
        Path | None, typer.Option(help="Saved label-flipping pairs: gives sensitivity beside consistency.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to keep every number, as JSON.")] = None,
):
    """Evaluate models on one probe; the table has means and 95% intervals.

    With --out and labels, which answers changed from the first model to the second is kept beside it, as
    changed-answers*.json for evaluation*.json; one of an earlier evaluation under this name is removed.
    """
    from icp import load
    from icp.evaluate import evaluate as evaluated
    from icp.pairs import FlippingPairs, Pairs, read_rows
    from icp.steps import answers_changed

    if twice := [name for place, name in enumerate(models) if name in models[:place]]:
        raise IcpError(f"{twice[0]!r} is named twice: a model is compared with others")
    inputs, loaded = read_rows(probe), {name: load(name) for name in models}
    flipped = None if flipping is None else FlippingPairs.load(flipping)
    result = evaluated(loaded, inputs, list(metric) or None, flipping=flipped)
    texts = inputs.probe if isinstance(inputs, Pairs) else inputs
    changed = None if out is None else answers_changed(loaded, texts)
    if out is not None:
        result.save(out)
        rest = out.stem.removeprefix("evaluation").strip("-")
        beside = out.with_name(f"changed-answers{'-' * bool(rest)}{rest}.json")
        beside.unlink(missing_ok=True)
    typer.echo(result.table().to_string(float_format="{:.4f}".format))
    if changed is not None:
        changed.save(beside)
        counts = ", ".join(f"{row['n']:.0f} {kind}" for kind, row in changed.counts().iloc[1:].iterrows())
        typer.echo(f"answers of {changed.names[1]} that changed: {counts}\nanswers: {beside}")


@app.command()
def report(
    run: FolderArgument,
    title: Annotated[str, typer.Option(help="The page's title; default: the run's own.")] = "",
    model: Annotated[str, typer.Option(help="The model's name, as the page should give it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Default: report.html in the run.")] = None,
):
    """Write the self-contained page of a run from its artefacts."""
    from icp.steps import report_of

    typer.echo(f"report: {report_of(run, title, model).save(out or run / 'report.html')}")


def _split_costs(paths: list[Path], seed: int) -> dict:
    """Each file's examples split three ways, by template and word where all have them, else by text."""
    from icp.pairs import read_probe

    splits = {}
    for path in paths:
        if path.stem in splits:
            raise IcpError(f"two cost files are called {path.stem!r}: give them different names")
        probe = read_probe(path)
        by = [field for field in ("template", "word") if all(getattr(e, field) is not None for e in probe.examples)]
        splits[path.stem] = probe.split(by=by or "text", seed=seed)
    return splits
