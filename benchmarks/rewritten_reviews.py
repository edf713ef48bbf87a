"""Training on what people rewrote: film reviews alone, against the same reviews with their counterparts.

Pairs of short reviews of Kaushik et al. (2020), train and validation together, come through `given_pairs` with its
checks. Which of two texts is the original, the file does not say, so the seed draws which one is trained on:

- `erm`: one review of each pair, cross-entropy.
- `flipped_cross_entropy`, `flipped_margin`: the same, and the penalty on their counterparts: twice as many texts.
- `flipped_half`: the first of these on half of the pairs, so that it reads as many texts as `erm`, in as many steps as
  half of them make.

They are tested on the test split of the contrast sets of Gardner et al. (2020), whose validation split has reviews that
are trained on here, and on Kaushik's test pairs. The originals of the two are the same reviews for the most part.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from validated import REVIEWS

import icp
from icp import data
from icp.baselines import FlippedCrossEntropy, FlippedMargin
from icp.counterfactual import Changed, EditDistance, given_pairs
from icp.data import TextPairs
from icp.statistics import seeds_interval, standard_error

FORM, ANSWERS = "Review: {text}\nSentiment:", (" negative", " positive")
METHODS = ("base", "erm", "flipped_cross_entropy", "flipped_half", "flipped_margin")
MEASURES = ("contrast", "original", "pairwise", "sensitivity", "rewritten", "rewritten_pairwise")


@dataclass(frozen=True)
class Reviews:
    """Pairs of at most so many words a review to train on and to test on; `most` of each, all where it is None."""

    words: int = 100
    tested_words: int = 120
    most: int | None = None
    arguments: Mapping[str, Any] = field(
        default_factory=lambda: {"learning_rate": 5e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8}
    )


def short(pairs: Sequence[Any], words: int, most: int | None) -> list[Any]:
    kept = [two for two in pairs if max(len(one.text.split()) for one in two) <= words]
    return random.Random("reviews").sample(kept, min(len(kept), most or len(kept)))


def trained_on(folder: Path, sizes: Reviews, seed: int) -> icp.FlippingPairs:
    """The members of each pair in an order drawn by the seed."""
    splits = [data.cad_imdb(folder / "cad_imdb", split) for split in ("train", "validation")]
    pairs = short([two for split in splits for two in split], sizes.words, sizes.most)
    draw = random.Random(f"members {seed}")
    pairs = [two if draw.random() < 0.5 else two[::-1] for two in pairs]
    found = TextPairs(icp.FlippingPairs, splits[0].classes, tuple(pairs))
    checks = [Changed(), EditDistance()]
    return given_pairs(found, "sentiment", spec=REVIEWS, validators=checks, progress=False).to_pairs(FORM, ANSWERS)


def tested_on(folder: Path, sizes: Reviews) -> dict[str, icp.FlippingPairs]:
    parts = {
        "contrast": data.imdb_contrast(folder / "imdb_contrast", "test"),
        "rewritten": data.cad_imdb(folder / "cad_imdb", "test"),
    }
    return {
        name: replace(pairs, pairs=tuple(short(pairs.pairs, sizes.tested_words, sizes.most))).to_pairs(FORM, ANSWERS)
        for name, pairs in parts.items()
    }


def trained(name: str, base: icp.Model, folder: Path, sizes: Reviews, seed: int) -> icp.Model:
    if name == "base":
        return base
    pairs, penalty = trained_on(folder, sizes, seed), None
    if name == "flipped_half":
        half = len(pairs) // 2
        pairs = icp.FlippingPairs(icp.Probe(pairs.probe.examples[:half]), pairs.flipped[:half])
    if name != "erm":
        penalty = FlippedMargin() if name == "flipped_margin" else FlippedCrossEntropy()
    return icp.finetune(base, pairs, objective=penalty, arguments=sizes.arguments, seed=seed, progress=False)


def figures(model: icp.Model, folder: Path, sizes: Reviews) -> dict[str, str]:
    """Of each test a digit a text, 1 where it is right: of all originals, and then of all counterparts."""
    return {name: right(model, pairs) for name, pairs in tested_on(folder, sizes).items()}


def right(model: icp.Model, pairs: icp.FlippingPairs) -> str:
    both = [replace(one, counterpart=None) for one in pairs.probe.examples]
    both += [
        replace(one, text=one.counterpart, counterpart=None, label=label)
        for one, label in zip(pairs.probe.examples, pairs.flipped)
    ]
    told = icp.evaluate(model, icp.Probe(tuple(both)), ["accuracy"]).values[model.name]["accuracy"]
    return "".join(str(int(one)) for one in told)


def measures(row: Mapping[str, str]) -> dict[str, np.ndarray]:
    """By measure a percentage [pair].

    `contrast` and `original` are right answers to either member of the contrast sets' pairs, `pairwise` to both, and
    `sensitivity` other answers to one than to the other; `rewritten` are right answers to both members on average.
    """
    sides = {
        name: 100.0 * np.array([int(one) for one in row[name]]).reshape(2, -1) for name in ("contrast", "rewritten")
    }
    (original, contrast), rewritten = sides["contrast"], sides["rewritten"]
    return {
        "contrast": contrast,
        "original": original,
        "pairwise": np.minimum(original, contrast),
        "sensitivity": 100.0 * (original == contrast),
        "rewritten": rewritten.mean(0),
        "rewritten_pairwise": rewritten.min(0),
    }


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per method and measure the mean over seeds in percent, its interval and the seeds' own; and paired with ERM's."""
    of: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for row in sorted(rounds, key=lambda row: row["seed"]):
        of.setdefault(row["name"], {})[row["seed"]] = measures(row["right"])
    found: dict[str, Any] = {"reviews": {name: over_seeds(list(seeds.values())) for name, seeds in of.items()}}
    for name, seeds in of.items():
        shared = [seed for seed in seeds if seed in of.get("erm", {})]
        if name not in ("base", "erm") and shared:
            changes = [{m: seeds[seed][m] - of["erm"][seed][m] for m in MEASURES} for seed in shared]
            found.setdefault("reviews_over_erm", {})[name] = over_seeds(changes)
    return found


def over_seeds(seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for measure in MEASURES:
        values = np.stack([seed[measure] for seed in seeds])
        own, error = values.mean(1), float(standard_error(values.mean(0)))
        ends = None if len(own) < 2 else list(seeds_interval(own, error, values.shape[1]))
        told |= {measure: float(own.mean()), f"{measure}_ci": ends, f"{measure}_seeds": own.tolist()}
    return told | {"pairs": {name: len(seeds[0][name]) for name in ("contrast", "rewritten")}}
