"""What proposes counterfactuals of a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec


@dataclass(frozen=True)
class Editor:
    """Base of what edits texts. `variables` are those that it edits; each proposal is an edit of one of them."""

    @property
    def variables(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of a row that hold what it proposes, which a pair says already and does not keep again."""
        return ()

    def begin(self, spec: Spec) -> None:
        """Raises `SpecError` where it cannot edit these variables as the spec finds them, before a row is read."""

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        """Proposals for a row, the best first, or why there is none. The same row gives the same proposals.

        Outside the spans that an edit names both texts have to be the same.
        """
        raise NotImplementedError

    def edits_all(self, rows: Sequence[Row], spec: Spec) -> list[Iterator[Edit | Rejection]]:
        """`edits` of every row; to be written where proposing for several at once is cheaper."""
        return [iter(self.edits(row, spec)) for row in rows]
