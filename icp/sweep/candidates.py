"""Ways to choose candidates for exact measuring that know nothing of the property: baselines for the estimates.

Each gives every unit a score, in the order in which the units are given. The largest scores come first, as the largest
absolute estimates do.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from icp.errors import UnitError
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.sites import Site
from icp.sweep.donors import ReadsNothing, needed_sites, run_capturing
from icp.sweep.memory import within_memory
from icp.sweep.plan import Plan
from icp.units import Unit


def at_random(units: Sequence[Unit | str], seed: int = 0) -> Float[np.ndarray, " unit"]:
    """Numbers in [0, 1) drawn with `seed`, no two the same; a unit's own does not depend on the order of the units."""
    parsed = _parsed(units)
    drawn = np.random.default_rng(seed).permutation(len(parsed)) / len(parsed)
    score = dict(zip(sorted(parsed), drawn))
    return np.array([score[unit] for unit in parsed])


def late_blocks(units: Sequence[Unit | str], seed: int = 0) -> Float[np.ndarray, " unit"]:
    """The number of the block, -1 for the embedding, and within a block `at_random`."""
    blocks = [-1 if unit.layer is None else unit.layer for unit in _parsed(units)]
    return np.array(blocks) + at_random(units, seed)


def high_variance(model: Model, probe: Probe, units: Sequence[Unit | str]) -> Float[np.ndarray, " unit"]:
    """The variance of a unit's activation over the attended tokens of the probe's inputs, summed over its dimensions.

    For a head that is the mean squared distance of its output from its mean. Raises `UnitError` for units the model
    does not have.
    """
    parsed = _parsed(units)
    columns = [(unit.site, list(model.site(unit).columns(unit))) for unit in parsed]
    tokens = probe.tokenize(model.tokenizer, ReadsNothing())
    sites = needed_sites(model, [], parsed)
    longest = max(map(len, tokens.inputs))
    with model.frozen():
        variances, _ = within_memory(Plan(max(1, 2048 // longest)), partial(_variances, model, tokens, sites))
    return np.array([variances[site][mine].sum() for site, mine in columns])


def _variances(model: Model, tokens: Tokens, sites: list[Site], plan: Plan) -> dict[str, np.ndarray]:
    """Per site the variance [width] of each value, in float64 from a mean that is taken first."""
    batch = model.pad(tokens.inputs)
    parts = torch.arange(len(tokens.inputs), device=model.device).split(plan.batch_size)
    count = batch.mask.sum().double()

    def mean_of(function) -> dict[str, torch.Tensor]:
        total: dict[str, torch.Tensor] = {}
        for rows in parts:
            for name, values in run_capturing(model, batch[rows], sites).items():
                part = function(name, values[batch.mask[rows]].double()).sum(0)
                total[name] = total[name] + part if name in total else part
        return {name: value / count for name, value in total.items()}

    mean = mean_of(lambda name, values: values)
    squares = mean_of(lambda name, values: (values - mean[name]).square())
    return {name: value.cpu().numpy() for name, value in squares.items()}


def _parsed(units: Sequence[Unit | str]) -> list[Unit]:
    parsed = [Unit.parse(unit) for unit in units]
    if not parsed:
        raise UnitError("no units were given: try model.units('head', 'neuron')")
    if len(set(parsed)) < len(parsed):
        raise UnitError(f"{len(parsed) - len(set(parsed))} unit(s) are given twice: score each once")
    return parsed
