"""How often an interval holds the true effect, on texts of worlds whose causal graph is known.

The reader is a logistic model over a bag of words, built by hand, so that its total effect over all texts of a world is
enumerated, not estimated. Every draw samples texts and makes their exact counterfactuals; its 95% interval either holds
that number or does not. The same is done for the effect of a cause on the label in the world itself.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import exp
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from icp.counterfactual import WORLDS, Edit, World, WorldEditor
from icp.counterfactual.effects import oriented_means
from icp.counterfactual.words import WORD
from icp.files import writing_file

TEXTS = 200
"""Texts a draw."""


@dataclass(frozen=True)
class Reader:
    """P = 1 / (1 + exp(-(sum of the weights of the words))), every occurrence of a word counting."""

    weights: Mapping[str, float]

    def __call__(self, text: str) -> float:
        return 1 / (1 + exp(-sum(self.weights.get(word.lower(), 0.0) for word in WORD.findall(text))))


def reader_of(world: World, cause: float = 2.0, cue: float = 1.0) -> Reader:
    """Words of the last value push P up and those of the first push it down, later words of a list more.

    A word of average strength, or a phrase as a whole, weighs `cause` or `cue`.
    """
    weights: Counter[str] = Counter()
    for name in world.said:
        values = list(world.words[name].values())
        for place, phrases in enumerate(values):
            sign = 2 * place / (len(values) - 1) - 1
            for number, phrase in enumerate(phrases, 1):
                strength = (cause if name in world.causes else cue) * 2 * number / (len(phrases) + 1)
                words = WORD.findall(phrase.lower())
                for word in words:
                    weights[word] += sign * strength / len(words)
    return Reader(weights)


def coverage(draws: int = 100, texts: int = TEXTS) -> dict[str, dict[str, int]]:
    """Of so many draws, in how many the 95% interval holds the true effect.

    `reader` has the total effect of every cue on the reader of its world, `label` that of every cause on the label (in
    an anti-causal world of the label on the cause), each by the name of the world and what is compared.
    """
    return {"reader": _of_readers(draws, texts), "label": _of_labels(draws, texts)}


def _of_readers(draws: int, texts: int) -> dict[str, int]:
    held: dict[str, int] = {}
    for world in WORLDS:
        reader = reader_of(world)
        for cue in world.cues:
            values, editor = world.equations[cue].values, WorldEditor(world, cue)
            truth = {pair: world.total_effect(reader, cue, *pair) for pair in combinations(values, 2)}
            for seed in range(draws):
                edits = [(row, edit) for row in world.sample(texts, seed) for edit in editor.edits(row, world.spec)]
                for row, edit in edits:
                    assert isinstance(edit, Edit), f"{edit} of {row.text!r}: a cue has a counterfactual in every row"
                changes = np.array([reader(edit.text) - reader(row.text) for row, edit in edits])
                for line in oriented_means(changes, [(edit.before, edit.after) for _, edit in edits], values):
                    pair = line["before"], line["after"]
                    name = f"{world.name}: {cue}, {' to '.join(pair)}"
                    held[name] = held.get(name, 0) + (line["low"] <= truth[pair] <= line["high"])
    return held


def _of_labels(draws: int, texts: int) -> dict[str, int]:
    held: dict[str, int] = {}
    for world in WORLDS:
        for cause in world.causes:
            do, on = (cause, world.label) if world.direction == "causal" else (world.label, cause)
            (before, after), (_, event) = world.equations[do].values, world.equations[on].values
            truth = world.equations.effect({on: event}, {do: after}, {do: before})
            name = f"{world.name}: {do}, {before} to {after}, on {on}"
            held[name] = 0
            for seed in range(draws):
                noises = [world.draw_of(row).noise for row in world.sample(texts, seed)]
                first, then = (
                    np.array([world.equations.values(noise, {do: value})[on] == event for noise in noises], float)
                    for value in (before, after)
                )
                (line,) = oriented_means(then - first, [(before, after)] * texts, (before, after))
                held[name] += line["low"] <= truth <= line["high"]
    return held


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go.")],
    quick: Annotated[bool, typer.Option(help="20 draws in place of 100.")] = False,
) -> None:
    """Count the intervals that hold the truth, and write `coverage.reader|label` and `draws`."""
    from rounds import machine

    draws = 20 if quick else 100
    found = coverage(draws)
    with writing_file(json_path) as work:
        work.write_text(json.dumps({"about": machine(1), "draws": draws, "coverage": found}, indent=1) + "\n", "utf-8")
    for of, counts in found.items():
        for name, count in counts.items():
            print(f"{count:4} of {draws}  {of}, {name}")


if __name__ == "__main__":
    typer.run(main)
