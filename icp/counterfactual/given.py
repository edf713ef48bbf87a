"""Pairs that are there already, such as those that people wrote, with their edits marked and checked as any others."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from icp.counterfactual.difference import edited_spans
from icp.counterfactual.editors import Editor
from icp.counterfactual.finders import Column, Finder
from icp.counterfactual.made import MadePairs, table_of
from icp.counterfactual.make import make_pairs
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec
from icp.counterfactual.validator import Validator
from icp.data.text_pairs import TextPairs
from icp.errors import SpecError
from icp.pairs import FlippingPairs

COUNTERPART = "counterpart"
LABEL, VALUE, NEW_VALUE = "counterpart_label", "group", "counterpart_group"


@dataclass(frozen=True)
class Given(Editor):
    """The counterparts that rows bring along, in the column `counterpart`, as edits of one variable.

    What was edited are the tokens that differ. A `counterpart_label` is the label of the counterpart. The variable's
    values before and after are `group` and `counterpart_group` where the rows have them. Without them they are the
    names of the classes where the edit is of a cause, and the edited words in lower case where it is of a cue.
    """

    variable: str

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)

    @property
    def reads(self) -> tuple[str, ...]:
        return (COUNTERPART, LABEL, NEW_VALUE)

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        text, label = row.columns.get(COUNTERPART), row.columns.get(LABEL)
        if not isinstance(text, str) or not text.strip():
            yield Rejection("no counterpart", f"the row has the {COUNTERPART} {text!r}: give one in that column")
            return
        if label is not None:
            if label not in range(len(spec.classes)):
                told = f"the counterpart {text!r} has the label {label!r}: the spec has {len(spec.classes)} classes"
                yield Rejection("contradicts the spec", told)
                return
            label = int(label)
        spans, new_spans = edited_spans(row.text, text)
        flips = spec.kind_of(self.variable) is FlippingPairs
        before, after = row.columns.get(VALUE), row.columns.get(NEW_VALUE)
        if before is None or after is None:
            before, after = _words(row.text, spans), _words(text, new_spans)
            if flips and label is not None:
                before, after = spec.classes[row.label], spec.classes[label]
        if flips and label is None and after not in (spec.variable(self.variable).labels or {}):
            told = f"the counterpart {text!r} has no {LABEL}, and {self.variable} = {after!r} has none in the spec"
            yield Rejection("no text or label", told)
            return
        yield Edit(text, self.variable, str(before), str(after), spans, new_spans, label)


def given_pairs(
    pairs: TextPairs,
    variable: str,
    *,
    spec: Spec,
    validators: Sequence[Validator] = (),
    folder: "str | Path | None" = None,
    progress: bool = True,
) -> MadePairs:
    """Pairs of a data set, such as `icp.data.cad_imdb(...)`, as if `make_pairs` had made them by editing `variable`.

    A column by which the variable is found, and which the data set does not have, is the `group` of a text or else its
    class, where that is one of the variable's values.

    Raises `SpecError` where they are of another kind than edits of this variable, or of other classes than the spec's.
    """
    if spec.kind_of(variable) is not pairs.kind:
        raise SpecError(
            f"these pairs are {pairs.kind.kind}, and edits of {variable!r} make {spec.kind_of(variable).kind} ones: "
            "name a cause for pairs whose label flips, and a cue for those that keep it"
        )
    if pairs.classes != spec.classes:
        raise SpecError(f"the pairs have the classes {', '.join(pairs.classes)}, the spec {', '.join(spec.classes)}")
    finder = spec.variable(variable).finder
    rows = [_row(one, other, finder, spec) for one, other in pairs]
    return make_pairs(rows, edit=Given(variable), spec=spec, validators=validators, folder=folder, progress=progress)


def pairs_again(
    made: "str | Path",
    variable: str,
    *,
    spec: Spec,
    validators: Sequence[Validator] = (),
    folder: "str | Path | None" = None,
    progress: bool = True,
) -> MadePairs:
    """The pairs of a folder that was changed since it was written, checked row by row as if somebody had given them.

    `MadePairs.load` refuses such a folder whole. Here the rows that are still pairs of edits of `variable` are kept,
    and each of the others is rejected with its reason. Raises `ArtefactError` where there are no rows to read.
    """
    rows = _stored(table_of(made))
    return make_pairs(rows, edit=Given(variable), spec=spec, validators=validators, folder=folder, progress=progress)


def _stored(table: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """Rows as `Given` reads them; one whose columns cannot be read is left as it is, which is no row."""
    for stored in table:
        try:
            columns = dict(json.loads(stored["columns"]))
        except (ValueError, TypeError):
            yield str(stored)
            continue
        values = {VALUE: stored["before"], NEW_VALUE: stored["after"]}
        texts = {name: stored[name] for name in ("text", "label", COUNTERPART, LABEL)}
        yield columns | values | texts


def _row(one: Any, other: Any, finder: Finder, spec: Spec) -> Row:
    more = {part.name: getattr(one, part.name) for part in fields(one) if part.name not in ("text", "label")}
    told = {name: value for name, value in more.items() if value is not None}
    if isinstance(finder, Column) and finder.name not in told:
        said = spec.classes[one.label] if one.group is None else one.group
        told[finder.name] = said if said in finder.values else None
    told |= {COUNTERPART: other.text, LABEL: other.label}
    return Row(one.text, one.label, told if other.group is None else told | {NEW_VALUE: other.group})


def _words(text: str, spans: Sequence[tuple[int, int]]) -> str:
    return ", ".join(dict.fromkeys(text[start:stop].lower() for start, stop in spans))
