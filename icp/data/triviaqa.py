"""TriviaQA: trivia questions with every name by which the answer goes.

Joshi et al., ACL 2017, https://nlp.cs.washington.edu/triviaqa; hub `mandarjoshi/trivia_qa`; FlashRAG's JSON lines.
"""

from pathlib import Path

from icp.data.questions import Question, without_context
from icp.data.reader import read
from icp.data.schema import Form, Schema

TRIVIAQA = Schema(
    "TriviaQA",
    (
        Form(
            {"question": str, "answer": {"value": str, "aliases": [str]}},
            lambda row: without_context(row["question"], [row["answer"]["value"], *row["answer"]["aliases"]]),
        ),
        Form(
            {"question": str, "golden_answers": [str]},
            lambda row: without_context(row["question"], row["golden_answers"]),
        ),
        Form(
            {"Data": [{"Question": str, "Answer": {"Value": str, "Aliases": [str]}}]},
            lambda content: [
                question
                for row in content["Data"]
                for question in without_context(row["Question"], [row["Answer"]["Value"], *row["Answer"]["Aliases"]])
            ],
        ),
    ),
    {
        "train": ("unfiltered-web-train.json", "wikipedia-train.json", "web-train.json"),
        "validation": ("dev.jsonl", "unfiltered-web-dev.json", "wikipedia-dev.json", "web-dev.json"),
        "test": (),
    },
)


def triviaqa(source: "str | Path", split: str | None = None, config: str | None = None) -> list[Question]:
    """Questions without context; the hub's configuration of these is `config="rc.nocontext"`.

    The authors' test split has no answers and is refused.
    """
    return read(TRIVIAQA, source, split, config)
