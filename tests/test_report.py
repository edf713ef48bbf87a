"""The report is one file that needs no network, escapes every text, and repeats the artefacts' numbers."""

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects
import pytest
from artefacts import (
    BINDING,
    MEANS,
    UNITS,
    backups,
    carrying,
    changed_answers,
    co_ablation,
    cost,
    evaluation,
    everything,
    exact,
    frontier,
    selection,
)  # fmt: skip

import icp
from icp.certificate import Stratum
from icp.drivers import DrivingInput

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
MINUS = "\N{MINUS SIGN}"
SECTIONS = {
    "results": "evaluations",
    "answers": "changed_answers",
    "units": "estimates",
    "audit": "estimates",
    "doses": "doses",
    "frontier": "frontier",
    "selected": "selection",
    "drivers": "drivers",
    "backups": "co_ablation",
    "notes": "notes",
}


class Page(HTMLParser):
    """Elements with their attributes, the visible text, and tables as lists of rows of (text, full number)."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.scripts, self.styles = [], [], [], []
        self.tables, self.sections, self._cell, self._inside = {}, {}, None, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in ("meta", "br", "wbr", "img", "link"):
            self._inside.append(tag)
        if tag == "section":
            self.section = attributes["id"]
            self.sections[self.section] = ""
        if tag == "tr":
            self.tables.setdefault(getattr(self, "section", None), []).append([])
        if tag in ("td", "th"):
            self._cell = ["", float(attributes["data-value"]) if "data-value" in attributes else None]

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        if tag in ("td", "th"):
            self.tables[self.section][-1].append(tuple(self._cell))
            self._cell = None

    def handle_data(self, data):
        if "script" in self._inside:
            self.scripts.append(data)
        elif "style" in self._inside:
            self.styles.append(data)
        else:
            self.text.append(data)
            if self._cell is not None:
                self._cell[0] += data
            if "section" in self._inside:
                self.sections[self.section] += data

    def row(self, section, name, occurrence=0):
        """The cells of a row by its first entry."""
        return [row for row in self.tables[section] if row and row[0][0] == name][occurrence]


def made(**change):
    return Page(icp.report("A title", **{**everything(), **change}).html)


@pytest.fixture(scope="module")
def html():
    return icp.report("A title", **everything()).html


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_section_is_there_and_in_the_table_of_contents(page):
    assert list(page.sections) == [
        "results", "answers", "units", "audit", "backups", "doses", "frontier", "selected", "places",
        "drivers", "provenance", "notes",
    ]  # fmt: skip
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == [f"#{name}" for name in page.sections]


@pytest.mark.parametrize(("section", "argument"), SECTIONS.items())
def test_a_section_appears_only_where_its_artefact_is_given(section, argument):
    without = {argument: None if argument != "notes" else ()}
    if section == "results":
        without["summary"] = ()
    if section == "units":
        without["exact"] = None
    assert section not in made(**without).sections
    assert set(SECTIONS) - {section} - ({"audit", "units"} if argument == "estimates" else set()) <= set(
        made(**without).sections
    )


def test_a_title_alone_makes_a_page():
    page = Page(icp.report("Nothing yet").html)
    assert list(page.sections) == ["provenance"] and not any("Plotly" in script for script in page.scripts)


def test_nothing_is_fetched(page, html):
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base")
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in (attributes.get("style") or "")
    assert page.styles and not any("url(" in style or "@import" in style for style in page.styles)
    assert html.count("Plotly.newPlot(") == 1 + _bundle().count("Plotly.newPlot(")
    assert len(html) < 8e6


def _bundle():
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def test_every_plot_has_its_data_and_plotly_goes_in_once(page, html):
    plots = [a["id"] for tag, a in page.elements if tag == "div" and a.get("class") == "plot"]
    assert plots == [f"plot-{n}" for n in ("before-after", "heads", "neurons", "audit-0", "doses", "frontier")]
    data = [a["id"] for tag, a in page.elements if tag == "script" and a.get("type") == "application/json"]
    assert data == [f"{name}-data" for name in plots]
    assert html.count(_bundle()[:2000]) == 1


def test_hostile_text_stays_text():
    arguments = everything()
    loud = arguments["estimates"]
    header = loud.header | {"property": f"{HOSTILE}()", "unit_of_P": HOSTILE, "model": HOSTILE}
    header["examples"] = [example | {"text": HOSTILE} for example in header["examples"]]
    values = evaluation().values
    change = {
        "summary": [HOSTILE],
        "notes": [HOSTILE],
        "model_name": HOSTILE,
        "estimates": icp.Effects(loud.dP, loud.clean, loud.total, header),
        "exact": None,
        "evaluations": {HOSTILE: icp.Evaluation({HOSTILE: values["original"], "b" + HOSTILE: values["pruned"]}),
                        "two": evaluation()},
        "costs": {HOSTILE: cost()},
        "drivers": icp.Drivers({UNITS[0]: (DrivingInput(HOSTILE, (HOSTILE, " b"), (1.0, -1.0)),)},
                               {"binding": BINDING, "texts": HOSTILE, "model": HOSTILE}),
        "changed_answers": {HOSTILE: _hostile_answers(), "two": changed_answers()},
        "frontier": None,
    }  # fmt: skip
    benign, hostile = made(exact=None, frontier=None), Page(icp.report(HOSTILE, **{**arguments, **change}).html)
    assert [tag for tag, _ in hostile.elements].count("script") == [tag for tag, _ in benign.elements].count("script")
    assert not any(tag == "img" or any(name.startswith("on") for name in a) for tag, a in hostile.elements)
    for section in ("results", "answers", "drivers", "provenance", "notes"):
        assert HOSTILE in hostile.sections[section], section
    data = [script for script in hostile.scripts if script.startswith('{"data"')]
    assert len(data) == 4 and not any("<" in script for script in data)


def _hostile_answers():
    found = changed_answers()
    rows = tuple(replace(e, text=HOSTILE, group=HOSTILE, answers=("no", HOSTILE)) for e in found.probe.examples)
    return replace(found, probe=icp.Probe(rows), names=(HOSTILE, "b" + HOSTILE))


def test_plot_data_cannot_close_its_script(monkeypatch):
    monkeypatch.setattr(plotly.graph_objects.Figure, "to_json", lambda figure: f'{{"data": "{HOSTILE}"}}')
    page = made()
    assert not any(tag == "img" for tag, _ in page.elements)


def test_a_cost_with_a_hostile_name_is_escaped_on_the_frontier():
    one = frontier()
    costs = {HOSTILE: one.costs["neutral"]}
    loud = icp.Frontier(
        one.sizes, one.gap, costs, one.choices, one.scores, one.binding, one.origin | {HOSTILE: HOSTILE}
    )
    page = Page(icp.report("A title", frontier=loud, selection=loud.select(top=2)).html)
    assert not any(tag == "img" for tag, _ in page.elements)
    assert HOSTILE in page.sections["frontier"] and HOSTILE in page.sections["provenance"]


def test_before_and_after_repeat_the_evaluation(page):
    original, pruned = np.array([3.0, 2.0, 4.0, 3.5]), np.array([1.0, 1.5, 2.0, 0.5])
    _, mean, _, change, paired, relative = page.row("results", "pruned")
    assert mean[1] == pytest.approx(pruned.mean()) and change[1] == pytest.approx((pruned - original).mean())
    assert relative[1] == pytest.approx(pruned.mean() / original.mean() - 1) and relative[0] == f"{MINUS}60.0%"
    half = 3.182446305284263 * (pruned - original).std(ddof=1) / 2  # Student's t at 97.5% with 3 degrees of freedom
    low, high = (float(x.replace(MINUS, "-")) for x in paired[0].strip("[]").split(", "))
    assert (low, high) == pytest.approx((change[1] - half, change[1] + half), abs=0.051)
    assert page.row("results", "original")[1][1] == pytest.approx(original.mean())
    assert page.row("results", "pruned", 1)[1] == ("33.3", pytest.approx(100 / 3))
    assert page.row("results", "random units, seed 0")[1][1] == pytest.approx(3.15)
    assert f"{MINUS}60.0%" in page.sections["results"] and "3.12 → 1.25 logits" in page.sections["results"]
    assert "All figures are of the dequantised model" in page.sections["results"]


def test_an_interval_is_of_the_mean_beside_it(page):
    for name in ("original", "pruned", "random units, seed 0"):
        row = page.row("results", name)
        low, high = (float(x.replace(MINUS, "-")) for x in row[2][0].strip("[]").split(", "))
        assert (low + high) / 2 == pytest.approx(row[1][1], abs=0.1) and low < row[1][1] < high


def test_the_selected_units_repeat_the_effects(page):
    chosen = selection().choices
    assert [str(choice.unit) for choice in chosen] == UNITS[6:8]
    for choice in chosen:
        row = page.row("selected", str(choice.unit))
        index = UNITS.index(str(choice.unit))
        assert row[1][0] == "prune (mean)"
        assert row[2][1] == pytest.approx(1.1 * MEANS[index])  # estimated, as it was not measured exactly
        assert row[2][0].startswith("≈ ")
        assert row[3][1] == pytest.approx(1.1 * MEANS[index] / 2)  # the total effect is 2 logits on average
        assert row[4][1] == pytest.approx(0.01 * (14 - index))
    assert "≈ marks a first-order estimate" in page.sections["selected"]
    assert "max_damage 0.25 nats" in page.sections["selected"]


def test_exact_effects_take_the_place_of_estimates():
    chosen = icp.Selection(tuple(icp.Choice(icp.Unit.parse(UNITS[row]), "scale", 0.5) for row in (3, 1)), BINDING)
    page = made(selection=chosen)
    measured, estimated = page.row("selected", UNITS[3]), page.row("selected", UNITS[1])
    assert measured[1][0] == "scale by 0.5"
    assert measured[2] == ("1.500 ± 0.065", pytest.approx(1.5)) and measured[3][0] == "75.0%"
    assert estimated[2] == (f"≈ {MINUS}0.275 ± 0.065", pytest.approx(-0.275))


def test_the_frontier_table_repeats_the_frontier(page):
    rows = [row for row in page.tables["frontier"] if row[0][1] is not None]
    table = frontier().table()
    assert [row[0][1] for row in rows] == list(table.index)
    columns = ["gap", "gap_left", "damage neutral", "relative_damage neutral", "damage names", "relative_damage names"]
    for row, (_, expected) in zip(rows, table.iterrows()):
        np.testing.assert_allclose([cell[1] for cell in row[1:]], expected[columns].to_numpy(dtype=float))


def test_the_audit_gives_its_correlations(page):
    values = {row[0][0]: row[1][1] for row in page.tables["audit"][1:]}
    assert values["Spearman correlation"] == pytest.approx(1.0)
    assert values["Pearson correlation"] == pytest.approx(1.0)
    assert values["exact top 5 in the estimated top 5"] == 1.0
    rows = [3, 0, 2, 13, 12, 11]
    assert values["median absolute error, logits"] == pytest.approx(np.median(np.abs(0.1 * MEANS[rows])))
    assert "6 of 14 estimated units" in page.sections["audit"]
    assert "not audited" not in page.sections["audit"]


@pytest.mark.parametrize("measured", [None, "another intervention"])
def test_estimates_without_exact_effects_are_called_unaudited(measured):
    one = exact()
    other = icp.Effects(one.dP, one.clean, one.total, one.header | {"interventions": ["mask:zero"]})
    page = made(exact=None if measured is None else other)
    assert "14 first-order estimates were not audited" in page.sections["audit"]
    assert ("p", {"class": "warning"}) in page.elements


def test_artefacts_of_a_float32_model_are_reported():
    given = everything()
    for name in ("estimates", "exact", "doses"):
        one = given[name]
        given[name] = icp.Effects(one.dP.astype("f4"), one.clean.astype("f4"), one.total.astype("f4"), one.header)
    one = given["costs"]["neutral"]
    given["costs"] = {"neutral": icp.Effects(one.dP.astype("f4"), one.clean, one.total, one.header)}
    one = given["frontier"]
    costs = {name: cost.astype("f4") for name, cost in one.costs.items()}
    given["frontier"] = icp.Frontier(
        one.sizes, one.gap.astype("f4"), costs, one.choices, one.scores, one.binding, one.origin
    )
    assert "frontier" in Page(icp.report("A title", **given).html).sections


def test_exact_effects_alone_need_no_audit():
    page = made(estimates=None)
    assert "audit" not in page.sections and "Values are exact." in page.sections["units"]


def test_exact_effects_of_other_examples_are_called_so():
    page = made(exact=carrying(MEANS, examples=[7, 8, 9, 10]))
    assert "of other examples than the estimates" in page.sections["audit"]


def test_what_is_said_of_some_of_the_selected_units_says_so():
    """Of four selected units, two are described and the others are not."""
    known = icp.Selection(tuple(icp.Choice(icp.Unit.parse(UNITS[i]), "prune") for i in (3, 6, 0, 7)), BINDING)
    page = made(selection=known, frontier=None)
    assert "These are 2 of the 4 selected units." in page.sections["drivers"]
    assert "These are 2 of the 4 selected units." in page.sections["places"]
    both = icp.Selection(known.choices[:2], BINDING)
    assert "selected units." not in made(selection=both, frontier=None).sections["drivers"]
    assert "selected units." not in made(selection=None, frontier=None).sections["places"]


def test_drivers_shade_each_token_by_its_activation(page):
    tokens = [a for tag, a in page.elements if tag == "span" and "background:rgb" in (a.get("style") or "")]
    said = {a["title"]: re.match(r"background:rgb\((\d+),(\d+),(\d+)\)", a["style"]).groups() for a in tokens}
    colour = {title: tuple(map(int, rgb)) for title, rgb in said.items()}
    assert colour["nurse: 4.00"] == (178, 24, 43)  # the strongest of its unit
    assert colour[f": {MINUS}2.00"] == (33, 102, 172)
    assert colour["b: 0"] == (255, 255, 255)
    assert colour["The: 0.500"][1] > colour["said: 1.00"][1] > colour["nurse: 4.00"][1]
    assert [a["title"] for a in tokens if a.get("class") == "cue"] == ["nurse: 4.00"]
    assert page.sections["drivers"].count("most active at the cue in") == 1, (
        "the other unit's texts have no counterpart"
    )
    assert "most active at the cue in 1 of 1" in page.sections["drivers"]
    assert "⏎" in page.sections["drivers"]
    assert "indirect effect 1.500 ± 0.065 logits" in page.sections["drivers"]


def test_changed_answers_repeat_their_counts_and_probabilities(page):
    assert [cell[1] for cell in page.row("answers", "mended (wrong → right)")[1:3]] == [2, 0.4]
    assert [cell[1] for cell in page.row("answers", "broken (right → wrong)")[4:]] == [0, 1, 0]
    assert [cell[1] for cell in page.row("answers", "changed")[4:]] == [1, 2, 0]
    assert [cell[0] for cell in page.row("answers", "yes", 1)] == ["yes", "Paul", "3", "1", "1", "0"]
    said = page.sections["answers"]
    assert "From original to pruned, 3 of 5 answers changed (60.0%, 95% interval [" in said
    assert "Accuracy changes by +20.0 points" in said and "McNemar's exact test: p = 1.00" in said
    rows = [row for row in page.tables["answers"] if row[0][0].startswith(("Anna", "broken", "mended")) and row]
    texts = [row[0][0] for row in rows if row[0][0].startswith("Anna")]
    assert texts == [f"Anna⇄ Paul said {i}: ⏎ " for i in (1, 0, 2)], "largest first, of each kind"
    first = next(row for row in rows if row[0][0].startswith("Anna"))
    assert [cell[0] for cell in first[1:5]] == ["Anna", "yes", "no", "yes"]
    assert first[5][1] == pytest.approx(0.4) and first[6][1] == pytest.approx(0.9)
    assert first[7][1] == pytest.approx(np.log(0.9 / 0.1) - np.log(0.4 / 0.6)) and first[8][0] == "no → yes"


def test_it_is_honest_where_no_answer_changed():
    found = changed_answers()
    same = replace(found, probabilities=found.probabilities[[0, 0]], counterparts=None)
    said = made(changed_answers={"held-out pairs": same}).sections["answers"]
    assert "None of the 5 answers changed from original to pruned." in said
    assert f"reaches up to {same.counts().loc['any', 'high']:.1%}" in said


def test_answers_without_labels_or_counterparts_are_shown_all_the_same():
    found = changed_answers()
    bare = tuple(icp.Example(e.text, answers=e.answers) for e in found.probe.examples)
    page = made(changed_answers={"x": replace(found, probe=icp.Probe(bare), counterparts=None)})
    assert page.row("answers", "other (wrong → wrong, or no label)")[1][1] == 3
    assert "Accuracy" not in page.sections["answers"] and "⇄" not in page.sections["answers"]


def test_answers_that_share_a_template_are_given_no_test_for_independent_ones():
    found = changed_answers()
    rows = tuple(replace(e, template=f"t{i // 2}") for i, e in enumerate(found.probe.examples))
    said = made(changed_answers={"x": replace(found, probe=icp.Probe(rows))}).sections["answers"]
    assert "McNemar's test is left out" in said and "p =" not in said


def test_where_units_act_repeats_the_effects_and_what_heads_read(page):
    for unit, means in ((UNITS[3], (0.0, 1.5)), (UNITS[0], (0.75, 0.25))):
        assert [cell[1] for cell in page.row("places", unit)[1:]] == pytest.approx(means)
    assert [cell[0] for cell in page.tables["places"][0]] == ["unit", "at the cue", "at the last token"]
    assert [cell[1] for cell in page.row("places", UNITS[3], 1)[1:]] == [0.5, 0.25, 0.125, 0.125]
    assert "in logits" in page.sections["places"] and "n = 4 pairs" in page.sections["places"]
    no_reads = everything()["drivers"]
    alone = made(by_position={}, drivers=icp.Drivers(no_reads.inputs, no_reads.header))
    assert "places" not in alone.sections and "drivers" in alone.sections


def test_effects_by_position_of_another_model_are_refused():
    other = {p: icp.Effects(e.dP, e.clean, e.total, e.header | {"binding": BINDING | {"weights": "others"}})
             for p, e in everything()["by_position"].items()}  # fmt: skip
    with pytest.raises(icp.ArtefactError, match="'at cue' was made on another weights"):
        made(by_position=other)


def test_provenance_says_what_was_measured_and_on_what(page):
    text = page.sections["provenance"]
    for part in (*BINDING.values(), "nowhere-dequantised", "LogitDifference()", "first-order estimate", "scale:0.5",
                 "mask:mean", "float32", icp.__version__):  # fmt: skip
        assert part in text, part


def test_the_embedded_model_is_called_dequantised():
    page = Page(icp.report("A title", model_name="smollm2", evaluations={"x": evaluation()}).html)
    assert "dequantised" in page.sections["results"] and "dequantised" in "".join(page.text[:20])


@pytest.mark.parametrize("key", ["architecture", "tokenizer", "weights"])
@pytest.mark.parametrize("argument", ["exact", "doses", "frontier", "drivers"])
def test_artefacts_of_different_models_are_refused(argument, key):
    given = everything()
    one, other = given[argument], BINDING | {key: "something else"}
    if argument == "frontier":
        changed = icp.Frontier(one.sizes, one.gap, one.costs, one.choices, one.scores, other, one.origin)
    elif argument == "drivers":
        changed = icp.Drivers(one.inputs, one.header | {"binding": other})
    else:
        changed = icp.Effects(one.dP, one.clean, one.total, one.header | {"binding": other})
    with pytest.raises(icp.ArtefactError, match=rf"'{argument}'.*another {key} \(something else\).*{BINDING[key]}"):
        made(**{argument: changed})


def test_a_cut_models_selection_may_be_bound_to_the_weights_it_left():
    cut = selection()
    after = icp.Selection(cut.choices, BINDING | {"weights": "after-the-cut"}, cut.origin)
    assert "after-the-cut, the weights of the cut model" in made(selection=after).sections["provenance"]
    other = icp.Selection(cut.choices, BINDING | {"tokenizer": "another"}, cut.origin)
    with pytest.raises(icp.ArtefactError, match="'selection' was made on another tokenizer"):
        made(selection=other)


@pytest.mark.parametrize("key", ["architecture", "tokenizer"])
def test_an_evaluation_of_other_models_is_refused(key):
    pruned = BINDING | {"weights": "after-the-cut"}
    values, foreign = evaluation().values, BINDING | {key: "something else"}
    assert made(evaluations={"held out": icp.Evaluation(values, {}, {"original": foreign, "pruned": pruned})})
    with pytest.raises(icp.ArtefactError, match=rf"'held out' is of another {key} \(something else\).*{BINDING[key]}"):
        made(evaluations={"held out": icp.Evaluation(values, {}, {"original": foreign, "pruned": foreign})})


@pytest.mark.parametrize("key", ["architecture", "tokenizer"])
def test_changed_answers_of_other_models_are_refused(key):
    foreign = dict.fromkeys(("original", "pruned"), BINDING | {key: "something else"})
    with pytest.raises(icp.ArtefactError, match=rf"the comparison 'x' is of another {key} \(something else\)"):
        made(changed_answers={"x": replace(changed_answers(), bindings=foreign)})


def test_it_says_when_backups_change_the_ranking(page):
    said = " ".join(page.sections["backups"].split())
    assert "3 units were intervened on (mask:mean) alone and in all 3 pairs, on 4 examples." in said
    assert "This changes the ranking by mean |dP|: 1 unit of the first 1, 1 unit of the first 2 would not be" in said
    neuron = "blocks.0.mlp.hook_post[{}]".format
    assert page.row("backups", neuron(0))[1:] == [
        ("0", 0.0), ("3.00", 3.0), (neuron(1), None), ("3.00", 3.0), ("2", 2.0), ("1", 1.0),
    ]  # fmt: skip
    assert page.row("backups", neuron(2))[3][0] == "none"
    alone = [-2.0, 1.0, 0.5]
    unchanged = made(co_ablation=co_ablation(alone, [[u + v for v in alone] for u in alone])).sections["backups"]
    assert "This does not change which units are the first 1, 2." in unchanged


def test_a_co_ablation_of_another_model_is_refused():
    other = backups()
    other.header["binding"] = BINDING | {"weights": "others"}
    with pytest.raises(icp.ArtefactError, match="'co-ablation' was made on another weights"):
        made(co_ablation=other)


def test_what_a_search_proved_and_how_it_was_rounded_is_said():
    found = exact()
    certificate = icp.Certificate(
        top=6, units=14, confidence=0.95, miss_rate=0.2, budget=0.9, seed=0, threshold=0.1, candidates=8,
        strata=(Stratum(6, 4, 0),), unknown=0, missed_upper=1, work_fraction=0.85,
    )  # fmt: skip
    compared = {"spearman": 0.98765, "units": 6, "against": "torch.float32"}
    found.header.update(certificate=certificate.as_json(), rank_correlation=compared, dtype="torch.bfloat16")
    page = made(exact=found)
    assert str(certificate) in page.sections["certificate"] and "exact: Top 6 of 14" in page.sections["certificate"]
    said = page.sections["precision"]
    assert "exact: measured in bfloat16. Its scores, mean |dP| of 6 units spaced over the ranking, have a " in said
    assert "rank correlation of 0.988 with those in float32 (Spearman)" in said
    found.header["rank_correlation"] = compared | {"spearman": float("nan")}
    assert "could not be compared with those in float32" in made(exact=found).sections["precision"]
    del found.header["rank_correlation"]
    said = made(exact=found).sections["precision"]
    assert "exact: measured in bfloat16; how that ranks units was not compared with float32." in said


def test_saved_it_is_the_page(tmp_path, html):
    made = icp.report("A title", **everything())
    path = made.save(tmp_path / "folder" / "report.html")
    assert path.read_text("utf-8") == made.html == html
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(icp.ArtefactError, match="cannot write"):
        made.save(tmp_path / "folder")


def test_reports_do_not_make_import_dear():
    code = "import icp.report, sys; print([m for m in ('plotly', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
