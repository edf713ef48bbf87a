"""The commands on CAPT: `icp capt abstract | train | evaluate | show`."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from icp.cli_measure import BatchSize, Device, ModelArgument, Quiet
from icp.errors import DataError

RECIPE, MODEL, REPLIES = "capt.json", "model", "replies.json"

app = typer.Typer(no_args_is_help=True, help="Fine-tune on what is left when events become symbols, and measure it.")
DataSet = Annotated[str, typer.Option(help="prontoqa, cladder or corr2cause.")]
Split = Annotated[str | None, typer.Option(help="The split, where the data are a folder or a hub id.")]
Models = Annotated[str | None, typer.Option(help="CLadder's file of models, for its nested form.")]
Refused = Annotated[
    str, typer.Option(help="Of prompts without a valid abstraction: error, skip, or as-is with nothing renamed.")
]
SkipUnanswered = Annotated[bool, typer.Option("--skip-unanswered", help="Leave out rows without an answer.")]

ESTIMATORS = ("rules", "language-model", "endpoint")


@app.command()
def abstract(
    data: Annotated[str, typer.Argument(help="A file, folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Where the abstractions go, as JSON.")],
    data_set: DataSet = "prontoqa",
    split: Split = None,
    models: Models = None,
    estimator: Annotated[str, typer.Option(help="rules, language-model or endpoint; what finds the events.")] = "rules",
    model: Annotated[str, typer.Option(help="The model that is asked: as for train, or the endpoint's name.")] = "",
    base_url: Annotated[str, typer.Option(help="The endpoint's address, such as http://127.0.0.1:8000/v1.")] = "",
    api_key: Annotated[str | None, typer.Option(envvar="ICP_API_KEY", help="Of the endpoint.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Of a model: a folder, so that no prompt is asked twice.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Events of a prompt, at most: as many as symbols.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many of the problems, the same ones always.")] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out what has no valid abstraction.")] = False,
    skip_unanswered: SkipUnanswered = False,
    device: Device = None,
    quiet: Quiet = False,
):
    """Find the events of prompts, and say how many abstractions are valid, and why others were refused."""
    from icp import capt

    problems = _read(data_set, data, split, models, skip_unanswered)
    problems = problems if limit is None else random.Random(0).sample(problems, min(limit, len(problems)))
    rules, validator = capt.RULES[data_set]
    finder = _estimator(estimator, rules, model, base_url, api_key, device, cache)
    found = capt.abstract_all(problems, finder, replace(validator, most=most), progress=not quiet)
    for reason, count in found.reasons.most_common():
        typer.echo(f"refused: {count} {reason}")
    if found.refused and not skip:
        raise DataError(
            f"{len(found.refused)} of {len(problems)} prompts have no valid abstraction, the first: "
            f"{found.refused[0].told}; say --skip to leave them out"
        )
    capt.save_abstractions(found, out, {"data set": data_set, "estimator": estimator, "model": model or "none"})
    typer.echo(f"{len(found.rows)} of {len(problems)} prompts: {out}")


@app.command()
def show(
    abstractions: Annotated[Path, typer.Argument(help="What `icp capt abstract` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Default: the same name with .html.")] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "Abstractions",
    count: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 20,
    of_each_reason: Annotated[int, typer.Option(min=0, help="How many refusals of each reason.")] = 5,
):
    """Write a self-contained page: prompts with their events marked, abstract texts, refusals with their reasons."""
    from icp import capt

    found, about = capt.load_abstractions(abstractions)
    report = capt.show(found, about, title, count=count, each=of_each_reason)
    typer.echo(f"page: {report.save(out or abstractions.with_suffix('.html'))}")


def _read(data_set: str, source: str, split: str | None, models: str | None, skip_unanswered: bool) -> list[Any]:
    """The problems, with a line about the rows that were left out."""
    from icp import capt

    unanswered: list[str] | None = [] if skip_unanswered else None
    problems = capt.read_problems(data_set, source, split, models, unanswered)
    if unanswered:
        typer.echo(f"left out: {len(unanswered)} rows without an answer, the first: {unanswered[0]}")
    return problems


def _estimator(
    name: str, rules: Any, model: str, base_url: str, api_key: str | None, device: str | None, cache: Path | None
) -> Any:
    """What the options name; those that nothing would use are refused."""
    from icp import Chat, capt, load

    if name not in ESTIMATORS:
        raise DataError(f"there is no estimator {name!r}: use one of {', '.join(ESTIMATORS)}")
    if name == "rules":
        if model or base_url or cache is not None:
            raise DataError("--model, --base-url and --cache do not go with rules: say --estimator language-model")
        return rules
    if name == "endpoint":
        if not model or not base_url:
            raise DataError("an endpoint is asked by --base-url and --model: give both")
        found: Any = capt.Endpoint(chat=Chat(base_url, model, api_key))
    elif base_url:
        raise DataError("--base-url goes with --estimator endpoint")
    else:
        found = capt.LanguageModel(model=load(model or "smollm2", device=device))
    return found if cache is None else capt.Cached(found, cache, again=capt.LATER)


@app.command()
def train(
    model: ModelArgument,
    data: Annotated[str, typer.Argument(help="A file, folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Adapters, the merged model and capt.json; it is resumed.")],
    data_set: DataSet = "prontoqa",
    split: Split = None,
    models: Models = None,
    renaming: Annotated[
        str, typer.Option(help="random: new ones in every copy; order; fixed: one an event; null: none; names: others.")
    ] = "random",
    pool: Annotated[int, typer.Option(help="How many symbols there are to draw from.")] = 26,
    train_on: Annotated[
        list[str], typer.Option(help="Train on this split alone, such as CLadder's commonsense; may be given again.")
    ] = (),
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to train on, drawn by --seed; default: all.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Copies of each row, each renamed afresh.")] = 4,
    hops: Annotated[int | None, typer.Option(help="Of PrOntoQA: cut chains to this length.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Learn the worked solution as well.")] = False,
    held_out: Annotated[float, typer.Option(help="The share of skeletons to test on; the same for every seed.")] = 0.2,
    tested: Annotated[int, typer.Option(min=1, help="At most so many problems to test on, of each kind.")] = 200,
    refused: Refused = "error",
    skip_unanswered: SkipUnanswered = False,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    seed: Annotated[int, typer.Option(help="Of the rows, the symbols, the order and the adapters.")] = 0,
    device: Device = None,
    quiet: Quiet = False,
):  # fmt: skip
    """Fine-tune on problems with their events renamed; skeletons are held out, and kept to be tested on."""
    import icp
    from icp import capt

    asked = capt.Recipe(data_set, renaming, pool, reasoning)
    if refused == "as-is":
        raise DataError("what has no valid abstraction is not trained on as it is: use --refused skip")
    problems = _read(data_set, data, split, models, skip_unanswered)
    if hops is not None:
        if data_set != "prontoqa":
            raise DataError(f"--hops cuts the chains of PrOntoQA, and these are problems of {data_set}: leave it out")
        problems = [capt.shortened(one, hops) for one in problems]
    chosen, test = capt.split(problems, test=held_out)
    test = random.Random(0).sample(test, min(tested, len(test)))
    if data_set == "prontoqa":
        rules = capt.SyllogismRules()
        most = max(found.slots for one in problems if isinstance(found := rules.estimate(one.prompt), capt.Abstraction))
        test = capt.told_otherwise(test, capt.Ontology.of(problems), most + 2)
    elif data_set == "cladder":
        valid, reasons = asked.rows(test, refused)
        for reason, count in reasons.most_common():
            typer.echo(f"not tested on: {count} {reason}")
        test = capt.cladder_told_otherwise([row.problem for row in valid])
    if train_on:
        there = sorted({str(one.split) for one in chosen})
        if missing := sorted(set(train_on) - set(there)):
            raise DataError(f"no problem to train on is of the split {missing[0]!r}: there are {', '.join(there)}")
        chosen = [one for one in chosen if one.split in train_on]
    if rows is not None:
        if rows > len(chosen):
            raise DataError(f"{rows} rows to train on were asked for, and there are {len(chosen)}")
        chosen = random.Random(seed).sample(chosen, rows)
    if renaming == "fixed":
        asked = asked.fixed([*problems, *(one for one in test if one.split == "anti")])
    found, reasons = asked.rows(chosen, refused)
    for reason, count in reasons.most_common():
        typer.echo(f"left out: {count} {reason}")
    arguments = {"learning_rate": learning_rate, "per_device_train_batch_size": batch_size}
    tuned = capt.train(
        icp.load(model, device=device), found, asked.replacement(found), test=test, epochs=epochs, reasoning=reasoning,
        validator=asked.validator, seed=seed, folder=out, progress=not quiet,
        arguments={name: value for name, value in arguments.items() if value is not None},
    )  # fmt: skip
    folder = tuned.save_pretrained(out / MODEL)
    trained = frozenset(row.problem.skeleton for row in found if row.problem.skeleton is not None)
    replace(asked, skeletons=trained).save(out / RECIPE, test)
    last = tuned.tuning.history[-1]
    typer.echo(f"{len(found)} rows, {epochs} copies of each; step {last['step']}: task {last['task']:.4f}")
    typer.echo(f"merged model: {folder}\nheld out: {len(test)} problems in {out / RECIPE}")


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of `icp capt train`, one a seed.")],
    data: Annotated[str | None, typer.Option(help="Problems in place of those held out, as for train.")] = None,
    data_set: DataSet = "prontoqa",
    split: Split = None,
    models: Models = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Of --data: so many problems, the same ones always.")] = None,
    before: Annotated[str | None, typer.Option(help="The model before training, or another to compare with.")] = None,
    by: Annotated[str, typer.Option(help="A row each split, query_type, rung, story or skeleton.")] = "split",
    decoding: Annotated[str, typer.Option(help="constrained: the likelier answer, or free.")] = "constrained",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Written at most; 8, after reasoning 256.")] = None,
    positive: Annotated[str | None, typer.Option(help="The answer that F1 is of; default: the first.")] = None,
    refused: Refused = "error",
    skip_unanswered: SkipUnanswered = False,
    batch_size: BatchSize = None,
    device: Device = None,
    quiet: Quiet = False,
):  # fmt: skip
    """Ask the problems that were held out, or others, and say how many are answered rightly, by kind and over seeds."""
    import icp
    from icp import capt
    from icp.capt.replies import FIELDS

    if by not in FIELDS:
        raise DataError(f"--by {by!r}: use one of {', '.join(FIELDS)}")
    recipes = [capt.Recipe.load(run / RECIPE) for run in runs]
    recipe, problems = recipes[0]
    for run, (other, its) in zip(runs, recipes):
        if its != problems or other.asked != recipe.asked or other.reasoning != recipe.reasoning:
            raise DataError(f"{run} was trained or is tested in another way than {runs[0]}: evaluate them apart")
    if data is None and (split or models or limit or skip_unanswered or data_set != "prontoqa"):
        raise DataError("--data-set, --split, --models, --skip-unanswered and --limit go with --data")
    if data is not None:
        problems = _read(data_set, data, split, models, skip_unanswered)
        problems = problems if limit is None else random.Random(0).sample(problems, min(limit, len(problems)))
        published = data_set == "corr2cause" != recipe.data_set  # its letters are asked about as they are
        renaming = "null" if published else recipe.renaming
        for known, _ in recipes:
            known.require_apart(problems)
        if recipe.renaming == "fixed" and data_set not in (recipe.data_set, "corr2cause"):
            raise DataError(f"the fixed symbols are of the events of {recipe.data_set}, and {data_set} has others")
        recipe = replace(recipe, data_set=data_set, renaming=renaming)
    rows, reasons = recipe.rows(problems, refused)
    for reason, count in reasons.most_common():
        typer.echo(f"{'left out' if refused == 'skip' else 'asked as it is'}: {count} {reason}")

    def asked(name: str) -> capt.Replies:
        return capt.ask(
            icp.load(name, device=device), rows, recipe.asked, decoding=decoding, reasoning=recipe.reasoning,
            max_tokens=max_tokens, batch_size=batch_size, progress=not quiet,
        )  # fmt: skip

    found = [asked(str(run / MODEL)) for run in runs]
    for run, replies in zip(runs, found):
        typer.echo(f"replies: {replies.save(run / REPLIES)}")
    typer.echo(capt.accuracies(found, by, positive).drop(columns="values").to_string(float_format="{:.4f}".format))
    if before is not None:
        first = asked(before)
        both = first.evaluation("before", positive) | found[0].evaluation("after", positive)
        typer.echo(f"\nbefore, and {runs[0]} after\n{both.table().to_string(float_format='{:.4f}'.format)}")
        typer.echo(f"\nchange\n{both.change('before', 'after').to_string(float_format='{:.4f}'.format)}")
