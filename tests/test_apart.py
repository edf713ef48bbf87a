"""A penalty on pairs of its own equals the same penalty on these rows, beside an unchanged task."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS
from hypothesis import given
from hypothesis import strategies as st
from training import batch_step, gradients

import icp
from icp import baselines
from icp.rows import Rows

ANSWERS = (" she", " he")
ROWS = icp.Probe(tuple(icp.Example(text, None, ANSWERS, row % 2) for row, (text, _) in enumerate(EQUAL_PAIRS)))
PAIRS = icp.PreservingPairs(
    icp.Probe(
        tuple(icp.Example(*pair, ANSWERS, row % 2) for row, pair in enumerate((*EQUAL_PAIRS[::-1], *EQUAL_PAIRS)))
    )
)
UNITS = ["blocks.0.attn.hook_z[0]", "blocks.1.mlp.hook_post[3]"]


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model()


@pytest.mark.parametrize(
    "objective",
    (
        baselines.Consistency(2.0), baselines.LogitPairing(), icp.Invariance(UNITS),
        icp.Invariance(UNITS, divergence="cosine"),
    ),
    ids=lambda objective: type(objective).__name__,
)  # fmt: skip
def test_the_penalty_is_that_on_these_pairs_and_the_task_that_of_the_rows(model, objective):
    own = icp.OnPairs(objective, PAIRS, per_step=3)
    losses = icp.Losses.of(model, ROWS, [icp.baselines.Weighted((1.0,) * len(ROWS)), own])
    found = losses.step(list(range(len(ROWS))), number=2)
    drawn = own.rows_of(losses.looks_at[1], 2)
    part = icp.Probe(tuple(PAIRS.probe.examples[row] for row in drawn))
    step = batch_step(model, part, objective, number=2)
    expected = objective.penalty(replace(step, state=losses.states[1]))
    assert expected.item() > 0
    assert found.penalty.item() == pytest.approx(expected.item(), rel=1e-4)
    got, want = gradients(model, found.penalty), gradients(model, expected)
    assert max((got[name] - want[name]).abs().max().item() for name in want) < 1e-4 * max(
        value.abs().max().item() for value in want.values()
    )
    assert found.task.item() == pytest.approx(batch_step(model, ROWS).row_losses.mean().item(), rel=1e-5)


@given(per_step=st.integers(1, 6), rounds=st.integers(1, 3), seed=st.integers(0, 5))
def test_no_pair_comes_twice_in_a_round_and_every_pair_in_time(per_step, rounds, seed):
    rows = Rows.of(BY_NAME["llama"].model(), PAIRS)
    own = icp.OnPairs(baselines.Consistency(), PAIRS, per_step, seed)
    steps = len(PAIRS) // per_step
    for start in range(0, rounds * steps, steps):
        drawn = [own.rows_of(rows, start + number) for number in range(steps)]
        assert {len(step) for step in drawn} == {per_step}
        assert max(Counter(row for step in drawn for row in step).values()) == 1
    assert {row for number in range(60) for row in own.rows_of(rows, number)} == set(range(len(PAIRS)))


def test_a_run_with_pairs_of_its_own_says_so_and_resumes_to_the_same_bits(model, tmp_path):
    own = icp.OnPairs(icp.Invariance(UNITS), PAIRS, per_step=2)
    call = dict(invariance=own, arguments={"max_steps": 3, "per_device_train_batch_size": 2}, progress=False)
    first = icp.finetune(model, ROWS, folder=tmp_path / "run", **call)
    again = icp.finetune(model, ROWS, **call)
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), again.module.parameters()))
    plain = icp.finetune(model, ROWS, arguments=call["arguments"], progress=False)
    assert any(not torch.equal(a, b) for a, b in zip(first.module.parameters(), plain.module.parameters()))
    other = icp.OnPairs(icp.Invariance(UNITS), icp.PreservingPairs(PAIRS.probe.take(4)), per_step=2)
    with pytest.raises(icp.ArtefactError):
        icp.finetune(model, ROWS, folder=tmp_path / "run", **(call | {"invariance": other}))


def test_what_is_no_penalty_on_pairs_is_refused(model):
    with pytest.raises(icp.IcpError, match="CounterfactualAugmentation is no penalty"):
        icp.OnPairs(baselines.CounterfactualAugmentation(), PAIRS)
    with pytest.raises(icp.IcpError, match="Objective is no penalty"):
        icp.OnPairs(icp.Objective(), PAIRS)
    with pytest.raises(icp.IcpError, match="per_step=9 is not between 1 and the 6 pairs"):
        icp.OnPairs(baselines.Consistency(), PAIRS, per_step=9)
    flipping = icp.FlippingPairs(PAIRS.probe, tuple(1 - example.label for example in PAIRS.probe.examples))
    with pytest.raises(icp.ProbeError, match="label-preserving"):
        icp.Losses.of(model, ROWS, icp.OnPairs(baselines.Consistency(), flipping, per_step=2))
    contrast = icp.OnPairs(icp.Invariance(UNITS, divergence="contrastive"), PAIRS, per_step=1)
    with pytest.raises(icp.IcpError, match=r"with one row .* there is nothing to compare"):
        icp.finetune(model, ROWS, invariance=contrast, progress=False)
