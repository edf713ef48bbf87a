"""What each section of a report says: an artefact in, prose, a plot and a table out."""

from icp.sections.answers import changed
from icp.sections.evidence import audited, frontier_of, results
from icp.sections.limits import backed_up, certified, marked, rounded
from icp.sections.places import placed
from icp.sections.text import bullets, plain
from icp.sections.units import dosed, driving, selected, units_map

__all__ = [
    "audited", "backed_up", "bullets", "certified", "changed", "dosed", "driving", "frontier_of", "marked", "placed",
    "plain", "results", "rounded", "selected", "units_map",
]  # fmt: skip
