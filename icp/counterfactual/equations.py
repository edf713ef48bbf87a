"""Structural equations over variables with a few values each: interventions, and effects by exact enumeration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from random import Random

from icp.errors import SpecError

Values = Mapping[str, str]
Noise = Mapping[str, float]
"""Of every variable, its exogenous noise: uniform on [0, 1) and independent of the others'."""


@dataclass(frozen=True)
class Equation:
    """A variable: `chances` of each of its values, for each combination of its `parents`' values, in their order.

    It takes the value in whose stretch of the cumulative chances its noise lies. So the noise settles what it would be
    under any parents, which the chances alone leave open: counterfactuals here are those of this form.
    """

    name: str
    chances: Mapping[tuple[str, ...], Mapping[str, float]]
    parents: tuple[str, ...] = ()

    def __post_init__(self):
        for parents, chances in self.chances.items():
            if len(parents) != len(self.parents):
                raise SpecError(f"{self.name!r} has chances for {parents}: its parents are {self.parents}")
            if tuple(chances) != self.values:
                raise SpecError(f"{self.name!r} has the values {tuple(chances)} for {parents}: elsewhere {self.values}")
            if min(chances.values()) < 0 or not math.isclose(sum(chances.values()), 1):
                raise SpecError(f"the chances {dict(chances)} of {self.name!r} are not shares that sum to 1")

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(next(iter(self.chances.values()), ()))

    def of(self, noise: float, known: Values) -> str:
        """The value at this noise, where the parents have their `known` values."""
        reached = 0.0
        for value, chance in self.chances[tuple(known[parent] for parent in self.parents)].items():
            reached += chance
            if noise < reached:
                return value
        return self.values[-1]

    @cached_property
    def stretches(self) -> tuple[tuple[float, float], ...]:
        """The stretches of noise within which no value changes, whatever the parents: (probability, their middle)."""
        ends = {0.0, 1.0}
        for chances in self.chances.values():
            reached = 0.0
            for chance in list(chances.values())[:-1]:
                reached += chance
                ends.add(min(1.0, reached))
        return tuple((high - low, (low + high) / 2) for low, high in pairwise(sorted(ends)) if high - low > 1e-12)


@dataclass(frozen=True)
class Equations:
    """Equations in an order in which parents come first. Raises `SpecError` where they do not, or one lacks a case."""

    equations: tuple[Equation, ...]

    def __post_init__(self):
        known: dict[str, tuple[str, ...]] = {}
        for one in self.equations:
            for parent in one.parents:
                if parent not in known:
                    raise SpecError(f"{one.name!r} has the parent {parent!r}, which is not defined before it")
            cases = set(product(*(known[parent] for parent in one.parents)))
            if cases != set(one.chances):
                odd = sorted(cases ^ set(one.chances))[0]
                raise SpecError(f"the chances of {one.name!r} should cover each case of {one.parents} once: see {odd}")
            if one.name in known:
                raise SpecError(f"{one.name!r} is defined twice")
            known[one.name] = one.values

    def __getitem__(self, name: str) -> Equation:
        for one in self.equations:
            if one.name == name:
                return one
        raise SpecError(f"there is no variable {name!r}: there are {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.equations)

    def ancestors(self, name: str) -> set[str]:
        """Every variable from which arrows lead to this one."""
        parents = self[name].parents
        return set(parents).union(*(self.ancestors(parent) for parent in parents))

    def draw(self, rng: Random) -> dict[str, float]:
        return {name: rng.random() for name in self.names}

    def values(self, noise: Noise, do: Values | None = None) -> dict[str, str]:
        """Every variable's value at this noise, those in `do` held at theirs."""
        do = self._checked(do)
        known: dict[str, str] = {}
        for one in self.equations:
            known[one.name] = do[one.name] if one.name in do else one.of(noise[one.name], known)
        return known

    def cells(self) -> Iterator[tuple[float, dict[str, float]]]:
        """Every case of the noise that can make a difference: its probability, and a noise in it."""
        for cell in product(*(one.stretches for one in self.equations)):
            yield math.prod(chance for chance, _ in cell), {n: at for n, (_, at) in zip(self.names, cell)}

    def probability(self, event: Values, do: Values | None = None) -> float:
        """P(event | do), exactly."""
        event = self._checked(event)
        return math.fsum(
            chance for chance, noise in self.cells() if event.items() <= self.values(noise, do).items()
        )  # fmt: skip

    def effect(self, event: Values, do: Values, against: Values) -> float:
        """The total effect P(event | do) - P(event | do(against)), exactly: a difference of probabilities."""
        return self.probability(event, do) - self.probability(event, against)

    def _checked(self, given: Values | None) -> Values:
        for name, value in (given or {}).items():
            if value not in self[name].values:
                raise SpecError(f"{name!r} cannot be {value!r}: its values are {', '.join(self[name].values)}")
        return given or {}


def root(name: str, **chances: float) -> Equation:
    """A variable without parents."""
    return Equation(name, {(): chances})


def two_valued(name: str, values: Sequence[str], parents: Sequence[str], first: Mapping) -> Equation:
    """A variable with two values, from the chance of the first for each case: a value of one parent, or a tuple."""
    one, other = values
    cases = {(case,) if isinstance(case, str) else case: chance for case, chance in first.items()}
    return Equation(name, {case: {one: chance, other: 1 - chance} for case, chance in cases.items()}, tuple(parents))
