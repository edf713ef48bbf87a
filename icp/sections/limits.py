"""How far the measuring itself can be trusted: what was searched for or rounded, has no number, or hides the other."""

from collections.abc import Mapping

import numpy as np

from icp.effects import Effects
from icp.numerals import fixed, number, with_error
from icp.page import Cell, Section, folded, joined, paragraph, table
from icp.sections.text import bullets, units_counted
from icp.sweep.co_ablation import CoAblation

PLACES = (1, 2, 5, 10, 20, 50)


def certified(measured: Mapping[str, Effects]) -> Section | None:
    """What searches for the top k proved."""
    found = {name: effects.certificate for name, effects in measured.items()}
    lines = [f"{name}: {certificate}" for name, certificate in found.items() if certificate is not None]
    return Section("certificate", "Certified top k", bullets(lines)) if lines else None


def rounded(measured: Mapping[str, Effects]) -> Section | None:
    """How well effects that were measured in another precision rank units."""
    lines = []
    for name, effects in measured.items():
        compared = effects.header.get("rank_correlation")
        if compared is None:
            narrow = effects.header["dtype"].removeprefix("torch.")
            if narrow in ("bfloat16", "float16"):
                lines.append(f"{name}: measured in {narrow}; how that ranks units was not compared with float32.")
            continue
        own, other = (str(dtype).removeprefix("torch.") for dtype in (compared["against"], effects.header["dtype"]))
        rho = compared["spearman"]
        said = "could not be compared with" if np.isnan(rho) else f"have a rank correlation of {fixed(rho, 3)} with"
        lines.append(
            f"{name}: measured in {other}. Its scores, mean |dP| of {units_counted(compared['units'])} spaced over the "
            f"ranking, {said} those in {own} (Spearman)."
        )
    return Section("precision", "Measured in another precision", bullets(lines)) if lines else None


def marked(measured: Mapping[str, Effects]) -> Section | None:
    """How many rows the model gave no finite P for, where there are any."""
    lines = []
    for name, effects in measured.items():
        rows, units = int(effects.not_finite.sum()), int((effects.not_finite > 0).sum())
        if rows:
            lines.append(
                f"{name}: in {rows:,} of {effects.dP.size:,} rows (one a unit, intervention and example), of "
                f"{units_counted(units)}, the model returned NaN or infinity, so they have no number; units with such "
                "a row are ranked last and never selected by it."
            )
    return Section("not-finite", "Rows without a number", bullets(lines)) if lines else None


def backed_up(found: CoAblation | None) -> Section | None:
    """Whether units stand in for each other, and whether that changes the ranking."""
    if found is None:
        return None
    ranking, count = found.table(), len(found.units)
    changes = {k: found.changes(k) for k in PLACES if k < count}
    moved = [f"{units_counted(len(units))} of the first {k}" for k, units in changes.items() if units]
    verdict = (
        f"This changes the ranking by mean |dP|: {', '.join(moved)} would not be there by their effects alone."
        if moved
        else f"This does not change which units are the first {', '.join(map(str, changes))}."
    )
    text = (
        f"{count} units were intervened on ({', '.join(found.header['interventions'])}) alone and in all "
        f"{count * (count - 1) // 2:,} pairs, on {found.alone.shape[1]} examples. The effect of u given v is "
        "dP(u and v) - dP(v). A unit has v as its backup where mean |dP| becomes larger once v is gone, by more than "
        f"{fixed(found.errors_needed, 2)} standard errors (clustered by template and word; one-sided 95% of Student's "
        f"t, for the {count - 1} others that each unit is tried with). "
    )
    if found.left_out:
        text += f"{found.left_out:,} pairs are left out, as an example of them has no number. "
    rows = [
        [
            str(unit),
            Cell(number(row["S"]), row["S"]),
            Cell(number(row["S given backup"]), row["S given backup"]),
            "none" if row["backup"] == unit else row["backup"],
            Cell(with_error(row["gain"], row["standard error"]), row["gain"]),
            Cell(str(row["rank"]), float(row["rank"])),
            Cell(str(row["rank given backup"]), float(row["rank given backup"])),
        ]
        for unit, row in ranking.iterrows()
    ]
    unit = found.header["unit_of_P"]
    head = [
        "unit",
        f"mean |dP|, {unit}",
        f"given its backup, {unit}",
        "backup",
        "gain ± error",
        "rank",
        "rank given backup",
    ]
    shown = folded("The numbers", table(head, rows))
    return Section("backups", "Backup units", joined([paragraph(text, verdict), shown]))
