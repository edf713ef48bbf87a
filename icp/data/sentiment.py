"""How data sets of sentiment write their two classes."""

from icp.data.labelled import Labelled, LabelledText
from icp.data.schema import Choice

CLASSES = ("negative", "positive")
SENTIMENT = Choice(
    {"0": 0, "1": 1, "negative": 0, "positive": 1, "neg": 0, "pos": 1, "Negative": 0, "Positive": 1}
)  # fmt: skip


def of_text(text: str, label: str):
    """What makes a row of the fields that hold its text and its label."""
    return lambda row: [LabelledText(row[text], row[label])]


def labelled(rows: list[LabelledText]) -> Labelled:
    """Rows of the two classes."""
    return Labelled(CLASSES, tuple(rows))
