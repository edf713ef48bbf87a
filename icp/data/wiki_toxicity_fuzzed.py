"""Comments of Wikipedia's talk pages, toxic or not, with their identity terms swapped: label-preserving pairs.

Dixon et al., AIES 2018, `eval_datasets/toxicity_fuzzed_testset.csv` and `toxicity_nonfuzzed_testset.csv` of
conversationai/unintended-ml-bias-analysis.
"""

from pathlib import Path

from icp.data.labelled import LabelledText
from icp.data.reader import read
from icp.data.schema import Choice, Form, Schema
from icp.data.text_pairs import TextPairs
from icp.errors import DataError
from icp.pairs import PreservingPairs

CLASSES = ("not toxic", "toxic")
FILES = ("toxicity_nonfuzzed_testset.csv", "toxicity_fuzzed_testset.csv")

WIKI_TOXICITY_FUZZED = Schema(
    "the fuzzed comments",
    (
        Form(
            {"rev_id": str, "comment": str, "toxic": Choice({"False": 0, "True": 1})},
            lambda row: [LabelledText(row["comment"], row["toxic"], word=row["rev_id"])],
        ),
    ),
    {},
)


def wiki_toxicity_fuzzed(source: "str | Path") -> TextPairs:
    """A comment and its counterpart, joined by `rev_id`, which is their `word`; `source` is the folder of both files.

    Comments that are the same in both are `left_out`. In 27 of the others a term was swapped with itself, so that only
    its case differs. The language is offensive.
    """
    files = [Path(source) / name for name in FILES]
    plain, fuzzed = ({row.word: row for row in _rows(file)} for file in files)
    if plain.keys() != fuzzed.keys():
        alone = sorted(plain.keys() ^ fuzzed.keys())[0]
        raise DataError(f"rev_id {alone!r} is in one of {files[0]} and {files[1]} only: they have the same comments")
    for key, row in plain.items():
        if row.label != fuzzed[key].label:
            raise DataError(f"rev_id {key!r} is {CLASSES[row.label]} in {files[0]} and not so in {files[1]}")
    same = tuple(key for key, row in plain.items() if row.text == fuzzed[key].text)
    pairs = tuple((row, fuzzed[key]) for key, row in plain.items() if row.text != fuzzed[key].text)
    return TextPairs(PreservingPairs, CLASSES, pairs, {"the same text": same} if same else {})


def _rows(file: Path) -> list[LabelledText]:
    rows = read(WIKI_TOXICITY_FUZZED, file)
    if len({row.word for row in rows}) < len(rows):
        seen: set[str | None] = set()
        twice = next(row.word for row in rows if row.word in seen or seen.add(row.word))
        raise DataError(f"rev_id {twice!r} is twice in {file}: it joins two files, so it has to be there once")
    return rows
