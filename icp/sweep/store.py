"""A zarr store of effects: chunks of units are the units of work, so that a sweep can be killed and resumed.

Every file appears whole or not at all, and a chunk counts as measured only when its `batch_size` is there, which is
written last. So processes may be killed at any moment, and several may write to one store at a time.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icp.errors import ArtefactError
from icp.files import new_folder, writing_folder
from icp.sweep.plan import Plan

FORMAT, VERSION = "icp-effects", 2
MARKER = "zarr.json"
NOT_YET, ELSEWHERE = 0, -1
"""In place of a batch size: not measured; measured, with the plans that the notes name."""
UNBOUNDED = ("logits", "nats", "nats per token")
"""Units of P that rounding of the logits is carried into as it is, however near to 0 P may be."""
NOTES = ("plans", "rank_correlation")
"""What of `Effects.header` is no provenance, but was found out while measuring."""


class Store:
    """dP [unit, intervention, example] on disk, with its labels and provenance as JSON attributes.

    `batch_size` [unit] is how many rows a forward pass had that measured the unit, or its last examples: the sizes
    before, where there were others, are the names of empty files. A row for which the model gave no finite P is kept as
    infinity, and read as NaN; what is NaN on disk was never measured, or is lost. Opening an existing store with
    another provenance raises `ArtefactError` naming what differs.
    """

    def __init__(self, group: Any, path: Path):
        self.group, self.path = group, path

    @classmethod
    def create(cls, path: "str | Path", header: dict[str, Any], dtype: str, plan: Plan) -> "Store":
        """Open `path` if it holds the same measurement, else make it."""
        path = Path(path)
        if not path.exists():
            files: dict[str, Any] = {}
            group = _created(files, header, dtype, plan.unit_chunk)
            group.attrs["planned"] = None if plan.memory is None else asdict(plan)
            with new_folder(path) as work:
                _write(work, files)
        store = cls.open(path)
        here, there = _parts(header), _parts(store.header)
        keys = sorted((set(here) | set(there)) - {"model"})  # a name: the binding says which model it is
        differing = [k for k in keys if here.get(k) != there.get(k)]
        if differing:
            raise ArtefactError(
                f"{path} holds another measurement: it differs in {', '.join(differing)} "
                f"({_short(there.get(differing[0]))} there, {_short(here.get(differing[0]))} here); "
                "choose another path or delete it"
            )
        return store

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
        notes = {name: header[name] for name in NOTES if name in header}
        group = _created(files, {k: v for k, v in header.items() if k not in NOTES}, str(dP.dtype), chunk)
        group.attrs["notes"] = notes
        group["dP"][:], group["clean"][:], group["total"][:] = _marked(dP), clean, total
        group["batch_size"][:] = ELSEWHERE
        with writing_folder(path, MARKER, f'"{FORMAT}"') as work:
            _write(work, files)

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
            present = set(group.array_keys())
        except (OSError, ValueError, KeyError, TypeError, zarr.errors.GroupNotFoundError) as error:
            raise ArtefactError(
                f"{path} is not a store of effects that can be read: it is damaged ({error})"
            ) from error
        if attributes.get("format") == FORMAT and attributes.get("version") != VERSION:
            raise ArtefactError(
                f"{path} has version {attributes.get('version')}, this icp reads version {VERSION}: measure again"
            )
        if attributes.get("format") != FORMAT or {"dP", "clean", "total", "batch_size"} - present:
            raise ArtefactError(f"{path} is not a whole store of effects: it was cut short, or something else wrote it")
        if not isinstance(attributes.get("header"), dict):
            raise ArtefactError(f"{path} has no header: it is damaged")
        if list(group["dP"].shape) != list(_shape(attributes["header"])):
            raise ArtefactError(
                f"{path} holds effects of shape {group['dP'].shape}, its header labels {_shape(attributes['header'])} "
                "[unit, intervention, example]: it is damaged"
            )
        return cls(group, path)

    @property
    def header(self) -> dict[str, Any]:
        return self.group.attrs["header"]

    @property
    def chunk(self) -> int:
        """How many units a chunk has."""
        return self.group["dP"].chunks[0]

    @property
    def planned(self) -> Plan | None:
        """The plan that the process which made the store chose by a budget of memory."""
        noted = self.group.attrs.get("planned")
        return None if noted is None else Plan(**noted)

    @property
    def plans(self) -> list[str]:
        """The plans that chunks were measured with, which need not be the same where a sweep was resumed."""
        side = self.header.get("padding_side", "right")
        with _explained(self.path):
            before = sorted((int(file.name) for file in self._before.glob("[0-9]*")), reverse=True)
            last = [int(size) for size in self.group["batch_size"][:] if size > 0]
        sizes = dict.fromkeys([*before, *last])
        return [
            *self.group.attrs.get("notes", {}).get("plans", []),
            *(repr(Plan(size, self.chunk, side)) for size in sizes),
        ]

    @property
    def notes(self) -> dict[str, Any]:
        """What is known of the whole measurement besides its header, such as the plans."""
        return dict(self.group.attrs.get("notes", {})) | {"plans": self.plans}

    def note(self, name: str, value: Any) -> None:
        """Keep something that is known of the whole measurement."""
        with _explained(self.path):
            self.group.attrs["notes"] = self.group.attrs.get("notes", {}) | {name: value}

    def measured(self) -> np.ndarray:
        """Whether each unit has been measured."""
        with _explained(self.path):
            there = ~np.isnan(self.group["dP"][:]).any(axis=(1, 2))
            return there & (self.group["batch_size"][:] != NOT_YET)

    def written(self) -> int:
        """How many units have been written, without reading their effects."""
        with _explained(self.path):
            return int((self.group["batch_size"][:] != NOT_YET).sum())

    def write(self, chunk: range, values: np.ndarray, batch_sizes: list[int]) -> None:
        """Keep dP of a chunk, NaN where the model gave none; `batch_sizes` measured it, one after another."""
        with _explained(self.path):
            for size in batch_sizes[:-1]:
                self._before.mkdir(exist_ok=True)
                (self._before / f"{size}").touch()
            self.group["dP"][chunk.start : chunk.stop] = _marked(values)
            self.group["batch_size"][chunk.start : chunk.stop] = batch_sizes[-1]

    @property
    def _before(self) -> Path:
        return self.path / "batch_size" / "before"

    def write_examples(self, clean: np.ndarray, total: np.ndarray, largest: float) -> None:
        """P(x) and P(x') - P(x) of every example; the latter is NaN where there is no counterpart.

        `largest` is the largest |P| that was read, which for a difference of P may be far larger than what is kept.
        Raises `ArtefactError` where another P(x) or P(x') is there already: the model computes something else than it
        did, for a reason that the header does not show, such as a hook.
        """
        with _explained(self.path):
            kept, kept_total = self.group["clean"][:], self.group["total"][:]
        slack = self._rounding(float(np.nanmax(np.abs(clean + total), initial=largest)))
        for name, there, here in (("text", kept, clean), ("counterpart", kept + kept_total, clean + total)):
            far = np.abs(there - here) > slack
            if far.any():
                example = int(far.argmax())
                raise ArtefactError(
                    f"{self.path} holds another measurement: without intervention P of "
                    f"{self.header['examples'][example][name]!r} is {there[example]:.6g} there and "
                    f"{here[example]:.6g} here, with the same weights and probe: a hook or a setting of a module "
                    "differs; choose another path or delete it"
                )
        with _explained(self.path):
            self.group["clean"][:] = clean
            self.group["total"][:] = total

    def _rounding(self, largest: float) -> float:
        """How far P may lie from itself under another plan, or on another device, where `largest` is the largest |P|.

        A logit, and the logarithm of a probability, is off by a share of its size or of 1. Anything else is off by that
        share of itself.
        """
        # As far as plans and devices may differ; norms and softmaxes work in float32 even in a float64 model.
        eps = max(2.0**-23, torch.finfo(getattr(torch, self.header["dtype"].removeprefix("torch."))).eps)
        if self.header["unit_of_P"] in UNBOUNDED:
            return eps**0.5 * (1 + largest)
        return eps**0.5 * largest * (1 + abs(math.log(largest))) if largest else 0.0

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dP, clean and total as arrays."""
        with _explained(self.path):
            dP, clean, total = (self.group[name][:] for name in ("dP", "clean", "total"))
        return np.where(np.isinf(dP), np.nan, dP), clean, total


def finished(path: "str | Path") -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """Header, dP, clean and total of a store; raises `ArtefactError` where it is not measured to its end."""
    store = Store.open(path)
    missing = int((~store.measured()).sum())
    if missing:
        raise ArtefactError(
            f"{path} is unfinished: {missing} of {len(store.header['units'])} units are missing; rerun the same "
            "measurement"
        )
    return store.header | store.notes, *store.read()


def _marked(dP: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(dP), np.inf, dP)


def _shape(header: dict[str, Any]) -> tuple[int, ...]:
    return tuple(len(header.get(labels, ())) for labels in ("units", "interventions", "examples"))


def _created(files: dict[str, Any], header: dict[str, Any], dtype: str, chunk: int) -> Any:
    """A group of empty arrays whose files are put into `files`."""
    import zarr

    shape = _shape(header)
    group = zarr.open_group(zarr.storage.MemoryStore(files), mode="w")
    group.create_array("dP", shape=shape, chunks=(chunk, *shape[1:]), dtype=dtype, fill_value=float("nan"))
    group.create_array("batch_size", shape=shape[:1], chunks=(chunk,), dtype="int32", fill_value=NOT_YET)
    for name in ("clean", "total"):
        group.create_array(name, shape=shape[2:], chunks=shape[2:], dtype=dtype, fill_value=float("nan"))
    group.attrs.update({"format": FORMAT, "version": VERSION, "header": header})
    return group


def _write(folder: Path, files: dict[str, Any]) -> None:
    """Write a store's files by hand: `zarr` writes from several threads, and goes on after one of them has failed."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.to_bytes())


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


def _parts(header: dict[str, Any]) -> dict[str, Any]:
    """Every entry by its name, those of an entry that has several by both: `binding.weights`."""
    parts: dict[str, Any] = {}
    for name, value in header.items():
        parts |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    return parts


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."
