"""Sweeps on a Ray cluster: a model a worker, a shard at a time, and every chunk written by the worker that measured it.

Only counts come back. A worker that dies is started again and its shard resubmitted; what the shard had finished is in
the store, so little is lost.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from icp.errors import IcpError, ModelError
from icp.model import Model
from icp.sweep.plan import Plan

SHARDS_A_WORKER = 4
DEATHS_A_SHARD = 3


@dataclass(frozen=True)
class Ray:
    """A Ray cluster as the runner of `icp.measure`.

    `address` is the cluster's (`"auto"`, `"ray://host:10001"`); without one the cluster that this process is connected
    to is used, or else one is started on this machine and stopped afterwards. `workers` (default: as many as fit) hold
    one model each, with `cpus_per_worker` and `gpus_per_worker` of the cluster; with a GPU the worker's model is moved
    to it. The sweep is cut into `shards` (default: four a worker). The extra `ray` installs what is needed; a cluster's
    machines need `icp` too, and must share the disk that the store is on.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int | float = 1
    gpus_per_worker: int | float = 0
    shards: int | None = None

    def __post_init__(self):
        for name in ("workers", "shards"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise IcpError(f"{name}={count} measures nothing: give at least 1, or leave it out")
        for name in ("cpus_per_worker", "gpus_per_worker"):
            if getattr(self, name) < 0 or (name.startswith("cpus") and not getattr(self, name)):
                raise IcpError(f"{name}={getattr(self, name)} is no share of a machine: give a positive number")

    def run(self, measure: Callable[..., Any], model: Model, call: dict[str, Any]) -> None:
        """`measure(model, **call, shard=...)` for every shard, on the workers; the bar is shown here.

        An error of ours on a worker is raised here. Raises `ModelError` for a model that cannot be sent, and `IcpError`
        where workers keep dying.
        """
        ray = _imported()
        units = len(call["units"])
        with self._connected(ray):
            wanted = self.workers or self._fitting(ray)
            count = min(self.shards or SHARDS_A_WORKER * wanted, math.ceil(units / Plan.unit_chunk))
            threads = max(1, int(self.cpus_per_worker))
            sent = _sent(ray, model), ray.put((measure, call))
            options = dict(num_cpus=self.cpus_per_worker, num_gpus=self.gpus_per_worker)
            lasting = dict(max_restarts=-1, max_task_retries=DEATHS_A_SHARD)
            actor = ray.remote(**options, **lasting)(_Worker)
            workers = [actor.remote(*sent, threads, self.gpus_per_worker > 0) for _ in range(min(wanted, count))]
            try:
                bar = tqdm(total=units, unit="unit", desc="measure (Ray)", disable=not call["progress"], leave=False)
                with bar:
                    for done in _each(ray, workers, [f"{index}/{count}" for index in range(1, count + 1)]):
                        bar.update(done)
            finally:
                for worker in workers:
                    ray.kill(worker)

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        """In the cluster; afterwards disconnected, where this made the connection."""
        if ray.is_initialized():
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

    def _fitting(self, ray: Any) -> int:
        """How many workers the cluster has room for."""
        there = ray.cluster_resources()
        fitting = there.get("CPU", 0) // self.cpus_per_worker
        if self.gpus_per_worker:
            fitting = min(fitting, there.get("GPU", 0) // self.gpus_per_worker)
        if fitting < 1:
            raise IcpError(
                f"the Ray cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs: no worker with "
                f"{self.cpus_per_worker:g} and {self.gpus_per_worker:g} of them fits"
            )
        return int(fitting)


class _Worker:
    """One model in a process of its own."""

    def __init__(self, model: Model, job: tuple[Callable[..., Any], dict[str, Any]], threads: int, on_gpu: bool):
        import torch

        torch.set_num_threads(threads)
        if on_gpu:
            model.module.to("cuda")
        self.model, (self.measure, self.call) = model, job

    def run(self, shard: str) -> int:
        """Measure a shard; how many units it has."""
        return len(self.measure(self.model, **self.call | {"progress": False}, shard=shard).header["units"])


def _each(ray: Any, workers: list[Any], shards: list[str]) -> Iterator[int]:
    """Units of each shard as it is finished; a worker that is free takes the next one."""
    waiting, running = list(shards), {}
    for worker in workers:
        running[worker.run.remote(waiting.pop(0))] = worker
    while running:
        (finished, *_), _ = ray.wait(list(running))
        worker = running.pop(finished)
        try:
            done = ray.get(finished)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, IcpError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise IcpError(
                f"a Ray worker died {DEATHS_A_SHARD + 1} times over one shard, or could not be started: "
                f"{str(error).strip().splitlines()[0]}; finished chunks are kept, and the same call resumes"
            ) from error
        if waiting:
            running[worker.run.remote(waiting.pop(0))] = worker
        yield done


def _sent(ray: Any, model: Model) -> Any:
    """The model, on the CPU, where workers can get it."""
    if model.device.type != "cpu":
        model = model.copy()
        model.module.to("cpu")
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
