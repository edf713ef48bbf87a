"""Units that carried the cue, followed into other models: the planted model by hand, and what estimates are worth."""

import numpy as np
import planted
import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS

import icp

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def models():
    before = planted.model()
    return {"before": before, "pruned": icp.prune(before, icp.Selection.of(before, [planted.SPURIOUS_HEAD]))}


@pytest.fixture(scope="module")
def units():
    return planted.model().units("head", "neuron")


@pytest.mark.parametrize("method", ("exact", "linear"))
def test_the_planted_units_are_followed_by_hand(models, units, method):
    """The top 2 before are the spurious head and neuron; after, the leak head and the neuron that it feeds."""
    found = icp.carriers(models, planted.probe(), units, k=2, method=method, audited=3, **QUIET)
    table = found.table()
    assert {str(unit) for unit in found.sets[0]} == {planted.SPURIOUS_HEAD, planted.SPURIOUS_NEURON}
    assert found.sets[0] == found.sets[1] and found.agreement == 1
    assert table["overlap"].to_dict() == {"before": 1.0, "pruned": 0.5}
    assert table["chance"].tolist() == [2 / len(units)] * 2
    assert table["total"].to_dict() == pytest.approx({"before": 5.5, "pruned": 1.0})
    # the head writes 1 s, and 1/4 s through the mixed neuron; the neuron 3/2 s, of which 1/2 comes by the leak head
    assert table["carried"].to_dict() == pytest.approx({"before": 2 * (1.25 + 1.5), "pruned": 2 * 0.5})
    assert table.loc["pruned", "carried_change"] == pytest.approx(-4.5)
    assert table.loc["pruned", "relative_change"] == pytest.approx(-4.5 / 5.5)
    assert table.loc["before", ["carried_change", "carried_change_low", "carried_change_high"]].tolist() == [0, 0, 0]
    if method == "exact":
        assert not found.audits and table["spearman"].isna().all()
    else:
        assert (table["spearman"] > 0.9).all(), "what is left are ties, which rounding breaks"
        assert table["recall"].tolist() == [1, 1]
        for told in found.audits.values():
            np.testing.assert_allclose(told.estimate, told.exact, atol=1e-9)


def test_a_cue_that_pushes_the_other_way_afterwards_is_carried_negatively(units):
    turned = planted.module()
    with torch.no_grad():
        turned.model.embed_tokens.weight[:, planted.COLOUR] *= -1
    models = {"before": planted.model(), "turned": icp.load(turned, planted.tokenizer())}
    table = icp.carriers(models, planted.probe(), units, k=2, method="exact", **QUIET).table()
    assert table.loc["turned", "total"] == pytest.approx(-5.5)
    assert table.loc["turned", "carried"] == pytest.approx(-table.loc["before", "carried"])
    assert table.loc["turned", "relative_change"] == pytest.approx(-2) and table.loc["turned", "overlap"] == 0


ANSWERS = (" she", " he")
OPENINGS = ("", "It was late and ", "The old doctor said that ", "The nurse ran because ")
PAIRS = icp.Probe(
    tuple(
        icp.Example(opening + x, opening + other, ANSWERS, template=opening or "none")
        for opening in OPENINGS for x, other in EQUAL_PAIRS
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def random_models():
    return {f"seed {seed}": BY_NAME["llama"].model(seed=seed) for seed in (0, 1)}


def test_no_unit_is_judged_on_the_pairs_it_was_chosen_by(random_models):
    units = BY_NAME["llama"].model().units("head", "neuron")
    found = icp.carriers(random_models, PAIRS, units, k=5, method="exact", **QUIET)
    templates = np.array([example.template for example in PAIRS.examples])
    assert 0 < found.half.sum() < len(PAIRS)
    assert not set(templates[found.half]) & set(templates[~found.half]), "by template"
    before = found.ranked["seed 0"]
    oriented = before.of("swap:counterpart") * np.sign(before.total)
    for side, members in zip((False, True), found.sets):
        best = np.argsort(-oriented[:, found.half == side].mean(1))[:5]
        assert set(members) == {before.units[place] for place in best}
        rows = np.flatnonzero(found.half != side)
        for name, model in random_models.items():
            joint = icp.measure_sets(model, PAIRS, [members], icp.Swap("counterpart"), **QUIET).dP[0]
            expected = joint[rows] * np.sign(before.total[rows])
            np.testing.assert_allclose(found.carried[name][rows], expected, atol=1e-9)
    assert 0 < found.agreement < 1
    table = found.table()
    assert (table["carried_low"] < table["carried"]).all()
    row = table.loc["seed 1"]
    assert 0 <= row["overlap_low"] < row["overlap_high"] <= 1


def test_estimates_are_audited_in_the_direction_of_the_model_before(random_models, tmp_path):
    units = BY_NAME["llama"].model().units("head", "neuron")
    call = dict(k=4, audited=10, store=tmp_path / "store", **QUIET)
    found = icp.carriers(random_models, PAIRS, units, **call)
    exact = icp.carriers(random_models, PAIRS, units, k=4, method="exact", **QUIET)
    for name, told in found.audits.items():
        assert 10 <= len(told.units) <= 18 and 0.3 < told.spearman < 1
        whole, total = exact.ranked[name], exact.ranked["seed 0"].total
        by_hand = (whole.of("swap:counterpart") * np.sign(total)).mean(1)
        places = [whole.units.index(unit) for unit in told.units]
        np.testing.assert_allclose(told.exact, by_hand[places], atol=1e-9)
    again = icp.carriers(random_models, PAIRS, units, **call)
    assert again.table().equals(found.table())


def test_what_cannot_be_followed_is_refused(models, units):
    def refused(says, *given, **options):
        with pytest.raises(icp.IcpError, match=says):
            icp.carriers(*given, **QUIET, **options)

    refused("1 model has nothing to be compared with", {"before": models["before"]}, planted.probe(), units)
    refused("k=99 is not between 1 and the", models, planted.probe(), units, k=99)
    refused("audited=-1 units", models, planted.probe(), units, k=2, audited=-1)
    one = icp.Probe(planted.probe().examples[:1])
    refused("1 pair of one text cannot be halved", models, one, units, k=2)
    without = icp.Probe.from_texts([example.text for example in planted.probe().examples[:4]], planted.ANSWERS)
    refused("no counterpart", models, without, units, k=2)
