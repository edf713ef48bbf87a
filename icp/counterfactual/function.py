"""Counterfactuals by any function of a text."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from icp.counterfactual.difference import edited_spans
from icp.counterfactual.editors import Editor
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec
from icp.errors import DataError


@dataclass(frozen=True)
class Function(Editor):
    """`function` takes a text and returns a counterfactual of it in the variable, several of them, or none.

    What was edited is found by comparing the words, and the values as the spec finds them: rejected as `value not
    found` where one of the texts says none, or several. Raises `DataError` where it returns what is no text.
    """

    variable: str
    function: Callable[[str], str | Iterable[str] | None]

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        made = self.function(row.text)
        for text in (made,) if isinstance(made, str) else made or ():
            if not isinstance(text, str):
                raise DataError(f"the function made {text!r} of {row.text!r}: it has to return texts")
            yield self._edit(row, text, spec)

    def _edit(self, row: Row, text: str, spec: Spec) -> Edit | Rejection:
        finder, values = spec.variable(self.variable).finder, []
        for said in (row, Row(text, row.label, row.columns)):
            found = list(dict.fromkeys(one.value for one in finder.find(said)))
            if len(found) != 1:
                told = f"{said.text!r} says {' and '.join(found) or 'nothing'} for {self.variable}"
                return Rejection("value not found", told)
            values += found
        return Edit(text, self.variable, *values, *edited_spans(row.text, text))
