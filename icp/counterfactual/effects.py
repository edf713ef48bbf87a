"""Is a cue in the data, and is it in the model? Its association with the label beside its effects on the answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from icp.counterfactual.association import association
from icp.counterfactual.spec import Spec
from icp.errors import ProbeError
from icp.interventions import Swap
from icp.model import Model
from icp.pairs import Pairs
from icp.probes import Probe
from icp.properties import ClassProbability
from icp.statistics import Clusters, mean_interval
from icp.sweep.linear import Linear
from icp.sweep.measure import measure
from icp.sweep.plan import clean_values
from icp.units import Unit

if TYPE_CHECKING:
    import pandas

COLUMNS = ("where", "quantity", "before", "after", "group", "unit", "estimate", "low", "high", "n", "share",
           "share_low", "share_high")  # fmt: skip


@dataclass(frozen=True, eq=False)
class CueEffects:
    """What a `variable` does to the class named `answer`, in the data and in the model; each line is told by name."""

    variable: str
    answer: str
    level: float
    lines: tuple[dict[str, Any], ...]

    def table(self) -> "pandas.DataFrame":
        """A line a quantity, from the value `before` to the value `after`, with its interval at `level`.

        `where` is `data` (risk difference and odds ratio of the class, by `group`) or `model` (total effect, and the
        indirect effect through each `unit`, both differences of the probability of the class). `share` is an indirect
        effect over the total one; its interval is the delta method's, and NaN where that of the total effect holds 0.
        Of data `n` counts texts, of the model pairs.
        """
        import pandas

        return pandas.DataFrame(list(self.lines), columns=list(COLUMNS))


def cue_effects(
    model: Model,
    pairs: Pairs,
    data: Iterable[Any],
    *,
    spec: Spec,
    variable: str,
    answer: int = 1,
    units: Sequence[Unit | str] = (),
    by: str | None = None,
    method: str | Linear = "exact",
    level: float = 0.95,
    batch_size: int | None = None,
    progress: bool = True,
) -> CueEffects:
    """How a variable goes with class number `answer` in `data`, and what it does to the model's probability of it.

    `pairs` differ in the variable alone and name its values as groups, as `MadePairs.to_pairs` gives them. The total
    effect is the mean of P(x') - P(x), every pair read from the value that the spec has first to the other. The
    indirect effect through a unit is that of x with the unit's activation from x' (causal mediation, Vig et al. 2020;
    `icp.measure` by `method`); a pair that goes the other way counts with the opposite sign. P is the probability of
    answer number `answer` among the answers. Intervals are over pairs, clustered by template and word. Effects of
    single units do not add up: `icp.measure_sets` measures them together.

    What this does not know. The data's lines are associations: a variable that nobody measured may cause the cue and
    the label both, so that they say nothing of what changing the cue would do. The model's lines are effects of these
    edits on these texts: they are the cue's as far as the edits change nothing else, they say nothing of other words
    for the same cue, and nothing of units that were not measured. Intervals are of the draw of texts and pairs, not of
    training another model, and each is for itself: of 20 units without an effect, one interval at 95% misses 0. Units
    that were chosen for their effects on these very pairs have effects that are too large here, and intervals that do
    not know it: choose them on other pairs. Where a unit's effect depends on the rest of the input, as it does where
    units back each other up, pairs that go the two ways have different indirect effects (pure and total; Pearl 2001),
    and the mean is of both.

    Raises `ProbeError` where a pair does not name two values of the variable, or is not of the kind that it makes.
    """
    if type(pairs) is not spec.kind_of(variable):
        raise ProbeError(
            f"an edit of {variable!r} makes {spec.kind_of(variable).kind} pairs, and {pairs.kind} ones were given"
        )
    probe, values = pairs.probe, spec.variable(variable).finder.values
    contrasts = _contrasts(probe, variable, values)
    none = dict.fromkeys(("unit", "share", "share_low", "share_high"))
    told = [none | {"where": "data"} | line
            for line in association(data, spec, variable, answer=answer, by=by, level=level)]  # fmt: skip
    property = ClassProbability(answer)
    if units:
        effects = measure(
            model, probe, units, Swap("counterpart"), property=property, method=method, batch_size=batch_size,
            progress=progress,
        )  # fmt: skip
        total = effects.total
        through = {unit: effects.dP[place, 0] for place, unit in enumerate(effects.header["units"])}
    else:
        total = clean_values(model, probe.swapped(), property) - clean_values(model, probe, property)
        through = {}
    whole = oriented_means(total, contrasts, values, probe.clusters, level)
    told += [line | {"where": "model", "quantity": "total effect"} for line in whole]
    for unit, changes in through.items():
        for line, of in zip(oriented_means(changes, contrasts, values, probe.clusters, level), whole):
            signs = _signs(contrasts, line["before"], line["after"])
            here, known = signs != 0, not of["low"] <= 0 <= of["high"]
            share = _share((changes * signs)[here], (total * signs)[here], probe.clusters[here], level, known)
            told.append(line | {"where": "model", "quantity": "indirect effect", "unit": unit} | share)
    return CueEffects(variable, spec.classes[answer], level, tuple(told))


def oriented_means(
    changes: Float[np.ndarray, " pair"],
    contrasts: Sequence[tuple[str, str]],
    values: Sequence[str],
    clusters: Clusters | None = None,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Of every two `values`, the mean change from the first to the second with its t-interval.

    `contrasts` has, of each pair, the value before and after; of pairs that go the other way the sign is turned. Values
    between which no pair goes have no line.
    """
    lines = []
    for before, after in combinations(values, 2):
        signs = _signs(contrasts, before, after)
        here = signs != 0
        if here.any():
            found = mean_interval((changes * signs)[here], None if clusters is None else clusters[here], level)
            ends = {"estimate": found["mean"], "low": found["low"], "high": found["high"], "n": found["n"]}
            lines.append({"before": before, "after": after, "group": "all", **ends})
    return lines


def _signs(contrasts: Sequence[tuple[str, str]], before: str, after: str) -> Int[np.ndarray, " pair"]:
    """1 for pairs from the one value to the other, -1 for those that go the other way, 0 for others."""
    return np.array([{(before, after): 1, (after, before): -1}.get(tuple(one), 0) for one in contrasts])


def _share(
    part: Float[np.ndarray, " pair"], whole: Float[np.ndarray, " pair"], clusters: Clusters, level: float, known: bool
) -> dict[str, float]:
    """Mean part over mean whole. By the delta method it varies as the mean of (part - share * whole) / mean whole.

    Without an interval where the mean of the whole is not `known` to be other than 0.
    """
    nan = float("nan")
    if not whole.mean():
        return {"share": nan, "share_low": nan, "share_high": nan}
    share = float(part.mean() / whole.mean())
    found = mean_interval((part - share * whole) / whole.mean(), clusters, level)
    low, high = (share + found["low"], share + found["high"]) if known else (nan, nan)
    return {"share": share, "share_low": low, "share_high": high}


def _contrasts(probe: Probe, variable: str, values: Sequence[str]) -> list[tuple[str, str]]:
    contrasts = []
    for row, example in enumerate(probe.examples):
        before, after = example.group, example.counterpart_group
        if before not in values or after not in values or before == after:
            raise ProbeError(
                f"row {row} ({example.text!r}) has the groups {before!r} and {after!r}: a pair that differs in "
                f"{variable!r} names two of its values, {', '.join(values)}"
            )
        contrasts.append((before, after))
    return contrasts
