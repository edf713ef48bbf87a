"""Nested sets of units, measured jointly: what is left of the cue, and what it costs, as the set grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icp.errors import ArtefactError, IcpError, ProbeError
from icp.interventions import Affine, Intervention, MeanDonor
from icp.model import Model
from icp.probes import Probe
from icp.properties import LogitDifference, Property, TaskLoss
from icp.scores import Scores
from icp.selection import Choice, Selection, read_choices, write_choices
from icp.statistics import Clusters, standard_error
from icp.sweep.donors import Means, ReadsNothing, needed_sites
from icp.sweep.joint import measure_sets, require_disjoint
from icp.sweep.plan import Plan, within_memory
from icp.units import Unit

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-frontier", 2


@dataclass(frozen=True, eq=False)
class Frontier:
    """Sets of the first `sizes[s]` units of a ranking, each measured as a set on rows held out from the ranking.

    `gap` [size, pair] is P(x) - P(x') under the intervention; `costs[name]` [size, example] is a loss, in nats.
    Size 0, no intervention, comes first. `choices` are the ranked units with the constants that cutting them needs.
    `clusters` are the templates and words of the pairs and, by name, of the costs' examples; where they are not given,
    standard errors take examples as independent.
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
        """The rise [size, example] of one loss, in nats."""
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

    def select(
        self,
        *,
        max_damage: float | Mapping[str, float] | None = None,
        top: int | None = None,
        threshold: float | None = None,
        regularise: float | None = None,
    ) -> Selection:
        """Decide, by exactly one rule.

        `max_damage`: the measured set with the smallest gap among those of which every loss rises by at most this many
        nats (one number for all losses, or one a loss by name).
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
        budgets = dict(max_damage) if isinstance(max_damage, Mapping) else dict.fromkeys(self.costs, max_damage)
        if set(budgets) != set(self.costs):
            raise IcpError(f"max_damage names {sorted(budgets)}, the measured losses are {sorted(self.costs)}")
        table = self.table()
        allowed = table[table.index > 0]
        for name, budget in budgets.items():
            least = allowed[f"damage {name}"].min() if len(allowed) else float("nan")
            allowed = allowed[allowed[f"damage {name}"] <= budget]
            if allowed.empty:
                raise IcpError(
                    f"no measured set keeps the rise of {name!r} within {budget} nats: the least is {least:.4g}"
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
        return write_choices(path, FORMAT, VERSION, self.choices, tensors, about)

    @classmethod
    def load(cls, path: "str | Path") -> "Frontier":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        choices, tensors, about = read_choices(path, FORMAT, VERSION)
        if "gap" not in tensors or not {"sizes", "scores"} <= set(about):
            raise ArtefactError(f"{path} is damaged (it lacks its gap, sizes or scores): measure it again")
        gap, clusters = tensors.pop("gap").numpy(), tensors.pop("clusters", None)
        named = {
            part: {name.removeprefix(part): tensor.numpy() for name, tensor in tensors.items() if name.startswith(part)}
            for part in ("cost.", "clusters.")
        }
        costs = named["cost."]
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
    reference: Probe | None = None,
    progress: bool = True,
) -> Frontier:
    """Measure the first 1, 2, 4, ... units of `ranking` as sets, on pairs that the ranking has not seen.

    The gap of `property` (default: the logit difference) is measured on `probe`; `costs` are losses by name, each with
    the inputs it is measured on (default: `{"task": (probe.balanced(), TaskLoss())}`). Mean masks take the mean over
    `reference` (default: `probe`), and the very same constants are what a selection carries and `icp.prune` folds. The
    intervention must be one that weights can carry: `Mask("zero")`, `Mask("mean")` or `Scale(alpha)`.
    """
    affine = intervention.as_affine()
    if affine is None or affine.donor not in (None, MeanDonor()):
        raise IcpError(
            f"{intervention.label} cannot be written into weights: use Mask('zero'), Mask('mean') or Scale(alpha)"
        )
    if any(example.counterpart is None for example in probe.examples):
        raise ProbeError("a frontier needs pairs: use Probe.from_pairs")
    units = ranking.units
    if sizes is None:
        sizes = [2**power for power in range(len(units).bit_length()) if 2**power < len(units)] + [len(units)]
    sizes = tuple(sorted({0, *sizes}))
    if not 0 < sizes[-1] <= len(units) or sizes[0] < 0:
        raise IcpError(f"sizes go from 1 to the {len(units)} ranked units, got {sizes[1:]}")
    property = LogitDifference() if property is None else property
    costs = {"task": (probe.balanced(), TaskLoss())} if costs is None else dict(costs)
    require_disjoint(model, units)
    choices = _choices(model, units, affine, probe if reference is None else reference)
    sets = [units[:size] for size in sizes]
    options = dict(reference=probe if reference is None else reference, progress=progress)
    both = probe.balanced()
    effects = measure_sets(model, both, sets, intervention, property=property, **options)
    p = effects.clean + effects.dP
    spent = {}
    for name, (inputs, loss) in costs.items():
        measured = measure_sets(model, inputs, sets, intervention, property=loss, **options)
        spent[name] = measured.clean + measured.dP
    scores = tuple(float(score) for score in ranking.table[ranking.by])
    origin = {
        "ranking": ranking.by,
        "intervention": intervention.label,
        "property": property.label,
        "pairs": len(probe),
        "costs": {name: f"{loss.label} on {len(inputs)} inputs" for name, (inputs, loss) in costs.items()},
    }
    gap = np.ascontiguousarray(p[:, : len(probe)] - p[:, len(probe) :])
    clusters = {name: inputs.clusters for name, (inputs, _) in costs.items()}
    return Frontier(sizes, gap, spent, choices, scores, model.binding, origin, probe.clusters, clusters)


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
