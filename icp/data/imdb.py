"""IMDb: whole film reviews, positive or negative.

Maas et al., ACL 2011, a folder `aclImdb` with one file a review; hub `stanfordnlp/imdb`.
"""

from pathlib import Path

from icp.data.labelled import Labelled, LabelledText
from icp.data.reader import read
from icp.data.schema import Form, Schema
from icp.data.sentiment import CLASSES, SENTIMENT, labelled, of_text
from icp.errors import DataError

IMDB = Schema(
    "IMDb",
    (
        Form({"text": str, "label": SENTIMENT}, of_text("text", "label")),
        Form({"Text": str, "Sentiment": SENTIMENT}, of_text("Text", "Sentiment")),
    ),
    {"train": (), "validation": ("dev.tsv",), "test": ()},
)


def imdb(source: "str | Path", split: str | None = None, config: str | None = None) -> Labelled:
    """Reviews labelled 0 (negative) or 1 (positive); some hold HTML line breaks, as published.

    The authors' folder (`train/pos/*.txt` and so on, which needs `split`), the hub's rows, or the tables of original
    reviews in Kaushik et al. (2020), `Sentiment` and `Text`.
    """
    folder = Path(source) / (split or "train")
    if not (folder / "pos").is_dir() and not (folder / "neg").is_dir():
        return labelled(read(IMDB, source, split, config))
    if split is None or config is not None:
        raise DataError(f"{source} is the authors' folder: name split='train' or 'test', and leave config out")
    rows = []
    for label, name in enumerate(("neg", "pos")):
        files = sorted((folder / name).glob("*.txt"))
        if not files:
            raise DataError(f"{folder / name} holds no *.txt: the folder of {CLASSES[label]} reviews is missing")
        rows += [LabelledText(_text(file), label) for file in files]
    return labelled(rows)


def _text(file: Path) -> str:
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not text in UTF-8 ({error}): it is cut short or foreign") from error
    if not text.strip():
        raise DataError(f"{file} is empty: it should hold a review")
    return text
