"""From effects to judgements: pure functions, no model.

Sign convention: an indirect effect is positive where the unit carries the cue's effect in the direction in which the
cue as a whole pushes P; damage is positive where a loss rises. Standard errors are over examples, clustered by template
and by word (`icp.statistics`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from icp.effects import Effects
from icp.errors import IcpError
from icp.statistics import standard_error
from icp.units import Unit

if TYPE_CHECKING:
    import pandas

Weights = str | Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Scores:
    """One row a unit, best first by the column `by`; a unit that has no number there (NaN) comes last."""

    table: "pandas.DataFrame"
    by: str

    @property
    def units(self) -> list[Unit]:
        return [Unit.parse(u) for u in self.table.index]

    def head(self, count: int) -> "Scores":
        """The best `count` units; one without a number is never among them."""
        if count < 1:
            raise IcpError(f"head({count}) keeps no unit: ask for at least one")
        return Scores(self.measured.table.head(count), self.by)

    @property
    def measured(self) -> "Scores":
        """Without the units that have no number; raises `IcpError` where none has one."""
        found = self.table[self.table[self.by].notna()]
        if found.empty and len(self.table):
            raise IcpError(
                f"none of the {len(self.table)} units has a finite {self.by}: the model returned NaN or infinity under "
                "every edit; measure in float32"
            )
        return Scores(found, self.by)

    def joined(self, other: "Scores") -> "Scores":
        """One ranking of the units of both, such as a CLIP's two towers, by the column that both are ranked by.

        Raises `IcpError` where they are ranked by different columns, or a unit is in both.
        """
        import pandas

        if not isinstance(other, Scores):
            raise IcpError(f"a {type(other).__name__} is no ranking: join the Scores of another measurement")
        if self.by != other.by:
            raise IcpError(f"one ranking is by {self.by!r} and the other by {other.by!r}: rank both by the same")
        if both := sorted(set(self.table.index) & set(other.table.index)):
            raise IcpError(f"{both[0]} is in both rankings: join those of different units")
        rows = pandas.concat([self.table, other.table])
        return Scores(rows.sort_values(self.by, ascending=self.by == "damage", kind="stable"), self.by)

    def above(self, threshold: float) -> "Scores":
        """The units that score `threshold` or more."""
        return Scores(self.table[self.table[self.by] >= threshold], self.by)


def spuriousness(effects: Effects, weights: Weights = "uniform") -> Scores:
    """The literal score S(u) = E over inputs and interventions of w |dP|, with standard errors over examples.

    `weights` is `"uniform"`; `"harm"`, which counts only where the intervention turns a right answer wrong (P read as a
    logit difference, the label saying which sign is right) or, where there is no label, raises |P|; or a function of
    (clean [example], dP [unit, intervention, example]) that returns weights which broadcast to dP. A large S marks an
    important unit, which need not be a spurious one: rank by `selectivity`.
    """
    weighted = np.abs(effects.dP) * _weights(effects, weights)
    per_example = weighted.mean(1)
    columns = {"S": per_example.mean(1), "se": standard_error(per_example, effects.clusters)}
    for index, label in enumerate(effects.interventions):
        columns[f"S {label}"] = weighted[:, index].mean(1)
    return ranked(effects.header["units"], columns, "S")


def indirect_effect(effects: Effects, intervention: str = "swap:counterpart") -> Scores:
    """Causal mediation (Vig et al. 2020): IE(u) = P(x | do(u = u(x'))) - P(x), in the cue's direction.

    Each pair's effect is taken with the sign of its total effect P(x') - P(x), so that pairs which push P up and pairs
    which push it down do not cancel. `share` is the sum of these over the sum of |total effect|, NaN where that is 0.
    """
    if not np.isfinite(effects.total).all():
        raise IcpError("an indirect effect needs a counterpart for every example: use Probe.from_pairs")
    oriented = towards_counterpart(effects, intervention)
    whole = float(np.abs(effects.total).sum())
    columns = {
        "indirect_effect": oriented.mean(1),
        "se": standard_error(oriented, effects.clusters),
        "share": oriented.sum(1) / (whole or np.nan),
    }
    return ranked(effects.header["units"], columns, "indirect_effect")


def towards_counterpart(effects: Effects, intervention: str) -> np.ndarray:
    """dP [unit, example], positive where it moves P towards P(x')."""
    return effects.of(intervention) * np.sign(effects.total)


def damage(effects: Effects, intervention: str | None = None) -> Scores:
    """The mean rise of a loss under an intervention, in the loss's unit, least first.

    `intervention` is its label; it may be left out where only one was measured.
    """
    if not effects.header["property"].partition("(")[0].endswith("Loss"):
        raise IcpError(
            f"damage is the rise of a loss, these effects are of {effects.header['property']}: "
            "measure with property=TaskLoss() or NextTokenLoss()"
        )
    if intervention is None and len(effects.interventions) > 1:
        raise IcpError(f"name the intervention whose damage is meant: one of {', '.join(effects.interventions)}")
    dP = effects.of(intervention or effects.interventions[0])
    return ranked(
        effects.header["units"],
        {"damage": dP.mean(1), "se": standard_error(dP, effects.clusters)},
        "damage",
        ascending=True,
    )


def selectivity(
    cue: Effects | Scores,
    cost: Effects | Mapping[str, Effects],
    max_damage: float | Mapping[str, float] = 0.02,
) -> Scores:
    """The default ranking: largest indirect effect among units whose own damage stays within `max_damage`.

    `cue` holds effects of `Swap("counterpart")` (or is a ranking made from them), `cost` those of a mask on a loss, in
    nats, or several such by name, every one of which must stay within its budget (`max_damage` is then one number for
    all, or one a name). Units over the budget, and units without a finite effect or damage, are left out, so that a
    selection can never contain one.
    """
    carried = indirect_effect(cue) if isinstance(cue, Effects) else cue
    costs = {"": cost} if isinstance(cost, Effects) else dict(cost)
    if not costs:
        raise IcpError(
            "selectivity needs at least one cost: measure a mask with property=TaskLoss() or NextTokenLoss()"
        )
    budgets, table = budgets_of(max_damage, costs), carried.measured.table
    for name, effects in costs.items():
        spent = damage(effects).table
        missing = [unit for unit in table.index if unit not in spent.index]
        if missing:
            raise IcpError(
                f"{len(missing)} unit(s), such as {missing[0]}, have no measured damage: "
                "measure the cost of the same units"
            )
        spent = spent.loc[table.index]
        columns = {f"damage {name}".strip(): spent["damage"], f"damage_se {name}".strip(): spent["se"]}
        table = table.assign(**columns)[spent["damage"] <= budgets[name]]
        if table.empty:
            raise IcpError(f"no unit's damage {name + ' ' if name else ''}is within {budgets[name]}: raise max_damage")
    return Scores(table, carried.by)


def budgets_of(max_damage: float | Mapping[str, float], losses: Iterable[str]) -> dict[str, float]:
    """One budget a loss, in its unit; raises `IcpError` where the names are others, or a budget is no number."""
    losses = list(losses)
    if not losses:
        raise IcpError(f"max_damage={max_damage} without a loss limits nothing: give costs")
    budgets = dict(max_damage) if isinstance(max_damage, Mapping) else dict.fromkeys(losses, max_damage)
    if set(budgets) != set(losses):
        raise IcpError(f"max_damage names {sorted(budgets)}, the losses are {sorted(losses)}")
    for name, budget in budgets.items():
        if not isinstance(budget, Real) or math.isnan(budget):
            raise IcpError(f"max_damage of {name!r} is {budget!r}: give a number")
    return {name: float(budgets[name]) for name in losses}


def _weights(effects: Effects, weights: Weights) -> np.ndarray:
    if callable(weights):
        given = np.asarray(weights(effects.clean, effects.dP))
        try:
            return np.broadcast_to(given, effects.dP.shape)
        except ValueError as error:
            raise IcpError(
                f"weights of shape {given.shape} do not broadcast to dP's [unit, intervention, example], "
                f"here {effects.dP.shape}"
            ) from error
    if weights == "uniform":
        return np.ones(())
    if weights != "harm":
        raise IcpError(f"unknown weights {weights!r}: use 'uniform', 'harm' or a function of (clean, dP)")
    if not effects.header["property"].startswith("LogitDifference("):
        raise IcpError(
            "weights='harm' reads right and wrong from the sign of a logit difference: give a function instead"
        )
    after = effects.clean + effects.dP
    labels = [example["label"] for example in effects.header["examples"]]
    sign = np.array([0 if label is None else 1 if label == 0 else -1 for label in labels])
    turned_wrong = (effects.clean * sign > 0) & (after * sign <= 0)
    more_biased = (sign == 0) & (np.abs(after) > np.abs(effects.clean))
    return (turned_wrong | more_biased).astype(effects.dP.dtype)


def ranked(units: list[str], columns: dict[str, np.ndarray], by: str, ascending: bool = False) -> Scores:
    """A table of these columns [unit], sorted by one of them."""
    import pandas

    table = pandas.DataFrame(columns, index=pandas.Index(units, name="unit"))
    return Scores(table.sort_values(by, ascending=ascending, kind="stable"), by)
