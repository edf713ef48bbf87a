"""The planted spurious head and neuron are found, told apart from the causal ones, and cut; every number by hand."""

import numpy as np
import planted
import pytest

import icp

SPURIOUS = {planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON}
CAUSAL = {planted.CAUSAL_HEAD, planted.CAUSAL_NEURON}


@pytest.fixture(scope="module")
def units():
    return planted.model().units("head", "neuron")


@pytest.fixture(scope="module")
def parts():
    """Ranking, selecting and testing probes: disjoint in openings, each with all colours and verdicts."""
    return planted.probe().split(by="template", seed=0)


def measured(probe, units, interventions, **options):
    return icp.measure(planted.model(), probe, units, interventions, progress=False, **options)


def loss(s, x, cue=2.75, evidence=4.0):
    """-log p(right answer), by hand: all words but the two answers have a logit of -64."""
    return np.logaddexp(0, -np.sign(x) * (cue * s + evidence * x))


def test_clean_p_is_the_formula(parts):
    s, x = planted.variables(parts[0])
    effects = measured(parts[0], [planted.SPURIOUS_HEAD], icp.Mask("zero"))
    np.testing.assert_array_equal(effects.clean, 2.75 * s + 4 * x)
    np.testing.assert_array_equal(effects.total, -5.5 * s)


@pytest.mark.parametrize("method", ["exact", "linear"])
@pytest.mark.parametrize("batch_size", [11, None])
def test_dP_of_every_unit_is_the_formula(parts, units, method, batch_size):
    """P is linear in each unit, so that the first-order estimate is exact here too."""
    s, x = planted.variables(parts[0])
    effects = measured(
        parts[0], units, [icp.Mask("zero"), icp.Scale(0.25), icp.Swap("counterpart")], method=method,
        batch_size=batch_size,
    )  # fmt: skip
    for unit in effects.units:
        cue, evidence = planted.CARRIES.get(str(unit), (0.0, 0.0))
        row = effects.units.index(unit)
        np.testing.assert_allclose(effects.of("mask:zero")[row], -cue * s - evidence * x, atol=1e-11, err_msg=unit)
        np.testing.assert_allclose(effects.of("scale:0.25")[row], -0.75 * (cue * s + evidence * x), atol=1e-11)
        np.testing.assert_allclose(effects.of("swap:counterpart")[row], -2 * cue * s, atol=1e-11)


def test_mean_mask_is_the_formula(parts):
    """Uniform attention spreads a colour at position 1 as 0, 1/2, 1/3, 1/4 and a verdict at 2 as 0, 0, 1/3, 1/4."""
    pink = icp.Probe(tuple(e for e in parts[0].examples if e.word in ("pink", "rose", "blue") and e.label == 0))
    s, x = planted.variables(pink)
    cue, evidence = 4 * s.mean() * (1 / 2 + 1 / 3 + 1 / 4) / 4, 4 * x.mean() * (1 / 3 + 1 / 4) / 4
    assert cue > 0.1 and evidence > 0.1, "the reference must be unbalanced for its means to differ from zero"
    effects = measured(pink, list(planted.CARRIES), icp.Mask("mean"))
    for row, (through_cue, through_evidence) in enumerate(planted.CARRIES.values()):
        by_hand = through_cue * (cue - s) + through_evidence * (evidence - x)
        np.testing.assert_allclose(effects.dP[row, 0], by_hand, atol=1e-6)  # the norm computes in float32


def test_value_embed_and_resid_dimensions(parts):
    s, x = planted.variables(parts[0])
    by_hand = {
        "blocks.0.attn.hook_z[0,0]": -2.25 * s,
        "blocks.0.attn.hook_z[0,3]": 0 * s,
        f"hook_embed[{planted.COLOUR}]": -2.75 * s,
        f"hook_embed[{planted.VERDICT}]": -4 * x,
        f"blocks.0.hook_resid_post[{planted.CUE}]": -1.25 * s,
        f"blocks.0.hook_resid_post[{planted.ANSWER}]": -s - 0.5 * x,
        f"blocks.0.hook_resid_post[{planted.UNREAD}]": 0 * s,
        f"blocks.1.hook_resid_post[{planted.ANSWER}]": -2.75 * s - 4 * x,
    }
    effects = measured(parts[0], list(by_hand), icp.Mask("zero"))
    for row, numbers in zip(effects.dP[:, 0], by_hand.values()):
        np.testing.assert_array_equal(row, numbers)


@pytest.mark.parametrize(
    ("positions", "at_colour", "at_last"),
    [("all", 1, 1), ("last", 0, 1), ((1, 2), 1, 0), ((-3, -2), 1, 0), ((0, 1), 0, 0), ((2, 4), 0, 1)],
)
def test_positions_narrow_an_intervention(parts, positions, at_colour, at_last):
    """A colour enters at position 1 and acts, through the spurious head, at the last."""
    s, _ = planted.variables(parts[0])
    effects = measured(
        parts[0], [f"hook_embed[{planted.COLOUR}]", planted.SPURIOUS_HEAD], icp.Mask("zero"), positions=positions
    )
    np.testing.assert_array_equal(effects.dP[0, 0], -2.75 * s * at_colour)
    np.testing.assert_array_equal(effects.dP[1, 0], -2.25 * s * at_last)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_indirect_effect_puts_the_planted_units_first(parts, units, method):
    table = icp.indirect_effect(measured(parts[0], units, icp.Swap("counterpart"), method=method)).table
    assert list(table.index[:2]) == [planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON]
    np.testing.assert_allclose(table["indirect_effect"].iloc[:4], [4.5, 3.0, 1.0, 0.5], atol=1e-11)
    np.testing.assert_allclose(table["share"].iloc[:4], np.array([4.5, 3.0, 1.0, 0.5]) / 5.5, atol=1e-11)
    np.testing.assert_allclose(table["indirect_effect"].iloc[4:], 0, atol=1e-11)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_literal_spuriousness_puts_causal_units_first(parts, units, method):
    """Why S must not decide alone: a large |dP| marks an important unit, and the cause matters more than the cue."""
    ranked = icp.spuriousness(measured(parts[0], units, icp.Mask("zero"), method=method)).table
    assert list(ranked.index[:4]) == [
        planted.CAUSAL_HEAD, planted.SPURIOUS_HEAD, planted.CAUSAL_NEURON, planted.SPURIOUS_NEURON,
    ]  # fmt: skip
    np.testing.assert_allclose(ranked["S"].iloc[:4], [3.0, 2.25, 1.875, 1.5], atol=1e-11)


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_selectivity_keeps_the_planted_units_and_drops_the_causal_ones(parts, units, method):
    cue = measured(parts[0], units, icp.Swap("counterpart"), method=method)
    cost = measured(parts[0].balanced(), units, icp.Mask("zero"), property=icp.TaskLoss(), method="exact")
    ranked = icp.selectivity(cue, cost, max_damage=0.02)
    kept = [str(unit) for unit in ranked.units]
    assert kept[:2] == [planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON]
    assert not {*CAUSAL, planted.MIXED_NEURON} & set(kept)


def test_damage_is_the_formula(parts):
    balanced = parts[0].balanced()
    s, x = planted.variables(balanced)
    effects = measured(balanced, list(planted.CARRIES), icp.Mask("zero"), property=icp.TaskLoss())
    np.testing.assert_allclose(effects.clean, loss(s, x), atol=1e-12)
    damage = icp.damage(effects).table["damage"]
    for unit, (cue, evidence) in planted.CARRIES.items():
        by_hand = (loss(s, x, 2.75 - cue, 4 - evidence) - loss(s, x)).mean()
        np.testing.assert_allclose(damage[unit], by_hand, atol=1e-12)
    assert damage[planted.SPURIOUS_HEAD] < 0 < 0.02 < damage[planted.MIXED_NEURON] < damage[planted.CAUSAL_HEAD]


def test_single_effects_do_not_add_up(parts):
    """The neuron reads half of its cue from the head, so that the two together do less than the sum of each."""
    s, _ = planted.variables(parts[0])
    pair = [planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON]
    joint = icp.measure_sets(planted.model(), parts[0], [pair, []], icp.Mask("zero"), progress=False)
    np.testing.assert_array_equal(joint.dP[0], -2.75 * s)
    np.testing.assert_array_equal(joint.dP[1], 0 * s)
    singles = measured(parts[0], pair, icp.Mask("zero")).dP[:, 0]
    np.testing.assert_array_equal(singles.sum(0), -3.75 * s)


@pytest.mark.parametrize("mask", ["zero", "mean"])
def test_the_whole_way_prunes_exactly_the_planted_units(parts, units, mask):
    rank, select, test = parts
    model, intervention = planted.model(), icp.Mask(mask)
    cue = measured(rank, units, icp.Swap("counterpart"))
    cost = measured(rank.balanced(), units, intervention, property=icp.TaskLoss())
    frontier = icp.frontier(
        model, select, icp.selectivity(cue, cost), intervention, sizes=range(1, 5), reference=select.balanced(),
        progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(frontier.table()["gap"], [5.5, 1.0, 0, 0, 0], atol=1e-6)
    selection = frontier.select(max_damage=0.02)
    assert {str(unit) for unit in selection.units} == SPURIOUS

    pruned = icp.prune(model, selection)
    evaluation = icp.evaluate({"before": model, "after": pruned}, test.balanced())
    means = evaluation.table()["mean"]
    np.testing.assert_allclose(means["gap", "before"], 5.5)
    assert means["accuracy", "before"] == 0.75, "weak verdicts lose against a cue that points the other way"
    np.testing.assert_allclose(means["gap", "after"], 0, atol=1e-6)
    assert means["accuracy", "after"] == 1.0


def test_pruning_by_literal_spuriousness_loses_the_task(parts, units):
    rank, _, test = parts
    model = planted.model()
    first = icp.spuriousness(measured(rank, units, icp.Mask("zero"))).head(3).units
    pruned = icp.prune(model, icp.Selection.of(model, first))
    means = icp.evaluate(pruned, test.balanced()).table().droplevel("model")["mean"]
    assert means["accuracy"] == 0.5


def test_hybrid_selection_prunes_the_extreme_and_regularises_the_moderate(parts, units):
    ranking = icp.indirect_effect(measured(parts[0], units, icp.Swap("counterpart")))
    frontier = icp.frontier(
        planted.model(), parts[1], ranking, icp.Mask("zero"), sizes=[1, 2], progress=False
    )  # fmt: skip
    selection = frontier.select(threshold=2.0, regularise=0.75)
    assert {str(u) for u in selection.role("prune")} == SPURIOUS
    assert [str(u) for u in selection.role("regularise")] == [planted.LEAK_HEAD]


def test_each_unit_acts_where_it_stands_by_construction():
    """The colour's dimension of the embedding acts at the cue, and the heads that read it at the last token."""
    model, probe, swap = planted.model(), planted.probe().take(20), icp.Swap("counterpart")
    units = [f"hook_embed[{planted.COLOUR}]", planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON]
    s, _ = planted.variables(probe)
    everywhere = {unit: -2 * carried * s for unit, carried in zip(units, (2.75, 2.25, 1.5))}
    for positions, acting in (("cue", units[:1]), ("last", units[1:]), ("rest", []), ("all", units)):
        found = icp.measure(model, probe, units, swap, positions=positions, progress=False)
        for unit in found.units:
            wanted = everywhere[str(unit)] if str(unit) in acting else 0 * s
            np.testing.assert_allclose(found.dP[found.units.index(unit), 0], wanted, atol=1e-6)
