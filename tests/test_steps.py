"""Each step of a run leaves in its folder what its parts give, and hands the next what it was told to."""

import os
from dataclasses import replace

import artefacts
import numpy as np
import pytest
from helpers import BY_NAME, make_probe

import icp
from icp import steps
from icp.nested_sets import mean_values

MAX_DAMAGE = 0.2
TEXTS = icp.Probe.from_texts(["The old doctor ran home", "It was late and she smiled", "The nurse went home early"])
OTHERS = icp.Probe.from_texts(["The nurse smiled", "The old doctor laughed because it was late"])
SELECTING = make_probe(
    (
        ("The flight attendant laughed because", "The doctor laughed because"),
        ("The old nurse said that", "The old doctor said that"),
    )
)
QUIET = {"progress": False}


def costs_of(probe, texts=TEXTS):
    return {"task": (probe, steps.loss_of(probe)), "neutral": (texts, icp.NextTokenLoss())}


@pytest.fixture(scope="module")
def model():
    return BY_NAME["gpt2"].model()


@pytest.fixture(scope="module")
def scored(model, tmp_path_factory):
    """The folder of a scored probe, and its ranking."""
    folder, probe = tmp_path_factory.mktemp("run") / "scored", make_probe()
    few = dict(candidates=20, pairs=2, inputs=3, max_damage=MAX_DAMAGE, dosed=2)
    return folder, steps.score(model, probe, costs_of(probe), folder, **few, **QUIET)


def stored(scored, name):
    return icp.Effects.load(scored[0] / f"{name}.zarr")


def same(effects, others):
    """The same numbers of the same units, which a store keeps in the order of the blocks."""
    rows = [effects.units.index(unit) for unit in others.units]
    assert len(rows) == len(effects.units)
    np.testing.assert_allclose(effects.dP[rows], others.dP, atol=1e-9)
    assert [e["text"] for e in effects.header["examples"]] == [e["text"] for e in others.header["examples"]]


def test_every_unit_is_estimated(model, scored):
    swap = icp.Swap("counterpart")
    same(
        stored(scored, "estimates"),
        icp.measure(model, make_probe(), model.units("head", "neuron"), swap, method="linear", **QUIET),
    )


def test_candidates_are_the_best_whose_estimated_damage_is_within_the_budget(model, scored):
    mask = dict(reference=steps.reference_of(make_probe(), costs_of(make_probe())), method="linear", **QUIET)
    guesses = {
        name: icp.measure(model, inputs, model.units("head", "neuron"), icp.Mask("mean"), property=loss, **mask)
        for name, (inputs, loss) in costs_of(make_probe()).items()
    }
    within = icp.selectivity(stored(scored, "estimates"), guesses, MAX_DAMAGE)
    assert 20 < len(within.units) < len(model.units("head", "neuron")), "both limits must matter"
    assert set(stored(scored, "exact").units) == set(within.head(20).units)


def test_candidates_are_measured_on_some_of_the_inputs(model, scored):
    chosen, swap = stored(scored, "exact").units, icp.Swap("counterpart")
    same(stored(scored, "exact"), icp.measure(model, make_probe().take(2), chosen, swap, **QUIET))
    mask = dict(reference=steps.reference_of(make_probe(), costs_of(make_probe())), **QUIET)
    for name, (inputs, loss) in costs_of(make_probe()).items():
        cost = icp.measure(model, inputs.take(3), chosen, icp.Mask("mean"), property=loss, **mask)
        same(stored(scored, f"cost-{name}"), cost)
        assert stored(scored, f"cost-{name}").interventions == ["mask:mean"]


def test_the_ranking_is_by_selectivity_within_the_budget_of_the_call(scored):
    costs = {name: stored(scored, f"cost-{name}") for name in ("task", "neutral")}
    by_hand = icp.selectivity(stored(scored, "exact"), costs, MAX_DAMAGE)
    assert scored[1].units == by_hand.units
    assert len(icp.selectivity(stored(scored, "exact"), costs, 0.05).units) < len(by_hand.units), "the budget matters"


def test_the_best_units_get_a_dose_response_of_the_gap(model, scored):
    doses = stored(scored, "doses")
    assert set(doses.units) == set(scored[1].head(2).units)
    assert doses.interventions == [icp.Scale(alpha).label for alpha in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)]
    whats = [icp.Scale(alpha) for alpha in steps.ALPHAS]
    same(doses, icp.measure(model, make_probe().take(2), doses.units, whats, property=icp.PairGap(), **QUIET))


def test_the_best_units_are_cut_with_means_over_all_the_inputs(model, scored):
    folder, costs = scored[0], costs_of(SELECTING, OTHERS)
    selection = steps.cut(model, SELECTING, costs, folder, max_damage=99.0, largest=8, **QUIET)
    frontier = icp.Frontier.load(folder / "frontier.safetensors")
    assert icp.Selection.load(folder / "selection.safetensors") == selection
    assert selection == frontier.select(max_damage={"task": 99.0, "neutral": 99.0})
    best = steps.ranked(folder, ["task", "neutral"], 99.0).head(8).units
    passed_over = frontier.origin["passed_over"]
    chosen = [unit for unit in best if str(unit) not in passed_over]
    assert [choice.unit for choice in frontier.choices] == chosen and len(chosen) + len(passed_over) == 8
    together = icp.Probe(SELECTING.balanced().examples + SELECTING.examples + OTHERS.examples)
    for choice, mean in zip(frontier.choices, mean_values(model, chosen, together)):
        np.testing.assert_allclose(choice.shift, mean, atol=1e-12)
    assert set(frontier.costs) == {"task", "neutral"} and frontier.origin["intervention"] == "mask:mean"


def test_no_unit_spends_more_than_its_share_of_a_budget(model, scored):
    costs, budgets = costs_of(SELECTING, OTHERS), {"task": 0.4, "neutral": 0.8}
    options = dict(max_damage=budgets, largest=99, **QUIET)
    tried = {}
    for alone in (0.1, 0.25):
        steps.cut(model, SELECTING, costs, scored[0], alone=alone, **options)
        frontier = icp.Frontier.load(scored[0] / "frontier.safetensors")
        tried[alone] = {str(choice.unit) for choice in frontier.choices} | set(frontier.origin["passed_over"])
        shares = {name: alone * budget for name, budget in budgets.items()}
        assert tried[alone] == set(map(str, steps.ranked(scored[0], ["task", "neutral"], shares).units))
    assert tried[0.1] < tried[0.25]


def test_a_watched_loss_limits_the_set_and_not_the_single_units(model, scored):
    costs, wrong = costs_of(SELECTING, OTHERS), {"wrong": (make_probe(), icp.ErrorRate())}
    options = dict(max_damage={"task": 99.0, "neutral": 99.0, "wrong": 0.0}, watched=wrong, largest=12, **QUIET)
    steps.cut(model, SELECTING, costs, scored[0], **options)
    frontier = icp.Frontier.load(scored[0] / "frontier.safetensors")
    assert list(frontier.costs) == ["task", "neutral", "wrong"] and frontier.cost_unit("wrong") == "share"
    assert frontier.damage("wrong").mean(1).max() <= 0
    with pytest.raises(icp.IcpError, match=r"max_damage names .*, the losses are .*'wrong'"):
        steps.cut(model, SELECTING, costs, scored[0], max_damage={"task": 1.0, "neutral": 1.0}, watched=wrong, **QUIET)


def test_directions_are_erased_from_the_best_heads(model, scored):
    """They are fitted on the pairs that were ranked on: where the gap is measured it would be flattered."""
    folder, costs = scored[0], costs_of(SELECTING, OTHERS)
    selection = steps.cut(
        model, SELECTING, costs, folder, max_damage=99.0, largest=3, intervention=icp.Erase(2), **QUIET
    )
    best = [unit for unit in steps.ranked(folder, ["task", "neutral"], 99.0).units if unit.kind == "head"][:3]
    frontier = icp.Frontier.load(folder / "frontier.safetensors")
    passed_over = frontier.origin["passed_over"]
    assert [choice.unit for choice in frontier.choices] == [unit for unit in best if str(unit) not in passed_over]
    assert len(frontier.choices) + len(passed_over) == 3
    by_hand = icp.erasure(model, [choice.unit for choice in frontier.choices], make_probe(), rank=2)
    assert frontier.choices == by_hand.choices and frontier.origin["intervention"] == "erase:2"
    assert icp.Selection.load(folder / "selection.safetensors") == selection and selection.role("erase")
    before, after = (np.abs(frontier.gap[size]).mean() for size in (0, len(selection)))
    cut = icp.evaluate(icp.prune(model, selection), SELECTING, ["gap"]).values
    assert next(iter(cut.values()))["gap"].mean() == pytest.approx(after, abs=1e-6) and after < before


def test_directions_cannot_be_erased_where_no_head_was_ranked(model, tmp_path):
    probe, few = make_probe(), dict(candidates=5, pairs=2, inputs=3, max_damage=9.0, dosed=1)
    steps.score(model, probe, costs_of(probe), tmp_path, kinds=("neuron",), **few, **QUIET)
    with pytest.raises(icp.IcpError, match=r"none of the 5 units within the budget is a head, .* score heads too"):
        steps.cut(model, SELECTING, costs_of(SELECTING, OTHERS), tmp_path, max_damage=99.0, intervention=icp.Erase(),
                  **QUIET)  # fmt: skip
    assert not (tmp_path / "frontier.safetensors").exists()


def test_the_reference_holds_the_pairs_and_every_costs_inputs():
    probe = make_probe()
    reference = steps.reference_of(probe, {"a": (TEXTS, icp.NextTokenLoss()), "b": (SELECTING, icp.TaskLoss())})
    assert reference.examples == probe.balanced().examples + TEXTS.examples + SELECTING.examples


def test_what_was_ranked_on_is_not_selected_on(model, scored):
    """Pairs that were only estimated on, a pair turned round, and the inputs of a cost."""
    only_estimated = icp.Probe(tuple(e for e in make_probe().examples if e not in make_probe().take(2).examples))
    assert {e["text"] for e in stored(scored, "exact").header["examples"]} == {
        e.text for e in make_probe().take(2).examples
    }
    options = dict(max_damage=99.0, **QUIET)
    for pairs in (only_estimated, make_probe().swapped()):
        with pytest.raises(icp.ArtefactError, match=r"pair\(s\), such as .* were used for ranking"):
            steps.cut(model, pairs, costs_of(SELECTING, OTHERS), scored[0], **options)
    with pytest.raises(icp.ArtefactError, match=r"input of the cost 'neutral'\(s\), such as .* were used for ranking"):
        steps.cut(model, SELECTING, costs_of(SELECTING, TEXTS), scored[0], **options)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_cost_needs_a_name_that_a_file_can_have(model, tmp_path, name):
    with pytest.raises(icp.IcpError, match=f"a cost cannot be called {name!r}: its name becomes part of a file"):
        steps.score(model, make_probe(), {name: (TEXTS, icp.NextTokenLoss())}, tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_watched_losses_need_budgets_and_names_of_their_own(model, scored):
    call = dict(model=model, probe=SELECTING, costs=costs_of(SELECTING, OTHERS), folder=scored[0], **QUIET)
    with pytest.raises(icp.IcpError, match="'task' is among the costs and among the watched losses"):
        steps.cut(**call, max_damage=1.0, watched={"task": (SELECTING, icp.ErrorRate())})
    with pytest.raises(icp.IcpError, match=r"max_damage=1.0 beside watched losses: give one budget a loss, by name"):
        steps.cut(**call, max_damage=1.0, watched={"wrong": (SELECTING, icp.ErrorRate())})


def test_the_loss_of_labelled_inputs_is_of_their_answers():
    one_without = icp.Probe((replace(make_probe().examples[0], label=None), *make_probe().examples[1:]))
    assert steps.loss_of(make_probe()) == icp.TaskLoss(among_answers=True)
    assert steps.loss_of(one_without) == steps.loss_of(TEXTS) == icp.NextTokenLoss()


def test_the_report_of_a_folder_is_that_of_its_artefacts(tmp_path):
    parts = artefacts.everything()
    for name in ("estimates", "exact", "doses"):
        parts[name].save(tmp_path / f"{name}.zarr")
    parts["costs"]["neutral"].save(tmp_path / "cost-neutral.zarr")
    parts["frontier"].save(tmp_path / "frontier.safetensors")
    parts["selection"].save(tmp_path / "selection.safetensors")
    parts["drivers"].save(tmp_path / "drivers.json")
    for positions, measured in parts["by_position"].items():
        measured.save(tmp_path / f"at-{positions}.zarr")
    parts["co_ablation"].save(tmp_path / "co-ablation.zarr")
    parts["evaluations"]["held-out pairs"].save(tmp_path / "evaluation-pairs.json")
    parts["changed_answers"]["held-out pairs"].save(tmp_path / "changed-answers-pairs.json")
    (tmp_path / "about.json").write_text(
        '{"title": "Told", "summary": ["All units were ranked."], "model_name": "m", "notes": ["One seed."], '
        '"max_gap_left": 0.6}'
    )
    parts |= {"model_name": "m", "evaluations": {"evaluation-pairs": parts["evaluations"]["held-out pairs"]}}
    parts["changed_answers"] = {"pairs": parts["changed_answers"]["held-out pairs"]}
    assert steps.report_of(tmp_path).html == icp.report("Told", **parts).html
    assert steps.report_of(tmp_path, "Mine", "n").html == icp.report("Mine", **parts | {"model_name": "n"}).html


def test_the_report_says_that_an_evaluation_is_older_than_the_selection(tmp_path):
    parts = artefacts.everything()
    parts["evaluations"]["held-out pairs"].save(tmp_path / "evaluation.json")
    parts["selection"].save(tmp_path / "selection.safetensors")
    said = "evaluation.json was written before selection.safetensors"
    os.utime(tmp_path / "evaluation.json", (1e9, 1e9))
    assert said in steps.report_of(tmp_path).html
    os.utime(tmp_path / "selection.safetensors", (9e8, 9e8))
    assert said not in steps.report_of(tmp_path).html


def test_a_selection_is_described_by_the_units_that_it_does_not_keep(model, tmp_path):
    """Again with other units: what was there is replaced."""
    units = ["blocks.1.attn.hook_z[3]", "blocks.0.mlp.hook_post[5]", "blocks.0.attn.hook_z[0]"]
    probe = icp.Probe((*make_probe().examples, icp.Example("It ran", "It old ran", (" she", " he"))))
    for roles in (("prune", "keep", "regularise"), ("keep", "regularise", "regularise")):
        choices = tuple(icp.Choice(icp.Unit.parse(unit), role) for unit, role in zip(units, roles))
        steps.describe(model, probe, icp.Selection(choices, model.binding), tmp_path, **QUIET)
        chosen = [unit for unit, role in zip(units, roles) if role != "keep"]
        driven = icp.Drivers.load(tmp_path / "drivers.json")
        assert driven == icp.drivers(model, probe, chosen) and list(driven.inputs) == chosen
        assert set(driven.reads) == {unit for unit in chosen if "attn" in unit}
        for positions in ("cue", "last", "rest", "all"):
            at = icp.Effects.load(tmp_path / f"at-{positions}.zarr")
            same(at, icp.measure(model, make_probe(), chosen, icp.Swap("counterpart"), positions=positions, **QUIET))
    assert "places" in steps.report_of(tmp_path).html


def test_a_selection_that_only_keeps_is_not_described(model, tmp_path):
    kept = icp.Selection((icp.Choice(icp.Unit.parse("hook_embed[1]"), "keep"),), model.binding)
    steps.describe(model, make_probe(), kept, tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_no_description_of_an_earlier_selection_stays(model, scored, tmp_path):
    """Neither where the next one has less to describe, nor between deciding anew and describing that."""
    uncued = icp.Probe.from_texts(["The old doctor ran home"])
    selection = icp.Selection((icp.Choice(icp.Unit.parse("blocks.0.mlp.hook_post[5]"), "prune"),), model.binding)
    nothing = icp.Selection((), model.binding)
    for probe, after, left in ((uncued, selection, ["drivers.json"]), (make_probe(), nothing, [])):
        steps.describe(model, make_probe(), selection, tmp_path, **QUIET)
        assert len(list(tmp_path.iterdir())) == 5
        steps.describe(model, probe, after, tmp_path, **QUIET)
        assert [path.name for path in tmp_path.iterdir()] == left
    steps.describe(model, make_probe(), selection, scored[0], **QUIET)
    steps.cut(model, SELECTING, costs_of(SELECTING, OTHERS), scored[0], max_damage=99.0, largest=2, **QUIET)
    assert not [*scored[0].glob("at-*"), *scored[0].glob("drivers.json")]


def test_a_damaged_description_of_a_run_is_refused(tmp_path):
    artefacts.exact().save(tmp_path / "exact.zarr")
    (tmp_path / "about.json").write_text('{"title": "T')
    with pytest.raises(icp.ArtefactError, match=r"about\.json is cut short or damaged \(.*\): delete it$"):
        steps.report_of(tmp_path)
