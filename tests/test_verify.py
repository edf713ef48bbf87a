"""The registry: every architecture's row holds on a tiny random model, and a wrong row does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BY_NAME, HEADLESS, VERIFIED, bridged, make_tokenizer
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from typer.testing import CliRunner

import icp
from icp import checks
from icp.checks import CHECKS
from icp.cli import app
from icp.family import Point


def untrained(name):
    """What is not looked at where there is nothing to train on."""
    return ["a LoRA step and merge"] if name in (HEADLESS.name, "clip_text", "clip_vision") else []


@pytest.mark.parametrize("name", [case.name for case in VERIFIED])
def test_every_row_holds(name):
    model = BY_NAME[name].model(torch.float32)
    found = icp.verify(model)
    assert found.holds, str(found)
    assert found.summary.startswith(name.split("_")[0]) and found.summary.endswith("checks hold")
    without = [] if type(model.module).__name__ in SUPPORTED_ARCHITECTURES else ["TransformerLens (float64)"]
    assert [check.name for check in found.checks if check.holds is None] == without + untrained(name)


@pytest.mark.parametrize("name", [case.name for case in VERIFIED])
def test_every_row_holds_in_double_precision(name):
    """The checks that look at a model as it was handed in; the others say in which precision their copy is."""
    case = checks.Case(BY_NAME[name].model(), 0)
    looked = {check: look(case) for check, look in CHECKS.items() if "(float" not in check}
    assert len(looked) == 3
    assert [check for check, (holds, _) in looked.items() if not holds] == untrained(name), looked


def test_the_architectures_that_transformer_lens_has_are_all_looked_at_with_it():
    listed = {case.name for case in VERIFIED if type(case.make()).__name__ in SUPPORTED_ARCHITECTURES}
    assert listed >= {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "opt", "phi", "bert"}


def test_a_fault_of_transformer_lens_is_no_reason_to_leave_it_out(monkeypatch):
    def broken(self):
        raise RuntimeError("no such hook\nand more")

    monkeypatch.setattr(icp.Model, "view", broken)
    found = icp.verify(BY_NAME["gpt2"].model(torch.float32))
    (lens,) = (check for check in found.checks if check.holds is not True)
    assert (lens.name, lens.detail) == ("TransformerLens (float64)", "RuntimeError: no such hook")


def a_case(monkeypatch, name, spoiled):
    """A case whose estimates (all that is asked for by a method) are `spoiled`."""
    case, whole = checks.Case(BY_NAME[name].model(torch.float32), 0), checks.Case.dP
    monkeypatch.setattr(
        checks.Case,
        "dP",
        lambda self, units, whats, **options: (
            spoiled(whole(self, units, whats, **options)) if options else whole(self, units, whats)
        ),
    )
    return case


@pytest.mark.parametrize("name", ("gpt2", "llama", "opt"))
def test_an_estimate_that_is_a_little_off_at_one_unit_fails(name, monkeypatch):
    look, clean = CHECKS["first order = finite differences (float64)"], checks.Case(BY_NAME[name].model(), 0)
    units = clean.units(*checks.EVERY)
    sizes = np.linalg.norm(clean.dP(units, icp.Mask("zero"), method=icp.Linear(qk_fix=False))[:, 0], axis=1)
    smallest = int(np.where(sizes > 0, sizes, np.inf).argmin())
    share = np.ones((len(units), 1, 1))
    share[smallest] = 1.003
    with monkeypatch.context() as patch:
        assert look(a_case(patch, name, lambda dP: 1.0005 * dP))[0]
    with monkeypatch.context() as patch:
        holds, told = look(a_case(patch, name, lambda dP: share * dP))
    assert not holds and told.startswith(f"the estimate of {units[smallest]} lies")


def test_differences_that_agree_at_no_step_fail(monkeypatch):
    case, rng = checks.Case(BY_NAME["gpt2"].model(torch.float32), 0), np.random.default_rng(0)
    whole = checks.Case.dP
    monkeypatch.setattr(
        checks.Case, "dP", lambda *given, **options: (dP := whole(*given, **options)) + rng.normal(0, 0.01, dP.shape)
    )
    holds, told = CHECKS["first order = finite differences (float64)"](case)
    assert not holds and told.startswith("no steps at which finite differences agree")


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
