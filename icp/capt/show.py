"""A page that shows prompts beside their abstract texts, with events marked, and what was refused and why."""

from collections import Counter
from collections.abc import Mapping

from icp.capt.abstracted import Abstracted
from icp.capt.abstraction import Abstraction
from icp.capt.validate import Abstractions
from icp.page import Cell, Html, Section, element, joined, page, paragraph, table
from icp.report import Report


def show(
    found: Abstractions, about: Mapping[str, str], title: str = "Abstractions", *, count: int = 20, each: int = 5
) -> Report:
    """A page with `count` of the rows, spread evenly over them, and `each` refusals of every reason."""
    told = Counter(row.abstraction.slots for row in found.rows)
    whole = len(found.rows) + len(found.refused)
    outcomes = [("valid", len(found.rows)), *found.reasons.most_common()]
    shares = [[name, _counted(n), Cell(f"{n / max(whole, 1):.1%}", n / max(whole, 1))] for name, n in outcomes]
    events = [[str(slots), _counted(n)] for slots, n in sorted(told.items())]
    step = max(1, len(found.rows) // count)
    sections = [
        Section("yield", "Yield", table(["outcome", "count", "share"], shares)),
        Section("events", "Events of a prompt", table(["events", "prompts"], events)),
        Section("rows", "Prompts", joined([_row(row) for row in found.rows[::step][:count]])),
    ]
    refused = [
        [reason, one.told]
        for reason in found.reasons for one in [one for one in found.refused if one.reason == reason][:each]
    ]  # fmt: skip
    if refused:
        sections.append(Section("refused", "Refused", table(["reason", "of"], refused)))
    subtitle = f"{len(found.rows):,} of {whole:,} prompts; {', '.join(f'{k}: {v}' for k, v in about.items())}"
    return Report(title, page(title, subtitle, sections))


def _counted(n: int) -> Cell:
    return Cell(f"{n:,}", float(n))


def _row(row: Abstracted) -> Html:
    answer = paragraph("Answer: ", element("b", row.problem.answer))
    return joined([paragraph(marked(row.abstraction)), paragraph(row.abstraction.text), answer, element("hr")])


def marked(found: Abstraction) -> Html:
    """The prompt with its events marked and numbered, and those said not to hold struck through."""
    parts, at = [], 0
    for mention in found.mentions:
        words = found.surface(mention)
        told = element("s", words) if mention.holds is False else words
        parts += (found.prompt[at : mention.start], element("mark", told, element("sub", str(mention.slot + 1))))
        at = mention.stop
    return joined([*parts, found.prompt[at:]])
