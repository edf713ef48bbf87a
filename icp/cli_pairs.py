"""The commands on counterfactual pairs: `icp pairs make | check | show`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from icp.cli_measure import Quiet
from icp.errors import SpecError

EDITS = ("swap", "any-word", "given")
VALIDATORS = ("spans-kept", "changed", "cue-flips", "edit-distance", "fixed-words")
BY_DEFAULT = ("spans-kept", "changed", "edit-distance")

app = typer.Typer(no_args_is_help=True, help="Make counterfactual pairs, check them, and look at them.")
PairsArgument = Annotated[Path, typer.Argument(help="A folder of pairs that `icp pairs make` wrote.")]
Validate = Annotated[
    list[str],
    typer.Option(help="spans-kept, changed, cue-flips, edit-distance:BOUND or fixed-words:THE,A; may be given again."),
]
LabelData = Annotated[
    Path | None,
    typer.Option(help="JSON lines to train a label classifier on, which has to agree; other rows than the pairs'."),
]
LanguageModelName = Annotated[
    str | None,
    typer.Option(help="A causal model, under which a counterpart may not be much less likely than its text."),
]


@app.command()
def make(
    data: Annotated[Path, typer.Argument(help="JSON lines with text, label (a class or its index) and more columns.")],
    spec: Annotated[Path, typer.Option(help="TOML: the label, its classes, the causes and the cues.")],
    variable: Annotated[str, typer.Option(help="The cue or the cause to edit; its kind is the pairs'.")],
    out: Annotated[Path, typer.Option(help="The folder of the pairs.")],
    edit: Annotated[
        str,
        typer.Option(
            help="swap: each word of the variable for its partner; any-word: for any word of another value; given: the "
            "data's own column 'counterpart', with 'counterpart_label' where it edits a cause."
        ),
    ] = "swap",
    to: Annotated[list[str], typer.Option(help="A value that may be the new one; all where none is named.")] = (),
    keep: Annotated[int, typer.Option(help="Pairs of a row, at most.")] = 1,
    seed: Annotated[int, typer.Option(help="Of what is drawn: the order of values, and of any-word the words.")] = 0,
    validator: Validate = (),
    label_data: LabelData = None,
    language_model: LanguageModelName = None,
    quiet: Quiet = False,
):
    """Make pairs by editing one variable of a spec, and say how many were accepted, and why others were not."""
    from icp.counterfactual import Given, LexiconSwap, Spec, lines_of, make_pairs

    if edit not in EDITS:
        raise SpecError(f"there is no edit {edit!r}: use one of {', '.join(EDITS)}")
    declared = Spec.load(spec)
    if edit == "given":
        if to or seed:
            raise SpecError("--to and --seed do not go with --edit given: the counterparts are there already")
        editor = Given(variable)
    else:
        editor = LexiconSwap(variable, tuple(to), edit == "any-word", seed)
    checks = validators_of(validator, declared, label_data, language_model)
    made = make_pairs(
        lines_of(data, declared), edit=editor, spec=declared, validators=checks, keep=keep, folder=out,
        progress=not quiet,
    )  # fmt: skip
    typer.echo(made.yields.to_string(formatters={"share": "{:.1%}".format}))
    typer.echo(f"{len(made)} {made.kind.kind} pairs of {made.counts['rows']} rows: {out}")


@app.command()
def check(
    folder: PairsArgument,
    validator: Validate = (),
    label_data: LabelData = None,
    language_model: LanguageModelName = None,
    quiet: Quiet = False,
):
    """Have every validator judge every pair; by default spans-kept, changed and edit-distance where none is named."""
    from icp.counterfactual import MadePairs, check_pairs

    made = MadePairs.load(folder)
    named = validator or (() if label_data or language_model else BY_DEFAULT)
    table = check_pairs(made, validators_of(named, made.spec, label_data, language_model), progress=not quiet)
    typer.echo(f"{len(made)} {made.kind.kind} pairs")
    typer.echo(table.drop(columns="first").to_string(formatters={"share accepted": "{:.1%}".format}))
    for name, said in table["first"].drop("all").items():
        if said:
            typer.echo(f"first rejected by {name}: {said}")


@app.command()
def show(
    folder: PairsArgument,
    out: Annotated[Path | None, typer.Option(help="Default: pairs.html beside the folder's files.")] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "Counterfactual pairs",
    count: Annotated[int, typer.Option(min=1, help="How many pairs.")] = 20,
    of_each_reason: Annotated[int, typer.Option(min=0, help="How many rejections of each reason.")] = 5,
):
    """Write a self-contained page: pairs with their edits marked, rejections with their reasons, the declared graph."""
    from icp.counterfactual import MadePairs
    from icp.counterfactual import show as page

    made = MadePairs.load(folder)
    typer.echo(
        f"page: {page(made, title, count=count, of_each_reason=of_each_reason).save(out or folder / 'pairs.html')}"
    )


def validators_of(names: Any, spec: Any, label_data: Path | None, language_model: str | None) -> list[Any]:
    """The validators that were named; the label classifier does not see the words of the spec's cues."""
    from icp import load
    from icp.counterfactual import LabelAgrees, Lexicon, PerplexityRatio, label_classifier, lines_of

    found = [_validator(name) for name in names]
    if label_data is not None:
        hidden = [word for cue in spec.cues if isinstance(cue.finder, Lexicon) for word in cue.finder.marks]
        rows = list(lines_of(label_data, spec))
        labels = label_classifier([row.text for row in rows], [row.label for row in rows], without=hidden)
        found.append(LabelAgrees(labels))
    if language_model is not None:
        found.append(PerplexityRatio(load(language_model)))
    return found


def _validator(told: str) -> Any:
    from icp.counterfactual import Changed, CueFlips, EditDistance, FixedWords, SpansKept

    name, _, setting = told.partition(":")
    plain = {"spans-kept": SpansKept, "changed": Changed, "cue-flips": CueFlips, "edit-distance": EditDistance}
    if name in plain and not setting:
        return plain[name]()
    if name == "edit-distance":
        try:
            return EditDistance(float(setting))
        except ValueError as error:
            raise SpecError(f"{told!r} has no number after the colon: give a share, as in edit-distance:0.5") from error
    if name == "fixed-words" and setting:
        return FixedWords(setting.split(","))
    raise SpecError(f"there is no validator {told!r}: use one of {', '.join(VALIDATORS)}, the last with :WORD,WORD")
