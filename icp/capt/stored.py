"""Abstractions kept in a file of JSON: the problems with the places of their events, and what was refused."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from icp.capt.abstracted import Abstracted
from icp.capt.abstraction import Abstraction, Mention
from icp.capt.estimator import Failure
from icp.capt.validate import Abstractions
from icp.data.problems import Problem
from icp.errors import ArtefactError, DataError
from icp.files import read_json, write_json

FORMAT, VERSION = "icp-abstractions", 1


def save_abstractions(found: Abstractions, path: "str | Path", about: Mapping[str, str]) -> Path:
    """Write JSON; `about` says of what data set they are and what estimator found them."""
    rows = [
        {
            "problem": asdict(row.problem), "mentions": _plain(row.abstraction),
            "worked": None if row.worked is None else _plain(row.worked),
        }
        for row in found.rows
    ]  # fmt: skip
    refused = [asdict(failure) for failure in found.refused]
    return write_json(path, FORMAT, VERSION, {"about": dict(about), "rows": rows, "refused": refused})


def load_abstractions(path: "str | Path") -> tuple[Abstractions, dict[str, str]]:
    """What `save_abstractions` wrote, and what it is about; raises `ArtefactError` for a file of something else."""
    told = read_json(path, FORMAT, VERSION)
    try:
        rows = tuple(_row(row) for row in told["rows"])
        return Abstractions(rows, tuple(Failure(**one) for one in told["refused"])), told["about"]
    except (KeyError, TypeError, DataError) as error:
        raise ArtefactError(f"{path} is damaged ({error!r}): abstract again, or delete it") from error


def _row(told: Mapping[str, Any]) -> Abstracted:
    problem = Problem.of(told["problem"])
    worked = None if told["worked"] is None else _read(problem.reasoning, told["worked"])
    return Abstracted(problem, _read(problem.prompt, told["mentions"]), worked)


def _plain(found: Abstraction) -> list[list[int | bool | None]]:
    return [[m.start, m.stop, m.slot, m.holds] for m in found.mentions]


def _read(text: str, mentions: list[list[Any]]) -> Abstraction:
    return Abstraction(text, tuple(Mention(*one) for one in mentions))
