"""One reader of local files, folders and data sets of the Hugging Face hub."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icp.data.schema import Form, Schema, checked
from icp.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

Located = tuple[str, Mapping[str, Any]]
"""A row, and where it was found, for a message."""


def read(
    schema: Schema,
    source: "str | Path",
    split: str | None = None,
    config: str | None = None,
    unanswered: list[str] | None = None,
) -> list[Any]:
    """The typed rows of a data set.

    `source` is a file, a folder with a file a split, or a hub id `owner/name`, of which `config` names the
    configuration where it has several. A file is one split, so that `split` is left out.

    Rows without an answer are left out where there is a list `unanswered`, to which the place of each is added.

    Raises `DataError` naming the file, the line or row and the field where the schema is another one.
    """
    path = Path(source)
    if path.exists():
        if config is not None:
            raise DataError(f"{path} is local: config={config!r} belongs to a hub id, so leave it out")
        found = _local(schema, _file(schema, path, split))
    elif isinstance(source, str) and HUB_ID.fullmatch(source) and path.suffix not in SUFFIXES:
        found = _hub(source, split, config)
    else:
        raise DataError(f"there is no file or folder {str(source)!r}: give one, or a hub id owner/name")
    rows: list[Any] = []
    form: Form | None = None
    for where, row in found:
        if form is None or not set(form.required) <= set(row):
            form = schema.form_of(row, where, unanswered is not None)
        if unanswered is not None and form.answer is not None and _empty(row.get(form.answer)):
            checked(row, form.without_answer, where)
            unanswered.append(where)
            continue
        values = checked(row, form, where)
        try:
            rows += form.build(values)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    if not rows:
        told = f"none of {len(unanswered)} has an answer" if unanswered else "it is empty or cut short"
        raise DataError(f"{source} holds no rows of {schema.name}: {told}")
    return rows


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _file(schema: Schema, path: Path, split: str | None) -> Path:
    if path.is_file():
        if split is not None:
            raise DataError(f"{path} is a file, which is one split: leave split={split!r} out, or give its folder")
        return path
    splits = {name: _first(path, name, schema.files.get(name, ())) for name in (*schema.files, split) if name}
    there = [name for name, file in splits.items() if file is not None]
    if split is None:
        raise DataError(f"{path} is a folder: name a split ({', '.join(there) or 'none was found there'}), or a file")
    if splits[split] is None:
        raise DataError(f"{path} has no file of the split {split!r}: {', '.join(there) or 'no split'} was found there")
    return splits[split]


def _first(folder: Path, split: str, names: tuple[str, ...]) -> Path | None:
    tried = [folder / name for name in (*names, *(split + suffix for suffix in SUFFIXES))]
    return next((path for path in tried if path.is_file()), None)


def _local(schema: Schema, path: Path) -> Iterator[Located]:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} ends in {path.suffix!r}: {schema.name} is read from {', '.join(SUFFIXES)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                yield from _json_lines(file, path)
            elif path.suffix == ".json":
                yield from _json(file, path)
            else:
                yield from _table(schema, file, path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error}): it is cut short or foreign") from error


def json_lines(path: "str | Path") -> Iterator[Located]:
    """The rows of a file of JSON lines, each read when it is asked for."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}: give one with a JSON object a line")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _json_lines(file, path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error}): it is cut short or foreign") from error


def _json_lines(file: Any, path: Path) -> Iterator[Located]:
    for number, line in enumerate(file, 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _object(_parsed(line, where), where)


def _json(file: Any, path: Path) -> Iterator[Located]:
    """The rows of a list; or one object that holds them all, as some authors publish them."""
    content = _parsed(file.read(), str(path))
    if not isinstance(content, list):
        yield str(path), _object(content, str(path))
        return
    for index, row in enumerate(content):
        yield f"{path}, row {index}", _object(row, f"{path}, row {index}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error}): it is cut short or foreign") from error


def _object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is not an object with named fields: it is {type(row).__name__}")
    return row


def _table(schema: Schema, file: Any, path: Path) -> Iterator[Located]:
    csv.field_size_limit(1 << 24)
    delimiter = "\t" if path.suffix == ".tsv" else ","
    quoting = csv.QUOTE_MINIMAL if schema.quoted else csv.QUOTE_NONE
    lines = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=schema.quoted)
    names: tuple[str, ...] = ()
    try:
        for cells in lines:
            where = f"{path}, line {lines.line_num}"
            if not names:
                names = next((form.columns for form in schema.forms if _nameless(form, cells)), ())
                if not names:
                    names = tuple(cells)
                    continue
            if not cells:
                continue
            if len(cells) != len(names):
                raise DataError(f"{where} has {len(cells)} columns, and the first line {len(names)}: it is damaged")
            yield where, dict(zip(names, cells))
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num} is no row of a table ({error}): it is damaged") from error


def _nameless(form: Form, cells: list[str]) -> bool:
    """Whether the first line of a table is a row already."""
    return len(cells) == len(form.columns) > 0 and not set(form.required) & set(cells)


def _hub(name: str, split: str | None, config: str | None) -> Iterator[Located]:
    if split is None:
        raise DataError(f"{name} is a data set of the hub: name a split of it, such as split='validation'")
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"reading {name} from the hub needs the package datasets: pip install 'icp[data]', or give a local file"
        ) from error
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # datasets, its hub client and pyarrow each raise errors of their own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot load {name} ({split=}, {config=}) from the hub: {said}") from error
    for index, row in enumerate(rows):
        yield f"{name} ({split}), row {index}", {key: _named(value, rows.features[key]) for key, value in row.items()}


def _named(value: Any, feature: Any) -> Any:
    """A value of the hub with the names of classes for their numbers."""
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
        return [_named(part, inner) for part in value]
    if isinstance(value, dict):
        inner = getattr(feature, "feature", feature)
        return {key: _named(part, inner[key]) for key, part in value.items()}
    if hasattr(feature, "int2str"):
        return None if value is None or value < 0 else feature.int2str(value)
    return value
