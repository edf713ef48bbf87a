"""A causal spec as a graph."""

from html import escape

import plotly.graph_objects as go

from icp.counterfactual.spec import Spec
from icp.plots.style import INK, NEGATIVE, NEUTRAL, POSITIVE, shortened, styled

RADIUS = 34
ROLES = (("cause", NEGATIVE, "circle"), ("cue", POSITIVE, "square"), ("label", INK, "diamond"))


def causal_graph(spec: Spec) -> go.Figure:
    """Causes, cues and the label: solid arrows are the spec's, a dashed line joins a cue to the label it goes with.

    The layers are those of the graph, causes to the left of what they cause.
    """
    places = _places(spec)
    roles = {"label": [spec.label], "cause": [v.name for v in spec.causes], "cue": [v.name for v in spec.cues]}
    figure = go.Figure()
    for cue in roles["cue"]:
        (x, y), (u, v) = places[cue], places[spec.label]
        figure.add_scatter(
            x=[x, u], y=[y, v], mode="lines", line=dict(color=NEUTRAL, width=1.5, dash="dash"), hoverinfo="skip",
            name="goes with, in the data", legendgroup="goes with", showlegend=cue == roles["cue"][0],
        )  # fmt: skip
    for start, stop in spec.arrows:
        (x, y), (u, v) = places[start], places[stop]
        figure.add_annotation(
            x=u, y=v, ax=x, ay=y, xref="x", yref="y", axref="x", ayref="y", standoff=RADIUS / 2 + 3,
            startstandoff=RADIUS / 2 + 3, showarrow=True, arrowhead=2, arrowsize=1.3, arrowwidth=1.8, arrowcolor=INK,
            text="",
        )  # fmt: skip
    for role, colour, symbol in ROLES:
        if not roles[role]:
            continue
        x, y = zip(*(places[name] for name in roles[role]))
        figure.add_scatter(
            x=x, y=y, mode="markers+text", name=role, text=[escape(shortened(name, 24)) for name in roles[role]],
            textposition="bottom center", marker=dict(size=RADIUS, color=colour, symbol=symbol), cliponaxis=False,
            customdata=[_told(spec, name) for name in roles[role]], hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    styled(figure, height=120 + 110 * max(2, len({y for _, y in places.values()})), left=20)
    lowest = min(y for _, y in places.values())
    figure.update_xaxes(visible=False, range=[-0.35, max(x for x, _ in places.values()) + 0.35])
    figure.update_yaxes(visible=False, range=[lowest - 0.6, max(y for _, y in places.values()) + 0.5])
    return figure


def _places(spec: Spec) -> dict[str, tuple[float, float]]:
    """Of every variable: its layer, and its height, those of one layer a unit apart, cues lowest."""
    import networkx

    graph = networkx.DiGraph(list(spec.arrows))
    order = [spec.label, *(one.name for one in spec.variables)]
    generations = [sorted(names, key=order.index) for names in networkx.topological_generations(graph)]
    alone = [name for name in order if name not in graph]
    layers = dict(enumerate([[*(generations[0] if generations else []), *alone], *generations[1:]]))
    return {
        name: (float(layer), -float(place) - 0.35 * (layer % 2))
        for layer, names in layers.items()
        for place, name in enumerate(names)
    }


def _told(spec: Spec, name: str) -> str:
    if name == spec.label:
        return f"{escape(name)}: {escape(', '.join(spec.classes))}<br>the text is {spec.direction}"
    variable = spec.variable(name)
    values = ", ".join(variable.finder.values if variable.finder is not None else ())
    how = type(variable.finder).__name__.lower()
    return f"{escape(name)}: {escape(shortened(values, 80))}<br>found by a {how}"
