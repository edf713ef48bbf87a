"""What was measured of whole models and sets, and how far it can be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icp.audit import Audit, audit
from icp.effects import Effects
from icp.evaluation import Evaluation
from icp.frontier import Frontier
from icp.numerals import fixed, interval, number, percent, places, with_error
from icp.page import Cell, Html, Section, element, folded, joined, paragraph, plot, table
from icp.sections.text import are, bullets, units_counted
from icp.selection import Selection


def results(
    summary: Sequence[str], evaluations: Mapping[str, Evaluation], unit_of_P: str, model_name: str
) -> Section | None:
    """The headline: what was done, and every model's numbers beside the first one's."""
    if not summary and not evaluations:
        return None
    body = [bullets(summary)]
    if evaluations:
        from icp.plots import before_after

        caption = (
            "Means over examples with 95% intervals (Wilson's for accuracy and other shares, from a bootstrap for what "
            "is no mean, else t); the dotted line is the first model's. Two models' intervals may overlap although the "
            "change between them, paired example by example in the table, is clear of zero."
        )
        body += [
            _tiles(evaluations, unit_of_P),
            plot("before-after", before_after(evaluations, unit_of_P=unit_of_P), caption),
            _evaluation_table(evaluations, unit_of_P),
            *_reliability(evaluations),
        ]
        if "dequantised" in model_name:
            body.append(paragraph(f"All figures are of the dequantised model: {model_name}.", class_="note"))
    return Section("results", "Results", joined(body))


def _reliability(evaluations: Mapping[str, Evaluation]) -> list[Html]:
    """A diagram of each evaluation whose calibration was asked for."""
    from icp.plots import MOST, reliability

    found = []
    for place, (section, evaluation) in enumerate(evaluations.items()):
        models = evaluation.models_with("ece")
        if not models:
            continue
        caption = (
            "Accuracy by confidence, with 95% intervals (Wilson's), and how many examples each bin has. Below the "
            "dotted line a model is surer than it is right."
        )
        caption += f" On {section}." if len(evaluations) > 1 else ""
        caption += f" The first {MOST} of {len(models)} models." if len(models) > MOST else ""
        found.append(plot(f"reliability-{place}", reliability(evaluation, models[:MOST]), caption))
    return found


def _tiles(evaluations: Mapping[str, Evaluation], unit_of_P: str) -> Html:
    """The change from the first model to the second, large."""
    from icp.plots import METRIC_UNITS, METRICS, summary

    tiles, names = [], []
    for section, evaluation in evaluations.items():
        if len(evaluation.models) < 2:
            continue
        before, after = evaluation.models[:2]
        names.append(f"from {before} to {after}")
        for metric, row in evaluation.change(before, after).iterrows():
            unit = METRIC_UNITS.get(metric, unit_of_P)
            share = unit == "%"
            means = summary(evaluation, metric)
            old, new = number(means[before][0]), number(means[after][0])
            change = fixed(100 * row["mean"], 1, "+") if share else percent(row["relative"])
            points = element("small", " points") if share else ""
            label = METRICS.get(metric, metric) + (f", {section}" if len(evaluations) > 1 else "")
            detail = f"{old} → {new}{'' if share else ' '}{unit}"
            tiles.append(
                element(
                    "div", element("b", change, points), element("span", label), element("span", detail), class_="tile"
                )
            )
    if not tiles:
        return Html("")
    return joined([paragraph(f"The change {', '.join(dict.fromkeys(names))}:"), element("div", *tiles, class_="tiles")])


def _evaluation_table(evaluations: Mapping[str, Evaluation], unit_of_P: str) -> Html:
    from icp.plots import METRIC_UNITS, METRICS, summary

    rows: list[list[Any]] = []
    for section, evaluation in evaluations.items():
        for metric in evaluation.metrics:
            first = evaluation.models_with(metric)[0]
            count = evaluation.interval(first, metric)["n"]
            unit = METRIC_UNITS.get(metric, unit_of_P)
            share = unit == "%"
            where = f": {section}" if len(evaluations) > 1 else ""
            rows.append([f"{METRICS.get(metric, metric)}, {unit}{where} (n = {count})"])
            for model, (mean, low, high) in summary(evaluation, metric).items():
                decimals = 1 if share else places(high - low)
                rows.append([model, Cell(fixed(mean, decimals), mean), interval(low, high, decimals)])
                if model == first:
                    rows[-1] += ["", "", ""]
                    continue
                change = evaluation.change(first, model, metrics=[metric]).loc[metric]
                by, low, high = (float(change[column]) * (100 if share else 1) for column in ("mean", "low", "high"))
                decimals, relative = 1 if share else places(high - low), float(change["relative"])
                rows[-1] += [Cell(fixed(by, decimals, "+"), by), interval(low, high, decimals, "+")]
                rows[-1] += ["" if share or not np.isfinite(relative) else Cell(percent(relative), relative)]
    several = any(len(evaluation.models) > 1 for evaluation in evaluations.values())
    head = ["", "mean", "95% interval", "change", "95% interval, paired", "relative"]
    return table(head, rows) if several else table(head[:3], [row[:3] for row in rows])


def audited(estimates: Effects | None, exact: Effects | None) -> Section | None:
    """What exact re-measuring said of first-order estimates, or that nothing did."""
    if estimates is None or not estimates.estimated:
        return None
    title = "Estimates against exact effects"
    shared = [] if exact is None else [label for label in estimates.interventions if label in exact.interventions]
    if not shared:
        warning = (
            f"These {len(estimates.header['units']):,} first-order estimates were not audited: no exact effects of the "
            "same interventions were given to compare them with."
        )
        return Section("audit", title, paragraph(warning, class_="warning"))
    from icp.plots import audit_plot

    body = []
    caption = "One point a unit, with the standard error of its exact effect. On the dotted line the estimate is right."
    for index, label in enumerate(shared):
        found = audit(estimates, exact, label)
        drawn = plot(f"audit-{index}", audit_plot(found), caption)
        body += [_audit_text(found), element("div", drawn, _audit_table(found), class_="beside")]
    return Section("audit", title, joined(body))


def _audit_text(found: Audit) -> Html:
    other = "" if found.same_examples else " The exact effects are of other examples than the estimates."
    if found.not_finite:
        other += f" {units_counted(found.not_finite)} without a finite effect {are(found.not_finite)} left out."
    return paragraph(
        f"Each unit's mean first-order estimate of {found.intervention} against its exact effect, for the "
        f"{len(found.units):,} of {found.estimated_units:,} estimated units that were measured exactly.{other} "
        "Where those were chosen by their estimates, this says how good the estimates of the chosen units are; a unit "
        "that was estimated low and is large was not looked at."
    )


def _audit_table(found: Audit) -> Html:
    tops = [k for k in (5, 10, 20, 50, 100) if k < len(found.units)] or [len(found.units)]
    rows = [
        ["Spearman correlation", Cell(fixed(found.spearman, 3), found.spearman)],
        ["Pearson correlation", Cell(fixed(found.pearson, 3), found.pearson)],
        *([f"exact top {k} in the estimated top {k}", Cell(f"{found.overlap(k):.0%}", found.overlap(k))] for k in tops),
        ["same sign", Cell(f"{found.same_sign:.0%}", found.same_sign)],
        [f"median absolute error, {found.unit_of_P}", Cell(number(found.median_error), found.median_error)],
    ]
    return table(["measure", "value"], rows, class_="facts")


def frontier_of(frontier: Frontier | None, selection: Selection | None, max_gap_left: float | None) -> Section | None:
    """What is left of the gap, and what it costs, as the set grows."""
    if frontier is None:
        return None
    from icp.plots import frontier_plot

    head = ["units", "gap ± se", "gap left"]
    for name in frontier.costs:
        head += [f"damage ± se, {frontier.cost_unit(name)}: {name}", "relative"]
    rows = []
    for size, r in frontier.table().astype(float).iterrows():
        row = [Cell(f"{size:,}", float(size)), Cell(with_error(r["gap"], r["gap_se"]), r["gap"])]
        row.append(Cell(f"{r['gap_left']:.1%}", r["gap_left"]))
        for name in frontier.costs:
            rise, se, relative = (r[f"{column} {name}"] for column in ("damage", "damage_se", "relative_damage"))
            row += [Cell(with_error(rise, se), rise), Cell(percent(relative), relative)]
        rows.append(row)
    origin = frontier.origin
    measured = origin.get("costs", dict.fromkeys(frontier.costs, "a loss"))
    losses = ", ".join(f"{name} ({what})" for name, what in measured.items())
    text = (
        f"Nested sets of the best units, each cut together ({origin.get('intervention', 'one intervention')}) and "
        f"measured as a set on {frontier.gap.shape[1]} pairs that the ranking has not seen. Damage is the rise of: "
        f"{losses}.{_grown(origin)}"
    )
    figure = frontier_plot(frontier, selection, max_gap_left=max_gap_left)
    caption = "Bars are one standard error, over pairs for the gap and over examples for damage."
    body = [paragraph(text), plot("frontier", figure, caption), folded("The numbers", table(head, rows))]
    return Section("frontier", "Frontier", joined(body))


def _grown(origin: Mapping[str, Any]) -> str:
    """How the sets were chosen, where units were passed over."""
    if "passed_over" not in origin:
        return ""
    over = len(origin["passed_over"])
    return (
        f" The sets were grown one unit at a time in the order of the ranking; {over} unit{'s' * (over != 1)} "
        f"{'were' if over != 1 else 'was'} passed over, since a loss would have left its budget or the gap would not "
        "have become smaller. So they were chosen on these very rows, and their curve flatters them: what the "
        "chosen set is worth is measured on other rows."
    )
