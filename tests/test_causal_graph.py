"""A found graph proposes roles and is confirmed by hand; a spec is drawn with its arrows."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from icp.counterfactual import Column, Lexicon, Proposal, Spec, Variable, causal_graph, proposed
from icp.errors import SpecError

NAMES = ("sentiment", "gender", "place", "rating")
SENTIMENT = Variable("sentiment", Lexicon("s", {"bad": ("bad",), "good": ("good",)}))
GENDER = Variable("gender", Lexicon("g", {"male": ("he",), "female": ("she",)}))
PLACE = Variable("place", Column("place", ("north", "south")))


def matrix(*arrows):
    found = np.zeros((4, 4))
    for a, b in arrows:
        found[NAMES.index(a), NAMES.index(b)] = 0.7
    return found


FOUND = matrix(("sentiment", "rating"), ("place", "gender"), ("gender", "sentiment"), ("sentiment", "gender"))


def test_a_matrix_is_read_as_arrows_and_open_edges():
    found = proposed(FOUND, NAMES)
    assert found == Proposal(NAMES, (("sentiment", "rating"), ("place", "gender")), (("sentiment", "gender"),))
    assert found.roles("rating") == {"sentiment": "cause", "gender": "not adjacent", "place": "not adjacent"}
    assert found.roles("gender") == {"sentiment": "open", "place": "cause", "rating": "not adjacent"}
    assert found.roles("sentiment")["rating"] == "effect"


class GeneralGraph:
    """What causal-learn's class of this name gives: `graph[i, j]` is the mark at i of the edge between i and j."""

    graph = np.array([[0, -1, 2, 0], [1, 0, -1, 1], [1, -1, 0, 0], [0, 1, 0, 0]])

    def get_node_names(self):
        return ["X1", "X2", "X3", "X4"]


def test_causal_learns_marks_are_read():
    result = type("CausalGraph", (), {"G": GeneralGraph()})()
    found = proposed(result)
    assert found.arrows == (("X1", "X2"),)
    assert found.open == (("X1", "X3"), ("X2", "X3"), ("X2", "X4")), "circles, tails and a common cause leave it open"
    assert proposed(GeneralGraph(), NAMES).arrows == (("sentiment", "gender"),)


def test_it_is_confirmed_by_naming_causes_and_cues():
    found = proposed(FOUND, NAMES)
    spec = found.confirm("rating", ("poor", "great"), (SENTIMENT,), (GENDER, PLACE))
    assert spec == Spec("rating", ("poor", "great"), (SENTIMENT,), (GENDER, PLACE), "causal", spec.edges)
    assert set(spec.edges) == {("place", "gender")}
    with pytest.raises(SpecError, match="'gender' is to be a cause, and in the graph it is 'not adjacent' for rating"):
        found.confirm("rating", ("poor", "great"), (SENTIMENT, GENDER), ())
    with pytest.raises(SpecError, match="'sentiment' is to be a cue, and in the graph it is 'cause'"):
        found.confirm("rating", ("poor", "great"), (), (SENTIMENT,))
    with pytest.raises(SpecError, match=r"'sentiment' is to be a cause, .*the text is anti-causal"):
        found.confirm("rating", ("poor", "great"), (SENTIMENT,), (), "anti-causal")
    overruled = found.confirm("rating", ("poor", "great"), (SENTIMENT, GENDER), (), overrule=("gender",))
    assert [cause.name for cause in overruled.causes] == ["sentiment", "gender"]
    with pytest.raises(SpecError, match="the graph has no 'age' beside rating"):
        found.confirm("rating", ("poor", "great"), (replace(SENTIMENT, name="age"),), ())


@pytest.mark.parametrize(
    "graph, names, told",
    [
        (FOUND[:3], NAMES, r"matrix of shape \(3, 4\)"),
        (FOUND, NAMES[:3], "a graph of 3 names"),
        (FOUND, ("a", "a", "b", "c"), "different ones"),
        (np.eye(4), NAMES, "an edge from 'sentiment' to itself"),
    ],
)
def test_a_matrix_that_is_no_graph_is_refused(graph, names, told):
    with pytest.raises(SpecError, match=told):
        proposed(graph, names)


@pytest.mark.parametrize("direction", ["causal", "anti-causal"])
def test_a_spec_is_drawn_with_its_arrows_from_causes_to_effects(direction):
    spec = Spec("rating", ("poor", "great"), (SENTIMENT,), (GENDER, PLACE), direction, (("place", "gender"),))
    drawing = causal_graph(spec)
    assert drawing._repr_html_() == drawing, "a notebook shows it"
    root = ElementTree.fromstring(drawing)
    boxes = {text.text: box for box, text in zip(root.iter("rect"), root.iter("text"))}
    left, top = ({name: int(box.get(side)) for name, box in boxes.items()} for side in ("x", "y"))
    right = {name: left[name] + int(box.get("width")) for name, box in boxes.items()}
    bottom = {name: top[name] + int(box.get("height")) for name, box in boxes.items()}
    middle = {name: (top[name] + bottom[name]) // 2 for name in boxes}
    assert set(boxes) == set(NAMES) and len(set(zip(left.values(), top.values()))) == 4, "no box lies on another one"
    roles = {"sentiment": "cause", "gender": "cue", "place": "cue", "rating": "label"}
    assert {name: box.get("class") for name, box in boxes.items()} == roles
    lines = [[int(line.get(end)) for end in ("x1", "y1", "x2", "y2")] for line in root.iter("line")]
    dashed = [line.get("stroke-dasharray") is not None for line in root.iter("line")]
    assert dashed == [False, False, True, True]
    assert lines[:2] == [[right[a], middle[a], left[b] - 3, middle[b]] for a, b in spec.arrows]
    assert all(right[a] < left[b] for a, b in spec.arrows)
    for line, cue in zip(lines[2:], ("gender", "place")):
        ends = (tuple(line[:2]), tuple(line[2:]))
        assert all(
            (x in (left[name], right[name]) and y == middle[name])
            or (x == (left[name] + right[name]) // 2 and y in (top[name], bottom[name]))
            for (x, y), name in zip(ends, (cue, "rating"))
        )  # fmt: skip
