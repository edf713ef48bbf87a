"""The benchmark on coloured shapes: what it counts, on models whose answers are known."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import shapes
import torch
from shapes import KINDS, Protocol, accuracy, by_chance, carried, drawn, summary, trained
from typer.testing import CliRunner

import icp

TINY = Protocol(train=40, rank=12, select=12, test=12, epochs=1, tuning_epochs=1, units=(4, 192), random_sets=2)

ROOT = Path(shapes.__file__).parent.parent


@pytest.fixture(scope="module")
def model():
    return trained(drawn(40, 1, TINY), 0, TINY)


def test_whoever_answers_by_the_background_is_right_where_it_agrees_alone(model):
    """Logits that are the background: red less blue of every patch, through all blocks unchanged."""
    module = model.copy().module
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "layernorm" not in name:
                parameter.zero_()
        module.vit.embeddings.patch_embeddings.projection.weight[0, 0] = 1
        module.vit.embeddings.patch_embeddings.projection.weight[0, 2] = -1
        attention = module.vit.layers[0].attention
        attention.v_proj.weight.copy_(torch.eye(32))
        attention.o_proj.weight.copy_(torch.eye(32))
        module.classifier.weight[0, 0], module.classifier.weight[1, 0] = 1, -1
    knows = replace(model, module=module)
    assert accuracy(knows, drawn(20, 0, TINY)) == {"aligned": 100, "swapped": 0}


def test_all_units_carry_all_of_the_effect_and_one_that_writes_nothing_none_of_it(model):
    """The class token is the same in both images, so that it differs only by what units write there."""
    cut = icp.prune(model, icp.Selection.of(model, ["blocks.0.mlp.hook_post[3]"]))
    nothing = [icp.Unit.parse("blocks.0.mlp.hook_post[3]")]
    whole, none = carried(cut, [cut.units(*KINDS), nothing], drawn(12, 0, TINY))
    assert whole == pytest.approx(1, abs=1e-4) and none == pytest.approx(0, abs=1e-6)


def test_random_sets_have_as_many_of_each_kind(model):
    like = model.units("value")[:3] + model.units("neuron")[:5]
    found = by_chance(model, like, random.Random(0))
    assert [sum(unit.kind == kind for unit in found) for kind in KINDS] == [3, 5]
    assert len(set(found)) == 8 and found != by_chance(model, like, random.Random(1))


def test_a_summary_is_of_gains_by_seed():
    def row(seed, prune):
        told = {method: {"aligned": 90.0, "swapped": 40.0} for method in shapes.METHODS}
        told["icp_prune"] = {"aligned": 80.0, "swapped": prune}
        return {"seed": seed, "accuracy": told, "carried": {"8": 0.5}, "carried_by_random": {"8": [0.1, 0.3]}}

    found = summary([row(0, 70.0), row(1, 80.0)])
    assert found["gain_on_swapped"]["icp_prune"]["seeds"] == [30, 40]
    assert found["gain_on_swapped"]["icp_reg"]["mean"] == 0
    assert found["carried"]["8"]["largest_random"] == 0.3
    assert found["carried"]["8"]["random"]["mean"] == pytest.approx(0.2)


def test_finished_seeds_are_kept(tmp_path, monkeypatch):
    asked = []

    def instead(seed, protocol):
        asked.append(seed)
        told = {method: {"aligned": 90.0, "swapped": 40.0} for method in shapes.METHODS}
        return {"accuracy": told, "carried": {"8": 0.5}, "carried_by_random": {"8": [0.1]}}

    monkeypatch.setattr(shapes, "round_of", instead)
    monkeypatch.setattr(shapes, "machine", lambda threads: {})
    import typer

    app = typer.Typer()
    app.command()(shapes.main)
    for _ in range(2):
        done = CliRunner().invoke(app, ["--json", str(tmp_path / "shapes.json")])
        assert done.exit_code == 0, done.output
    rounds = json.loads((tmp_path / "shapes.json").read_text())["rounds"]
    assert asked == list(range(shapes.SEEDS)) and len(rounds) == shapes.SEEDS


def test_the_readme_says_what_the_results_are():
    readme = (ROOT / "README.md").read_text()
    found = summary(json.loads((ROOT / "benchmarks" / "results" / "shapes.json").read_text())["rounds"])
    for method, row in found["accuracy"].items():
        told = f"| {row['aligned']['mean']:.1f} | {row['swapped']['mean']:.1f} | "
        if method in found["gain_on_swapped"]:
            gain = found["gain_on_swapped"][method]
            told += f"{gain['mean']:+.1f} ({gain['low']:.1f} to {gain['high']:.1f}) |"
        assert told in readme, method
    for which, values in (("best", "mean"), ("random", "mean")):
        shares = [f"{row[which][values]:.2f}" for row in found["carried"].values()]
        assert f"{shares[0]}, {shares[1]} and {shares[2]}" in readme, which
