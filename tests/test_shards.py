"""Shards of a sweep, what a store refuses, full disks, and budgets of memory."""

import errno
import itertools

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_probe, some_units

import icp
from icp.sweep.memory import bytes_held
from icp.sweep.plan import Layout, Plan
from icp.sweep.results import Shard
from icp.sweep.store import Store

CASE = BY_NAME["qwen2"]
WHATS = [icp.Mask("mean"), icp.Swap("counterpart")]
CALL = {"progress": False, "batch_size": 64}


@pytest.fixture(scope="module")
def model():
    return CASE.model()


@pytest.fixture(scope="module")
def units(model):
    """Four chunks of 64 and a rest, not in order."""
    found = [*model.units("neuron", "value", "resid", "embed"), *model.units("head")[:5]]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


@pytest.fixture(scope="module")
def whole(model, units):
    return icp.measure(model, make_probe(), units, WHATS, **CALL)


@pytest.mark.parametrize(
    "shard", ("3", "0/4", "5/4", "1/0", "-1/4", "1.0/4", "a/b", "1/4/4", " ", "/", "1/", "1/ 4", 3)
)
def test_what_is_no_part_of_a_whole_is_refused(model, shard, tmp_path):
    with pytest.raises(icp.IcpError, match=r"^shard .* is not a part of a whole: write it as '3/16', from '1/16' to"):
        Shard.parse(shard)


def test_a_shard_without_a_store_is_refused(model):
    with pytest.raises(icp.IcpError, match="shard='2/4' needs a store, the same for all shards: pass store=path"):
        icp.measure(model, make_probe(), "hook_embed[0]", icp.Mask(), shard="2/4", **CALL)
    one = icp.measure(model, make_probe(), "hook_embed[0]", icp.Mask(), shard="1/1", **CALL)
    assert len(one.units) == 1


@pytest.mark.parametrize("method", ("exact", "linear"))
@pytest.mark.parametrize("count", (2, 3, 5))
def test_shards_together_are_the_whole_bit_for_bit(model, units, whole, count, method, tmp_path):
    want = whole if method == "exact" else icp.measure(model, make_probe(), units, WHATS, method=method, **CALL)
    options = dict(store=tmp_path / "effects", method=method, **CALL)
    order, seen = sorted(units), []
    shards = [f"{index}/{count}" for index in range(1, count + 1)]
    for number, shard in enumerate(shards[::-1]):
        if number:
            with pytest.raises(icp.ArtefactError, match=r"is unfinished: \d+ of 261 units are missing"):
                icp.Effects.load(tmp_path / "effects")
        got = icp.measure(model, make_probe(), units, WHATS, shard=shard, **options)
        mine = [unit for place, unit in enumerate(order) if place // 64 % count == int(shard[0]) - 1]
        assert got.units == [unit for unit in units if unit in mine], "a shard's units, in the caller's order"
        assert np.array_equal(got.dP, want.dP[[units.index(unit) for unit in got.units]])
        assert np.array_equal(got.clean, want.clean) and np.array_equal(got.total, want.total)
        seen += got.units
    assert sorted(seen) == order
    loaded = icp.Effects.load(tmp_path / "effects")
    assert np.array_equal(loaded.dP, want.dP[[units.index(unit) for unit in loaded.units]])
    again = icp.measure(model, make_probe(), units, WHATS, **options)
    assert np.array_equal(again.dP, want.dP) and again.header == want.header


def test_a_shard_without_chunks_measures_nothing(model, units, tmp_path):
    """So that a scheduler may start as many as it likes."""
    options = dict(store=tmp_path / "effects", **CALL)
    got = icp.measure(model, make_probe(), units, WHATS, shard="6/7", **options)
    assert got.units == [] and got.dP.shape == (0, len(WHATS), len(make_probe())) and got.not_finite.shape == (0,)
    assert not Store.open(tmp_path / "effects").measured().any()
    assert len(icp.measure(model, make_probe(), units, WHATS, shard="5/7", **options).units) == 261 - 4 * 64


def full_after(monkeypatch, writes):
    from zarr.storage import LocalStore

    count, by_zarr = itertools.count(1), LocalStore.set

    async def set(self, key, value):
        if next(count) > writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        await by_zarr(self, key, value)

    monkeypatch.setattr(LocalStore, "set", set)


@pytest.mark.parametrize("writes", (0, 1, 2, 3, 4, 5))
def test_a_full_disk_stops_one_shard_and_its_store_goes_on(model, units, whole, writes, tmp_path, monkeypatch):
    """Two files for the examples, then two a chunk: what is whole is kept, and the other shard's chunks are too."""
    options = dict(store=tmp_path / "effects", **CALL)
    icp.measure(model, make_probe(), units, WHATS, shard="2/2", **options)
    with monkeypatch.context() as patched:
        full_after(patched, writes)
        with pytest.raises(icp.ArtefactError, match="No space left on device; finished chunks are kept, and the same"):
            icp.measure(model, make_probe(), units, WHATS, shard="1/2", **options)
    measured = Store.open(tmp_path / "effects").measured()
    want = np.zeros(261, dtype=bool)
    want[64:128] = want[192:256] = True
    want[:64] = writes >= 4
    assert np.array_equal(measured, want)
    got = icp.measure(model, make_probe(), units, WHATS, **options)
    assert np.array_equal(got.dP, whole.dP)


def test_a_chunk_counts_only_when_all_of_it_is_there(model, units, whole, tmp_path):
    """Whichever of its two files is missing."""
    path = tmp_path / "effects"
    for array in ("dP", "batch_size"):
        icp.measure(model, make_probe(), units, WHATS, store=path, **CALL)
        lost = [file for file in (path / array / "c").rglob("*") if file.is_file() and "2" in file.parts[-3:]]
        file = lost[0] if lost else sorted(f for f in (path / array / "c").rglob("*") if f.is_file())[2]
        file.unlink()
        assert (~Store.open(path).measured()).sum() == 64
        with pytest.raises(icp.ArtefactError, match="64 of 261 units are missing"):
            icp.Effects.load(path)
    assert np.array_equal(icp.measure(model, make_probe(), units, WHATS, store=path, **CALL).dP, whole.dP)


def test_a_budget_of_memory_chooses_the_batch(model, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.bytes_held", lambda device: 10**9)
    layout = Layout.of(model, make_probe().tokenize(model.tokenizer), "right")
    rows = []
    for free in (2e5, 1e6, 5e6, 1e12):
        plan = Plan.of(model, layout, memory=1e9 + free)
        assert plan.capture_bytes <= free / 4
        rows.append(plan.batch_size)
    assert rows == sorted(set(rows)) and rows[-1] == Plan.of(model, layout).batch_size
    assert Plan.of(model, layout, batch_size=3, memory=1e9 + 5e6).batch_size == 3
    assert Plan.of(model, layout, memory=1e9 + 1e6, gradient=True).batch_size < rows[1]
    whole = Plan.of(model, Layout.of(model, make_probe().tokenize(model.tokenizer, icp.NextTokenLoss()), "right"),
                    memory=1e9 + 1e6)  # fmt: skip
    assert whole.batch_size < rows[1], "logits of the whole vocabulary take room"


@pytest.mark.parametrize("positions", ("all", "last"))
@pytest.mark.parametrize("method", ("exact", "linear"))
def test_effects_within_a_budget_are_the_same(model, method, positions, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.bytes_held", lambda device: 10**9)
    call = (model, make_probe(), some_units(CASE), WHATS)
    options = dict(method=method, positions=positions, progress=False)
    want = icp.measure(*call, **options)
    kept = []
    for free in (3e5, 1e6, 1e7):
        got = icp.measure(*call, memory=1e9 + free, **options)
        assert np.abs(got.dP - want.dP).max() < 1e-12
        kept.append(got.header["plans"][0])
    assert len(set(kept)) == 3 and want.header["plans"][0] not in kept[:2]


def test_too_small_a_budget_is_one_sentence(model, monkeypatch):
    call = (model, make_probe(), some_units(CASE), WHATS)
    monkeypatch.setattr("icp.sweep.plan.bytes_held", lambda device: 10**9)
    said = r"^a memory budget of 0.50 GB is too small: 1.00 GB are taken already, and 1 row\(s\) need \d\.\d\d GB more$"
    with pytest.raises(icp.IcpError, match=said):
        icp.measure(*call, memory=5e8, progress=False)
    with pytest.raises(icp.IcpError, match=r"and 512 row\(s\) need"):
        icp.measure(*call, memory=1e9 + 1e6, batch_size=512, progress=False)


def test_what_this_process_holds_is_what_the_system_says():
    held = bytes_held(torch.device("cpu"))
    kept = torch.ones(40_000_000)
    assert 1.4e8 < bytes_held(torch.device("cpu")) - held < 1.9e8
    assert kept.sum() > 0 and 1e8 < held < 1e11
