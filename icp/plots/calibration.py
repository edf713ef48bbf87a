"""How far a model's confidence can be believed."""

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from icp.errors import IcpError
from icp.evaluation import Evaluation
from icp.metrics import CalibrationError
from icp.numerals import fixed
from icp.plots.style import INK, NEUTRAL, shortened, styled
from icp.predictions import Predictions
from icp.statistics import share_interval

COLOURS = (INK, "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MOST = len(COLOURS)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star")


def reliability(evaluation: Evaluation, models: Sequence[str] = (), level: float = 0.95) -> go.Figure:
    """The accuracy of each bin of confidence, with its Wilson interval, and how many examples each bin has.

    On the diagonal a model is right as often as it is sure to be; below it, it is too sure. The bins are those of `ece`
    (confidence 1 is a bin of its own there, and is counted with the last one here), which is named with each model. By
    default all models whose answers were kept. Raises `IcpError` where there are none, for an unknown model, and for
    more models than can be told apart.
    """
    judged = evaluation.answers
    models = list(models) or list(judged.probabilities)
    if len(models) > MOST:
        raise IcpError(f"{len(models)} models in one diagram cannot be told apart: name at most {MOST}")
    how = CalibrationError(judged.bins)
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.05)
    start = 100 * (np.floor(how.bins / len(judged.cases.answers)) / how.bins)
    figure.add_scatter(
        x=[start, 100], y=[start, 100], mode="lines", line=dict(color=NEUTRAL, width=1, dash="dot"),
        hoverinfo="skip", showlegend=False, name="diagonal", row=1, col=1,
    )  # fmt: skip
    width = 100 / how.bins
    for place, model in enumerate(models):
        found = judged.predictions(model)
        colour, name = COLOURS[place], escape(shortened(model, 30))
        bins = _bins(found, how, level)
        hover = [
            f"{name}<br>confidence {fixed(x, 1)}%<br>accuracy {fixed(y, 1)}% [{fixed(low, 1)}, {fixed(high, 1)}]"
            f"<br>{n} example{'s' * (n > 1)}"
            for _, n, x, y, low, high in bins
        ]
        numbers, counts, x, y, low, high = map(np.array, zip(*bins))
        places = np.minimum(numbers, how.bins - 1)
        counted = np.bincount(places, counts, how.bins)
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", name=f"{name}: ECE {fixed(100 * how.value(found), 1)}%", text=hover,
            line=dict(color=colour, width=1.5), marker=dict(size=8, symbol=SYMBOLS[place]), legendgroup=model,
            error_y=dict(array=high - y, arrayminus=y - low, color=colour, thickness=1, width=3),
            hovertemplate="%{text}<extra></extra>", row=1, col=1,
        )  # fmt: skip
        figure.add_bar(
            x=(np.unique(places) + 0.5) * width, y=counted[np.unique(places)], marker=dict(color=colour),
            hovertemplate=f"{name}<br>%{{y}} examples<extra></extra>", showlegend=False, legendgroup=model,
            name=f"{name}: examples", row=2, col=1,
        )  # fmt: skip
    styled(figure, height=560)
    figure.update_layout(bargap=0.15)
    figure.update_xaxes(range=[start - 1, 101], tickmode="linear", tick0=0, dtick=10 if start else 20)
    figure.update_xaxes(title="confidence: probability of the answer given, %", row=2, col=1)
    figure.update_yaxes(title="accuracy, %", range=[-3, 103], row=1, col=1)
    figure.update_yaxes(title="examples", rangemode="tozero", row=2, col=1)
    return figure


def _bins(found: Predictions, how: CalibrationError, level: float) -> list[tuple[int | float, ...]]:
    """Of each bin that has examples: its number, their count, mean confidence, and accuracy with its interval, in %."""
    numbers = how.bin_of(found.confidence)
    right = (found.probabilities.argmax(1) == found.cases.labels).astype(float)
    bins = []
    for number in np.unique(numbers):
        mine = numbers == number
        share = share_interval(right[mine], found.cases.clusters[mine], level)
        confidence = float(found.confidence[mine].mean())
        bins.append((int(number), int(mine.sum()), *(100 * v for v in (confidence, *list(share.values())[:3]))))
    return bins
