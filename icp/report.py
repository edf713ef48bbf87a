"""`report`: what was done, what it changed, and how far it can be trusted, on one self-contained page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icp.changed import ChangedAnswers
from icp.drivers import Drivers
from icp.effects import Effects
from icp.embedded import NAME
from icp.errors import ArtefactError
from icp.evaluation import Evaluation
from icp.files import writing_file
from icp.frontier import Frontier
from icp.page import Html, Section, element, joined, page, table
from icp.sections import (
    audited,
    backed_up,
    bullets,
    certified,
    changed,
    dosed,
    driving,
    frontier_of,
    marked,
    placed,
    plain,
    results,
    rounded,
    selected,
    units_map,
)  # fmt: skip
from icp.selection import Selection
from icp.sweep.co_ablation import CoAblation


@dataclass(frozen=True)
class Report:
    """A page of HTML."""

    title: str
    html: str = field(repr=False)

    def save(self, path: "str | Path") -> Path:
        """Write one file that opens in any browser without a network; it appears whole or not at all."""
        with writing_file(path) as work:
            work.write_text(self.html, "utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        """In a notebook: the page in a frame, so that neither's styles reach the other."""
        return element("iframe", srcdoc=self.html, title=self.title, width="100%", height="900")


def report(
    title: str,
    *,
    summary: Sequence[str] = (),
    model_name: str = "",
    estimates: Effects | None = None,
    exact: Effects | None = None,
    doses: Effects | None = None,
    costs: Mapping[str, Effects] | None = None,
    frontier: Frontier | None = None,
    selection: Selection | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
    drivers: Drivers | None = None,
    co_ablation: CoAblation | None = None,
    changed_answers: Mapping[str, ChangedAnswers] | None = None,
    by_position: Mapping[str, Effects] | None = None,
    notes: Sequence[str] = (),
    max_gap_left: float | None = None,
) -> Report:
    """A page from artefacts alone; a section appears where its artefact is given.

    `estimates` are first-order effects, `exact` effects of (some of) the same units, `doses` effects of `Scale(alpha)`,
    `costs` effects of a mask on losses, by name. `evaluations` maps a section's name to models, of which the first is
    what the others are compared with. `co_ablation` says whether units stand in for each other, `changed_answers`, by
    name, which answers one model gives that another did not. `by_position` are indirect effects measured at some
    positions only, by their names. `max_gap_left`, a share, is drawn on the frontier as the target. Estimates that come
    without exact effects are said to be unaudited.

    Raises `ArtefactError` where the artefacts were made on different models.
    """
    costs, evaluations, by_position = dict(costs or {}), dict(evaluations or {}), dict(by_position or {})
    measured = {"estimates": estimates, "exact": exact, "doses": doses}
    measured |= {f"cost: {name}": effects for name, effects in costs.items()}
    measured = {name: effects for name, effects in measured.items() if effects is not None}
    placed_ones = {f"at {name}": effects for name, effects in by_position.items()}
    binding = _common(_bindings(measured | placed_ones, frontier, selection, drivers, co_ablation))
    for name, evaluation in evaluations.items():
        _require_evaluated(binding, f"the evaluation {name!r}", evaluation)
    for name, comparison in (changed_answers or {}).items():
        _require_evaluated(binding, f"the comparison {name!r}", comparison)
    model_name = _with_origin(model_name or next((e.header["model"] for e in measured.values()), ""))
    unit_of_P = next((e.header["unit_of_P"] for e in (exact, estimates, doses) if e is not None), "units of P")
    chosen = [] if selection is None else [choice.unit for choice in selection.choices if choice.cuts]
    acted_on = [] if selection is None else [choice.unit for choice in selection.choices if choice.role != "keep"]
    sections = [
        results(summary, evaluations, unit_of_P, model_name),
        changed(changed_answers or {}),
        units_map(exact if estimates is None else estimates, chosen),
        audited(estimates, exact),
        certified(measured),
        rounded(measured),
        backed_up(co_ablation),
        dosed(doses),
        frontier_of(frontier, selection, max_gap_left),
        selected(selection, estimates, exact, costs),
        placed(by_position, drivers, acted_on),
        driving(drivers, estimates if exact is None else exact, acted_on),
        marked(measured),
        _provenance(measured, frontier, selection, drivers, binding, model_name),
        Section("notes", "Notes", bullets(notes)) if notes else None,
    ]
    subtitle = f"Model: {model_name}" if model_name else "Made with icp"
    return Report(title, page(title, subtitle, [section for section in sections if section is not None]))


def _bindings(
    measured: dict[str, Effects],
    frontier: Frontier | None,
    selection: Selection | None,
    drivers: Drivers | None,
    co_ablation: CoAblation | None,
) -> dict[str, dict[str, str]]:
    """What each artefact is bound to, less a selection's weights: a cut model's selection is bound to those it left."""
    bindings = {name: effects.header["binding"] for name, effects in measured.items()}
    if frontier is not None:
        bindings["frontier"] = frontier.binding
    if drivers is not None:
        bindings["drivers"] = drivers.header["binding"]
    if co_ablation is not None:
        bindings["co-ablation"] = co_ablation.header["binding"]
    if selection is not None:
        bindings["selection"] = {key: value for key, value in selection.binding.items() if key != "weights"}
    return bindings


def _common(bindings: dict[str, dict[str, str]]) -> dict[str, str]:
    """The binding that all artefacts share; raises `ArtefactError` naming both values where two differ."""
    first: dict[str, tuple[str, str]] = {}
    for name, binding in bindings.items():
        for key, value in binding.items():
            holder, known = first.setdefault(key, (name, value))
            if known != value:
                raise ArtefactError(
                    f"{name!r} was made on another {key} ({value}) than {holder!r} ({known}): "
                    "report artefacts of one model together"
                )
    return {key: value for key, (_, value) in first.items()}


def _require_evaluated(binding: dict[str, str], what: str, measured: Evaluation | ChangedAnswers) -> None:
    """Raise `ArtefactError` where none of the evaluated models has the architecture and tokenizer of the artefacts."""
    for key in ("architecture", "tokenizer"):
        found = {told[key] for told in measured.bindings.values() if key in told}
        if found and key in binding and binding[key] not in found:
            raise ArtefactError(
                f"{what} is of another {key} ({', '.join(sorted(found))}) than the other artefacts "
                f"({binding[key]}): report artefacts of one model together"
            )


def _with_origin(model_name: str) -> str:
    return f"smollm2 ({NAME})" if model_name == "smollm2" else model_name


def _provenance(
    measured: dict[str, Effects],
    frontier: Frontier | None,
    selection: Selection | None,
    drivers: Drivers | None,
    binding: dict[str, str],
    model_name: str,
) -> Section:
    fields = {
        "property": lambda e: joined([_breakable(e.header["property"]), f", {e.header['unit_of_P']}"]),
        "method": lambda e: e.header["method"].replace("linear", "first-order estimate"),
        "interventions": lambda e: ", ".join(e.interventions),
        "units": lambda e: f"{len(e.header['units']):,}",
        "examples": lambda e: f"{len(e.clean):,}",
        "positions": lambda e: e.header["positions"],
        "mean taken over": _mean_of,
        "dtype": lambda e: e.header["dtype"].removeprefix("torch."),
        "measured with": lambda e: ", ".join(f"{name} {number}" for name, number in e.header["versions"].items()),
    }
    rows = [[name, *(show(effects) for effects in measured.values())] for name, show in fields.items()]
    facts: list[list[Any]] = [["model", model_name]] if model_name else []
    facts += [[key, element("code", value)] for key, value in binding.items()]
    if frontier is not None:
        facts.append(["frontier", plain(frontier.origin)])
    if selection is not None:
        facts.append(["selection", plain(selection.origin) or "made by hand"])
        weights = selection.binding.get("weights")
        if weights != binding.get("weights", weights):
            facts.append(["selection bound to", joined([element("code", weights), ", the weights of the cut model"])])
    if drivers is not None:
        facts.append(["drivers", f"{drivers.header.get('texts', '')} texts, model {drivers.header.get('model', '')}"])
    facts.append(["page made with", f"icp {_icp_version()}, plotly {version('plotly')}"])
    body = [table(["", *measured], rows, class_="facts")] if measured else []
    return Section("provenance", "Provenance", joined([*body, table(["", ""], facts, class_="facts")]))


def _mean_of(effects: Effects) -> str:
    if not any(label.startswith("mask:mean") for label in effects.interventions):
        return "no mean"
    reference = effects.header["reference"]
    return "the probe" if reference is None else f"reference {reference}"


def _breakable(name: str) -> Html:
    """A name that may be broken after its bracket, where there is something in it."""
    before, bracket, after = name.partition("(")
    return joined([before, bracket, "" if after in ("", ")") else Html("<wbr>"), after])


def _icp_version() -> str:
    from icp import __version__

    return __version__
