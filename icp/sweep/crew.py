"""Workers of a Ray cluster, each given a shard once it is up: one that finds no place holds up nobody."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from icp.errors import IcpError

DEATHS = 3
"""So many deaths over one shard, or of workers on their way up, are made good by a new worker; one more is an error."""
TICK = 2.0
STARTING = "starting"


class NobodyCame(Exception):
    """No worker was up for as long as was to be waited."""


class Crew:
    """Up to `size` workers, each made by `hire`, which gives an actor and the reference of its first answer.

    An actor has a method `run(shard)`. `ray` is the module.
    """

    def __init__(self, ray: Any, hire: Callable[[], tuple[Any, Any]], size: int):
        self.ray, self.hire = ray, hire
        self.coming: dict[Any, Any] = {}
        self.busy: dict[Any, tuple[Any, str]] = {}
        self.idle: list[Any] = []
        self.deaths: Counter[str] = Counter()
        for _ in range(size):
            self._start()

    def measure(self, shards: Sequence[str], patience: int | float) -> Iterator[None]:
        """Have every shard measured, coming back at least every `TICK` seconds.

        A worker that dies is replaced, and whoever is free takes its shard. Raises an `IcpError` that a worker raised
        as it is, `IcpError` for any other error there and where workers keep dying, and `NobodyCame` once no worker
        was up for `patience` seconds.
        """
        waiting, since = list(shards), time.monotonic()
        while waiting or self.busy:
            while waiting and self.idle:
                worker, shard = self.idle.pop(), waiting.pop(0)
                self.busy[worker.run.remote(shard)] = worker, shard
            if self.busy:
                since = time.monotonic()
            elif time.monotonic() - since > patience:
                raise NobodyCame
            answered, _ = self.ray.wait([*self.busy, *self.coming], timeout=min(TICK, patience))
            for answer in answered:
                waiting[:0] = self._heard(answer)
            yield

    def dismiss(self) -> None:
        """End every worker, wherever it is."""
        for worker in (*self.idle, *self.coming.values(), *(worker for worker, _ in self.busy.values())):
            self.ray.kill(worker)

    def _start(self) -> None:
        worker, answer = self.hire()
        self.coming[answer] = worker

    def _heard(self, answer: Any) -> list[str]:
        """The shards that have to be measured again, now that a worker has answered or died."""
        worker, shard = self.busy.pop(answer) if answer in self.busy else (self.coming.pop(answer), STARTING)
        errors = self.ray.exceptions
        try:
            self.ray.get(answer)
        except (errors.RayActorError, errors.OutOfMemoryError) as error:
            self.ray.kill(worker)
            if getattr(error, "actor_init_failed", False):
                raise _failed(_last_line(error)) from error
            self.deaths[shard] += 1
            if self.deaths[shard] > DEATHS:
                raise _dying(shard, error) from error
            self._start()
            return [] if shard == STARTING else [shard]
        except errors.RayTaskError as error:
            if isinstance(error.cause, IcpError):
                raise error.cause from None
            cause = error.cause or error
            raise _failed(f"{type(cause).__name__}: {_last_line(cause)}") from error
        except errors.RayError as error:
            raise _failed(_last_line(error)) from error
        self.idle.append(worker)
        return []


def _failed(why: str) -> IcpError:
    return IcpError(
        f"a Ray worker failed ({why}): what it needs has to be on every machine of the cluster, icp too; finished "
        "chunks are kept, and the same call resumes"
    )


def _dying(shard: str, error: Exception) -> IcpError:
    what = "workers died before they were up" if shard == STARTING else f"workers died over shard {shard}"
    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return IcpError(f"{DEATHS + 1} Ray {what}: {why}; finished chunks are kept, and the same call resumes")


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
