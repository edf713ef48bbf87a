"""Erase the cue from units without cutting them: the directions along which a unit's values follow the cue.

For a unit with values a over the tokens of pairs, with mean m and covariance S, and the second moment D of a(x) - a(x')
at aligned tokens, let U be the eigenvectors of largest eigenvalue of S^-1/2 D S^-1/2: the directions in which the
counterpart accounts for most of the variance. Erasing replaces a by a - S^1/2 U U^T S^-1/2 (a - m). That is the
projection of LEACE (Belrose et al. 2023), which of all that erase these directions changes a the least, with the pairs'
differences in the place of a covariance with labels. Of a unit that is one number it leaves the mean.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from icp.errors import IcpError, ProbeError, UnitError
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.selection import Choice, Selection
from icp.sites import Site
from icp.sweep.donors import ReadsNothing, run_capturing
from icp.sweep.joint import require_disjoint
from icp.sweep.memory import within_memory
from icp.sweep.plan import Plan
from icp.units import Unit

SMALLEST = 1e-6
"""Eigenvalues below this share of the largest are taken for zero."""


def erasure(model: Model, units: "list[Unit | str]", pairs: Probe, *, rank: int = 1) -> Selection:
    """A selection that erases `rank` directions from each unit, fitted on pairs that differ in the cue alone.

    `icp.prune` writes it into the weights. Labels are not looked at. A unit that no pair moves is left out. Raises
    `UnitError` for units that are not heads, value dimensions or neurons, `IcpError` for a rank that a unit has not the
    dimensions for, or of which some directions would be arbitrary, since the pairs move the unit along fewer;
    `ProbeError` where a counterpart is missing or cannot be aligned.
    """
    found = [Unit.parse(unit) for unit in units]
    about = {"made": f"erase:{rank}", "pairs": len(pairs), "probe": pairs.digest}
    return Selection(directions(model, found, pairs, rank), model.binding, about)


def directions(model: Model, units: list[Unit], pairs: Probe, rank: int) -> tuple[Choice, ...]:
    """The choices of `erasure`."""
    for unit in units:
        width = len(model.site(unit).columns(unit))
        if unit.kind not in ("head", "value", "neuron"):
            raise UnitError(f"nothing can be erased from {unit}: give heads, value dimensions or neurons")
        if not 1 <= rank <= width:
            raise IcpError(f"rank={rank} is not between 1 and the {width} dimension(s) of {unit}")
    require_disjoint(model, units)
    if any(example.counterpart is None for example in pairs.examples):
        raise ProbeError("the directions of a cue are found by pairs: give every example a counterpart")
    tokens = pairs.tokenize(model.tokenizer, ReadsNothing())
    tokens.require_alignment()
    longest = max(map(len, (*tokens.inputs, *tokens.counterparts)))
    plan = Plan(max(1, 1280 // longest))
    with model.frozen(), torch.no_grad():
        moments, _ = within_memory(plan, lambda plan: _moments(model, tokens, units, plan.batch_size))
    choices = []
    for unit in units:
        mean, covariance, difference = moments[unit]
        if difference.any():
            along, read = _directions(covariance, difference, rank)
            if len(along) < rank:
                raise IcpError(
                    f"rank={rank} is more than the {len(along)} direction(s) along which the pairs move {unit}: give a "
                    "smaller rank, or more pairs"
                )
            shift = (mean @ read.T @ along).tolist()
            choices.append(Choice(unit, "erase", 0.0, tuple(shift), tuple(map(tuple, along.tolist())),
                                  tuple(map(tuple, read.tolist()))))  # fmt: skip
    return tuple(choices)


def _directions(
    covariance: Float[Tensor, "width width"], difference: Float[Tensor, "width width"], rank: int
) -> tuple[Float[Tensor, "rank width"], Float[Tensor, "rank width"]]:
    """What is taken away, and what it is read off by: S^1/2 U and S^-1/2 U; fewer than `rank` where D has no more."""
    variance, axes = torch.linalg.eigh(covariance)
    kept = variance > SMALLEST * variance.max()
    root, axes = variance[kept].sqrt(), axes[:, kept]
    inverse = axes / root
    moved, found = torch.linalg.eigh(inverse.T @ difference @ inverse)
    most = found[:, moved > SMALLEST * moved.max()][:, -rank:]
    return (axes * root @ most).T, (inverse @ most).T


def _moments(
    model: Model, tokens: Tokens, units: list[Unit], rows: int
) -> dict[Unit, tuple[Float[Tensor, " width"], Float[Tensor, "width width"], Float[Tensor, "width width"]]]:
    """Of each unit, in float64: the mean and covariance over the tokens of both members, and D."""
    names = {unit.site for unit in units}
    sites = [site for name, site in model.sites.items() if name in names]
    columns = {unit: torch.tensor(list(model.site(unit).columns(unit)), device=model.device) for unit in units}
    total, square, apart, count = {}, {}, {}, 0
    for values in _pairs(model, tokens, sites, rows):
        count += sum(len(part) for part in next(iter(values.values()))[:2])
        for unit in units:
            x, other, difference = (part[:, columns[unit]].double() for part in values[unit.site])
            parts = x.sum(0) + other.sum(0), x.T @ x + other.T @ other, difference.T @ difference
            for sums, part in zip((total, square, apart), parts):
                sums[unit] = sums[unit] + part if unit in sums else part
    means = {unit: total[unit] / count for unit in units}
    return {
        unit: (mean, square[unit] / count - mean[:, None] * mean, 2 * apart[unit] / count)
        for unit, mean in means.items()
    }


def _pairs(
    model: Model, tokens: Tokens, sites: list[Site], rows: int
) -> Iterator[dict[str, tuple[Tensor, Tensor, Tensor]]]:
    """By site, of some rows at a time: the values [token, width] of x, of x', and x less x' at aligned tokens."""
    for some in torch.arange(len(tokens.inputs)).split(rows):
        batches = [
            model.pad([given[row] for row in some.tolist()], "right") for given in (tokens.inputs, tokens.counterparts)
        ]
        x, other = (run_capturing(model, batch, sites) for batch in batches)
        partners = torch.zeros_like(batches[0].ids)
        for place, row in enumerate(some.tolist()):
            positions = tokens.alignments[row].positions
            partners[place, : len(positions)] = torch.tensor(positions)
        mask, others = (batch.mask for batch in batches)
        yield {
            name: (x[name][mask], other[name][others], (x[name] - other[name].gather(
                1, partners[:, :, None].expand(-1, -1, x[name].shape[2])))[mask])
            for name in x
        }  # fmt: skip
