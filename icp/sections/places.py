"""At which tokens the units act, and which tokens the heads among them read."""

from collections.abc import Mapping, Sequence
from typing import Any

from icp.audit import paired, unit_means
from icp.drivers import Drivers
from icp.effects import Effects
from icp.numerals import with_error
from icp.page import Cell, Section, joined, paragraph, table
from icp.reading import PLACES
from icp.sections.text import CUE, address, approximately, of_selected
from icp.units import Unit

NAMED = {"cue": "at the cue", "last": "at the last token", "rest": "elsewhere", "all": "everywhere"}
READ = {"cue": "cue", "itself": "itself", "first": "first token", "elsewhere": "elsewhere"}


def placed(
    by_position: Mapping[str, Effects], drivers: Drivers | None, selected: Sequence[Unit] = ()
) -> Section | None:
    """Indirect effects by position, and where the attention of the last token goes; of some of the units selected."""
    effects = {place: e for place, e in by_position.items() if CUE in e.interventions and paired(e)}
    reads = {} if drivers is None else drivers.reads
    body = []
    if effects:
        first = next(iter(effects.values()))
        unit_of_P = first.header["unit_of_P"]
        found = {place: _cells(effect) for place, effect in effects.items()}
        units = dict.fromkeys(unit for cells in found.values() for unit in cells)
        rows = [[address(Unit.parse(u)), *(cells.get(u, "") for cells in found.values())] for u in units]
        text = (
            f"The indirect effect of the cue through each unit ± se, in {unit_of_P}, when the unit takes its value "
            f"from x' at some tokens only, n = {len(first.clean)} pairs. The cue's tokens are those in which x and x' "
            "differ; at the last one the answer is read. Parts of a unit need not add up to the whole."
            f"{of_selected(units, selected)}"
        )
        body += [paragraph(text), table(["unit", *(NAMED.get(place, place) for place in effects)], rows)]
    if reads:
        rows = [
            [address(Unit.parse(head)), *(_share(shares[place]) for place in PLACES)] for head, shares in reads.items()
        ]
        text = (
            "What heads read: how the attention of the last token, from which the answer is read, is shared out, as "
            "the mean over the texts that have a cue. A token counts once, in the first column that it fits. "
            "A head that acts elsewhere may read the cue from there, which this does not show."
        )
        body += [paragraph(text), table(["head", *(READ[place] for place in PLACES)], rows)]
    return Section("places", "At which tokens the units act", joined(body)) if body else None


def _cells(effects: Effects) -> dict[str, Cell]:
    means, errors = unit_means(effects, CUE)
    about = approximately(effects)
    return {unit: Cell(about + with_error(m, se), m) for unit, m, se in zip(effects.header["units"], means, errors)}


def _share(share: float) -> Any:
    return Cell(f"{share:.0%}", share)
