"""Pairs that were made, with their kind, their spec and what was rejected, kept as Arrow by `datasets`."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec
from icp.data.labelled import LabelledText, filled, require_fields
from icp.errors import ArtefactError, DataError
from icp.examples import Example
from icp.files import read_json, write_json, writing_folder
from icp.pairs import FlippingPairs, Pairs, PreservingPairs
from icp.probes import Probe

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

FORMAT, VERSION = "counterfactual pairs", 1
ABOUT, PAIRS, REJECTED = "pairs.json", "pairs.arrow", "rejected.arrow"
TOLD = ("kind", "spec", "counts", "digests")
BATCH = 10_000
KINDS = {kind.kind: kind for kind in (PreservingPairs, FlippingPairs)}


@dataclass(frozen=True, eq=False)
class MadePairs:
    """Pairs of one kind, that of the variables edited. Read `len(made)`, `made[i]`, or all of them by iterating.

    `counts` has the `rows` of data, the `proposed` edits, and the texts `without` one; of both together it says how
    many were `accepted`, and how many `rejected` for each reason, which add up. The files are in `folder`:
    `made.save(folder)` copies them, `MadePairs.load(folder)` reads and checks them.
    """

    spec: Spec
    kind: type[Pairs]
    counts: Mapping[str, Any]
    folder: Path
    temporary: TemporaryDirectory | None = None

    @cached_property
    def table(self) -> "Dataset":
        """A row a pair; memory-mapped."""
        return table_of(self.folder)

    @cached_property
    def rejected(self) -> "Dataset":
        """A row a proposal that was rejected, or a text without one, with the reason and a sentence."""
        return _mapped(self.folder / REJECTED)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, place: int) -> tuple[Row, Edit]:
        return _pair(self.table[place])

    def __iter__(self) -> Iterator[tuple[Row, Edit]]:
        return map(_pair, self.table)

    @property
    def yields(self) -> "pandas.DataFrame":
        """A line a reason: how many, and what share of all that was proposed or could not be."""
        import pandas

        reasons = {"accepted": self.counts["accepted"]} | dict(self.counts["rejected"])
        table = pandas.DataFrame({"count": reasons})
        table.index.name = "outcome"
        return table.assign(share=table["count"] / max(1, table["count"].sum()))

    def to_pairs(self, template: str, answers: Sequence[str]) -> PreservingPairs | FlippingPairs:
        """Pairs to train or measure on: `template` holds `{text}`, `answers` are the label words, one a class.

        The group of a text is the value that the edited variable has in it. Several pairs of one row have that row for
        their `word` where the data have none, so that intervals know that they are not independent.
        """
        if isinstance(answers, str) or len(answers) != len(self.spec.classes):
            raise DataError(f"{answers!r} is not one answer a class: the classes are {', '.join(self.spec.classes)}")
        examples, flipped = [], []
        require_fields(template, [LabelledText("", 0)], ("text",))
        times = Counter(numbers := self.table["row"])
        for number, (row, edit) in zip(numbers, self):
            text, other = (filled(template, LabelledText(one, 0)) for one in (row.text, edit.text))
            clusters = {name: row.columns.get(name) for name in ("template", "word")}
            if clusters["word"] is None and times[number] > 1:
                clusters["word"] = f"row {number}"
            groups = {"group": edit.before, "counterpart_group": edit.after}
            examples.append(Example(text, other, tuple(answers), row.label, **clusters, **groups))
            flipped.append(edit.label)
        probe = Probe(tuple(examples))
        return PreservingPairs(probe) if self.kind is PreservingPairs else FlippingPairs(probe, tuple(flipped))

    def save(self, folder: "str | Path") -> Path:
        """Copy the files to a folder, which appears whole or not at all."""
        with writing_folder(folder, ABOUT, FORMAT) as work:
            for name in (PAIRS, REJECTED, ABOUT):
                shutil.copyfile(self.folder / name, work / name)
        return Path(folder)

    @classmethod
    def load(cls, folder: "str | Path") -> "MadePairs":
        """Raises `ArtefactError` where a file is missing, was changed since it was written, or has another version.

        The kind is checked against the spec and the labels once more.
        """
        folder = Path(folder)
        told = read_json(folder / ABOUT, FORMAT, VERSION)
        if told.get("digest") != _digest(told):
            raise ArtefactError(f"{folder / ABOUT} was changed since it was written: make the pairs again")
        lacking = [name for name in TOLD if name not in told]
        if lacking or told["kind"] not in KINDS or not {PAIRS, REJECTED} <= set(told["digests"]):
            what = f"no {lacking[0]}" if lacking else f"kind={told['kind']!r}, digests of {sorted(told['digests'])}"
            raise ArtefactError(f"{folder / ABOUT} is no account of pairs ({what}): make the pairs again")
        for name in (PAIRS, REJECTED):
            if not (folder / name).is_file():
                raise ArtefactError(f"{folder} lacks {name}: make the pairs again")
            if (now := digest_of(folder / name)) != told["digests"][name]:
                raise ArtefactError(
                    f"{folder / name} was changed since it was written (digest {now[:12]}, written with "
                    f"{told['digests'][name][:12]}): make the pairs again, or check these by pairs_again"
                )
        made = cls(Spec.of(told["spec"], str(folder / ABOUT)), KINDS[told["kind"]], told["counts"], folder)
        made._require_kind()
        return made

    def _require_kind(self) -> None:
        columns = self.table.select_columns(["variable", "label", "counterpart_label"])
        for start in range(0, len(columns), BATCH):
            for variable, *labels in zip(*columns[start : start + BATCH].values()):
                alike = labels[0] == labels[1]
                if self.spec.kind_of(variable) is not self.kind or alike != (self.kind is PreservingPairs):
                    raise ArtefactError(
                        f"{self.folder} is said to hold {self.kind.kind} pairs and has an edit of {variable} with the "
                        f"labels {labels}: make the pairs again"
                    )


class Writer:
    """Writes pairs and rejections as they come, in constant memory, and counts them."""

    def __init__(self, folder: Path):
        from datasets import Features, List, Value
        from datasets.arrow_writer import ArrowWriter

        text, number, spans = Value("string"), Value("int64"), List(List(Value("int32")))
        pairs = {
            "row": number, "text": text, "label": number, "columns": text, "counterpart": text,
            "counterpart_label": number, "variable": text, "before": text, "after": text, "spans": spans,
            "new_spans": spans,
        }  # fmt: skip
        rejected = {"row": number, "text": text, "counterpart": text, "reason": text, "told": text}
        self.pairs = ArrowWriter(path=str(folder / PAIRS), features=Features(pairs))
        self.rejected = ArrowWriter(path=str(folder / REJECTED), features=Features(rejected))
        self.folder, self.rows, self.proposed, self.without, self.accepted = folder, 0, 0, 0, 0
        self.reasons: Counter[str] = Counter()

    def accept(self, number: int, row: Row, edit: Edit) -> None:
        self.accepted += 1
        self.pairs.write({
            "row": number, "text": row.text, "label": row.label,
            "columns": json.dumps(dict(row.columns), ensure_ascii=False, default=str), "counterpart": edit.text,
            "counterpart_label": edit.label, "variable": edit.variable, "before": edit.before, "after": edit.after,
            "spans": [list(span) for span in edit.spans], "new_spans": [list(span) for span in edit.new_spans],
        })  # fmt: skip

    def reject(self, number: int, row: Row, edit: Edit | None, why: Rejection) -> None:
        self.reasons[why.reason] += 1
        self.without += edit is None
        other = None if edit is None else edit.text
        self.rejected.write(
            {"row": number, "text": row.text, "counterpart": other, "reason": why.reason, "told": why.told}
        )

    def finish(self, spec: Spec, kind: type[Pairs]) -> dict[str, Any]:
        for writer in (self.pairs, self.rejected):
            writer.finalize()
        counts = {"rows": self.rows, "proposed": self.proposed, "without": self.without, "accepted": self.accepted,
                  "rejected": dict(sorted(self.reasons.items(), key=lambda one: (-one[1], one[0])))}  # fmt: skip
        digests = {name: digest_of(self.folder / name) for name in (PAIRS, REJECTED)}
        told = {"kind": kind.kind, "spec": spec.stored, "counts": counts, "digests": digests}
        write_json(self.folder / ABOUT, FORMAT, VERSION, told | {"digest": _digest(told)})
        return counts


def _digest(told: Mapping[str, Any]) -> str:
    """Of what the JSON file says, but for what every artefact says and the digest itself."""
    own = {name: told[name] for name in TOLD if name in told}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_of(folder: "str | Path") -> "Dataset":
    """The pairs of a folder, unchecked; raises `ArtefactError` where they cannot be read."""
    path = Path(folder) / PAIRS
    try:
        found = _mapped(path)
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read as pairs ({error}): it is missing, cut short or foreign") from error
    if missing := {"text", "label", "columns", "counterpart", "counterpart_label"} - set(found.column_names):
        raise ArtefactError(f"{path} has no column {min(missing)!r}: it holds no pairs")
    return found


def _mapped(path: Path) -> "Dataset":
    from datasets import Dataset

    return Dataset.from_file(str(path))


def _pair(stored: Mapping[str, Any]) -> tuple[Row, Edit]:
    spans, new = (tuple(tuple(span) for span in stored[name]) for name in ("spans", "new_spans"))
    row = Row(stored["text"], stored["label"], json.loads(stored["columns"]))
    edit = Edit(stored["counterpart"], stored["variable"], stored["before"], stored["after"], spans, new,
                stored["counterpart_label"])  # fmt: skip
    return row, edit
