"""Certified top-k against exhaustive truth: what it finds, what it proves, and what it costs.

Three parts. `model`: the top 100 of all neurons and heads of SmolLM2, by the mean |dP| of a zero mask over sixteen
prompts of sixteen tokens, P = logit(" she") - logit(" he"). `layers`: four whole layers measured exhaustively, searches
of the same kind among the units of each and among the four together, and what the search of the whole model found of
them. A layer is a small universe, so its certificate takes a larger share of it: the budget of such a search is the
least at which another one, by another seed, proves what is asked. Its `recall` is that of the candidates, which the
estimates chose; `recall_with_audit` counts what the random audit came upon as well. `small`: a random model measured
exhaustively once, and a thousand searches of that table that differ in the seed of the audit: with first-order
estimates, which miss nothing there, and with worse ones, so that there is something to bound; coverage is the least.

Everything measured is kept in stores beside the JSON file, apart for each commit, so that the same call resumes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rounds import machine
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM
from work import prompts

import icp
from icp.certificate import Certificate
from icp.demo.sentences import ANSWERS
from icp.files import writing_file
from icp.sweep.candidates import at_random, high_variance, late_blocks
from icp.sweep.pool import Pool
from icp.sweep.search import search
from icp.sweep.topk import pool_of, scores_of

ZERO = icp.Mask("zero")
PROMISE = {"confidence": 0.95, "miss_rate": 0.005}
SMALL = {"top": 50, "confidence": 0.95, "miss_rate": 0.03, "budget": 0.5}
BUDGETS = tuple(round(0.05 + 0.025 * step, 3) for step in range(38))
SEEDS = 20


@dataclass(frozen=True)
class Size:
    """How much is done: prompts, the units of the whole search, its top, the layers, and the repeats."""

    prompts: int = 16
    blocks: tuple[int, ...] = tuple(range(30))
    top: int = 100
    budget: float = 0.03
    layers: tuple[int, ...] = (2, 10, 20, 27)
    layer_top: int = 100
    repeats: int = 1000
    small_blocks: int = 4


QUICK = Size(
    prompts=4, blocks=(27, 28, 29), top=20, budget=0.3, layers=(28, 29), layer_top=20, repeats=50,
    small_blocks=2,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Table:
    """Exact and estimated scores of some units, so that any search of them costs nothing."""

    units: list[icp.Unit]
    exact: np.ndarray
    estimates: np.ndarray
    pool: Pool

    @classmethod
    def measure(cls, model: icp.Model, probe: icp.Probe, units: list[icp.Unit], folder: Path) -> "Table":
        by_method = [
            scores_of(icp.measure(model, probe, units, ZERO, method=method, store=folder / method))
            for method in ("exact", "linear")
        ]
        return cls(units, *by_method, pool_of(model, probe, units, ZERO))

    def search(self, **options) -> tuple[np.ndarray, Certificate, np.ndarray, np.ndarray]:
        """What is found, the certificate, all that was measured, and the candidates among it."""
        calls: list[np.ndarray] = []

        def measured(units):
            calls.append(units)
            return self.exact[units]

        found, certificate = search(self.pool, lambda: self.estimates, measured, **options)
        seen = np.concatenate(calls)
        return found, certificate, seen, seen[: certificate.candidates]

    def recall(self, found: np.ndarray, top: int) -> float:
        best = np.argsort(-self.exact, kind="stable")[:top]
        return len(np.intersect1d(best, found)) / top

    def budget(self, top: int) -> float:
        """The least of `BUDGETS` at which a search of seed 1 proves the promise; the largest where none does."""
        proven = (b for b in BUDGETS if self.search(top=top, budget=b, seed=1, **PROMISE)[1].met)
        return next(proven, BUDGETS[-1])

    def report(self, top: int) -> dict:
        """A search of seed 0 within `budget`: recall of its candidates, and with what the audit came upon."""
        budget = self.budget(top)
        found, certificate, _, candidates = self.search(top=top, budget=budget, seed=0, **PROMISE)
        return {
            "recall": self.recall(candidates, top),
            "recall_with_audit": self.recall(found, top),
            "units": len(self.units),
            "candidates": certificate.candidates,
            "candidates_fraction": certificate.candidates / len(self.units),
            "audited": certificate.audited,
            "budget": budget,
            "work_fraction": certificate.work_fraction,
            "miss_rate_upper": certificate.miss_rate_upper,
            "recall_lower": certificate.recall_lower,
            "met": certificate.met,
        }

    def baselines(self, candidates: int, variance: np.ndarray) -> dict:
        """Recall of the exact top 20 and 100 in as many candidates by each rule; by chance, the mean of `SEEDS`."""
        rules = {
            "estimate": [self.estimates],
            "late blocks": [late_blocks(self.units, seed) for seed in range(SEEDS)],
            "high variance": [variance],
            "random": [at_random(self.units, seed) for seed in range(SEEDS)],
        }
        chosen = {name: [np.argsort(-s, kind="stable")[:candidates] for s in scores] for name, scores in rules.items()}
        return {"candidates": candidates, "of_units": len(self.units)} | {
            name: {f"recall_{top}": float(np.mean([self.recall(rows, top) for rows in drawn])) for top in (20, 100)}
            for name, drawn in chosen.items()
        }


def whole(model: icp.Model, probe: icp.Probe, size: Size, folder: Path) -> tuple[dict, icp.Effects]:
    units = model.units("neuron", "head", layers=list(size.blocks))
    options = dict(top=size.top, budget=size.budget, store=folder / "model", **PROMISE)
    found = icp.measure(model, probe, units, ZERO, **options)
    certificate = found.certificate
    print(certificate)
    summary = {
        "units": len(units), "work_fraction": certificate.work_fraction, "units_fraction": certificate.units_fraction,
        "miss_rate_upper": certificate.miss_rate_upper, "recall_lower": certificate.recall_lower,
        "met": certificate.met, "certificate": certificate.as_json(),
    }  # fmt: skip
    return summary, found


def layers(model: icp.Model, probe: icp.Probe, size: Size, folder: Path, found: icp.Effects) -> dict:
    tables = {}
    for layer in tqdm(size.layers, unit="layer"):
        units = model.units("neuron", "head", layers=[layer])
        tables[layer] = Table.measure(model, probe, units, folder / f"layer-{layer}")
    units = [unit for table in tables.values() for unit in table.units]
    exact, estimates = (np.concatenate([getattr(t, what) for t in tables.values()]) for what in ("exact", "estimates"))
    together = Table(units, exact, estimates, pool_of(model, probe, units, ZERO))
    four = together.report(size.layer_top)
    return {
        **of_layers({str(layer): table.report(size.layer_top) for layer, table in tables.items()}),
        "together": four,
        "whole_model": of_these(units, exact, found),
        "baselines": together.baselines(max(100, four["candidates"]), high_variance(model, probe, units)),
    }


def of_layers(by_layer: Mapping[str, dict]) -> dict:
    """The worst of the layers: the least recalls, and the largest shares of candidates and of work."""
    rows = list(by_layer.values())
    return {
        "recall": min(row["recall"] for row in rows),
        "recall_with_audit": min(row["recall_with_audit"] for row in rows),
        "candidates_fraction": max(row["candidates_fraction"] for row in rows),
        "work_fraction": max(row["work_fraction"] for row in rows),
        "by_layer": dict(by_layer),
    }


def of_these(units: list[icp.Unit], exact: np.ndarray, found: icp.Effects) -> dict:
    """How many of these units score above the last one that a search found, and how many of those it found.

    The last itself is not above; where it is among these units, it counts neither way.
    """
    last, names = scores_of(found).min(), set(found.header["units"][:-1])
    above = {str(unit) for unit, score in zip(units, exact) if score > last and str(unit) != found.header["units"][-1]}
    both = len(above & names)
    return {"above_the_last_found": len(above), "of_these_found": both, "recall": both / len(above) if above else None}


def small_model(tokenizer, blocks: int) -> icp.Model:
    """A Llama of random weights, with as many units as can be measured in seconds."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=256, num_hidden_layers=blocks,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    module = LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 1.0 if "embed" in name else 0.25
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 else scale * noise)
    return icp.load(module, tokenizer)


def small(tokenizer, probe: icp.Probe, size: Size, folder: Path) -> dict:
    model = small_model(tokenizer, size.small_blocks)
    units = model.units("neuron", "head")
    table = Table.measure(model, probe, units, folder / "small")
    random = np.random.default_rng(0)
    worse = {
        "first-order": table.estimates,
        "first-order times noise": table.estimates * np.exp(1.5 * random.normal(size=len(units))),
        "random": random.permutation(table.estimates),
    }
    by_estimate = {
        name: repeated(replace(table, estimates=estimates), size.repeats, name) for name, estimates in worse.items()
    }
    least = min(by_estimate.values(), key=lambda row: row["bound_coverage"])
    return {
        "units": len(units), "repeats": size.repeats, "bound_settings": SMALL,
        "bound_coverage": least["bound_coverage"],
        "median_recall_bound": by_estimate["first-order"]["median_recall_bound"], "by_estimate": by_estimate,
    }  # fmt: skip


def repeated(table: Table, repeats: int, name: str) -> dict:
    """How often the promise is kept over seeds, and how much there was to miss."""
    held, bounds, missed, recalls, met = [], [], [], [], []
    for seed in tqdm(range(repeats), unit="search", desc=name):
        found, certificate, seen, _ = table.search(seed=seed, **SMALL)
        outside = np.setdiff1d(np.arange(len(table.units)), seen)
        missed.append(int((table.exact[outside] > table.exact[found[-1]]).sum()))
        held.append(missed[-1] <= certificate.missed_upper)
        bounds.append(certificate.recall_lower)
        recalls.append(table.recall(found, SMALL["top"]))
        met.append(certificate.met)
    return {
        "bound_coverage": float(np.mean(held)), "median_recall_bound": float(np.median(bounds)),
        "median_recall": float(np.median(recalls)), "mean_missed": float(np.mean(missed)),
        "share_met": float(np.mean(met)), "work_fraction": certificate.work_fraction,
    }  # fmt: skip


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; stores are kept beside it.")],
    quick: Annotated[bool, typer.Option(help="The last blocks, few prompts and few repeats.")] = False,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    stores: Annotated[Path | None, typer.Option(help="Keep stores here, whatever commit they are of.")] = None,
):
    torch.set_num_threads(threads)
    size = QUICK if quick else Size()
    about = machine(threads)
    own = json_path.with_name(json_path.stem + ("-quick" if quick else "") + "-stores") / about["commit"]
    folder = own if stores is None else stores
    model = icp.load("smollm2")
    probe = icp.Probe.from_texts(prompts(model.tokenizer, 16)[: size.prompts], ANSWERS)
    of_small = small(model.tokenizer, probe, size, folder)
    of_model, found = whole(model, probe, size, folder)
    by_layers = layers(model, probe, size, folder, found)
    summary = {
        "work_fraction": of_model["work_fraction"],
        "units_fraction": of_model["units_fraction"],
        "miss_rate_upper": of_model["miss_rate_upper"],
        "recall": by_layers["recall"],
        "recall_with_audit": by_layers["recall_with_audit"],
        "layers_candidates_fraction": by_layers["candidates_fraction"],
        "layers_work_fraction": by_layers["work_fraction"],
        "whole_model_recall": by_layers["whole_model"]["recall"],
        "bound_coverage": of_small["bound_coverage"],
        "median_recall_bound": of_small["median_recall_bound"],
        "bound_settings": SMALL,
    }
    about |= {
        "dtype": str(model.dtype),
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "quick": quick,
        "size": vars(size),
        "promise": PROMISE,
        "stores": "of this commit" if stores is None else "given: parts may be of other commits",
    }
    parts = {"model": of_model, "layers": by_layers, "small": of_small}
    with writing_file(json_path) as work:
        work.write_text(json.dumps({"about": about, "topk": summary | parts}, indent=1))
    print(table(summary, by_layers, of_small))


def table(summary: Mapping, by_layers: Mapping, of_small: Mapping) -> str:
    """What the headline says, and beside it what it holds for."""
    lines = [
        f"whole model: {summary['work_fraction']:.1%} of the work, miss rate at most {summary['miss_rate_upper']:.3%}",
        "",
        f"{'layer':<10}{'recall':>8}{'with audit':>12}{'candidates':>12}{'work':>8}{'budget':>8}  proven",
    ]
    for name, row in [*by_layers["by_layer"].items(), ("together", by_layers["together"])]:
        lines.append(
            f"{name:<10}{row['recall']:>8.3f}{row['recall_with_audit']:>12.3f}{row['candidates_fraction']:>12.1%}"
            f"{row['work_fraction']:>8.1%}{row['budget']:>8.3f}  {'yes' if row['met'] else 'no'}"
        )
    four, rules = by_layers["whole_model"], by_layers["baselines"]
    lines += [
        f"the whole model's search found {four['of_these_found']} of the {four['above_the_last_found']} units of these "
        "layers that are above its last",
        "",
        f"{'chosen by':<16}{'recall of 20':>14}{'of 100':>8}   ({rules['candidates']} of {rules['of_units']} units)",
        *(f"{name:<16}{row['recall_20']:>14.3f}{row['recall_100']:>8.3f}"
          for name, row in rules.items() if isinstance(row, dict)),
        "",
        "promised bounds: " + ", ".join(f"{name} {value}" for name, value in of_small["bound_settings"].items()),
        f"{'estimates':<26}{'coverage':>9}{'median bound':>14}{'missed':>8}",
        *(f"{name:<26}{row['bound_coverage']:>9.3f}{row['median_recall_bound']:>14.2f}{row['mean_missed']:>8.1f}"
          for name, row in of_small["by_estimate"].items()),
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
