"""The demo over several split seeds, each in a process of its own: what it reaches, how long it takes, how much memory.

A finished seed is kept in the JSON file and not repeated.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rounds import machine
from scipy.stats import t
from tqdm import tqdm

from icp.evaluate import Evaluation
from icp.files import writing_file
from icp.selection import Selection

TARGETS = {"gap": "-40% or less", "next_token_loss": "+1% or less", "accuracy": "-1 point or more"}


def one_seed(seed: int, folder: Path) -> dict:
    """Run the command as a user would, and read what it left."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "from icp.cli import app; app()", "demo", "--quiet"]
    subprocess.run([*command, "--out", str(folder), "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    values = Evaluation.load(folder / "evaluation.json").values
    before = values["before"]

    def relative(model: str, metric: str) -> float:
        return float(values[model][metric].mean() / before[metric].mean() - 1)

    randoms = [name for name in values if name.startswith("random")]
    return {
        "seed": seed,
        "units": [str(unit) for unit in Selection.load(folder / "selection.safetensors").units],
        "gap_before": float(before["gap"].mean()),
        "gap_after": float(values["after"]["gap"].mean()),
        "gap_change": relative("after", "gap"),
        "gap_change_random": float(np.mean([relative(name, "gap") for name in randoms])),
        "gap_change_largest_weights": relative("largest weights", "gap"),
        "loss_change": relative("after", "next_token_loss"),
        "loss_change_largest_weights": relative("largest weights", "next_token_loss"),
        "accuracy_before": float(before["accuracy"].mean()),
        "accuracy_after": float(values["after"]["accuracy"].mean()),
        "seconds": seconds,
        "peak_memory_GB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
    }


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished seeds in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed.")] = False,
):
    about = machine(torch.get_num_threads()) | {
        "dtype": "torch.float32",
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "targets": TARGETS,
    }
    stored = json.loads(json_path.read_text()) if json_path.is_file() else {"about": about, "seeds": []}
    seeds = stored["seeds"] if stored["about"] == about else []
    todo = [seed for seed in ((0,) if quick else (0, 1, 2)) if seed not in {row["seed"] for row in seeds}]
    for seed in tqdm(todo, unit="seed"):
        with tempfile.TemporaryDirectory() as work:
            seeds.append(one_seed(seed, Path(work) / "run"))
        summary = {key: _mean(seeds, key) for key in seeds[0] if key not in ("seed", "units")}
        with writing_file(json_path) as kept:
            kept.write_text(json.dumps({"about": about, "mean": summary, "seeds": seeds}, indent=1))
    print(json_path.read_text())


def _mean(rows: list[dict], key: str) -> dict[str, float]:
    """Mean over seeds with its 95% t-interval."""
    values = np.array([row[key] for row in rows])
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    mean = float(values.mean())
    return {"mean": mean} | ({} if half is None else {"low": mean - float(half), "high": mean + float(half)})


if __name__ == "__main__":
    typer.run(main)
