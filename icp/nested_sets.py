"""Measure nested sets of units jointly: the first k of a ranking, or a set grown within budgets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from icp.bound import Property
from icp.erasure import directions
from icp.errors import IcpError, ProbeError
from icp.frontier import Frontier
from icp.interventions import Erase, Intervention, MeanDonor
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, TaskLoss
from icp.scores import Scores, budgets_of
from icp.selection import Choice, hooked
from icp.sweep.donors import Means, ReadsNothing, needed_sites
from icp.sweep.joint import require_disjoint, require_reached
from icp.sweep.memory import within_memory
from icp.sweep.plan import Plan, clean_values
from icp.units import Unit


def frontier(
    model: Model,
    probe: Probe,
    ranking: Scores,
    intervention: Intervention,
    *,
    property: Property | None = None,
    costs: Mapping[str, tuple[Probe, Property]] | None = None,
    sizes: Sequence[int] | None = None,
    max_damage: float | Mapping[str, float] | None = None,
    reference: Probe | None = None,
    progress: bool = True,
) -> Frontier:
    """Measure nested sets of the ranked units as sets, on pairs that the ranking has not seen.

    The gap of `property` (default: the logit difference) is measured on `probe`; `costs` are losses by name, each with
    the inputs it is measured on (default: `{"task": (probe.balanced(), TaskLoss())}`). Mean masks take the mean over
    `reference` (default: `probe`), and the very same constants are what a selection carries and `icp.prune` folds. The
    intervention must be one that weights can carry: `Mask("zero")`, `Mask("mean")`, `Scale(alpha)`, or `Erase(rank)`,
    whose directions are fitted on the pairs of `reference`: it has to be given, and others than `probe`, on which the
    gap left would look smaller than it is.

    The sets are the first `sizes` units of the ranking (default: 1, 2, 4, ... and all). With `max_damage`, by which
    each loss may rise in its own unit (one number, or one a loss by name), the set is grown instead, one unit at a time
    in the order of the ranking: a unit with which a loss would rise by more, or the gap become no smaller, is passed
    over, and `origin["passed_over"]` says why. Such a set was chosen on these very rows: measure it on others.
    """
    if any(example.counterpart is None for example in probe.examples):
        raise ProbeError("a frontier needs pairs: use Probe.from_pairs")
    if isinstance(intervention, Erase) and reference is None:
        raise IcpError(
            "the directions that Erase takes away are fitted on pairs: give reference=, such as the pairs that the "
            "ranking was made on; fitted on those that are measured, the gap left would look smaller than it is"
        )
    property = LogitDifference() if property is None else property
    costs = {"task": (probe.balanced(), TaskLoss())} if costs is None else dict(costs)
    if odd := [name for name in costs if not isinstance(name, str)]:
        raise IcpError(f"the cost {odd[0]!r} has no name: costs are named by strings")
    ranking = ranking.measured
    for unit in ranking.units:
        require_reached(model, unit)
    require_disjoint(model, ranking.units)
    choices = choices_of(model, ranking.units, intervention, probe if reference is None else reference)
    score_of = dict(zip(ranking.units, ranking.table[ranking.by]))
    scores = [float(score_of[choice.unit]) for choice in choices]
    both = probe.balanced()
    origin: dict[str, Any] = {
        "ranking": ranking.by,
        "intervention": intervention.label,
        "property": property.label,
        "pairs": len(probe),
        "costs": {name: f"{loss.label} on {len(inputs)} inputs" for name, (inputs, loss) in costs.items()},
        "cost_units": {name: loss.unit for name, (_, loss) in costs.items()},
    }

    def gap_of(members: Sequence[Choice]) -> np.ndarray:
        with hooked(model, members):
            p = clean_values(model, both, property)
        return p[: len(probe)] - p[len(probe) :]

    def loss_of(name: str, members: Sequence[Choice]) -> np.ndarray:
        with hooked(model, members):
            return clean_values(model, *costs[name])

    if max_damage is None:
        sizes = _sizes(sizes, len(choices))
        measured = [
            _Set(choices[:size], gap_of(choices[:size]), {name: loss_of(name, choices[:size]) for name in costs})
            for size in tqdm(sizes, unit="set", desc="frontier", disable=not progress, leave=False)
        ]
    elif sizes is not None:
        raise IcpError(f"sizes={tuple(sizes)} and max_damage={max_damage} say two things: give one of them")
    else:
        budgets = budgets_of(max_damage, costs)
        bar = tqdm(choices, unit="unit", desc="frontier", disable=not progress, leave=False)
        measured, passed_over = _grown(bar, gap_of, loss_of, budgets)
        if len(measured) == 1:
            unit, why = next(iter(passed_over.items()))
            raise IcpError(
                f"none of the {len(passed_over)} ranked units can be cut within the budget ({unit}: {why}): "
                "allow more damage, or rank other units"
            )
        kept = {choice.unit for choice in measured[-1].members}
        scores = [score for choice, score in zip(choices, scores) if choice.unit in kept]
        choices = measured[-1].members
        sizes = tuple(range(len(measured)))
        origin |= {"max_damage": budgets, "passed_over": passed_over}
    gap = np.stack([one.gap for one in measured])
    spent = {name: np.stack([one.losses[name] for one in measured]) for name in costs}
    clusters = {name: inputs.clusters for name, (inputs, _) in costs.items()}
    return Frontier(
        sizes, gap, spent, choices, tuple(scores), model.binding, origin, probe.clusters, clusters
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Set:
    """A set of units with its gap [pair] and its losses [example] by name."""

    members: tuple[Choice, ...]
    gap: np.ndarray
    losses: dict[str, np.ndarray]


def _grown(
    choices: Iterable[Choice],
    gap_of: Callable[[Sequence[Choice]], np.ndarray],
    loss_of: Callable[[str, Sequence[Choice]], np.ndarray],
    budgets: dict[str, float],
) -> tuple[list[_Set], dict[str, str]]:
    """The nested sets that keep every budget and narrow the gap at every step, and why other units are in none."""
    sets = [_Set((), gap_of(()), {name: loss_of(name, ()) for name in budgets})]
    passed_over: dict[str, str] = {}
    for choice in choices:
        members = (*sets[-1].members, choice)
        gap = gap_of(members)
        if np.abs(gap).mean() >= np.abs(sets[-1].gap).mean():
            passed_over[str(choice.unit)] = "the gap becomes no smaller"
            continue
        losses: dict[str, np.ndarray] = {}
        for name, budget in budgets.items():
            losses[name] = loss_of(name, members)
            if (losses[name] - sets[0].losses[name]).mean() > budget:
                passed_over[str(choice.unit)] = f"{name!r} would rise too far"
                break
        else:
            sets.append(_Set(members, gap, losses))
    return sets, passed_over


def _sizes(sizes: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """0 and the sizes asked for, by default the powers of two and all."""
    if sizes is None:
        sizes = [2**power for power in range(count.bit_length()) if 2**power < count] + [count]
    sizes = tuple(sorted({0, *sizes}))
    if not 0 < sizes[-1] <= count or sizes[0] < 0:
        raise IcpError(f"sizes go from 1 to the {count} ranked units, got {sizes[1:]}")
    return sizes


def choices_of(model: Model, units: list[Unit], intervention: Intervention, reference: Probe) -> tuple[Choice, ...]:
    """Units with the constants that cutting them needs: for a mean mask the mean of each of their dimensions.

    Raises `IcpError` for an intervention that weights cannot carry.
    """
    if isinstance(intervention, Erase):
        return directions(model, units, reference, intervention.rank)
    affine = intervention.as_affine()
    if affine is None or affine.donor not in (None, MeanDonor()):
        raise IcpError(
            f"{intervention.label} cannot be written into weights: use Mask('zero'), Mask('mean'), Scale(alpha) "
            "or Erase(rank)"
        )
    if affine.donor is None:
        role = "prune" if affine.alpha == 0 else "scale"
        return tuple(Choice(unit, role, affine.alpha) for unit in units)
    means = mean_values(model, units, reference)
    return tuple(Choice(unit, "prune", 0.0, tuple(values)) for unit, values in zip(units, means))


def mean_values(model: Model, units: list[Unit], reference: Probe) -> list[list[float]]:
    """Each unit's mean value over the attended tokens of `reference`: one number, or d_head numbers for a head.

    Of a text tower under captions these are the captions' tokens.
    """
    means: dict[str, Tensor] = {}
    with model.frozen(), torch.no_grad():
        for tower in model.towers:
            if mine := [unit for unit in units if model.holding(unit) is tower]:
                tokens = reference.tokenize(tower.tokenizer, ReadsNothing())
                longest = max(map(len, tokens.inputs))
                told = partial(Means, tower, tokens, needed_sites(tower, [], mine))
                means |= within_memory(Plan(max(1, 2048 // longest)), told)[0].overall
    return [means[unit.site][list(model.holding(unit).site(unit).columns(unit))].tolist() for unit in units]
