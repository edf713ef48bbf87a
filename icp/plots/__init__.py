"""Pictures of artefacts, as plotly figures; no model is needed."""

from icp.plots.calibration import MOST, reliability
from icp.plots.evidence import (
    METRIC_UNITS,
    METRICS,
    audit_plot,
    before_after,
    estimates_vs_exact,
    frontier_plot,
    summary,
)
from icp.plots.style import plotly_js, short
from icp.plots.units import dose_response, head_map, neuron_strip

__all__ = [
    "METRICS", "METRIC_UNITS", "MOST", "audit_plot", "before_after", "dose_response",
    "estimates_vs_exact", "frontier_plot", "head_map", "neuron_strip", "plotly_js", "reliability", "short", "summary",
]  # fmt: skip
