"""How good the rule estimators are: against gold on every real row, against annotations by hand, and how fast.

`estimator.rule` has, for each split of CLadder and both schemas of PrOntoQA, over the distinct prompts that have gold:

- `valid`: the share that the validator passes with gold's mentions, variables and polarity (`icp.capt.quality`), with
  its 95% interval, which takes stories (of PrOntoQA: skeletons) as clusters; `agrees` leaves the validator out, and
  `consistent` asks only that a variable keeps its two states apart; `b3`, `span_f1` and `polarity` are of all mentions;
- `without_gold`: how many rows have none, by reason; they are in no share; `refused`: what the estimator did not read,
  and `invalid`: what the validator did not pass, each by reason;
- `round_trip`: of what passed, the share whose text with random letters goes back to the prompt, each letter to what
  stood at its place; the others are listed by reason. PrOntoQA's `round_trip_by_name` forgets the places: each variable
  has one name, in two numbers.

`estimator.rule_without_story` is the same with every word of a row's story taken out of the lexicon, since it was made
with these stories in view. `leakage` is how often a classifier tells the story from a text of CLadder: from the prompt,
the abstract text by rules, and by gold (what structure alone gives away). `capt_reference` judges the abstractions that
an automatic check rejected. `speed` is of 10,000 prompts of either kind in a process of its own (`capt_speed.py`).

`annotated` compares with `annotations/capt.json`: 100 prompts drawn by `drawn`, 12 of each CLadder split and 20 of each
PrOntoQA schema, which one annotator (a language model that saw no estimate of them) read and marked by these rules:

1. A mention is every place where the prompt says an event: a variable of the story, a class, a property, an individual.
2. It takes in the whole phrase that is about it and is left when the sentence's own words are gone ("For ..., the
   probability of ... is 7%", "has a direct effect on", "if ... instead of ...", "We observed", "Each ... is a ..."),
   with the people who are in that state ("people who do not smoke") and with its verb, and without the article of "a
   cat", the list's "and" and full stops. "not" and "no" are part of a state of CLadder, and stand outside in PrOntoQA.
3. Mentions of one event share a number, in the order of first mention; singular and plural are one event.
4. Polarity is null where the event is only named (PrOntoQA: always). A state is 1 where it says that the event is so,
   or is what the prompt gives a probability of, asks the chance of, or calls a cause; and 0 where it says the opposite.
   Of two groups compared that are told apart by no denial, the second is 1.

Only numbers are stored: rows as file and place, a digest of the prompt, and [start, stop, event, polarity]. CLadder's
gold takes its spans from the grammar that the rules read by too, so that only the annotations test the spans.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import capt_reference
import numpy as np
import typer
from planted_cue import data_folder
from rounds import machine

from icp import capt, data
from icp.capt.lexicon import ENGLISH
from icp.files import writing_file
from icp.statistics import clusters_of, share_interval

CLADDER = (
    "test-generate-easy.json", "test-generate-anti.json", "cladder.csv",
    "processed_o1_preview_results_top1000_rand.csv",
)  # fmt: skip
MODELS = "test-model-meta.json"
PRONTOQA = ("logiclm_dev.json", "prontoqa.json")
DRAWN = {"commonsense": 12, "easy": 12, "hard": 12, "anti": 12, "nonsense": 12, "fictional": 20, "true": 20}
SEED = 20
ANNOTATIONS = Path(__file__).with_name("annotations") / "capt.json"
RULES: dict[str, capt.Estimator] = {"cladder": capt.CladderRules(), "prontoqa": capt.SyllogismRules()}
VALIDATOR = capt.Validator(capt.FRAME)
Found = capt.Abstracted | capt.Failure


@dataclass(frozen=True)
class Row:
    """`id` is the file and the place in it, from 0; `gold` an abstraction or why there is none."""

    id: str
    problem: data.Problem
    gold: capt.Abstraction | capt.Failure


def cladder_rows(folder: Path) -> list[Row]:
    """Distinct prompts; where a prompt stands in two files the first one's split counts, which is the finer."""
    words = capt.Words.of(data.cladder_models(folder / MODELS).values())
    found: dict[str, Row] = {}
    for name in CLADDER:
        models = folder / MODELS if name.endswith(".json") else None
        for place, one in enumerate(data.cladder(folder / name, models=models)):
            row = Row(f"{name}:{place}", one.problem, capt.cladder_gold(one, words))
            found.setdefault(" ".join(one.prompt.split()), row)
    return list(found.values())


def prontoqa_rows(folder: Path) -> list[Row]:
    found: dict[str, Row] = {}
    gold = capt.ClosedVocabulary()
    for name in PRONTOQA:
        for place, one in enumerate(data.prontoqa(folder / name)):
            found.setdefault(one.prompt, Row(f"{name}:{place}", one, gold.estimate(one.prompt)))
    return list(found.values())


def by_split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.problem.split, []).append(row)
    return found


def abstraction_of(found: Found) -> capt.Abstraction | capt.Failure:
    return found if isinstance(found, capt.Failure) else found.abstraction


def measured(rows: Sequence[Row], found: Sequence[Found], by_name: bool) -> dict[str, Any]:
    """The figures of one split (this module says which) from what an estimator found for its rows."""
    reasons = [[] if isinstance(one, capt.Failure) else VALIDATOR.reasons(one) for one in found]
    passed = [isinstance(one, capt.Abstracted) and not told for one, told in zip(found, reasons)]
    pairs = [(abstraction_of(one), row.gold) for one, row in zip(found, rows)]
    told = capt.quality(pairs, passed)
    known = [place for place, row in enumerate(rows) if isinstance(row.gold, capt.Abstraction)]
    right = np.array([capt.quality([pairs[place]], [passed[place]]).valid for place in known])
    interval = share_interval(right, clusters_of(cluster(rows[place].problem) for place in known))
    valid = [(row, one) for row, one, fine in zip(rows, found, passed) if fine]
    return {
        "valid": told.valid, "valid_ci": [interval["low"], interval["high"]], "b3": told.b_cubed.f1,
        "span_f1": told.spans.f1, "polarity": None if np.isnan(told.polarity) else told.polarity,
        "agrees": told.agrees, "consistent": told.consistent, "rows": told.rows,
        "without_gold": dict(told.without_gold), "refused": dict(told.refused),
        "invalid": dict(Counter(all_told[0] for all_told in reasons if all_told)),
        "disagrees": [rows[place].id for place, fine in zip(known, right) if not fine],
        "round_trip": round_trip(valid, by_place),
    } | ({"round_trip_by_name": round_trip(valid, by_its_name)} if by_name else {})  # fmt: skip


def cluster(problem: data.Problem) -> dict[str, str]:
    """What rows share that are likely to fail together; PrOntoQA has too few families of words to tell."""
    return {"word": problem.story} if problem.answers == ("Yes", "No") else {"template": problem.skeleton}


def by_place(found: capt.Abstraction, seed: str) -> str | None:
    symbols = random.Random(seed).sample(capt.pool(26), found.slots)
    return capt.restored(found.filled(symbols), found, symbols)


def by_its_name(found: capt.Abstraction, seed: str) -> str | None:
    return capt.named(found.text, capt.names_of(found))


def round_trip(rows: Sequence[tuple[Row, capt.Abstracted]], way: Any) -> dict[str, Any]:
    """The share of rows whose text comes back, and the ids of the others by reason; None of no rows."""
    others: dict[str, list[str]] = {}
    for row, one in rows:
        back = way(one.abstraction, row.id)
        if back != row.problem.prompt:
            others.setdefault(why_not(one.abstraction, back), []).append(row.id)
    lost = sum(map(len, others.values()))
    return {"share": 1 - lost / len(rows) if rows else None, "rows": len(rows), "others": others}


def why_not(found: capt.Abstraction, back: str | None) -> str:
    if back is None:
        return "the symbols do not stand as they did"
    if back.lower() == found.prompt.lower():
        return "a capital"
    words = [re.findall(r"\w+", text) for text in (found.prompt, back)]
    if len(words[0]) != len(words[1]):
        return "a variable is said in words of its own"
    return "a number of an event that is not formed by rule"


def without_story(rows: Sequence[Row]) -> dict[str, capt.Estimator]:
    """By story the rules without the words of all its prompts."""
    said: dict[str, list[str]] = {}
    for row in rows:
        said.setdefault(row.problem.story, []).append(row.problem.prompt)
    return {story: capt.CladderRules(ENGLISH.without(prompts)) for story, prompts in said.items()}


def leaks(rows: Sequence[Row], found: Sequence[Found]) -> dict[str, Any]:
    """On rows with gold, estimate and a story of at least five of them."""
    both = [
        (row, one) for row, one in zip(rows, found)
        if isinstance(one, capt.Abstracted) and isinstance(row.gold, capt.Abstraction)
    ]  # fmt: skip
    often = Counter(row.problem.story for row, _ in both)
    both = [(row, one) for row, one in both if often[row.problem.story] >= 5]
    stories = [row.problem.story for row, _ in both]
    texts = {
        "prompt": [row.problem.prompt for row, _ in both], "rule": [one.abstraction.text for _, one in both],
        "gold": [row.gold.text for row, _ in both],
    }  # fmt: skip
    told = {name: capt.leakage(of, stories) for name, of in texts.items()}
    return {name: one.accuracy for name, one in told.items()} | {
        "commonest": told["rule"].commonest, "texts": len(both), "stories": len(set(stories)),
    }  # fmt: skip


def drawn(rows: Sequence[Row], seed: int = SEED) -> list[Row]:
    """The prompts to annotate: `DRAWN` of each split, without replacement."""
    of = by_split(rows)
    return [row for split, count in DRAWN.items() for row in random.Random(f"{seed}/{split}").sample(of[split], count)]


def digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def annotated(rows: Sequence[Row]) -> list[tuple[Row, capt.Abstraction]]:
    """The annotated rows. Raises ValueError where a row has another prompt than the one that was annotated."""
    at, found = {row.id: row for row in rows}, []
    for one in json.loads(ANNOTATIONS.read_text("utf-8"))["rows"]:
        row = at[one["id"]]
        if digest(row.problem.prompt) != one["digest"]:
            raise ValueError(f"{row.id} is not the prompt that was annotated: take the data of the same source")
        mentions = (capt.Mention(a, b, event, None if p is None else bool(p)) for a, b, event, p in one["mentions"])
        found.append((row, capt.Abstraction(row.problem.prompt, tuple(mentions))))
    return found


def against(pairs: Sequence[tuple[capt.Abstraction | capt.Failure, capt.Abstraction]]) -> dict[str, Any]:
    told = capt.quality(pairs)
    return {
        "span_f1": told.spans.f1, "b3": told.b_cubed.f1, "polarity": None if np.isnan(told.polarity) else told.polarity,
        "agrees": told.agrees, "consistent": told.consistent, "rows": told.rows,
        "mentions": sum(len(gold.mentions) for _, gold in pairs), "refused": dict(told.refused),
    }  # fmt: skip


def of_annotations(rows: Sequence[Row], found: Mapping[str, Found]) -> dict[str, Any]:
    """Rules and gold against the annotations: of all 100, of either data set, and of each split."""
    marked = annotated(rows)
    parts: dict[str, list[tuple[Row, capt.Abstraction]]] = {"all": marked}
    for row, by_hand in marked:
        of = "cladder" if row.problem.answers == ("Yes", "No") else "prontoqa"
        for part in (of, f"{of}.{row.problem.split}"):
            parts.setdefault(part, []).append((row, by_hand))
    return {
        part: {
            "rule": against([(abstraction_of(found[row.id]), by_hand) for row, by_hand in of]),
            "gold": against([(row.gold, by_hand) for row, by_hand in of]),
        }
        for part, of in parts.items()
    }


def speed(prompts: int) -> dict[str, Any]:
    """In a process of its own, with one thread."""
    command = [sys.executable, str(Path(__file__).with_name("capt_speed.py")), str(prompts)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def figures(folder: Path, quick: bool) -> dict[str, Any]:
    """Everything but speed. `quick` takes every tenth row, and leaves leakage out."""
    rows = {"cladder": cladder_rows(folder / "cladder"), "prontoqa": prontoqa_rows(folder / "prontoqa")}
    blind = without_story(rows["cladder"])
    every = [row for of in rows.values() for row in of]
    rule: dict[str, Any] = {name: {} for name in rows}
    unseen: dict[str, Any] = {}
    found: dict[str, Found] = {}
    for name, of in rows.items():
        for split, part in by_split(of).items():
            part = part[:: 10 if quick else 1]
            made = [capt.abstract(row.problem, RULES[name]) for row in part]
            found |= {row.id: one for row, one in zip(part, made)}
            rule[name][split] = measured(part, made, name == "prontoqa")
            if name == "cladder":
                made = [capt.abstract(row.problem, blind[row.problem.story]) for row in part]
                unseen[split] = measured(part, made, False)
                del unseen[split]["disagrees"]
    result: dict[str, Any] = {"estimator": {"rule": rule, "rule_without_story": {"cladder": unseen}}}
    for row, _ in annotated(every):
        name = "cladder" if row.problem.answers == ("Yes", "No") else "prontoqa"
        found.setdefault(row.id, capt.abstract(row.problem, RULES[name]))
    result["annotated"] = of_annotations(every, found)
    if not quick:
        result["leakage"] = leaks(rows["cladder"], [found[row.id] for row in rows["cladder"]])
        result["capt_reference"] = capt_reference.counts(folder / "capt_reference")
    return result


def table(found: Mapping[str, Any]) -> str:
    columns = ("valid", "b3", "span_f1", "polarity", "agrees", "consistent", "rows")
    lines = [f"{'':38}" + "".join(f"{column:>12}" for column in columns)]

    def add(name: str, row: Mapping[str, Any]) -> None:
        cells = (row.get(column) for column in columns)
        lines.append(f"{name:38}" + "".join(f"{'-' if one is None else f'{one:.4g}':>12}" for one in cells))

    for kind, of in found["estimator"].items():
        for name, splits in of.items():
            for split, row in splits.items():
                add(f"{kind}.{name}.{split}", row)
    for part, of in found["annotated"].items():
        for who, row in of.items():
            add(f"annotated.{part}: {who}", row)
    return "\n".join(lines)


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go.")],
    quick: Annotated[bool, typer.Option(help="Every tenth row and a thousand prompts timed; no leakage.")] = False,
):
    found = {"about": machine(1)} | figures(data_folder(), quick) | {"speed": speed(1000 if quick else 10_000)}
    with writing_file(json_path) as work:
        work.write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    typer.run(main)
