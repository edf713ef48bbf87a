"""Judgements are pure functions of effects: each is compared with loops over numbers, written out."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import icp


def effects(dP, clean=None, total=None, labels=None, property="LogitDifference()", interventions=None, units=None):
    """Effects as `icp.measure` would label them."""
    dP = np.asarray(dP, dtype=float)
    count = dP.shape[2]
    interventions = interventions or ["swap:counterpart", "mask:mean", "mask:zero"][: dP.shape[1]]
    header = {
        "units": units or [f"blocks.0.mlp.hook_post[{u}]" for u in range(dP.shape[0])],
        "interventions": interventions,
        "examples": [{"label": label} for label in (labels or [None] * count)],
        "property": property,
        "unit_of_P": "logits",
    }
    clean = np.zeros(count) if clean is None else np.asarray(clean, dtype=float)
    total = np.full(count, np.nan) if total is None else np.asarray(total, dtype=float)
    return icp.Effects(dP, clean, total, header)


def by_unit(scores, column):
    return dict(zip(map(str, scores.units), scores.table[column]))


def name(unit):
    return f"blocks.0.mlp.hook_post[{unit}]"


numbers = st.integers(-8, 8).map(lambda v: v / 4)  # coarse, so that ties and exact zeros turn up
shapes = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 6))
dPs = shapes.flatmap(lambda shape: arrays(float, shape, elements=numbers))


@given(dPs)
def test_uniform_spuriousness_is_the_mean_absolute_effect(dP):
    scores = icp.spuriousness(effects(dP))
    S, se = by_unit(scores, "S"), by_unit(scores, "se")
    for unit, of_unit in enumerate(dP):
        examples = [statistics.mean(abs(v) for v in column) for column in of_unit.T.tolist()]
        assert S[name(unit)] == pytest.approx(statistics.mean(examples))
        if len(examples) > 1:
            assert se[name(unit)] == pytest.approx(statistics.stdev(examples) / math.sqrt(len(examples)), abs=1e-12)
        else:
            assert math.isnan(se[name(unit)])
        for index, label in enumerate(effects(dP).interventions):
            assert by_unit(scores, f"S {label}")[name(unit)] == pytest.approx(np.abs(of_unit[index]).mean())
    assert list(scores.table["S"]) == sorted(scores.table["S"], reverse=True)


@given(dPs, st.data())
def test_harm_counts_only_what_turns_a_right_answer_wrong_or_raises_the_bias(dP, data):
    count = dP.shape[2]
    clean = data.draw(arrays(float, count, elements=numbers))
    labels = data.draw(st.lists(st.sampled_from([0, 1, None]), min_size=count, max_size=count))
    scores = by_unit(icp.spuriousness(effects(dP, clean, labels=labels), weights="harm"), "S")
    for unit, of_unit in enumerate(dP):
        total = 0.0
        for changes in of_unit.tolist():
            for change, before, label in zip(changes, clean.tolist(), labels):
                after = before + change
                if label is None:
                    counts = abs(after) > abs(before)
                else:
                    was_right, is_right = (before > 0, after > 0) if label == 0 else (before < 0, after < 0)
                    counts = was_right and not is_right
                total += abs(change) * counts
        assert scores[name(unit)] == pytest.approx(total / (dP.shape[1] * count))


@given(dPs, st.data())
def test_weights_of_ones_own(dP, data):
    clean = data.draw(arrays(float, dP.shape[2], elements=numbers))
    scores = by_unit(icp.spuriousness(effects(dP, clean), weights=lambda p, dP: np.maximum(p, 0)), "S")
    for unit, of_unit in enumerate(dP):
        assert scores[name(unit)] == pytest.approx((np.abs(of_unit) * np.maximum(clean, 0)).mean())
    flat = by_unit(icp.spuriousness(effects(dP, clean), weights=lambda p, dP: np.ones(())), "S")
    assert flat == pytest.approx(by_unit(icp.spuriousness(effects(dP)), "S"))


def test_harm_by_hand():
    """Right answers +2 and -2; a change of -3 turns the first wrong, +1 leaves the second right."""
    one = effects([[[-3.0, 1.0]], [[1.0, 3.0]]], clean=[2.0, -2.0], labels=[0, 1])
    assert by_unit(icp.spuriousness(one, "harm"), "S") == {name(0): 1.5, name(1): 1.5}
    biased = effects([[[-3.0, 1.0]], [[1.0, 3.0]], [[-4.0, 4.0]]], clean=[2.0, -2.0])
    assert by_unit(icp.spuriousness(biased, "harm"), "S") == {name(0): 0.0, name(1): 0.5, name(2): 0.0}


def test_a_ranking_is_best_first_and_can_be_narrowed():
    scores = icp.spuriousness(effects([[[1.0]], [[3.0]], [[2.0]], [[3.0]]]))
    assert [str(u) for u in scores.units] == [name(1), name(3), name(2), name(0)], "ties keep their order"
    assert [str(u) for u in scores.head(2).units] == [name(1), name(3)]
    assert [str(u) for u in scores.above(2.0).units] == [name(1), name(3), name(2)]
    assert scores.head(2).by == "S"


def test_ties_of_many_units_keep_their_order():
    two_values = effects(np.resize([1.0, 2.0], (200, 1, 1)), property="TaskLoss()")
    ones, twos = [name(u) for u in range(0, 200, 2)], [name(u) for u in range(1, 200, 2)]
    assert list(map(str, icp.spuriousness(two_values).units)) == twos + ones
    assert list(map(str, icp.damage(two_values).units)) == ones + twos


@pytest.mark.parametrize("count", [0, -1])
def test_a_head_of_no_units_is_refused(count):
    with pytest.raises(icp.IcpError, match=rf"^head\({count}\) keeps no unit: ask for at least one$"):
        icp.spuriousness(effects([[[1.0]], [[3.0]]])).head(count)


@pytest.mark.parametrize(
    ("threshold", "kept"), [(-3.0, (0, 3, 1, 2)), (-1.0, (3, 1, 2)), (0.0, (1, 2)), (np.nextafter(2.0, 3.0), ())]
)
def test_above_goes_by_the_column_of_the_ranking_in_its_order(threshold, kept):
    """Damage comes least first, and neither its standard error nor its size without sign decides."""
    rises = [[[-4.0, -2.0]], [[-1.0, 2.5]], [[2.0, 2.0]], [[-1.0, -1.0]]]
    scores = icp.damage(effects(rises, property="TaskLoss()")).above(threshold)
    assert [str(u) for u in scores.units] == [name(u) for u in kept]
    assert scores.by == "damage" and list(scores.table.columns) == ["damage", "se"]


@given(dPs, st.data())
def test_indirect_effects_point_in_the_direction_of_the_cue(dP, data):
    total = data.draw(arrays(float, dP.shape[2], elements=numbers))
    scores = icp.indirect_effect(effects(dP, total=total))
    found, share, se = (by_unit(scores, column) for column in ("indirect_effect", "share", "se"))
    for unit, values in enumerate(dP[:, 0].tolist()):
        oriented = [math.copysign(1, t) * v if t else 0.0 for v, t in zip(values, total.tolist())]
        assert found[name(unit)] == pytest.approx(statistics.mean(oriented))
        if np.abs(total).sum():
            assert share[name(unit)] == pytest.approx(sum(oriented) / np.abs(total).sum())
        else:
            assert math.isnan(share[name(unit)])
        if len(oriented) > 1:
            assert se[name(unit)] == pytest.approx(statistics.stdev(oriented) / math.sqrt(len(oriented)), abs=1e-12)
    assert list(scores.table["indirect_effect"]) == sorted(scores.table["indirect_effect"], reverse=True)


@given(dPs, st.data())
def test_indirect_effects_do_not_depend_on_which_member_of_a_pair_comes_first(dP, data):
    count = dP.shape[2]
    total = data.draw(arrays(float, count, elements=numbers))
    flips = np.array(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=count, max_size=count)))
    one, other = (
        icp.indirect_effect(effects(dP, total=total)),
        icp.indirect_effect(effects(dP * flips, total=total * flips)),
    )
    assert by_unit(one, "indirect_effect") == pytest.approx(by_unit(other, "indirect_effect"))


def test_a_unit_that_carries_everything_has_a_share_of_one():
    total = [2.0, -3.0, 1.0]
    scores = icp.indirect_effect(effects([[total], [[1.0, -1.5, 0.5]], [[-2.0, 3.0, -1.0]]], total=total))
    assert by_unit(scores, "share") == pytest.approx({name(0): 1.0, name(1): 0.5, name(2): -1.0})
    assert by_unit(scores, "indirect_effect") == pytest.approx({name(0): 2.0, name(1): 1.0, name(2): -2.0})


def test_another_intervention_by_its_label():
    both = effects([[[1.0, 1.0], [5.0, 5.0]]], total=[1.0, 1.0])
    assert by_unit(icp.indirect_effect(both, "mask:mean"), "indirect_effect") == {name(0): 5.0}
    with pytest.raises(icp.ArtefactError) as error:
        icp.indirect_effect(both, "mask:zero")
    assert "no intervention 'mask:zero' was measured: there are swap:counterpart, mask:mean" in str(error.value)


@given(dPs)
def test_damage_is_the_mean_rise_under_the_named_intervention_least_first(dP):
    measured = effects(dP, property="TaskLoss(among_answers=False)")
    for index, label in enumerate(measured.interventions):
        scores = icp.damage(measured, label)
        assert by_unit(scores, "damage") == pytest.approx({name(u): dP[u, index].mean() for u in range(len(dP))})
        assert list(scores.table["damage"]) == sorted(scores.table["damage"])
    if len(measured.interventions) > 1:
        with pytest.raises(icp.IcpError, match="name the intervention whose damage is meant"):
            icp.damage(measured)


@pytest.mark.parametrize(
    "property", ["LogitDifference()", "LogLikelihood(answer=0)", "PairGap(of_property=TaskLoss())"]
)
def test_damage_of_what_is_no_loss_is_refused(property):
    with pytest.raises(icp.IcpError) as error:
        icp.damage(effects([[[1.0]]], property=property))
    assert property in str(error.value) and "TaskLoss() or NextTokenLoss()" in str(error.value)


@given(st.integers(1, 6).flatmap(lambda n: arrays(float, (3, n, 1, 2), elements=numbers)), numbers)
def test_selectivity_ranks_what_stays_within_the_budget_on_every_loss(values, budget):
    """`values[0]` are effects of the cue, the others of two losses; the pairs push P up."""
    cue = effects(values[0], total=[1.0, 1.0])
    costs = {cost: effects(v, property="NextTokenLoss()") for cost, v in zip("ab", values[1:])}
    spent, budgets = values[1:].mean(axis=(2, 3)), {"a": budget, "b": 2 * budget}
    kept = [u for u in range(len(spent[0])) if spent[0, u] <= budget and spent[1, u] <= 2 * budget]
    if not kept:
        with pytest.raises(icp.IcpError, match=r"no unit's damage [ab] is within"):
            icp.selectivity(cue, costs, max_damage=budgets)
        return
    scores = icp.selectivity(cue, costs, max_damage=budgets)
    carried = values[0].mean(axis=(1, 2))
    assert [str(u) for u in scores.units] == [name(u) for u in sorted(kept, key=lambda u: -carried[u])]
    for row, cost in enumerate("ab"):
        assert by_unit(scores, f"damage {cost}") == pytest.approx({name(u): spent[row, u] for u in kept})
    assert scores.by == "indirect_effect"


def test_a_units_damage_comes_with_the_standard_error_of_the_loss_it_is_of():
    cue = effects([[[1.0, 1.0]], [[1.0, 1.0]]], total=[1.0, 1.0])
    rises = ([[[0.004, 0.01]], [[0.004, 0.01]]], [[[-0.04, 0.0]], [[0.008, 0.02]]])
    costs = {cost: effects(rise, property="TaskLoss()") for cost, rise in zip("ab", rises)}
    table = icp.selectivity(cue, costs).table
    np.testing.assert_allclose(table["damage a"], [0.007, 0.007])
    np.testing.assert_allclose(table["damage b"], [-0.02, 0.014])
    np.testing.assert_allclose(table["damage_se b"], [0.02, 0.006])
    np.testing.assert_allclose(icp.selectivity(cue, costs["a"]).table["damage_se"], [0.003, 0.003])


def test_selectivity_takes_a_ranking_and_one_cost_of_more_units():
    ranking = icp.indirect_effect(effects([[[1.0]], [[3.0]]], total=[1.0])).head(1)
    cost = effects([[[0.0]], [[0.01]]], property="TaskLoss()")
    assert [str(u) for u in icp.selectivity(ranking, cost).units] == [name(1)]
    assert icp.selectivity(icp.spuriousness(effects([[[1.0]]])), cost).by == "S"


def refused(words, call):
    with pytest.raises(icp.IcpError) as error:
        call()
    assert words in str(error.value)


def test_what_cannot_be_judged_says_why():
    one = effects([[[1.0, 2.0]]], total=[1.0, np.nan])
    refused(
        "an indirect effect needs a counterpart for every example: use Probe.from_pairs",
        lambda: icp.indirect_effect(one),
    )
    refused("unknown weights 'harsh': use 'uniform', 'harm' or a function", lambda: icp.spuriousness(one, "harsh"))
    loss = effects([[[1.0]]], property="TaskLoss()")
    refused("weights='harm' reads right and wrong from the sign of a logit", lambda: icp.spuriousness(loss, "harm"))
    refused("weights of shape (3,) do not broadcast", lambda: icp.spuriousness(one, lambda p, dP: np.ones(3)))
    cue = effects([[[1.0]], [[2.0]]], total=[1.0])
    refused("1 unit(s), such as blocks.0.mlp.hook_post[1], have no measured damage", lambda: icp.selectivity(cue, loss))
    refused("selectivity needs at least one cost", lambda: icp.selectivity(cue, {}))
    refused("max_damage names ['a'], the losses are ['task']", lambda: icp.selectivity(cue, {"task": loss}, {"a": 1.0}))
    refused("no unit's damage is within 0.02: raise max_damage", lambda: icp.selectivity(cue.__class__(
        cue.dP[:1], cue.clean, cue.total, cue.header | {"units": [name(0)]}), loss))  # fmt: skip
