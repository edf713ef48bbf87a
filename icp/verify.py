"""`verify`: a machine's proof that an architecture's row is right, on the live model."""

from collections.abc import Callable
from dataclasses import dataclass

from icp.checks import CHECKS, Case
from icp.errors import ModelError
from icp.model import Model


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it holds, None where it does not apply, and what was seen."""

    name: str
    holds: bool | None
    detail: str

    def __str__(self) -> str:
        return f"{ {True: 'ok  ', False: 'FAIL', None: '-   '}[self.holds] } {self.name}: {self.detail}"


@dataclass(frozen=True)
class Verification:
    """What `verify` found: `str()` is a line a check and, last, a summary."""

    model: str
    family: str
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        return not any(check.holds is False for check in self.checks)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.checks), self.summary])

    @property
    def summary(self) -> str:
        made = [check for check in self.checks if check.holds is not None]
        bad = [check.name for check in made if not check.holds]
        told = f"{len(bad)} of {len(made)} checks fail: {', '.join(bad)}" if bad else f"all {len(made)} checks hold"
        return f"{self.model} ({self.family}): {told}"


def verify(model: Model, *, seed: int = 0, report: Callable[[Check], None] = lambda check: None) -> Verification:
    """Prove the row of a model's architecture on the model itself, with inputs drawn from its own vocabulary.

    A no-op is bit-equal and a suffix gives what the whole run gives; dP equals that of plain PyTorch hooks, and of
    TransformerLens where it has the architecture; padding on either side changes nothing; hooked, cut, and saved and
    loaded are one; a LoRA step leaves what was cut cut, and merges; first-order estimates equal finite differences.
    What compares numbers does so on a copy in float64. `report` is shown each check as it is done. A check that ends in
    an error fails, and says which. Raises `ModelError` for a model that is not a plain `transformers` one, and
    where its vocabulary has too few words to make inputs of.
    """
    if model.kind != "transformers":
        raise ModelError(f"a {model.kind} has no row of its own to prove: verify the model that it was made from")
    case = Case(model, seed)
    _ = case.probe
    checks = []
    for name, look in CHECKS.items():
        try:
            holds, detail = look(case)
        except Exception as error:  # what breaks is what is looked for
            holds, detail = False, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        checks.append(Check(name, holds, detail))
        report(checks[-1])
    return Verification(model.name, model.family.name, tuple(checks))
