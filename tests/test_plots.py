"""Figures show the artefacts' numbers, with the right sign, and say what they leave out."""

import numpy as np
import pytest
from artefacts import MEANS, TOTAL, UNITS, carrying, cost, doses, effects, estimates, evaluation, exact, frontier
from test_metrics import many, predictions, six

import icp
from icp import plots
from icp.audit import audit
from icp.judged import Judged
from icp.plots.style import NEGATIVE, POSITIVE


def traces(figure, **wanted):
    return [t for t in figure.data if all(getattr(t, name) == value for name, value in wanted.items())]


def test_the_head_map_holds_every_head_at_its_block_and_index():
    figure = plots.head_map(exact(range(14)), 2, 3)
    heat = figure.data[0]
    np.testing.assert_allclose(heat.z, MEANS[:6].reshape(2, 3).T, atol=1e-12)
    assert heat.zmid == 0 and heat.zmin == -heat.zmax == -1.5
    assert heat.customdata[1][0] == "blocks.0.attn.hook_z[1]"
    assert heat.colorscale[0][1] == NEGATIVE and heat.colorscale[-1][1] == POSITIVE


def test_an_effect_towards_the_counterpart_is_positive_whichever_way_the_cue_pushes():
    dP = np.sign(TOTAL)[None, None] * 0.7
    raw = effects(dP, UNITS[:1])
    assert raw.dP.mean() == 0
    np.testing.assert_allclose(plots.head_map(raw, 2, 3).data[0].z[0][0], 0.7)
    np.testing.assert_allclose(plots.head_map(icp.indirect_effect(raw), 2, 3).data[0].z[0][0], 0.7)


def test_heads_that_were_not_measured_stay_empty():
    figure = plots.head_map(exact(), 2, 3, chosen=[icp.Unit.parse(UNITS[3])])
    z = np.array(figure.data[0].z, dtype=float)
    assert np.isnan(z[1, 0]) and np.isfinite(z[0, 1]) and np.isfinite(z).sum() == 3
    assert figure.data[0].text[1][0] == "not measured"
    assert figure.data[0].text[0][1] == "1.500 ± 0.065 logits"
    frame = traces(figure, name="selected")[0]
    assert (list(frame.x), list(frame.y)) == ([1], [0])


def test_every_neuron_is_on_the_strip_where_there_are_few():
    figure = plots.neuron_strip(estimates())
    shown = traces(figure, name="largest effects")[0]
    np.testing.assert_allclose(shown.y, MEANS[6:] * 1.1, rtol=1e-4)
    assert np.round(np.array(shown.x)).astype(int).tolist() == [0] * 4 + [1] * 4
    assert "all 8 neurons" in figure.layout.annotations[-1].text
    colours = [POSITIVE if mean > 0 else NEGATIVE for mean in MEANS[6:]]
    assert list(shown.marker.color) == colours


def test_a_long_strip_keeps_the_large_effects_samples_the_rest_and_says_so():
    count = 500
    means = np.random.default_rng(1).normal(size=count)
    units = [f"blocks.{row // 250}.mlp.hook_post[{row % 250}]" for row in range(count)]
    source = carrying(means, units=units)
    figure = plots.neuron_strip(source, keep=40, sample=60)
    kept, drawn = traces(figure, name="largest effects")[0], traces(figure, name="sample of the rest")[0]
    largest = np.argsort(-np.abs(means))[:40]
    assert set(kept.customdata) == {units[row] for row in largest}
    assert len(drawn.y) == 60 and not set(drawn.customdata) & set(kept.customdata)
    assert np.abs(drawn.y).max() < np.abs(kept.y).min()
    again = plots.neuron_strip(source, keep=40, sample=60)
    assert again.to_json() == figure.to_json()
    said = figure.layout.annotations[-1].text
    assert "500 neurons: all 40" in said and "sample (seed 0) of 60 of the other 460" in said


def test_doses_of_a_gap_are_its_change_and_it_narrows_below_zero():
    source = doses()
    figure = plots.dose_response(source)
    lines = traces(figure, mode="lines+markers")
    assert [line.name for line in lines] == UNITS[:2]
    np.testing.assert_allclose(lines[0].x, [0.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(lines[0].y, [-1.5, -0.75, 0.0, 1.5])
    np.testing.assert_allclose(lines[1].y, [-0.3, -0.15, 0.0, 0.3])
    assert "50% of the gap left" in lines[0].text[0]
    band = np.array(next(t for t in figure.data if t.fill == "toself").y)
    se = 0.5 * np.std([2.0, 4.0, 3.0], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(band[0] - lines[0].y[0], se)
    assert figure.layout.yaxis.title.text == "change of the gap,<br>logits"


def test_doses_need_scales():
    with pytest.raises(icp.IcpError, match=r"no Scale.*swap:counterpart"):
        plots.dose_response(exact())


def test_the_frontier_shows_what_is_left_and_what_it_costs():
    source = frontier()
    figure = plots.frontier_plot(source, source.select(max_damage={"neutral": 0.25, "names": 0.1}), max_gap_left=0.6)
    left, names, neutral = (traces(figure, name=name)[0] for name in _panels(figure))
    assert list(left.x) == list(names.x) == [1, 2, 4]
    np.testing.assert_allclose(left.y, 100 * np.array([2.0, 1.0, 0.2]) / 3)
    se = np.array([[1.5, 2.0, 2.5], [1.0, 1.0, 1.0], [0.1, 0.2, 0.3]]).std(1, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(left.error_y.array, 100 * se / 3, atol=1e-12)
    by_title = {trace.name.split("<br>")[-1]: trace for trace in (names, neutral)}
    np.testing.assert_allclose(by_title["neutral"].y, [0.02, 0.2, 1.5])
    np.testing.assert_allclose(by_title["names"].y, [0.002, 0.02, 0.15])
    np.testing.assert_allclose(by_title["neutral"].error_y.array, [0.01, 0.1, 0.5])
    assert list(left.marker.size) == [7, 12, 7]
    said = [annotation.text for annotation in figure.layout.annotations]
    assert {"selected: 2 units", "target 60%", "budget 0.25 nats", "budget 0.1 nats"} <= set(said)
    lines = {shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1}
    assert {100, 60, 0.25, 0.1} <= lines
    assert figure.layout.xaxis.type == "log"


def _panels(figure):
    return [trace.name for trace in figure.data]


def test_a_size_that_was_not_measured_is_marked_as_such():
    source = frontier()
    figure = plots.frontier_plot(source, source.select(top=3))
    assert "selected: 3 units, not measured as a set" in [a.text for a in figure.layout.annotations]


def test_estimates_against_exact_puts_the_right_pairs_together():
    rows = (3, 0, 2, 13, 12, 11)
    figure = plots.estimates_vs_exact(estimates(), exact(rows), "swap:counterpart")
    heads, neurons = traces(figure, name="heads (3)")[0], traces(figure, name="neurons (3)")[0]
    np.testing.assert_allclose(heads.x, 1.1 * MEANS[list(rows[:3])])
    np.testing.assert_allclose(heads.y, MEANS[list(rows[:3])])
    np.testing.assert_allclose(neurons.y, MEANS[list(rows[3:])])
    assert figure.layout.title.text == "Spearman 1.000, Pearson 1.000, 6 units"


def test_an_audit_is_what_can_be_worked_out_by_hand():
    units = UNITS[:5]
    guessed = carrying([5.0, 4.0, 3.0, 2.0, -1.0], units=units, method="linear")
    truth = carrying([1.0, 2.0, 3.5, 5.0, 4.0], units=units[::-1])
    found = audit(guessed, truth, "swap:counterpart")
    assert found.spearman == pytest.approx(0.9)  # one neighbouring exchange of five: 1 - 6 * 2 / (5 * 24)
    assert found.pearson == pytest.approx(np.corrcoef([5, 4, 3, 2, -1], [4, 5, 3.5, 2, 1])[0, 1])
    assert (found.overlap(1), found.overlap(2), found.overlap(5)) == (0.0, 1.0, 1.0)
    assert found.median_error == pytest.approx(1.0)
    assert found.same_sign == pytest.approx(0.8)


def test_an_audit_compares_units_by_name_and_examples_by_content():
    guessed = estimates()
    few = effects(exact().dP[:, :, [2, 0]], exact().header["units"], total=TOTAL[[2, 0]], examples=[2, 0])
    found = audit(guessed, few, "swap:counterpart")
    assert found.same_examples
    rows = [UNITS.index(str(unit)) for unit in found.units]
    np.testing.assert_allclose(found.estimate, (guessed.dP[rows, 0] * np.sign(TOTAL))[:, [0, 2]].mean(1))
    other = audit(guessed, carrying(MEANS, examples=[7, 8, 9, 10]), "swap:counterpart")
    assert not other.same_examples
    np.testing.assert_allclose(other.estimate, 1.1 * MEANS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"property": "Probability(answer=0)"}, r"another property \(LogitDifference\(\)\).*\(Probability"),
        ({"positions": "last"}, r"another positions \(all\).*\(last\)"),
        (
            {"binding": {"architecture": "a", "tokenizer": "t", "weights": "other"}},
            r"weights \(weights-digest\).*other",
        ),
        ({"units": [f"blocks.9.attn.hook_z[{i}]" for i in range(6)]}, "no unit was both"),
    ],
)
def test_an_audit_refuses_what_cannot_be_compared(change, message):
    one = exact()
    with pytest.raises(icp.ArtefactError, match=message):
        audit(estimates(), icp.Effects(one.dP, one.clean, one.total, one.header | change), "swap:counterpart")


def test_an_audit_of_a_mean_refuses_another_reference():
    """A label does not say over what the mean is; a swap takes none, so that it is compared."""

    def told(effects, label, reference):
        header = effects.header | {"interventions": [label], "reference": reference}
        return icp.Effects(effects.dP[:, :1], effects.clean, effects.total, header)

    for label in ("mask:mean", "mask:mean per position", "Centred(by=2)"):
        assert audit(told(estimates(), label, "one"), told(exact(), label, "one"), label).spearman > 0.9
        with pytest.raises(icp.ArtefactError, match=r"another reference \(one\) than the exact effects \(None\)"):
            audit(told(estimates(), label, "one"), told(exact(), label, None), label)
    for label in ("swap:counterpart", "scale:0.5", "mask:zero", "mask:resample seed 0"):
        assert audit(told(estimates(), label, "one"), told(exact(), label, None), label).spearman > 0.9


def test_before_and_after_show_means_and_intervals():
    figure = plots.before_after({"pairs": evaluation()}, unit_of_P="logits")
    table = evaluation().table()
    for name in ("original", "pruned", "random units, seed 0"):
        gap, accuracy = traces(figure, name=name)
        row = table.loc[("gap", name)]
        np.testing.assert_allclose(gap.x, [row["mean"]])
        np.testing.assert_allclose(gap.error_x.array, [row["high"] - row["mean"]])
        np.testing.assert_allclose(gap.error_x.arrayminus, [row["mean"] - row["low"]])
        np.testing.assert_allclose(accuracy.x, [100 * table.loc[("accuracy", name), "mean"]])
        assert accuracy.x[0] + accuracy.error_x.array[0] <= 100.0 + 1e-9
        assert accuracy.x[0] - accuracy.error_x.arrayminus[0] >= -1e-9
    assert figure.layout.yaxis.categoryarray[-1] == "original"
    assert figure.layout.xaxis.title.text == "logits" and figure.layout.xaxis2.title.text == "%"


def test_before_and_after_refuse_an_unknown_model():
    with pytest.raises(icp.IcpError, match="no model 'tuned' was evaluated: there are original, pruned"):
        plots.before_after({"pairs": evaluation()}, order=["original", "tuned"])


def test_names_that_come_from_the_user_are_escaped_for_plotly_too():
    loud = "<a href='x'>n</a>"
    values = evaluation().values["original"]
    source, one = frontier(), carrying(MEANS)
    header = one.header | {"interventions": [loud], "unit_of_P": loud}
    named = icp.Frontier(
        source.sizes, source.gap, {loud: source.costs["names"]}, source.choices, source.scores, {}, source.origin
    )
    for figure in (
        plots.before_after({loud: icp.Evaluation({loud: values}), "two": evaluation()}),
        plots.frontier_plot(named),
        plots.neuron_strip(icp.Effects(one.dP, one.clean, one.total, header)),
        plots.head_map(icp.Effects(one.dP, one.clean, one.total, header), 2, 3),
    ):
        drawn = figure.to_json().replace("\\u003c", "<")
        assert "&lt;a" in drawn and "<a" not in drawn


def test_one_model_and_one_example_can_be_drawn():
    alone = icp.Evaluation({"only": {"gap": np.array([1.0])}})
    assert plots.before_after({"x": alone}).data[0].x == (1.0,)
    one = effects(MEANS[:, None, None], total=[1.0])
    assert "±" not in plots.head_map(one, 2, 3).data[0].text[0][0]
    plots.neuron_strip(one), plots.estimates_vs_exact(one, one, "swap:counterpart")


def test_there_must_be_something_to_draw():
    with pytest.raises(icp.IcpError, match="no head"):
        plots.head_map(carrying(MEANS[6:], units=UNITS[6:]), 2, 3)
    with pytest.raises(icp.IcpError, match="no neuron"):
        plots.neuron_strip(carrying(MEANS[:6], units=UNITS[:6]))
    with pytest.raises(icp.ArtefactError, match="no intervention 'mask:zero'"):
        plots.head_map(cost(), 2, 3, intervention="mask:zero")


def test_metrics_that_are_no_means_are_shown_in_percent_with_their_intervals():
    of, one, other = many()
    found = icp.Evaluation({}, judged=Judged(of, {"before": one, "after": other}))
    figure = plots.before_after({"x": found})
    table = found.table()
    shown = traces(figure, name="before")
    assert [t.x[0] for t in shown] == [pytest.approx(100 * table.loc[(m, "before"), "mean"]) for m in found.metrics]
    low = 100 * table.loc[("worst_group_accuracy", "before"), "low"]
    assert shown[1].x[0] - shown[1].error_x.arrayminus[0] == pytest.approx(low)
    assert figure.layout.annotations[1].text == "<b>worst-group accuracy</b>"


def judged_by_ece(found, bins=5, names=("m",)):
    return icp.Evaluation({}, judged=Judged(found.cases, dict.fromkeys(names, found.probabilities), ("ece",), bins))


def test_a_reliability_diagram_shows_each_bin():
    """The six rows worked by hand in `test_metrics`."""
    figure = plots.reliability(judged_by_ece(six()))
    points, diagonal, counts = (
        traces(figure, name="m: ECE 6.7%")[0],
        traces(figure, name="diagonal")[0],
        figure.data[-1],
    )
    np.testing.assert_allclose(points.x, [100 * 2.05 / 3, 100 * 2.65 / 3])
    np.testing.assert_allclose(points.y, [200 / 3, 100])
    assert (points.y + points.error_y.array).max() <= 100 + 1e-9 and (points.error_y.arrayminus > 5).all()
    assert list(diagonal.x) == list(diagonal.y) and diagonal.x[1] == 100
    assert (list(counts.x), list(counts.y)) == ([70, 90], [3, 3])
    assert "confidence 68.3%<br>accuracy 66.7% [" in points.text[0] and "3 examples" in points.text[0]


def test_a_confidence_of_one_has_its_own_point_and_is_counted_with_the_last_bin():
    figure = plots.reliability(judged_by_ece(predictions([1.0, 1.0, 0.95, 0.65], [1, 0, 1, 1], "aaaa"), names=("<b>",)))
    points, counts = figure.data[1], figure.data[-1]
    np.testing.assert_allclose(points.x, [65, 95, 100])
    np.testing.assert_allclose(points.y, [100, 100, 50])
    assert (list(counts.x), list(counts.y)) == ([70, 90], [1, 3])
    assert "&lt;b&gt;" in points.name and "<b>" not in points.text[0]


def test_what_has_no_reliability_diagram_says_why():
    many_models = judged_by_ece(six(), names=list("abcdefgh"))
    assert len(plots.reliability(many_models, ["a", "h"]).data) == 5
    for words, call in [
        ("8 models in one diagram cannot be told apart: name at most 7", lambda: plots.reliability(many_models)),
        ("the answers of 'z' were not kept", lambda: plots.reliability(many_models, ["z"])),
        ("no answers were kept", lambda: plots.reliability(evaluation())),
    ]:
        with pytest.raises(icp.IcpError, match=words):
            call()
