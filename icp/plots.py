"""Pictures of artefacts, as plotly figures; no model is needed.

Signs: red is positive, an effect towards the counterpart x'; blue is negative. The scale is safe for colour-blind eyes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from icp.audit import Audit, audit, paired, unit_means
from icp.effects import Effects
from icp.errors import IcpError
from icp.evaluate import Evaluation
from icp.frontier import Frontier
from icp.numerals import fixed, number, with_error
from icp.scores import Scores
from icp.selection import Selection
from icp.units import Unit, site_name

POSITIVE, NEGATIVE, NEUTRAL, INK, PALE = "#b2182b", "#2166ac", "#8a8f98", "#1f2430", "#e4e7eb"
DIVERGING = [
    [0.0, "#2166ac"], [0.17, "#5a9bcb"], [0.34, "#b3d3e8"], [0.5, "#f7f7f7"], [0.66, "#f7bda1"], [0.83, "#dd6f59"],
    [1.0, "#b2182b"],
]  # fmt: skip
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
METRICS = {
    "gap": "gap |P(x) - P(x')|",
    "accuracy": "accuracy",
    "task_loss": "task loss",
    "next_token_loss": "next-token loss",
}
METRIC_UNITS = {"accuracy": "%", "task_loss": "nats", "next_token_loss": "nats per token"}
KEPT, SAMPLED = 1000, 1500


def plotly_js() -> str:
    """The source of plotly.js, for a page that must not fetch it."""
    return get_plotlyjs()


def summary(evaluation: Evaluation, metric: str, level: float = 0.95) -> dict[str, tuple[float, float, float]]:
    """Each model's mean and interval as they are shown: accuracy in percent."""
    table = evaluation.table(level).loc[metric]
    found = {}
    for model in evaluation.values:
        mean, low, high = (float(table.loc[model, column]) for column in ("mean", "low", "high"))
        if metric == "accuracy":
            mean, low, high = 100 * mean, 100 * low, 100 * high
        found[model] = (mean, low, high)
    return found


def short(unit: Unit) -> str:
    """A label for crowded places: `L26 H2` is head 2 of block 26, `L24 N115` neuron 115 of block 24."""
    names = {"head": "H", "neuron": "N", "value": "V", "resid": "R", "embed": "E"}
    index = names[unit.kind] + ".".join(map(str, unit.index))
    return index if unit.layer is None else f"L{unit.layer} {index}"


def head_map(
    source: "Scores | Effects", n_layers: int, n_heads: int, chosen: Collection[Unit] = (), intervention: str = ""
) -> go.Figure:
    """Every head's mean effect: blocks across, heads down. Unmeasured heads stay grey, `chosen` ones are framed."""
    values, errors, title, unit_of_P = _judged(source, intervention)
    z, se = np.full((2, n_heads, n_layers), np.nan)
    names = [[site_name("head", layer) + f"[{head}]" for layer in range(n_layers)] for head in range(n_heads)]
    for unit, value, error in zip(source.units, values, errors):
        if unit.kind == "head":
            z[unit.index[0], unit.layer], se[unit.index[0], unit.layer] = value, error
    if np.isnan(z).all():
        raise IcpError("no head was measured: there is nothing to map")
    most = float(np.nanmax(np.abs(z))) or 1.0
    hover = [
        ["not measured" if np.isnan(z[h, x]) else _hover(z[h, x], se[h, x], unit_of_P) for x in range(n_layers)]
        for h in range(n_heads)
    ]
    scale = dict(text=_wrapped(_and_unit(title, unit_of_P), 22), font=dict(size=13))
    heat = go.Heatmap(
        z=z, zmid=0, zmin=-most, zmax=most, colorscale=DIVERGING, xgap=1, ygap=1, customdata=names, text=hover,
        hovertemplate="%{customdata}<br>%{text}<extra></extra>", hoverongaps=True,
        colorbar=dict(title=scale, thickness=12, outlinewidth=0, len=1.0),
    )  # fmt: skip
    figure = _figure([heat], height=max(230, 110 + 24 * n_heads))
    framed = [unit for unit in chosen if unit.kind == "head"]
    if framed:
        frame = dict(symbol="square-open", size=19, color=INK, line=dict(width=2))
        x, y = [unit.layer for unit in framed], [unit.index[0] for unit in framed]
        figure.add_scatter(x=x, y=y, mode="markers", marker=frame, name="selected", hoverinfo="skip", showlegend=True)
    figure.update_xaxes(title="block", range=[-0.5, n_layers - 0.5], tickvals=_ticks(n_layers), showgrid=False)
    figure.update_yaxes(title="head", range=[n_heads - 0.5, -0.5], tickvals=_ticks(n_heads), showgrid=False)
    figure.update_layout(plot_bgcolor=PALE)
    return figure


def neuron_strip(
    source: "Scores | Effects", chosen: Collection[Unit] = (), keep: int = KEPT, sample: int = SAMPLED,
    intervention: str = "", labels: int = 8,
) -> go.Figure:  # fmt: skip
    """Every neuron's mean effect: blocks across, and within a block the neurons by their index.

    So that the file stays small, the `keep` neurons of largest absolute effect are all drawn, and `sample` of the rest
    by a draw with seed 0; the plot says so.
    """
    values, errors, title, unit_of_P = _judged(source, intervention)
    units = source.units
    neurons = [row for row, unit in enumerate(units) if unit.kind == "neuron"]
    if not neurons:
        raise IcpError("no neuron was measured: there is nothing to draw")
    units, values, errors = [units[row] for row in neurons], values[neurons], errors[neurons]
    width = max(unit.index[0] for unit in units) + 1
    place = np.array([unit.layer - 0.42 + 0.84 * unit.index[0] / width for unit in units])
    shown, drawn, threshold = _thinned(values, keep, sample)
    names = np.array([str(unit) for unit in units])
    hover = np.array([_hover(v, e, unit_of_P) for v, e in zip(values, errors)])
    traces = []
    for rows, name, marker in (
        (drawn, "sample of the rest", dict(size=3, color="#c3c8cf")),
        (shown, "largest effects", dict(size=5, color=np.where(values[shown] > 0, POSITIVE, NEGATIVE).tolist())),
    ):
        traces.append(
            go.Scatter(
                x=place[rows].round(3), y=_rounded(values[rows]), mode="markers", marker=marker, name=name,
                customdata=names[rows], text=hover[rows], hovertemplate="%{customdata}<br>%{text}<extra></extra>",
                showlegend=False,
            )
        )  # fmt: skip
    figure = _figure(traces, height=420)
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
    _label(figure, place, values, units, labels, named, x_range, y_range, (780, 310))
    said = f"all {len(units):,} neurons measured"
    if len(drawn):
        said = f"{len(units):,} neurons: all {len(shown):,} with |effect| of {number(threshold)} or more are drawn"
        said += f",<br>and a sample (seed 0) of {len(drawn):,} of the other {len(units) - len(shown):,}"
    figure.add_annotation(
        text=said, xref="paper", yref="paper", x=0, y=1.0, xanchor="left", yanchor="bottom", showarrow=False,
        align="left", font=dict(size=12, color="#5a6270"),
    )  # fmt: skip
    figure.update_xaxes(title="block", range=x_range, tickvals=_ticks(last + 1, first), showgrid=False)
    figure.update_yaxes(title=_and_unit(title, unit_of_P), range=y_range, zeroline=True, zerolinecolor=NEUTRAL)
    return figure


def dose_response(doses: Effects, most: int = 6) -> go.Figure:
    """One panel a unit: how P moves as the unit is multiplied by alpha.

    For effects of a `PairGap` it is the change of the gap between x and x', below zero where it narrows; otherwise the
    mean dP, towards the counterpart where there is one. Bands are one standard error. The `most` units with the largest
    change are shown. Raises `IcpError` where no `Scale` was measured.
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
    order = np.argsort(-np.abs(means).max(1), kind="stable")[:most]
    columns = _columns(len(order))
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
        hover = [_hover(v, e, unit_of_P) for v, e in zip(y, errors[unit])]
        if gap:
            hover = [f"{text}<br>{1 + v / intact:.0%} of the gap left" for text, v in zip(hover, y)]
        figure.add_scatter(
            x=alphas, y=y, mode="lines+markers", line=dict(color=NEGATIVE, width=2), marker=dict(size=6), text=hover,
            hovertemplate="alpha %{x:g}<br>%{text}<extra></extra>", showlegend=False, name=str(units[unit]), **at,
        )  # fmt: skip
        figure.add_vline(1.0, line=dict(color=NEUTRAL, width=1, dash="dot"), **at)
        figure.add_hline(0.0, line=dict(color=NEUTRAL, width=1, dash="dot"), **at)
        if gap and means[order].min() < -0.7 * intact:
            figure.add_hline(-intact, line=dict(color=INK, width=1, dash="dash"), **at)
    _styled(figure, height=area + 110)
    figure.update_annotations(font=dict(size=12, color=INK))
    what = "change of the gap" if gap else "dP towards x'" if paired(doses) else "dP"
    for row in range(1, rows + 1):
        figure.update_yaxes(title=f"{what},<br>{unit_of_P}", row=row, col=1)
    figure.update_xaxes(nticks=5, tickangle=0)
    for panel in range(max(0, len(order) - columns), len(order)):
        at = dict(row=panel // columns + 1, col=panel % columns + 1)
        figure.update_xaxes(title="alpha", showticklabels=True, **at)
    return figure


def frontier_plot(
    frontier: Frontier, selection: Selection | None = None, *,
    max_damage: "float | Mapping[str, float] | None" = None, max_gap_left: float | None = None,
) -> go.Figure:  # fmt: skip
    """Panels over the number of units: the share of the gap that is left, and the rise of each loss in nats.

    Error bars are one standard error. The size that `selection` cuts is marked, and budgets are drawn as lines: for the
    damage (one number, or one a loss by name) those that the selection was made with, unless `max_damage` gives others;
    for the gap `max_gap_left`, a share.
    """
    table = frontier.table().astype(float)
    cut = table[table.index > 0]
    x = cut.index.to_numpy()
    rule = {} if selection is None else selection.origin.get("rule", {})
    budgets = rule.get("max_damage") if max_damage is None else max_damage
    if not isinstance(budgets, Mapping):
        budgets = dict.fromkeys(frontier.costs, budgets)
    intact = float(table["gap"].iloc[0])
    panels = [("gap left, %", 100 * cut["gap_left"], 100 * cut["gap_se"] / intact, NEGATIVE, "%")]
    panels += [
        (f"damage, nats<br>{escape(_cut(name, 24))}", cut[f"damage {name}"], cut[f"damage_se {name}"], POSITIVE, "nats")
        for name in frontier.costs
    ]
    figure = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.16 / len(panels))
    size = None if selection is None else sum(choice.cuts for choice in selection.choices)
    for row, (title, y, error, colour, unit) in enumerate(panels, 1):
        hover = [f"{n} units<br>{_hover(v, e, unit)}" for n, v, e in zip(x, y, error)]
        fill, ring = ["white" if n == size else colour for n in x], [3 if n == size else 0 for n in x]
        dots = dict(
            opacity=1, size=[12 if n == size else 7 for n in x], color=fill, line=dict(color=colour, width=ring)
        )
        figure.add_scatter(
            x=x, y=y, mode="lines+markers", line=dict(color=colour, width=2), showlegend=False, name=title,
            marker=dots, error_y=dict(array=error, color=colour, thickness=1.2, width=4), text=hover,
            hovertemplate="%{text}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title=title, row=row, col=1)
        if size:
            figure.add_vline(size, line=dict(color=INK, width=1, dash="dot"), row=row, col=1)
    if size:
        text = f"selected: {size} unit{'s' * (size > 1)}" + ("" if size in x else ", not measured as a set")
        figure.add_annotation(
            x=np.log10(size), y=1, xref="x", yref="paper", yanchor="bottom", showarrow=False,
            text=text, font=dict(size=12, color=INK),
        )  # fmt: skip
    _budget(figure, 1, 100.0, "nothing cut", dash="dot", colour=NEUTRAL)
    if max_gap_left is not None:
        _budget(figure, 1, 100 * max_gap_left, f"target {100 * max_gap_left:g}%")
    for row, name in enumerate(frontier.costs, 2):
        _budget(figure, row, 0.0, "", dash="dot", colour=NEUTRAL)
        if budgets.get(name) is not None:
            _budget(figure, row, budgets[name], f"budget {budgets[name]:g} nats", side="left")
    _styled(figure, height=90 + 210 * len(panels))
    apart = _apart(np.log2(x), 0.05 * max(1.0, np.log2(x.max())))
    figure.update_xaxes(
        type="log", tickvals=x[apart], ticktext=[f"{n:,}" for n in x[apart]], showgrid=False,
        range=[np.log10(x.min()) - 0.06, np.log10(x.max()) + 0.06],
    )  # fmt: skip
    figure.update_xaxes(title="number of units cut together", row=len(panels), col=1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def estimates_vs_exact(estimates: Effects, exact: Effects, intervention: str) -> go.Figure:
    """First-order estimate against exact effect, one point a unit that has both, with its standard error."""
    return audit_plot(audit(estimates, exact, intervention))


def audit_plot(found: Audit) -> go.Figure:
    """`estimates_vs_exact` of an audit that was made already."""
    error = np.nan_to_num(found.exact_se)
    both = np.concatenate([found.estimate, found.exact - error, found.exact + error])
    margin = 0.04 * (float(np.ptp(both)) or 1.0)
    span = [float(both.min()) - margin, float(both.max()) + margin]
    diagonal = dict(color=NEUTRAL, width=1, dash="dot")
    figure = _figure(
        [go.Scatter(x=span, y=span, mode="lines", line=diagonal, hoverinfo="skip", showlegend=False)], height=520
    )
    kinds = [unit.kind for unit in found.units]
    for kind, colour, symbol in (
        ("head", "#d55e00", "square"), ("neuron", "#0072b2", "circle"), ("value", "#009e73", "diamond"),
        ("resid", "#cc79a7", "cross"), ("embed", "#56b4e9", "triangle-up"),
    ):  # fmt: skip
        rows = [row for row, other in enumerate(kinds) if other == kind]
        if not rows:
            continue
        hover = [
            f"{found.units[r]}<br>estimate {number(found.estimate[r])}<br>exact "
            + _hover(found.exact[r], found.exact_se[r], found.unit_of_P)
            for r in rows
        ]
        figure.add_scatter(
            x=found.estimate[rows], y=found.exact[rows], mode="markers", name=f"{kind}s ({len(rows)})", text=hover,
            marker=dict(color=colour, symbol=symbol, size=8, opacity=0.8, line=dict(color="white", width=0.5)),
            error_y=dict(array=found.exact_se[rows], color=colour, thickness=1, width=0),
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    _label(figure, found.estimate, found.exact, found.units, 6, (), span, span, (390, 390))
    title = f"Spearman {fixed(found.spearman, 3)}, Pearson {fixed(found.pearson, 3)}, {len(found.units):,} units"
    figure.update_layout(title=dict(text=title, font=dict(size=14), x=0.5), margin=dict(t=80))
    figure.update_xaxes(title=f"first-order estimate, {found.unit_of_P}", range=span, constrain="domain")
    figure.update_yaxes(title=f"exact effect, {found.unit_of_P}", range=span, scaleanchor="x", constrain="domain")
    return figure


def before_after(
    evaluations: Mapping[str, Evaluation], order: Sequence[str] = (), unit_of_P: str = "", level: float = 0.95
) -> go.Figure:
    """A panel a section and metric: each model's mean with its interval at `level`.

    Models are rows, so that their names never overlap, the first of `order` (default: as evaluated) on top; its mean is
    drawn through each panel. Raises `IcpError` for a model in `order` that was not evaluated.
    """
    known = list(dict.fromkeys(model for evaluation in evaluations.values() for model in evaluation.values))
    order = list(order) or known
    if unknown := [model for model in order if model not in known]:
        raise IcpError(f"no model {unknown[0]!r} was evaluated: there are {', '.join(known)}")
    panels = [(s, metric) for s, e in evaluations.items() for metric in next(iter(e.values.values()))]
    columns = _columns(len(panels))
    rows = -(-len(panels) // columns)

    def where(section: str) -> str:
        return f"<br>{escape(_cut(section, 34))}" if len(evaluations) > 1 else ""

    each, between = 24 + 30 * len(order), 105
    area = rows * each + (rows - 1) * between
    figure = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.05, vertical_spacing=between / area * (rows > 1),
        subplot_titles=[f"<b>{METRICS.get(metric, metric)}</b>{where(s)}" for s, metric in panels],
    )  # fmt: skip
    names = {model: escape(_cut(model, 30)) for model in order}
    for panel, (section, metric) in enumerate(panels):
        at = dict(row=panel // columns + 1, col=panel % columns + 1)
        means = summary(evaluations[section], metric, level)
        unit = METRIC_UNITS.get(metric, unit_of_P)
        for model in (model for model in order if model in means):
            mean, low, high = means[model]
            colour, symbol = _role(model, order)
            hover = f"{names[model]}<br>{number(mean)} [{number(low)}, {number(high)}] {unit}<extra></extra>"
            figure.add_scatter(
                x=[mean], y=[names[model]], mode="markers", showlegend=False, name=names[model],
                marker=dict(size=10, color=colour, symbol=symbol, line=dict(width=2, color=colour)),
                error_x=dict(array=[high - mean], arrayminus=[mean - low], color=colour, thickness=1.6, width=5),
                hovertemplate=hover, **at,
            )  # fmt: skip
            if model == order[0]:
                figure.add_vline(mean, line=dict(color=NEUTRAL, width=1, dash="dot"), **at)
        figure.update_xaxes(title=unit, **at)
    _styled(figure, height=area + 120, left=10)
    figure.update_yaxes(categoryorder="array", categoryarray=list(names.values())[::-1])
    figure.update_xaxes(nticks=5)
    figure.update_annotations(font=dict(size=13, color=INK))
    figure.update_layout(margin=dict(t=60, b=60))
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
    if source.header["method"] == "linear":
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


def _label(
    figure: go.Figure, x: np.ndarray, y: np.ndarray, units: Sequence[Unit], most: int, first: Collection[int],
    x_range: Sequence[float], y_range: Sequence[float], pixels: tuple[int, int],
) -> None:  # fmt: skip
    """Name at most `most` points: those in `first`, then those of largest |y|.

    A name that would lie on another, on another large point, or outside the panel is left out. `pixels` is about how
    large the panel is drawn.
    """
    across = (x - x_range[0]) / (x_range[1] - x_range[0]) * pixels[0]
    up = (y - y_range[0]) / (y_range[1] - y_range[0]) * pixels[1]
    large = np.argsort(-np.abs(y), kind="stable")[: 5 * most].tolist()
    boxes: list[tuple[float, float, float]] = []
    for row in dict.fromkeys([*first, *large[: 3 * most]]):
        text = short(units[row])
        for side in (-1, 1) if across[row] > pixels[0] / 2 else (1, -1):
            near, far = across[row] + 9 * side, across[row] + (9 + 7.5 * len(text)) * side
            low, high, height = min(near, far), max(near, far), up[row]
            on_name = any(low < b and a < high and abs(height - h) < 16 for a, b, h in boxes)
            on_point = any(low - 4 < across[o] < high + 4 and abs(height - up[o]) < 9 for o in large if o != row)
            if not on_name and not on_point and low >= 0 and high <= pixels[0]:
                boxes.append((low, high, height))
                figure.add_annotation(
                    x=float(x[row]), y=float(y[row]), text=text, showarrow=False, xshift=9 * side,
                    xanchor="left" if side > 0 else "right", font=dict(size=12, color=INK),
                )  # fmt: skip
                break
        if len(boxes) == most:
            break


def _budget(
    figure: go.Figure, row: int, y: float, text: str, dash: str = "dash", colour: str = INK, side: str = "right"
) -> None:
    figure.add_hline(
        y, line=dict(color=colour, width=1.2, dash=dash), annotation_text=text, annotation_position=f"top {side}",
        annotation_font=dict(size=12, color="#5a6270" if colour == NEUTRAL else INK), row=row, col=1,
    )  # fmt: skip


def _role(model: str, order: Sequence[str]) -> tuple[str, str]:
    """Colour and marker: what everything is compared with, what was made, and the controls beside it."""
    if model == order[0]:
        return INK, "circle"
    if any(word in model.lower() for word in ("random", "weight", "norm", "control")):
        return NEUTRAL, "circle-open"
    return NEGATIVE, "circle"


def _figure(traces: list, height: int) -> go.Figure:
    return _styled(go.Figure(traces), height)


def _styled(figure: go.Figure, height: int, left: int = 70) -> go.Figure:
    axis = dict(gridcolor=PALE, zeroline=False, automargin=True, title=dict(standoff=8, font=dict(size=13)))
    layout = dict(
        font=dict(family=FONT, size=13, color=INK), paper_bgcolor="white", plot_bgcolor="white",
        hoverlabel=dict(bgcolor="white", font=dict(size=13)), xaxis=axis, yaxis=axis,
        legend=dict(orientation="h", x=1, xanchor="right", y=1.0, yanchor="bottom"),
    )  # fmt: skip
    template = go.layout.Template(layout=layout)
    return figure.update_layout(template=template, height=height, margin=dict(l=left, r=20, t=50, b=55))


def _hover(value: float, error: float, unit: str) -> str:
    return f"{with_error(value, error)} {unit}".rstrip()


def _rounded(values: np.ndarray) -> list[float]:
    """Five digits, which is more than a screen shows."""
    return [float(f"{value:.5g}") for value in values]


def _and_unit(title: str, unit_of_P: str) -> str:
    return f"{title}, {unit_of_P}" if unit_of_P else title


def _columns(panels: int) -> int:
    return 2 if panels in (2, 4) else min(3, panels)


def _ticks(stop: int, start: int = 0) -> list[int]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if (stop - start) / step <= 16 or step == 100)
    return list(range(start, stop, step))


def _apart(places: np.ndarray, least: float) -> list[int]:
    """Indices, from the last one down, whose places are at least `least` apart."""
    kept = [len(places) - 1]
    for index in range(len(places) - 2, -1, -1):
        if places[kept[-1]] - places[index] >= least:
            kept.append(index)
    return kept[::-1]


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "<br>".join(textwrap.wrap(text, width))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
