"""Writing artefacts whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from icp.errors import ArtefactError


@contextmanager
def writing_folder(folder: "str | Path", marker: str) -> Iterator[Path]:
    """A work folder beside `folder` that takes its place when all went well, and is removed otherwise.

    What is there already is replaced only where it is empty or holds `marker`, a file by which its kind is known.
    """
    folder = Path(folder)
    with _explained(folder):
        if folder.exists() and not (folder / marker).is_file():
            others = sorted(path.name for path in folder.iterdir())
            if others:
                raise ArtefactError(f"{folder} holds something else, such as {others[0]}: choose a new or empty folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            yield work
            work.chmod(0o755)
            if folder.exists():
                old = work.with_name(work.name + "-old")
                folder.rename(old)
                work.rename(folder)
                shutil.rmtree(old)
            else:
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def writing_file(path: "str | Path") -> Iterator[Path]:
    """A work file beside `path` that takes its place when all went well, and is removed otherwise."""
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise ArtefactError(
                f"the disk that holds {path} is full: free space or write elsewhere; nothing was left half-written"
            ) from error
        raise ArtefactError(f"cannot write {path}: {error}") from error
