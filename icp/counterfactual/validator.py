"""What tells a good counterfactual pair from a bad one."""

from dataclasses import dataclass

from icp.counterfactual.rows import Edit, Row
from icp.counterfactual.spec import Spec


@dataclass(frozen=True)
class Validator:
    """Base of what checks pairs: a frozen record with a name, under which rejections are counted."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    def begin(self, spec: Spec) -> None:
        """Raises `SpecError` where it cannot check pairs of this spec."""

    def reject(self, row: Row, edit: Edit, spec: Spec) -> str | None:
        """Why this is no counterfactual of the row, in one sentence; None where it is one."""
        raise NotImplementedError
