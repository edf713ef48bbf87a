"""SQuAD: questions about a paragraph, whose answers are spans of it; in version 2 some have none.

Rajpurkar et al., EMNLP 2016 and ACL 2018, https://rajpurkar.github.io/SQuAD-explorer; hub `rajpurkar/squad` and
`rajpurkar/squad_v2`.
"""

from pathlib import Path

from icp.data.questions import Question, unique
from icp.data.reader import read
from icp.data.schema import Form, Schema


def _of_articles(content):
    return [
        Question(asked["question"], unique([answer["text"] for answer in asked["answers"]]), paragraph["context"])
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]


SQUAD = Schema(
    "SQuAD",
    (
        Form(
            {"data": [{"paragraphs": [{"context": str, "qas": [{"question": str, "answers": [{"text": str}]}]}]}]},
            _of_articles,
        ),
        Form(
            {"question": str, "context": str, "answers": {"text": [str]}},
            lambda row: [Question(row["question"], unique(row["answers"]["text"]), row["context"])],
        ),
    ),
    {
        "train": ("train-v2.0.json", "train-v1.1.json"),
        "validation": ("dev-v2.0.json", "dev-v1.1.json"),
    },
)


def squad(source: "str | Path", split: str | None = None, config: str | None = None) -> list[Question]:
    """Questions with their paragraph as context; of version 2 those that it does not answer have no aliases."""
    return read(SQUAD, source, split, config)
