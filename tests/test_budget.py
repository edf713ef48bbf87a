"""A budget of memory counts the values that interventions swap in, and what estimates keep beside their passes."""

import gc
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_probe

import icp
from icp.sweep import capture, linear
from icp.sweep.changes import Change
from icp.sweep.donors import Donors
from icp.sweep.plan import Layout, Plan, _bytes_of

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return BY_NAME["qwen2"].model()


@pytest.fixture(scope="module")
def units(model):
    return model.units("head", "neuron", "value")


def swaps(count):
    """So many interventions that each lend the values of another run."""
    return [icp.Mask("resample", seed=seed) for seed in range(count)]


@contextmanager
def lent(monkeypatch, module):
    """Every `Donors` that `module` makes: how many examples, and bytes of own values and of swapped-in ones."""
    kept = []

    class Watched(Donors):
        def __init__(self, model, layout, interventions, columns, means, plan, examples, *rest, **options):
            super().__init__(model, layout, interventions, columns, means, plan, examples, *rest, **options)
            own = [*self.clean.values(), *self.hidden.values(), *self.attention.values()]
            swapped = [value for values in self.swapped.values() for value in values.values()]
            kept.append((len(examples), sum(v.nbytes for v in own), sum(v.nbytes for v in swapped)))

    with monkeypatch.context() as patched:
        patched.setattr(module, "Donors", Watched)
        yield kept


@pytest.mark.parametrize("count", (1, 3, 8))
def test_clean_values_and_those_swapped_in_stay_within_what_is_captured(model, units, count, monkeypatch):
    captured = 100_000
    monkeypatch.setattr("icp.sweep.plan.CAPTURE_BYTES", captured)
    with lent(monkeypatch, capture) as kept:
        icp.measure(model, make_probe(), units, swaps(count), **QUIET)
    held = [(examples, own + swapped + swapped // count) for examples, own, swapped in kept]
    assert all(swapped > 0 for *_, swapped in kept)
    assert all(total <= captured for examples, total in held if examples > 1)
    assert max(total for _, total in held) > captured / 4, "much less than fits"


@pytest.mark.parametrize(
    "method",
    [icp.Linear(), icp.Linear(grad_drop=True), icp.Linear(steps=2), icp.Linear(steps=2, grad_drop=True)],
    ids=lambda method: method.label,
)
@pytest.mark.parametrize("count", (0, 1, 5))
def test_what_estimates_hold_beside_their_passes_is_counted(model, units, count, method, monkeypatch):
    whats, added, real = [icp.Scale(0.5), *swaps(count)], [], Change.estimate

    def estimate(self, gradient, change):
        added.append(change)
        return real(self, gradient, change)

    monkeypatch.setattr(Change, "estimate", estimate)
    with lent(monkeypatch, linear) as kept:
        icp.measure(model, make_probe(), units, whats, method=method, batch_size=4, **QUIET)
    ((examples, own, swapped),) = kept
    drops = method.grad_drop and method.steps == 1
    listed = sum(change.nbytes for change in {id(change): change for change in added}.values()) if drops else 0
    layout = Layout.of(model, make_probe().tokenize(model.tokenizer), "right")
    counted = examples * method.bytes_beside(model, layout, sorted(units), whats)
    assert own + swapped + listed <= counted < 2 * (own + swapped + listed) + 2e5


def test_a_plan_for_estimates_leaves_room_for_what_is_swapped_in(model, units, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.bytes_held", lambda device: 10**9)
    layout = Layout.of(model, make_probe().tokenize(model.tokenizer), "right")
    _, tokens, logits = _bytes_of(model, layout, model.vocabulary_read(icp.LogitDifference()), True)
    free, method = 8 * (tokens + logits), icp.Linear()
    few, many = (
        icp.measure(model, make_probe(), units, swaps(count), method=method, memory=1e9 + free, **QUIET)
        for count in (1, 9)
    )
    beside = method.bytes_beside(model, layout, sorted(units), swaps(9))
    assert many.header["plans"] == [repr(Plan(free // 2 // (tokens + logits + beside)))]
    assert few.header["plans"] != many.header["plans"]


@pytest.mark.parametrize("records", (True, False))
def test_what_a_clean_run_records_leaves_the_other_runs_their_memory(model, units, records, monkeypatch):
    """Where it cannot be held beside any other run over the probe, or not even recorded, batches stay as they are."""
    want = icp.measure(model, make_probe(), units, swaps(1), **QUIET)
    held, real = [], Layout.clean

    class Recorder(capture.Recorder):
        def recorded(self):
            held.append(weakref.ref(self))
            if not records:
                raise torch.OutOfMemoryError("full")
            found = super().recorded()
            held.append(weakref.ref(found))
            return found

    def clean(self, model, plan):
        gc.collect()
        if any(kept() is not None for kept in held):
            raise torch.OutOfMemoryError("full")
        return real(self, model, plan)

    monkeypatch.setattr(capture, "Recorder", Recorder)
    monkeypatch.setattr(Layout, "clean", clean)
    got = icp.measure(model, make_probe(), units, swaps(1), **QUIET)
    assert held and got.header["plans"] == want.header["plans"]
    assert np.abs(got.dP - want.dP).max() < 1e-12 and np.array_equal(got.total, want.total)
