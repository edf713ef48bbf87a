"""CounterFact: facts as prompts to complete, with the true object and one to edit it to.

Meng et al., NeurIPS 2022 (ROME), https://rome.baulab.info: `counterfact.json` and `known_1000.json`; EasyEdit's
flattened rows (Wang et al. 2023).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from icp.data.reader import read
from icp.data.schema import Form, Maybe, Schema
from icp.errors import DataError
from icp.examples import Example
from icp.probes import Probe


@dataclass(frozen=True)
class Fact:
    """A prompt that names `subject`, what completes it truly, and what an edit would put there, where there is one.

    `relation` is the prompt with `{}` for the subject.
    """

    prompt: str
    subject: str
    true: str
    new: str | None
    relation: str


@dataclass(frozen=True)
class Facts:
    """Facts, and the probe that is made of them."""

    rows: tuple[Fact, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.rows)

    def to_probe(self) -> Probe:
        """Prompts with the answers (true, new), or (true,) where no edit is given, a space before each; label 0.

        Objects of several tokens need `icp.LogLikelihood()`. Errors cluster by the relation and the subject.
        """
        return Probe(
            tuple(
                Example(
                    row.prompt, answers=tuple(f" {answer}" for answer in (row.true, row.new) if answer is not None),
                    label=0, template=row.relation, word=row.subject,
                )
                for row in self.rows
            )
        )  # fmt: skip


def _fact(prompt: str, subject: str, true: str, new: str | None) -> list[Fact]:
    if subject not in prompt:
        raise DataError(f"the prompt {prompt!r} does not name its subject {subject!r}: the row is damaged")
    return [Fact(prompt, subject, true.strip(), None if new is None else new.strip(), prompt.replace(subject, "{}"))]


def _of_rome(row):
    asked = row["requested_rewrite"]
    prompt = asked["prompt"].replace("{}", asked["subject"])
    return _fact(prompt, asked["subject"], asked["target_true"]["str"], asked["target_new"]["str"])


COUNTERFACT = Schema(
    "CounterFact",
    (
        Form(
            {"prompt": str, "subject": str, "ground_truth": str, "target_new": Maybe(str)},
            lambda row: _fact(row["prompt"], row["subject"], row["ground_truth"], row["target_new"]),
        ),
        Form(
            {"prompt": str, "subject": str, "attribute": str},
            lambda row: _fact(row["prompt"], row["subject"], row["attribute"], None),
        ),
        Form(
            {
                "requested_rewrite": {
                    "prompt": str, "subject": str, "target_true": {"str": str}, "target_new": {"str": str},
                }
            },
            _of_rome,
        ),
    ),
    {
        "train": ("counterfact-train.json", "counterfact.json"), "validation": ("counterfact-val.json",),
        "known": ("known_1000.json",),
    },
)  # fmt: skip


def counterfact(source: "str | Path", split: str | None = None, config: str | None = None) -> Facts:
    """The facts. A folder's `known_1000.json`, facts that GPT-2 XL knows, is its split `"known"`."""
    return Facts(tuple(read(COUNTERFACT, source, split, config)))
