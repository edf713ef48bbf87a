"""Rows of data from a file of JSON lines."""

from collections.abc import Iterator
from pathlib import Path

from icp.counterfactual.rows import Row, rows_of
from icp.counterfactual.spec import Spec
from icp.data.reader import json_lines
from icp.errors import DataError


def lines_of(path: "str | Path", spec: Spec) -> Iterator[Row]:
    """A row a line, with `text`, `label` and whatever columns the spec reads; in constant memory.

    A label is one of the spec's classes or its index. Raises `DataError` naming the line that is no such row.
    """
    for where, told in json_lines(path):
        label = told.get("label")
        if isinstance(label, str):
            if label not in spec.classes:
                raise DataError(f"{where} has the label {label!r}: the classes are {', '.join(spec.classes)}")
            told = {**told, "label": spec.classes.index(label)}
        try:
            yield from rows_of([told])
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
