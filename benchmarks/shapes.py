"""A small vision transformer, trained from nothing on shapes whose background agrees with the class in most images.

The shape (a disc or a cross) is the class; the background (warm or cold) goes with it in 90% of the training images.
Each seed trains a model on images of its own. On other images, all pairs that differ in the background alone, the
dimensions of heads' outputs and the neurons are ranked by the indirect effect of the background, with the exact engine,
and sets of the best are chosen. On images that are the same for all seeds it is asked:

- `carried`: which share of the background's total effect goes through the best 8, 16 and 32 units, swapped together
  with their values in the counterpart, and which share through sets as large that are drawn at random.
- `accuracy`: percent right where the background agrees with every class (`aligned`) and where it contradicts every
  class (`swapped`), of the model as it was trained; after ICP-Prune (of nested sets of the ranking, mean-masked, the
  one with the fewest errors on balanced images that were held out for choosing); and after ICP-Reg, training on with
  all weights and the penalty on swaps of all heads (`icp_reg`: together they are a cut, since nothing else moves
  information between patches), of the best 32 units alone (`best_reg`), or without a penalty (`tuned`).
"""

import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rounds import Rounds, machine
from tqdm.auto import tqdm
from transformers import ViTConfig, ViTForImageClassification

import icp
from icp.data import coloured_shapes
from icp.predictions import answered, probabilities_of
from icp.statistics import mean_interval


@dataclass(frozen=True)
class Protocol:
    """What is drawn and how it is trained; `random_sets` are drawn of each size."""

    train: int = 2000
    rank: int = 100
    select: int = 100
    test: int = 400
    agreement: float = 0.9
    size: int = 16
    epochs: int = 8
    tuning_epochs: int = 12
    units: tuple[int, ...] = (8, 16, 32)
    regularised: int = 32
    max_damage: float = 0.02
    random_sets: int = 10


QUICK = {"train": 600, "rank": 40, "select": 40, "test": 100, "epochs": 4, "tuning_epochs": 2, "random_sets": 3}
BATCH, RATE = 100, 2e-3
KINDS = ("value", "neuron")
SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
TEST = 900_001
"""The seed of the test images, which no setting was chosen on."""

SEEDS = 8
METHODS = ("trained", "icp_prune", "icp_reg", "best_reg", "tuned")


def drawn(count: int, seed: int, protocol: Protocol, agreement: float = 1.0) -> icp.Probe:
    return coloured_shapes(count, agreement, seed, size=protocol.size)


def trained(probe: icp.Probe, seed: int, protocol: Protocol) -> icp.Model:
    """From random weights, by plain cross-entropy."""
    torch.manual_seed(seed)
    answers = probe.examples[0].answers
    config = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=protocol.size,
        patch_size=4, id2label=dict(enumerate(answers)), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = icp.load(ViTForImageClassification(config))
    return minimised(model, probe, icp.Objective(), protocol.epochs, seed)


def minimised(model: icp.Model, probe: icp.Probe, objective: icp.Objective, epochs: int, seed: int) -> icp.Model:
    """A copy with all its weights trained by AdamW, the learning rate falling to 0."""
    torch.manual_seed(seed)
    model = model.copy()
    module, losses = model.module.train(), icp.Losses.of(model, probe, objective)
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.01)
    order = [rows for _ in range(epochs) for rows in torch.randperm(len(probe)).split(BATCH)]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, len(order))
    for step, rows in enumerate(tqdm(order, unit="step", desc="train", leave=False)):
        loss = losses.step(rows.tolist(), step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    module.eval()
    return model


def accuracy(model: icp.Model, test: icp.Probe) -> dict[str, float]:
    """Percent right with the background that agrees, and with the one that contradicts."""
    labels = np.array([example.label for example in test.examples])
    both = {"aligned": test, "swapped": test.swapped()}
    return {
        name: float(100 * (answered(probabilities_of(model, probe)) == labels).mean()) for name, probe in both.items()
    }


def by_chance(model: icp.Model, like: list[icp.Unit], rng: random.Random) -> list[icp.Unit]:
    """As many of each kind, drawn among all."""
    kinds = [sum(unit.kind == kind for unit in like) for kind in KINDS]
    return [unit for kind, count in zip(KINDS, kinds) for unit in rng.sample(model.units(kind), count)]


def carried(model: icp.Model, sets: list[list[icp.Unit]], test: icp.Probe) -> list[float]:
    """By set, the share of the background's total effect that swapping its units together gives."""
    here, there = (icp.measure(model, probe, "hook_embed[0]", icp.Scale(1.0), progress=False).clean
                   for probe in (test, test.swapped()))  # fmt: skip
    swapped = icp.measure_sets(model, test, sets, icp.Swap("counterpart"), progress=False)
    sign = np.sign(there - here)
    return ((swapped.dP * sign).sum(1) / np.abs(there - here).sum()).tolist()


def round_of(seed: int, protocol: Protocol) -> dict[str, Any]:
    start, rng = time.perf_counter(), random.Random(f"units {seed}")
    train = drawn(protocol.train, 10 * seed + 1, protocol, protocol.agreement)
    rank, select = (drawn(count, 10 * seed + n, protocol) for n, count in ((2, protocol.rank), (3, protocol.select)))
    test = drawn(protocol.test, TEST, protocol)
    model = trained(train, seed, protocol)
    units = model.units(*KINDS)
    cue = icp.measure(model, rank, units, icp.Swap("counterpart"), progress=False)
    cost = icp.measure(
        model, rank.balanced(), units, icp.Mask("mean"), property=icp.TaskLoss(), method="linear", progress=False
    )  # fmt: skip
    best = icp.indirect_effect(cue).units
    sets = [best[:size] for size in protocol.units]
    others = [[by_chance(model, mine, rng) for _ in range(protocol.random_sets)] for mine in sets]
    shares = carried(model, [*sets, *(one for some in others for one in some)], test)
    random_shares = np.array(shares[len(sets) :]).reshape(len(sets), -1)
    told: dict[str, Any] = {
        "carried": {str(size): share for size, share in zip(protocol.units, shares)},
        "carried_by_random": {str(size): row.tolist() for size, row in zip(protocol.units, random_shares)},
    }
    costs = {"errors": (select.balanced(), icp.ErrorRate())}
    ranking = icp.selectivity(cue, cost, max_damage=protocol.max_damage)
    sizes = [size for size in SIZES if size <= len(ranking.units)]
    frontier = icp.frontier(model, select, ranking, icp.Mask("mean"), costs=costs, sizes=sizes, progress=False)
    selection = frontier.select(top=int(frontier.table()["damage errors"].iloc[1:].idxmin()))
    objectives = {
        "icp_reg": icp.Invariance(model.units("head")),
        "best_reg": icp.Invariance(best[: protocol.regularised]),
        "tuned": icp.Objective(),
    }
    found = {"trained": accuracy(model, test), "icp_prune": accuracy(icp.prune(model, selection), test)}
    for name, objective in objectives.items():
        found[name] = accuracy(minimised(model, train, objective, protocol.tuning_epochs, seed), test)
    return told | {
        "accuracy": found,
        "cut": [str(unit) for unit in selection.units],
        "best": [str(unit) for unit in best[: protocol.units[0]]],
        "seconds": time.perf_counter() - start,
    }


def summary(rounds: list[dict]) -> dict[str, Any]:
    """Means over seeds with 95% t-intervals, and the seeds' own values."""

    def over(values: list[float]) -> dict[str, Any]:
        told = mean_interval(np.array(values)) if len(values) > 1 else {"mean": values[0], "low": None, "high": None}
        return {**told, "seeds": values}

    if not rounds:
        return {}
    accuracies = {
        method: {name: over([one["accuracy"][method][name] for one in rounds]) for name in ("aligned", "swapped")}
        for method in METHODS
    }
    gains = {
        method: over([one["accuracy"][method]["swapped"] - one["accuracy"]["trained"]["swapped"] for one in rounds])
        for method in METHODS[1:]
    }
    shares = {
        size: {
            "best": over([one["carried"][size] for one in rounds]),
            "random": over([float(np.mean(one["carried_by_random"][size])) for one in rounds]),
            "largest_random": max(max(one["carried_by_random"][size]) for one in rounds),
        }
        for size in rounds[0]["carried"]
    }
    return {"accuracy": accuracies, "gain_on_swapped": gains, "carried": shares}


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{'':14}{'aligned':>9}{'swapped':>9}   by seed, swapped"]
    for method, row in found["accuracy"].items():
        seeds = " ".join(f"{value:5.1f}" for value in row["swapped"]["seeds"])
        lines.append(f"{method:14}{row['aligned']['mean']:>9.1f}{row['swapped']['mean']:>9.1f}   {seeds}")
    for size, row in found["carried"].items():
        told = f"{row['best']['mean']:.2f} of the background's effect, random sets {row['random']['mean']:.2f}"
        lines.append(f"{size:>3} best units carry {told} (at most {row['largest_random']:.2f})")
    return "\n".join(lines)


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished seeds in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed, and few images.")] = False,
) -> None:
    """Train, rank, cut and regularise with every seed, and write accuracies and shares."""
    torch.set_num_threads(1)
    protocol = Protocol(**(QUICK if quick else {}))
    about = machine(1) | {"dtype": "torch.float32", "protocol": asdict(protocol)}
    rounds = Rounds(json_path, about, summary)
    for key in tqdm(rounds.missing([{"seed": seed} for seed in range(1 if quick else SEEDS)]), unit="seed"):
        rounds.add(key, round_of(key["seed"], protocol))
    print(table(rounds.summary()))


if __name__ == "__main__":
    typer.run(main)
