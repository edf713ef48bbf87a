"""The page of pairs: edits are marked, rejections have their reasons, and nothing of a text is taken for HTML."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from counterfactuals import GENDER, SPEC, Swapping, sentences

from icp.counterfactual import Changed, Column, EditDistance, Row, Spec, Variable, causal_graph, make_pairs, show
from icp.errors import SpecError

LONG = "nothing is said here of anyone at all " * 12


@pytest.fixture(scope="module")
def made():
    rows = [
        *sentences(30),
        Row("the <b>dull</b> film & he", 0),
        Row("a tree", 1),
        Row("he sees", 1),
        Row(f"{LONG}and then he left {LONG}", 1),
    ]
    return make_pairs(rows, edit=Swapping(), spec=SPEC, validators=[Changed(), EditDistance(0.4)], progress=False)


def test_edits_are_marked_in_both_texts_and_texts_are_escaped(made):
    html = show(made, count=len(made)).html
    assert "the &lt;b&gt;dull&lt;/b&gt; film &amp; <del>he</del>" in html
    assert "the &lt;b&gt;dull&lt;/b&gt; film &amp; <ins>she</ins>" in html
    assert html.count("<del>") == html.count("<ins>") >= len(made)
    assert f"{len(made):,} label-preserving pairs: edits of gender" in html


def test_long_passages_are_shortened_at_words(made):
    html = show(made, count=len(made)).html
    [cell] = re.findall(r"<td>(…[^<]*<del>he</del>[^<]*…)</td>", html)
    assert len(cell) < 250 and " left nothing is said" in cell
    assert all(word in [*LONG.split(), "and", "then", "left"] for word in re.sub("<.*>|…", " ", cell).split())


def test_every_reason_is_there_with_its_count_and_a_sentence(made):
    html = show(made, of_each_reason=1).html
    assert made.counts["rejected"] == {"edit too large": 1, "nothing found": 1}
    for part in (
        "edit too large (1)",
        "nothing found (1)",
        "the text says nothing of gender",
        "0.50 of the tokens change",
    ):
        assert part in html
    assert f'data-value="{float(len(made))!r}"' in html, "the yield table"
    assert "Rejected" not in show(made, of_each_reason=0).html


def test_as_many_pairs_as_asked_for_spread_evenly(made):
    html = show(made, count=3).html
    assert f"3 of {len(made)}, spread evenly" in html
    body = html[html.index('id="pairs"') : html.index('id="rejected"')]
    assert body.count("gender: ") == 3


def test_without_any_pair_there_is_a_page_too():
    made = make_pairs([Row("a tree", 1)], edit=Swapping(), spec=SPEC, progress=False)
    html = show(made).html
    assert "0 label-preserving pairs" in html and "nothing found (1)" in html and 'id="pairs"' not in html


def graph(spec):
    root = ElementTree.fromstring(causal_graph(spec))
    lines = root.iter("line")
    return [line.get("stroke-dasharray") is None for line in lines], [text.text for text in root.iter("text")]


def test_the_declared_graph_has_an_arrow_a_cause_and_a_dashed_line_a_cue():
    assert graph(SPEC) == ([True, False], ["sentiment", "verdict", "gender"])
    more = (
        *SPEC.cues,
        Variable("place", Column("place", ("here", "there"))),
        Variable("age", Column("age", ("a", "b"))),
    )
    spec = Spec("diagnosis", SPEC.classes, SPEC.causes, more, "anti-causal", edges=(("age", "gender"),))
    arrows, names = graph(spec)
    assert arrows == [True, True, False, False, False] and names == ["diagnosis", "verdict", "gender", "place", "age"]
    root = ElementTree.fromstring(causal_graph(spec))
    places = {(box.get("x"), box.get("y")) for box in root.iter("rect")}
    assert len(places) == 5, "no box lies on another one"
    with pytest.raises(SpecError, match="cycle"):
        Spec("diagnosis", SPEC.classes, SPEC.causes, more, edges=(("age", "gender"), ("gender", "age")))


def test_a_page_can_be_saved(made, tmp_path):
    path = show(made, "Pairs & kinds").save(tmp_path / "pairs.html")
    assert "<title>Pairs &amp; kinds</title>" in path.read_text("utf-8") and GENDER.name in path.read_text("utf-8")


def test_in_a_notebook_a_page_is_in_a_frame_that_holds_it_whole(made):
    page = show(made, "Pairs & kinds")
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(page._repr_html_())
    [(tag, attributes)] = tags
    assert tag == "iframe" and attributes["srcdoc"] == page.html and attributes["title"] == "Pairs & kinds"
