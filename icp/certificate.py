"""What a certified top-k proves: how many of the units that were not measured may lie above the k-th one found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from icp.errors import ArtefactError, IcpError


@dataclass(frozen=True)
class Stratum:
    """`size` units of which `sampled` were drawn at random and measured; `above` of these exceed the threshold."""

    size: int
    sampled: int = 0
    above: int = 0

    def __post_init__(self):
        if not 0 <= self.above <= self.sampled <= self.size:
            raise IcpError(f"{self} is impossible: 0 <= above <= sampled <= size")


@dataclass(frozen=True, repr=False)
class Certificate:
    """The proof that goes with the `top` of `units` units found; `str` is a paragraph that says it.

    `confidence`, `miss_rate`, `budget` and `seed` are what was asked for. `threshold` is the score of the k-th
    candidate (in the property's unit), fixed before the audit drew its units from `strata`; an audited unit above it
    joins the found. `unknown` units were measured and gave NaN: they are never found, and count as missed. With
    probability `confidence` over the draws, no more than `missed_upper` units that were not measured, or are unknown,
    have a score above the k-th found. `work_fraction` is the work done as a share of measuring every unit exactly (see
    `icp.sweep.search`), and `estimates` how the candidates were chosen (`Linear.label`; empty where every unit was
    measured). `reason` says, where the miss rate asked for is not proven, why, and what would do.

    The confidence is that of one search chosen beforehand: of several, rerun by seed or budget until one of them proves
    what was asked, each may fail, so that the last proves less than it says. `number` counts those of a stored search's
    folder up to this one.
    """

    top: int
    units: int
    confidence: float
    miss_rate: float
    budget: float
    seed: int
    threshold: float
    candidates: int
    strata: tuple[Stratum, ...]
    unknown: int
    missed_upper: int
    work_fraction: float
    reason: str = ""
    estimates: str = ""
    number: int = 1

    @property
    def audited(self) -> int:
        return sum(stratum.sampled for stratum in self.strata)

    @property
    def unmeasured(self) -> int:
        return self.units - self.candidates - self.audited

    @property
    def units_fraction(self) -> float:
        """The share of all units that were measured exactly, audit included."""
        return 1 - self.unmeasured / self.units

    @property
    def miss_rate_upper(self) -> float:
        """`missed_upper` as a share of the units that were not measured or are unknown; 0 where there are none."""
        return self.missed_upper / max(1, self.unmeasured + self.unknown)

    @property
    def recall_lower(self) -> float:
        """At least this share of the true top k was found, as each one missed is above the k-th found."""
        return max(0.0, 1 - self.missed_upper / self.top)

    @property
    def met(self) -> bool:
        """Whether the miss rate asked for is proven."""
        return self.missed_upper <= self.miss_rate * (self.unmeasured + self.unknown)

    def __str__(self) -> str:
        left = self.unmeasured + self.unknown
        rate = -(-10_000 * self.missed_upper // left) / 100 if left else 0.0  # rounded up, recall down: both are proven
        recall = max(0, 100 * (self.top - self.missed_upper) // self.top) / 100
        verdict = "as asked" if self.met else f"NOT the {self.miss_rate:.2%} asked for: {self.reason}"
        chosen = f" (estimates: {self.estimates})" if self.estimates else ""
        kinds = f"{self.candidates:,} candidates{chosen} and {self.audited:,} audited"
        proof = (
            f"Of the {left:,} others at most {self.missed_upper:,} ({rate:.2f}%) are above the last one "
            f"found, with {100 * self.confidence:.12g}% confidence ({verdict}); "
            f"recall is at least {recall:.2f}."
            if left
            else "Nothing is left out: recall is 1."
        )
        several = (
            f" It is search number {self.number} of its folder, and the confidence is that of a single one."
            if self.number > 1
            else ""
        )
        return (
            f"Top {self.top:,} of {self.units:,} units; {kinds} were measured exactly ({self.units_fraction:.1%} of "
            f"the units, {self.work_fraction:.1%} of the work of measuring all). {proof}{several}"
        )

    __repr__ = __str__

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"strata": [asdict(stratum) for stratum in self.strata]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Certificate":
        """Read what `as_json` gave; raises `ArtefactError` where it is damaged."""
        try:
            strata = tuple(Stratum(**_typed(Stratum, stratum)) for stratum in stored["strata"])
            return cls(**{**_typed(cls, stored), "strata": strata})
        except (TypeError, KeyError, ValueError, AttributeError, IcpError) as error:
            raise ArtefactError(f"the certificate of these effects is damaged ({error}): measure again") from error


def _typed(kind: type, stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was stored, where numbers are numbers and text is text; raises `ValueError` naming what is not."""
    wanted = {int: int, float: (int, float), str: str}
    for field in fields(kind):
        value, types = stored.get(field.name, field.default), wanted.get(field.type)
        if types is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise ValueError(f"{field.name} is {value!r}" if field.name in stored else f"{field.name} is missing")
    return stored
