"""A cue in the data and in the model: counts worked by hand, and the model that is solved by hand."""

import numpy as np
import planted
import pytest

import icp
from icp.counterfactual import FILM_REVIEWS, Lexicon, Row, Spec, Variable, association, cue_effects, effects
from icp.counterfactual.effects import COLUMNS, oriented_means
from icp.errors import DataError, ProbeError, SpecError
from icp.pairs import FlippingPairs, PreservingPairs

SIDES = {1: "warm", -1: "cold"}
SPEC = Spec(
    "verdict", ("good", "bad"),
    causes=(Variable("evidence", Lexicon("evidence", {"high": ("great", "fine"), "low": ("awful", "dull")})),),
    cues=(Variable("colour", Lexicon("colour", {"cold": ("blue", "navy", "teal"), "warm": ("pink", "rose", "ruby")})),),
)  # fmt: skip


def shares(counts):
    """Rows of a cue 'red' or 'blue' and a label, from their counts."""
    return [
        Row(f"a {colour} cover", label, {"shop": shop})
        for (colour, label, shop), count in counts.items() for _ in range(count)
    ]  # fmt: skip


COVER = Spec(
    "verdict", ("bad", "good"), causes=(),
    cues=(Variable("cover", Lexicon("cover", {"blue": ("blue",), "red": ("red",)})),),
)  # fmt: skip


def by_quantity(lines, group="all"):
    return {line["quantity"]: line for line in lines if line["group"] == group}


def test_a_risk_difference_has_newcombes_interval():
    """His first example: 56 of 70 against 48 of 80, by method 10 0.2 [0.0524, 0.3339]."""
    rows = shares({("blue", 1, ""): 48, ("blue", 0, ""): 32, ("red", 1, ""): 56, ("red", 0, ""): 14})
    line = by_quantity(association(rows, COVER, "cover"))["risk difference"]
    assert (line["before"], line["after"], line["n"]) == ("blue", "red", 150)
    assert (line["estimate"], line["low"], line["high"]) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_an_odds_ratio_is_scipys():
    from scipy.stats.contingency import odds_ratio

    rows = shares({("blue", 1, ""): 5, ("blue", 0, ""): 30, ("red", 1, ""): 40, ("red", 0, ""): 10})
    line = by_quantity(association(rows, COVER, "cover", level=0.9))["odds ratio"]
    theirs = odds_ratio([[40, 10], [5, 30]], kind="sample")
    assert line["estimate"] == pytest.approx(theirs.statistic)
    assert (line["low"], line["high"]) == pytest.approx(tuple(theirs.confidence_interval(0.9)))


def test_an_empty_count_gives_a_finite_odds_ratio():
    rows = shares({("blue", 0, ""): 9, ("red", 1, ""): 9})
    line = by_quantity(association(rows, COVER, "cover"))["odds ratio"]
    assert line["estimate"] == pytest.approx(19**2)
    assert 1 < line["low"] < line["estimate"] < line["high"] < np.inf


def test_the_other_class_has_the_opposite_difference():
    rows = shares({("blue", 1, ""): 5, ("blue", 0, ""): 30, ("red", 1, ""): 40, ("red", 0, ""): 10})
    good, bad = (by_quantity(association(rows, COVER, "cover", answer=answer)) for answer in (1, 0))
    assert good["risk difference"]["estimate"] == pytest.approx(-bad["risk difference"]["estimate"])
    assert good["odds ratio"]["low"] == pytest.approx(1 / bad["odds ratio"]["high"])


def test_within_the_hidden_common_cause_the_association_is_gone():
    """Seasons cause the place and the verdict both: P(positive) is 0.7208 for a capital and 0.2792 for the coast."""
    lines = association(FILM_REVIEWS.sample(4000), FILM_REVIEWS.spec, "place", by="season")
    whole = by_quantity(lines)["risk difference"]
    assert whole["low"] < 0.2792 - 0.7208 < whole["high"] < -0.3
    for season in ("festival", "summer"):
        within = by_quantity(lines, f"season = {season}")["risk difference"]
        assert within["low"] < 0 < within["high"]
        assert within["n"] < whole["n"] == 4000


def test_texts_that_say_no_value_or_two_are_left_out():
    rows = [*shares({("blue", 1, ""): 3, ("red", 0, ""): 2}), Row("no cover", 1), Row("a red and blue cover", 1)]
    assert by_quantity(association(rows, COVER, "cover"))["risk difference"]["n"] == 5
    with pytest.raises(DataError, match="no row says one value of 'cover'"):
        association(rows[-2:], COVER, "cover")


def test_what_the_data_lack_is_named():
    rows = shares({("blue", 1, "market"): 2})
    with pytest.raises(DataError, match="has no 'town': it has shop"):
        association(rows, COVER, "cover", by="town")
    with pytest.raises(SpecError, match="answer=2 is none of the classes bad, good"):
        association(rows, COVER, "cover", answer=2)
    with pytest.raises(DataError, match="rows say 'blue' and no other value of 'cover'"):
        association(rows, COVER, "cover")


def pairs(kind=PreservingPairs):
    """Every pair of the planted model's probe, with the side of its colours as groups."""
    s, _ = planted.variables(planted.probe())
    probe = icp.Probe.from_pairs([
        {"text": e.text, "counterpart": e.counterpart, "answers": e.answers, "label": e.label, "template": e.template,
         "word": e.word, "group": SIDES[int(sign)], "counterpart_group": SIDES[-int(sign)]}
        for e, sign in zip(planted.probe().examples, s)
    ])  # fmt: skip
    return kind(probe) if kind is PreservingPairs else kind(probe, tuple(1 - e.label for e in probe.examples))


def data():
    return [{"text": e.text, "label": e.label} for e in planted.probe().examples]


def logistic(value):
    return 1 / (1 + np.exp(-value))


def test_effects_of_the_planted_model_are_those_solved_by_hand():
    units = [planted.SPURIOUS_NEURON, planted.CAUSAL_NEURON, planted.SPURIOUS_HEAD]
    found = cue_effects(
        planted.model(), pairs(), data(), spec=SPEC, variable="colour", answer=0, units=units, progress=False
    )
    table = found.table()
    assert tuple(table.columns) == COLUMNS
    assert found.answer == "good"
    s, x = planted.variables(planted.probe())
    clean = planted.p(s, x)
    model = table[table["where"] == "model"].set_index("unit")
    assert set(zip(model["before"], model["after"])) == {("cold", "warm")}
    whole = (logistic(planted.p(1, x)) - logistic(planted.p(-1, x))).mean()
    total = model[model["quantity"] == "total effect"].iloc[0]
    assert total["estimate"] == pytest.approx(whole, abs=1e-9)
    assert total["low"] < whole < total["high"]
    assert total["n"] == 144
    for unit in units:
        carried, _ = planted.CARRIES[unit]
        by_hand = (-s * (logistic(clean - 2 * carried * s) - logistic(clean))).mean()
        assert model.loc[unit, "quantity"] == "indirect effect"
        assert model.loc[unit, "estimate"] == pytest.approx(by_hand, abs=1e-9)
        assert model.loc[unit, "share"] == pytest.approx(by_hand / whole, abs=1e-9)
        low, high = model.loc[unit, ["share_low", "share_high"]]
        assert low - 1e-9 <= by_hand / whole <= high + 1e-9
    assert model.loc[planted.CAUSAL_NEURON, "estimate"] == pytest.approx(0, abs=1e-12)


def test_a_cue_may_be_in_the_model_and_not_in_the_data():
    """Every colour comes with every verdict in these data, and the model answers by the colour all the same."""
    table = cue_effects(planted.model(), pairs(), data(), spec=SPEC, variable="colour", answer=0).table()
    estimates = table.set_index(["where", "quantity"])["estimate"]
    assert estimates["data", "risk difference"] == 0
    assert estimates["data", "odds ratio"] == 1
    assert estimates["model", "total effect"] > 0.3
    assert len(table) == 3


def test_the_way_in_which_a_pair_was_written_does_not_matter():
    one = cue_effects(planted.model(), pairs(), data(), spec=SPEC, variable="colour", answer=0)
    other = PreservingPairs(pairs().probe.swapped())
    two = cue_effects(planted.model(), other, data(), spec=SPEC, variable="colour", answer=0)
    assert one.lines[-1]["estimate"] == pytest.approx(two.lines[-1]["estimate"])


def test_a_share_is_a_ratio_of_means_with_the_interval_of_a_bootstrap():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    whole = rng.normal(0.5, 0.3, 400)
    part = 0.4 * whole + rng.normal(0, 0.1, 400)
    alone = np.arange(400).repeat(2).reshape(-1, 2)
    found = effects._share(part, whole, alone, 0.95, known=True)
    theirs = bootstrap((part, whole), lambda a, b: a.mean() / b.mean(), paired=True, vectorized=False, rng=rng)
    ends = theirs.confidence_interval
    assert found["share"] == pytest.approx(part.mean() / whole.mean())
    assert (found["share_low"], found["share_high"]) == pytest.approx((ends.low, ends.high), abs=2e-3)
    together = effects._share(np.tile(part, 2), np.tile(whole, 2), np.tile(alone, (2, 1)), 0.95, known=True)
    assert together["share_low"] == pytest.approx(found["share_low"], abs=1e-4), "twice the same pair is one pair"
    unknown = effects._share(part, whole, alone, 0.95, known=False)
    assert unknown["share"] == found["share"] and np.isnan([unknown["share_low"], unknown["share_high"]]).all()


def test_changes_between_three_values_are_told_apart():
    changes = np.array([1.0, 3.0, 10.0, 20.0])
    lines = oriented_means(changes, [("a", "b"), ("b", "a"), ("b", "c"), ("b", "c")], ("a", "b", "c"))
    assert [(line["before"], line["after"], line["estimate"], line["n"]) for line in lines] == [
        ("a", "b", -1.0, 2), ("b", "c", 15.0, 2),
    ]  # fmt: skip


def test_pairs_of_another_kind_or_without_the_values_are_refused():
    told = dict(spec=SPEC, variable="colour")
    with pytest.raises(ProbeError, match="an edit of 'colour' makes label-preserving pairs, and label-flipping"):
        cue_effects(planted.model(), pairs(FlippingPairs), data(), **told)
    with pytest.raises(ProbeError, match=r"row 0 .* has the groups '1' and None: .* cold, warm"):
        cue_effects(planted.model(), PreservingPairs(planted.probe()), data(), **told)
