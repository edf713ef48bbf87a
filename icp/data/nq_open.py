"""NQ-open: the Natural Questions that have a short answer, without their page.

Kwiatkowski et al., TACL 2019; Lee et al., ACL 2019; `NQ-open.dev.jsonl` of google-research-datasets/natural-questions,
hub `google-research-datasets/nq_open`.
"""

from pathlib import Path

from icp.data.questions import Question, without_context
from icp.data.reader import read
from icp.data.schema import Form, Schema

NQ_OPEN = Schema(
    "NQ-open",
    (
        Form(
            {"question": str, "answer": [str]},
            lambda row: without_context(row["question"], row["answer"]),
        ),
    ),
    {"train": ("NQ-open.train.jsonl",), "validation": ("NQ-open.dev.jsonl",)},
)  # fmt: skip


def nq_open(source: "str | Path", split: str | None = None, config: str | None = None) -> list[Question]:
    """Questions as typed into a search engine: lower-cased, without a question mark."""
    return read(NQ_OPEN, source, split, config)
