"""Sets are measured as sets, with the very constants that are cut; a selection follows one rule, by hand."""

import numpy as np
import pandas
import planted
import pytest
from helpers import BY_NAME, make_probe

import icp
from icp.sweep.plan import clean_values

RANKED = (
    "blocks.1.attn.hook_z[2]",
    "blocks.0.mlp.hook_post[5]",
    "blocks.0.attn.hook_z[1,3]",
    "blocks.2.mlp.hook_post[40]",
    "blocks.2.attn.hook_z[0]",
)
MASKS = [icp.Mask("zero"), icp.Mask("mean"), icp.Scale(0.25)]


def scores(units=RANKED, values=None, by="indirect_effect"):
    values = list(range(len(units), 0, -1)) if values is None else values
    return icp.Scores(pandas.DataFrame({by: values}, index=pandas.Index(list(units), name="unit")), by)


@pytest.fixture(scope="module")
def model():
    return BY_NAME["gpt2"].model()


@pytest.fixture(scope="module")
def probe():
    return make_probe()


def measured(model, probe, intervention, ranking=None, **options):
    return icp.frontier(model, probe, ranking or scores(), intervention, progress=False, **options)


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: m.label)
def test_each_size_is_measured_as_a_set(model, probe, mask):
    frontier = measured(model, probe, mask, sizes=[1, 3, 5])
    assert frontier.sizes == (0, 1, 3, 5)
    options = dict(reference=probe, progress=False)
    for row, size in enumerate(frontier.sizes):
        one, other = (
            icp.measure_sets(model, inputs, [RANKED[:size]], mask, **options) for inputs in (probe, probe.swapped())
        )
        by_set = one.clean + one.dP[0] - other.clean - other.dP[0]
        np.testing.assert_allclose(frontier.gap[row], by_set, atol=1e-9)
        cost = icp.measure_sets(model, probe.balanced(), [RANKED[:size]], mask, property=icp.TaskLoss(), **options)
        np.testing.assert_allclose(frontier.costs["task"][row], cost.clean + cost.dP[0], atol=1e-9)


@pytest.mark.parametrize("property", [icp.LogitDifference(), icp.LogLikelihood(1)], ids=lambda p: p.label)
@pytest.mark.parametrize("mask", MASKS, ids=lambda m: m.label)
def test_what_was_measured_is_what_is_cut(model, probe, mask, property):
    """The gap and the loss of the pruned model are the frontier's: the same sets, the same constants."""
    reference = icp.Probe.from_texts(["The old doctor ran", "It was late and the nurse laughed quickly"])
    frontier = measured(model, probe, mask, property=property, reference=reference, sizes=[2, 5])
    for row, size in [(1, 2), (2, 5)]:
        pruned = icp.prune(model, frontier.select(top=size))
        gap = clean_values(pruned, probe, property) - clean_values(pruned, probe.swapped(), property)
        np.testing.assert_allclose(frontier.gap[row], gap, atol=1e-9)
        loss = clean_values(pruned, probe.balanced(), icp.TaskLoss())
        np.testing.assert_allclose(frontier.costs["task"][row], loss, atol=1e-9)


def test_losses_of_ones_own_by_name(model, probe):
    texts = icp.Probe.from_texts(["The old doctor ran", "It was late and the nurse laughed quickly"])
    costs = {"neutral": (texts, icp.NextTokenLoss()), "task": (probe, icp.TaskLoss())}
    frontier = measured(model, probe, icp.Mask(), costs=costs)
    assert set(frontier.costs) == {"neutral", "task"}
    pruned = icp.prune(model, frontier.select(top=5))
    np.testing.assert_allclose(
        frontier.costs["neutral"][-1], clean_values(pruned, texts, icp.NextTokenLoss()), atol=1e-9
    )
    assert set(frontier.select(max_damage={"neutral": 99.0, "task": 99.0}).units) <= set(frontier.select(top=5).units)


def test_a_frontier_says_what_was_measured(model, probe):
    costs = {"neutral": (icp.Probe.from_texts(["The old doctor ran"]), icp.NextTokenLoss())}
    assert measured(model, probe, icp.Mask("mean"), scores(by="S"), costs=costs, sizes=[1]).origin == {
        "ranking": "S",
        "intervention": "mask:mean",
        "property": "LogitDifference()",
        "pairs": 4,
        "costs": {"neutral": "NextTokenLoss() on 1 inputs"},
        "cost_units": {"neutral": "nats per token"},
    }


def grown_by_hand(model, probe, mask, costs, budgets):
    """The same growth in a loop over whole sets, each measured from nothing."""

    def gap(units):
        one, other = (icp.measure_sets(model, p, [units], mask, **options) for p in (probe, probe.swapped()))
        return np.abs(one.clean + one.dP[0] - other.clean - other.dP[0]).mean()

    options, kept, over = dict(reference=probe, progress=False), [], {}
    for unit in RANKED:
        rises = {
            name: icp.measure_sets(model, texts, [[*kept, unit]], mask, property=loss, **options).dP.mean()
            for name, (texts, loss) in costs.items()
        }
        if gap([*kept, unit]) >= gap(kept):
            over[unit] = "the gap becomes no smaller"
        elif too_far := [name for name, rise in rises.items() if rise > budgets[name]]:
            over[unit] = f"{too_far[0]!r} would rise too far"
        else:
            kept.append(unit)
    return kept, over


@pytest.mark.parametrize("task", [-0.05, 0.0, 9.0])
@pytest.mark.parametrize("mask", MASKS, ids=lambda m: m.label)
def test_within_budgets_a_set_grows_as_in_a_loop(model, probe, mask, task):
    texts = icp.Probe.from_texts(["The old doctor ran", "It was late and the nurse laughed quickly"])
    costs = {"task": (probe, icp.TaskLoss()), "text": (texts, icp.NextTokenLoss())}
    budgets = {"task": task, "text": 0.05}
    kept, over = grown_by_hand(model, probe, mask, costs, budgets)
    if not kept:
        with pytest.raises(icp.IcpError, match="none of the 5 ranked units can be cut within the budget"):
            measured(model, probe, mask, costs=costs, max_damage=budgets)
        return
    frontier = measured(model, probe, mask, costs=costs, max_damage=budgets)
    assert [str(choice.unit) for choice in frontier.choices] == kept
    assert frontier.origin["passed_over"] == over and frontier.origin["max_damage"] == budgets
    assert frontier.sizes == tuple(range(len(kept) + 1))
    assert frontier.scores == tuple(5.0 - RANKED.index(unit) for unit in kept)
    again = measured(model, probe, mask, scores(kept), costs=costs, sizes=range(len(kept) + 1))
    np.testing.assert_allclose(frontier.gap, again.gap, atol=1e-12)
    for name in costs:
        np.testing.assert_allclose(frontier.costs[name], again.costs[name], atol=1e-12)
        assert frontier.damage(name).mean(1)[1:].max() <= budgets[name]


def test_growth_passes_over_some_and_keeps_some(model, probe):
    """The cases above hold both, or they would show little."""
    costs = {"task": (probe, icp.TaskLoss())}
    found = [grown_by_hand(model, probe, mask, costs, {"task": 0.0}) for mask in MASKS]
    reasons = {why for _, over in found for why in over.values()}
    assert len(reasons) == 2 and any(kept for kept, _ in found)


def test_sizes_and_budgets_exclude_each_other(model, probe):
    with pytest.raises(icp.IcpError, match=r"sizes=\(1, 2\) and max_damage=0.1 say two things"):
        measured(model, probe, icp.Mask(), sizes=[1, 2], max_damage=0.1)
    with pytest.raises(icp.IcpError, match=r"max_damage names \['other'\], the losses are \['task'\]"):
        measured(model, probe, icp.Mask(), max_damage={"other": 0.1})


@pytest.mark.parametrize(("count", "sizes"), [(1, (0, 1)), (2, (0, 1, 2)), (4, (0, 1, 2, 4)), (5, (0, 1, 2, 4, 5))])
def test_sizes_double_and_end_with_all(model, probe, count, sizes):
    assert measured(model, probe, icp.Mask(), scores(RANKED[:count])).sizes == sizes


def test_choices_carry_what_cutting_needs(model, probe):
    zero, mean, scale = (measured(model, probe, mask, sizes=[1]).choices for mask in MASKS)
    assert {(c.role, c.alpha, c.shift) for c in zero} == {("prune", 0.0, ())}
    assert {(c.role, c.alpha, c.shift) for c in scale} == {("scale", 0.25, ())}
    assert [len(c.shift) for c in mean] == [8, 1, 1, 1, 8]
    assert [str(c.unit) for c in mean] == list(RANKED)


def test_the_table_by_hand():
    table = by_hand().table()
    np.testing.assert_allclose(table["gap"], [2.0, 1.5, 0.5, 0.0, 1.0])
    np.testing.assert_allclose(table["gap_left"], [1.0, 0.75, 0.25, 0.0, 0.5])
    np.testing.assert_allclose(table["gap_se"], [0.0, 0.5, 0.5, 0.0, 1.0])  # of two pairs, half their difference
    np.testing.assert_allclose(table["damage task"], [0.0, 0.015625, 0.03125, 0.5, -0.125])
    np.testing.assert_allclose(table["relative_damage task"], [0.0, 0.015625, 0.03125, 0.5, -0.125])
    np.testing.assert_allclose(table["damage_se task"], [0.0, 0.015625, 0.03125, 0.5, 0.125], atol=1e-12)
    assert list(table.index) == [0, 1, 2, 4, 5]


def by_hand(**changes):
    """Two pairs; the loss is 1 without intervention."""
    fields = dict(
        sizes=(0, 1, 2, 4, 5),
        gap=np.array([[2.0, -2.0], [1.0, -2.0], [0.0, 1.0], [0.0, 0.0], [2.0, 0.0]]),
        costs={"task": np.array([[1.0, 1.0], [1.0, 1.03125], [1.0, 1.0625], [1.0, 2.0], [0.75, 1.0]])},
        choices=tuple(icp.Choice(icp.Unit.parse(unit)) for unit in RANKED),
        scores=(5.0, 4.0, 3.0, 2.0, 1.0),
        binding={"architecture": "a", "tokenizer": "t", "weights": "w"},
        origin={"ranking": "indirect_effect"},
    )
    return icp.Frontier(**fields | changes)


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ({"max_damage": 1.0}, 4),
        ({"max_damage": 0.03125}, 2),
        ({"max_damage": 0.03}, 5),
        ({"max_damage": {"task": 0.04}}, 2),
        ({"max_damage": -0.05}, 5),
        ({"top": 1}, 1),
        ({"top": 3}, 3),
        ({"top": 5}, 5),
        ({"threshold": 3.0}, 3),
        ({"threshold": 3.5}, 2),
        ({"threshold": -9.0}, 5),
    ],
)
def test_one_rule_decides(rule, count):
    selection = by_hand().select(**rule)
    assert [str(u) for u in selection.units] == list(RANKED[:count])
    assert {c.role for c in selection.choices} == {"prune"}
    assert selection.binding == by_hand().binding
    assert selection.origin["rule"] == rule and selection.origin["ranking"] == "indirect_effect"


@pytest.mark.parametrize(
    ("rule", "pruned", "regularised"),
    [
        ({"threshold": 3.5, "regularise": 2.0}, 2, 2),
        ({"top": 1, "regularise": 3.0}, 1, 2),
        ({"max_damage": 0.04, "regularise": 0.0}, 2, 3),
    ],
)
def test_a_hybrid_prunes_the_extreme_and_regularises_the_moderate(rule, pruned, regularised):
    selection = by_hand().select(**rule)
    assert [str(u) for u in selection.role("prune")] == list(RANKED[:pruned])
    assert [str(u) for u in selection.role("regularise")] == list(RANKED[pruned : pruned + regularised])
    assert selection.origin["rule"] == rule


def test_a_threshold_goes_by_score_even_where_the_least_comes_first():
    """A ranking by damage has its smallest value first."""
    upwards = by_hand(scores=(1.0, 2.0, 3.0, 4.0, 5.0))
    assert [str(u) for u in upwards.select(threshold=4.0).units] == list(RANKED[3:])


def test_the_smallest_of_equally_good_sets_is_taken():
    flat = by_hand(gap=np.array([[2.0, 2.0], *[[1.0, 1.0]] * 4]))
    assert len(flat.select(max_damage=9.0)) == 1


@pytest.mark.parametrize("gap", [2.0, 1.0])
def test_a_set_that_makes_the_gap_no_smaller_is_not_chosen(gap):
    grows = by_hand(gap=np.array([[1.0, 1.0], *[[gap, gap]] * 4]))
    with pytest.raises(icp.IcpError, match="makes the gap smaller"):
        grows.select(max_damage=9.0)


def test_two_losses_must_both_stay_within_their_budgets():
    costs = by_hand().costs | {"neutral": np.array([[3.0], [3.1], [3.3], [3.0], [3.0]])}
    frontier = by_hand(costs=costs)
    assert len(frontier.select(max_damage=0.04)) == 5
    assert len(frontier.select(max_damage={"task": 0.04, "neutral": 0.4})) == 2
    assert len(frontier.select(max_damage={"task": 9.0, "neutral": 0.0})) == 4


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "select takes exactly one of max_damage, top and threshold, got none"),
        ({"regularise": 1.0}, "exactly one of max_damage, top and threshold, got none"),
        ({"top": 1, "threshold": 2.0}, "got {'top': 1, 'threshold': 2.0}"),
        ({"top": 0}, "top=0 is not between 1 and the 5 ranked units"),
        ({"top": 6}, "top=6 is not between 1 and the 5 ranked units"),
        ({"threshold": 5.5}, "no unit scores 5.5 or more: the best has 5"),
        ({"threshold": float("nan")}, "no unit scores nan or more"),
        ({"max_damage": -1.0}, "no measured set keeps the rise of 'task' within -1.0 nats: the least is -0.125"),
        ({"max_damage": float("nan")}, "max_damage of 'task' is nan: give a number"),
        ({"max_damage": {"tusk": 0.1}}, "max_damage names ['tusk'], the losses are ['task']"),
        ({"top": 2, "regularise": 9.0}, "no unit that is not cut scores 9.0 or more"),
        ({"threshold": 2.0, "regularise": 3.0}, "no unit that is not cut scores 3.0 or more"),
        ({"top": 5, "regularise": 0.0}, "no unit that is not cut scores 0.0 or more"),
    ],
)
def test_a_rule_that_matches_nothing_says_so(rule, words):
    with pytest.raises(icp.IcpError) as error:
        by_hand().select(**rule)
    assert words in str(error.value)


class Doubled(icp.Intervention):
    def replace(self, values, where):
        return 2 * values


SWAPPED, PER_POSITION = icp.Swap("counterpart"), icp.Mask("mean", per_position=True)


@pytest.mark.parametrize(
    "intervention", [SWAPPED, PER_POSITION, icp.Swap("hook_embed[0]"), icp.Mask("resample"), Doubled()]
)
def test_what_weights_cannot_carry_is_refused(model, probe, intervention):
    with pytest.raises(icp.IcpError) as error:
        measured(model, probe, intervention)
    assert f"{intervention.label} cannot be written into weights" in str(error.value)
    assert "use Mask('zero'), Mask('mean'), Scale(alpha) or Erase(rank)" in str(error.value)


def test_what_cannot_be_measured_says_why(model, probe):
    head, dim = "blocks.0.attn.hook_z[1]", "blocks.0.attn.hook_z[1,3]"
    texts = icp.Probe.from_texts(["The old doctor ran"], answers=(" she", " he"))
    unlabelled = icp.Probe.from_pairs([("The nurse ran", "The doctor ran")], answers=(" she", " he"))
    for words, call in [
        ("sizes go from 1 to the 5 ranked units, got (6,)", lambda: measured(model, probe, icp.Mask(), sizes=[6])),
        ("sizes go from 1 to the 5 ranked units", lambda: measured(model, probe, icp.Mask(), sizes=[-1, 2])),
        ("sizes go from 1 to the 5 ranked units, got ()", lambda: measured(model, probe, icp.Mask(), sizes=[])),
        ("a frontier needs pairs: use Probe.from_pairs", lambda: measured(model, texts, icp.Mask())),
        ("cover the same values", lambda: measured(model, probe, icp.Mask(), scores((head, dim)))),
        ("out of range", lambda: measured(model, probe, icp.Mask(), scores(("hook_embed[99]",)))),
        ("needs the right answer of 'The nurse ran'", lambda: measured(model, unlabelled, icp.Mask())),
    ]:
        with pytest.raises(icp.IcpError) as error:
            call()
        assert words in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_returns_nan_is_named(value):
    """The embedding of one word of one pair is damaged after loading."""
    import torch

    model = icp.load(planted.module(), planted.tokenizer())
    with torch.no_grad():
        model.module.model.embed_tokens.weight[planted.WORDS.index("navy")] = value
    pairs = icp.Probe(tuple(planted.example("the", "pink", other, "great") for other in ("blue", "navy")))
    with pytest.raises(icp.NotFiniteError, match=r"the model returns (nan|inf|-inf) for 'the navy great film'"):
        measured(model, pairs, icp.Mask(), scores([planted.SPURIOUS_HEAD]))
    with pytest.raises(icp.NotFiniteError, match=r"the navy great film"):
        icp.evaluate(model, pairs)
    for method in ("exact", "linear"):
        with pytest.raises(icp.NotFiniteError, match="measure in float32, or leave this input out"):
            icp.measure(model, pairs.swapped(), ["hook_embed[0]"], icp.Mask(), method=method, progress=False)
