"""Out of distribution: models fine-tuned on short SST-2 sentences with a planted name, on film reviews of IMDb.

The reviews were rewritten by people as little as would turn their sentiment round (Kaushik et al. 2020: test pairs of
at most 100 words a review). Every review, and beside them sentences of the distribution that was trained on, is asked
about under either name: accuracy where the name goes with the label as in training, and where it contradicts it;
calibration (ECE, 15 bins); consistency, the share that gets the same answer under either name; and, of reviews,
sensitivity, the share of pairs that get another answer when the review is turned round.

The models are those of a study by `robustness.py`: its settings are taken from its JSON and its adapters from the
folder beside it. Nothing is trained or chosen here, and nothing is written there; methods and seeds that the study has
not tested yet are left out, so that the same call takes them up later. Sizes are such that a whole study should take
at most 40 minutes on two quiet cores; the base model is measured once.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import planted_cue
import torch
import typer
from changes import change, counted, level, mean, packed, shown, table, unpacked
from mitigations import METHODS, Trial
from robustness import Protocol, trial_of
from rounds import Rounds, commit, machine
from tqdm import tqdm

import icp
from icp import data
from icp.metrics import judge
from icp.predictions import Cases, Predictions, answered, probabilities_of
from icp.statistics import clusters_of

SHOWN = ("erm", "icp_prune_only", "icp_reg", "icp_hybrid", "consistency", "cda")
MOST_WORDS = 100
FULL = {"pairs": 60, "sentences": 150}
QUICK = {"pairs": 5, "sentences": 20}


@dataclass(frozen=True, eq=False)
class Finished(Trial):
    """A trial whose models were made before."""

    def timed(self, name: str, make: Callable[[], Any]) -> Any:
        if not (self.folder / f"{name}-seconds.json").is_file():
            raise SystemExit(f"{self.folder} has no finished {name!r}: keep the study's folder beside its JSON")
        return super().timed(name, make)

    def _effects(self, name: str, *asked: Any) -> icp.Effects:
        return self.timed(name, lambda: icp.Effects.load(self.folder / f"{name}.zarr"))


@dataclass(frozen=True)
class Texts:
    """Labelled texts, each asked about under either name; `paired` where 2i + 1 is 2i turned round."""

    rows: list[planted_cue.Sentence]
    paired: bool
    cue: str

    @property
    def labels(self) -> np.ndarray:
        return np.array([label for _, label in self.rows])

    def measured(self, model: icp.Model) -> str:
        """The probability of the second answer [text, name]."""
        return packed(probabilities_of(model, planted_cue.both(self.rows, self.cue))[:, 1], 6)

    def features(self, line: str) -> dict[str, np.ndarray]:
        """By metric, what each text, or each pair of texts, adds to the sums that it is read off."""
        positive = unpacked(line).reshape(-1, 2)
        both = np.stack([1 - positive, positive], -1)
        said = np.stack([answered(both[:, name]) for name in (0, 1)], 1)
        right, here = 100.0 * (said == self.labels[:, None]), np.arange(len(said))
        found = {
            "accuracy": counted(right.mean(1)),
            "accuracy, aligned": counted(right[here, self.labels]),
            "accuracy, inverted": counted(right[here, 1 - self.labels]),
            "ECE": sum(self._bins(both[:, name]) for name in (0, 1)),
            "consistency": counted(100.0 * ((said[:, 0] == said[:, 1]) & (said[:, 0] >= 0))),
        }
        if self.paired:
            other = (said[::2] != said[1::2]) & (said[::2] >= 0) & (said[1::2] >= 0)
            found["sensitivity"] = counted(100.0 * other.mean(1))
        else:
            del found["consistency"]
        return found

    def _bins(self, probabilities: np.ndarray) -> np.ndarray:
        cases = Cases("", planted_cue.ANSWERS, self.labels, (None,) * len(self.rows), self.clusters(len(self.rows)))
        return judge("ece").features(Predictions(probabilities, cases))

    def clusters(self, count: int) -> np.ndarray:
        """Of so many texts or pairs: both texts of a pair are one cluster."""
        size = 2 if self.paired and count == len(self.rows) else 1
        return clusters_of({"word": str(place // size)} for place in range(count))


NUMBERS = {"ECE": lambda sums: 100 * judge("ece").of(sums)}
"""In percent, as the others."""


def probes(folder: Path, protocol: Protocol, pairs: int, sentences: int) -> dict[str, Texts]:
    reviews = data.cad_imdb(folder / "cad_imdb", split="test").pairs
    short = [pair for pair in reviews if all(len(one.text.split()) <= MOST_WORDS for one in pair)][:pairs]
    rows = [(review.text, review.label) for pair in short for review in pair]
    known = planted_cue.splits(folder, protocol.seeds[0], protocol.sentences).test[:sentences]
    return {"sst2": Texts(known, False, protocol.cue), "cad_imdb": Texts(rows, True, protocol.cue)}


def protocol_of(study: dict[str, Any]) -> Protocol:
    told = study["about"]["protocol"]
    return Protocol(**{**told, "sentences": planted_cue.Sizes(**told["sentences"]), "seeds": tuple(told["seeds"])})


def tested(study: dict[str, Any]) -> list[dict[str, Any]]:
    """The base model, and what the study has tested of what is shown here, by its latest settings."""
    rounds = [row for row in study["rounds"] if row["part"] == "test" and row["method"] in SHOWN]
    settled = {row["method"]: row["settings"] for row in rounds}
    latest = [row for row in rounds if row["settings"] == settled[row["method"]]]
    latest.sort(key=lambda row: (SHOWN.index(row["method"]), row["seed"]))
    found = [{name: row[name] for name in ("method", "seed", "settings")} for row in latest]
    return [{"method": "base", "seed": None, "settings": {}}, *found]


def summary(texts: dict[str, Texts], rounds: list[dict]) -> dict[str, Any]:
    """By text and method every metric, and by text and method the change from plain fine-tuning on the same seeds."""
    levels: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for name, one in texts.items():
        of = {(row["method"], row["seed"]): one.features(row[name]) for row in rounds}
        seeds = {method: sorted({s for m, s in of if m == method and s is not None}) for method, _ in of}
        for method, mine in seeds.items():
            rows = [of[method, seed] for seed in mine or [None]]
            shared = [seed for seed in mine if ("erm", seed) in of]
            for metric in rows[0]:
                number, clusters = NUMBERS.get(metric, mean), one.clusters(len(rows[0][metric]))
                values = np.stack([row[metric] for row in rows])
                levels.setdefault(name, {}).setdefault(method, {})[metric] = level(values, clusters, number)
                if method != "erm" and shared:
                    erm, ours = (np.stack([of[m, seed][metric] for seed in shared]) for m in ("erm", method))
                    told = change(erm, ours, clusters, number)
                    changes.setdefault(name, {}).setdefault(method, {})[metric] = told
    return {"levels": levels, "from_erm": changes, "commits": sorted({row["commit"] for row in rounds})}


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished models in it are kept.")],
    study: Annotated[Path, typer.Option(help="What robustness.py wrote; its adapters lie beside it.")],
    quick: Annotated[bool, typer.Option(help="One seed, five pairs, twenty sentences.")] = False,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
):
    torch.set_num_threads(threads)
    if not study.is_file():
        raise SystemExit(f"there is no {study}: run benchmarks/robustness.py --json {study} first")
    source, found = planted_cue.data_folder(), json.loads(study.read_text())
    protocol = protocol_of(found)
    texts = probes(source, protocol, **(QUICK if quick else FULL))
    about = {name: value for name, value in machine(threads).items() if name != "commit"} | {
        "dtype": "torch.float32", "model": "SmolLM2-135M-Instruct, dequantised from Q4_1", "quick": quick,
        "texts": {name: len(one.rows) for name, one in texts.items()}, "most_words": MOST_WORDS,
        "study": found["about"]["protocol"],
    }  # fmt: skip
    wanted = [key for key in tested(found) if not quick or key["seed"] in (None, protocol.seeds[0])]

    def told_of(finished: list[dict]) -> dict[str, Any]:
        return summary(texts, [row for row in finished if any(key.items() <= row.items() for key in wanted)])

    rounds = Rounds(json_path, about, told_of)
    for key in tqdm(rounds.missing(wanted), unit="model"):
        seed = protocol.seeds[0] if key["seed"] is None else key["seed"]
        trial = trial_of(protocol, seed, study.with_name(study.stem + "-runs"))
        finished = Finished(**{field.name: getattr(trial, field.name) for field in fields(trial)})
        model = METHODS[key["method"]].make(finished, **key["settings"])
        rounds.add(key, {name: one.measured(model) for name, one in texts.items()} | {"commit": commit()})
    told = rounds.summary()
    for name, methods in told["levels"].items():
        print(f"\n{name}, in percent")
        for metric in next(iter(methods.values())):
            for method, levels in methods.items():
                print(f"{metric:<26}{method:<16}{shown(levels[metric], '.1f')}")
    for name, methods in told["from_erm"].items():
        print(f"\n{name}: change from plain fine-tuning\n{table(methods)}")


if __name__ == "__main__":
    typer.run(main)
