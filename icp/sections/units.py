"""What was measured of single units: where they are, what they carry, cost and answer to."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from icp.audit import paired, unit_means
from icp.drivers import Drivers, DrivingInput
from icp.effects import Effects
from icp.numerals import number, with_error
from icp.page import Cell, Html, Section, element, folded, joined, paragraph, plot, table
from icp.sections.pictures import shaded
from icp.sections.text import BLUE, CUE, RED, address, approximately, of_selected, plain
from icp.selection import Choice, Selection
from icp.statistics import standard_error
from icp.units import Unit

ROWS_SHOWN = 25


def units_map(effects: Effects | None, chosen: Sequence[Unit]) -> Section | None:
    """Heads as a map and neurons as a strip, where there are any."""
    if effects is None:
        return None
    units = effects.units
    finite = np.isfinite(effects.of(CUE if CUE in effects.interventions else effects.interventions[0])).all(1)
    kinds = {unit.kind for unit, known in zip(units, finite) if known}
    if not kinds & {"head", "neuron"}:
        return None
    from icp.plots import head_map, neuron_strip

    how = "Values are first-order estimates. " if effects.estimated else "Values are exact. "
    if CUE in effects.interventions and paired(effects):
        direction = (
            "Red: giving the unit its value from the counterpart x' moves P towards P(x'), so the unit carries the "
            "cue. Blue: it moves P the other way."
        )
    elif paired(effects):
        direction = f"Red: {effects.interventions[0]} moves P towards P(x'). Blue: it moves P the other way."
    else:
        direction = f"Red: {effects.interventions[0]} raises P. Blue: it lowers P."
    body = [paragraph(how, direction)]
    if "head" in kinds:
        layers, heads = sizes(effects, units)
        caption = "Heads; grey ones were not measured. Hover for the address and the value with its standard error."
        body.append(plot("heads", head_map(effects, layers, heads, chosen), caption))
    if "neuron" in kinds:
        caption = "Neurons, in each block by their index. L3 N512 stands for blocks.3.mlp.hook_post[512]."
        body.append(plot("neurons", neuron_strip(effects, chosen), caption))
    return Section("units", "Where the effect is", joined(body))


def sizes(effects: Effects, units: Sequence[Unit]) -> tuple[int, int]:
    """Blocks, and heads a block: from the architecture the effects are bound to, else from the units themselves."""
    tower = next((f"{unit.tower}: " for unit in units if unit.tower), "")
    told = effects.header["binding"].get("architecture", "")
    found = re.search(rf"{tower}layers (\d+).*?heads (\d+)x", told)
    if found:
        return int(found[1]), int(found[2])
    heads = [unit for unit in units if unit.kind == "head"]
    return max(u.layer for u in heads) + 1, max(u.index[0] for u in heads) + 1


def dosed(doses: Effects | None) -> Section | None:
    """How P answers to `Scale(alpha)`."""
    if doses is None:
        return None
    from icp.plots import dose_response

    gap = doses.header["property"].startswith("PairGap(")
    twice = ", in both runs of every pair" if gap else ""
    text = (
        f"Each unit alone is multiplied by alpha{twice}: 0 removes it, 1 leaves it as it is, 2 doubles it. An effect "
        "that grows steadily with the dose is hard to get by accident."
    )
    caption = f"Bands are one standard error over examples (n = {doses.dP.shape[2]})."
    if gap:
        intact = f"{number(float(np.abs(doses.clean).mean()))} {doses.header['unit_of_P']}"
        caption += f" Below zero the gap between x and x' narrows; in the intact model it is {intact}."
    return Section(
        "doses", "Dose and response", joined([paragraph(text), plot("doses", dose_response(doses), caption)])
    )


def selected(
    selection: Selection | None, estimates: Effects | None, exact: Effects | None, costs: Mapping[str, Effects]
) -> Section | None:
    """The selected units, with what each carries and costs alone."""
    if selection is None:
        return None
    wanted = {str(unit) for unit in selection.units}
    head, columns, captions = ["unit", "role"], [], []
    carriers = [e for e in (exact, estimates) if e is not None and CUE in e.interventions and paired(e)]
    if carriers:
        effect: dict[str, Cell] = {}
        share: dict[str, Cell] = {}
        for source in reversed(carriers):
            about = approximately(source)
            for unit, mean, se, part in _indirect(source, wanted):
                effect[unit], share[unit] = Cell(about + with_error(mean, se), mean), Cell(about + f"{part:.1%}", part)
        unit_of_P, total = carriers[0].header["unit_of_P"], float(np.abs(carriers[0].total).mean())
        head += [f"indirect effect ± se, {unit_of_P}", "share"]
        columns += [effect, share]
        captions.append(
            "Indirect effect: how far P moves towards P(x') when the unit alone takes its value from x'. Share: of the "
            f"total effect, which is {number(total)} {unit_of_P} on average; shares of single units do not add up."
        )
    for name, cost in costs.items():
        head.append(f"damage ± se, {cost.header['unit_of_P']}: {name}")
        rise, about = cost.dP[:, 0].astype(float), approximately(cost)
        named = zip(cost.header["units"], rise.mean(1), standard_error(rise, cost.clusters))
        columns.append({u: Cell(about + with_error(m, s), m) for u, m, s in named if u in wanted})
        what = f"{cost.header['property']} under {cost.interventions[0]} of the unit alone"
        captions.append(f"Damage, {name}: the rise of {what}, n = {len(cost.clean)} examples.")
    if any(cell.shown.startswith("≈") for column in columns for cell in column.values()):
        captions.append("≈ marks a first-order estimate; the other numbers are exact.")
    rows = [
        [address(c.unit), _role(c), *(column.get(str(c.unit), "") for column in columns)] for c in selection.choices
    ]
    rule = plain(selection.origin.get("rule", {}))
    if "max_damage" in rule:
        units = set(selection.origin.get("cost_units", {"": "nats"}).values())
        rule += f" {units.pop()}" if len(units) == 1 else ", each in the unit of its loss"
    lead = f"{len(rows)} unit{'s' * (len(rows) != 1)}" + (f", chosen on the frontier by {rule}." if rule else ".")
    body = [paragraph(lead), table(head, rows[:ROWS_SHOWN])]
    if rows[ROWS_SHOWN:]:
        body.append(folded(f"The other {len(rows) - ROWS_SHOWN}", table(head, rows[ROWS_SHOWN:])))
    body += [paragraph(caption, class_="note") for caption in captions]
    return Section("selected", "Selected units", joined(body))


def _role(choice: Choice) -> str:
    match choice.role:
        case "scale":
            return f"scale by {choice.alpha:g}"
        case "prune":
            return "prune (mean)" if choice.shift else "prune (zero)"
        case "erase":
            return f"erase {len(choice.along)} direction{'s' * (len(choice.along) != 1)}"
    return choice.role


def _indirect(effects: Effects, wanted: set[str]) -> list[tuple[str, float, float, float]]:
    """Unit, indirect effect, standard error and share of the total effect."""
    means, errors = unit_means(effects, CUE)
    shares = means / np.abs(effects.total).mean()
    rows = zip(effects.header["units"], means.tolist(), errors.tolist(), shares.tolist())
    return [row for row in rows if row[0] in wanted]


def driving(drivers: Drivers | None, effects: Effects | None, selected: Sequence[Unit] = ()) -> Section | None:
    """The texts that drive each unit, token by token; they are some of the units selected."""
    if drivers is None:
        return None
    known: dict[str, str] = {}
    if effects is not None and CUE in effects.interventions and paired(effects):
        unit_of_P, about = effects.header["unit_of_P"], approximately(effects)
        for unit, mean, se, _ in _indirect(effects, set(drivers.inputs)):
            known[unit] = f"indirect effect {about}{with_error(mean, se)} {unit_of_P}"
    every = [one for inputs in drivers.inputs.values() for one in inputs]
    pictured = any(one.image is not None for one in every)
    inputs, tokens, zero = ("images", "patches", "clear") if pictured else ("texts", "tokens", "white")
    text = (
        f"For each unit the {inputs}, of {drivers.header.get('texts', 'all')} in the probe, in which it is most "
        f"active. {tokens.capitalize()} are shaded by the unit's activation: red positive, blue negative, {zero} zero, "
        "each unit on its own scale. For a head the number is the norm of what it writes into the residual stream, so "
        f"never negative. Hover over {'a patch' if pictured else 'a token'} for its number."
    )
    if pictured:
        text += " Beside each image it lies in grey under its shades, with a disc for its class token."
    if any(one.cue for one in every):
        text += f" Framed are the {tokens} in which {'an image' if pictured else 'a text'} and its counterpart differ: "
        text += "the cue."
    text += of_selected(drivers.inputs, selected)
    cards = []
    for name, inputs in drivers.inputs.items():
        unit, values = Unit.parse(name), [a for one in inputs for a in one.activations]
        most, signed = max(map(abs, values), default=0.0), min(values, default=0.0) < 0
        paired_texts = [one for one in inputs if one.cue]
        told = [known[name]] if name in known else []
        if paired_texts:
            peaks = sum(one.peak in one.cue for one in paired_texts)
            kind = "texts" if paired_texts[0].image is None else "images"
            told.append(f"most active at the cue in {peaks} of {len(paired_texts)} {kind}")
        effect = element("small", "; ".join(told)) if told else ""
        shown = [_tokens(one, most) if one.image is None else shaded(one, most) for one in inputs]
        pictures = [element("div", *shown, class_="pictures")] if inputs and inputs[0].image is not None else shown
        legend = _legend(most, signed)
        cards.append(element("div", element("h3", address(unit), effect), legend, *pictures, class_="card"))
    return Section(
        "drivers", "What drives the units", joined([paragraph(text), element("div", *cards, class_="cards")])
    )


def _tokens(one: DrivingInput, most: float) -> Html:
    spans = []
    for position, (token, activation) in enumerate(zip(one.tokens, one.activations)):
        shown = token.replace("\n", "⏎").replace("\t", "⇥") or "∅"
        said = f"{token.strip()}: {number(activation)}"
        shade = _shade(activation / most if most else 0.0)
        spans.append(element("span", shown, style=shade, title=said, class_="cue" if position in one.cue else None))
    return element("div", *spans, class_="tokens")


def _shade(share: float) -> str:
    """White at 0, through pale, to red at 1 or blue at -1; the text turns white where the ground is dark."""
    darkest = RED if share > 0 else BLUE
    strength = min(1.0, abs(share)) ** 0.8
    red, green, blue = (round(255 + (channel - 255) * strength) for channel in darkest)
    return f"background:rgb({red},{green},{blue});color:{'#fff' if strength > 0.72 else '#1f2430'}"


def _legend(most: float, signed: bool) -> Html:
    stops = (-1.0, -0.5, 0.0, 0.5, 1.0) if signed else (0.0, 0.25, 0.5, 0.75, 1.0)
    colours = ",".join(_shade(stop).split(";")[0].removeprefix("background:") for stop in stops)
    bar = element("i", style=f"background:linear-gradient(90deg,{colours})")
    return element("div", number(-most) if signed else "0", bar, number(most), class_="legend")
