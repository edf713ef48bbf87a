"""Worlds with a known graph: what they say is what their equations say, and their true effects are exact."""

from dataclasses import replace
from itertools import pairwise

import pytest

from icp.counterfactual import (
    FILM_REVIEWS,
    JOB_APPLICATIONS,
    MEDICAL_NOTES,
    PRODUCT_COMPLAINTS,
    WORLDS,
    Equation,
    Equations,
    Row,
    WorldEditor,
    make_pairs,
)
from icp.counterfactual.equations import root, two_valued
from icp.errors import DataError, SpecError
from icp.pairs import FlippingPairs, PreservingPairs

every_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)


@every_world
def test_a_text_says_what_the_equations_say_and_nothing_else(world):
    for row in world.sample(300):
        found = world.spec.values_in(row)
        assert found == {name: (row.columns[name],) for name in world.said}
        values = world.equations.values(row.columns["drawn"]["noise"])
        assert values == {name: row.columns.get(name, world.classes[row.label]) for name in values}
        assert row.text[0].isupper() or not row.text[0].isalpha()


@every_world
def test_a_sample_is_drawn_by_its_seed_and_by_the_stated_chances(world):
    rows = world.sample(4000, seed=1)
    assert rows[:50] == world.sample(50, seed=1)
    assert rows[:50] != world.sample(50, seed=2)
    for one in world.equations.equations:
        for value in one.values:
            told = [row.columns.get(one.name, world.classes[row.label]) == value for row in rows]
            chance = world.equations.probability({one.name: value})
            assert sum(told) / len(told) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5)


@every_world
def test_the_cases_of_the_noise_are_the_whole_population(world):
    assert sum(chance for chance, _ in world.equations.cells()) == pytest.approx(1)
    for one in world.equations.equations:
        for parents, chances in one.chances.items():
            given = dict(zip(one.parents, parents))
            for value, chance in chances.items():
                assert world.equations.probability({one.name: value}, given) == pytest.approx(chance)


def test_effects_worked_by_hand():
    """P(capital, positive): festivals 0.5 * 0.9 * (0.8 * 0.96 + 0.2 * 0.04), summer 0.5 * 0.1 * (0.2 * 0.96 + ...)."""
    chance, effect = FILM_REVIEWS.equations.probability, FILM_REVIEWS.equations.effect
    positive = {"verdict": "positive"}
    both = 0.45 * (0.8 * 0.96 + 0.2 * 0.04) + 0.05 * (0.2 * 0.96 + 0.8 * 0.04)
    assert chance(positive | {"place": "capital"}) == pytest.approx(both)
    assert both / chance({"place": "capital"}) == pytest.approx(0.7208)
    assert effect(positive, {"opinion": "praise"}, {"opinion": "blame"}) == pytest.approx(0.92)


@every_world
def test_a_cue_goes_with_the_label_and_has_no_effect_on_it(world):
    (cue,) = world.cues
    chance, (first, *_, last) = world.equations.probability, world.equations[cue].values
    label = {world.label: world.classes[1]}
    given = [chance(label | {cue: value}) / chance({cue: value}) for value in (first, last)]
    assert abs(given[1] - given[0]) > 0.2
    assert world.equations.effect(label, {cue: last}, {cue: first}) == pytest.approx(0, abs=1e-12)
    for cause in world.causes:
        one, other = world.equations[cause].values
        forwards = world.equations.effect(label, {cause: other}, {cause: one})
        assert (abs(forwards) > 0.2) == (world.direction == "causal")


@every_world
def test_a_counterfactual_keeps_all_else(world):
    for row in world.sample(40):
        assert world.counterfactual(row, {}) == row
        for name in world.said:
            assert world.counterfactual(row, {name: row.columns[name]}) == row
            for value in world.equations[name].values:
                other = world.counterfactual(row, {name: value})
                assert world.counterfactual(other, {name: row.columns[name]}).text == row.text
                hidden = [one for one in other.columns if one not in (*world.said, world.label)]
                assert all(other.columns[one] == row.columns[one] for one in hidden)


@every_world
def test_its_editor_makes_pairs_of_the_kind_that_the_variable_has(world):
    rows = world.sample(60)
    for name in world.said:
        made = make_pairs(rows, edit=WorldEditor(world, name), spec=world.spec, keep=5, progress=False)
        assert made.kind is (PreservingPairs if name in world.cues else FlippingPairs)
        others = len(world.equations[name].values) - 1
        assert made.counts["rejected"].get("no counterfactual", 0) + made.counts["proposed"] == 60 * others
        if name in world.cues:
            assert made.counts["accepted"] == 60 * others
        for row, edit in made:
            do = {one: row.columns[one] for one in world.said} | {name: edit.after}
            assert world.counterfactual(row, do).text == edit.text
            if world.direction == "causal":
                assert world.counterfactual(row, do).label == edit.label
            ((start, stop),), ((new_start, new_stop),) = edit.spans, edit.new_spans
            assert (row.text[:start], row.text[stop:]) == (edit.text[:new_start], edit.text[new_stop:])


def test_in_an_anti_causal_world_the_label_of_an_edited_cause_is_what_would_have_caused_it():
    world = MEDICAL_NOTES
    made = make_pairs(world.sample(80), edit=WorldEditor(world, "symptom"), spec=world.spec, progress=False)
    assert made.counts["rejected"]["no counterfactual"] > 0
    for row, edit in made:
        other = world.counterfactual(row, {"diagnosis": world.classes[edit.label]})
        assert (other.text, other.label) == (edit.text, edit.label)


def test_the_total_effect_of_known_readers():
    world = FILM_REVIEWS
    capitals, praise = (set(world.words[name][value]) for name, value in (("place", "capital"), ("opinion", "praise")))

    def counts(words):
        return lambda text: float(any(word.lower() in text.lower() for word in words))

    assert world.total_effect(counts(capitals), "place", "coast", "capital") == pytest.approx(1)
    assert world.total_effect(counts(capitals), "place", "capital", "coast") == pytest.approx(-1)
    assert world.total_effect(counts(praise), "place", "coast", "capital") == 0
    london = world.total_effect(counts({"London"}), "place", "coast", "capital")
    assert london == pytest.approx(1 / 4)
    both = world.total_effect(lambda t: counts({"London"})(t) * counts(praise)(t), "place", "coast", "capital")
    assert both == pytest.approx(1 / 4 * world.equations.probability({"opinion": "praise"}))


def test_a_cue_of_three_values_is_read_over_the_texts_that_say_one_of_the_two():
    world, serious = PRODUCT_COMPLAINTS, PRODUCT_COMPLAINTS.words["fault"]["serious"]
    chance = world.equations.probability

    def reader(text):
        return float("phone" in text and any(word in text.lower() for word in serious))

    channels = [{"channel": "post"}, {"channel": "phone"}]
    share = sum(chance({"fault": "serious"} | c) for c in channels) / sum(chance(c) for c in channels)
    assert world.total_effect(reader, "channel", "post", "phone") == pytest.approx(share / 2)


def test_a_sole_cause_has_the_labels_that_go_with_its_values():
    assert MEDICAL_NOTES.spec.variable("symptom").labels == {"wheeze": "asthma", "fever": "pneumonia"}
    assert JOB_APPLICATIONS.spec.variable("experience").labels is None
    assert MEDICAL_NOTES.spec.arrows == (("diagnosis", "symptom"),)


def test_a_stretch_of_noise_changes_no_value():
    one = PRODUCT_COMPLAINTS.equations["channel"]
    ends = [0.0]
    for chance, middle in one.stretches:
        ends.append(ends[-1] + chance)
        for shop in ("market", "web"):
            at = {one.of(ends[-2] + share * chance, {"shop": shop}) for share in (0.001, 0.5, 0.999)}
            assert at == {one.of(middle, {"shop": shop})}
    assert ends[-1] == pytest.approx(1)
    assert all(low < high for low, high in pairwise(ends))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: root("a", x=0.5, y=0.4), "sum to 1"),
        (lambda: root("a", x=1.5, y=-0.5), "sum to 1"),
        (lambda: Equation("a", {("x",): {"p": 1.0}}), "its parents are"),
        (lambda: Equation("a", {("x",): {"p": 1.0}, ("y",): {"q": 1.0}}, ("b",)), "elsewhere"),
        (lambda: Equations((two_valued("a", "pq", ["b"], {"x": 0.5, "y": 0.5}), root("b", x=0.5, y=0.5))), "before it"),
        (lambda: Equations((root("b", x=0.5, y=0.5), two_valued("a", "pq", ["b"], {"x": 0.5}))), "('y',)"),
        (lambda: Equations((root("b", x=0.5, y=0.5), root("b", x=0.5, y=0.5))), "twice"),
        (lambda: FILM_REVIEWS.equations.probability({"verdict": "superb"}), "superb"),
        (lambda: FILM_REVIEWS.equations.probability({}, {"weather": "rain"}), "weather"),
        (lambda: replace(FILM_REVIEWS, templates=("A {opinion} film.",)), "place in braces once"),
        (lambda: replace(FILM_REVIEWS, templates=("A {opinion} film in {place}, {place}.",)), "in braces once"),
        (lambda: replace(FILM_REVIEWS, templates=("A {opinion} film in {place}, not London.",)), "London"),
        (lambda: replace(FILM_REVIEWS, causes=(), cues=("place", "opinion")), "cause or an effect of the label"),
        (lambda: replace(FILM_REVIEWS, direction="anti-causal"), "not anti-causal"),
        (lambda: replace(FILM_REVIEWS, words={}), "needs words for 'opinion'"),
    ],
)  # fmt: skip
def test_a_world_that_contradicts_itself_is_refused(make, told):
    with pytest.raises(SpecError) as raised:
        make()
    assert told in str(raised.value)


def test_a_row_of_elsewhere_has_no_known_counterfactual():
    with pytest.raises(DataError, match="not drawn from the world"):
        FILM_REVIEWS.counterfactual(Row("A boring film.", 0), {"place": "coast"})
    with pytest.raises(DataError, match="not drawn from the world"):
        FILM_REVIEWS.counterfactual(MEDICAL_NOTES.sample(1)[0], {"place": "coast"})
    with pytest.raises(SpecError, match="do not say 'season'"):
        WorldEditor(FILM_REVIEWS, "season").begin(FILM_REVIEWS.spec)
