"""Which answers changed from one model to another, with examples."""

import math
from collections.abc import Mapping
from typing import Any

from icp.alignment import differing_words
from icp.changed import KINDS, ChangedAnswers
from icp.numerals import fixed, interval, number
from icp.page import Cell, Html, Section, element, folded, joined, paragraph, table

SHOWN, MOST = 6, 60
MEANING = {"mended": "wrong → right", "broken": "right → wrong", "other": "wrong → wrong, or no label"}


def changed(comparisons: Mapping[str, ChangedAnswers]) -> Section | None:
    """Counts of what was mended and broken, and the largest changes, word by word."""
    if not comparisons:
        return None
    body = []
    for name, found in comparisons.items():
        heading = element("h3", name) if len(comparisons) > 1 else ""
        body.append(joined([heading, *(_changes(found) if found.changed.any() else [_none(found)])]))
    return Section("answers", "Which answers changed", joined(body))


def _none(found: ChangedAnswers) -> Html:
    most = found.counts().loc["any", "high"]
    bound = f": the 95% interval of their share (Wilson's) reaches up to {most:.1%}" if math.isfinite(most) else ""
    return paragraph(
        f"None of the {len(found):,} answers changed from {found.names[0]} to {found.names[1]}. That does not say that "
        f"none ever would{bound}. Probabilities may have moved without turning an answer."
    )


def _changes(found: ChangedAnswers) -> list[Html]:
    before, after = found.names
    counts = found.counts()
    total = counts.loc["any"]
    parts = ", ".join(f"{int(counts.loc[kind, 'n']):,} {kind} ({MEANING[kind]})" for kind in KINDS)
    share = interval(100 * total["low"], 100 * total["high"], 1)
    lead = [
        f"From {before} to {after}, {int(total['n']):,} of {len(found):,} answers changed ({total['share']:.1%}, "
        f"95% interval {share or 'n/a'}): {parts}.",
        _accuracy(found),
    ]
    if found.counterparts is not None:
        lead.append(
            f" Where an answer changed, {before} had answered x and x' differently in {int(total['split_before']):,} "
            f"cases, and {after} does in {int(total['split_after']):,}: there what x and x' differ in decides."
        )
    body = [paragraph(*lead), _counted(found), _grouped(found), *_examples(found)]
    caption = (
        "Examples are those of the largest change in log odds of the right answer (of the new one, where no right one "
        "is known); of two answers, that is their logit difference. prob.: its probability among the answers. "
        "Intervals are Wilson's."
    )
    if any(example.counterpart is not None for example in found.probe.examples):
        caption += " Marked are the words in which x and x' differ; after ⇄, in small print, those of x'."
    return [*body, paragraph(caption, class_="note")]


def _accuracy(found: ChangedAnswers) -> str:
    if (found.labels < 0).any():
        return ""
    row = found.accuracy()
    change, low, high = (100 * row[key] for key in ("mean", "low", "high"))
    said = f" Accuracy changes by {fixed(change, 1, '+')} points, {interval(low, high, 1, '+') or 'n/a'}, paired"
    if math.isnan(row["p"]):
        return said + " (McNemar's test is left out: it takes examples for independent, and some share words)."
    return said + f" (McNemar's exact test: p {'< 0.0001' if row['p'] < 1e-4 else '= ' + number(row['p'])})."


def _counted(found: ChangedAnswers) -> Html:
    head = ["", "answers", "share", "95% interval"]
    extra = {}
    if found.counterparts is not None:
        before, after = found.names
        extra = {
            "counterpart_changed": "answer to x' changed too",
            "split_before": f"x and x' answered apart by {before}",
            "split_after": f"by {after}",
        }
    rows = []
    for kind, row in found.counts().iterrows():
        label = "changed" if kind == "any" else f"{kind} ({MEANING[kind]})"
        shares = Cell(f"{row['share']:.1%}", row["share"]), interval(100 * row["low"], 100 * row["high"], 1)
        rows.append([label, _count(row["n"]), *shares, *(_count(row[column]) for column in extra)])
    return table([*head, *extra.values()], rows)


def _grouped(found: ChangedAnswers) -> Html:
    groups = found.groups()
    if len(groups) < 2:
        return Html("")
    rows = [
        [right.strip() or "none known", group or "none", _count(row["n"]), *(_count(row[kind]) for kind in KINDS)]
        for (right, group), row in groups.iterrows()
    ]
    return table(["right answer", "group", "examples", *KINDS], rows)


def _count(count: Any) -> Cell:
    return Cell(f"{int(count):,}", float(count))


def _examples(found: ChangedAnswers) -> list[Html]:
    """The largest changes of each kind, and more on a click."""
    shown: list[list[Any]] = []
    more: list[list[Any]] = []
    frame = found.table()
    for kind in KINDS:
        rows = [_example(row) for _, row in frame[frame["kind"] == kind].iterrows()]
        few, rest = rows[:SHOWN], rows[SHOWN:]
        for part, into in ((few, shown), (rest, more)):
            if part:
                into += [[f"{kind} ({MEANING[kind]})"], *part[:MOST]]
    has = found.counterparts is not None
    head = ["text", "group", "right", *found.names, "prob.", "", "change, logits", *(["answers to x'"] if has else [])]
    body = [table(head, shown, class_="examples")]
    if more:
        left = len(frame) - sum(len(row) > 1 for row in [*shown, *more])
        rest = f" ({left:,} further ones are in the artefact)" if left else ""
        body.append(folded(f"More examples{rest}", table(head, more, class_="examples")))
    return body


def _example(row: Any) -> list[Any]:
    before, after = (Cell(fixed(row[name], 2), row[name]) for name in ("p_before", "p_after"))
    cells = [
        _marked(row["text"], row["counterpart"]),
        row["group"] or "",
        *(_answer(row[name]) for name in ("right", "before", "after")),
        *(before, Cell(f"→ {after.shown}", after.value), Cell(fixed(row["change"], 1, "+"), row["change"])),
    ]
    if "counterpart_before" in row:
        theirs = [_answer(row[f"counterpart_{when}"]) for when in ("before", "after")]
        cells.append(" → ".join(theirs) if theirs[0] != theirs[1] else theirs[0])
    return cells


def _answer(answer: str | None) -> str:
    return "none" if answer is None else answer.strip()


def _marked(text: str, counterpart: str | None) -> Html:
    """The text, with the words marked in which its counterpart differs, and those of the counterpart beside them."""
    parts: list[Any] = []
    for mine, theirs in differing_words(text, text if counterpart is None else counterpart):
        mine, theirs = (part.replace("\n", " ⏎ ") for part in (mine, theirs))
        if mine == theirs:
            parts.append(mine)
            continue
        parts.append(element("mark", mine, element("small", f"⇄ {theirs.strip() or 'nothing'}")))
    return joined(parts)
