"""Facts and open questions before and after: what does it cost to cut the way by which a claim alone moves an answer?

Two probes. Of FeverSymmetric (Schuster et al. 2019) every claim comes once with evidence that supports it and once with
evidence that refutes it, and so does its twin, of which the reverse is true: what a model answers to a claim without
evidence says nothing of the label, and is the cue. Of CounterFact (Meng et al. 2022) a prompt with another subject of
the same relation is the counterpart, and the subject is no cue but what the answer should depend on.

Three cuts a seed, each of one direction of as many heads (`icp.erasure`): `claims`, of the heads through which a claim
alone reaches the answer; `facts`, of those through which the subject reaches the object, as a cut that should do harm;
and `random` heads, erased along claims. A seed draws the pairs to rank and fit on, the examples to test on are always
the same, and the model before is measured once:

- FeverSymmetric's test split: accuracy, where the answers are compared with the median of the model's own, since an
  untuned model gives nearly all claims the same; the difference in accuracy between rows where the claim alone suggests
  the label to the model before and those where it suggests the other, and the same by what it suggests to each model
  itself; in logits, how far the answers to twin claims lie apart without evidence, and with it
- CounterFact: how often the true object is likelier than the one to edit it to, and by how many nats
- TriviaQA and NQ-open, after three questions of our own: exact match, wrong answers among those given, abstentions; and
  on some of TriviaQA's self-consistency, the share of the most frequent of three samples

Samples of the test files are taken (`FULL`), so that a full run should take at most 40 minutes on two quiet cores: of
these models, which know few answers, only large changes of exact match can be told from none.
"""

import random
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import planted_cue
import torch
import typer
from changes import change, counted, mean, packed, table, unpacked
from qa_probes import aligned, alone, claim_pairs, fact_pairs, fours, with_evidence
from rounds import Rounds, commit, machine
from tqdm import tqdm

import icp
from icp import data
from icp.sweep.plan import clean_values

SEEDS = (0, 1, 2)
CUTS = ("claims", "facts", "random")
SHOTS = """Question: What is the capital of Portugal?
Answer: Lisbon
Question: who painted the mona lisa
Answer: Leonardo da Vinci
Question: How many legs does a spider have?
Answer: eight
Question: {text}
Answer:"""
SAMPLES = 3
MEASURED = {"evidence", "alone", "facts", "samples"}
PARTS = ("groups", "facts", "questions", "sampled")
FULL = {"groups": 50, "facts": 200, "questions": 150, "sampled": 40, "heads": 30, "pairs": 48}
QUICK = {"groups": 5, "facts": 16, "questions": 12, "sampled": 4, "heads": 8, "pairs": 8}
QUIET = {"progress": False}


class Inputs:
    """What every model is measured on, and what is left to rank on."""

    def __init__(self, folder: Path, groups: int, facts: int, questions: int, sampled: int):
        fever = folder / "fever_symmetric" / "symmetric_v0.2"
        tested_fours = fours(list(data.fever_symmetric(fever, split="test")))[:groups]
        self.rank_fours = fours(list(data.fever_symmetric(fever, split="validation")))
        known = list(data.counterfact(folder / "counterfact", split="validation"))
        random.Random("facts").shuffle(known)
        self.facts = data.Facts(tuple(known[:facts])).to_probe()
        tested = {row.subject for row in known[:facts]}
        self.rank_facts = [row for row in known[facts:] if row.subject not in tested]
        self.questions = {
            "triviaqa": data.triviaqa(folder / "triviaqa", split="test")[:questions],
            "nq_open": data.nq_open(folder / "nq_open", split="validation")[:questions],
        }
        self.sampled = self.questions["triviaqa"][:sampled]
        self.evidence, self.alone = with_evidence(tested_fours), alone(tested_fours)

    def measured(self, model: icp.Model) -> dict[str, str]:
        """Logit differences [row] with evidence and [claim] alone, nats [fact], and zeros and ones [question]."""
        likely = [clean_values(model, self.facts, icp.LogLikelihood(answer)) for answer in (0, 1)]
        found = {
            "evidence": clean_values(model, self.evidence, icp.LogitDifference()),
            "alone": clean_values(model, self.alone, icp.LogitDifference()),
            "facts": likely[0] - likely[1],
        }
        for name, questions in self.questions.items():
            answers = icp.open_qa(model, questions, template=SHOTS, **QUIET)
            found[name] = np.stack([answers.exact, answers.right, answers.abstained])
        answers = icp.open_qa(model, self.sampled, template=SHOTS, samples=SAMPLES, **QUIET)
        return {name: packed(values) for name, values in (found | {"samples": answers.consistency}).items()}

    def figures(self, before: dict[str, str], after: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
        """Changes from one model's measurements to others', a seed each."""
        said = sign(unpacked(before["alone"]))

        def told(features, of=mean, clusters=None) -> dict[str, Any]:
            rows = [
                {name: unpacked(row[name]) for name in MEASURED | self.questions.keys()} for row in (before, *after)
            ]
            found = np.stack([features(row) for row in rows])
            return change(found[:1], found[1:], clusters, of)

        found = {
            "fever, accuracy": told(lambda row: counted(fever_right(row["evidence"]).mean(1))),
            "fever, gap in accuracy": told(lambda row: counted(fever_gap(row["evidence"], said))),
            "fever, gap by its own": told(lambda row: counted(fever_gap(row["evidence"], sign(row["alone"])))),
            "claims apart, alone": told(lambda row: counted(np.abs(row["alone"][::2] - row["alone"][1::2]))),
            "claims apart, evidence": told(lambda row: counted(claims_apart(row["evidence"]))),
            "facts, true likelier": told(lambda row: counted(100.0 * (row["facts"] > 0)), mean, self.facts.clusters),
            "facts, nats": told(lambda row: counted(row["facts"]), mean, self.facts.clusters),
        }
        for name in self.questions:
            for metric, of in ANSWERED.items():
                found[f"{name}, {metric}"] = told(lambda row, name=name: answered_features(row[name]), of)
        return found | {"self-consistency": told(lambda row: counted(100 * row["samples"]))}


def sign(alone: np.ndarray) -> np.ndarray:
    """Of each claim [group, 2], 1 where without evidence it seems true, as claims go, and -1 where false."""
    return np.where(alone > np.median(alone), 1, -1).reshape(-1, 2)


def fever_right(values: np.ndarray) -> np.ndarray:
    """In percent [group, row] of logit differences [row], compared with their median."""
    true = values > np.median(values)
    return 100.0 * (true.reshape(-1, 4) == np.array([True, False, True, False]))


def fever_gap(values: np.ndarray, suggested: np.ndarray) -> np.ndarray:
    """Of each group, accuracy where the label is what the claim alone suggests, less that where it is the other."""
    right = fever_right(values).reshape(-1, 2, 2)  # group, claim, label
    return (suggested * (right[..., 0] - right[..., 1])).mean(1)


def claims_apart(values: np.ndarray) -> np.ndarray:
    """Of each group, how far apart the answers to the two claims lie, each the mean over both labels."""
    both = values.reshape(-1, 2, 2).mean(2)
    return np.abs(both[:, 0] - both[:, 1])


def answered_features(values: np.ndarray) -> np.ndarray:
    """Exact, right where given, given, abstained and a one [question, 5]."""
    exact, right, abstained = values.reshape(3, -1)
    given = 1 - abstained
    return np.stack([exact, right * given, given, abstained, np.ones_like(exact)], 1)


def _hallucinated(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return 100 * (1 - sums[..., 1] / sums[..., 2])


ANSWERED = {
    "exact match": lambda sums: 100 * sums[..., 0] / sums[..., 4],
    "hallucination": _hallucinated,
    "abstention": lambda sums: 100 * sums[..., 3] / sums[..., 4],
}


def cut_models(base: icp.Model, inputs: Inputs, seed: int, heads: int, pairs: int) -> dict[str, icp.Model]:
    """The three cuts, each of so many heads."""
    everyone = base.units("head")
    probes = {
        "claims": aligned(base, claim_pairs(inputs.rank_fours, seed), pairs),
        "facts": aligned(base, fact_pairs(base, inputs.rank_facts, seed), pairs),
    }
    chosen = {"random": (random.Random(f"heads {seed}").sample(everyone, heads), probes["claims"])}
    for name, probe in probes.items():
        effects = icp.measure(base, probe, everyone, icp.Swap("counterpart"), method="linear", **QUIET)
        chosen[name] = (icp.indirect_effect(effects).head(heads).units, probe)
    return {name: icp.prune(base, icp.erasure(base, units, probe)) for name, (units, probe) in chosen.items()}


def summary(inputs: Inputs, rounds: list[dict]) -> dict[str, Any]:
    """By cut every figure before and after."""
    before = [row for row in rounds if row["cut"] == "none"]
    after = {cut: [row for row in rounds if row["cut"] == cut] for cut in CUTS}
    return {
        "figures": {
            cut: inputs.figures(before[0], sorted(rows, key=lambda row: row["seed"]))
            for cut, rows in after.items()
            if rows and before
        },
        "commits": sorted({row["commit"] for row in rounds}),
    }


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished models in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed, few of everything, eight heads.")] = False,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
):
    torch.set_num_threads(threads)
    sizes = QUICK if quick else FULL
    inputs = Inputs(planted_cue.data_folder(), **{name: sizes[name] for name in PARTS})
    cuts = {name: sizes[name] for name in ("heads", "pairs")}
    about = {name: value for name, value in machine(threads).items() if name != "commit"} | {
        "dtype": "torch.float32", "model": "SmolLM2-135M-Instruct, dequantised from Q4_1", "quick": quick,
        "samples": SAMPLES, **sizes,
    }  # fmt: skip
    rounds = Rounds(json_path, about, lambda finished: summary(inputs, finished))
    base = icp.load("smollm2")
    for key in tqdm(rounds.missing([{"cut": "none", "seed": None}]), unit="model"):
        rounds.add(key, inputs.measured(base) | {"commit": commit()})
    seeds = SEEDS[:1] if quick else SEEDS
    missing = rounds.missing([{"cut": cut, "seed": seed} for seed in seeds for cut in CUTS])
    with tqdm(total=len(missing), unit="model") as bar:
        for seed in sorted({key["seed"] for key in missing}):
            models = cut_models(base, inputs, seed, **cuts)
            for key in (key for key in missing if key["seed"] == seed):
                rounds.add(key, inputs.measured(models[key["cut"]]) | {"commit": commit()})
                bar.update()
    print(table(rounds.summary()["figures"]))


if __name__ == "__main__":
    typer.run(main)
