"""Words that several sections use."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from icp.effects import Effects
from icp.page import Html, element
from icp.units import Unit

CUE = "swap:counterpart"
RED, BLUE = (178, 24, 43), (33, 102, 172)


def plain(value: Any) -> str:
    """A stored setting as words."""
    if isinstance(value, Mapping):
        parts = {name: plain(part) for name, part in value.items() if part is not None}
        return ", ".join(f"{n} ({p})" if isinstance(value[n], Mapping) else f"{n} {p}" for n, p in parts.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def bullets(lines: Sequence[str]) -> Html:
    return element("ul", *(element("li", line) for line in lines)) if lines else Html("")


def address(unit: Unit) -> Html:
    """It may be broken before the hook's own name."""
    before, hook, after = str(unit).partition("hook_")
    return element("span", before, Html("<wbr>"), hook, after, class_="address")


def units_counted(count: int) -> str:
    return f"{count:,} unit{'s' * (count != 1)}"


def are(count: int) -> str:
    return "are" if count != 1 else "is"


def of_selected(units: Iterable[str], selected: Iterable[Unit]) -> str:
    """A sentence, after a space, where these units are only some of those that were selected; else nothing."""
    these, all_of_them = set(units), set(map(str, selected))
    return f" These are {len(these)} of the {len(all_of_them)} selected units." if these < all_of_them else ""


def approximately(effects: Effects) -> str:
    return "≈ " if effects.estimated else ""
