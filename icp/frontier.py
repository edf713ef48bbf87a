"""Nested sets of units, measured jointly: what is left of the cue, and what it costs, as the set grows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from icp.errors import ArtefactError, IcpError, ProbeError
from icp.interventions import Affine, Intervention, MeanDonor
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, Property, TaskLoss
from icp.scores import Scores, budgets_of
from icp.selection import Choice, Selection, hooked, read_choices, write_choices
from icp.statistics import Clusters, standard_error
from icp.sweep.donors import Means, ReadsNothing, needed_sites
from icp.sweep.joint import require_disjoint
from icp.sweep.plan import Plan, clean_values, within_memory
from icp.units import Unit

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-frontier", 2


@dataclass(frozen=True, eq=False)
class Frontier:
    """Sets of the first `sizes[s]` of `choices`, each measured as a set on rows held out from the ranking.

    A set that was grown within budgets was also chosen on these rows, so that its curve flatters it: what it is worth
    is measured on others.

    `gap` [size, pair] is P(x) - P(x') under the intervention; `costs[name]` [size, example] is a loss, in nats, or a
    share of errors. Size 0, no intervention, comes first. `choices` are the units with the constants that cutting them
    needs. `clusters` are the templates and words of the pairs and, by name, of the costs' examples; where they are not
    given, standard errors take examples as independent.
    """

    sizes: tuple[int, ...]
    gap: np.ndarray
    costs: dict[str, np.ndarray]
    choices: tuple[Choice, ...]
    scores: tuple[float, ...]
    binding: dict[str, str]
    origin: dict[str, Any]
    clusters: Clusters | None = None
    cost_clusters: dict[str, Clusters] = field(default_factory=dict)

    def damage(self, cost: str) -> np.ndarray:
        """The rise [size, example] of one loss, in its unit."""
        return self.costs[cost] - self.costs[cost][:1]

    def table(self) -> "pandas.DataFrame":
        """One row a size: the mean absolute gap, the share of it that is left, and the rise of each loss."""
        import pandas

        gap = np.abs(self.gap)
        columns = {
            "gap": gap.mean(1),
            "gap_se": standard_error(gap, self.clusters),
            "gap_left": gap.mean(1) / (gap[0].mean() or np.nan),
        }
        for name, cost in self.costs.items():
            columns[f"damage {name}"] = self.damage(name).mean(1)
            columns[f"damage_se {name}"] = standard_error(self.damage(name), self.cost_clusters.get(name))
            columns[f"relative_damage {name}"] = self.damage(name).mean(1) / (cost[0].mean() or np.nan)
        return pandas.DataFrame(columns, index=pandas.Index(self.sizes, name="units"))

    def cost_unit(self, cost: str) -> str:
        """What a loss is measured in."""
        return self.origin.get("cost_units", {}).get(cost, "nats")

    def select(
        self,
        *,
        max_damage: float | Mapping[str, float] | None = None,
        top: int | None = None,
        threshold: float | None = None,
        regularise: float | None = None,
    ) -> Selection:
        """Decide, by exactly one rule.

        `max_damage`: the measured set with the smallest gap among those of which every loss rises by at most this, in
        its own unit (one number for all losses, or one a loss by name).
        `top`: the first k units. `threshold`: the units that score this much or more. With `regularise`, a second and
        lower threshold (or, beside `top` and `max_damage`, any score), units between the two get the role `regularise`.
        """
        rules = {"max_damage": max_damage, "top": top, "threshold": threshold}
        given = {name: value for name, value in rules.items() if value is not None}
        if len(given) != 1:
            raise IcpError(f"select takes exactly one of max_damage, top and threshold, got {given or 'none'}")
        if threshold is not None:
            chosen = tuple(c for c, score in zip(self.choices, self.scores) if score >= threshold)
            if not chosen:
                raise IcpError(f"no unit scores {threshold} or more: the best has {max(self.scores):.4g}")
        else:
            count = self._within(max_damage) if top is None else top
            if not 1 <= count <= len(self.choices):
                raise IcpError(f"top={top} is not between 1 and the {len(self.choices)} ranked units")
            chosen = self.choices[:count]
        if regularise is not None:
            given["regularise"] = regularise
            cut = set(chosen)
            rest = [(c, score) for c, score in zip(self.choices, self.scores) if c not in cut]
            moderate = tuple(Choice(c.unit, "regularise") for c, score in rest if score >= regularise)
            if not moderate:
                raise IcpError(
                    f"no unit that is not cut scores {regularise} or more: lower regularise, or leave it out"
                )
            chosen += moderate
        return Selection(
            chosen,
            self.binding,
            self.origin | {"rule": {name: dict(v) if isinstance(v, Mapping) else v for name, v in given.items()}},
        )

    def _within(self, max_damage: float | Mapping[str, float]) -> int:
        budgets, table = budgets_of(max_damage, self.costs), self.table()
        allowed = table[table.index > 0]
        for name, budget in budgets.items():
            least = allowed[f"damage {name}"].min() if len(allowed) else float("nan")
            allowed = allowed[allowed[f"damage {name}"] <= budget]
            if allowed.empty:
                raise IcpError(
                    f"no measured set keeps the rise of {name!r} within {budget} {self.cost_unit(name)}: "
                    f"the least is {least:.4g}"
                )
        allowed = allowed[allowed["gap"] < table["gap"].iloc[0]]
        if allowed.empty:
            raise IcpError(
                "no measured set within the budget makes the gap smaller: rank other units, or allow more damage"
            )
        return int(allowed["gap"].idxmin())

    def save(self, path: "str | Path") -> Path:
        """Write one safetensors file, from which `select` can be called again without a model."""
        tensors = {"gap": torch.from_numpy(self.gap)}
        tensors |= {f"cost.{name}": torch.from_numpy(cost) for name, cost in self.costs.items()}
        tensors |= {f"clusters.{name}": torch.from_numpy(codes) for name, codes in self.cost_clusters.items()}
        if self.clusters is not None:
            tensors["clusters"] = torch.from_numpy(self.clusters)
        about = {"sizes": self.sizes, "scores": self.scores, "binding": self.binding, "origin": self.origin}
        about["costs"] = list(self.costs)
        return write_choices(path, FORMAT, VERSION, self.choices, tensors, about)

    @classmethod
    def load(cls, path: "str | Path") -> "Frontier":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        choices, tensors, about = read_choices(path, FORMAT, VERSION)
        if "gap" not in tensors or not {"sizes", "scores", "costs"} <= set(about):
            raise ArtefactError(f"{path} is damaged (it lacks its gap, sizes, scores or costs): measure it again")
        gap, clusters = tensors.pop("gap").numpy(), tensors.pop("clusters", None)
        named = {
            part: {name.removeprefix(part): tensor.numpy() for name, tensor in tensors.items() if name.startswith(part)}
            for part in ("cost.", "clusters.")
        }
        if set(about["costs"]) != set(named["cost."]):
            raise ArtefactError(f"{path} has costs {sorted(named['cost.'])} of {about['costs']}: it is damaged")
        costs = {name: named["cost."][name] for name in about["costs"]}
        for rows in (gap, *costs.values()):
            if len(rows) != len(about["sizes"]):
                raise ArtefactError(f"{path} has {len(about['sizes'])} sizes but {len(rows)} rows: it is damaged")
        codes = None if clusters is None else clusters.numpy()
        for rows, found in ((gap, codes), *((costs.get(name), found) for name, found in named["clusters."].items())):
            if found is not None and (rows is None or found.shape != (rows.shape[1], 2)):
                raise ArtefactError(f"{path} has clusters of shape {found.shape}, of other examples: it is damaged")
        if len(choices) != len(about["scores"]):
            raise ArtefactError(f"{path} has {len(choices)} units but {len(about['scores'])} scores: it is damaged")
        sizes, scores = tuple(about["sizes"]), tuple(about["scores"])
        return cls(sizes, gap, costs, choices, scores, about["binding"], about["origin"], codes, named["clusters."])


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
    intervention must be one that weights can carry: `Mask("zero")`, `Mask("mean")` or `Scale(alpha)`.

    The sets are the first `sizes` units of the ranking (default: 1, 2, 4, ... and all). With `max_damage`, by which
    each loss may rise in its own unit (one number, or one a loss by name), the set is grown instead, one unit at a time
    in the order of the ranking: a unit with which a loss would rise by more, or the gap become no smaller, is passed
    over, and `origin["passed_over"]` says why. Such a set was chosen on these very rows: measure it on others.
    """
    affine = intervention.as_affine()
    if affine is None or affine.donor not in (None, MeanDonor()):
        raise IcpError(
            f"{intervention.label} cannot be written into weights: use Mask('zero'), Mask('mean') or Scale(alpha)"
        )
    if any(example.counterpart is None for example in probe.examples):
        raise ProbeError("a frontier needs pairs: use Probe.from_pairs")
    property = LogitDifference() if property is None else property
    costs = {"task": (probe.balanced(), TaskLoss())} if costs is None else dict(costs)
    if odd := [name for name in costs if not isinstance(name, str)]:
        raise IcpError(f"the cost {odd[0]!r} has no name: costs are named by strings")
    require_disjoint(model, ranking.units)
    choices = _choices(model, ranking.units, affine, probe if reference is None else reference)
    scores = [float(score) for score in ranking.table[ranking.by]]
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


def _choices(model: Model, units: list[Unit], affine: Affine, reference: Probe) -> tuple[Choice, ...]:
    """Units with the constants of the mask: the mean of each of their dimensions, or nothing."""
    if affine.donor is None:
        role = "prune" if affine.alpha == 0 else "scale"
        return tuple(Choice(unit, role, affine.alpha) for unit in units)
    means = mean_values(model, units, reference)
    return tuple(Choice(unit, "prune", 0.0, tuple(values)) for unit, values in zip(units, means))


def mean_values(model: Model, units: list[Unit], reference: Probe) -> list[list[float]]:
    """Each unit's mean value over the attended tokens of `reference`: one number, or d_head numbers for a head."""
    tokens = reference.tokenize(model.tokenizer, ReadsNothing())
    with model.frozen(), torch.no_grad():
        sites = needed_sites(model, [], units)
        longest = max(map(len, tokens.inputs))
        means = within_memory(Plan(max(1, 2048 // longest)), partial(Means, model, tokens, sites))[0].overall
    return [means[unit.site][list(model.site(unit).columns(unit))].tolist() for unit in units]
