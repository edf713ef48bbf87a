"""Sweeps on a Ray cluster: a model a worker, a shard at a time, and every chunk written by the worker that measured it.

Only counts come back. A worker that dies is replaced and its shard given to whoever is free; what the shard had
finished is in the store, so little is lost.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from icp.errors import IcpError, ModelError
from icp.model import Model
from icp.sweep.crew import Crew, NobodyCame
from icp.sweep.plan import CAPTURE_BYTES, Plan
from icp.sweep.store import Store
from icp.weights import copied

SHARDS_A_WORKER = 4
PROCESS_BYTES = 1 << 29
"""What a worker takes besides its weights and the values that it keeps: torch and the other libraries."""


@dataclass(frozen=True)
class Ray:
    """A Ray cluster as the runner of `icp.measure`.

    `address` is the cluster's (`"auto"`, `"ray://host:10001"`); without one the cluster that this process is connected
    to is used, or else one is started on this machine and stopped afterwards. `workers` (default: as many as the
    cluster's machines have room for) hold one model each, with `cpus_per_worker` and `gpus_per_worker` of the cluster;
    with a GPU the worker's model is moved to it. Ray also keeps memory for each: what `memory=` of `icp.measure` says,
    or else the size of the weights and 1.5 GiB. The sweep is cut into `shards` (default: four a worker), which go to
    workers that are up; those that have to wait for a place are not waited for, unless there is no other for
    `start_timeout` seconds, which is an error. Machines that an autoscaler would add do not count before they are
    there. The extra `ray` installs what is needed; a cluster's machines need `icp` too, and must share the disk that
    the store is on.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int | float = 1
    gpus_per_worker: int | float = 0
    shards: int | None = None
    start_timeout: int | float = 600

    def __post_init__(self):
        for name in ("workers", "shards"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise IcpError(f"{name}={count} measures nothing: give at least 1, or leave it out")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            share = getattr(self, name)
            if not 0 <= share < math.inf or (name.startswith("cpus") and not share):
                raise IcpError(f"{name}={share} is no share of a machine: give a positive number")
            if share > 1 and share != int(share):
                raise IcpError(f"{name}={share} is not to be had from Ray: above 1 give a whole number")
        if not self.start_timeout > 0:
            raise IcpError(f"start_timeout={self.start_timeout} is no time to wait: give seconds above 0")

    def run(self, measure: Callable[..., Any], model: Model, call: dict[str, Any]) -> None:
        """`measure(model, **call, shard=...)` for every shard, on the workers; the bar is shown here.

        An error of ours on a worker is raised here. Raises `ModelError` for a model that cannot be sent, and `IcpError`
        where no worker fits, none comes up in time, or one fails or keeps dying.
        """
        ray = _imported()
        units, path = len(call["units"]), Path(call["store"])
        with self._connected(ray):
            needs = self._needs(model, call["memory"])
            fitting = _fitting(ray, needs)
            wanted = self.workers or fitting
            count = min(self.shards or SHARDS_A_WORKER * wanted, math.ceil(units / Plan.unit_chunk))
            sent = _sent(ray, model), ray.put((measure, call))
            threads, on_gpu = max(1, int(self.cpus_per_worker)), self.gpus_per_worker > 0
            actor = ray.remote(num_cpus=needs["CPU"], num_gpus=needs["GPU"], memory=needs["memory"])(_Worker)

            def hire():
                worker = actor.remote()
                return worker, worker.ready.remote(*sent, threads, on_gpu)

            shown = call["progress"]
            there = _counted(path) if shown else 0
            options = dict(unit="unit", desc="measure (Ray)", disable=not shown, leave=False)
            crew = Crew(ray, hire, min(wanted, count))
            try:
                with tqdm(total=units, initial=there, **options) as bar:
                    shards = [f"{index}/{count}" for index in range(1, count + 1)]
                    for _ in crew.measure(shards, self.start_timeout):
                        if shown:
                            bar.update(_counted(path) - bar.n)
            except NobodyCame:
                raise IcpError(
                    f"no Ray worker was up for {self.start_timeout:g} s: each needs {_listed(needs)}, and "
                    f"{_listed(ray.available_resources())} are free; wait for other jobs to end, ask for less a "
                    "worker, or give a longer start_timeout"
                ) from None
            finally:
                crew.dismiss()

    def _needs(self, model: Model, memory: float | None) -> dict[str, int | float]:
        """What Ray keeps for a worker, by its names for it."""
        weights = {id(t): t.nbytes for t in (*model.module.parameters(), *model.module.buffers())}
        host = sum(weights.values()) + CAPTURE_BYTES + PROCESS_BYTES
        if memory is not None and not self.gpus_per_worker:
            host = memory
        return {"CPU": self.cpus_per_worker, "GPU": self.gpus_per_worker, "memory": int(host)}

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        """In the cluster; afterwards disconnected, where this made the connection."""
        if ray.is_initialized():
            self._require_here(ray)
            yield
            return
        quiet = dict(log_to_driver=False, logging_level="ERROR")
        try:
            if self.address in (None, "local"):
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start reports to nobody
                needed = math.ceil((self.workers or 1) * self.cpus_per_worker)
                cpus = max(needed, os.cpu_count() or 1)
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            else:
                ray.init(address=self.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = "on this machine" if self.address is None else f"at {self.address!r}"
            raise IcpError(
                f"no Ray cluster {where}: {str(error).strip().splitlines()[0]}; start one with 'ray start --head', or "
                "leave the address out"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _require_here(self, ray: Any) -> None:
        """Raise `IcpError` where the cluster that this process is connected to is not the one asked for."""
        if self.address in (None, "auto"):
            return
        from ray.util.client import ray as client

        here = "another one, as a client" if client.is_connected() else ray.get_runtime_context().gcs_address
        if self.address != here:
            raise IcpError(
                f"address={self.address!r} is not the Ray cluster that this process is connected to ({here}): leave "
                "the address out to use that one, or call ray.shutdown() first"
            )


class _Worker:
    """One model in a process of its own."""

    def ready(self, model: Model, job: tuple[Callable[..., Any], dict[str, Any]], threads: int, on_gpu: bool) -> None:
        """Once this is answered the worker can measure."""
        import torch

        torch.set_num_threads(threads)
        if on_gpu:
            model.module.to("cuda")
        self.model, (self.measure, self.call) = model, job

    def run(self, shard: str) -> int:
        """Measure a shard; how many units it has."""
        return len(self.measure(self.model, **self.call | {"progress": False}, shard=shard).header["units"])


def _fitting(ray: Any, needs: dict[str, int | float]) -> int:
    """How many workers the machines have room for when nothing else runs there; `IcpError` where it is none."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = 0
    for machine in machines:
        # Ray counts in ten-thousandths: ten tenths of a CPU fit into one.
        room = (math.floor(machine.get(name, 0) / need + 1e-6) for name, need in needs.items() if need)
        fitting += min(room)
    if fitting < 1:
        most = {name: max((machine.get(name, 0) for machine in machines), default=0) for name in needs}
        raise IcpError(
            f"no machine of the Ray cluster has room for a worker with {_listed(needs)}: they have at most "
            f"{_listed(most)}; ask for less a worker (cpus_per_worker, gpus_per_worker, memory), or add a machine"
        )
    return fitting


def _listed(resources: dict[str, int | float]) -> str:
    cpus, gpus, memory = (resources.get(name, 0) for name in ("CPU", "GPU", "memory"))
    return f"{cpus:g} CPUs, {gpus:g} GPUs and {memory / 1e9:.2f} GB of memory"


def _counted(path: Path) -> int:
    """How many units are in the store, which the first worker makes."""
    return Store.open(path).written() if path.exists() else 0


def _sent(ray: Any, model: Model) -> Any:
    """The model, on the CPU, where workers can get it."""
    if model.device.type != "cpu":
        model = replace(model, module=copied(model.module, "cpu"))
    try:
        return ray.put(model)
    except Exception as error:  # whatever a module of somebody else's raises when it is serialised
        raise ModelError(
            f"{model.name}, a {model.kind}, cannot be sent to Ray's workers ({str(error).strip().splitlines()[0]}): "
            "load the same weights with icp.load(<hub id or folder>)"
        ) from error


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise IcpError("Ray is not installed: pip install 'icp[ray]'") from error
    return ray


def shared(path: "str | Path") -> str:
    """The store's path as every worker should write it."""
    return str(Path(path).absolute())
