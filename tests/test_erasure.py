"""Erasing the cue's directions: the naive computation, what is left of the cue and of the rest, and what is refused."""

import sys

import numpy as np
import pandas
import pytest
import reference
import torch
from helpers import BY_NAME, EQUAL_PAIRS, make_probe, make_tokenizer

import icp
from icp.live import watched
from icp.sweep.plan import Plan

UNITS = ("blocks.0.attn.hook_z[1]", "blocks.1.attn.hook_z[2]", "blocks.1.attn.hook_z[0,3]", "blocks.1.mlp.hook_post[7]")
NAMES = ("llama", "gpt2", "gpt_neox")


def ranking(*units):
    table = pandas.DataFrame({"indirect_effect": range(len(units), 0, -1)}, index=pandas.Index(units, name="unit"))
    return icp.Scores(table, "indirect_effect")


def values(model, unit, pairs):
    """The unit's values [token, width] over both members of the pairs, and by member at aligned tokens."""
    tokens, site = pairs.tokenize(model.tokenizer), model.site(unit)
    found = []
    for x, other, alignment in zip(tokens.inputs, tokens.counterparts, tokens.alignments):
        both = []
        for sequence in (x, other):
            store = {}
            with torch.no_grad(), watched(model.module, [site], store):
                model.logits(model.pad([sequence]))
            both.append(store[site.name][0][:, list(site.columns(icp.Unit.parse(unit)))])
        found.append((both[0], both[1][list(alignment.positions)]))
    return tuple(torch.cat(member) for member in zip(*found))


@pytest.mark.parametrize("rank", (1, 3))
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_naive_computation(name, rank):
    model, pairs = BY_NAME[name].model(), make_probe()
    units = UNITS[:2] if rank > 1 else UNITS
    chosen = icp.erasure(model, list(units), pairs, rank=rank)
    assert [str(choice.unit) for choice in chosen.choices] == list(units)
    for choice in chosen.choices:
        matrix, mean = reference.erasing_matrix(model, choice.unit, pairs, rank)
        np.testing.assert_allclose(choice.kept, matrix, atol=1e-7)
        np.testing.assert_allclose(choice.shift, mean @ (np.eye(len(mean)) - matrix), atol=1e-7)


def test_of_a_single_number_the_mean_is_left():
    model, pairs = BY_NAME["gpt2"].model(), make_probe()
    chosen = icp.erasure(model, [UNITS[3]], pairs).choices[0]
    masked = icp.frontier(model, pairs, ranking(UNITS[3]), icp.Mask("mean"), reference=pairs.balanced(), progress=False)
    assert chosen.kept.item() == pytest.approx(0, abs=1e-12)
    assert chosen.shift == pytest.approx(masked.choices[0].shift)


@pytest.mark.parametrize("name", NAMES)
def test_what_follows_the_cue_is_gone_and_the_rest_is_left(name):
    model, pairs = BY_NAME[name].model(), make_probe()
    unit = UNITS[0]
    choice = icp.erasure(model, [unit], pairs).choices[0]
    along, read, shift = (torch.tensor(v, dtype=torch.float64) for v in (choice.along[0], choice.read[0], choice.shift))
    x, other = values(model, unit, pairs)
    before = torch.cat([x, other]) @ read
    after = torch.cat([x, other]) @ choice.kept + shift
    assert before.std() > 0.5, "it varied"
    assert (after @ read).std() < 1e-9, "and does not any more"
    others = torch.linalg.svd(along[None])[2][1:]
    torch.testing.assert_close(after @ others.T, torch.cat([x, other]) @ others.T, atol=1e-9, rtol=0)
    moved = ((x - other) @ choice.kept).square().sum()
    assert moved < 0.9 * (x - other).square().sum(), "less follows the cue than before"


def test_no_other_direction_follows_the_cue_more():
    model, pairs = BY_NAME["llama"].model(), make_probe()
    choice = icp.erasure(model, [UNITS[0]], pairs).choices[0]
    x, other = values(model, UNITS[0], pairs)
    everything = torch.cat([*values(model, UNITS[0], pairs), *values(model, UNITS[0], pairs.swapped())])

    def share(direction):
        return ((x - other) @ direction).square().mean() / (everything @ direction).var(correction=0)

    best = share(torch.tensor(choice.read[0], dtype=torch.float64))
    drawn = torch.randn(200, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert all(share(direction) < best for direction in drawn)


def test_labels_are_not_looked_at_and_order_does_not_count():
    model, pairs = BY_NAME["llama"].model(), make_probe()
    bare = icp.Probe(tuple(icp.Example(e.text, e.counterpart) for e in reversed(pairs.examples)))
    for one, other in zip(*(icp.erasure(model, list(UNITS), given).choices for given in (pairs, bare))):
        np.testing.assert_allclose(one.kept, other.kept, atol=1e-9)


@pytest.mark.parametrize("rows", (1, 2, 3))
def test_rows_a_pass_change_nothing(monkeypatch, rows):
    model, pairs = BY_NAME["gpt2"].model(), make_probe()
    whole = icp.erasure(model, list(UNITS), pairs).choices
    monkeypatch.setattr(sys.modules["icp.erasure"], "Plan", lambda _: Plan(rows))
    for one, other in zip(whole, icp.erasure(model, list(UNITS), pairs).choices):
        np.testing.assert_allclose(one.kept, other.kept, atol=1e-9)


def test_a_frontier_of_erased_units_measures_what_is_cut(tmp_path):
    model, pairs = BY_NAME["gpt2"].model(), make_probe()
    frontier = icp.frontier(model, pairs, ranking(*UNITS[:2]), icp.Erase(), reference=pairs, progress=False)
    frontier.save(tmp_path / "frontier")
    selection = icp.Frontier.load(tmp_path / "frontier").select(top=2)
    assert [choice.role for choice in selection.choices] == ["erase", "erase"]
    pruned = icp.prune(model, selection)
    gap = icp.evaluate(pruned, pairs, metrics=["gap"]).values[pruned.name]["gap"]
    np.testing.assert_allclose(np.abs(frontier.gap[2]), gap, atol=1e-8)


def test_a_frontier_does_not_fit_on_what_it_measures_unasked():
    with pytest.raises(icp.IcpError, match="fitted on pairs: give reference="):
        icp.frontier(BY_NAME["gpt2"].model(), make_probe(), ranking(*UNITS[:2]), icp.Erase(), progress=False)


def test_a_saved_selection_is_the_same(tmp_path):
    model = BY_NAME["gpt2"].model()
    chosen = icp.erasure(model, list(UNITS[:2]), make_probe(), rank=2)
    chosen.save(tmp_path / "selection")
    assert icp.Selection.load(tmp_path / "selection") == chosen


def test_a_unit_that_no_pair_moves_is_left_out():
    module = BY_NAME["llama"].module(torch.float64)
    with torch.no_grad():
        module.model.layers[1].mlp.gate_proj.weight[7] = 0
    model = icp.load(module, make_tokenizer())
    assert [str(unit) for unit in icp.erasure(model, list(UNITS), make_probe()).units] == list(UNITS[:3])


@pytest.mark.parametrize(
    ("units", "rank", "pairs", "error", "words"),
    [
        (["blocks.0.hook_resid_post[3]"], 1, make_probe(), icp.UnitError, r"nothing can be erased from blocks\.0"),
        (["hook_embed[3]"], 1, make_probe(), icp.UnitError, r"nothing can be erased from hook_embed\[3\]"),
        ([UNITS[0]], 9, make_probe(), icp.IcpError, r"rank=9 is not between 1 and the 8 dimension\(s\) of"),
        ([UNITS[3]], 2, make_probe(), icp.IcpError, r"rank=2 is not between 1 and the 1 dimension"),
        ([UNITS[0]], 0, make_probe(), icp.IcpError, "rank=0"),
        ([UNITS[0]], 1, icp.Probe.from_texts(["The old doctor"]), icp.ProbeError, "give every example a counterpart"),
        ([UNITS[0], "blocks.0.attn.hook_z[1,2]"], 1, make_probe(), icp.UnitError, "cover the same values"),
    ],
)  # fmt: skip
def test_what_is_refused(units, rank, pairs, error, words):
    with pytest.raises(error, match=words):
        icp.erasure(BY_NAME["llama"].model(), units, pairs, rank=rank)


def test_no_direction_is_erased_along_which_no_pair_moves():
    model, pair = BY_NAME["llama"].model(), icp.Probe.from_pairs([("The doctor", "The nurse")])
    assert len(icp.erasure(model, ["blocks.0.attn.hook_z[1]"], pair).choices[0].along) == 1
    with pytest.raises(
        icp.IcpError, match=r"rank=2 is more than the 1 direction\(s\) along which the pairs move block"
    ):
        icp.erasure(model, ["blocks.0.attn.hook_z[1]"], pair, rank=2)
    pairs = make_probe(EQUAL_PAIRS)
    with pytest.raises(icp.IcpError, match=r"rank=8 is more than the \d direction\(s\)"):
        icp.erasure(model, ["blocks.0.attn.hook_z[1]"], icp.Probe(pairs.examples[:1]), rank=8)
    assert len(icp.erasure(model, ["blocks.1.attn.hook_z[1]"], pairs, rank=8).choices[0].along) == 8


def test_single_effects_are_refused():
    with pytest.raises(icp.IcpError, match=r"Erase\(rank=1\) is fitted on pairs and has no single effects"):
        icp.measure(BY_NAME["llama"].model(), make_probe(), [UNITS[0]], icp.Erase())
    with pytest.raises(icp.IcpError, match="rank=0 erases nothing"):
        icp.Erase(0)


def test_a_unit_that_was_cut_cannot_be_erased_as_well():
    model, pairs = BY_NAME["llama"].model(), make_probe()
    pruned = icp.prune(model, icp.erasure(model, [UNITS[0]], pairs))
    with pytest.raises(icp.PruneError, match=r"was cut before \(role 'erase'\) and cannot have the role 'prune'"):
        icp.prune(pruned, icp.Selection.of(pruned, [UNITS[0]]))
