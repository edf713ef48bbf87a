"""How a variable goes with the label in the data: an association, which may be of any cause."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np

from icp.counterfactual.rows import rows_of
from icp.counterfactual.spec import Spec
from icp.errors import DataError, SpecError
from icp.statistics import share_interval


def association(
    data: Iterable[Any], spec: Spec, variable: str, *, answer: int = 1, by: str | None = None, level: float = 0.95
) -> list[dict[str, Any]]:
    """Of every two values of a variable, how much more often class `answer` goes with the second than with the first.

    The risk difference, a difference of shares, has Newcombe's interval (1998, method 10); the odds ratio has Woolf's,
    with a half added to each count where one is 0 (Haldane 1956). Rows are independent; one that does not say one value
    of the variable is left out. `by` is a column: the same is told within each of its values too, where
    both values of the variable occur.

    Raises `DataError` where all rows say the same value or none, or one has no text, no label or no such column.
    """
    if not 0 <= answer < len(spec.classes):
        raise SpecError(f"answer={answer} is none of the classes {', '.join(spec.classes)}: give the index of one")
    finder, groups = spec.variable(variable).finder, defaultdict(Counter)
    for number, row in enumerate(rows_of(data)):
        if by is not None and by not in row.columns:
            raise DataError(
                f"row {number} ({row.text!r}) has no {by!r}: it has {', '.join(row.columns) or 'no columns'}"
            )
        said = {found.value for found in finder.find(row)}
        if len(said) != 1:
            continue
        told = (said.pop(), row.label == answer)
        for group in ("all",) if by is None else ("all", f"{by} = {row.columns[by]}"):
            groups[group][told] += 1
    found = [value for value in finder.values if groups["all"][value, True] or groups["all"][value, False]]
    if len(found) < 2:
        raise DataError(
            f"rows say {found[0]!r} and no other value of {variable!r}" if found else
            f"no row says one value of {variable!r}: its values are {', '.join(finder.values)}"
        )  # fmt: skip
    lines = []
    for before, after in combinations(finder.values, 2):
        for group, counts in groups.items():
            both = (np.array([counts[value, yes] for yes in (True, False)]) for value in (before, after))
            lines += [line | {"before": before, "after": after, "group": group} for line in _compared(*both, level)]
    return lines


def _compared(before: np.ndarray, after: np.ndarray, level: float) -> list[dict[str, Any]]:
    """From counts with and without the class; nothing where there is no text of one of the values."""
    from scipy.stats import norm

    if not (before.sum() and after.sum()):
        return []
    one, other = (share_interval(np.repeat([1.0, 0.0], counts), level=level) for counts in (before, after))
    difference = other["mean"] - one["mean"]
    low = difference - np.hypot(other["mean"] - other["low"], one["high"] - one["mean"])
    high = difference + np.hypot(other["high"] - other["mean"], one["mean"] - one["low"])
    count = int(before.sum() + after.sum())
    cells = np.stack([before, after]) + (0.0 if before.all() and after.all() else 0.5)
    log_odds, error = float(np.log(cells[1, 0] * cells[0, 1] / cells[1, 1] / cells[0, 0])), (1 / cells).sum() ** 0.5
    ends = np.exp(log_odds + np.array([-1, 1]) * norm.ppf(0.5 + level / 2) * error)
    return [
        {"quantity": "risk difference", "estimate": difference, "low": float(low), "high": float(high), "n": count},
        {"quantity": "odds ratio", "estimate": float(np.exp(log_odds)), "low": float(ends[0]), "high": float(ends[1]),
         "n": count},
    ]  # fmt: skip
