"""What tells a good counterfactual pair from a bad one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from icp.counterfactual.rows import Edit, Row
from icp.counterfactual.spec import Spec


@dataclass(frozen=True)
class Validator:
    """Base of what checks pairs: a frozen record whose `name`, by default that of its class, rejections are counted by.

    One of `reject` and `reject_all` is to be written: the second where many pairs at once are cheaper.
    """

    @property
    def name(self) -> str:
        """`EditDistance` is counted as `edit distance`."""
        return re.sub(r"\B(?=[A-Z])", " ", type(self).__name__).lower()

    def begin(self, spec: Spec) -> None:
        """Raises `SpecError` where it cannot check pairs of this spec."""

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        """Why this is no counterfactual of the row, in one sentence; None where it is one."""
        return self.reject_all([(row, edit)], spec)[0]

    def reject_all(self, pairs: Sequence[tuple[Row, Edit]], spec: Spec) -> list[str | None]:
        """`reject` of every pair."""
        return [self.reject(row, edit, spec) for row, edit in pairs]
