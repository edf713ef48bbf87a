"""Seconds and memory of making and validating lexicon pairs, in this process alone; prints them as JSON.

SST-2's sentences come after a reviewer's name, others of the same sentence each time, from a generator. The names are
swapped by a lexicon, and each pair passes every validator but the language model's: spans kept, changed, cue flips,
edit distance, fixed words, and a label classifier that was trained before on the same sentences without names.
"""

import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Annotated

import planted_cue
import typer
from resident import forget_peak, peak_resident

from icp.counterfactual import (
    Changed,
    CueFlips,
    EditDistance,
    FixedWords,
    LabelAgrees,
    LexiconSwap,
    Pattern,
    Row,
    SpansKept,
    Spec,
    Variable,
    label_classifier,
    lexicons,
    make_pairs,
)

NAMES = lexicons.FIRST_NAMES
FORM = "Review by {}: {}"
SPEC = Spec(
    "sentiment",
    ("negative", "positive"),
    (Variable("quality", Pattern({"bad": r"\b(?:bad|dull|awful)\b", "good": r"\b(?:good|funny|great)\b"})),),
    (Variable("reviewer", NAMES),),
)


def sentences() -> list[planted_cue.Sentence]:
    """Of any length, without those that say one of the names by themselves."""
    from icp import data

    found = ((row.text.strip(), row.label) for row in data.sst2(planted_cue.data_folder() / "sst2" / "train.tsv"))
    return [(text, label) for text, label in found if not NAMES.entries(text)]


def stream(rows: list[planted_cue.Sentence]) -> Iterator[Row]:
    """Every sentence after the first name of either gender, then after the second, and so on."""
    for names in zip(*NAMES.words.values()):
        for place, (text, label) in enumerate(rows):
            yield Row(FORM.format(names[place % 2], text), label)


def main(pairs: Annotated[int, typer.Argument(help="How many rows.")]):
    rows = sentences()
    start = time.perf_counter()
    classifier = label_classifier(*zip(*rows))
    training = time.perf_counter() - start
    validators = [
        SpansKept(), Changed(), CueFlips(), EditDistance(), FixedWords(["review", "by"]),
        LabelAgrees(classifier, least=0.1),
    ]  # fmt: skip
    with TemporaryDirectory() as folder:
        forget_peak()
        start, spent = time.perf_counter(), time.process_time()
        made = make_pairs(
            islice(stream(rows), pairs), edit=LexiconSwap("reviewer"), spec=SPEC, validators=validators,
            folder=f"{folder}/pairs", progress=True,
        )  # fmt: skip
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
        found = {
            "rows": made.counts["rows"], "pairs": len(made), "rejected": dict(made.counts["rejected"]),
            "seconds": seconds, "seconds_of_processor": spent, "seconds_classifier": training,
            "peak_mb": peak_resident() / 1e6,
        }  # fmt: skip
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    typer.run(main)
