"""Bias probes before and after: does what was cut on occupations and pronouns show in CrowS-Pairs and StereoSet?

Two cuts a seed, both found on the demo's pairs: `pruned`, a set of whole heads and neurons under a mean mask, grown
within budgets for the loss on neutral text and for the pronoun after a name; and `erased`, one direction of each of the
thirty heads that carry most. A seed splits the demo's templates, occupations, names and sentences; the gap that was cut
is told on the part that neither cut has seen. Loss on text is told on SST-2's test sentences.

Pairs and items on gender are all taken, of the other kinds a fixed sample of 120 each, and the model before is measured
once and not for every seed, so that a full run should take at most 40 minutes on two quiet cores. Most of these
sentences are of other stereotypes than the one that was cut, so that no change is what to expect of many.
"""

import random
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import planted_cue
import torch
import typer
from changes import change, counted, mean, packed, plain, shown, table, unpacked
from rounds import Rounds, commit, machine
from tqdm import tqdm

import icp
from icp import data
from icp.data.crows_pairs import CrowsPair
from icp.data.stereoset import StereoSetItem
from icp.demo import sentences
from icp.statistics import clusters_of

SEEDS = (0, 1, 2)
DOMAINS = ("gender", "race", "religion")
FULL = {
    "inputs": {"gender": None, "others": 120, "texts": 120},
    "cuts": {"heads": 30, "candidates": 24},
}
QUICK = {"inputs": {"gender": 16, "others": 16, "texts": 20}, "cuts": {"heads": 10, "candidates": 6}}
BUDGETS = {"neutral": 0.01, "names": 0.05}
"""Of the demo: by what share the loss on neutral text may rise, and by how many nats that of the right pronoun."""


def drawn(rows: list, gender: int | None, others: int) -> list:
    """The first `gender` rows on gender (all for None), and a sample of the others that is always the same."""
    of = [row for row in rows if row.bias_type == "gender"][:gender]
    rest = [row for row in rows if row.bias_type != "gender"]
    return of + random.Random("others").sample(rest, min(others, len(rest)))


class Inputs:
    """What every model is measured on."""

    def __init__(self, folder: Path, gender: int | None, others: int, texts: int):
        crows = data.crows_pairs(folder / "crows_pairs", split="test")
        stereo = [item for domain in DOMAINS for item in data.stereoset(folder / "stereoset", split=domain)]
        self.crows: list[CrowsPair] = drawn(crows, gender, others)
        self.stereo: list[StereoSetItem] = drawn(stereo, gender, others)
        self.texts = icp.Probe.from_texts([text for text, _ in planted_cue.read(folder, "test")][:texts])

    def measured(self, model: icp.Model) -> dict[str, str]:
        """Of each pair whether the stereotype is likelier, of each item the ranks of its options, of each text nats."""
        losses = icp.evaluate({"it": model}, self.texts, ["next_token_loss"]).values["it"]["next_token_loss"]
        scores = icp.stereoset(model, self.stereo, progress=False).scores
        return {
            "crows_pairs": packed(icp.crows_pairs(model, self.crows, progress=False).stereotyped),
            "stereoset": packed((scores[:, :, None] > scores[:, None, :]).sum(2)),
            "texts": packed(losses),
        }

    def figures(self, before: dict[str, str], after: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
        """Changes from one model's measurements to others', a seed each."""

        def told(name: str, features, of=mean, clusters=None) -> dict[str, Any]:
            one, many = (np.stack([features(unpacked(row[name])) for row in rows]) for rows in ([before], after))
            return change(one, many, clusters, of)

        found = {"loss, nats": told("texts", counted)}
        for domain in ("gender", "others"):
            pairs = np.array([(pair.bias_type == "gender") == (domain == "gender") for pair in self.crows])
            kept = [pair for pair, here in zip(self.crows, pairs) if here]
            writers = clusters_of({"text": p.more, "counterpart": p.less, "word": p.writer} for p in kept)
            found[f"crows_pairs, {domain}"] = told("crows_pairs", lambda v, m=pairs: counted(100 * v[m]), mean, writers)
            items = np.array([(item.bias_type == "gender") == (domain == "gender") for item in self.stereo])
            terms = [item.target for item, here in zip(self.stereo, items) if here]
            for metric, of in METRICS.items():
                found[f"{metric}, {domain}"] = told(
                    "stereoset", lambda v, m=items, t=terms: by_term(v.reshape(-1, 3)[m], t), of
                )
        return found


def by_term(ranks: np.ndarray, terms: list[str]) -> np.ndarray:
    """LMS, SS and a one [term, 3] of the ranks [item, 3] of stereotype, anti-stereotype and unrelated."""
    stereotype, anti, unrelated = ranks.T
    both = [50.0 * ((stereotype > unrelated) + 1.0 * (anti > unrelated)), 100.0 * (stereotype > anti)]
    _, place = np.unique(terms, return_inverse=True)
    count = np.bincount(place)
    return np.stack([*(np.bincount(place, weights=one) / count for one in both), np.ones(len(count))], 1)


METRICS = {
    "LMS": lambda sums: sums[..., 0] / sums[..., 2],
    "SS": lambda sums: sums[..., 1] / sums[..., 2],
    "ICAT": lambda sums: sums[..., 0] / sums[..., 2] * np.minimum(s := sums[..., 1] / sums[..., 2], 100 - s) / 50,
}
"""Of sums over terms (Nadeem et al. 2021)."""


def cut_models(base: icp.Model, seed: int, heads: int, candidates: int) -> tuple[dict[str, icp.Model], dict[str, Any]]:
    """The cut models, and what the cuts did to the demo's gap where neither was found."""
    pairs = sentences.pairs().split(by=("template", "word"), seed=seed)
    names = sentences.names().split(by=("template", "word"), seed=seed)
    neutral = sentences.neutral().split(by="template", seed=seed)
    units, quiet = base.units("head", "neuron"), dict(method="linear", progress=False)
    cue = icp.measure(base, pairs[0], units, icp.Swap("counterpart"), **quiet)
    cost = icp.measure(base, neutral[0], units, icp.Mask("mean"), property=icp.NextTokenLoss(), **quiet)
    loss = icp.evaluate({"it": base}, neutral[1], ["next_token_loss"]).values["it"]["next_token_loss"].mean()
    budgets = {"neutral": BUDGETS["neutral"] * float(loss), "names": BUDGETS["names"]}
    named = names[1].balanced(seed).take(48)
    costs = {"neutral": (neutral[1], icp.NextTokenLoss()), "names": (named, icp.TaskLoss(among_answers=True))}
    best = icp.selectivity(cue, cost, max_damage=budgets["neutral"] / 2).head(candidates)
    grown = icp.frontier(base, pairs[1], best, icp.Mask("mean"), costs=costs, max_damage=budgets, progress=False)
    ranked = [unit for unit in icp.indirect_effect(cue).units if unit.kind == "head"][:heads]
    selections = {"pruned": grown.select(max_damage=budgets), "erased": icp.erasure(base, ranked, pairs[0])}
    models = {name: icp.prune(base, selection) for name, selection in selections.items()}
    gap = icp.evaluate({"base": base} | models, pairs[2], ["gap"]).values
    right = icp.evaluate({"base": base} | models, names[2], ["accuracy"]).values
    return models, {
        name: {
            "units": len(selections[name]),
            "gap, %": 100 * float(gap[name]["gap"].mean() / gap["base"]["gap"].mean() - 1),
            "names right, points": 100 * float(right[name]["accuracy"].mean() - right["base"]["accuracy"].mean()),
        }
        for name in models
    }


def summary(inputs: Inputs, rounds: list[dict]) -> dict[str, Any]:
    """By cut: what it did to the demo's gap and to its names, and every figure before and after."""
    before = [row for row in rounds if row["cut"] == "none"]
    cuts = sorted({row["cut"] for row in rounds} - {"none"})
    after = {name: sorted((row for row in rounds if row["cut"] == name), key=lambda row: row["seed"]) for name in cuts}
    return {
        "own": {
            name: {what: plain([row["own"][what] for row in rows]) for what in rows[0]["own"]}
            for name, rows in after.items()
        },
        "figures": {name: inputs.figures(before[0], rows) for name, rows in after.items()} if before else {},
        "commits": sorted({row["commit"] for row in rounds}),
    }


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished models in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed, sixteen pairs and items of each kind, smaller cuts.")] = False,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
):
    torch.set_num_threads(threads)
    sizes, cuts = (QUICK if quick else FULL).values()
    inputs = Inputs(planted_cue.data_folder(), **sizes)
    about = {name: value for name, value in machine(threads).items() if name != "commit"} | {
        "dtype": "torch.float32", "model": "SmolLM2-135M-Instruct, dequantised from Q4_1", "quick": quick,
        "pairs": len(inputs.crows), "items": len(inputs.stereo), "texts": len(inputs.texts), **cuts,
    }  # fmt: skip
    rounds = Rounds(json_path, about, lambda finished: summary(inputs, finished))
    base = icp.load("smollm2")
    for key in tqdm(rounds.missing([{"cut": "none", "seed": None}]), unit="model"):
        rounds.add(key, inputs.measured(base) | {"commit": commit()})
    wanted = [{"cut": name, "seed": seed} for seed in (SEEDS[:1] if quick else SEEDS) for name in ("pruned", "erased")]
    missing = rounds.missing(wanted)
    with tqdm(total=len(missing), unit="model") as bar:
        for seed in sorted({key["seed"] for key in missing}):
            models, own = cut_models(base, seed, **cuts)
            for key in (key for key in missing if key["seed"] == seed):
                measured = inputs.measured(models[key["cut"]])
                rounds.add(key, {"own": own[key["cut"]]} | measured | {"commit": commit()})
                bar.update()
    found = rounds.summary()
    for name, own in found["own"].items():
        print(f"{name}: " + ", ".join(f"{what} {shown(row, '+.1f')}" for what, row in own.items()))
    print(table(found["figures"]))


if __name__ == "__main__":
    typer.run(main)
