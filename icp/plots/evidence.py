"""Pictures of what the decision rests on: the frontier, the audit of estimates, and before against after."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from icp.audit import Audit, audit
from icp.effects import Effects
from icp.errors import IcpError
from icp.evaluation import SHARES, Evaluation
from icp.frontier import Frontier
from icp.metrics import JUDGED
from icp.numerals import fixed, number
from icp.plots.style import (
    INK,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    apart_by,
    columns_for,
    figure_of,
    hover_of,
    label_points,
    shortened,
    styled,
)
from icp.selection import Selection

METRICS = {
    "gap": "gap |P(x) - P(x')|",
    "accuracy": "accuracy",
    "task_loss": "task loss",
    "next_token_loss": "next-token loss",
    "consistency": "consistency",
    "sensitivity": "sensitivity",
    "contrast_accuracy": "contrast-set accuracy",
    "pairwise_accuracy": "pairwise accuracy",
    "f1": "F1",
    "worst_group_accuracy": "worst-group accuracy",
    "demographic_parity_difference": "demographic parity difference",
    "equal_opportunity_difference": "equal opportunity difference",
    "ece": "expected calibration error",
}
METRIC_UNITS = {"task_loss": "nats", "next_token_loss": "nats per token"} | dict.fromkeys([*SHARES, *JUDGED], "%")


def summary(evaluation: Evaluation, metric: str, level: float = 0.95) -> dict[str, tuple[float, float, float]]:
    """Mean and interval of each model that has the metric, as they are shown: shares in percent."""
    scale = 100 if METRIC_UNITS.get(metric) == "%" else 1
    found = {}
    for model in evaluation.models_with(metric):
        row = evaluation.interval(model, metric, level)
        found[model] = (scale * row["mean"], scale * row["low"], scale * row["high"])
    return found


def frontier_plot(
    frontier: Frontier, selection: Selection | None = None, *,
    max_damage: "float | Mapping[str, float] | None" = None, max_gap_left: float | None = None,
) -> go.Figure:  # fmt: skip
    """Panels over the number of units: the share of the gap that is left, and the rise of each loss.

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
    for name in frontier.costs:
        title = f"damage, {frontier.cost_unit(name)}<br>{escape(shortened(name, 24))}"
        panels.append((title, cut[f"damage {name}"], cut[f"damage_se {name}"], POSITIVE, frontier.cost_unit(name)))
    figure = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.16 / len(panels))
    size = None if selection is None else sum(choice.cuts for choice in selection.choices)
    for row, (title, y, error, colour, unit) in enumerate(panels, 1):
        hover = [f"{n} units<br>{hover_of(v, e, unit)}" for n, v, e in zip(x, y, error)]
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
            _budget(figure, row, budgets[name], f"budget {budgets[name]:.3g} {frontier.cost_unit(name)}", side="left")
    styled(figure, height=90 + 210 * len(panels))
    apart = apart_by(np.log2(x), 0.05 * max(1.0, np.log2(x.max())))
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
    figure = figure_of(
        [go.Scatter(x=span, y=span, mode="lines", line=diagonal, hoverinfo="skip", showlegend=False)], height=520
    )
    kinds = [unit.kind for unit in found.units]
    for kind, colour, symbol in (
        ("head", "#d55e00", "square"), ("neuron", "#0072b2", "circle"), ("value", "#009e73", "diamond"),
        ("resid", "#cc79a7", "cross"), ("embed", "#56b4e9", "triangle-up"), ("query", "#e69f00", "triangle-left"),
        ("key", "#999999", "triangle-right"),
    ):  # fmt: skip
        rows = [row for row, other in enumerate(kinds) if other == kind]
        if not rows:
            continue
        hover = [
            f"{found.units[r]}<br>estimate {number(found.estimate[r])}<br>exact "
            + hover_of(found.exact[r], found.exact_se[r], found.unit_of_P)
            for r in rows
        ]
        figure.add_scatter(
            x=found.estimate[rows], y=found.exact[rows], mode="markers", name=f"{kind}s ({len(rows)})", text=hover,
            marker=dict(color=colour, symbol=symbol, size=8, opacity=0.8, line=dict(color="white", width=0.5)),
            error_y=dict(array=found.exact_se[rows], color=colour, thickness=1, width=0),
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    label_points(figure, found.estimate, found.exact, found.units, 6, (), span, span, (390, 390))
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
    known = list(dict.fromkeys(model for evaluation in evaluations.values() for model in evaluation.models))
    order = list(order) or known
    if unknown := [model for model in order if model not in known]:
        raise IcpError(f"no model {unknown[0]!r} was evaluated: there are {', '.join(known)}")
    panels = [(s, metric) for s, e in evaluations.items() for metric in e.metrics]
    columns = columns_for(len(panels))
    rows = -(-len(panels) // columns)

    def where(section: str) -> str:
        return f"<br>{escape(shortened(section, 34))}" if len(evaluations) > 1 else ""

    each, between = 24 + 30 * len(order), 105
    area = rows * each + (rows - 1) * between
    figure = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.05, vertical_spacing=between / area * (rows > 1),
        subplot_titles=[f"<b>{METRICS.get(metric, metric)}</b>{where(s)}" for s, metric in panels],
    )  # fmt: skip
    names = {model: escape(shortened(model, 30)) for model in order}
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
    styled(figure, height=area + 120, left=10)
    figure.update_yaxes(categoryorder="array", categoryarray=list(names.values())[::-1])
    figure.update_xaxes(nticks=5)
    figure.update_annotations(font=dict(size=13, color=INK))
    figure.update_layout(margin=dict(t=60, b=60))
    return figure


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
