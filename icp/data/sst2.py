"""SST-2: sentences of film reviews, positive or negative.

Socher et al., EMNLP 2013; as in GLUE (Wang et al. 2019), hub `stanfordnlp/sst2`.
"""

from pathlib import Path

from icp.data.labelled import Labelled
from icp.data.reader import read
from icp.data.schema import Form, Schema
from icp.data.sentiment import SENTIMENT, labelled, of_text

SST2 = Schema(
    "SST-2",
    (
        Form(
            {"sentence": str, "label": SENTIMENT}, of_text("sentence", "label"), columns=("sentence", "label")
        ),
    ),
    {"train": (), "validation": ("dev.tsv",), "test": ()},
    quoted=False,
)  # fmt: skip


def sst2(source: "str | Path", split: str | None = None, config: str | None = None) -> Labelled:
    """Sentences labelled 0 (negative) or 1 (positive), lower-cased and tokenised as published.

    A table of sentence TAB label, with or without a line of names (`train.tsv`, `dev.tsv` and `test.tsv` in a folder),
    or the hub's rows. GLUE's test split has no labels and is refused.
    """
    return labelled(read(SST2, source, split, config))
