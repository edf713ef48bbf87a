"""What is done to a unit, as small records.

`as_affine()` says `a -> alpha * a + shift`, where the shift comes from a donor; the engines serve every affine
intervention by one path. A user's own subclasses `Intervention` and overrides `replace`.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icp.errors import IcpError
from icp.units import Unit


@dataclass(frozen=True)
class MeanDonor:
    """The site's mean over attended tokens of the reference inputs; `per_position` keeps one mean a position."""

    per_position: bool = False


@dataclass(frozen=True)
class CounterpartDonor:
    """The unit's value in the counterpart's clean run, at the aligned positions."""


@dataclass(frozen=True)
class UnitDonor:
    """Another unit's value in the same clean run."""

    unit: Unit


@dataclass(frozen=True)
class ExampleDonor:
    """The unit's value in another example of the same length: `index`, or one drawn with `seed`."""

    index: int | None = None
    seed: int = 0


Donor = MeanDonor | CounterpartDonor | UnitDonor | ExampleDonor


@dataclass(frozen=True)
class Affine:
    """`a -> alpha * a + donor's value` (no shift where donor is None)."""

    alpha: float
    donor: Donor | None = None


def affine(
    old: Float[Tensor, "*values"], alpha: Float[Tensor, "..."], shift: Float[Tensor, "..."]
) -> Float[Tensor, "*values"]:
    """`alpha * old + shift`, each number by itself; alpha and shift broadcast.

    Where alpha is 0 the old value does not enter, not even an infinite one; where alpha is 1 and the shift 0 nothing
    changes, bit for bit.
    """
    scaled = alpha * old
    # Adding a zero would turn -0.0 into 0.0.
    return torch.where(alpha == 0, shift, torch.where(shift == 0, scaled, scaled + shift))


class Intervention:
    """Base class of interventions.

    A subclass is a frozen dataclass (so that its label tells it from another) that either returns an `Affine` from
    `as_affine`, or leaves it None and overrides `replace`, which is then called with the unit's values in the running
    forward pass.
    """

    @property
    def label(self) -> str:
        """The name under which results are stored; two interventions of one call need different labels."""
        return repr(self)

    def as_affine(self) -> Affine | None:
        return None

    def replace(
        self, values: Float[Tensor, "row pos width"], where: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row pos width"]:
        """The replacement of a unit's values (width 1, or d_head for a head).

        `where` holds at the positions that are edited; elsewhere, padding included, what is returned is ignored, and
        nothing should be read.
        """
        raise IcpError(f"{type(self).__name__} neither is affine nor overrides replace(values, where)")


@dataclass(frozen=True)
class Mask(Intervention):
    """Remove a unit: `Mask("zero")`, `Mask("mean")` or `Mask("resample", seed=0)`.

    The mean is one vector over the attended tokens of the reference inputs. `per_position=True` keeps one mean a
    position; it is for measuring only, since no weights can carry it. Resample takes the value of another example of
    the same length.
    """

    how: str = "zero"
    per_position: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        if self.how not in ("zero", "mean", "resample"):
            raise IcpError(f"unknown mask {self.how!r}: use 'zero', 'mean' or 'resample'")
        if self.per_position and self.how != "mean":
            raise IcpError(f"per_position=True goes with Mask('mean'), not with Mask({self.how!r})")

    @property
    def label(self) -> str:
        match self.how:
            case "mean" if self.per_position:
                return "mask:mean per position"
            case "resample":
                return f"mask:resample seed {self.seed}"
        return f"mask:{self.how}"

    def as_affine(self) -> Affine:
        donors = {"zero": None, "mean": MeanDonor(self.per_position), "resample": ExampleDonor(seed=self.seed)}
        return Affine(0.0, donors[self.how])


@dataclass(frozen=True)
class Scale(Intervention):
    """Multiply a unit by `alpha`; `Scale(1.0)` changes nothing, not one bit."""

    alpha: float

    @property
    def label(self) -> str:
        return f"scale:{float(self.alpha)!r}"

    def as_affine(self) -> Affine:
        return Affine(float(self.alpha))


@dataclass(frozen=True)
class Swap(Intervention):
    """Give a unit the value it, or another unit, has elsewhere.

    `Swap("counterpart")`: in the counterpart's clean run, at aligned positions (the indirect effect, Vig et al. 2020).
    `Swap(unit)` with a `Unit` or its address: another unit of the same width, in the same clean run.
    `Swap(example=k)`: example `k` of the probe, which needs the same number of tokens.
    """

    source: str | Unit | None = None
    example: int | None = field(default=None, kw_only=True)

    def __post_init__(self):
        if (self.source is None) == (self.example is None):
            raise IcpError("Swap takes one source: 'counterpart', a unit's address, or example=k")
        if isinstance(self.source, str) and self.source != "counterpart":
            object.__setattr__(self, "source", Unit.parse(self.source))

    @property
    def label(self) -> str:
        return f"swap:example {self.example}" if self.source is None else f"swap:{self.source}"

    def as_affine(self) -> Affine:
        if self.source is None:
            return Affine(0.0, ExampleDonor(self.example))
        if self.source == "counterpart":
            return Affine(0.0, CounterpartDonor())
        return Affine(0.0, UnitDonor(self.source))


@dataclass(frozen=True)
class Erase(Intervention):
    """Take the cue's directions out of a unit, `rank` of them, and leave the rest (`icp.erasure`).

    They are fitted on pairs and written into weights: it is for `icp.frontier`, and not for single effects.
    """

    rank: int = 1

    def __post_init__(self):
        if self.rank < 1:
            raise IcpError(f"rank={self.rank} erases nothing: give at least 1")

    @property
    def label(self) -> str:
        return f"erase:{self.rank}"


def intervention_of(label: str) -> Intervention:
    """The built-in intervention that has this label, such as `mask:mean`, `scale:0.5` or `swap:counterpart`.

    Raises `IcpError` for any other label.
    """
    how, _, what = label.partition(":")
    try:
        if how == "erase":
            return Erase(int(what))
        if how == "scale":
            return Scale(float(what))
        if how == "swap":
            return Swap(example=int(what[8:])) if what.startswith("example ") else Swap(what)
        if how == "mask":
            if what.startswith("resample seed "):
                return Mask("resample", seed=int(what[14:]))
            return Mask(what.removesuffix(" per position"), per_position=what.endswith(" per position"))
    except (ValueError, IcpError) as error:
        raise IcpError(f"cannot read the intervention {label!r}: {error}") from error
    raise IcpError(
        f"unknown intervention {label!r}: use mask:zero, mask:mean, mask:resample, scale:ALPHA, swap:counterpart, "
        "swap:UNIT or erase:RANK"
    )
