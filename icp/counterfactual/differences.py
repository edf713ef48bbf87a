"""Which words two texts do not share."""

import re
from difflib import SequenceMatcher

from icp.counterfactual.rows import Edit, Rejection, Row, Span
from icp.counterfactual.spec import Spec

PIECE = re.compile(r"\w+|\s+|[^\w\s]")


def differing(text: str, other: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The characters of each text that the other does not share, one for one; whole words, by `difflib`.

    Words with nothing but spaces between them make one span.
    """
    one, two = (list(PIECE.finditer(each)) for each in (text, other))
    matcher = SequenceMatcher(None, [m.group() for m in one], [m.group() for m in two], autojunk=False)
    changes: list[tuple[int, int, int, int]] = []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        if changes and all(match.group().isspace() for match in one[changes[-1][1] : a]):
            a, c = changes[-1][0], changes.pop()[2]
        changes.append((a, b, c, d))
    return (
        tuple(_span(one, a, b, len(text)) for a, b, _, _ in changes),
        tuple(_span(two, c, d, len(other)) for _, _, c, d in changes),
    )


def edit_of(row: Row, text: str, variable: str, spec: Spec) -> Edit | Rejection:
    """The edit that turns the row into this text: spans by the words that differ, values as the spec finds them.

    Rejected as `value not found` where the spec finds no value of the variable in one of the texts, or several.
    """
    finder, values = spec.variable(variable).finder, []
    for said in (row, Row(text, row.label, row.columns)):
        found = list(dict.fromkeys(one.value for one in finder.find(said)))
        if len(found) != 1:
            told = f"{said.text!r} says {' and '.join(found) or 'nothing'} for {variable}"
            return Rejection("value not found", told)
        values += found
    spans, new_spans = differing(row.text, text)
    return Edit(text, variable, *values, spans, new_spans)


def _span(pieces: list[re.Match[str]], first: int, after: int, length: int) -> Span:
    start = pieces[first].start() if first < len(pieces) else length
    return start, pieces[after - 1].end() if after > first else start
