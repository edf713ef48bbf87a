"""`make_pairs`: propose edits of a data set, refuse what is not of the declared kind, validate, and keep the rest."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from icp.counterfactual.difference import span_fault
from icp.counterfactual.editors import Editor
from icp.counterfactual.made import ABOUT, FORMAT, MadePairs, Writer
from icp.counterfactual.rows import Edit, Rejection, Row, records_of, row_of
from icp.counterfactual.spec import Spec
from icp.counterfactual.validator import Validator
from icp.errors import DataError, SpecError
from icp.files import writing_folder
from icp.pairs import PreservingPairs

TOGETHER = 64
"""Rows whose proposals are validated together."""
UNREAD = Row("", 0)
"""Stands for a row that has no text or no label."""


def make_pairs(
    data: Iterable[Any],
    *,
    edit: Editor,
    spec: Spec,
    validators: Sequence[Validator] = (),
    keep: int = 1,
    folder: "str | Path | None" = None,
    progress: bool = True,
) -> MadePairs:
    """Counterfactual pairs of one kind: label-preserving where `edit` edits cues, label-flipping where it edits causes.

    `data` are `icp.data.Labelled` or rows with `text`, `label` and whatever columns the spec reads; they are gone
    through once, in constant memory. Of each row's proposals the first `keep` that nothing rejects are kept: what
    changes nothing, was proposed before, changes another variable of the spec too, has a label that contradicts the
    kind, or that one of the `validators` rejects. A row that contradicts the spec, or has no text or no label, is
    rejected as well. With `folder` the files are kept there (`MadePairs.load`), else for as long as the result; where
    it ends with an error, none are.

    Raises `SpecError` where `edit` mixes causes and cues, edits another variable or other characters than it says, or
    edits a cause and nothing says what the new label is; `DataError` where no row at all has a text and a label.
    """
    for variable in spec.variables:
        variable.finder.begin()
    for part in (edit, *validators):
        part.begin(spec)
    kinds = {spec.kind_of(name) for name in edit.variables}
    if len(kinds) != 1:
        told = f"changes {', '.join(edit.variables)}, causes and cues at once" if kinds else "changes nothing"
        raise SpecError(f"the edit {told}: one edit makes pairs of one kind")
    if keep < 1:
        raise SpecError(f"keep={keep} pairs of a row: give at least 1")
    kind = kinds.pop()
    temporary = TemporaryDirectory(prefix="icp-pairs-") if folder is None else None
    place = Path(temporary.name if folder is None else folder)
    with nullcontext(place) if folder is None else writing_folder(place, ABOUT, FORMAT) as work:
        writer = Writer(work)
        total = len(data) if hasattr(data, "__len__") else None
        rows = enumerate(records_of(data))
        with tqdm(total=total, unit="row", disable=not progress) as bar:
            while part := list(islice(rows, TOGETHER)):
                _of_rows(part, edit, spec, validators, keep, writer)
                bar.update(len(part))
        counts = writer.finish(spec, kind)
    return MadePairs(spec, kind, counts, place, temporary)


@dataclass
class _Pending:
    """A row in work: proposals to come, how many were kept, and what became of those that came, in their order."""

    number: int
    row: Row
    before: dict[str, tuple[str, ...]]
    outcomes: list[tuple[Edit | None, Rejection | None]] = field(default_factory=list)
    proposals: Iterator[Edit | Rejection] = field(default_factory=lambda: iter(()))
    proposed: set[str] = field(default_factory=set)
    kept: int = 0

    def next_edit(self, editor: Editor, spec: Spec) -> Edit | None:
        """The next proposal that is of the declared kind; None where there is no other."""
        for proposal in self.proposals:
            if isinstance(proposal, Rejection):
                self.outcomes.append((None, proposal))
                continue
            if proposal.variable not in editor.variables:
                raise SpecError(
                    f"the editor of {', '.join(editor.variables)} proposed an edit of {proposal.variable!r}: it has to "
                    "name every variable that it edits"
                )
            if proposal.text != self.row.text and (fault := span_fault(self.row, proposal)) is not None:
                raise SpecError(
                    f"the {type(editor).__name__} that edits {proposal.variable} made {proposal.text!r} of "
                    f"{self.row.text!r}, and does not say where: {fault}"
                )
            if proposal.text in self.proposed:
                told = f"{proposal.text!r} was proposed for this text before"
                self.outcomes.append((proposal, Rejection("proposed before", told)))
                continue
            self.proposed.add(proposal.text)
            edit, why = _labelled(self.row, proposal, spec, self.before)
            if why is None:
                return edit
            self.outcomes.append((edit, why))
        return None


def _of_rows(
    rows: Sequence[tuple[int, Any]],
    editor: Editor,
    spec: Spec,
    validators: Sequence[Validator],
    keep: int,
    writer: Writer,
) -> None:
    """Every round takes the next proposal of each row that has fewer than `keep`, and validates them together."""
    pending = [_pending(number, record, spec) for number, record in rows]
    if pending[0].number == 0 and all(one.row is UNREAD for one in pending):
        raise DataError(f"none of the first {len(pending)} rows can be read: {pending[0].outcomes[0][1].told}")
    waiting = [one for one in pending if not one.outcomes]
    for one, proposals in zip(waiting, editor.edits_all([one.row for one in waiting], spec), strict=True):
        one.proposals = proposals
    while waiting:
        edits = [(one, edit) for one in waiting if (edit := one.next_edit(editor, spec)) is not None]
        for (one, edit), why in zip(edits, _judged([(one.row, edit) for one, edit in edits], spec, validators)):
            one.outcomes.append((edit, why))
            one.kept += why is None
        waiting = [one for one, _ in edits if one.kept < keep]
    for one in pending:
        if not one.outcomes:
            one.outcomes.append((None, Rejection("no proposal", "nothing was proposed for this text")))
        for edit, why in one.outcomes:
            writer.proposed += edit is not None
            if why is None:
                kept = {name: value for name, value in one.row.columns.items() if name not in editor.reads}
                writer.accept(one.number, replace(one.row, columns=kept), edit)
            else:
                writer.reject(one.number, one.row, edit, why)
    writer.rows += len(rows)


def _pending(number: int, record: Any, spec: Spec) -> _Pending:
    row = UNREAD
    try:
        row = row_of(record, number)
        _require_label(row, spec)
        before = spec.values_in(row)
    except (DataError, SpecError) as error:
        reason = "no text or label" if row is UNREAD else "contradicts the spec"
        return _Pending(number, row, {}, [(None, Rejection(reason, str(error)))])
    return _Pending(number, row, before)


def _judged(pairs: Sequence[tuple[Row, Edit]], spec: Spec, validators: Sequence[Validator]) -> list[Rejection | None]:
    """Of each pair what the first validator that rejects it says; the later ones do not see it."""
    found: list[Rejection | None] = [None] * len(pairs)
    for validator in validators:
        places = [place for place, why in enumerate(found) if why is None]
        if not places:
            break
        for place, told in zip(places, validator.reject_all([pairs[place] for place in places], spec), strict=True):
            found[place] = None if told is None else Rejection(validator.reason, told)
    return found


def _labelled(row: Row, edit: Edit, spec: Spec, before: dict[str, tuple[str, ...]]) -> tuple[Edit, Rejection | None]:
    """The edit with the counterfactual's label, and why it is not of the kind that its variable makes, if so."""
    if edit.text == row.text:
        return edit, Rejection("unchanged", "the edit leaves the text as it is")
    if edit.after == edit.before:
        return edit, Rejection("unchanged", f"the edit leaves {edit.variable} at {edit.before!r}")
    try:
        after = spec.values_in(Row(edit.text, row.label, row.columns))
    except SpecError as error:
        return edit, Rejection("contradicts the spec", str(error))
    for name in before:
        if name != edit.variable and after[name] != before[name]:
            told = f"the edit of {edit.variable} changes {name} too: {before[name]} to {after[name]}"
            return edit, Rejection("mixed edit", told)
    if spec.kind_of(edit.variable) is PreservingPairs:
        if edit.label not in (None, row.label):
            return edit, Rejection("label disagrees", f"{edit.variable} is a cue, and the label changes with it")
        return replace(edit, label=row.label), None
    labels, label = spec.variable(edit.variable).labels or {}, edit.label
    if label is None:
        if edit.after not in labels:
            raise SpecError(
                f"nothing says which label {edit.variable} = {edit.after!r} has: give the cause its labels in the spec"
            )
        label = spec.classes.index(labels[edit.after])
    if not 0 <= label < len(spec.classes):
        raise SpecError(f"the edit has the label {label}: the spec has {len(spec.classes)} classes")
    edit = replace(edit, label=label)
    for what, value, has in (("row", edit.before, row.label), ("edit", edit.after, label)):
        if labels.get(value, spec.classes[has]) != spec.classes[has]:
            told = f"{edit.variable} = {value!r} goes with {labels[value]!r}, and the {what} has {spec.classes[has]!r}"
            return edit, Rejection("label disagrees", told)
    if label == row.label:
        told = f"{edit.variable} is a cause, and the label stays {spec.classes[label]!r}"
        return edit, Rejection("label disagrees", told)
    return edit, None


def _require_label(row: Row, spec: Spec) -> None:
    if row.label >= len(spec.classes):
        raise SpecError(
            f"{row.text!r} has the label {row.label}: the spec has {len(spec.classes)} classes, "
            f"{', '.join(spec.classes)}"
        )
