"""The registry: every architecture's row holds on a tiny random model, and a wrong row does not."""

from dataclasses import replace

import pytest
import torch
from helpers import BY_NAME, VERIFIED, bridged, make_tokenizer
from typer.testing import CliRunner

import icp
from icp.checks import CHECKS
from icp.cli import app
from icp.families import Point


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("name", [case.name for case in VERIFIED])
def test_every_row_holds(name, dtype):
    found = icp.verify(BY_NAME[name].model(dtype))
    assert found.holds, str(found)
    assert found.summary.startswith(name.split("_")[0]) and found.summary.endswith("checks hold")
    without = ["TransformerLens (float64)"] if name in ("distilbert", "vit") or name.endswith("_classes") else []
    assert [check.name for check in found.checks if check.holds is None] == without


def test_a_row_that_calls_heads_additive_where_they_are_not_fails():
    model = BY_NAME["llama"].model(torch.float32)
    found = icp.verify(replace(model, family=replace(model.family, parallel=lambda config: True)))
    failed = [check.name for check in found.checks if check.holds is False]
    assert not found.holds and "plain PyTorch hooks (float64)" in failed
    assert f"{len(failed)} of {len(found.checks)} checks fail: {failed[0]}" in str(found).splitlines()[-1]


def test_a_row_that_looks_for_heads_in_another_place_fails():
    model = BY_NAME["llama"].model(torch.float32)
    found = icp.verify(replace(model, family=replace(model.family, heads=Point("self_attn.v_proj", "output"))))
    assert not found.holds


def test_what_breaks_while_it_is_looked_at_fails_with_the_error():
    model = BY_NAME["llama"].model(torch.float32)
    found = icp.verify(replace(model, family=replace(model.family, queries=Point("self_attn.nowhere", "output"))))
    assert not found.holds and "has no attribute `nowhere`" in found.checks[0].detail


def test_only_plain_models_are_verified():
    module = bridged(BY_NAME["gpt2"].module(torch.float32), make_tokenizer())
    with pytest.raises(icp.ModelError, match="a bridge has no row of its own"):
        icp.verify(icp.load(module, make_tokenizer()))


def test_the_command_says_a_line_a_check_and_exits_by_the_summary(tmp_path, monkeypatch):
    BY_NAME["gpt2"].model(torch.float32).save_pretrained(tmp_path / "model")
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "model")])
    assert done.exit_code == 0 and done.output.splitlines()[-1].endswith("(gpt2): all 8 checks hold")
    monkeypatch.setitem(CHECKS, "one that fails", lambda case: (False, "so"))
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "model")])
    assert done.exit_code == 1 and "FAIL one that fails: so" in done.output
    assert done.output.splitlines()[-1].endswith("1 of 9 checks fail: one that fails")
