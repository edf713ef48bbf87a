"""What `icp.verify` looks at, a function a check: whether it holds (None: does not apply) and what was seen."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icp.adapters import adapted, put_on
from icp.batch import Batch
from icp.bound import Property
from icp.drawn import drawn_pairs
from icp.finetune import finetune
from icp.finite_differences import derivatives
from icp.hooks import Reads, SiteEdits, edited
from icp.interventions import Intervention, Mask, Scale, Swap
from icp.loading import load
from icp.model import Model
from icp.nested_sets import choices_of
from icp.plain import Loop, plainly, through_the_view
from icp.probes import Probe
from icp.properties import LogitDifference, Similarity
from icp.prune import prune
from icp.selection import Choice, Selection
from icp.sweep.linear import Linear
from icp.sweep.measure import measure
from icp.tokenizing import encode
from icp.units import Unit
from icp.weights import copied, copied_in

CLOSE = 1e-6
"""How far two ways to a logit may lie apart in float64, as a share of the largest logit: some norms, and the attention
of some models, compute in float32 whatever the weights are."""

SINGLE = 1e-4
"""The same in float32."""

FIRST_ORDER = 1e-3
"""How far a unit's estimate may lie from finite differences, as a share of these."""

FAST = {"max_steps": 2, "per_device_train_batch_size": 3, "learning_rate": 1e-2, "logging_steps": 1}


@dataclass(frozen=True, eq=False)
class Case:
    """A model, inputs of its own words, and some of its units."""

    model: Model
    seed: int

    @cached_property
    def precise(self) -> Model:
        """A copy in float64."""
        return self._in(torch.float64)

    @cached_property
    def single(self) -> Model:
        """A copy in float32."""
        return self._in(torch.float32)

    def _in(self, dtype: torch.dtype) -> Model:
        return replace(self.model, module=copied_in(self.model.module, dtype).eval())

    @cached_property
    def probe(self) -> Probe:
        """Three pairs of two lengths that differ in one word."""
        return drawn_pairs(self.model, self.seed)

    @cached_property
    def read(self) -> Property:
        """P: the logit difference, or of a model without a head the cosine with a reference."""
        return Similarity() if self.model.family.represents else LogitDifference()

    @cached_property
    def scale(self) -> float:
        """What P is large beside: the largest logit, or a cosine's 1."""
        if self.model.family.represents:
            return 1.0
        with torch.no_grad(), self.precise.frozen():
            return float(self.precise.logits(self.batch).abs().max())

    @cached_property
    def pairs(self) -> Probe:
        """The same with two answers each at most: P is their difference."""
        return Probe(tuple(replace(example, answers=example.answers[:2]) for example in self.probe.examples))

    @cached_property
    def batch(self) -> Batch:
        """The inputs, padded on the right."""
        return self.model.pad([encode(self.model.tokenizer, example.text, "") for example in self.probe.examples])

    @property
    def whats(self) -> list[Intervention]:
        """What is done to units; the captions of an image and its counterpart are the same, so they are not swapped."""
        return [Mask("zero"), Mask("mean"), Scale(0.5), *[Swap("counterpart")] * (not self.model.family.abreast)]

    def units(self, *kinds: str) -> list[Unit]:
        """One unit of each kind in the first, the middle and the last block."""
        rng, blocks = random.Random(self.seed), len(self.model.blocks)
        chosen = []
        for kind in kinds:
            for layer in [None] if kind == "embed" else sorted({0, blocks // 2, blocks - 1}):
                site = self.model.at(kind, layer)
                head = rng.randrange(site.width // site.unit_width)
                index = (head, rng.randrange(site.unit_width)) if kind == "value" else (head,)
                chosen.append(Unit(site.name, index))
        return chosen

    def dP(self, units: list[Unit], whats: Any, probe: Probe | None = None, **options: Any) -> np.ndarray:
        """What `measure` finds on the copy in float64: [unit, intervention, example]."""
        probe, told = self.pairs if probe is None else probe, {"property": self.read, "progress": False}
        return measure(self.precise, probe, units, whats, **told, **options).dP


EVERY = ("head", "neuron", "value", "resid", "embed", "query", "key")


def _no_op(case: Case) -> tuple[bool, str]:
    model, batch = case.model, case.batch
    rows = torch.arange(len(batch.ids), device=model.device)
    ones = torch.ones(len(rows), dtype=model.dtype, device=model.device)

    def scaled(site):
        columns = torch.arange(site.width, device=model.device).expand(len(rows), -1)
        return SiteEdits(rows, columns, batch.mask, ones)

    with torch.no_grad(), model.frozen():
        clean = model.logits(batch)
        with edited([(site, scaled(site)) for site in model.sites.values()]):
            return torch.equal(model.logits(batch), clean), f"{len(model.sites)} sites scaled by 1 at once"


def _suffix(case: Case) -> tuple[bool, str]:
    model, batch = case.model, case.batch
    rows, positions = batch.mask.nonzero().unbind(1)
    reads = Reads(rows, positions)
    with torch.no_grad(), model.frozen():
        whole = model.read(batch, reads)
        starts = range(1, len(model.blocks) + model.family.whole_after)
        for start in starts:
            hidden = model.entering(batch, start, {}, [])
            if not torch.equal(model.read(batch, reads, start=start, hidden=hidden), whole):
                return False, f"entering block {start} gives other logits than the whole run"
    return True, f"bit-equal from {len(starts)} entrances"


def _plain_hooks(case: Case) -> tuple[bool, str]:
    units = case.units(*EVERY)
    got = case.dP(units, case.whats)
    want = Loop(case.precise, case.pairs, plainly(case.precise)).dP(units, case.whats)
    return _agree(case, got, want)


def _lens(case: Case) -> tuple[bool | None, str]:
    if case.model.unviewable is not None:
        return None, case.model.unviewable
    units, whats = case.units("head", "neuron", "value", "resid"), case.whats[::3]
    got = case.dP(units, whats)
    want = Loop(case.precise, case.pairs, through_the_view(case.precise, case.precise.view())).dP(units, whats)
    return _agree(case, got, want)


def _padding(case: Case) -> tuple[bool, str]:
    """In float32: in float64, attention that is not fused makes NaN of a row of which it sees padding only."""
    units, options = case.units(*EVERY), {"progress": False, "reference": case.pairs, "property": case.read}

    def dP(probe, **more):
        return measure(case.single, probe, units, case.whats, **options, **more).dP

    alone = np.concatenate([dP(Probe((each,))) for each in case.pairs.examples], 2)
    sides = [dP(case.pairs, padding_side=side) for side in ("left", "right")]
    return _agree(case, np.stack(sides), np.stack([alone, alone]), SINGLE)


def _agree(case: Case, got: np.ndarray, want: np.ndarray, close: float = CLOSE) -> tuple[bool, str]:
    apart = float(np.abs(got - want).max()) / case.scale
    moved = float(np.abs(want).max()) / case.scale
    of = "" if case.model.family.represents else " of the logit scale"
    return apart <= close < moved, f"{apart:.1e}{of} apart, effects up to {moved:.1e}"


def _cut(case: Case) -> tuple[bool, str]:
    model = case.precise
    units = [*case.units("head")[:1], *case.units("neuron")]
    sites = [model.site(unit) for unit in units]
    bias = [
        s.bias is not None or (model.family.mlp_bias if s.unit_width == 1 else model.family.attn_bias) for s in sites
    ]
    mean = [unit for unit, folds in zip(units, bias) if folds]
    embedded = [] if model.family.of_patches else case.units("embed")
    zero = [Choice(unit) for unit in [*units, *embedded] if unit not in mean]
    means = choices_of(model, mean, Mask("mean"), case.pairs) if mean else ()
    selection = Selection((*means, *zero), model.binding)
    with torch.no_grad(), model.frozen(), TemporaryDirectory() as folder:
        with selection.applied(model):
            hooked = model.logits(case.batch)
        cut = prune(model, selection)
        cut.save_pretrained(Path(folder) / "cut")
        towers = {"tower": model.family.tower, "captions": model.captions}
        again = load(str(Path(folder) / "cut"), dtype=torch.float64, **towers)
        there, saved = cut.logits(case.batch), again.logits(case.batch)
        apart, off = _apart(case, hooked, there), _apart(case, there, saved)
        changed = _apart(case, hooked, model.logits(case.batch))
        holds = max(apart, off) <= CLOSE < changed and again.selection == cut.selection
    return holds, f"{apart:.1e} and {off:.1e} apart, {len(mean)} means and {len(zero)} zeros change {changed:.1e}"


def _apart(case: Case, one: Tensor, other: Tensor) -> float:
    """The largest difference at attended tokens, as a share of the largest logit."""
    mask = case.batch.mask[:, : one.shape[1]]
    return float((one - other)[mask].abs().max() / one[mask].abs().max())


def _lora(case: Case) -> tuple[bool | None, str]:
    if case.model.family.represents:
        return None, "training needs classes or tokens to answer with, and there is no head that gives them"
    model, units = case.model, [*case.units("head")[:1], *case.units("neuron")]
    cut = prune(model, Selection.of(model, units))
    tuned = finetune(cut, case.probe, arguments=FAST, seed=case.seed, progress=False)
    kept = not any(tuned.site(unit).outgoing[list(tuned.site(unit).columns(unit))].any() for unit in units)
    adapters = adapted(copied(cut.module), tuned.tuning.config)
    put_on(adapters, tuned.tuning.weights)
    apart_model = replace(cut, module=adapters.get_base_model().eval())
    with torch.no_grad(), tuned.frozen():
        merged, apart, before = (each.logits(case.batch) for each in (tuned, apart_model, cut))
    off, moved = _apart(case, merged, apart), _apart(case, merged, before)
    near = SINGLE if model.dtype.itemsize > 2 else 0.1
    told = f"merged and not merged {off:.1e} apart after a change of {moved:.1e}, {len(units)} units stay cut"
    return kept and off <= near < moved, told if kept else "what was cut has weights again"


def _first_order(case: Case) -> tuple[bool, str]:
    """The estimate of a zero mask is minus the derivative of P along the unit's own values, to 1e-3 of that.

    Each unit is judged by its own size (the norm over the examples), by steps that are the same for all of them, which
    the estimates have no part in choosing. Where the differences are not known to that, the estimate must lie as close
    as they are known: of a normed query, whose length changes nothing, differences in float32 give noise. They must
    tell something: all must be known to 1e-3 of the largest derivative.
    """
    units = case.units(*EVERY)
    estimates = -case.dP(units, Mask("zero"), method=Linear(qk_fix=False))[:, 0]
    found = derivatives(lambda scales: case.dP(units, list(scales)))
    if found.resolution > FIRST_ORDER * found.sizes.max():
        return False, f"no steps at which finite differences agree: known to {found.resolution:.1e} at the best"
    apart = np.linalg.norm(estimates - found.values, axis=1)
    worst = int((apart - found.allowed(FIRST_ORDER)).argmax())
    if apart[worst] > found.allowed(FIRST_ORDER)[worst]:
        told = f"{apart[worst]:.1e} from {found.sizes[worst]:.1e}, known to {found.errors[worst]:.1e}"
        return False, f"the estimate of {units[worst]} lies {told}"
    known = apart <= FIRST_ORDER * found.sizes
    relative = (apart[known] / np.maximum(found.sizes[known], np.finfo(float).tiny)).max(initial=0)
    rest = len(units) - int(known.sum())
    less = f", {rest} within the noise of the differences" if rest else ""
    return True, f"{relative:.1e} relative at the worst of {len(units) - rest} units{less}"


CHECKS: dict[str, Callable[[Case], tuple[bool | None, str]]] = {
    "a no-op is bit-equal": _no_op,
    "a suffix gives the whole run": _suffix,
    "plain PyTorch hooks (float64)": _plain_hooks,
    "TransformerLens (float64)": _lens,
    "padding on either side (float32)": _padding,
    "hooked = cut = saved and loaded (float64)": _cut,
    "a LoRA step and merge": _lora,
    "first order = finite differences (float64)": _first_order,
}
