"""Contrast sets of IMDb: film reviews that experts rewrote so that the sentiment turns round: label-flipping pairs.

Gardner et al., Findings of EMNLP 2020, `IMDb/data` of allenai/contrast-sets. Most originals are in the test split of
`cad_imdb` too.
"""

from pathlib import Path

from icp.data.labelled import LabelledText
from icp.data.reader import read
from icp.data.schema import Form, Schema
from icp.data.sentiment import CLASSES, SENTIMENT, of_text
from icp.data.text_pairs import TextPairs
from icp.errors import DataError
from icp.pairs import FlippingPairs

IMDB_CONTRAST = Schema(
    "the contrast sets of IMDb", (Form({"Text": str, "Sentiment": SENTIMENT}, of_text("Text", "Sentiment")),), {}
)
SPLITS = {"validation": "dev", "test": "test"}


def imdb_contrast(source: "str | Path", split: str) -> TextPairs:
    """A review and its counterpart: the same row of `*_original.tsv` and `*_contrast.tsv`; `word` is its number.

    `source` is the folder that holds both, `split` "validation" or "test".
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r} of the contrast sets: there are {', '.join(SPLITS)}")
    files = [Path(source) / f"{SPLITS[split]}_{part}.tsv" for part in ("original", "contrast")]
    originals, contrasts = (read(IMDB_CONTRAST, file) for file in files)
    if len(originals) != len(contrasts):
        raise DataError(f"{files[0]} has {len(originals)} rows and {files[1]} {len(contrasts)}: they go in pairs")
    rows = []
    for number, two in enumerate(zip(originals, contrasts), 1):
        if two[0].label == two[1].label:
            raise DataError(f"row {number} of {files[0]} and {files[1]} are both {CLASSES[two[0].label]}: they differ")
        rows.append(tuple(LabelledText(row.text, row.label, word=str(number)) for row in two))
    return TextPairs(FlippingPairs, CLASSES, tuple(rows))
