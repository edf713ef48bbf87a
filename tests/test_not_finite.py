"""A row for which the model gives no finite P is marked, and spoils no other row and nothing that is judged."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from artefacts import MEANS, UNITS, carrying, cost, doses, estimates, everything, exact
from helpers import BY_NAME, PARTNERS, make_probe, make_tokenizer
from reference import Naive, Plain

import icp
from icp import plots
from icp.audit import audit
from icp.report import report
from icp.sweep.store import Store

QUIET = {"progress": False}
HUGE = {"llama": icp.Scale(3e38), "gpt2": icp.Scale(1e155)}
"""Too much for the norms of these models (one works in float32, one squares) in some rows, and only large in others."""


@dataclass(frozen=True)
class Burst(icp.Intervention):
    """A user's own: NaN where a value is large, which it is in some rows."""

    def replace(self, values, where):
        return torch.where(values > 0.4, torch.nan, 2 * values)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("own", (False, True), ids=("affine", "own"))
@pytest.mark.parametrize("positions", ("all", "last"))
@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_a_row_is_marked_where_the_naive_loop_gives_no_finite_number(name, positions, own):
    module = BY_NAME[name].module()
    model, naive = icp.load(module, make_tokenizer()), Naive(Plain(module), make_tokenizer(), make_probe(),
                                                             positions=positions, partners=PARTNERS)  # fmt: skip
    units = sorted([*model.units("neuron", layers=[1])[:24], *model.units("head", layers=[0, 2])])
    whats = [icp.Mask("mean"), Burst() if own else HUGE[name], icp.Swap("counterpart")]
    want = naive.dP(units, whats)
    bad = ~np.isfinite(want)
    assert not bad[:, [0, 2]].any() and (bad[:, 1].any(1) & ~bad[:, 1].all(1)).sum() > 3, "units with both kinds of row"
    for batch_size in (1, 5, None):
        got = icp.measure(model, make_probe(), units, whats, positions=positions, batch_size=batch_size, **QUIET)
        assert np.array_equal(np.isnan(got.dP), bad)
        assert np.array_equal(got.not_finite, bad.sum((1, 2)))
        assert np.abs(got.dP - want)[~bad].max() < 1e-9
        assert np.isfinite(got.clean).all()


def rows_of(what, name="llama", **options):
    model = BY_NAME[name].model()
    units = sorted([*model.units("neuron", layers=[1])[:70], *model.units("head", layers=[0, 2])])
    return icp.measure(model, make_probe(), units, what, **options, **QUIET)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_store_keeps_marks_and_knows_them_from_what_was_not_measured(tmp_path):
    options = dict(store=tmp_path / "effects", batch_size=5)
    got = rows_of([icp.Mask(), HUGE["llama"]], **options)
    assert 0 < got.not_finite.sum() < got.dP.size
    assert Store.open(tmp_path / "effects").measured().all()
    loaded = icp.Effects.load(tmp_path / "effects")
    assert np.array_equal(loaded.dP, got.dP, equal_nan=True) and np.array_equal(loaded.not_finite, got.not_finite)
    again = icp.Effects.load(loaded.save(tmp_path / "again"))
    assert np.array_equal(again.dP, got.dP, equal_nan=True)

    def measured(*_):
        raise AssertionError("a marked unit was measured again")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("icp.sweep.exact._chunk", measured)
        resumed = rows_of([icp.Mask(), HUGE["llama"]], **options)
    assert np.array_equal(resumed.dP, got.dP, equal_nan=True)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_pair_gap_is_marked_where_either_run_is():
    model = BY_NAME["llama"].model()
    units = model.units("neuron", layers=[1])[:24]
    runs = [icp.measure(model, probe, units, HUGE["llama"], **QUIET).dP
            for probe in (make_probe(), make_probe().swapped())]  # fmt: skip
    gap = icp.measure(model, make_probe(), units, HUGE["llama"], property=icp.PairGap(), **QUIET)
    bad = np.isnan(runs[0]) | np.isnan(runs[1])
    assert (np.isnan(runs[0]) ^ np.isnan(runs[1])).any()
    assert np.array_equal(np.isnan(gap.dP), bad)
    assert np.abs(gap.dP - (runs[0] - runs[1]))[~bad].max() < 1e-9


def test_a_plain_input_without_a_finite_number_is_refused_still():
    model = BY_NAME["llama"].model()
    with torch.no_grad():
        model.unembed.weight[12] = float("inf")
        model.unembed.weight[make_tokenizer()(" she")["input_ids"][0]] = float("nan")
    for method in ("exact", "linear"):
        with pytest.raises(icp.NotFiniteError, match=r"nan for 'The (nurse|carpenter) said that' without intervention"):
            icp.measure(model, make_probe(), "hook_embed[0]", icp.Mask(), method=method, **QUIET)


BAD = (1, 3, 8)
"""Rows of `UNITS`: two heads, of which one carries the most, and a neuron."""
GOOD = [row for row in range(len(UNITS)) if row not in BAD]


def marked(effects, bad=BAD):
    """Each of these units has one row without a number."""
    dP = effects.dP.copy()
    for number, row in enumerate(bad):
        dP[row, 0, number % dP.shape[2]] = np.nan
    return icp.Effects(dP, effects.clean, effects.total, effects.header)


def only(effects, rows):
    header = effects.header | {"units": [effects.header["units"][row] for row in rows]}
    return icp.Effects(effects.dP[rows], effects.clean, effects.total, header)


JUDGES = {
    "spuriousness": lambda effects, cost: icp.spuriousness(effects),
    "harm": lambda effects, cost: icp.spuriousness(effects, "harm"),
    "indirect effect": lambda effects, cost: icp.indirect_effect(effects),
    "damage": lambda effects, cost: icp.damage(cost),
}


@pytest.mark.parametrize("judge", JUDGES)
def test_a_unit_without_a_number_comes_last_and_changes_no_other(judge):
    full = JUDGES[judge](marked(carrying(MEANS)), marked(cost()))
    without = JUDGES[judge](only(carrying(MEANS), GOOD), only(cost(), GOOD))
    assert [str(unit) for unit in full.units[-3:]] == [UNITS[row] for row in BAD]
    assert full.table[full.by].iloc[-3:].isna().all() and full.table[full.by].iloc[:-3].notna().all()
    np.testing.assert_array_equal(full.table.iloc[:-3].to_numpy(), without.table.to_numpy())
    assert full.units[:-3] == without.units == full.measured.units
    for count in (2, 11, 12, 14, 99):
        assert full.head(count).units == without.units[:count]
    assert full.above(-99.0).units == without.units


def test_selectivity_leaves_out_units_without_an_effect_or_a_damage():
    effects, costs = marked(carrying(MEANS)), {"task": cost(), "neutral": marked(cost(), (0, 13))}
    chosen = icp.selectivity(effects, costs, max_damage=9.0)
    want = [row for row in GOOD if row not in (0, 13)]
    assert {str(unit) for unit in chosen.units} == {UNITS[row] for row in want}
    assert np.isfinite(chosen.table.to_numpy()).all()
    np.testing.assert_array_equal(
        chosen.table["indirect_effect"],
        np.sort(icp.indirect_effect(only(effects, want)).table["indirect_effect"])[::-1],
    )
    nothing = carrying(MEANS * np.nan)
    with pytest.raises(icp.IcpError, match="none of the 14 units has a finite indirect_effect: the model returned NaN"):
        icp.selectivity(nothing, costs)
    with pytest.raises(icp.IcpError, match="none of the 14 units has a finite indirect_effect"):
        icp.indirect_effect(nothing).head(3)


def test_a_frontier_is_never_built_of_units_without_a_number():
    model = BY_NAME["llama"].model()
    units = model.units("head", layers=[0, 1])
    effects = icp.measure(model, make_probe(), units, icp.Swap("counterpart"), **QUIET)
    effects.dP[2, 0, 1] = np.nan
    ranking = icp.indirect_effect(effects)
    assert ranking.units[-1] == units[2]
    for options in ({}, {"sizes": [3, 7]}):
        found = icp.frontier(model, make_probe(), ranking, icp.Mask("zero"), **options, **QUIET)
        assert found.sizes[-1] == 7 and [choice.unit for choice in found.choices] == ranking.units[:-1]
        assert np.isfinite(found.scores).all()
    with pytest.raises(icp.IcpError, match="sizes go from 1 to the 7 ranked units"):
        icp.frontier(model, make_probe(), ranking, icp.Mask("zero"), sizes=[8], **QUIET)


def test_an_audit_leaves_out_what_has_no_number_and_counts_it():
    rows = (3, 0, 2, 13, 12, 11)
    whole = exact(rows)
    found = audit(estimates(), marked(whole, (0, 2)), "swap:counterpart")
    rest = audit(estimates(), only(whole, [1, 3, 4, 5]), "swap:counterpart")
    assert (found.not_finite, rest.not_finite) == (2, 0)
    assert found.units == rest.units and found.estimated_units == rest.estimated_units == len(UNITS)
    for name in ("estimate", "exact", "exact_se"):
        np.testing.assert_array_equal(getattr(found, name), getattr(rest, name))
    for name in ("spearman", "pearson", "median_error", "same_sign"):
        assert getattr(found, name) == getattr(rest, name)
    assert found.spearman == pytest.approx(1.0) and found.overlap(2) == rest.overlap(2)
    guessed = audit(marked(estimates(), (13, 0)), whole, "swap:counterpart")
    assert guessed.not_finite == 2 and [str(unit) for unit in guessed.units] == [UNITS[row] for row in (3, 2, 12, 11)]
    with pytest.raises(
        icp.ArtefactError, match="none of the 6 units that were both estimated and measured exactly has"
    ):
        audit(estimates(), marked(whole, range(6)), "swap:counterpart")


def test_pictures_show_the_rest():
    heads = plots.head_map(marked(carrying(MEANS)), 2, 3).data[0]
    z = np.array(heads.z, dtype=float).T.reshape(-1)
    np.testing.assert_allclose(z, np.where(np.isin(range(6), BAD), np.nan, MEANS[:6]), atol=1e-12)
    assert heads.zmax == 0.5 and heads.text[1][0] == "NaN or infinite" and heads.text[0][1] == "NaN or infinite"
    strip = plots.neuron_strip(marked(carrying(MEANS), (8, 9)))
    drawn = next(trace for trace in strip.data if trace.name == "largest effects")
    np.testing.assert_allclose(drawn.y, np.delete(MEANS[6:], [2, 3]), rtol=1e-3)
    assert np.isfinite(strip.layout.yaxis.range).all()
    assert strip.layout.annotations[-1].text == "all 6 neurons measured<br>and 2 not drawn: NaN or infinite"
    dosed = doses()
    dosed.dP[0, 3, 1] = np.nan
    lines = [trace for trace in plots.dose_response(dosed).data if trace.mode == "lines+markers"]
    assert len(lines) == 2 and np.isnan(lines[0].y[3]) and np.isfinite(lines[0].y[:3]).all()
    assert np.isfinite(lines[1].y).all()


def test_an_estimate_without_a_number_is_marked_and_the_others_stand(tmp_path):
    model = BY_NAME["llama"].model(torch.float32)
    units = model.units("neuron")
    what = icp.Scale(1e39)
    for options in ({}, {"store": tmp_path / "estimates"}):
        got = icp.measure(model, make_probe(), units, [icp.Mask("zero"), what], method="linear", **options, **QUIET)
        assert got.not_finite.sum() > 0 and np.isfinite(got.dP[:, 0]).all()
    want = icp.measure(model, make_probe(), units, icp.Mask("zero"), method="linear", **QUIET)
    assert np.array_equal(got.dP[:, :1], want.dP)
    assert np.array_equal(icp.Effects.load(tmp_path / "estimates").dP, got.dP, equal_nan=True)
    found = icp.measure(model, make_probe(), units, icp.Scale(3e38), top=3, budget=0.9, miss_rate=0.3, **QUIET)
    assert len(found.units) == 3 and np.isfinite(found.dP).all()


def section(html, name):
    return html.split(f'<section id="{name}"')[1].split("</section>")[0] if f'<section id="{name}"' in html else None


def test_the_report_says_how_many_rows_have_no_number():
    artefacts = everything()
    whole = report("A title", **artefacts).html
    assert section(whole, "not-finite") is None
    rows = (3, 0, 2, 13, 12, 11)
    artefacts["exact"] = marked(exact(rows), (0, 2))
    artefacts["costs"] = {"neutral": marked(cost(), (5,))}
    html = report("A title", **artefacts).html
    said = section(html, "not-finite")
    assert "exact: in 2 of 24 rows (one a unit, intervention and example), of 2 units, the model returned NaN" in said
    assert "cost: neutral: in 1 of 42 rows (one a unit, intervention and example), of 1 unit, the model" in said
    assert "ranked last and never selected" in said and "estimates" not in said
    assert "4 of 14 estimated units that were measured exactly. 2 units without a finite effect are left out." in html
    assert "left out" not in section(whole, "audit")
    one = report("A title", **artefacts | {"exact": marked(exact(rows), (0,))}).html
    assert "1 unit without a finite effect is left out." in section(one, "audit")


def test_a_report_of_effects_without_any_number_is_made():
    artefacts = everything()
    for name in ("exact", "estimates", "doses"):
        artefacts[name] = icp.Effects(artefacts[name].dP * np.nan, artefacts[name].clean, artefacts[name].total,
                                      artefacts[name].header)  # fmt: skip
    artefacts["estimates"] = None
    html = report("A title", **artefacts).html
    assert section(html, "units") is None and "in 24 of 24 rows" in section(html, "not-finite")
