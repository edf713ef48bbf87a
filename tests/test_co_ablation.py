"""Pairwise co-ablation against explicit sets, and on a planted backup."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from artefacts import co_ablation
from helpers import BY_NAME, make_probe, make_tokenizer
from reference import Naive, Plain
from scipy import stats

import icp
from icp.sections.limits import backed_up
from icp.statistics import clusters_of, standard_error
from icp.sweep import joint

CASE = BY_NAME["llama"]
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return CASE.model(torch.float64)


@pytest.mark.parametrize("batch_size", (1, 2, 3, None))
def test_pairs_equal_the_naive_loop(model, batch_size):
    units = ["blocks.0.attn.hook_z[1]", "blocks.0.mlp.hook_post[3]", "blocks.1.mlp.hook_post[0]", "hook_embed[2]"]
    got = icp.co_ablation(model, make_probe(), units, batch_size=batch_size, **QUIET)
    naive = Naive(Plain(model.module), make_tokenizer(), make_probe())
    for u, first in enumerate(units):
        for v, second in enumerate(units):
            want = naive.joint([first] if u == v else [first, second], icp.Mask("mean"))
            assert np.abs(got.both[u, v] - want).max() < 1e-9
            alone = naive.joint([first], icp.Mask("mean"))
            given = alone if u == v else want - naive.joint([second], icp.Mask("mean"))
            assert np.abs(got.given[u, v] - given).max() < 1e-9
    assert np.abs(got.interaction).max() > 1e-4
    assert np.allclose(got.interaction, got.interaction.T, atol=1e-12)
    assert np.abs(got.interaction.diagonal()).max() == 0


def made(alone, both):
    """Two examples of equal effect."""
    return co_ablation(alone, both, examples=2)


def test_a_unit_with_a_backup_moves_up_and_a_unit_without_stays():
    """0 and 1 stand in for each other (-3 only if both go), 2 acts alone (-1), 3 does next to nothing."""
    together = [[0.0, -3.0, -1.0, -0.1], [-3.0, 0.0, -1.0, -0.1], [-1.0, -1.0, -1.0, -1.1], [-0.1, -0.1, -1.1, -0.1]]
    got = made([0.0, 0.0, -1.0, -0.1], together)
    table = got.table()
    address = "blocks.0.mlp.hook_post[{}]".format
    assert table.loc[address(0), "backup"] == address(1)
    assert table.loc[address(2), "backup"] == address(2)
    assert table["S given backup"].tolist() == pytest.approx([3, 3, 1, 0.1])
    assert table.loc[address(2), ["rank", "rank given backup"]].tolist() == [1, 3]
    assert [unit.index for unit in got.changes(2)] == [(0,), (1,)]
    assert got.changes(4) == []
    assert got.interaction[0, 1] == pytest.approx(-3) and got.interaction[0, 2] == pytest.approx(0)


def test_additive_effects_change_no_ranking():
    alone = np.array([-2.0, 1.0, 0.5])
    both = alone[:, None] + alone[None]
    both[range(3), range(3)] = alone
    got = made(alone, both)
    assert got.changes(1) == got.changes(2) == []
    assert got.table()["rank"].tolist() == got.table()["rank given backup"].tolist() == [1, 2, 3]


def test_rounding_makes_no_backups():
    """0.1 + 0.2 - 0.2 is more than 0.1 by a bit, in every example alike."""
    alone = np.array([0.1, 0.2, 0.3, 0.7])
    both = alone[:, None] + alone[None]
    found = made(alone, both)
    assert (found.gain > 0).any() and not found.gain_error.any()
    assert not found.backs_up.any() and [found.changes(k) for k in (1, 2, 3)] == [[], [], []]
    assert (found.table()["S given backup"] == found.table()["S"]).all()


UNITS, EXAMPLES = 10, 30


def noisy(seed, backups=0.0, shared=0.0):
    """Effects that add up but for noise, some of it `shared` by each of five templates; 0 and 1 back each other up."""
    random = np.random.default_rng(seed)
    alone = np.linspace(1, 2, UNITS)
    both = alone[:, None] + alone[None]
    both[0, 1] += backups
    found = co_ablation(alone, both, examples=EXAMPLES)
    noise = random.normal(size=found.measured.dP.shape) + shared * random.normal(
        size=(len(found.measured.dP), 5)
    ).repeat(EXAMPLES // 5, 1)
    noise[:UNITS] = 0
    header = dict(found.header)
    header["examples"] = [e | {"template": str(i * 5 // EXAMPLES)} for i, e in enumerate(header["examples"])]
    if not shared:
        header = found.header
    return icp.CoAblation(replace(found.measured, dP=found.measured.dP + 0.2 * noise, header=header))


@pytest.mark.parametrize("shared", (0.0, 1.0))
def test_noise_makes_a_backup_for_no_more_units_than_the_level_allows(shared):
    """The largest of nine gains is nearly always positive; one in twenty units may have a backup, by chance."""
    named, positive = [], []
    for seed in range(40):
        found = noisy(seed, shared=shared)
        named += found.backs_up.any(1).tolist()
        positive += (found.gain.max(1) > 0).tolist()
    assert np.mean(positive) > 0.9
    assert np.mean(named) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(named))


def test_a_backup_is_found_in_noise_and_shown_with_its_error():
    found = noisy(3, backups=1.0)
    row, address = found.table().loc["blocks.0.mlp.hook_post[0]"], "blocks.0.mlp.hook_post[1]"
    gains = np.abs(found.given[0, 1]) - np.abs(found.alone[0])
    assert row["backup"] == address
    assert row["gain"] == pytest.approx(gains.mean()) == pytest.approx(row["S given backup"] - row["S"])
    assert row["standard error"] == pytest.approx(gains.std(ddof=1) / np.sqrt(EXAMPLES))
    assert found.errors_needed == pytest.approx(stats.t.isf(0.05 / 9, EXAMPLES - 1))
    clustered = noisy(3, backups=1.0, shared=1.0)
    assert clustered.errors_needed == pytest.approx(stats.t.isf(0.05 / 9, 4))
    assert clustered.gain_error == pytest.approx(
        standard_error(clustered._gains, clusters_of(clustered.header["examples"]))
    )
    other = found.table().loc["blocks.0.mlp.hook_post[5]"]
    gains = np.delete(found.gain[5], 5) / np.delete(found.gain_error[5], 5)
    assert other["backup"] == other.name and other["gain"] / other["standard error"] == pytest.approx(gains.max())
    assert other["S given backup"] == other["S"]


def test_one_example_shows_no_backup():
    found = co_ablation([0.0, 0.0, -1.0], [[0.0, -3.0, -1.0], [-3.0, 0.0, -1.0], [-1.0, -1.0, -1.0]], examples=1)
    assert np.isnan(found.errors_needed) and not found.backs_up.any()


def test_pairs_and_units_without_a_number_are_left_out_and_counted():
    """Of 0, which 1 backs up, the pair with 2 has no number; of 3 an example alone has none."""
    together = [[0.0, -3.0, -1.0, 0.0], [-3.0, 0.0, -1.0, 0.0], [-1.0, -1.0, -1.0, 0.0], [0.0] * 4]
    found = made([0.0, 0.0, -1.0, -5.0], together)
    assert found.left_out == 0
    dP = found.measured.dP.copy()
    dP[found.measured.sets.index((found.units[0], found.units[2])), 0] = np.nan
    dP[3, 1] = np.nan
    odd = icp.CoAblation(replace(found.measured, dP=dP))
    assert odd.left_out == 4
    table = odd.table()
    assert table.loc[str(odd.units[0]), "backup"] == str(odd.units[1])
    assert table.loc[str(odd.units[0]), "gain"] == 3.0
    last = table.iloc[-1]
    assert last.name == last["backup"] == str(odd.units[3]) and np.isnan(last[["S", "gain"]].astype(float)).all()
    assert [unit.index for unit in odd.changes(2)] == [(1,)] and odd.changes(3) == []
    said = str(backed_up(odd).body)
    assert "4 pairs are left out" in said and "pairs are left out" not in str(backed_up(found).body)


NEURONS = [f"blocks.{block}.mlp.hook_post[{i}]" for block in (0, 1) for i in range(6)]
"""Twelve units make 78 sets: two chunks of a store."""


def test_a_stored_one_resumes_and_is_read_back(model, tmp_path, monkeypatch):
    call = (model, make_probe(), NEURONS)
    want = icp.co_ablation(*call, **QUIET)
    real, done = joint._measured, []

    def interrupted(model, layout, sets, *rest):
        if done:
            raise KeyboardInterrupt
        done.append(len(sets))
        return real(model, layout, sets, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(joint, "_measured", interrupted)
        icp.co_ablation(*call, store=tmp_path / "pairs", **QUIET)
    assert done == [64]
    with pytest.raises(icp.ArtefactError, match="unfinished: 14 of 78 units are missing"):
        icp.CoAblation.load(tmp_path / "pairs")
    with monkeypatch.context() as patched:
        patched.setattr(joint, "_measured", lambda *given: done.append(len(given[2])) or real(*given))
        got = icp.co_ablation(*call, store=tmp_path / "pairs", **QUIET)
    assert done == [64, 14]
    for found in (got, icp.CoAblation.load(tmp_path / "pairs")):
        assert found.units == want.units and found.header == want.header
        assert np.array_equal(found.both, want.both) and np.array_equal(found.alone, want.alone)
    want.save(tmp_path / "saved")
    assert np.array_equal(icp.CoAblation.load(tmp_path / "saved").both, want.both)


def test_stores_of_sets_and_of_units_are_told_apart(model, tmp_path):
    sets = [NEURONS[:2], [], NEURONS[:1]]
    found = icp.measure_sets(model, make_probe(), sets, icp.Mask("mean"), store=tmp_path / "sets", **QUIET)
    assert [[str(unit) for unit in members] for members in found.sets] == sets
    loaded = icp.SetEffects.load(tmp_path / "sets")
    assert np.array_equal(loaded.dP, found.dP) and loaded.sets == found.sets and not loaded.dP[1].any()
    icp.measure(model, make_probe(), NEURONS, icp.Mask("mean"), store=tmp_path / "units", **QUIET)
    with pytest.raises(icp.ArtefactError, match=r"holds effects of sets of units: read it with icp\.SetEffects\.load"):
        icp.Effects.load(tmp_path / "sets")
    with pytest.raises(icp.ArtefactError, match=r"holds effects of single units: read it with icp\.Effects\.load"):
        icp.SetEffects.load(tmp_path / "units")
    with pytest.raises(icp.ArtefactError, match="holds other sets than single units and all their pairs"):
        icp.CoAblation.load(tmp_path / "sets")
    for other in (dict(sets=sets[:2]), dict(what=icp.Mask("zero")), dict(positions="last")):
        call = dict(sets=sets, what=icp.Mask("mean"), positions="all") | other
        with pytest.raises(icp.ArtefactError, match="holds another measurement"):
            icp.measure_sets(model, make_probe(), call["sets"], call["what"], positions=call["positions"],
                             store=tmp_path / "sets", **QUIET)  # fmt: skip


def test_no_sets_are_refused(model, tmp_path):
    with pytest.raises(icp.UnitError, match="no sets of units were given"):
        icp.measure_sets(model, make_probe(), [], icp.Mask("mean"), store=tmp_path / "sets", **QUIET)
    assert not (tmp_path / "sets").exists()


def test_bad_input_is_refused(model):
    with pytest.raises(icp.IcpError, match="needs two units or more, got 1"):
        icp.co_ablation(model, make_probe(), ["hook_embed[2]"], **QUIET)
    with pytest.raises(icp.UnitError, match="cover the same values"):
        icp.co_ablation(model, make_probe(), ["blocks.0.attn.hook_z[1]", "blocks.0.attn.hook_z[1,0]"], **QUIET)
    with pytest.raises(icp.IcpError, match="k=9 is not between 1 and the 3 units"):
        made([1, 2, 3], np.zeros((3, 3))).changes(9)
