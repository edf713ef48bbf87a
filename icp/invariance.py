"""The regulariser: the answer must not change when units through which a cue passes are intervened on.

`weight * E_{x, I}[D(M(x), M(x | do(u = I(u) for u in F)))]`. The clean output is a detached target. What a swap puts in
stays on the graph: detached, nothing that writes the cue would get a gradient, and the model would learn to lean on the
cue through what was not swapped. Swapping all heads and neurons of pairs of equal length is label-preserving
consistency, in loss and gradient.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icp.divergence import OUTPUT, contrastive, cosine, js, kl, require_divergence
from icp.errors import IcpError, UnitError
from icp.interventions import CounterpartDonor, Intervention, MeanDonor, Swap, UnitDonor
from icp.live import replaced, watched
from icp.live_edits import edits_of
from icp.model import Model
from icp.pairs import PreservingPairs
from icp.rerank import Rerank, reranked
from icp.selection import Selection
from icp.sensitivity import lost, reference_effects
from icp.sites import Site
from icp.step import Objective, Step
from icp.sweep.joint import require_disjoint
from icp.units import Unit


@dataclass(frozen=True)
class Invariance(Objective):
    """Keep the output as it is under interventions on `units`, all of them together.

    `units` is a `Selection`, of which those with the role `regularise` are meant (all, where none has it), or a list. A
    selection has to be of the model that is trained; one made on other weights, such as those of a plainly fine-tuned
    model, asks for `weights="any"`.
    At each step one of `interventions` is drawn, and `units_per_step` of the units, where that is given (1 is the mean
    over single units). `divergence`: `kl` or `js` of the outputs, in nats; `cosine` or `contrastive` (InfoNCE over the
    batch, at `temperature`; 0 in a last batch of one row) of the residual stream at `representation`, a hook point such
    as `blocks.20.hook_resid_post` (default: the last), where an answer is read.

    A swap with the counterpart needs one in every training row.

    `keep` names causal units whose effect is not to shrink: those of a `Selection` with the role `keep`, or a list. The
    effect e is what masking all of them by zero adds to the log odds of what is right, log(p / (1 - p)) among the
    answers (of two, their logit difference) or, for a completion, of each token in the vocabulary; e0 is that of the
    model before training. `keep_weight * E_x[max(0, |e0| - sign(e0) e)]` is added, in logits: nothing where the effect
    has stayed, or grown in its own direction. It costs one more forward and backward.

    With `rerank` the units are candidates, of which those that carry most of the cue are regularised, chosen anew as
    training goes on (`icp.Rerank`); it needs counterparts, whatever the interventions. The choice is part of what a
    checkpoint holds.
    """

    units: "Selection | Sequence[Unit | str]"
    weight: float = 1.0
    interventions: Intervention | Sequence[Intervention] = field(default_factory=lambda: (Swap("counterpart"),))
    divergence: str = "kl"
    units_per_step: int | None = None
    representation: str | None = None
    temperature: float = 0.1
    seed: int = 0
    keep: "Selection | Sequence[Unit | str]" = ()
    keep_weight: float = 1.0
    rerank: Rerank | None = None
    weights: str = "same"
    selected: Selection | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self):
        require_divergence(self.divergence)
        given = self.interventions
        whats = (given,) if isinstance(given, Intervention) else tuple(given)
        object.__setattr__(self, "interventions", whats)
        units, keep = self.units, self.keep
        if isinstance(units, Selection):
            object.__setattr__(self, "selected", units)
            units = units.role("regularise") or [unit for unit in units.units if unit not in units.role("keep")]
        object.__setattr__(self, "units", tuple(Unit.parse(unit) for unit in units))
        if isinstance(keep, Selection):
            keep = keep.role("keep")
            if not keep:
                raise UnitError("no unit of the selection given as keep has the role 'keep'")
        object.__setattr__(self, "keep", tuple(Unit.parse(unit) for unit in keep))
        if not self.units or not whats:
            raise UnitError("an invariance needs at least one unit and one intervention")
        for name in ("weight", "temperature", "keep_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise IcpError(f"{name}={getattr(self, name)} has to be a positive number")
        if self.rerank is not None and self.rerank.top > len(self.units):
            raise IcpError(f"top={self.rerank.top} of Rerank is more than the {len(self.units)} candidates")
        most = len(self.units) if self.rerank is None else self.rerank.top
        if self.units_per_step is not None and not 1 <= self.units_per_step <= most:
            raise IcpError(f"units_per_step={self.units_per_step} is not between 1 and the {most} units")
        if self.representation is not None and self.divergence in OUTPUT:
            raise IcpError(f"representation={self.representation!r} goes with cosine or contrastive, not with "
                           f"{self.divergence!r}")  # fmt: skip
        for what in whats:
            affine = what.as_affine()
            donor = None if affine is None else affine.donor
            nothing = affine is None and type(what).replace is Intervention.replace
            if nothing or not (donor is None or isinstance(donor, CounterpartDonor | UnitDonor)
                    or (isinstance(donor, MeanDonor) and not donor.per_position)):  # fmt: skip
                raise IcpError(
                    f"{what.label} cannot be trained with, only measured: use a mask by zero or the mean, a scale, or "
                    "a swap with the counterpart or another unit"
                )

    @property
    def label(self) -> str:
        """With a digest of the units, which may be thousands; what is optional is told only where it is used."""
        optional = {"keep", "keep_weight", "rerank", "weights", "selected"}
        others = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in {"units"} | optional}
        others["interventions"] = [what.label for what in self.interventions]
        told = ", ".join(f"{name}={value!r}" for name, value in others.items())
        kept = f", keep={_told(self.keep)}, keep_weight={self.keep_weight}" if self.keep else ""
        again = "" if self.rerank is None else f", rerank={self.rerank}"
        return f"Invariance({_told(self.units)}, {told}{kept}{again})"

    def begin(self, model, rows):
        if self.selected is not None:
            self._require_fit(model, self.selected)
        if model.family.abreast and self.divergence not in OUTPUT:
            raise IcpError(
                f"divergence={self.divergence!r} compares what is read at one position, and captions are read at "
                "several: use 'kl' or 'js'"
            )
        require_disjoint(model, list(self.units))
        require_disjoint(model, list(self.keep))
        self._require_apart(model)
        self._require_there(model)
        for unit in self._lenders:
            self._require_width(model, unit)
        if self._swaps or self.rerank is not None:
            rows.require_pairs(PreservingPairs, "a swap with the counterpart" if self._swaps else "re-ranking")
            rows.require_alignment()
        self._place(model)
        state = {}
        if self.keep:
            state["kept"] = reference_effects(model, rows, list(self.keep))
        if self.rerank is not None:
            state["chosen"] = torch.full((self.rerank.top,), -1)
            state["since"] = torch.tensor([-1])
        return state

    def require_batch(self, rows, size):
        if self.divergence == "contrastive" and size == 1 and any(len(reads) == 1 for reads in rows.of_row):
            raise IcpError(
                "divergence='contrastive' compares the rows of a batch with each other, and with one row "
                "(per_device_train_batch_size, or per_step of OnPairs) there is nothing to compare: give at least 2, "
                "or use kl, js or cosine"
            )

    def watches(self, model):
        names = {unit.site for unit in self._lenders}
        if any(isinstance(_donor(what), MeanDonor) for what in self.interventions):
            names |= {unit.site for unit in self.units}
        places = [] if self.divergence in OUTPUT else [self._place(model)]
        return [site for name, site in model.sites.items() if name in names or site in places]

    def penalty(self, step):
        """The divergence and what was lost of the effect of the units to keep, times their weights."""
        penalty = self.weight * step.over_rows(self.divergences(step)).mean()
        if not self.keep:
            return penalty
        return penalty + self.keep_weight * step.over_rows(lost(step, list(self.keep), step.state["kept"])).mean()

    def divergences(self, step: Step) -> Float[Tensor, " read"]:
        """How far what is read is from what it is under this step's intervention."""
        random = np.random.default_rng([self.seed, step.number])
        what = self.interventions[int(random.integers(len(self.interventions)))]
        units = self._regularised(step)
        if self.units_per_step is not None:
            units = [units[i] for i in sorted(random.permutation(len(units))[: self.units_per_step])]
        edits, place, seen = edits_of(step, units, what), self._place(step.model), {}
        root = step.model.module
        if self.divergence in OUTPUT:
            with replaced(root, edits):
                logits = step.run(step.batch, step.reads)
            return {"kl": kl, "js": js}[self.divergence](step.logits.detach(), logits)
        with replaced(root, edits), watched(root, [place], seen):
            step.run(step.batch, step.reads)
        at = step.reads.rows, step.reads.positions
        clean, other = step.clean[place.name][at].detach(), seen[place.name][at]
        return cosine(clean, other) if self.divergence == "cosine" else contrastive(clean, other, self.temperature)

    def _regularised(self, step: Step) -> list[Unit]:
        """All units, or those chosen by the last re-ranking, which this is where one is due."""
        if self.rerank is None:
            return list(self.units)
        since = int(step.state["since"])
        if since < 0 or step.number >= since + self.rerank.every:
            step.state["chosen"].copy_(torch.tensor(reranked(step, self.units, self.rerank, self.seed)))
            step.state["since"].fill_(step.number)
        return [self.units[i] for i in step.state["chosen"].tolist()]

    def _require_there(self, model: Model) -> None:
        """Raise `UnitError` for units that were cut from the model: intervening on them would change nothing."""
        cut = set() if model.selection is None else set(model.selection.role("prune"))
        if gone := [unit for unit in self.units if unit in cut]:
            raise UnitError(
                f"{len(gone)} of the units, such as {gone[0]}, were pruned from {model.name}, so that intervening on "
                "them changes nothing: regularise others (role 'regularise')"
            )

    def _require_width(self, model: Model, lender: Unit) -> None:
        """Raise `UnitError` where another unit's values do not fit into those of a unit."""
        width = len(model.site(lender).columns(lender))
        for unit in self.units:
            mine = len(model.site(unit).columns(unit))
            if mine != width:
                raise UnitError(f"cannot swap a unit of width {mine} with {lender} of width {width}: {unit}")

    def _require_fit(self, model: Model, selection: Selection) -> None:
        """Raise `ArtefactError` for a selection of another model; what it cut itself is its own."""
        cut = {choice for choice in selection.choices if choice.cuts}
        if not cut or model.selection is None or not cut <= set(model.selection.choices):
            selection.require_fit(model, self.weights)

    def _place(self, model: Model) -> Site:
        first, last = model.at("resid", 0).name, model.at("resid", len(model.blocks) - 1).name
        name = self.representation or last
        if name not in model.sites or not model.sites[name].on_residual:
            raise UnitError(f"no residual stream {name!r} in {model.name}: it has {first} to {last}")
        return model.sites[name]

    def _require_apart(self, model: Model) -> None:
        """Raise `UnitError` for a unit that is to be kept and regularised."""
        taken = {(unit.site, column): unit for unit in self.units for column in model.site(unit).columns(unit)}
        for unit in self.keep:
            for column in model.site(unit).columns(unit):
                if (unit.site, column) in taken:
                    other = taken[unit.site, column]
                    raise UnitError(f"{unit} is kept and {other} regularised, which cover the same values: choose one")

    @property
    def _swaps(self) -> bool:
        return any(isinstance(_donor(what), CounterpartDonor) for what in self.interventions)

    @property
    def _lenders(self) -> list[Unit]:
        donors = map(_donor, self.interventions)
        return [donor.unit for donor in donors if isinstance(donor, UnitDonor)]


def _told(units: tuple[Unit, ...]) -> str:
    return f"{len(units)} units {hashlib.sha256(' '.join(map(str, units)).encode()).hexdigest()[:16]}"


def _donor(what: Intervention):
    return None if what.as_affine() is None else what.as_affine().donor
