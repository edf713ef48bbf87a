"""Counterfactuals by any function of a text."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from icp.counterfactual.differences import edit_of
from icp.counterfactual.editors import Editor
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec
from icp.errors import DataError


@dataclass(frozen=True)
class Function(Editor):
    """`function` takes a text and returns a counterfactual of it in the variable, several of them, or none.

    What was edited is found by comparing the words, and the values as the spec finds them. Raises `DataError` where it
    returns what is no text.
    """

    variable: str
    function: Callable[[str], str | Iterable[str] | None]

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)

    def begin(self, spec: Spec) -> None:
        spec.variable(self.variable)

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        made = self.function(row.text)
        for text in (made,) if isinstance(made, str) else made or ():
            if not isinstance(text, str):
                raise DataError(f"the function made {text!r} of {row.text!r}: it has to return texts")
            yield edit_of(row, text, self.variable, spec)
