"""A declared causal graph as a drawing."""

from typing import Any

from icp.counterfactual.spec import Spec
from icp.page import Html, element, joined

STYLE = """
.graph { font: 14px system-ui, sans-serif; } .graph line { stroke: #5a6270; stroke-width: 1.5; }
.graph path { fill: #5a6270; } .graph rect { stroke: #5a6270; fill: #f5f6f8; } .graph rect.label { fill: #1f2430; }
.graph text.label { fill: white; } .graph rect.cue { fill: white; stroke-dasharray: 5 4; }
"""
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 160, 34, 240, 56, 8


def causal_graph(spec: Spec) -> Html:
    """A drawing that pages take in and notebooks show.

    Arrows go from left to right, from what causes to what is caused; a dashed line joins a cue and the label. The label
    has a dark box, causes have a light one, and cues a dashed one.
    """
    places = _places(spec)
    lines = [_arrow(places[one], places[other]) for one, other in spec.arrows]
    lines += [_dashed(places[cue.name], places[spec.label]) for cue in spec.cues]
    kinds = {spec.label: "label"} | {one.name: "cause" for one in spec.causes} | {one.name: "cue" for one in spec.cues}
    boxes = [_box(name, places[name], kind) for name, kind in kinds.items()]
    width = max(x for x, _ in places.values()) + WIDTH + MARGIN
    height = max(y for _, y in places.values()) + HEIGHT + MARGIN
    tip = element(
        "marker", element("path", d="M0,0 L8,4 L0,8 z"), id="tip", markerWidth=8, markerHeight=8, refX=8, refY=4,
        orient="auto",
    )  # fmt: skip
    told = (
        f"{', '.join(f'{one} to {other}' for one, other in spec.arrows)}; cues: {', '.join(c.name for c in spec.cues)}"
    )
    picture = element(
        "svg", element("title", told), element("style", STYLE), element("defs", tip), *lines, *boxes,
        viewBox=f"0 0 {width} {height}", width=width, height=height, class_="graph", role="img",
    )  # fmt: skip
    return element("div", picture, class_="scroll")


def _places(spec: Spec) -> dict[str, tuple[int, int]]:
    """The upper left corner of every box: a column a generation, and cues without arrows below the others."""
    import networkx

    graph = networkx.DiGraph(spec.arrows)
    graph.add_node(spec.label)
    order = [spec.label, *(variable.name for variable in spec.variables)]
    columns: list[list[str]] = [sorted(names, key=order.index) for names in networkx.topological_generations(graph)]
    rows = max(map(len, columns))
    apart = [cue.name for cue in spec.cues if cue.name not in graph]
    found = {name: (x, y) for x, names in enumerate(columns) for y, name in enumerate(names)}
    found |= {
        name: (place % max(1, len(columns)), rows + place // max(1, len(columns))) for place, name in enumerate(apart)
    }
    return {name: (MARGIN + ACROSS * x, MARGIN + DOWN * y) for name, (x, y) in found.items()}


def _arrow(one: tuple[int, int], other: tuple[int, int]) -> Html:
    start, end = (one[0] + WIDTH, one[1] + HEIGHT // 2), (other[0] - 3, other[1] + HEIGHT // 2)
    return _line(start, end, marker_end="url(#tip)")


def _dashed(one: tuple[int, int], other: tuple[int, int]) -> Html:
    """From the side of the cue's box that is nearer to the label."""
    (x, y), (to_x, to_y) = one, other
    if x == to_x:
        return _line((x + WIDTH // 2, y), (to_x + WIDTH // 2, to_y + HEIGHT), stroke_dasharray="5 4")
    start, end = (x + WIDTH, to_x) if x < to_x else (x, to_x + WIDTH)
    return _line((start, y + HEIGHT // 2), (end, to_y + HEIGHT // 2), stroke_dasharray="5 4")


def _line(start: tuple[int, int], end: tuple[int, int], **how: Any) -> Html:
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], **how)


def _box(name: str, place: tuple[int, int], kind: str) -> Html:
    x, y = place
    shown = name if len(name) <= 18 else name[:17] + "…"
    rectangle = element("rect", x=x, y=y, width=WIDTH, height=HEIGHT, rx=6, class_=kind)
    words = element("text", shown, x=x + WIDTH // 2, y=y + HEIGHT // 2 + 5, text_anchor="middle", class_=kind)
    return joined([rectangle, words])
