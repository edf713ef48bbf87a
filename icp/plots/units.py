"""Pictures of single units: where the cue is carried, and how P answers to a dose."""

import re
from collections.abc import Collection
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from icp.audit import paired, unit_means
from icp.effects import Effects
from icp.errors import IcpError
from icp.numerals import number
from icp.plots.style import (
    DIVERGING,
    INK,
    NEGATIVE,
    NEUTRAL,
    PALE,
    POSITIVE,
    and_unit,
    columns_for,
    figure_of,
    hover_of,
    label_points,
    rounded,
    styled,
    ticks,
    wrapped,
)
from icp.scores import Scores
from icp.units import Unit, site_name

KEPT, SAMPLED = 1000, 1500
NO_NUMBER = "NaN or infinite"


def head_map(
    source: "Scores | Effects", n_layers: int, n_heads: int, chosen: Collection[Unit] = (), intervention: str = ""
) -> go.Figure:
    """Every head's mean effect: blocks across, heads down. `chosen` ones are framed.

    Heads that were not measured, or for which the model gave no finite P, stay grey.
    """
    values, errors, title, unit_of_P = _judged(source, intervention)
    z, se = np.full((2, n_heads, n_layers), np.nan)
    tower = next((unit.tower for unit in source.units), None)
    names = [[f"{site_name('head', layer, tower)}[{head}]" for layer in range(n_layers)] for head in range(n_heads)]
    for unit, value, error in zip(source.units, values, errors):
        if unit.kind == "head":
            z[unit.index[0], unit.layer], se[unit.index[0], unit.layer] = value, error
    if np.isnan(z).all():
        raise IcpError("no head was measured: there is nothing to map")
    most = float(np.nanmax(np.abs(z))) or 1.0
    infinite = {str(unit) for unit, value in zip(source.units, values) if np.isnan(value)}
    hover = [
        [hover_of(z[h, x], se[h, x], unit_of_P) if np.isfinite(z[h, x]) else NO_NUMBER if names[h][x] in infinite
         else "not measured" for x in range(n_layers)] for h in range(n_heads)
    ]  # fmt: skip
    scale = dict(text=wrapped(and_unit(title, unit_of_P), 22), font=dict(size=13))
    heat = go.Heatmap(
        z=z, zmid=0, zmin=-most, zmax=most, colorscale=DIVERGING, xgap=1, ygap=1, customdata=names, text=hover,
        hovertemplate="%{customdata}<br>%{text}<extra></extra>", hoverongaps=True,
        colorbar=dict(title=scale, thickness=12, outlinewidth=0, len=1.0),
    )  # fmt: skip
    figure = figure_of([heat], height=max(230, 110 + 24 * n_heads))
    framed = [unit for unit in chosen if unit.kind == "head"]
    if framed:
        frame = dict(symbol="square-open", size=19, color=INK, line=dict(width=2))
        x, y = [unit.layer for unit in framed], [unit.index[0] for unit in framed]
        figure.add_scatter(x=x, y=y, mode="markers", marker=frame, name="selected", hoverinfo="skip", showlegend=True)
    figure.update_xaxes(title="block", range=[-0.5, n_layers - 0.5], tickvals=ticks(n_layers), showgrid=False)
    figure.update_yaxes(title="head", range=[n_heads - 0.5, -0.5], tickvals=ticks(n_heads), showgrid=False)
    figure.update_layout(plot_bgcolor=PALE)
    return figure


def neuron_strip(
    source: "Scores | Effects", chosen: Collection[Unit] = (), keep: int = KEPT, sample: int = SAMPLED,
    intervention: str = "", labels: int = 8,
) -> go.Figure:  # fmt: skip
    """Every neuron's mean effect: blocks across, and within a block the neurons by their index.

    So that the file stays small, the `keep` neurons of largest absolute effect are all drawn, and `sample` of the rest
    by a draw with seed 0; the plot says so, and how many the model gave no finite P for.
    """
    values, errors, title, unit_of_P = _judged(source, intervention)
    units = source.units
    every = [row for row, unit in enumerate(units) if unit.kind == "neuron"]
    neurons = [row for row in every if np.isfinite(values[row])]
    if not neurons:
        raise IcpError("no neuron was measured: there is nothing to draw")
    units, values, errors = [units[row] for row in neurons], values[neurons], errors[neurons]
    width = max(unit.index[0] for unit in units) + 1
    place = np.array([unit.layer - 0.42 + 0.84 * unit.index[0] / width for unit in units])
    shown, drawn, threshold = _thinned(values, keep, sample)
    names = np.array([str(unit) for unit in units])
    hover = np.array([hover_of(v, e, unit_of_P) for v, e in zip(values, errors)])
    traces = []
    for rows, name, marker in (
        (drawn, "sample of the rest", dict(size=3, color="#c3c8cf")),
        (shown, "largest effects", dict(size=5, color=np.where(values[shown] > 0, POSITIVE, NEGATIVE).tolist())),
    ):
        traces.append(
            go.Scatter(
                x=place[rows].round(3), y=rounded(values[rows]), mode="markers", marker=marker, name=name,
                customdata=names[rows], text=hover[rows], hovertemplate="%{customdata}<br>%{text}<extra></extra>",
                showlegend=False,
            )
        )  # fmt: skip
    figure = figure_of(traces, height=420)
    wanted = set(chosen)
    ringed = [row for row, unit in enumerate(units) if unit in wanted]
    if ringed:
        ring = dict(symbol="circle-open", size=11, color=INK, line=dict(width=1.8))
        figure.add_scatter(
            x=place[ringed], y=values[ringed], mode="markers", marker=ring, name="selected", hoverinfo="skip",
            showlegend=True,
        )  # fmt: skip
    first, last = min(unit.layer for unit in units), max(unit.layer for unit in units)
    margin = 0.06 * (float(np.ptp(values)) or 1.0)
    x_range, y_range = [first - 0.6, last + 0.6], [float(values.min()) - margin, float(values.max()) + margin]
    named = sorted(ringed, key=lambda row: -abs(values[row]))
    label_points(figure, place, values, units, labels, named, x_range, y_range, (780, 310))
    said = f"all {len(units):,} neurons measured"
    if len(drawn):
        said = f"{len(units):,} neurons: all {len(shown):,} with |effect| of {number(threshold)} or more are drawn"
        said += f",<br>and a sample (seed 0) of {len(drawn):,} of the other {len(units) - len(shown):,}"
    if len(neurons) < len(every):
        said += f"<br>and {len(every) - len(neurons):,} not drawn: {NO_NUMBER}"
    figure.add_annotation(
        text=said, xref="paper", yref="paper", x=0, y=1.0, xanchor="left", yanchor="bottom", showarrow=False,
        align="left", font=dict(size=12, color="#5a6270"),
    )  # fmt: skip
    figure.update_xaxes(title="block", range=x_range, tickvals=ticks(last + 1, first), showgrid=False)
    figure.update_yaxes(title=and_unit(title, unit_of_P), range=y_range, zeroline=True, zerolinecolor=NEUTRAL)
    return figure


def dose_response(doses: Effects, most: int = 6) -> go.Figure:
    """One panel a unit: how P moves as the unit is multiplied by alpha.

    For effects of a `PairGap` it is the change of the gap between x and x', below zero where it narrows; otherwise the
    mean dP, towards the counterpart where there is one. Bands are one standard error. The `most` units with the largest
    change are shown, with a gap where the model gave no finite P. Raises `IcpError` where no `Scale` was measured.
    """
    found = sorted((float(m[1]), label) for label in doses.interventions if (m := re.match(r"scale:(.+)$", label)))
    if not found:
        raise IcpError(f"no Scale(alpha) was measured: there are {', '.join(doses.interventions)}")
    alphas = [alpha for alpha, _ in found]
    means, errors = np.array([unit_means(doses, label) for _, label in found]).transpose(1, 2, 0)
    units, unit_of_P = doses.units, doses.header["unit_of_P"]
    gap, intact = doses.header["property"].startswith("PairGap("), float(np.abs(doses.clean).mean())
    if gap:
        means = -means
    finite = np.nan_to_num(means)
    order = np.argsort(-np.abs(finite).max(1), kind="stable")[:most]
    columns = columns_for(len(order))
    rows = -(-len(order) // columns)
    each, between = 150, 55
    area = rows * each + (rows - 1) * between
    figure = make_subplots(
        rows, columns, shared_xaxes=True, shared_yaxes="all", horizontal_spacing=0.03,
        vertical_spacing=between / area * (rows > 1), subplot_titles=[str(units[unit]) for unit in order],
    )  # fmt: skip
    for panel, unit in enumerate(order):
        at = dict(row=panel // columns + 1, col=panel % columns + 1)
        y, low, high = means[unit], means[unit] - errors[unit], means[unit] + errors[unit]
        if np.isfinite(low).all():
            figure.add_scatter(
                x=alphas + alphas[::-1], y=[*high, *low[::-1]], mode="lines", fill="toself", line=dict(width=0),
                fillcolor="rgba(33,102,172,0.22)", hoverinfo="skip", showlegend=False, **at,
            )  # fmt: skip
        hover = [hover_of(v, e, unit_of_P) for v, e in zip(y, errors[unit])]
        if gap:
            hover = [f"{text}<br>{1 + v / intact:.0%} of the gap left" for text, v in zip(hover, y)]
        figure.add_scatter(
            x=alphas, y=y, mode="lines+markers", line=dict(color=NEGATIVE, width=2), marker=dict(size=6), text=hover,
            hovertemplate="alpha %{x:g}<br>%{text}<extra></extra>", showlegend=False, name=str(units[unit]), **at,
        )  # fmt: skip
        figure.add_vline(1.0, line=dict(color=NEUTRAL, width=1, dash="dot"), **at)
        figure.add_hline(0.0, line=dict(color=NEUTRAL, width=1, dash="dot"), **at)
        if gap and finite[order].min() < -0.7 * intact:
            figure.add_hline(-intact, line=dict(color=INK, width=1, dash="dash"), **at)
    styled(figure, height=area + 110)
    figure.update_annotations(font=dict(size=12, color=INK))
    what = "change of the gap" if gap else "dP towards x'" if paired(doses) else "dP"
    for row in range(1, rows + 1):
        figure.update_yaxes(title=f"{what},<br>{unit_of_P}", row=row, col=1)
    figure.update_xaxes(nticks=5, tickangle=0)
    for panel in range(max(0, len(order) - columns), len(order)):
        at = dict(row=panel // columns + 1, col=panel % columns + 1)
        figure.update_xaxes(title="alpha", showticklabels=True, **at)
    return figure


def _judged(source: "Scores | Effects", intervention: str) -> tuple[np.ndarray, np.ndarray, str, str]:
    """One number a unit, its standard error, what it is called, and its unit."""
    if isinstance(source, Scores):
        errors = (
            source.table["se"].to_numpy(dtype=float) if "se" in source.table else np.full(len(source.table), np.nan)
        )
        return source.table[source.by].to_numpy(dtype=float), errors, escape(source.by.replace("_", " ")), ""
    cue = "swap:counterpart"
    label = intervention or (cue if cue in source.interventions else source.interventions[0])
    values, errors = unit_means(source, label)
    name = "indirect effect" if label == cue else f"effect of {escape(label)}"
    if source.estimated:
        name = f"{name} (first-order estimate)"
    return values, errors, name, escape(source.header["unit_of_P"])


def _thinned(values: np.ndarray, keep: int, sample: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of the largest absolute values, a sample of the other rows, and the smallest absolute value kept."""
    order = np.argsort(-np.abs(values), kind="stable")
    threshold = float(np.abs(values[order[:keep][-1]]))
    kept = order[np.abs(values[order]) >= threshold]
    rest = order[len(kept) :]
    drawn = np.random.default_rng(0).choice(rest, min(sample, len(rest)), replace=False)
    return np.sort(kept), np.sort(drawn), threshold
