"""The demo: find the units through which a stereotype reaches the answer, cut them, and show what that cost."""

import json
import random
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

import numpy as np
import torch

from icp.changed import changed_answers
from icp.demo import sentences
from icp.evaluate import evaluate
from icp.evaluation import Evaluation
from icp.files import writing_file
from icp.interventions import Mask
from icp.loading import load
from icp.model import Model
from icp.nested_sets import choices_of
from icp.probes import Probe
from icp.properties import ErrorRate, LogitDifference, NextTokenLoss, TaskLoss
from icp.prune import prune
from icp.selection import Selection, hooked
from icp.steps import cut, describe, reference_of, report_of, score
from icp.units import Unit

RANDOM_CONTROLS = 5
MAX_GAP_LEFT = 0.6
"""The share of the gap that may be left, where the aim is to take 40% of it away."""
MAX_NEUTRAL, MAX_NAMES, MAX_WRONG = 0.01, 0.05, 0.01
"""Budgets of a set: the share by which the loss on neutral text may rise, the nats by which that of the right pronoun
after a name may, and the share of names after which it may become wrong."""
ALONE = 0.5
"""The share of a budget that one unit may spend by itself."""


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo measured on its reporting split, and the same in sentences."""

    evaluation: Evaluation
    lines: list[str]


def run_demo(folder: "str | Path" = "icp-demo", name: str = "smollm2", seed: int = 0, progress: bool = True) -> Demo:
    """Rank, select and report on three disjoint splits of templates, occupations, names and neutral sentences.

    Writes every artefact, the pruned checkpoint (`pruned/`) and `report.html` into `folder`, and returns what was
    measured on the reporting split: the stereotype gap, the accuracy where a name settles the pronoun, and the loss on
    neutral sentences, for the model before and after, equally many random units of the same kinds (five draws), and
    the units of the same kinds with the largest outgoing weights.
    """
    folder = Path(folder)
    model = load(name)
    pairs = sentences.pairs().split(by=("template", "word"), seed=seed)
    names = sentences.names().split(by=("template", "word"), seed=seed)
    neutral = sentences.neutral().split(by="template", seed=seed)
    costs = [
        {"neutral": (quiet, NextTokenLoss()), "names": (named, TaskLoss(among_answers=True))}
        for quiet, named in zip(neutral, names)
    ]
    score(model, pairs[0], costs[0], folder, max_damage=_shares(model, neutral[0], ALONE), progress=progress)
    for part, probe in zip(("rank", "select", "test"), pairs):
        probe.save(folder / f"{part}.jsonl")
    budgets = _shares(model, neutral[1], 1.0)
    wrong = {"wrong names": (names[1], ErrorRate())}
    options = dict(max_damage=budgets | {"wrong names": MAX_WRONG}, watched=wrong, alone=ALONE)
    selection = cut(model, pairs[1], costs[1], folder, **options, progress=progress)
    pruned = prune(model, selection)
    pruned.save_pretrained(folder / "pruned")

    reference = reference_of(pairs[1], costs[1])
    result = _evaluate(model, pruned, selection, reference, (pairs[2], names[2], neutral[2]), seed)
    result.save(folder / "evaluation.json")
    for part, probe in (("pairs", pairs[2]), ("names", names[2])):
        changed_answers(model, pruned, probe).save(folder / f"changed-answers-{part}.json")
    describe(model, pairs[0], selection, folder, progress=progress)
    shown = "SmolLM2-135M-Instruct (dequantised from Q4_1)" if name == "smollm2" else name
    about = {
        "title": f"A gender stereotype in {shown.split(' (')[0]}, found and cut",
        "model_name": shown,
        "summary": summary(result, selection, model),
        "notes": notes(pairs, names, neutral, budgets, seed),
        "max_gap_left": MAX_GAP_LEFT,
    }
    with writing_file(folder / "about.json") as work:
        work.write_text(json.dumps(about, indent=1), "utf-8")
    report_of(folder).save(folder / "report.html")
    return Demo(result, about["summary"])


def _shares(model: Model, neutral: Probe, share: float) -> dict[str, float]:
    """A share of the budgets, in nats."""
    baseline = evaluate(model, neutral, ["next_token_loss"]).values[model.name]["next_token_loss"].mean()
    return {"neutral": share * MAX_NEUTRAL * float(baseline), "names": share * MAX_NAMES}


def _evaluate(
    model: Model, pruned: Model, selection: Selection, reference: Probe, held_out: tuple[Probe, Probe, Probe], seed: int
) -> Evaluation:
    """Before, after and the controls on the reporting split; controls are hooked in, which is the same as cutting."""
    result = _measured("before", model, *held_out) | _measured("after", pruned, *held_out)
    controls = {
        f"random {draw + 1}": matched_random(model, selection, seed=1000 * seed + draw)
        for draw in range(RANDOM_CONTROLS)
    }
    for label, units in (controls | {"largest weights": largest_weights(model, selection)}).items():
        with hooked(model, choices_of(model, units, Mask("mean"), reference)):
            result |= _measured(label, model, *held_out)
    return result


def _measured(label: str, model: Model, pairs: Probe, names: Probe, neutral: Probe) -> Evaluation:
    metrics = ((pairs, "gap"), (names, "accuracy"), (neutral, "next_token_loss"))
    return reduce(or_, (evaluate({label: model}, probe, [metric]) for probe, metric in metrics))


def _count_by_kind(selection: Selection) -> dict[str, int]:
    kinds = [unit.kind for unit in selection.units]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def matched_random(model: Model, selection: Selection, seed: int) -> list[Unit]:
    """As many random units of each kind as the selection has, none of them selected."""
    rng, taken = random.Random(seed), set(selection.units)
    drawn: list[Unit] = []
    for kind, count in _count_by_kind(selection).items():
        drawn += rng.sample([unit for unit in model.units(kind) if unit not in taken], count)
    return drawn


def largest_weights(model: Model, selection: Selection) -> list[Unit]:
    """As many units of each kind as the selection has, those whose outgoing weights have the largest norm."""
    chosen: list[Unit] = []
    for kind, count in _count_by_kind(selection).items():
        units = model.units(kind)
        norms = torch.stack([site_norm(model, unit) for unit in units])
        chosen += [units[i] for i in norms.topk(count).indices.tolist()]
    return chosen


def site_norm(model: Model, unit: Unit) -> torch.Tensor:
    """The Frobenius norm of a unit's outgoing weights."""
    site = model.sites[unit.site]
    columns = site.columns(unit)
    return site.outgoing[columns.start : columns.stop].norm()


def summary(result: Evaluation, selection: Selection, model: Model) -> list[str]:
    """What was found, in sentences, for the top of the report and the terminal."""
    before, after = result.values["before"], result.values["after"]
    controls = [values for label, values in result.values.items() if label.startswith("random")]
    gap = {label: float(values["gap"].mean()) for label, values in result.values.items()}
    kinds = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in _count_by_kind(selection).items())
    loss = float((after["next_token_loss"] - before["next_token_loss"]).mean() / before["next_token_loss"].mean())
    random_left = np.mean([values["gap"].mean() for values in controls]) / gap["before"]
    return [
        f"{len(selection)} of {len(model.units('head', 'neuron')):,} units ({kinds}) were cut: "
        + ", ".join(map(str, selection.units)),
        f"stereotype gap: {gap['before']:.2f} -> {gap['after']:.2f} logits ({gap['after'] / gap['before'] - 1:+.0%})",
        f"controls: {random_left - 1:+.0%} for equally many random units of the same kinds, "
        f"{gap['largest weights'] / gap['before'] - 1:+.0%} for those with the largest weights",
        f"loss on neutral sentences: {before['next_token_loss'].mean():.3f} -> {after['next_token_loss'].mean():.3f} "
        f"nats a token ({loss:+.2%})",
        f"right pronoun where a name settles it: {before['accuracy'].mean():.1%} -> {after['accuracy'].mean():.1%}",
    ]


def notes(pairs: tuple[Probe, ...], names: tuple[Probe, ...], neutral: tuple[Probe, ...], budgets: dict, seed: int):
    """How the numbers were made."""
    sizes = " / ".join(
        f"{len(p)} pairs, {len(n)} name sentences, {len(s)} neutral" for p, n, s in zip(pairs, names, neutral)
    )
    return [
        f"P is {LogitDifference().label}: logit(' she') - logit(' he') after the last word. The gap is the mean over "
        "pairs of |P(x) - P(x')|, where x and x' differ in the occupation only.",
        f"Rank / select / report (seed {seed}): {sizes}. No template, occupation, name or sentence is in two of them.",
        "Errors and intervals are clustered by template and by word: sentences that share one are not independent.",
        f"Budgets on the selecting split: loss on neutral sentences at most {budgets['neutral']:.3f} nats a token up "
        f"(1%), loss of the right pronoun after a name at most {budgets['names']} nats up, wrong pronouns "
        f"after a name at most {100 * MAX_WRONG:g} percentage point more. The set "
        "grows one unit at a time in the order of the ranking. "
        f"A unit that spends more than {ALONE:.0%} of a budget by itself is not a candidate.",
        "Masks are mean masks, one vector a unit, the mean over all tokens of the selecting split, folded into "
        "biases. Controls are cut in the same way and matched in kind: as many heads for heads, neurons for neurons.",
        "The weights were dequantised from a 4-bit file, so figures differ from those of the original checkpoint.",
    ]
