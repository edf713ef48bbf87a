"""What exact re-measuring said of first-order estimates, and what the two say together."""

import json
from dataclasses import dataclass

import numpy as np

from icp.control_variate import control_variate_mean
from icp.effects import Effects
from icp.errors import ArtefactError
from icp.scores import Scores, ranked, towards_counterpart
from icp.statistics import standard_error
from icp.units import Unit

WITHOUT_REFERENCE = ("swap:", "scale:", "mask:zero", "mask:resample")
"""How the labels begin of interventions that put in no mean over reference texts."""
OF_OTHER_EXAMPLES = ("mask:resample", "swap:example")
"""Those that put in what other examples of the probe have."""


@dataclass(frozen=True, eq=False)
class Audit:
    """Mean effects of the units that were both estimated and measured; `unit_of_P` is the unit of all of them.

    `signed` says that effects have a direction, so that the top is the largest of them and not the largest in absolute
    value. Correlations are over the units, NaN below three of them or where one side is constant. `not_finite` counts
    units that are left out, because the model gave no finite P under an edit of theirs.
    """

    units: tuple[Unit, ...]
    estimate: np.ndarray
    exact: np.ndarray
    exact_se: np.ndarray
    estimated_units: int
    intervention: str
    unit_of_P: str
    same_examples: bool
    signed: bool
    not_finite: int = 0

    @property
    def spearman(self) -> float:
        from scipy.stats import rankdata

        return _correlation(rankdata(self.estimate), rankdata(self.exact))

    @property
    def pearson(self) -> float:
        return _correlation(self.estimate, self.exact)

    @property
    def median_error(self) -> float:
        """The median absolute difference between estimate and exact effect."""
        return float(np.median(np.abs(self.estimate - self.exact)))

    @property
    def same_sign(self) -> float:
        """The share of the units whose estimate has the sign of the exact effect."""
        return float((np.sign(self.estimate) == np.sign(self.exact)).mean())

    def overlap(self, k: int) -> float:
        """The share of the exact top k that is in the estimated top k, among the units measured exactly."""
        if not 1 <= k <= len(self.units):
            raise ArtefactError(f"k={k} is not between 1 and the {len(self.units)} units that were measured exactly")
        return len(self._top(self.estimate, k) & self._top(self.exact, k)) / k

    def _top(self, values: np.ndarray, k: int) -> set[int]:
        key = values if self.signed else np.abs(values)
        return set(np.argsort(-key, kind="stable")[:k].tolist())


def audit(estimates: Effects, exact: Effects, intervention: str) -> Audit:
    """Compare the estimated and exact mean effects of one intervention, over the units that both hold.

    Where the exact effects are of some of the estimates' examples, the estimates' means are taken over the same ones.
    Raises `ArtefactError` where the two are of different models, properties, positions or, for a mean mask, reference
    texts, where what is put in depends on the examples and these differ, or where no finite unit is in common.
    """
    place, common = _shared_units(estimates, exact, [intervention])
    kept = _same_examples(estimates, exact)
    mine, _ = unit_means(estimates, intervention, kept)
    theirs, se = unit_means(exact, intervention)
    here = [row for row in common if np.isfinite(mine[place[exact.header["units"][row]]] + theirs[row])]
    if not here:
        raise ArtefactError(
            f"none of the {len(common)} units that were both estimated and measured exactly has a finite effect: "
            "measure in float32"
        )
    names = [exact.header["units"][row] for row in here]
    return Audit(
        tuple(Unit.parse(name) for name in names),
        mine[[place[name] for name in names]],
        theirs[here],
        se[here],
        len(place),
        intervention,
        exact.header["unit_of_P"],
        kept is not None,
        paired(exact),
        len(common) - len(here),
    )


def controlled_spuriousness(exact: Effects, estimates: Effects) -> Scores:
    """S(u) = E |dP| over all examples that were estimated, of the units measured exactly on a random sample of them.

    Such a sample is `probe.take(count, seed)`. `S` and its standard error `se`, over the draw of the sample, are those
    of `icp.control_variate_mean`, with mean |estimate| of the same units as control variate and the coefficient `beta`;
    `S sample` is what the exact effects alone say. All interventions count alike, as in `icp.spuriousness`.

    Raises `ArtefactError` where the two are not of the same model, property, positions, interventions or reference, or
    where an example that was measured exactly was not estimated.
    """
    if estimates.interventions != exact.interventions:
        raise ArtefactError(
            f"the estimates are of {', '.join(estimates.interventions)}, the exact effects of "
            f"{', '.join(exact.interventions)}: measure both alike"
        )
    place, common = _shared_units(estimates, exact, exact.interventions)
    chosen = _same_examples(estimates, exact)
    if chosen is None:
        raise ArtefactError("some examples were measured exactly but not estimated: estimate the whole probe")
    names = [exact.header["units"][row] for row in common]
    sampled = np.abs(exact.dP[common].astype(float)).mean(1)
    whole = np.abs(estimates.dP[[place[name] for name in names]].astype(float)).mean(1)
    found = control_variate_mean(sampled, whole, chosen)
    columns = {"S": found.mean, "se": found.standard_error, "S sample": sampled.mean(1), "beta": found.beta}
    return ranked(names, columns, "S")


def _shared_units(estimates: Effects, exact: Effects, interventions: list[str]) -> tuple[dict[str, int], list[int]]:
    """Rows of the estimates by unit, and rows of the exact effects that were estimated too.

    Raises `ArtefactError` where there are none, or where the two cannot be compared.
    """
    without = all(label.startswith(WITHOUT_REFERENCE) for label in interventions)
    for key, mine, theirs in (
        *((key, estimates.header["binding"][key], exact.header["binding"][key]) for key in ("weights", "tokenizer")),
        *(
            (key, estimates.header.get(key), exact.header.get(key))
            for key in ("config", "buffers", "property", "positions", *(() if without else ("reference",)))
        ),
    ):
        if mine != theirs:
            raise ArtefactError(
                f"the estimates are of another {key} ({mine}) than the exact effects ({theirs}): measure both alike"
            )
    if estimates.header["examples"] != exact.header["examples"]:
        for label in interventions:
            own_mean = not label.startswith(WITHOUT_REFERENCE) and exact.header["reference"] is None
            if own_mean or label.startswith(OF_OTHER_EXAMPLES):
                way_out = "give both the same reference=" if own_mean else "measure both on the same probe"
                raise ArtefactError(
                    f"{label} puts in what the probe's own examples have, and the estimates are of other examples than "
                    f"the exact effects: {way_out}"
                )
    place = {unit: row for row, unit in enumerate(estimates.header["units"])}
    common = [row for row, unit in enumerate(exact.header["units"]) if unit in place]
    if not common:
        raise ArtefactError("no unit was both estimated and measured exactly: give effects that share units")
    return place, common


def paired(effects: Effects) -> bool:
    """Whether every example has a counterpart, so that effects have a direction: towards x'."""
    return bool(np.isfinite(effects.total).all())


def unit_means(effects: Effects, intervention: str, examples: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Each unit's mean dP and its standard error over examples, in the cue's direction where there are pairs."""
    dP = towards_counterpart(effects, intervention) if paired(effects) else effects.of(intervention)
    dP = dP.astype(float)
    clusters = effects.clusters
    if examples is not None:
        dP, clusters = dP[:, examples], clusters[examples]
    return dP.mean(1), standard_error(dP, clusters)


def _same_examples(estimates: Effects, exact: Effects) -> list[int] | None:
    """Where the examples of the exact effects are among those of the estimates, each at a place of its own.

    None where some are not.
    """
    places: dict[str, list[int]] = {}
    for place, example in reversed(list(enumerate(estimates.header["examples"]))):
        places.setdefault(json.dumps(example, sort_keys=True), []).append(place)
    found = []
    for example in exact.header["examples"]:
        mine = places.get(json.dumps(example, sort_keys=True))
        if not mine:
            return None
        found.append(mine.pop())
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
