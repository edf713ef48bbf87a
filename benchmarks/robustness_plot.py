"""The picture of the planted-cue study: what each method trades, and how many units it takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from icp.plots.style import INK, NEGATIVE, NEUTRAL, POSITIVE, styled

PANELS = ("Each method: what it trades", "Regularised units", "Heads with an erased direction, no training")
LINES = {
    "chosen": ("by indirect effect", POSITIVE, 2), "random": ("at random", NEUTRAL, 2),
    "erased": ("by indirect effect", POSITIVE, 3), "erased at random": ("at random", NEUTRAL, 3),
}  # fmt: skip
PIXELS = np.array([560.0, 330.0])
"""About how many the points of the first panel spread over."""
TUNED = {"chosen": "icp_reg", "random": "random_reg"}
"""The methods whose tuned sets are points of a line too."""
LEVELS = {"erm": ("plain fine-tuning", "dot"), "consistency": ("consistency", "dash")}


def pareto(points: np.ndarray) -> list[int]:
    """Which points [point, 2] no other one matches or exceeds in both, with the first the largest."""
    return [
        row
        for row in np.lexsort((-points[:, 1], -points[:, 0])).tolist()
        if not any((other >= points[row]).all() and (other > points[row]).any() for other in points)
    ]


def picture(found: Mapping[str, Any]) -> go.Figure:
    """Three panels: aligned against inverted accuracy with the Pareto front, and inverted over the sizes of sets.

    Bars are 95% intervals over seeds and sentences. Our methods are red.
    """
    methods = found["methods"]
    figure = make_subplots(1, 3, subplot_titles=PANELS, column_widths=[0.5, 0.25, 0.25], horizontal_spacing=0.07)
    names = list(methods)
    points = np.array([[methods[name]["inverted"], methods[name]["aligned"]] for name in names])
    front = points[pareto(points)]
    figure.add_scatter(
        x=front[:, 0], y=front[:, 1], mode="lines", line=dict(color=INK, width=1, dash="dot"), hoverinfo="skip",
        showlegend=False, row=1, col=1,
    )  # fmt: skip
    for ours, color, label in ((False, NEUTRAL, "compared with"), (True, POSITIVE, "ours")):
        mine = [name for name in names if name.startswith("icp_") == ours]
        at = points[[names.index(name) for name in mine]].reshape(-1, 2)
        bars = [[_half(methods[name], what) for name in mine] for what in ("inverted", "aligned")]
        figure.add_scatter(
            x=at[:, 0], y=at[:, 1], mode="markers", text=mine, name=label, marker=dict(color=color, size=9),
            error_x=dict(array=bars[0], thickness=1, width=0), error_y=dict(array=bars[1], thickness=1, width=0),
            row=1, col=1,
        )  # fmt: skip
    for name, point, (right, up) in zip(names, points, beside(points, names)):
        figure.add_annotation(
            x=point[0], y=point[1], text=name, ax=right, ay=-up, arrowwidth=0.5, arrowhead=0, standoff=5,
            arrowcolor=NEUTRAL, font=dict(color=POSITIVE if name.startswith("icp_") else INK, size=12), row=1, col=1,
        )  # fmt: skip
    for name, (label, color, column) in LINES.items():
        sizes = dict(found["curve"].get(name, {}))
        if (tuned := TUNED.get(name)) in methods:
            sizes[str(methods[tuned]["settings"]["units"])] = methods[tuned]
        counts = sorted(map(int, sizes))
        if counts:
            rows = [sizes[str(count)] for count in counts]
            figure.add_scatter(
                x=counts, y=[row["inverted"] for row in rows], name=f"chosen {label}", legendgroup=label,
                showlegend=column == 2, line=dict(color=color), marker=dict(size=8), mode="lines+markers",
                error_y=dict(array=[_half(row, "inverted") for row in rows], thickness=1, width=0), row=1, col=column,
            )  # fmt: skip
    for name, (label, dash) in LEVELS.items():
        for column in (2, 3) if name in methods else ():
            figure.add_hline(
                y=methods[name]["inverted"], line=dict(color=NEGATIVE, width=1, dash=dash), row=1, col=column,
                annotation=dict(text=label, font=dict(color=NEGATIVE, size=12)), annotation_position="bottom right",
            )  # fmt: skip
    styled(figure, 520)
    figure.update_xaxes(title="accuracy with the cue inverted, %", row=1, col=1)
    figure.update_yaxes(title="accuracy with the cue aligned, %", row=1, col=1)
    for column, title in ((2, "units, of 46,350"), (3, "heads, of 270")):
        figure.update_xaxes(type="log", title=title, tickvals=[3, 10, 30, 100, 300, 1000, 3000], row=1, col=column)
        figure.update_yaxes(title="inverted, %", row=1, col=column)
    return figure.update_layout(width=1500, margin=dict(t=90), legend=dict(y=1.1))


def _half(row: Mapping[str, Any], what: str) -> float:
    ends = row[f"{what}_ci"]
    return 0.0 if ends is None else (ends[1] - ends[0]) / 2


def beside(points: np.ndarray, names: Sequence[str]) -> list[tuple[int, int]]:
    """How many pixels right of each point and above it its name stands, clear of the points and of other names.

    The nearest free place of each in turn; where none is free, the one that covers the least.
    """
    span = np.maximum(points.max(0) - points.min(0), 1e-9)
    pixels = (points - points.min(0)) / span * PIXELS
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in pixels]
    offsets = []
    for name, (x, y) in zip(names, pixels):
        wide, best = 4 + 3.5 * len(name), None
        for radius in (14, 26, 40, 56, 74, 94, 116):
            for angle in range(0, 360, 30):
                right = round(np.cos(np.radians(angle)) * (radius + wide))
                up = round(np.sin(np.radians(angle)) * radius)
                box = (x + right - wide, y + up - 9, x + right + wide, y + up + 9)
                cost = sum(_overlap(box, other) for other in taken) + 0.01 * radius
                if best is None or cost < best[0]:
                    best = (cost, (right, up), box)
        offsets.append(best[1])
        taken.append(best[2])
    return offsets


def _overlap(one: tuple, other: tuple) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)
