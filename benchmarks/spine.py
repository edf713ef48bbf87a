"""Exact measuring of neurons against a loop of `run_with_hooks` over the same units, in one run, on SmolLM2.

Sixteen prompts of sixteen tokens, zero mask over all positions, P = logit(" she") - logit(" he"). Each round times both
ways on the same units of five blocks, in alternating order; a finished round is kept in the JSON file and not repeated.
"""

import json
import platform
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

import icp
from icp.demo.sentences import ANSWERS, NEUTRAL
from icp.files import writing_file

BLOCKS = [1, 8, 15, 22, 28]
PROMPTS, TOKENS = 16, 16


def prompts(model: icp.Model) -> list[str]:
    """Texts of exactly sixteen tokens, cut from the demo's neutral sentences joined in pairs."""
    found = []
    for first, second in pairwise(NEUTRAL):
        ids = model.tokenizer(f"{first} {second}")["input_ids"][:TOKENS]
        text = model.tokenizer.decode(ids)
        if model.tokenizer(text)["input_ids"] == ids and len(ids) == TOKENS:
            found.append(text)
    return found[:PROMPTS]


def by_run_with_hooks(view, tokens: torch.Tensor, units: list[icp.Unit], answers: list[int]) -> np.ndarray:
    """dP [unit, example] by one full forward pass a unit."""

    def difference(logits):
        return logits[:, -1, answers[0]] - logits[:, -1, answers[1]]

    rows = []
    with torch.no_grad():
        clean = difference(view(tokens))
        for unit in units:

            def zero(value, hook, index=unit.index[0]):
                value[:, :, index] = 0.0
                return value

            rows.append(difference(view.run_with_hooks(tokens, fwd_hooks=[(unit.site, zero)])) - clean)
    return torch.stack(rows).numpy()


def one_round(model, view, probe, tokens, answers, seed: int, count: int, hooks_first: bool) -> dict:
    units = []
    for block in BLOCKS:
        everyone = model.units("neuron", layers=[block])
        units += [everyone[i] for i in sorted(np.random.default_rng([seed, block]).choice(len(everyone), count, False))]
    seconds, results = {}, {}

    def icp_way():
        return icp.measure(model, probe, units, icp.Mask("zero"), progress=False).dP[:, 0]

    def hooks_way():
        return by_run_with_hooks(view, tokens, units, answers)

    ways = {"icp": icp_way, "run_with_hooks": hooks_way}
    for name in sorted(ways, reverse=hooks_first):
        start = time.perf_counter()
        results[name] = ways[name]()
        seconds[name] = time.perf_counter() - start
    difference = float(np.abs(results["icp"] - results["run_with_hooks"]).max())
    return {"seed": seed, "units": len(units), "seconds": seconds, "largest_difference": difference}


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished rounds in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed and few units.")] = False,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
):
    torch.set_num_threads(threads)
    seeds, count = ((0,), 12) if quick else ((0, 1, 2), 32)
    model = icp.load("smollm2")
    view = model.view()
    probe = icp.Probe.from_texts(prompts(model), ANSWERS)
    tokens = torch.tensor([model.tokenizer(e.text)["input_ids"] for e in probe.examples])
    answers = [model.tokenizer(answer)["input_ids"][0] for answer in ANSWERS]
    about = {
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "device": f"{platform.processor() or platform.machine()}, {threads} threads",
        "torch": torch.__version__,
        "dtype": str(model.dtype),
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "prompts": [PROMPTS, TOKENS],
        "seeds": list(seeds),
        "blocks": BLOCKS,
        "units_a_block": count,
    }
    rounds = _kept(json_path, about)
    todo = [seed for seed in seeds if seed not in {r["seed"] for r in rounds}]
    logits = model.logits(model.pad(tokens[:1].tolist())).detach()
    one_round(model, view, probe, tokens, answers, 99, 1, True)  # warm-up, not counted
    for seed in tqdm(todo, unit="round"):
        rounds.append(one_round(model, view, probe, tokens, answers, seed, count, bool(seed % 2)))
        _write(json_path, about, rounds, float(logits.abs().max()))
    print(json.dumps({k: v for k, v in json.loads(json_path.read_text()).items() if k != "rounds"}, indent=1))


def _kept(path: Path, about: dict) -> list[dict]:
    """Finished rounds of the same settings; another commit's or machine's are not mixed in."""
    if not path.is_file():
        return []
    stored = json.loads(path.read_text())
    return stored["rounds"] if stored["about"] == about else []


def _write(path: Path, about: dict, rounds: list[dict], logit_scale: float) -> None:
    def seconds(way, chosen):
        return sum(r["seconds"][way] for r in chosen)

    by_seed = [r["seconds"]["run_with_hooks"] / r["seconds"]["icp"] for r in rounds]
    summary = {
        "speedup_vs_run_with_hooks": seconds("run_with_hooks", rounds) / seconds("icp", rounds),
        "speedup_by_seed": by_seed,
        "icp_units_per_second": sum(r["units"] for r in rounds) / seconds("icp", rounds),
        "largest_difference_of_logit_scale": max(r["largest_difference"] for r in rounds) / logit_scale,
    }
    with writing_file(path) as work:
        work.write_text(json.dumps({"about": about, **summary, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    typer.run(main)
