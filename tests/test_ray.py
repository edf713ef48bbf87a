"""A sweep on a Ray cluster gives the bits of one that ran alone, whatever happens to its workers."""

import os
import signal
import subprocess
import sys
import threading
import time
import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, HOOKED, bridged, hooked_transformer, make_probe, make_tokenizer, some_units, watched

import icp
from icp.sweep.plan import CAPTURE_BYTES
from icp.sweep.ray import PROCESS_BYTES, _fitting
from icp.sweep.store import Store
from icp.weights import copied

ray = pytest.importorskip("ray")
from ray import cloudpickle  # noqa: E402

WHATS = [icp.Mask("mean"), icp.Swap("counterpart")]
PAIRS_OF_ONE_LENGTH = (("The nurse said that", "The carpenter said that"), ("The old nurse ran", "The old doctor ran"))
QUIET = {"progress": False}
RUNNER = icp.Ray(workers=2)


@pytest.fixture(scope="module")
def cluster():
    """One small cluster of this machine's, which speaks to no other."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=100_000_000, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model():
    return BY_NAME["qwen2"].model()


@pytest.fixture(scope="module")
def units(model):
    found = sorted(model.units("neuron", "value", "resid", "embed"))
    assert len(found) == 256
    return [*model.units("head"), *found]


@pytest.fixture(scope="module")
def alone(model, units, tmp_path_factory):
    return icp.measure(model, make_probe(), units, WHATS, store=tmp_path_factory.mktemp("alone") / "effects", **QUIET)


def same(got, want):
    assert got.units == want.units
    for name in ("dP", "clean", "total"):
        assert np.array_equal(getattr(got, name), getattr(want, name))
    assert got.header == want.header


@pytest.mark.parametrize(("shards", "tasks"), ((None, 5), (99, 5), (2, 2)))
def test_workers_measure_what_one_process_does_and_only_counts_come_back(
    cluster, model, units, alone, shards, tasks, tmp_path, monkeypatch
):
    """The driver runs no forward pass, and gathers no effects."""
    got = []
    real = ray.get

    def get(*arguments, **options):
        got.append(real(*arguments, **options))
        return got[-1]

    def forward(*_):
        raise AssertionError("the driver ran the model")

    call = dict(store=tmp_path / "effects", runner=icp.Ray(workers=2, shards=shards), **QUIET)
    with monkeypatch.context() as patched:
        patched.setattr(ray, "get", get)
        patched.setattr(icp.Model, "_forward", forward)
        patched.setattr("icp.sweep.measure.run", forward)
        effects = icp.measure(model, make_probe(), units, WHATS, **call)
    same(effects, alone)
    loaded = icp.Effects.load(tmp_path / "effects")
    assert np.array_equal(loaded.dP[[loaded.units.index(unit) for unit in units]], alone.dP)
    counts = [answer for answer in got if answer is not None]
    assert sum(counts) == len(units) and len(counts) == tasks and all(isinstance(count, int) for count in counts)
    assert len(got) - len(counts) <= 2, "a worker says once that it is up"


@dataclass(frozen=True)
class Slow(icp.Intervention):
    """Takes its time and notes the process that takes it."""

    folder: str
    deadly: int = 0

    def replace(self, values, where):
        import os
        import pathlib
        import signal
        import time

        time.sleep(0.02)
        log = pathlib.Path(self.folder) / str(os.getpid())
        with log.open("a") as file:
            file.write(".")
        if self.deadly and len(list(pathlib.Path(self.folder).iterdir())) <= self.deadly and log.stat().st_size > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.5 * values


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def test_a_worker_that_is_killed_is_replaced_and_nothing_changes(cluster, model, units, tmp_path):
    """From outside, by its process id, in the middle of the sweep; finished chunks are not measured again."""
    (tmp_path / "pids").mkdir()
    slow, path = Slow(str(tmp_path / "pids")), tmp_path / "effects"
    killed = []

    def kill():
        while not killed:
            time.sleep(0.05)
            pids = [(int(p.name), p.stat().st_size) for p in (tmp_path / "pids").iterdir()]
            done = Store.open(path).measured().sum() if path.exists() else 0
            if done >= 64 and (busy := [pid for pid, calls in pids if calls > 3]):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    call = (model, make_probe(), units, [slow, icp.Mask("mean")])
    got = icp.measure(*call, store=path, batch_size=64, runner=icp.Ray(workers=1), **QUIET)
    killer.join(10)
    assert killed
    workers = {int(p.name): p.stat().st_size for p in (tmp_path / "pids").iterdir()}
    assert len(workers) == 2, "no other process took the place of the one that was killed"
    chunk = max(1, 64 * 4 // 64)
    assert sum(workers.values()) <= -(-len(units) * 4 // 64) + 10 + 2 * chunk
    want = icp.measure(*call, batch_size=64, **QUIET)
    assert np.array_equal(got.dP, want.dP) and np.abs(got.dP).max() > 0.01
    assert np.array_equal(got.dP[:, 0], icp.measure(
        model, make_probe(), units, [slow, icp.Mask("mean")], batch_size=64, **QUIET).dP[:, 0])  # fmt: skip


def test_a_shard_that_kills_every_worker_is_one_sentence(cluster, model, tmp_path, monkeypatch):
    monkeypatch.setattr("icp.sweep.crew.DEATHS", 1)
    (tmp_path / "pids").mkdir()
    deadly = Slow(str(tmp_path / "pids"), deadly=99)
    call = dict(units=model.units("neuron"), interventions=[deadly], store=tmp_path / "effects", batch_size=4, **QUIET)
    with pytest.raises(icp.IcpError, match=r"^2 Ray workers died over shard 1/2: [^\n]*the same call resumes$"):
        icp.measure(model, make_probe(), runner=icp.Ray(workers=1), **call)
    assert len(list((tmp_path / "pids").iterdir())) == 2


def test_the_bar_moves_with_the_store_and_starts_where_it_stands(cluster, model, units, tmp_path, monkeypatch):
    """Within a shard too: here there is one."""
    bars = watched(monkeypatch, "icp.sweep.ray")
    monkeypatch.setattr("icp.sweep.crew.TICK", 0.05)
    (tmp_path / "pids").mkdir()
    call = (model, make_probe(), units, [Slow(str(tmp_path / "pids")), icp.Mask("mean")])
    options = dict(store=tmp_path / "effects", batch_size=64)
    there = len(icp.measure(*call, **options, shard="1/5", **QUIET).units)
    icp.measure(*call, **options, runner=icp.Ray(workers=1, shards=1))
    (bar,) = bars
    assert (bar.total, bar.initial, bar.n, bar.unit) == (len(units), there, len(units), "unit")
    assert sum(bar.updates) == len(units) - there and len([step for step in bar.updates if step]) > 1


def test_a_killed_run_is_resumed_by_workers_and_by_one_process(cluster, model, units, alone, tmp_path):
    """A store does not know who measured it."""
    call = (model, make_probe(), units, WHATS)
    icp.measure(*call, store=tmp_path / "effects", shard="2/3", **QUIET)
    same(icp.measure(*call, store=tmp_path / "effects", runner=RUNNER, **QUIET), alone)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("icp.sweep.exact._chunk", None)
        same(icp.measure(*call, store=tmp_path / "effects", **QUIET), alone)


def test_an_error_of_ours_on_a_worker_is_raised_as_it_is(cluster, model, units, tmp_path):
    icp.measure(model, make_probe(), units, WHATS[:1], store=tmp_path / "effects", shard="1/4", **QUIET)
    with pytest.raises(
        icp.ArtefactError, match=r"^\S+ holds another measurement: it differs in interventions"
    ) as raised:
        icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "effects", runner=RUNNER, **QUIET)
    assert "\n" not in str(raised.value)
    alone_probe = icp.Probe(make_probe().examples[:1])
    with pytest.raises(icp.ProbeError, match="is the only one with"):
        icp.measure(model, alone_probe, units, icp.Mask("resample"), store=tmp_path / "new", runner=RUNNER, **QUIET)


def test_a_store_that_is_not_here_afterwards_is_named(cluster, model, tmp_path, monkeypatch):
    monkeypatch.setattr(icp.Ray, "run", lambda *_: None)
    with pytest.raises(icp.ArtefactError, match="is not on this machine: give a path on a disk that all share"):
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, store=tmp_path / "effects", runner=RUNNER, **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass store=path"),
        ({"store": "effects", "shard": "1/2"}, "leave shard, top and dtype out"),
        ({"store": "effects", "top": 1}, "leave shard, top and dtype out"),
        ({"store": "effects", "dtype": torch.bfloat16}, "leave shard, top and dtype out"),
        ({"store": "effects", "method": "linear"}, "without a runner"),
    ],
)
def test_what_a_runner_cannot_do_is_said(model, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(icp.IcpError, match=f"a runner shares one exact sweep among its workers: .*{message}"):
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, runner=RUNNER, **options, **QUIET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ("workers", "shards", "cpus_per_worker", "gpus_per_worker"))
def test_a_runner_without_workers_is_refused(name):
    with pytest.raises(icp.IcpError, match=f"{name}=-1 "):
        icp.Ray(**{name: -1})


@pytest.mark.parametrize(
    ("needs", "memory", "said"),
    [
        ({"gpus_per_worker": 1}, None, r"with 1 CPUs, 1 GPUs and 1\.61 GB of memory: they have at most 2 CPUs, 0 GPUs"),
        ({"workers": 1, "gpus_per_worker": 1}, None, "1 GPUs"),
        ({"workers": 1, "cpus_per_worker": 3}, None, "with 3 CPUs"),
        ({"workers": 1}, 1e15, r"with 1 CPUs, 0 GPUs and 1000000\.00 GB"),
    ],
)
def test_more_than_any_machine_has_is_said(cluster, model, needs, memory, said, tmp_path):
    """At once, whether or not the number of workers was given."""
    call = dict(store=tmp_path / "e", runner=icp.Ray(**needs), memory=memory, **QUIET)
    with pytest.raises(icp.IcpError, match=f"^no machine of the Ray cluster has room for a worker .*{said}.*; ask"):
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, **call)
    assert not (tmp_path / "e").exists()


def machine(cpus, gpus, memory, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus, "memory": memory}}


@pytest.mark.parametrize(
    ("needs", "fitting"),
    [
        ({"CPU": 1, "GPU": 0, "memory": 1}, 24),
        ({"CPU": 1, "GPU": 0, "memory": 30}, 3),
        ({"CPU": 6, "GPU": 0, "memory": 1}, 3),  # not the 4 that 24 CPUs would make if they were in one machine
        ({"CPU": 0.1, "GPU": 0.3, "memory": 1}, 6),
        ({"CPU": 0.1, "GPU": 0.2, "memory": 1}, 10),
        ({"CPU": 1, "GPU": 0, "memory": 10}, 10),
    ],
)
def test_workers_fit_by_machine_and_by_each_of_what_they_need(needs, fitting):
    class Cluster:
        @staticmethod
        def nodes():
            return [machine(16, 2.0, 64), machine(8.0, 0, 48), machine(99, 99, 9999, alive=False)]

    assert _fitting(Cluster, needs) == fitting


def test_a_worker_s_memory_is_its_weights_or_what_was_asked_for(model):
    """Tied weights count once; on a GPU `memory` is the GPU's."""
    weights = sum(p.numel() * 8 for p in model.module.parameters()) + sum(b.nbytes for b in model.module.buffers())
    assert model.config.tie_word_embeddings
    assert icp.Ray()._needs(model, None)["memory"] == weights + CAPTURE_BYTES + PROCESS_BYTES
    assert icp.Ray()._needs(model, 5e9) == {"CPU": 1, "GPU": 0, "memory": 5_000_000_000}
    assert icp.Ray(gpus_per_worker=1)._needs(model, 5e9)["memory"] == weights + CAPTURE_BYTES + PROCESS_BYTES


@pytest.fixture
def taken(cluster):
    """Takes CPUs of the cluster, as another job would."""
    holders = []

    def take(cpus):
        holders.append(ray.remote(num_cpus=cpus)(Holder).remote())
        ray.get(holders[-1].there.remote())

    yield take
    for holder in holders:
        ray.kill(holder)


class Holder:
    def there(self):
        return True


def test_a_worker_without_a_place_is_not_waited_for(taken, model, units, alone, tmp_path):
    taken(1)
    call = dict(store=tmp_path / "effects", runner=icp.Ray(workers=2), **QUIET)
    same(icp.measure(model, make_probe(), units, WHATS, **call), alone)


def test_no_place_for_any_worker_is_said_after_the_time_given(taken, model, tmp_path):
    taken(2)
    call = dict(store=tmp_path / "effects", runner=icp.Ray(start_timeout=0.5), **QUIET)
    with pytest.raises(
        icp.IcpError,
        match=r"^no Ray worker was up for 0\.5 s: each needs 1 CPUs, .* and 0 CPUs, 0 GPUs and .* are free; wait for",
    ):
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, **call)
    assert not (tmp_path / "effects").exists()


@dataclass(frozen=True)
class Faulty(icp.Intervention):
    def replace(self, values, where):
        raise ZeroDivisionError("first\nand last")


def test_a_foreign_error_on_a_worker_is_one_sentence(cluster, model, tmp_path):
    with pytest.raises(
        icp.IcpError, match=r"^a Ray worker failed \(ZeroDivisionError: and last\): .* resumes$"
    ) as said:
        call = dict(store=tmp_path / "e", runner=icp.Ray(workers=1), **QUIET)
        icp.measure(model, make_probe(), "hook_embed[0]", Faulty(), **call)
    assert isinstance(said.value.__cause__, ZeroDivisionError) and "in replace" in str(said.value.__cause__)


def test_a_machine_without_the_package_is_one_sentence(cluster, model, tmp_path, monkeypatch):
    there = types.ModuleType("only_on_the_driver")
    exec("class Worker:\n    def ready(self, *_): pass", there.__dict__)
    monkeypatch.setitem(sys.modules, there.__name__, there)
    monkeypatch.setattr("icp.sweep.ray._Worker", there.Worker)
    with pytest.raises(icp.IcpError, match=r"^a Ray worker failed \(.*No module named 'only_on_the_driver'.*\): "):
        call = dict(store=tmp_path / "e", runner=icp.Ray(workers=1), **QUIET)
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, **call)


@pytest.mark.parametrize("address", ("ray://other:10001", "10.1.2.3:6379", "local"))
def test_another_cluster_than_the_one_connected_to_is_refused(cluster, model, address, tmp_path):
    with pytest.raises(
        icp.IcpError, match=rf"^address={address!r} is not the Ray cluster that this process is connected to \(.*:\d+\)"
    ):
        call = dict(store=tmp_path / "e", runner=icp.Ray(address), **QUIET)
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, **call)
    assert ray.is_initialized()


@pytest.mark.parametrize("named", (lambda: None, lambda: "auto", lambda: ray.get_runtime_context().gcs_address))
def test_the_cluster_connected_to_may_be_named(cluster, named):
    with icp.Ray(named())._connected(ray):
        assert ray.is_initialized()
    assert ray.is_initialized(), "a connection of somebody else's is left open"


@pytest.mark.parametrize("name", ("qwen2", "gpt2"))
def test_a_copy_for_another_device_is_made_there(name, monkeypatch):
    """Nothing is copied where the model is; ties are kept."""
    module = BY_NAME[name].module()
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", None)
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", None)
    there = copied(module, "meta")
    assert {p.device.type for p in (*there.parameters(), *there.buffers())} == {"meta"}
    assert {p.device.type for p in (*module.parameters(), *module.buffers())} == {"cpu"}
    assert [(n, p.shape, p.requires_grad) for n, p in there.named_parameters()] == [
        (n, p.shape, p.requires_grad) for n, p in module.named_parameters()
    ]


def test_without_ray_the_way_to_install_it_is_said(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(icp.IcpError, match=r"Ray is not installed: pip install 'icp\[ray\]'"):
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, store=tmp_path / "e", runner=RUNNER, **QUIET)


@pytest.mark.parametrize(
    "kind", [*(case.name for case in CASES), *(f"bridge {n}" for n in HOOKED), *(f"hooked {n}" for n in HOOKED)]
)
def test_a_model_sent_to_a_worker_is_a_working_one(kind):
    """With parameters, ties and hooks of its own; the one that was sent is left as it was."""
    how, _, name = kind.rpartition(" ")
    if how == "hooked":
        model = icp.load(hooked_transformer(name))
    else:
        module = BY_NAME[name].module()
        model = icp.load(bridged(module, make_tokenizer()) if how else module, make_tokenizer())
    case = BY_NAME["gpt_neox" if how == "hooked" else name]
    call = (make_probe(PAIRS_OF_ONE_LENGTH), some_units(case), WHATS)
    want = icp.measure(model, *call, **QUIET)
    assert "sites" in vars(model)
    other = cloudpickle.loads(cloudpickle.dumps(model))
    assert "sites" not in vars(other)
    assert np.array_equal(icp.measure(other, *call, **QUIET).dP, want.dP)
    assert other.binding == model.binding
    assert {id(p) for p in other.module.parameters()}.isdisjoint({id(p) for p in model.module.parameters()})
    site = other.sites["blocks.0.mlp.hook_post"]
    before = other.logits(other.pad([[3, 4, 5]]))
    with torch.no_grad():
        site.outgoing[:] = 0
    assert not torch.equal(other.logits(other.pad([[3, 4, 5]])), before), "its sites are not of its own weights"
    assert np.array_equal(icp.measure(model, *call, **QUIET).dP, want.dP)
    tied = lambda m: m.unembed.weight is m.module.get_submodule(m.family.embed).weight  # noqa: E731
    assert how or tied(other) == tied(model)


def test_a_user_s_hook_goes_along(cluster, tmp_path):
    model = BY_NAME["llama"].model()
    chosen = ["blocks.0.mlp.hook_post[3]", "blocks.2.attn.hook_z[1]"]
    plain = icp.measure(model, make_probe(), chosen, WHATS, **QUIET)
    handle = model.blocks[1].register_forward_hook(lambda module, args, output: output * 0.5)
    want = icp.measure(model, make_probe(), chosen, WHATS, **QUIET)
    got = icp.measure(model, make_probe(), chosen, WHATS, store=tmp_path / "e", runner=icp.Ray(workers=1), **QUIET)
    handle.remove()
    assert np.array_equal(got.dP, want.dP) and np.abs(got.dP - plain.dP).max() > 0.01


class Unsendable:
    def __reduce__(self):
        raise TypeError("holds a socket\nand more")


def test_a_model_that_cannot_be_sent_is_named(cluster, tmp_path):
    model = BY_NAME["llama"].model()
    model.module.connection = Unsendable()
    with pytest.raises(
        icp.ModelError, match=r"cannot be sent to Ray's workers \(.*\): load the same weights with"
    ) as said:
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, store=tmp_path / "e", runner=RUNNER, **QUIET)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(("address", "where"), (("127.0.0.1:1", "at '127.0.0.1:1'"), (None, "on this machine")))
def test_a_cluster_that_is_not_there_is_one_sentence(model, address, where, tmp_path, monkeypatch):
    given = []

    def init(**options):
        given.append(options["address"])
        raise ConnectionError("could not connect\nto anything")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(icp.IcpError, match=rf"^no Ray cluster {where}: could not connect; start one .* address out$"):
        icp.measure(model, make_probe(), "hook_embed[0]", WHATS, store=tmp_path / "e", runner=icp.Ray(address), **QUIET)
    assert given == [address or "local"]


def test_a_cluster_of_its_own_is_started_and_stopped(alone, tmp_path):
    """In another process, since this one is connected; it listens on this machine only and reports to nobody."""
    script = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import os, ray, icp
from helpers import BY_NAME, make_probe
real, given = ray.init, {{}}
def small(**options):
    given.update(options)
    return real(**options, object_store_memory=100_000_000)
ray.init = small
model = BY_NAME["qwen2"].model()
got = icp.measure(model, make_probe(), ["hook_embed[0]", "blocks.1.mlp.hook_post[7]"], icp.Mask("mean"),
                  store={str(tmp_path / "e")!r}, runner=icp.Ray(workers=1), progress=False)
assert not ray.is_initialized() and given["address"] == "local" and given["include_dashboard"] is False
print(os.environ["RAY_USAGE_STATS_ENABLED"], len(got.units))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.stdout == "0 2\n", done.stderr
