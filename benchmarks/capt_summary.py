"""What the runs of `capt.py` add up to: accuracies in percent over seeds, what a renaming gains, and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

import icp
from icp.capt import Replies
from icp.data import Problem
from icp.plots.style import INK, NEGATIVE, NEUTRAL, POSITIVE, styled
from icp.statistics import fewest_clusters, seeds_interval, standard_error

SHOWN = ("train", "id", "anti", "nonsense", "paraphrased", "new question", "more symbols", "exchanged")
COLORS = {"train": NEUTRAL, "id": INK, "anti": POSITIVE, "nonsense": NEGATIVE}


def summary(rounds: list[dict]) -> dict[str, Any]:
    """`renamings` are at the settings at which every kind of test was asked; the curves go through these too."""
    runs = sorted((row for row in rounds if row["what"] == "prontoqa"), key=lambda row: row["seed"])
    tests = [row for row in rounds if row["what"] == "corr2cause"]
    usual = [row for row in runs if "paraphrased" in row["splits"]]
    names = list(dict.fromkeys(row["renaming"] for row in usual))
    found: dict[str, Any] = {
        "renamings": {name: described([row for row in usual if row["renaming"] == name]) for name in names},
        "random_less": {
            name: differences(*([row for row in usual if row["renaming"] == one] for one in ("random", name)))
            for name in names
            if name != "random" and "random" in names
        },
    }
    if before := [row for row in runs if not row["epochs"]]:
        found["renamings"]["untrained"] = described(before)
    for over, part in (("rate", "errors"), ("rows", "rows"), ("epochs", "steps")):
        found[part] = curves(runs, usual, over)
    reasoned = sorted((row for row in rounds if row["what"] == "reasoned"), key=lambda row: row["seed"])
    if reasoned:
        of = {name: [row for row in reasoned if row["renaming"] == name] for name in ("null", "random")}
        found["reasoning"] = {name: described(mine) for name, mine in of.items() if mine}
        found["reasoning_random_less_null"] = differences(of["random"], of["null"])
    if tests:
        found["corr2cause"] = causal(tests)
    seconds = [sum(row["seconds_of_processor"].values()) for row in rounds]
    return found | {"core_hours": sum(seconds) / 3600, "commits": sorted({row["commit"] for row in rounds})}


def curves(runs: Sequence[dict], usual: Sequence[dict], over: str) -> dict[str, dict[str, Any]]:
    """By renaming and by value of one setting, the others as usual; renamings that were run at several values."""
    others = [name for name in ("rows", "epochs", "rate") if name != over]
    some = [row for row in runs if row["epochs"] and usual and all(row[name] == usual[0][name] for name in others)]
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["renaming"] for row in some):
        mine = [row for row in some if row["renaming"] == name]
        values = sorted({row[over] for row in mine})
        if len(values) > 1:
            found[name] = {str(value): described([row for row in mine if row[over] == value]) for value in values}
    return found


def described(rounds: Sequence[dict]) -> dict[str, Any]:
    """Of one point: the accuracy of each kind of test, and the loss that was logged, a mean over seeds."""
    kinds = [kind for kind in SHOWN if all(kind in row["splits"] for row in rounds)]
    told = {kind: over_seeds([matrix(row, kind) for row in rounds], rounds[0]["splits"][kind]) for kind in kinds}
    told["train"]["ci"] = None  # rows differ by seed
    losses = [[loss for _, loss in row["history"]] for row in rounds]
    alike = len({len(each) for each in losses}) == 1
    steps = [step for step, _ in rounds[0]["history"]]
    return {**told, "loss": [steps, np.mean(losses, axis=0).tolist()] if alike and steps else None}


def matrix(row: Mapping[str, Any], kind: str) -> np.ndarray:
    """100 where right [problem]."""
    return np.array([100.0 * int(digit) for digit in row["splits"][kind]["right"]])


def over_seeds(values: Sequence[np.ndarray], told: Mapping[str, Any]) -> dict[str, Any]:
    """The mean over seeds, its interval over seeds and problems, clustered by form, and the seeds' own."""
    own = np.array([each.mean() for each in values])
    ends = None
    if len(own) > 1:
        codes = np.array(told["forms"], dtype=np.int64)
        clusters = np.stack([codes, np.arange(len(codes))], axis=1)
        error = float(standard_error(np.mean(values, axis=0), clusters))
        ends = list(seeds_interval(own, error, fewest_clusters(len(codes), clusters)))
    return {"mean": float(own.mean()), "ci": ends, "seeds": own.tolist()}


def differences(ours: Sequence[dict], theirs: Sequence[dict]) -> dict[str, Any]:
    """In accuracy, paired by seed and problem, over the seeds that both have."""
    of = {row["seed"]: row for row in theirs}
    pairs = [(row, of[row["seed"]]) for row in ours if row["seed"] in of]
    kinds = [kind for kind in SHOWN[1:] if pairs and all(kind in row["splits"] for pair in pairs for row in pair)]
    return {
        kind: over_seeds([matrix(one, kind) - matrix(two, kind) for one, two in pairs], pairs[0][0]["splits"][kind])
        for kind in kinds
    }


def causal(rounds: Sequence[dict]) -> dict[str, Any]:
    """F1 of the answer Yes, and accuracy, by renaming; `untrained` is the model before training."""
    replies: dict[str, list[Replies]] = {}
    for row in sorted(rounds, key=lambda row: row["seed"]):
        told = row["causal"]
        asked = [
            Problem(f"question {number}", answer, ("Yes", "No"), skeleton=str(premise))
            for number, (answer, premise) in enumerate(zip(told["answers"], told["forms"]))
        ]
        name = row["renaming"] if row["epochs"] else "untrained"
        replies.setdefault(name, []).append(Replies(tuple(asked), tuple(told["said"])))
    found = icp.over_seeds({name: [one.evaluation(name, "Yes") for one in some] for name, some in replies.items()})
    return {
        name: {
            metric: {"mean": row["mean"], "ci": [row["low"], row["high"]], "seeds": list(row["values"])}
            for (metric, of), row in found.iterrows()
            if of == name
        }
        for name in replies
    }


def table(found: Mapping[str, Any]) -> str:
    """Percent; F1 as a fraction."""
    rows = dict(found["renamings"])
    rows |= {f"random less {name}": row for name, row in found["random_less"].items()}
    for part in ("errors", "rows", "steps"):
        rows |= {f"{name}, {part} {v}": row for name, each in found[part].items() for v, row in each.items()}
    rows |= {f"{name}, reasoned": row for name, row in found.get("reasoning", {}).items()}
    if gain := found.get("reasoning_random_less_null"):
        rows["random less null, reasoned"] = gain
    wide = max(map(len, rows), default=0) + 2
    lines = [" " * wide + "".join(f"{kind:>22}" for kind in SHOWN)]
    for name, row in rows.items():
        lines.append(f"{name:<{wide}}" + "".join(f"{_shown(row.get(kind), '.1f'):>22}" for kind in SHOWN))
    for name, row in found.get("corr2cause", {}).items():
        lines.append(f"Corr2Cause, {name}: " + ", ".join(f"{m} {_shown(told, '.3f')}" for m, told in row.items()))
    return "\n".join(lines)


def _shown(told: Mapping[str, Any] | None, form: str) -> str:
    if told is None:
        return "-"
    ends = told["ci"]
    return f"{told['mean']:{form}}" + ("" if ends is None else f" ({ends[0]:{form}} to {ends[1]:{form}})")


def picture(found: Mapping[str, Any]) -> go.Figure:
    """The renamings side by side, and accuracy over the errors of the estimator; bars are 95% intervals."""
    figure = make_subplots(1, 2, subplot_titles=("What takes the place of events", "Errors of the estimator"),
                           column_widths=[0.6, 0.4], horizontal_spacing=0.08)  # fmt: skip
    curve = found["errors"].get("random", {})
    for kind, color in COLORS.items():
        mine = {name: row[kind] for name, row in found["renamings"].items() if kind in row}
        figure.add_bar(
            x=list(mine), y=[row["mean"] for row in mine.values()], name=kind, marker_color=color, legendgroup=kind,
            error_y=dict(array=[_half(row) for row in mine.values()], thickness=1, width=0), row=1, col=1,
        )  # fmt: skip
        rates = sorted(curve, key=float) if kind != "train" else []
        if rates:
            figure.add_scatter(
                x=[100 * float(rate) for rate in rates], y=[curve[rate][kind]["mean"] for rate in rates], name=kind,
                error_y=dict(array=[_half(curve[rate][kind]) for rate in rates], thickness=1, width=0),
                mode="lines+markers", line=dict(color=color), legendgroup=kind, showlegend=False, row=1, col=2,
            )  # fmt: skip
    styled(figure, 480)
    figure.add_hline(y=50, line=dict(color=NEUTRAL, width=1, dash="dot"))
    figure.update_yaxes(title="accuracy, %", range=[0, 105])
    figure.update_xaxes(title="mentions found with an error, %", row=1, col=2)
    return figure.update_layout(width=1300, margin=dict(t=90), legend=dict(y=1.1))


def _half(told: Mapping[str, Any]) -> float:
    return 0.0 if told["ci"] is None else (told["ci"][1] - told["ci"][0]) / 2
