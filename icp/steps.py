"""The steps of a run, over a folder: what one writes is what the next reads. The commands and the demo call these.

| file | written by | holds |
|---|---|---|
| `estimates.zarr` | `score` | first-order indirect effects of every unit |
| `exact.zarr` | `score` | exact indirect effects of the candidates |
| `cost-NAME.zarr` | `score` | exact damage of the candidates, one store a loss |
| `doses.zarr` | `score` | the gap under `Scale(alpha)` of the top units |
| `frontier.safetensors`, `selection.safetensors` | `cut` | the joint frontier and what was decided on it |
| `drivers.json`, `at-POSITION.zarr` | `describe` | what selected units respond to, and at which tokens |
| `evaluation*.json`, `about.json` | the demo, `icp evaluate` | more for the report, where it is there |
| `changed-answers*.json` | the demo, `icp evaluate` | which answers changed, for the report |
| `co-ablation.zarr` | `icp.co_ablation(store=...)` | whether units stand in for each other, for the report |
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from icp.bound import Property
from icp.changed import ChangedAnswers, changed_answers
from icp.drivers import Drivers, drivers
from icp.effects import Effects
from icp.errors import ArtefactError, IcpError
from icp.evaluation import Evaluation
from icp.frontier import Frontier
from icp.interventions import Erase, Intervention, Mask, Scale, Swap
from icp.model import Model
from icp.nested_sets import frontier
from icp.probes import Probe
from icp.properties import NextTokenLoss, PairGap, TaskLoss
from icp.report import Report, report
from icp.scores import Scores, budgets_of, selectivity
from icp.selection import Selection
from icp.sweep.co_ablation import CoAblation
from icp.sweep.measure import measure

Costs = Mapping[str, tuple[Probe, Property]]
MEAN = Mask("mean")
POSITIONS = ("cue", "last", "rest", "all")
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def loss_of(probe: Probe) -> Property:
    """The loss that a probe allows: of its labels where it has them, of its text otherwise."""
    labelled = all(example.label is not None for example in probe.examples)
    return TaskLoss(among_answers=True) if labelled else NextTokenLoss()


def score(
    model: Model,
    probe: Probe,
    costs: Costs,
    folder: "str | Path",
    *,
    kinds: tuple[str, ...] = ("head", "neuron"),
    candidates: int = 100,
    pairs: int = 24,
    inputs: int = 24,
    max_damage: float | Mapping[str, float] = 0.05,
    dosed: int = 6,
    progress: bool = True,
) -> Scores:
    """Estimate every unit, measure the best `candidates` exactly on at most `pairs` pairs, and rank by selectivity.

    Candidates are those of largest estimated indirect effect whose estimated damage stays within `max_damage` nats on
    every loss (one number for all, or one a loss by name); damage is measured on at most `inputs` inputs a loss. The
    `dosed` best get a dose-response of the gap.
    """
    if odd := [name for name in costs if not isinstance(name, str) or not name or "/" in name]:
        raise IcpError(f"a cost cannot be called {odd[0]!r}: its name becomes part of a file's name")
    folder = Path(folder)
    units = model.units(*kinds)
    quiet = dict(progress=progress)
    mask = dict(reference=reference_of(probe, costs), **quiet)
    estimates = measure(
        model, probe, units, Swap("counterpart"), method="linear", store=folder / "estimates.zarr", **quiet
    )
    guesses = {
        name: measure(model, texts, units, Mask("mean"), property=loss, method="linear", **mask)
        for name, (texts, loss) in costs.items()
    }
    chosen = selectivity(estimates, guesses, max_damage).head(candidates).units
    few = probe.take(pairs)
    measure(model, few, chosen, Swap("counterpart"), store=folder / "exact.zarr", **quiet)
    for name, (texts, loss) in costs.items():
        store = folder / f"cost-{name}.zarr"
        measure(model, texts.take(inputs), chosen, Mask("mean"), property=loss, store=store, **mask)
    ranking = ranked(folder, list(costs), max_damage)
    doses = [Scale(alpha) for alpha in ALPHAS]
    top = ranking.head(dosed).units
    measure(model, few, top, doses, property=PairGap(), store=folder / "doses.zarr", **quiet)
    return ranking


def ranked(folder: "str | Path", costs: Sequence[str], max_damage: float | Mapping[str, float]) -> Scores:
    """The selectivity ranking of a scored folder, by the costs of these names."""
    folder = Path(folder)
    exact = Effects.load(folder / "exact.zarr")
    return selectivity(exact, {name: Effects.load(folder / f"cost-{name}.zarr") for name in costs}, max_damage)


def cut(
    model: Model,
    probe: Probe,
    costs: Costs,
    folder: "str | Path",
    *,
    max_damage: float | Mapping[str, float],
    intervention: Intervention = MEAN,
    watched: Costs | None = None,
    alone: float = 0.5,
    largest: int = 32,
    progress: bool = True,
) -> Selection:
    """Grow a set from a scored folder's `largest` best units within the budgets, measured jointly as it will be cut.

    `probe` and `costs` must hold rows that the ranking has not seen. `max_damage` is in the unit of each loss; a unit
    that spends more than the share `alone` of a budget by itself, under the mean mask that it was scored by, is left
    out. `watched` are further losses that the set has to keep, by which single units were not scored. The means of a
    mask are taken over all of the inputs of `probe` and `costs` together (`reference_of`). `Erase(rank)` takes
    directions out of the best heads, fitted on the pairs that were ranked on, so that the gap is measured on others;
    units that are no heads have one value, of which it would leave nothing.
    """
    folder = Path(folder)
    watched = watched or {}
    if both := sorted(set(costs) & set(watched)):
        raise IcpError(f"{both[0]!r} is among the costs and among the watched losses: give one of them another name")
    if watched and not isinstance(max_damage, Mapping):
        raise IcpError(f"max_damage={max_damage} beside watched losses: give one budget a loss, by name")
    every = {**costs, **watched}
    budgets = budgets_of(max_damage, every)
    ranking = ranked(folder, list(costs), {name: alone * budgets[name] for name in costs})
    erases = isinstance(intervention, Erase)
    ranking = (_heads(ranking) if erases else ranking).head(largest)
    seen = Effects.load(folder / "estimates.zarr")
    _require_unseen("pair", probe, seen)
    for name, (inputs, _) in costs.items():
        _require_unseen(f"input of the cost {name!r}", inputs, Effects.load(folder / f"cost-{name}.zarr"))
    reference = Probe.from_pairs(seen.header["examples"]) if erases else reference_of(probe, costs)
    options = dict(costs=every, reference=reference, max_damage=budgets, progress=progress)
    measured = frontier(model, probe, ranking, intervention, **options)
    selection = measured.select(max_damage=budgets)
    _forget_description(folder)
    measured.save(folder / "frontier.safetensors")
    selection.save(folder / "selection.safetensors")
    return selection


def _heads(ranking: Scores) -> Scores:
    heads = [unit.kind == "head" for unit in ranking.units]
    if not any(heads):
        raise IcpError(
            f"none of the {len(heads)} units within the budget is a head, and directions are erased from heads: score "
            "heads too (kinds), or allow more damage"
        )
    return Scores(ranking.table[heads], ranking.by)


def _require_unseen(what: str, probe: Probe, ranked_on: Effects) -> None:
    """Raise `ArtefactError` where an input was ranked on already: selecting on it would flatter the selection."""
    seen = {example[side] for example in ranked_on.header["examples"] for side in ("text", "counterpart")}
    again = [example.text for example in probe.examples if example.text in seen]
    if again:
        raise ArtefactError(
            f"{len(again)} {what}(s), such as {again[0]!r}, were used for ranking: select on other rows"
        )


def reference_of(probe: Probe, costs: Costs) -> Probe:
    """The inputs over which mean masks take their means: x and x' of the pairs, and what the losses are read on."""
    texts = (example for inputs, _ in costs.values() for example in inputs.examples)
    return Probe((*probe.examples, *probe.swapped().examples, *texts))


def describe(
    model: Model,
    probe: Probe,
    selection: Selection,
    folder: "str | Path",
    *,
    units: int = 6,
    pairs: int = 24,
    progress: bool = True,
) -> None:
    """What the first `units` of a selection respond to: the texts that drive them, and their exact indirect effects at
    the cue's tokens, at the last one, at the rest and everywhere, on at most `pairs` pairs that have a cue.

    Units that are kept do not count; of an empty selection nothing is written. What described another selection there
    is removed, as `cut` does when it decides anew.
    """
    folder = Path(folder)
    _forget_description(folder)
    chosen = [choice.unit for choice in selection.choices if choice.role != "keep"][:units]
    if not chosen:
        return
    drivers(model, probe, chosen).save(folder / "drivers.json")
    alignments = probe.tokenize(model.tokenizer).alignments
    if cued := [example for example, found in zip(probe.examples, alignments) if found.changed]:
        few = Probe(tuple(cued)).take(pairs)
        for positions in POSITIONS:
            swapped = measure(model, few, chosen, Swap("counterpart"), positions=positions, progress=progress)
            swapped.save(folder / f"at-{positions}.zarr")


def _forget_description(folder: Path) -> None:
    (folder / "drivers.json").unlink(missing_ok=True)
    for positions in POSITIONS:
        shutil.rmtree(folder / f"at-{positions}.zarr", ignore_errors=True)


def answers_changed(models: Mapping[str, Model], probe: Probe) -> ChangedAnswers | None:
    """Which answers changed from the first model to the second; None without two, where a label is missing, or where
    rows have one answer or other numbers of them.
    """
    labelled = all(example.label is not None for example in probe.examples)
    counts = {len(example.answers) for example in probe.examples}
    if len(models) < 2 or not labelled or len(counts) > 1 or counts == {1}:
        return None
    before, after = list(models)[:2]
    return changed_answers(models[before], models[after], probe, names=(before, after))


def report_of(folder: "str | Path", title: str = "", model_name: str = "") -> Report:
    """The page of a run, from whatever artefacts its folder holds; raises `ArtefactError` where it holds none."""
    folder = Path(folder)
    about = folder / "about.json"
    try:
        told = json.loads(about.read_text("utf-8")) if about.is_file() else {}
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtefactError(f"{about} is cut short or damaged ({error}): delete it") from error

    def found(name, load):
        return load(folder / name) if (folder / name).exists() else None

    artefacts = {
        "estimates": found("estimates.zarr", Effects.load),
        "exact": found("exact.zarr", Effects.load),
        "doses": found("doses.zarr", Effects.load),
        "frontier": found("frontier.safetensors", Frontier.load),
        "selection": found("selection.safetensors", Selection.load),
        "drivers": found("drivers.json", Drivers.load),
        "co_ablation": found("co-ablation.zarr", CoAblation.load),
    }
    evaluated = sorted(folder.glob("evaluation*.json"))
    evaluations = {path.stem: Evaluation.load(path) for path in evaluated}
    changed = {
        path.stem.removeprefix("changed-answers").strip("-") or "held out": ChangedAnswers.load(path)
        for path in sorted(folder.glob("changed-answers*.json"))
    }
    if not evaluations and not changed and not any(artefact is not None for artefact in artefacts.values()):
        raise ArtefactError(f"{folder} holds nothing to report: give the folder of icp score, icp prune or icp demo")
    return report(
        title or told.get("title", f"A run in {folder.name}"),
        summary=told.get("summary", []),
        model_name=model_name or told.get("model_name", ""),
        costs={path.stem.removeprefix("cost-"): Effects.load(path) for path in sorted(folder.glob("cost-*.zarr"))},
        evaluations=evaluations,
        changed_answers=changed,
        by_position={p: Effects.load(path) for p in POSITIONS if (path := folder / f"at-{p}.zarr").exists()},
        notes=[*told.get("notes", []), *_older(evaluated, folder / "selection.safetensors")],
        max_gap_left=told.get("max_gap_left"),
        **artefacts,
    )


def _older(evaluated: Sequence[Path], selection: Path) -> list[str]:
    """A note on each evaluation that was written before the selection was, and may be of another cut."""
    if not selection.is_file():
        return []
    decided = selection.stat().st_mtime
    return [
        f"{path.name} was written before {selection.name}, so its models may have been cut otherwise: evaluate again"
        for path in evaluated
        if path.stat().st_mtime < decided
    ]
