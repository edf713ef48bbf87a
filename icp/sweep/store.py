"""A zarr store of effects: chunks of units are the units of work, so that a sweep can be killed and resumed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from icp.errors import ArtefactError
from icp.files import writing_folder

FORMAT, VERSION = "icp-effects", 1
MARKER = "zarr.json"


class Store:
    """dP [unit, intervention, example] on disk, with its labels and provenance as JSON attributes.

    A chunk that was never finished reads as NaN. Opening an existing store with another provenance raises
    `ArtefactError` naming what differs.
    """

    def __init__(self, group: Any, path: Path):
        self.group, self.path = group, path

    @classmethod
    def create(
        cls, path: "str | Path", header: dict[str, Any], shape: tuple[int, int, int], dtype: str, chunk: int
    ) -> "Store":
        """Open `path` if it holds the same measurement, else make it."""
        path = Path(path)
        if path.exists():
            store = cls.open(path)
            keys = sorted((set(header) | set(store.header)) - {"model"})  # a name: the binding says which model it is
            differing = [k for k in keys if header.get(k) != store.header.get(k)]
            if differing:
                raise ArtefactError(
                    f"{path} holds another measurement: it differs in {', '.join(differing)} "
                    f"({_short(store.header.get(differing[0]))} there, {_short(header.get(differing[0]))} here); "
                    "choose another path or delete it"
                )
            return store
        files: dict[str, Any] = {}
        _created(files, header, shape, dtype, chunk)
        _write(path, files)
        return cls.open(path)

    @staticmethod
    def save(
        path: "str | Path",
        header: dict[str, Any],
        dP: np.ndarray,
        clean: np.ndarray,
        total: np.ndarray,
        chunk: int = 64,
    ) -> None:
        """Write a finished measurement, whole or not at all."""
        files: dict[str, Any] = {}
        plans = header.get("plans", [])
        group = _created(files, {k: v for k, v in header.items() if k != "plans"}, dP.shape, str(dP.dtype), chunk)
        group.attrs["plans"] = plans
        group["dP"][:], group["clean"][:], group["total"][:] = dP, clean, total
        _write(path, files)

    @classmethod
    def open(cls, path: "str | Path") -> "Store":
        """Open for reading and resuming; raises `ArtefactError` for what is not a store of this version."""
        import zarr

        path = Path(path)
        if not (path / MARKER).is_file():
            raise ArtefactError(f"{path} is not a store of effects: give a folder that icp.measure wrote")
        try:
            group = zarr.open_group(path, mode="r+")
            attributes = dict(group.attrs)
            missing = {"dP", "clean", "total"} - set(group.array_keys())
        except (OSError, ValueError, KeyError, TypeError, zarr.errors.GroupNotFoundError) as error:
            raise ArtefactError(
                f"{path} is not a store of effects that can be read: it is damaged ({error})"
            ) from error
        if attributes.get("format") != FORMAT or missing:
            raise ArtefactError(f"{path} is not a whole store of effects: it was cut short, or something else wrote it")
        if attributes.get("version") != VERSION:
            raise ArtefactError(f"{path} has version {attributes.get('version')}, this icp reads version {VERSION}")
        if not isinstance(attributes.get("header"), dict):
            raise ArtefactError(f"{path} has no header: it is damaged")
        labels = [len(attributes["header"].get(name, ())) for name in ("units", "interventions", "examples")]
        if list(group["dP"].shape) != labels:
            raise ArtefactError(
                f"{path} holds effects of shape {group['dP'].shape}, its header labels {tuple(labels)} "
                "[unit, intervention, example]: it is damaged"
            )
        return cls(group, path)

    @property
    def header(self) -> dict[str, Any]:
        return self.group.attrs["header"]

    @property
    def plans(self) -> list[str]:
        """The plans that chunks were measured with, which need not be the same where a sweep was resumed."""
        return list(self.group.attrs.get("plans", []))

    def done(self, chunk: range) -> bool:
        """Whether this chunk of units has been measured."""
        with _explained(self.path):
            return bool(np.isfinite(self.group["dP"][chunk.start : chunk.stop]).all())

    def write(self, chunk: range, values: np.ndarray) -> None:
        with _explained(self.path):
            self.group["dP"][chunk.start : chunk.stop] = values

    def write_examples(self, clean: np.ndarray, total: np.ndarray) -> None:
        """P(x) and P(x') - P(x) of every example; the latter is NaN where there is no counterpart."""
        with _explained(self.path):
            self.group["clean"][:] = clean
            self.group["total"][:] = total

    def note(self, plan: str) -> None:
        """Record a plan that some of the chunks were measured with."""
        if plan not in self.plans:
            with _explained(self.path):
                self.group.attrs["plans"] = [*self.plans, plan]

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dP, clean and total as arrays."""
        with _explained(self.path):
            return self.group["dP"][:], self.group["clean"][:], self.group["total"][:]


def _created(files: dict[str, Any], header: dict[str, Any], shape: tuple[int, int, int], dtype: str, chunk: int) -> Any:
    """A group of empty arrays whose files are put into `files`."""
    import zarr

    group = zarr.open_group(zarr.storage.MemoryStore(files), mode="w")
    group.create_array("dP", shape=shape, chunks=(chunk, *shape[1:]), dtype=dtype, fill_value=float("nan"))
    for name in ("clean", "total"):
        group.create_array(name, shape=(shape[2],), chunks=(shape[2],), dtype=dtype, fill_value=float("nan"))
    group.attrs.update({"format": FORMAT, "version": VERSION, "header": header})
    return group


def _write(path: "str | Path", files: dict[str, Any]) -> None:
    """Write a store's files, whole or not at all.

    `zarr` itself writes from several threads, and goes on after one of them has failed.
    """
    with writing_folder(path, MARKER, f'"{FORMAT}"') as work:
        for name, content in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content.to_bytes())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtefactError(
            f"cannot use the store {path}: {error}; finished chunks are kept, and the same call resumes"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ArtefactError(f"the store {path} is damaged ({error}): delete it and measure again") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
