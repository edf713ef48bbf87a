"""What tells a good counterfactual pair from a bad one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from icp.counterfactual.rows import Edit, Row
from icp.counterfactual.spec import Spec


@dataclass(frozen=True)
class Validator:
    """Base of what checks pairs: a frozen record with a `name`, and a `reason` that its rejections are counted under.

    One of `reject` and `reject_all` is to be written: the second where many pairs at once are cheaper.
    """

    @property
    def name(self) -> str:
        """That of its class: `EditDistance` is `edit distance`."""
        return re.sub(r"\B(?=[A-Z])", " ", type(self).__name__).lower()

    @property
    def reason(self) -> str:
        """What is wrong with a pair that it rejects, in a few words, which a yield table has beside `accepted`."""
        return f"rejected by {self.name}"

    def begin(self, spec: Spec) -> None:
        """Raises `SpecError` where it cannot check pairs of this spec."""

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        """Why this is no counterfactual of the row, in one sentence; None where it is one."""
        return self.reject_all([(row, edit)], spec)[0]

    def reject_all(self, pairs: Sequence[tuple[Row, Edit]], spec: Spec) -> list[str | None]:
        """`reject` of every pair."""
        return [self.reject(row, edit, spec) for row, edit in pairs]
