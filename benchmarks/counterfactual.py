"""Counterfactual pairs from end to end: what checks let through, what training on each kind does, and how fast.

- `validators`: what each accepts of clean pairs and rejects of corrupted ones, as fractions (`validated`).
- `toy`: the logistic regression on a cause and a cue, in percent (`logistic_toy`).
- `coverage`: of `draws`, how many intervals hold an effect that is known (`known_graph`).
- `speed`: seconds and memory of lexicon pairs, made and validated on one core (`pair_speed`). `seconds` are those of
  the clock, which whatever else runs makes longer; `seconds_of_processor` are those that were worked.
- `methods`: accuracy with the planted name aligned and inverted, in percent, on the splits, rows and training arguments
  of `robustness.py`. `consistency` has the weight 3.0 on label-preserving pairs, chosen on nothing here.
  `swapped_consistency` is the same loss at the same weight on label-flipping pairs, which is how not to do it: each
  training sentence beside another one of the opposite label after the same name. `flipping` is cross-entropy on these
  counterparts with their own label. The flipping counterparts are other sentences of the training rows, not edits of
  the sentence: what they share with it is the name, which is what matters to what such a pair teaches about the name.
- `reviews`: reviews that people turned round, trained on or not, and tested on contrast sets (`rewritten_reviews`).

Means over seeds, with intervals over seeds and texts (`icp.statistics.seeds_interval`). Finished parts are kept in the
JSON file, so that the same call goes on where it was stopped, and `--only` can leave the trained ones for later. The
sizes are such that all of it should take about two hours on two quiet cores.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import known_graph
import logistic_toy
import mitigations
import planted_cue
import rewritten_reviews
import robustness
import torch
import typer
import validated
from mitigations import Trial
from rounds import Rounds, commit, machine
from tqdm import tqdm

import icp
from icp import baselines

WEIGHT = 3.0
PARTS = ("speed", "validators", "toy", "coverage", "methods", "reviews")


@dataclass(frozen=True)
class Size:
    """How much of everything; `texts` a world for validators, `scored` by a language model, `rows` for speed."""

    planted: robustness.Protocol = field(default_factory=robustness.Protocol)
    reviews: rewritten_reviews.Reviews = field(default_factory=rewritten_reviews.Reviews)
    texts: int = 500
    scored: int = 50
    toy_seeds: int = 10
    draws: int = 100
    rows: int = 100_000


QUICK = Size(
    robustness.Protocol(**robustness.QUICK),
    rewritten_reviews.Reviews(50, 60, 16, rewritten_reviews.Reviews().arguments | {"num_train_epochs": 1}),
    texts=40, scored=4, toy_seeds=2, draws=10, rows=5000,
)  # fmt: skip


def other_sentences(trial: Trial) -> icp.FlippingPairs:
    """Every training row with a training sentence of the other label after the same name, in an order drawn by seed."""
    form, _ = planted_cue.CUES[trial.named]
    draw, by_label = random.Random(f"flipping {trial.seed}"), {}
    for label in (0, 1):
        texts = [text for text, given in trial.splits.train if given == label]
        by_label[label] = cycle(draw.sample(texts, len(texts)))
    examples = [
        replace(
            one, counterpart=form.format(f" {one.group}", next(by_label[1 - one.label])), counterpart_group=one.group
        )
        for one in trial.train.probe.examples
    ]
    return icp.FlippingPairs(icp.Probe(tuple(examples)), tuple(1 - one.label for one in examples))


def swapped_consistency(trial: Trial) -> icp.Model:
    objective = baselines.SwappedConsistency(WEIGHT)
    return trial.tune(f"swapped_consistency-{WEIGHT}", objective=objective, train=other_sentences(trial))


def flipping(trial: Trial) -> icp.Model:
    return trial.tune("flipping", objective=baselines.FlippedCrossEntropy(), train=other_sentences(trial))


METHODS: dict[str, Callable[[Trial], icp.Model]] = {
    "erm": mitigations.erm,
    "consistency": lambda trial: mitigations.consistency(trial, WEIGHT),
    "flipping": flipping,
    "swapped_consistency": swapped_consistency,
}


def jobs(size: Size, parts: tuple[str, ...]) -> list[dict[str, Any]]:
    """What there is to do, the parts that take longest first; of `reviews` the seeds of a method together."""
    seeds = size.planted.seeds
    names = {
        "speed": [("lexicon", 0)],
        "validators": [("worlds", 0), ("edit_distance", 0), ("perplexity_ratio", 0)],
        "toy": [("toy", 0)],
        "coverage": [("coverage", 0)],
        "methods": [(name, seed) for seed in seeds for name in METHODS],
        "reviews": [(name, seed) for name in rewritten_reviews.METHODS for seed in seeds if name != "base" or not seed],
    }
    return [{"part": part, "name": name, "seed": seed} for part in parts[::-1] for name, seed in names[part]]


def run(job: Mapping[str, Any], size: Size, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(1)
    name, data = job["name"], planted_cue.data_folder()
    match job["part"], name:
        case "validators", "worlds":
            found = {"found": validated.of_worlds(size.texts)}
        case "validators", "edit_distance":
            found = {"found": {name: validated.of_reviews(data)}}
        case "validators", _:
            found = {"found": {name: validated.perplexity(icp.load("smollm2"), size.scored)}}
        case "toy", _:
            found = {"found": logistic_toy.figures(size.toy_seeds)}
        case "coverage", _:
            found = {"found": known_graph.coverage(size.draws)}
        case "methods", _:
            trial = robustness.trial_of(size.planted, job["seed"], folder)
            model = METHODS[name](trial)
            tests = planted_cue.both(trial.splits.test, size.planted.cue)
            found = mitigations.figures(model, tests) | {"seconds": trial.spent, "settings": {}}
        case _:
            base = icp.load("smollm2")
            model = rewritten_reviews.trained(name, base, data, size.reviews, job["seed"])
            found = {"right": rewritten_reviews.figures(model, data, size.reviews)}
    return found | {"commit": commit()}


def speed(rows: int) -> dict[str, Any]:
    """Of so many rows and of a fifth of them, each in a process of its own, with one thread."""
    script = Path(__file__).with_name("pair_speed.py")
    told = [
        json.loads(
            subprocess.run(
                [sys.executable, str(script), str(count)], env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE, check=True,
            ).stdout
        )
        for count in (rows // 5, rows)
    ]  # fmt: skip
    return {"found": told[1] | {"peak_mb_of_a_fifth": told[0]["peak_mb"]}, "commit": commit()}


def summary(rounds: list[dict]) -> dict[str, Any]:
    of: dict[str, list[dict]] = {}
    for row in sorted(rounds, key=lambda row: (row["part"], row["seed"])):
        of.setdefault(row["part"], []).append(row)
    found: dict[str, Any] = {"commits": sorted({row["commit"] for row in rounds})}
    if "validators" in of:
        found["validators"] = {name: told for row in of["validators"] for name, told in row["found"].items()}
    for part in ("toy", "coverage", "speed"):
        if part in of:
            found[part] = of[part][0]["found"]
    if "toy" in of:
        found["toy_difference_from_published"] = logistic_toy.differences(found["toy"])
    if "methods" in of:
        names = [name for name in METHODS if any(row["name"] == name for row in of["methods"])]
        found["methods"] = {
            name: robustness.described([row for row in of["methods"] if row["name"] == name]) for name in names
        }
    return found | (rewritten_reviews.summary(of["reviews"]) if "reviews" in of else {})


def table(found: Mapping[str, Any]) -> str:
    lines = []

    def add(head: str, rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...], form: str) -> None:
        cells = [[head, *columns]]
        for name, row in rows.items():
            cells.append([name, *(_shown(row, column, form) for column in columns)])
        wide = [max(len(row[place]) for row in cells) + 2 for place in range(len(cells[0]))]
        lines.extend("".join(f"{cell:<{w}}" for cell, w in zip(row, wide)).rstrip() for row in cells)
        lines.append("")

    if "validators" in found:
        add("validator", found["validators"], ("accept", "reject", "pairs", "corrupted"), ".3g")
    if "toy" in found:
        add("toy, percent", found["toy"], tuple(logistic_toy.AGREEMENT), ".1f")
    if "coverage" in found:
        rows = {
            f"{of}, {name}": {"held": held} for of, held in found["coverage"].items() for name, held in held.items()
        }
        add("intervals that hold the truth", rows, ("held",), "d")
    if "speed" in found:
        columns = ("pairs", "seconds", "seconds_of_processor", "peak_mb", "peak_mb_of_a_fifth")
        add("speed", {"lexicon pairs": found["speed"]}, columns, ".4g")
    if "methods" in found:
        add("planted name, percent", found["methods"], ("aligned", "inverted", "worst_group"), ".1f")
    if "reviews" in found:
        add("reviews, percent", found["reviews"], rewritten_reviews.MEASURES, ".1f")
    if "reviews_over_erm" in found:
        add("less plain training", found["reviews_over_erm"], rewritten_reviews.MEASURES, "+.1f")
    return "\n".join(lines)


def _shown(row: Mapping[str, Any], column: str, form: str) -> str:
    ends = row.get(f"{column}_ci")
    value = format(row[column], form)
    return value if ends is None else f"{value} ({ends[0]:{form}} to {ends[1]:{form}})"


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished parts in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed and little of everything: too small to say anything.")] = False,
    workers: Annotated[int, typer.Option(help="Parts run at once, one thread each; speed runs alone.")] = 2,
    only: Annotated[list[str], typer.Option(help=f"A part, of {', '.join(PARTS)}; all where none is named.")] = [],  # noqa: B006
):
    if unknown := set(only) - set(PARTS):
        raise typer.BadParameter(f"there is no part {unknown.pop()!r}: there are {', '.join(PARTS)}")
    size = QUICK if quick else Size()
    about = {name: value for name, value in machine(1).items() if name != "commit"} | {
        "dtype": "torch.float32",
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "size": asdict(size),
    }
    folder = json_path.with_name(json_path.stem + "-runs")
    rounds = Rounds(json_path, about, summary)
    waiting = rounds.missing(jobs(size, tuple(part for part in PARTS if part in (only or PARTS))))
    with tqdm(total=len(waiting), unit="part") as bar:
        for key in [key for key in waiting if key["part"] == "speed"]:
            rounds.add(key, speed(size.rows), summarised=False)
            bar.update()
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(run, key, size, folder): key for key in waiting if key["part"] != "speed"}
            failed = []
            for done in as_completed(running):
                if done.exception() is None:
                    rounds.add(running[done], done.result(), summarised=False)
                else:
                    failed.append((running[done], done.exception()))
                bar.update()
    rounds.write()
    if failed:
        told = "; ".join(f"{key}: {error}" for key, error in failed)
        raise SystemExit(f"{len(failed)} parts failed, the others are kept: {told}") from failed[0][1]
    print(table(rounds.summary()))


if __name__ == "__main__":
    typer.run(main)
