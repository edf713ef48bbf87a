"""A found graph proposes roles and is confirmed by hand; a spec is drawn with its arrows."""

from dataclasses import replace

import numpy as np
import pytest

from icp import plots
from icp.counterfactual import Column, Lexicon, Proposal, Spec, Variable, proposed
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
    figure = plots.causal_graph(spec)
    places = {
        name: (x, y)
        for trace in figure.data if trace.mode == "markers+text"
        for name, x, y in zip(trace.text, trace.x, trace.y)
    }  # fmt: skip
    assert set(places) == set(NAMES) and len(set(places.values())) == 4
    drawn = {((note.ax, note.ay), (note.x, note.y)) for note in figure.layout.annotations}
    assert drawn == {(places[a], places[b]) for a, b in spec.arrows}
    assert all(places[a][0] < places[b][0] for a, b in spec.arrows)
    dashed = [trace for trace in figure.data if trace.line.dash == "dash"]
    assert {(trace.x[0], trace.y[0]) for trace in dashed} == {places["gender"], places["place"]}
    assert all((trace.x[1], trace.y[1]) == places["rating"] for trace in dashed)
    assert sum(bool(trace.showlegend) for trace in dashed) == 1
