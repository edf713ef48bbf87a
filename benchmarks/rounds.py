"""Finished rounds kept in a JSON file, so that a benchmark can be stopped and go on; and what they add up to."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from icp.files import writing_file

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("icp", "benchmarks", "pyproject.toml", ":!benchmarks/results")
"""What figures depend on: the package and the benchmarks, without what they wrote."""


def commit(root: Path = ROOT) -> str:
    """The commit of the repository at `root`, and "-dirty-" with a digest of what differs from it where anything does.

    That is `git diff HEAD` of the package and the benchmarks, and their Python files that git does not track. "unknown"
    without a repository.
    """
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return "unknown"
    changed = _git(root, "diff", "HEAD", "--", *MEASURED) or b""
    names = (_git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *MEASURED) or b"").split(b"\0")
    new = [(name, (root / name.decode()).read_bytes()) for name in sorted(names) if name.endswith(b".py")]
    if not changed and not new:
        return head.decode().strip()
    digest = hashlib.sha256(repr((changed, new)).encode()).hexdigest()[:12]
    return f"{head.decode().strip()}-dirty-{digest}"


def _git(root: Path, *command: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *command], capture_output=True, cwd=root)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def machine(threads: int) -> dict[str, Any]:
    """The commit and the machine that figures belong to."""
    return {
        "commit": commit(),
        "device": f"{platform.processor() or platform.machine()}, {threads} threads",
        "cores": psutil.cpu_count(logical=False),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "torch": torch.__version__,
    }


class Rounds:
    """Rounds by key, written whenever one is added, with their summary.

    Rounds in the file are kept where they were made under the same `about`. A file of another one (another machine or
    setting, and where `about` names it, another commit) is set aside under a name of its own before a round is written.
    """

    def __init__(self, path: Path, about: dict[str, Any], summarise: Callable[[list[dict]], dict[str, Any]]):
        self.path, self.about, self.summarise = path, about, summarise
        stored = json.loads(path.read_text()) if path.is_file() else {}
        alike = stored.get("about") == _plain(about)
        self.finished: list[dict] = stored["rounds"] if alike else []
        self.other = stored if stored and not alike else None

    def missing(self, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those keys of which there is no round."""
        return [key for key in keys if not any(key.items() <= round.items() for round in self.finished)]

    def add(self, key: dict[str, Any], found: dict[str, Any], summarised: bool = True) -> None:
        """Keep a round; a summary that takes long may wait for a later `write`."""
        self.finished.append(_plain(key | found))
        self.write(summarised)

    def write(self, summarised: bool = True) -> None:
        if self.other is not None:
            digest = hashlib.sha256(json.dumps(self.other["about"], sort_keys=True).encode()).hexdigest()[:8]
            self.path.rename(self.path.with_name(f"{self.path.stem}-{digest}{self.path.suffix}"))
            self.other = None
        whole = {"about": self.about, **(self.summary() if summarised else {}), "rounds": self.finished}
        with writing_file(self.path) as work:
            work.write_text(json.dumps(whole, indent=1))

    def summary(self) -> dict[str, Any]:
        return self.summarise(self.finished)


def _plain(value: Any) -> Any:
    """As it will be read from JSON."""
    return json.loads(json.dumps(value))


def speedups(rounds: list[dict], ours: str = "icp") -> dict[str, Any]:
    """How many times as long the others take as `ours` a measurement, over all rounds and in each.

    A round has `seconds` and `count`, measurements or passes, by contestant. A contestant that is missing in one of the
    rounds gets no figure.
    """
    if not rounds:
        return {}
    everyone = [name for name in rounds[0]["seconds"] if all(name in round["seconds"] for round in rounds)]
    each = {name: _per_measurement(rounds, name) for name in everyone}
    others = [name for name in everyone if name != ours]
    return {
        "speedup": {name: each[name] / each[ours] for name in others},
        "speedup_by_seed": {
            name: [_per_measurement([round], name) / _per_measurement([round], ours) for round in rounds]
            for name in others
        },
        "seconds_per_measurement": each,
        "measured": {name: sum(round["count"][name] for round in rounds) for name in everyone},
    }


def _per_measurement(rounds: list[dict], name: str) -> float:
    return sum(round["seconds"][name] for round in rounds) / sum(round["count"][name] for round in rounds)
