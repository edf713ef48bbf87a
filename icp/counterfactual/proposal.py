"""A graph that a causal-discovery library found, as a proposal that you confirm by saying what is a cause and a cue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icp.counterfactual.spec import Spec, Variable
from icp.errors import SpecError

ARROW, TAIL, CIRCLE = 1, -1, 2
"""What stands at an end of an edge, as causal-learn's `Endpoint` counts."""


@dataclass(frozen=True)
class Proposal:
    """`arrows` are directed edges, `open` those whose direction was not found, or that hint at a hidden common cause.

    It is no spec: found from data, with the assumptions of its method. `roles(label)` says what it suggests, and
    `confirm` makes the spec that you decide on.
    """

    names: tuple[str, ...]
    arrows: tuple[tuple[str, str], ...]
    open: tuple[tuple[str, str], ...] = ()

    def roles(self, label: str) -> dict[str, str]:
        """Of every other variable: `cause` or `effect` of the label by an arrow, `open`, or `not adjacent`."""
        if label not in self.names:
            raise SpecError(f"the graph has no {label!r}: it has {', '.join(self.names)}")
        told = {name: "not adjacent" for name in self.names if name != label}
        told |= {a if b == label else b: "open" for a, b in self.open if label in (a, b)}
        told |= {a: "cause" for a, b in self.arrows if b == label}
        return told | {b: "effect" for a, b in self.arrows if a == label}

    def confirm(
        self,
        label: str,
        classes: Sequence[str],
        causes: Sequence[Variable],
        cues: Sequence[Variable],
        direction: str = "causal",
        overrule: Sequence[str] = (),
    ) -> Spec:
        """The spec with these causes and cues, and the graph's arrows between them.

        Raises `SpecError` for a variable that is given another role than the graph suggests (a cause is adjacent to the
        label, by an arrow in the `direction` or an open edge; a cue is not adjacent, or by an open edge), unless
        `overrule` names it, and for one that the graph does not have.
        """
        roles, wanted = self.roles(label), "cause" if direction == "causal" else "effect"
        kept = {one.name for one in (*causes, *cues)}
        for name in (*sorted(kept), *overrule):
            if name not in roles:
                raise SpecError(f"the graph has no {name!r} beside {label}: it has {', '.join(roles)}")
        for variables, role, fits in ((causes, "cause", (wanted, "open")), (cues, "cue", ("not adjacent", "open"))):
            for one in variables:
                if roles[one.name] not in fits and one.name not in overrule:
                    raise SpecError(
                        f"{one.name!r} is to be a {role}, and in the graph it is {roles[one.name]!r} for {label} (the "
                        f"text is {direction}): give it another role, or overrule=({one.name!r},)"
                    )
        edges = tuple(edge for edge in self.arrows if set(edge) <= kept)
        return Spec(label, classes, causes, cues, direction, edges)


def proposed(graph: Any, names: Sequence[str] = ()) -> Proposal:
    """From what causal-learn finds (a `GeneralGraph`, or what has one as `G`), or an adjacency matrix with `names`.

    A matrix has a number other than 0 in row i and column j for an arrow from i to j; in both directions it is open.
    `names` take the place of causal-learn's own. Raises `SpecError` for a matrix that is not square or an edge from a
    variable to itself.
    """
    graph = getattr(graph, "G", graph)
    if hasattr(graph, "get_node_names"):
        ends = np.asarray(graph.graph)
        names = tuple(names) or tuple(graph.get_node_names())
    else:
        matrix = np.asarray(graph)
        _require_square(matrix, names)
        ends = np.where(matrix.T != 0, ARROW, np.where(matrix != 0, TAIL, 0))
    _require_square(ends, names)
    arrows, unsettled = [], []
    for i, j in zip(*np.nonzero(np.triu((ends != 0) | (ends.T != 0), 1))):
        at_i, at_j = int(ends[i, j]), int(ends[j, i])
        if (at_i, at_j) == (TAIL, ARROW):
            arrows.append((names[i], names[j]))
        elif (at_i, at_j) == (ARROW, TAIL):
            arrows.append((names[j], names[i]))
        else:
            unsettled.append((names[i], names[j]))
    return Proposal(tuple(names), tuple(arrows), tuple(unsettled))


def _require_square(matrix: np.ndarray, names: Sequence[str]) -> None:
    if matrix.ndim != 2 or matrix.shape != (len(names), len(names)):
        raise SpecError(f"a graph of {len(names)} names ({', '.join(names)}) has a matrix of shape {matrix.shape}")
    if len(set(names)) < len(names):
        raise SpecError(f"the names {', '.join(names)} have to be different ones")
    if np.diag(matrix).any():
        raise SpecError(f"the graph has an edge from {names[int(np.diag(matrix).nonzero()[0][0])]!r} to itself")
