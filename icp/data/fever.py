"""FEVER: claims to verify against Wikipedia; and its symmetric test, on which the claim alone says nothing.

Thorne et al., NAACL 2018, https://fever.ai, hub `fever/fever`; Schuster et al., EMNLP 2019 (FeverSymmetric).
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from icp.data.labelled import Labelled
from icp.data.reader import read
from icp.data.schema import Choice, Form, Maybe, Schema

CLASSES = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
LABEL = Choice({name: index for index, name in enumerate(CLASSES)})
TWO = Choice({"SUPPORTS": 0, "REFUTES": 1})
MADE = re.compile(r"(\d+)000000[234]")
"""The id of a claim and evidence that were made from those whose id comes first."""


@dataclass(frozen=True)
class Claim:
    """A claim, whether the evidence supports it, and the evidence: its text, or the pages and sentences that hold it.

    `word` is what repeats: of symmetric data the id of the pair that four were made from.
    """

    id: str
    claim: str
    label: int
    evidence: str | None = None
    sentences: tuple[tuple[str, int], ...] = ()
    group: str | None = None
    word: str | None = None


def _original(row):
    found = {(page, number) for group in row["evidence"] for _, _, page, number in group if page is not None}
    return [Claim(str(row["id"]), row["claim"], row["label"], sentences=tuple(sorted(found)))]


def _of_hub(row):
    page, number = row["evidence_wiki_url"], row["evidence_sentence_id"]
    found = () if page is None else ((page, number),)
    return [Claim(str(row["id"]), row["claim"], row["label"], sentences=found)]


def _symmetric(evidence: str):
    def build(row):
        stem = MADE.fullmatch(row["id"])
        word = stem.group(1) if stem else row["id"]
        return [Claim(row["id"], row["claim"], row["label"], row[evidence], word=word)]

    return build


FEVER = Schema(
    "FEVER",
    (
        Form(
            {"id": int, "claim": str, "label": LABEL, "evidence": [[(Maybe(int), Maybe(int), Maybe(str), Maybe(int))]]},
            _original,
        ),
        Form(
            {"id": int, "claim": str, "label": LABEL, "evidence_wiki_url": Maybe(str), "evidence_sentence_id": int},
            _of_hub,
        ),
    ),
    {
        "train": (),
        "validation": ("shared_task_dev.jsonl", "dev.jsonl", "paper_dev.jsonl"),
        "test": ("paper_test.jsonl",),
    },
)  # fmt: skip

FEVER_SYMMETRIC = Schema(
    "FeverSymmetric",
    (
        Form({"id": str, "claim": str, "label": TWO, "evidence_sentence": str}, _symmetric("evidence_sentence")),
        Form({"id": str, "claim": str, "label": TWO, "evidence": str}, _symmetric("evidence")),
    ),
    {
        "validation": ("fever_symmetric_dev.jsonl",),
        "test": ("fever_symmetric_test.jsonl", "fever_symmetric_full.jsonl"),
    },
)


def fever(source: "str | Path", split: str | None = None, config: str | None = None) -> Labelled:
    """Claims labelled SUPPORTS, REFUTES or NOT ENOUGH INFO, with the Wikipedia sentences that settle them by number.

    The authors' JSON lines, or the hub's rows, of which the several that one claim has are joined. The texts of the
    sentences are in FEVER's dump of Wikipedia, which is not read. The shared task's test split has no labels.
    """
    joined: dict[str, Claim] = {}
    for row in read(FEVER, source, split, config):
        before = joined.get(row.id, row).sentences
        joined[row.id] = replace(row, sentences=tuple(sorted({*before, *row.sentences})))
    return Labelled(CLASSES, tuple(joined.values()))


def fever_symmetric(source: "str | Path", split: str | None = None, config: str | None = None) -> Labelled:
    """Claims with the text of their evidence, SUPPORTS or REFUTES: each claim is supported once and refuted once.

    Version 0.1 or 0.2, tokenised as published (`-LRB-` is a bracket). A template may name `{claim}` and `{evidence}`.
    """
    return Labelled(CLASSES[:2], tuple(read(FEVER_SYMMETRIC, source, split, config)))
