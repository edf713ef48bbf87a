"""A sweep that is killed, or shares its store, gives the numbers of one that ran alone and through."""

import multiprocessing
import os
import random
import signal
import sys
import traceback
from collections import Counter
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from helpers import BY_NAME, PAIRS, make_probe

import icp
from icp.sweep import begun, exact
from icp.sweep.plan import Plan
from icp.sweep.store import Store

forked = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
pytestmark = [forked, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]
BATCH, CHUNK = 64, 64
CALL = {"batch_size": BATCH, "progress": False}
WHATS = [icp.Mask("mean"), icp.Swap("counterpart")]
MOMENTS = 20


@pytest.fixture(scope="module")
def model():
    found = BY_NAME["qwen2"].model()
    icp.measure(found, make_probe(), "hook_embed[0]", icp.Mask(), **CALL)  # whatever is found out once, is found out
    return found


@pytest.fixture(scope="module")
def units(model):
    """Four full chunks of 64 and a rest."""
    found = sorted(model.units("neuron", "value", "resid", "embed"))
    assert len(found) == 256
    return [*found, *model.units("head")[:5]]


def sweep(model, units, path, **options):
    return icp.measure(model, make_probe(), units, WHATS, store=path, **CALL | options)


def passes_of(units, chunk):
    """The forward passes with edits of a chunk: units of one kind at one site share them."""
    kinds = Counter((unit.site, unit.kind) for unit in sorted(units)[chunk * CHUNK : (chunk + 1) * CHUNK])
    return sum(-(-count * len(WHATS) * len(make_probe()) // BATCH) for count in kinds.values())


def in_a_child(work) -> int:
    """Start `work` in a copy of this process, which ends with it; its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(child) -> int:
    """The exit status of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def counting(model, at=lambda: None):
    """Forward passes, and `at` for each."""
    passes = []

    def count(module, args):
        passes.append(1)
        at()

    handle = model.module.register_forward_pre_hook(count)
    try:
        yield passes
    finally:
        handle.remove()


def killed_at(model, units, path, moment, report) -> None:
    """Measure; at event number `moment`, a forward pass or a change of the disk, kill this process.

    One byte goes to `report` for each forward pass begun.
    """
    events = []

    def event():
        events.append(1)
        if len(events) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def change(name, arguments):
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or name in ("os.rename", "os.mkdir"):
            event()

    sys.addaudithook(change)

    def begun():
        os.write(report, b".")
        event()

    with counting(model, begun):
        sweep(model, units, path)
    os.write(report, b"!" + str(len(events)).encode())


def finished(path):
    """Which chunks are measured, and their files as they lie there."""
    if not path.exists():
        return [], {}
    measured = Store.open(path).measured()
    done = [
        number for number in range(-(-len(measured) // CHUNK)) if measured[number * CHUNK : (number + 1) * CHUNK].all()
    ]
    files = {}
    for number in done:
        for array in (path / "dP" / "c" / f"{number}", path / "batch_size" / "c" / f"{number}"):
            for file in [array] if array.is_file() else sorted(array.rglob("*")):
                if file.is_file() and not file.name.endswith(".partial"):
                    files[file] = (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino)
    return done, files


@pytest.fixture(scope="module")
def through(model, units, tmp_path_factory):
    """Effects of the uninterrupted sweep, its forward passes, and how many moments it has."""
    path = tmp_path_factory.mktemp("through") / "effects"
    reader, writer = os.pipe()
    child = in_a_child(lambda: killed_at(model, units, path, 0, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        passes, _, events = file.read().partition(b"!")
    assert ended(child) == 0
    return icp.Effects.load(path), len(passes), int(events)


@pytest.mark.parametrize("number", range(MOMENTS))
def test_killed_at_a_random_moment_and_resumed_it_is_as_if_it_ran_through(model, units, through, number, tmp_path):
    """The moments are spread over the whole sweep; what was finished is not touched again."""
    want, all_passes, events = through
    every = [passes_of(units, chunk) for chunk in range(5)]
    assert events > all_passes > sum(every) > 30
    moment = 1 + int((number + random.Random(number).random()) * events / MOMENTS)
    reader, writer = os.pipe()
    child = in_a_child(lambda: killed_at(model, units, tmp_path / "effects", moment, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        spent = len(file.read())
    assert ended(child) == -signal.SIGKILL
    done, files = finished(tmp_path / "effects")
    assert done == list(range(len(done)))
    before = all_passes - sum(every)  # P without edits, the means, and what interventions put in
    assert spent <= before + sum(every[: len(done) + 1]), "more than the chunk in flight was lost"
    with counting(model) as resumed:
        got = sweep(model, units, tmp_path / "effects")
    assert len(done) < 5 and len(resumed) == all_passes - sum(every[: len(done)])
    order = [want.units.index(unit) for unit in got.units]
    assert np.array_equal(got.dP, want.dP[order])
    for values, others in ((got.clean, want.clean), (got.total, want.total)):
        assert np.array_equal(values, others)
    loaded = icp.Effects.load(tmp_path / "effects")
    assert np.array_equal(loaded.dP, want.dP) and loaded.header == want.header
    assert finished(tmp_path / "effects")[1].items() >= files.items(), "a finished chunk was written again"


def test_the_moments_include_the_store_s_own_files(model, units, through, tmp_path):
    """Killed at each change of the disk while the store is made and the first chunk is written."""
    want, _, _ = through
    seen = []

    def change(name, arguments):
        if name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            seen.append(arguments[0])

    reader, writer = os.pipe()

    def look():
        sys.addaudithook(change)
        sweep(model, units[:3], tmp_path / "effects")
        os.write(writer, str(len(seen)).encode())

    child = in_a_child(look)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        writes = int(file.read())
    assert ended(child) == 0 and writes > 8
    for at in range(1, writes + 1):
        path = tmp_path / f"killed at {at}"

        def stop(at=at, path=path):
            count = []

            def kill(name, arguments):
                if name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                    count.append(1)
                    if len(count) == at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            sweep(model, units[:3], path)

        assert ended(in_a_child(stop)) == -signal.SIGKILL
        got = sweep(model, units[:3], path)
        assert np.abs(got.dP - want.dP[[want.units.index(unit) for unit in got.units]]).max() < 1e-12


def at_once(works) -> None:
    """Run each in a child, all at a time."""
    children = [in_a_child(work) for work in works]
    assert [ended(child) for child in children] == [0] * len(works)


@pytest.mark.parametrize(("shards", "racing"), ((None, True), (2, True), (3, False)))
def test_processes_on_one_store_give_the_numbers_of_one(model, units, through, shards, racing, tmp_path, monkeypatch):
    """The same call twice, or one shard each; `racing` holds each back until the other has made a store, too."""
    want, _, _ = through
    path, count = tmp_path / "effects", shards or 2
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(count)
    if racing:
        rename = type(path).rename

        def together(self, target):
            if str(target) == str(path):
                barrier.wait(60)
            return rename(self, target)

        monkeypatch.setattr(type(path), "rename", together)

    def work(index):
        def one():
            barrier.wait(60)
            options = {} if shards is None else {"shard": f"{index}/{count}"}
            got = sweep(model, units, path, **options)
            mine = [unit for number, unit in enumerate(want.units) if number // CHUNK % count == index - 1]
            assert sorted(got.units) == sorted(mine if shards else want.units)
            assert np.array_equal(got.dP, want.dP[[want.units.index(unit) for unit in got.units]])

        return one

    at_once([work(index) for index in range(1, count + 1)])
    loaded = icp.Effects.load(path)
    assert np.array_equal(loaded.dP, want.dP) and loaded.header == want.header
    assert np.array_equal(loaded.clean, want.clean) and np.array_equal(loaded.total, want.total)
    assert [found.name for found in tmp_path.iterdir()] == ["effects"]
    with counting(model) as again:
        assert np.array_equal(sweep(model, units, path).dP, got_in_order(want, units))
    assert len(again) < 10


def got_in_order(effects, units):
    return effects.dP[[effects.units.index(unit) for unit in units]]


def test_killed_over_and_over_while_another_goes_on(model, units, through, tmp_path):
    """One process is killed and started again and again; one beside it measures the other shard."""
    want, path = through[0], tmp_path / "effects"
    other = in_a_child(lambda: sweep(model, units, path, shard="2/2"))
    reader, writer = os.pipe()
    for moment in (8, 16, 24):

        def one(moment=moment):
            killed_at(model, units, path, moment, writer)

        assert ended(in_a_child(one)) == -signal.SIGKILL
    assert ended(other) == 0
    os.close(writer)
    os.close(reader)
    got = sweep(model, units, path)
    assert np.array_equal(got.dP, got_in_order(want, units))
    assert np.array_equal(icp.Effects.load(path).dP, want.dP)


def test_estimates_along_a_path_are_kept_a_few_sites_at_a_time(model, tmp_path, monkeypatch):
    """One pass over the examples serves every unit of a site, so that a group has whole sites where it can."""
    monkeypatch.setattr("icp.sweep.run.SITES_A_GROUP", 2)
    units = sorted(model.units("neuron", "resid", "head"))
    call = dict(method=icp.Linear(steps=3))
    with counting(model) as through:
        want = sweep(model, units, tmp_path / "through", **call)
    alone = icp.measure(model, make_probe(), units, WHATS, **call, **CALL)
    assert np.array_equal(want.dP, alone.dP)
    path, stop = tmp_path / "effects", len(through) - 2

    def interrupt():
        if len(passes) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), counting(model, interrupt) as passes:
        sweep(model, units, path, **call)
    done, files = finished(path)
    assert 0 < len(done) < -(-len(units) // CHUNK)
    with counting(model) as resumed:
        got = sweep(model, units, path, **call)
    assert len(resumed) < len(through) - 2 * 3 * len(WHATS), "what was kept is estimated again"
    assert np.array_equal(got.dP, want.dP)
    assert finished(path)[1].items() >= files.items()


def pieces(monkeypatch, at=0):
    """Every (first unit, example) that is measured; the piece numbered `at` is interrupted."""
    done, real = [], exact._chunk

    def chunk(model, layout, donors, units, interventions, where, examples, dtype, plan):
        if at and len(done) + 1 == at:
            raise KeyboardInterrupt
        done.append((str(units[0]), examples.tolist()))
        return real(model, layout, donors, units, interventions, where, examples, dtype, plan)

    monkeypatch.setattr(exact, "_chunk", chunk)
    return done


HELD = {"all": 48_000, "last": 30_000}
"""Bytes of clean values by which a part of the probe is held at a time, and several chunks share it."""


@pytest.mark.parametrize("gap", (False, True))
@pytest.mark.parametrize("positions", ("all", "last"))
@pytest.mark.parametrize("other", (1.0, 1.7))
def test_where_a_probe_is_held_in_parts_nothing_is_measured_twice(
    model, units, positions, gap, other, tmp_path, monkeypatch
):
    """Chunks that share clean runs are kept part by part; `other` parts may be held when the sweep goes on."""
    options = dict(positions=positions, property=icp.PairGap() if gap else None)
    want = sweep(model, units, None, **options)
    with monkeypatch.context() as patched:
        patched.setattr("icp.sweep.plan.CAPTURE_BYTES", HELD[positions])
        through = pieces(patched)
        whole = sweep(model, units, tmp_path / "through", **options)
    parts = {tuple(examples) for _, examples in through}
    assert len(parts) > 1 and through[1][0] != through[0][0], "the first chunk is not done alone"
    assert np.abs(whole.dP - want.dP).max() < 1e-12
    every = Counter((first, example) for first, examples in through for example in examples)
    assert set(every.values()) == {1}
    path = tmp_path / "effects"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("icp.sweep.plan.CAPTURE_BYTES", HELD[positions])
        before = pieces(patched, at=len(parts) + 2)
        sweep(model, units, path, **options)
    with monkeypatch.context() as patched:
        patched.setattr("icp.sweep.plan.CAPTURE_BYTES", int(other * HELD[positions]))
        after = pieces(patched)
        got = sweep(model, units, path, **options)
    assert Counter((first, e) for first, examples in [*before, *after] for e in examples) == every
    assert np.abs(got.dP - whole.dP).max() < 1e-12 and (other > 1 or np.array_equal(got.dP, whole.dP))
    assert not list((path / "dP" / "begun").iterdir()), "what is finished is kept twice"
    assert np.array_equal(icp.Effects.load(path).dP, got_in_order(got, icp.Effects.load(path).units))


def test_parts_of_a_probe_lie_where_they_lay_whatever_is_finished(tmp_path, monkeypatch):
    """Though heads take more room than their dimensions, and where those before are another shard's."""
    model = BY_NAME["qwen2"].model(torch.float32)
    probe = make_probe(PAIRS + tuple(pair[::-1] for pair in PAIRS))
    units = [unit for layer in (0, 1) for kind in ("head", "value") for unit in model.units(kind, layers=[layer])[:4]]
    monkeypatch.setattr(Plan, "of", classmethod(lambda cls, *_, **__: cls(3, unit_chunk=4, capture_bytes=17_440)))

    def measured(name, at=0, **options):
        with monkeypatch.context() as patched:
            done = pieces(patched, at)
            with pytest.raises(KeyboardInterrupt) if at else nullcontext():
                return done, icp.measure(model, probe, units, WHATS, store=tmp_path / name, progress=False, **options)
        return done, None

    through, whole = measured("through")
    assert through[1][0] != through[0][0], "chunks that take unequal room share no clean run"
    for at in range(2, len(through) + 1):
        before, _ = measured(f"{at}", at)
        after, got = measured(f"{at}")
        assert sorted([*before, *after]) == sorted(through)
        assert np.array_equal(got.dP, whole.dP)
    apart = [piece for shard in ("2/3", "3/3", "1/3") for piece in measured("shards", shard=shard)[0]]
    assert sorted(apart) == sorted(through)
    assert np.array_equal(measured("shards")[1].dP, whole.dP)


@pytest.mark.parametrize("stored", (False, True))
def test_memory_that_runs_out_between_two_parts_leaves_both_plans_noted(model, units, stored, tmp_path, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.CAPTURE_BYTES", 24_000)
    sizes, real = [], exact._chunk

    def chunk(*given):
        sizes.append(given[-1].batch_size)
        if len(sizes) == 2:
            raise torch.OutOfMemoryError("full")
        return real(*given)

    monkeypatch.setattr(exact, "_chunk", chunk)
    path = tmp_path / "effects" if stored else None
    got = sweep(model, sorted(units)[:CHUNK], path)
    assert sizes[:3] == [BATCH, BATCH, BATCH // 2]
    assert got.header["plans"] == [repr(Plan(BATCH)), repr(Plan(BATCH // 2))]
    assert not stored or icp.Effects.load(path).header == got.header


def test_the_plans_of_all_parts_of_a_chunk_are_noted(model, units, tmp_path, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.CAPTURE_BYTES", 12_000)
    mine, path = sorted(units)[:CHUNK], tmp_path / "effects"
    for size in (16, 64):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            pieces(patched, at=2)
            sweep(model, mine, path, batch_size=size)
    got = sweep(model, mine, path, batch_size=5)
    assert set(got.header["plans"]) == {repr(Plan(size)) for size in (16, 64, 5)}
    assert got.header["plans"] == icp.Effects.load(path).header["plans"]


@pytest.mark.parametrize("at", ("save_file", "drop"))
def test_a_kill_while_a_part_is_kept_or_dropped_leaves_no_file_behind(model, units, at, tmp_path, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.CAPTURE_BYTES", HELD["all"])
    path, times = tmp_path / "effects", []
    where = "icp.sweep.begun.save_file" if at == "save_file" else "icp.sweep.results.drop"

    def kill(*given):
        times.append(1)
        if len(times) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)

    def killed():
        monkeypatch.setattr(where, kill)
        sweep(model, units, path)

    real = begun.save_file if at == "save_file" else begun.drop
    assert ended(in_a_child(killed)) == -signal.SIGKILL
    left = [file.name for file in (path / "dP" / "begun").iterdir()]
    assert any(name.startswith(".") for name in left) == (at == "save_file") and left
    sweep(model, units, path)
    assert not list((path / "dP" / "begun").iterdir())


def test_what_another_process_has_kept_or_finished_is_not_undone(tmp_path):
    """Two of them may measure the same chunk part by part."""
    chunk, other = range(64, 128), range(6, 64)
    dP = np.arange(64 * 2 * 5.0).reshape(64, 2, 5)
    for reached in (2, 4, 3):
        begun.keep(tmp_path, chunk, dP[:, :, :reached], [reached])
    (found, reached), sizes = begun.kept(tmp_path, chunk, 5)
    assert reached == 4 and sizes == [4] and np.array_equal(found[:, :, :4], dP[:, :, :4])
    begun.keep(tmp_path, other, dP[:58, :, :2], [2])
    real = begun.save_file

    def finished_meanwhile(*given):
        begun.drop(tmp_path, other)
        real(*given)
        begun.drop(tmp_path, other)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(begun, "save_file", finished_meanwhile)
        begun.keep(tmp_path, other, dP[:58, :, :3], [2])
    assert begun.kept(tmp_path, other, 5) is None and begun.kept(tmp_path, chunk, 5) is not None
    assert len(list((tmp_path / "dP" / "begun").iterdir())) == 1


def test_a_part_that_is_damaged_is_refused(model, units, tmp_path, monkeypatch):
    monkeypatch.setattr("icp.sweep.plan.CAPTURE_BYTES", HELD["all"])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        pieces(patched, at=3)
        sweep(model, units, tmp_path / "effects")
    (file, *_) = (tmp_path / "effects" / "dP" / "begun").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(icp.ArtefactError, match=r"is damaged \(.*\): delete it, and the same call measures it again"):
        sweep(model, units, tmp_path / "effects")
    file.unlink()
    assert np.isfinite(sweep(model, units, tmp_path / "effects").dP).all()
