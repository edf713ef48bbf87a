"""A page that shows pairs with their edits marked, what was rejected and why, and the graph that was declared."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from icp.counterfactual.difference import edited_spans, outside
from icp.counterfactual.graph import causal_graph
from icp.counterfactual.made import MadePairs
from icp.counterfactual.rows import Edit, Row, Span
from icp.counterfactual.spec import Spec
from icp.page import Cell, Html, Section, element, joined, page, paragraph, table
from icp.report import Report

LONGEST = 160
"""Characters of a text without an edit that are shown; of more, both ends are."""
BATCH = 10_000


def show(made: MadePairs, title: str = "Counterfactual pairs", *, count: int = 20, of_each_reason: int = 5) -> Report:
    """A page with `count` of the pairs, spread evenly over them, and as many rejections of each reason as asked for.

    What the edit takes out of a text is struck through there, and what it puts in is marked in the counterpart.
    """
    sections = [_yields(made), _pairs(made, count), _rejections(made, of_each_reason), _declared(made.spec)]
    edited = sorted(set(made.table.unique("variable")))
    subtitle = f"{len(made):,} {made.kind.kind} pairs" + (f": edits of {', '.join(edited)}" if edited else "")
    return Report(title, page(title, subtitle, [section for section in sections if section is not None]))


def _yields(made: MadePairs) -> Section:
    rows = [
        [outcome, Cell(f"{int(row['count']):,}", row["count"]), Cell(f"{row['share']:.1%}", row["share"])]
        for outcome, row in made.yields.iterrows()
    ]
    text = (
        f"{made.counts['rows']:,} rows of data, {made.counts['proposed']:,} proposed edits. A row without any is "
        "counted under the reason why there is none."
    )
    return Section("yield", "Yield", joined([paragraph(text), table(["outcome", "count", "share"], rows)]))


def _declared(spec: Spec) -> Section:
    rows = [
        [role, variable.name, _finder(variable.finder.stored), ", ".join(variable.finder.values), _labels(variable)]
        for role, variables in (("cause", spec.causes), ("cue", spec.cues))
        for variable in variables
    ]
    text = (
        f"The text is {spec.direction} for the label, {spec.label} ({', '.join(spec.classes)}): "
        + ("causes settle it" if spec.direction == "causal" else "it settles what the text says of the causes")
        + ", and cues only go with it (dashed). Edits of a cue keep the label, edits of a cause turn it."
    )
    head = ["", "variable", "found by", "values", "labels"]
    return Section("spec", "What was declared", joined([paragraph(text), causal_graph(spec), table(head, rows)]))


def _finder(stored: dict[str, Any]) -> str:
    form = next(name for name in ("lexicon", "patterns", "column", "classifier") if name in stored)
    return form if form == "patterns" else f"{form} {stored[form]}"


def _labels(variable: Any) -> str:
    return ", ".join(f"{value}: {label}" for value, label in (variable.labels or {}).items())


def _pairs(made: MadePairs, count: int) -> Section | None:
    places = _spread(range(len(made)), count)
    if not places:
        return None
    rows = [_pair(*made[place], made.spec) for place in places]
    text = f"{len(rows):,} of {len(made):,}, spread evenly. Long passages without an edit are shortened."
    body = joined([paragraph(text, class_="note"), table(["", "text", "counterpart"], rows, class_="pairs")])
    return Section("pairs", "Pairs", body)


def _pair(row: Row, edit: Edit, spec: Spec) -> list[Any]:
    values = f"{edit.variable}: {edit.before} to {edit.after}"
    labels = " to ".join(dict.fromkeys(spec.classes[label] for label in (row.label, edit.label) if label is not None))
    said = element("span", values, *(() if values.endswith(f": {labels}") else (Html("<br>"), labels)), class_="note")
    return [said, _marked(row.text, edit.spans, "del"), _marked(edit.text, edit.new_spans, "ins")]


def _rejections(made: MadePairs, of_each: int) -> Section | None:
    of_reason: dict[str, list[int]] = defaultdict(list)
    for start in range(0, len(made.rejected), BATCH):
        for place, reason in enumerate(made.rejected[start : start + BATCH]["reason"], start):
            of_reason[reason].append(place)
    if not of_reason or of_each < 1:
        return None
    rows: list[list[Any]] = []
    for reason, count in made.counts["rejected"].items():
        rows.append([f"{reason} ({count:,})"])
        rows += [_rejection(made.rejected[place]) for place in _spread(of_reason[reason], of_each)]
    text = f"At most {of_each} of each reason, spread evenly."
    body = joined([paragraph(text, class_="note"), table(["why", "text", "counterpart"], rows, class_="pairs")])
    return Section("rejected", "Rejected", body)


def _rejection(stored: dict[str, Any]) -> list[Any]:
    text, other = stored["text"], stored["counterpart"]
    why = element("span", stored["told"], class_="note")
    if other is None:
        return [why, _marked(text, (), "del"), ""]
    spans, new_spans = edited_spans(text, other)
    return [why, _marked(text, spans, "del"), _marked(other, new_spans, "ins")]


def _marked(text: str, spans: Sequence[Span], tag: str) -> Html:
    """The text with the spans in elements of this kind."""
    kept = outside(text, tuple(spans))
    parts: list[Any] = [_shortened(kept[0], first=True, last=len(kept) == 1)]
    for place, (start, stop) in enumerate(spans, 1):
        parts += [element(tag, text[start:stop]), _shortened(kept[place], last=place == len(kept) - 1)]
    return joined(parts)


def _shortened(text: str, first: bool = False, last: bool = False) -> str:
    """The ends of a text that lie beside an edit, or its beginning where it has none."""
    if len(text) <= LONGEST:
        return text
    if first and last:
        return f"{text[:LONGEST].rsplit(None, 1)[0]} …"
    half = LONGEST // 2
    head, tail = text[:half].rsplit(None, 1)[0], text[-half:].split(None, 1)[-1]
    return ("" if first else head + " ") + "…" + ("" if last else " " + tail)


def _spread(places: Sequence[int], count: int) -> list[int]:
    """At most so many of them, evenly spaced."""
    if len(places) <= count:
        return list(places)
    return [places[len(places) * number // count] for number in range(count)]
