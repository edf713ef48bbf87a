"""Film reviews that people rewrote as little as would turn their sentiment round: label-flipping pairs.

Kaushik, Hovy and Lipton, ICLR 2020, `sentiment/combined/paired` of acmi-lab/counterfactually-augmented-data.
"""

from pathlib import Path

from icp.data.labelled import LabelledText
from icp.data.reader import read
from icp.data.schema import Form, Schema
from icp.data.sentiment import CLASSES, SENTIMENT
from icp.data.text_pairs import TextPairs
from icp.errors import DataError
from icp.pairs import FlippingPairs

CAD_IMDB = Schema(
    "the paired counterfactually augmented reviews",
    (
        Form(
            {"Text": str, "Sentiment": SENTIMENT, "batch_id": str},
            lambda row: [LabelledText(row["Text"], row["Sentiment"], word=row["batch_id"])],
        ),
    ),
    {
        split: (f"combined_paired/{name}_paired.tsv", f"{name}_paired.tsv")
        for split, name in (("train", "train"), ("validation", "dev"), ("test", "test"))
    },
)


def cad_imdb(source: "str | Path", split: str | None = None, config: str | None = None) -> TextPairs:
    """A review and its counterpart, as published; `word` is the `batch_id` that joins them.

    Which of two is the original, the file does not say. In two pairs (`batch_id` 8822 of train and 8893 of test) both
    texts are the same, labelled oppositely.
    """
    found: dict[str, list[LabelledText]] = {}
    for row in read(CAD_IMDB, source, split, config):
        found.setdefault(row.word, []).append(row)
    for key, rows in found.items():
        if len(rows) != 2 or rows[0].label == rows[1].label:
            raise DataError(
                f"batch_id {key!r} of {source} has the labels {[CLASSES[row.label] for row in rows]}: a pair has one "
                "row of each"
            )
    return TextPairs(FlippingPairs, CLASSES, tuple((one, other) for one, other in found.values()))
