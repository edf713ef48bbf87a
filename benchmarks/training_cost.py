"""What the invariance adds to a step of LoRA training, in plain steps: one forward and backward pass of the rows.

A step of SmolLM2-135M with rank-8 adapters on eight rows with counterparts, and so many heads and neurons drawn at
random: plain, masked, scaled, swapped with the counterpart, and label-preserving consistency. Contestants
take turns within a round; a round is a seed, which draws the units.
"""

import random
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rounds import Rounds, machine
from tqdm import tqdm

import icp
from icp import baselines
from icp.adapters import adapted, default_lora
from icp.demo.sentences import ANSWERS, OCCUPATION_TEMPLATES, OCCUPATIONS
from icp.weights import copied

AIMS = {"mask": 1.2, "scale": 1.2, "swap": 2.2}


def rows() -> icp.Probe:
    pairs = [(t, hers, his) for t in OCCUPATION_TEMPLATES[:4] for hers, his in OCCUPATIONS[:4]]
    return icp.Probe(
        tuple(icp.Example(t.format(a), t.format(b), ANSWERS, label=n % 2) for n, (t, a, b) in enumerate(pairs))
    )


def contestants(units: list[icp.Unit]) -> dict[str, list[icp.Objective]]:
    def kept(what: icp.Intervention) -> list[icp.Objective]:
        return [icp.Objective(), icp.Invariance(units, interventions=what)]

    return {
        "plain": [icp.Objective()],
        "mask": kept(icp.Mask("mean")),
        "scale": kept(icp.Scale(0.5)),
        "swap": kept(icp.Swap("counterpart")),
        "consistency": [baselines.Consistency()],
    }


def one_round(model: icp.Model, seed: int, count: int, steps: int) -> dict[str, Any]:
    """Seconds of every step of every contestant, in turns; one before is not counted."""
    units = random.Random(seed).sample(model.units("head", "neuron"), count)
    train, seconds = rows(), {}
    adapters = adapted(copied(model.module), default_lora(model))
    losses = {name: icp.Losses.of(model, train, some).on(adapters) for name, some in contestants(units).items()}
    for step in range(steps + 1):
        for name, each in losses.items():
            adapters.zero_grad()
            start = time.perf_counter()
            each.step(list(range(8)), step).total.backward()
            if step:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return {"seconds": seconds}


def summary(rounds: list[dict]) -> dict[str, Any]:
    """Steps' medians over that of the plain step, less one: the mean of the rounds, the least and the largest."""
    if not rounds:
        return {}
    names = [name for name in rounds[0]["seconds"] if name != "plain"]
    added = {
        name: [float(np.median(r["seconds"][name]) / np.median(r["seconds"]["plain"])) - 1 for r in rounds]
        for name in names
    }
    return {
        "added_plain_steps": {name: float(np.mean(values)) for name, values in added.items()},
        "added_plain_steps_range": {name: [min(values), max(values)] for name, values in added.items()},
        "aims": AIMS,
    }


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished rounds in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One round of two steps.")] = False,
    units: Annotated[int, typer.Option(help="How many heads and neurons are intervened on.")] = 200,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
):
    torch.set_num_threads(threads)
    seeds, steps = ((0,), 2) if quick else ((0, 1, 2), 8)
    model = icp.load("smollm2")
    about = machine(threads) | {
        "dtype": str(model.dtype), "model": "SmolLM2-135M-Instruct, dequantised from Q4_1", "units": units,
        "rows": 8, "quick": quick,
    }  # fmt: skip
    found = Rounds(json_path, about, summary)
    for key in tqdm(found.missing([{"seed": seed} for seed in seeds]), unit="round"):
        found.add(key, one_round(model, key["seed"], units, steps))
    told = found.summary()
    for name, value in told["added_plain_steps"].items():
        low, high = told["added_plain_steps_range"][name]
        aim = f"   aim: at most {AIMS[name]}" if name in AIMS else ""
        print(f"{name:<12} {value:5.2f} plain steps more ({low:.2f} to {high:.2f}){aim}")


if __name__ == "__main__":
    typer.run(main)
