"""Which method makes a fine-tuned model lean less on a planted cue: accuracy with the cue aligned and inverted.

A name that goes with the label in 95% of the training rows, as in `planted_cue`. Settings of every method are chosen on
seed 0, by worst-group accuracy over (label, name) on the rows to select on; nothing is chosen on what is tested on.
Then every method runs on every seed. Intervals are over seeds and sentences (`icp.statistics.seeds_interval`).

Finished runs are kept in the JSON file, each with its commit, and adapters in a folder beside it, so that the same call
goes on where it was stopped. A picture is written beside it too. Several runs are made at once, with a thread each.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import planted_cue
import torch
import typer
from mitigations import CURVES, METHODS, Trial, figures
from robustness_plot import picture
from rounds import Rounds, commit, machine
from tqdm import tqdm

import icp
from icp.resampling import bootstrap_error
from icp.statistics import seeds_interval

ARGUMENTS = {"learning_rate": 5e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8}


@dataclass(frozen=True)
class Protocol:
    """What is run, and on how much."""

    seeds: tuple[int, ...] = (0, 1, 2)
    sentences: planted_cue.Sizes = field(default_factory=planted_cue.Sizes)
    arguments: Mapping[str, Any] = field(default_factory=lambda: ARGUMENTS)
    tuned: bool = True
    curves: bool = True
    agree: float = 0.95
    cue: str = "name"


QUICK = {
    "seeds": (0,), "sentences": planted_cue.Sizes(96, 24, 24, 60), "tuned": False, "curves": False,
    "arguments": ARGUMENTS | {"num_train_epochs": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One model to make, and the split it is looked at on."""

    part: str
    method: str
    seed: int
    settings: Mapping[str, Any]

    @property
    def key(self) -> dict[str, Any]:
        return {"part": self.part, "method": self.method, "seed": self.seed, "settings": dict(self.settings)}


def trial_of(protocol: Protocol, seed: int, folder: Path) -> Trial:
    sentences = planted_cue.splits(planted_cue.data_folder(), seed, protocol.sentences)
    return Trial(
        icp.load("smollm2"), sentences, seed, protocol.agree, protocol.cue, protocol.arguments, folder / f"seed-{seed}"
    )


def run(job: Job, protocol: Protocol, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(1)
    start, trial = time.perf_counter(), trial_of(protocol, job.seed, folder)
    of = CURVES if job.part == "curve" else METHODS
    model = of[job.method].make(trial, **job.settings)
    made = time.perf_counter()
    on = trial.select if job.part == "tuning" else planted_cue.both(trial.splits.test, protocol.cue)
    found = figures(model, on)
    if job.method == "erm":
        trial.ranking  # noqa: B018  what other runs of this seed take from the folder
    seconds = {"seconds": trial.spent, "seconds_here": made - start, "seconds_tested": time.perf_counter() - made}
    return found | seconds | {"commit": commit()}


def counted(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each sentence [sentence, *some, cue, label, 2]: whether it is right, and 1, in the place of its label."""
    here = np.arange(2) == labels[:, None]  # sentence, label
    both = np.stack([np.moveaxis(right, -1, 0), np.ones_like(np.moveaxis(right, -1, 0))], -1)
    return both[..., None, :] * here.reshape(len(labels), *[1] * (right.ndim - 1), 2, 1)


def accuracy(sums: np.ndarray) -> dict[str, np.ndarray]:
    """In percent [*some], of sums [*some, cue, label, 2] over sentences, where the cue is aligned and inverted."""
    with np.errstate(invalid="ignore"):
        groups = 100 * sums[..., 0] / sums[..., 1]
    whole = 100 * sums[..., 0].sum(-1) / sums[..., 1].sum(-1)
    return {"aligned": whole[..., 0], "inverted": whole[..., 1], "worst_group": groups.min((-1, -2))}


def matrix(rounds: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """1 where right [seed, cue, sentence], and the labels [sentence]."""
    right = [[[float(digit) for digit in row[side]] for side in ("aligned", "inverted")] for row in rounds]
    return np.array(right), np.array([int(digit) for digit in rounds[0]["labels"]])


def chosen(method: str, rounds: list[dict], protocol: Protocol) -> dict[str, Any]:
    """The settings of largest worst-group accuracy where tuned, the first of equals."""
    settings = METHODS[method].settings
    if len(settings) == 1 or not protocol.tuned:
        return settings[0]
    scores = []
    for setting in settings:
        mine = [row for row in rounds if row["part"] == "tuning" and row["method"] == method]
        mine = [row for row in mine if row["settings"] == setting]
        scores.append(float(accuracy(counted(*matrix(mine)).sum(0))["worst_group"][0]))
    return settings[int(np.argmax(scores))]


def jobs(names: Sequence[str], protocol: Protocol, rounds: list[dict], ablations: bool = False) -> Iterator[list[Job]]:
    """What is to be run of these methods, one list after the other, since each needs what the ones before found."""
    yield [Job("test", "erm", seed, {}) for seed in protocol.seeds]
    grids = {name: METHODS[name].settings for name in names}
    first = [name for name in names if name == "icp_reg"]  # others take what it made from the folder
    rest = [name for name in names if name not in first]
    for some in (first, rest) if protocol.tuned else ():
        yield [
            Job("tuning", name, protocol.seeds[0], settings)
            for name in some
            if len(grids[name]) > 1
            for settings in grids[name]
        ]
    settled = {name: chosen(name, rounds, protocol) for name in names}
    for some in (first, rest):
        yield [Job("test", name, seed, settled[name]) for name in some for seed in protocol.seeds]
    for more in (False, True) if ablations else (False,):
        some = {name: curve for name, curve in CURVES.items() if curve.more == more and curve.of in names}
        yield [
            Job("curve", name, seed, curve.settings(value, settled[curve.of]))
            for name, curve in some.items()
            if protocol.curves and "icp_reg" in names
            for value in curve.values
            for seed in protocol.seeds
        ]


def summary(rounds: list[dict]) -> dict[str, Any]:
    """Per method and per size of the set: means over seeds in percent, intervals, and the seeds' own.

    They are of the settings that were run last: a grid that has grown may have settled on others than before.
    """
    settled = {_point(row): row["settings"] for row in rounds}
    tested: dict[str, list[dict]] = {}
    curve: dict[str, dict[str, list[dict]]] = {}
    for row in sorted(rounds, key=lambda row: row["seed"]):
        if row["part"] == "tuning" or row["settings"] != settled[_point(row)]:
            continue
        _, method, value = _point(row)
        if row["part"] == "test":
            tested.setdefault(method, []).append(row)
        else:
            curve.setdefault(method, {}).setdefault(value, []).append(row)
    return {
        "methods": {name: described(mine) for name, mine in tested.items()},
        "differences": {
            f"{ours} - {name}": difference(tested[ours], mine)
            for ours in ("icp_reg", "icp_hybrid")
            for name, mine in tested.items()
            if ours in tested and name != ours
        },
        "curve": {name: {size: described(mine) for size, mine in sizes.items()} for name, sizes in curve.items()},
        "core_hours": sum(row["seconds_here"] + row["seconds_tested"] for row in rounds) / 3600,
        "commits": sorted({row["commit"] for row in rounds}),
    }


def _point(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What of the table or of the curves a round belongs to."""
    value = str(row["settings"][CURVES[row["method"]].over]) if row["part"] == "curve" else ""
    return row["part"], row["method"], value


def described(rounds: list[dict]) -> dict[str, Any]:
    right, labels = matrix(rounds)
    told: dict[str, Any] = {}
    for name in ("aligned", "inverted", "worst_group"):
        told |= over_seeds(counted(right, labels), name, lambda sums, name=name: accuracy(sums)[name])
    return told | {
        "random": (told["aligned"] + told["inverted"]) / 2,
        "unchanged": float(100 * (right[:, 0] == right[:, 1]).mean()),
        "gap": float(np.mean([row["gap"] for row in rounds])),
        "seconds": float(np.mean([sum(row["seconds"].values()) for row in rounds])),
        "settings": rounds[0]["settings"],
        "seeds": [row["seed"] for row in rounds],
    }


def difference(ours: list[dict], theirs: list[dict]) -> dict[str, Any]:
    """In worst-group accuracy, paired by seed and sentence, over the seeds that both have."""
    shared = {row["seed"] for row in ours} & {row["seed"] for row in theirs}
    both = [matrix([row for row in rows if row["seed"] in shared]) for rows in (ours, theirs)]
    sums = counted(np.stack([right for right, _ in both]), both[0][1])

    def less(sums: np.ndarray) -> np.ndarray:
        found = accuracy(sums)["worst_group"]
        return found[..., 0, :] - found[..., 1, :]

    return over_seeds(sums, "worst_group", less) | {"seeds": sorted(shared)}


def over_seeds(sums: np.ndarray, name: str, of: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """The mean over seeds of a function of sums, its interval over seeds and sentences, and the seeds' own values."""
    own = of(sums.sum(0))
    alone = np.arange(len(sums)).repeat(2).reshape(-1, 2)
    error = bootstrap_error(sums, lambda drawn: of(drawn).mean(-1), alone) if len(own) > 1 else float("nan")
    ends = None if len(own) < 2 else list(seeds_interval(own, error, len(sums)))
    return {name: float(own.mean()), f"{name}_ci": ends, f"{name}_seeds": own.tolist()}


def table(found: Mapping[str, Any]) -> str:
    rows = sorted(found["methods"].items(), key=lambda item: -item[1]["worst_group"])
    rows += [(f"{name} {size}", row) for name, sizes in found["curve"].items() for size, row in sizes.items()]
    wide = max(len(name) for name, _ in rows) + 2
    lines = [f"{'method':<{wide}}{'aligned':>22}{'inverted':>22}{'worst group':>22}{'unchanged':>11}{'seconds':>9}"]
    for name, row in rows:
        cells = [_with_ends(row[what], row[f"{what}_ci"]) for what in ("aligned", "inverted", "worst_group")]
        told = "".join(f"{cell:>22}" for cell in cells)
        lines.append(f"{name:<{wide}}{told}{row['unchanged']:>11.1f}{row['seconds']:>9.0f}")
    return "\n".join(lines)


def _with_ends(value: float, ends: list[float] | None) -> str:
    return f"{value:.1f}" if ends is None else f"{value:.1f} ({ends[0]:.1f} to {ends[1]:.1f})"


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished runs in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed, few sentences, one epoch, nothing tuned.")] = False,
    workers: Annotated[int, typer.Option(help="Runs made at once, one thread each.")] = 2,
    cue: Annotated[str, typer.Option(help=f"One of {', '.join(planted_cue.CUES)}.")] = "name",
    agree: Annotated[float, typer.Option(help="How often the cue goes with the label in training.")] = 0.95,
    ablations: Annotated[bool, typer.Option(help="Few pairs, masks, and units of some blocks as well.")] = False,
    only: Annotated[list[str], typer.Option(help="A method to run; all where none is named.")] = [],  # noqa: B006
):
    protocol = Protocol(**(QUICK if quick else {}), cue=cue, agree=agree)
    about = {name: value for name, value in machine(1).items() if name != "commit"} | {
        "dtype": "torch.float32",
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "protocol": asdict(protocol),
    }
    folder = json_path.with_name(json_path.stem + "-runs")
    rounds = Rounds(json_path, about, summary)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for some in jobs(only or list(METHODS), protocol, rounds.finished, ablations):
            waiting = rounds.missing([job.key for job in some])
            running = {pool.submit(run, Job(**key), protocol, folder): key for key in waiting}
            failed = []
            for done in tqdm(as_completed(running), total=len(running), unit="run"):
                if done.exception() is None:
                    rounds.add(running[done], done.result(), summarised=False)
                else:
                    failed.append((running[done], done.exception()))
            if failed:
                told = "; ".join(f"{key}: {error}" for key, error in failed)
                raise SystemExit(f"{len(failed)} runs failed, the others are kept: {told}") from failed[0][1]
    rounds.write()
    found = rounds.summary()
    picture(found).write_html(json_path.with_suffix(".html"), include_plotlyjs=True)
    print(table(found))


if __name__ == "__main__":
    typer.run(main)
