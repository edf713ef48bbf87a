"""Abstractions kept on disk by what they are of: the estimator, its settings and the prompt."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from icp.capt.abstraction import Abstraction, Mention
from icp.capt.estimator import Estimator, Failure
from icp.errors import ArtefactError

VERSION = 1


@dataclass(frozen=True)
class Cached(Estimator):
    """An estimator whose results are appended to a file of JSON lines in `folder`, one file an estimator.

    The file's name is a digest of the estimator's label, its rows have digests of the prompts; so a prompt is estimated
    once, also by a run that was cut short. Failures are kept too, unless their reason is one of `again`, such as an
    endpoint that timed out. Raises `ArtefactError` for a file that is something else.
    """

    estimator: Estimator
    folder: Path
    again: tuple[str, ...] = ()
    _known: dict[str, dict] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.path.is_file():
            self._known.update(_read(self.path))

    @property
    def label(self) -> str:
        return self.estimator.label

    @property
    def path(self) -> Path:
        return Path(self.folder) / f"{_digest(f'{VERSION}/{self.label}')}.jsonl"

    def estimate(self, prompt: str) -> Abstraction | Failure:
        key = _digest(prompt)
        if key not in self._known:
            found = self.estimator.estimate(prompt)
            row = {"key": key} | _stored(found)
            if not (isinstance(found, Failure) and found.reason in self.again):
                self._known[key] = row
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            return found
        row = self._known[key]
        if "reason" in row:
            return Failure(prompt, row["reason"], row["told"])
        return Abstraction(prompt, tuple(Mention(*mention) for mention in row["mentions"]))


def _stored(found: Abstraction | Failure) -> dict:
    if isinstance(found, Failure):
        return {"reason": found.reason, "told": found.told}
    return {"mentions": [[m.start, m.stop, m.slot, m.holds] for m in found.mentions]}


def _read(path: Path) -> dict[str, dict]:
    """The rows of a file; a last line that a run cut short is removed, so that the next one starts on a line."""
    text = path.read_text("utf-8", errors="replace")
    whole, _, rest = text.rpartition("\n")
    rows = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            rows[row["key"]] = row
            if "reason" not in row:
                [Mention(*mention) for mention in row["mentions"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"line {number} of {path} is no abstraction ({error}): delete the file") from error
    if rest:
        path.write_text(whole + "\n" * bool(whole), "utf-8")
    return rows


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
