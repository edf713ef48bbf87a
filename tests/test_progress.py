"""Bars count what is measured now, start at what was there before, and are silent where asked to be."""

import pytest
import torch
from helpers import BY_NAME, make_probe, watched

import icp

WHATS = [icp.Mask("mean"), icp.Scale(0.5)]


@pytest.fixture(scope="module")
def model():
    return BY_NAME["qwen2"].model()


@pytest.fixture(scope="module")
def units(model):
    """A chunk of 64, and 32 more."""
    return model.units("neuron")


@pytest.mark.parametrize("method", ("exact", "linear"))
def test_a_sweep_s_bar_counts_units(model, units, method, monkeypatch, capsys):
    bars = watched(monkeypatch, "icp.sweep.run")
    icp.measure(model, make_probe(), units, WHATS, method=method)
    (bar,) = bars
    assert (bar.total, bar.initial, bar.n, bar.unit) == (96, 0, pytest.approx(96), "unit")
    printed = capsys.readouterr()
    assert f"measure ({method})" in printed.err and "unit/s" in printed.err and printed.out == ""


@pytest.mark.parametrize("method", ("exact", "linear"))
def test_what_a_store_holds_already_is_not_in_the_rate(model, units, method, monkeypatch, tmp_path):
    call = dict(method=method, store=tmp_path / "effects")
    icp.measure(model, make_probe(), units, WHATS, shard="1/2", progress=False, **call)
    bars = watched(monkeypatch, "icp.sweep.run")
    icp.measure(model, make_probe(), units, WHATS, **call)
    icp.measure(model, make_probe(), units, WHATS, **call)
    resumed, finished = bars
    assert (resumed.total, resumed.initial, resumed.n) == (96, 64, pytest.approx(96))
    assert sum(resumed.updates) == pytest.approx(32)
    assert (finished.total, finished.initial, finished.n) == (96, 96, 96) and not sum(finished.updates)


def test_an_attempt_that_ran_out_of_memory_is_not_counted(model, units, monkeypatch):
    bars = watched(monkeypatch, "icp.sweep.run")
    real, failed = icp.Model.read, []

    def read(self, batch, *arguments, **options):
        if torch.is_grad_enabled() and len(bars) and bars[0].n and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("full")
        return real(self, batch, *arguments, **options)

    monkeypatch.setattr(icp.Model, "read", read)
    icp.measure(model, make_probe(), units, WHATS, method="linear", batch_size=2)
    assert failed and min(bars[0].updates) < 0 and bars[0].n == pytest.approx(96)


def test_joint_sets_are_counted_so_too(model, monkeypatch, tmp_path):
    units = [str(unit) for unit in model.units("neuron")[:13]]
    call = (model, make_probe(), units, icp.Mask("mean"))
    bars = watched(monkeypatch, "icp.sweep.joint")
    icp.co_ablation(*call, store=tmp_path / "co")
    icp.co_ablation(*call, store=tmp_path / "co")
    icp.co_ablation(*call, store=tmp_path / "co", progress=False)
    first, again, quiet = bars
    assert (first.total, first.initial, first.n, first.unit) == (91, 0, 91, "set") and len(first.updates) > 1
    assert (again.total, again.initial, again.n) == (91, 91, 91) and not sum(again.updates)
    assert quiet.disable


def test_a_quiet_sweep_prints_nothing(model, units, tmp_path, capsys):
    icp.measure(model, make_probe(), units, WHATS, progress=False, store=tmp_path / "effects")
    icp.measure(model, make_probe(), units, WHATS, progress=False, method="linear")
    icp.measure_sets(model, make_probe(), [units[:2]], WHATS[0], progress=False)
    assert capsys.readouterr() == ("", "")
