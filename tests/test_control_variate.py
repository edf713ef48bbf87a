"""Means with the estimates as control variate: unbiased, less variable, and with an error that says by how much."""

from itertools import combinations

import numpy as np
import pytest
from artefacts import effects
from helpers import BY_NAME, EQUAL_PAIRS, make_probe
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import icp
from icp.audit import audit


def population(correlation, examples=40, units=3, seed=0):
    random = np.random.default_rng(seed)
    estimates = random.gamma(2.0, size=(units, examples))
    noise = random.gamma(2.0, size=(units, examples))
    return 2 * correlation * estimates + np.sqrt(1 - correlation**2) * noise, estimates


def samples(count, size, repeats, seed=1):
    random = np.random.default_rng(seed)
    return [random.choice(count, size, replace=False) for _ in range(repeats)]


@given(st.integers(0, 99), st.floats(-3, 3), st.integers(1, 5))
def test_with_a_given_coefficient_it_is_unbiased_over_every_sample(seed, beta, size):
    exact, estimates = population(0.5, examples=6, seed=seed)
    found = [
        icp.control_variate_mean(exact[:, chosen], estimates, np.array(chosen), beta).mean
        for chosen in map(list, combinations(range(6), size))
    ]
    assert np.mean(found, axis=0) == pytest.approx(exact.mean(1))


@pytest.mark.parametrize("size", (2, 3, 5))
def test_with_a_given_coefficient_the_error_is_right_over_every_sample(size):
    """The mean of the squared standard error is the variance of the mean."""
    exact, estimates = population(0.5, examples=6)
    found = [
        icp.control_variate_mean(exact[:, chosen], estimates, np.array(chosen), 1.3)
        for chosen in map(list, combinations(range(6), size))
    ]
    variance = np.var([f.mean for f in found], axis=0)
    assert np.mean([f.standard_error**2 for f in found], axis=0) == pytest.approx(variance)


def test_scores_over_all_examples_from_a_sample():
    """By names: examples and units may come in another order, and units that were not estimated are left out."""
    truth, estimates = population(0.9)
    units = [f"blocks.0.mlp.hook_post[{i}]" for i in range(3)]
    signs = np.where(np.random.default_rng(2).random(truth.shape) < 0.5, -1, 1)
    sample = [7, 3, 30, 12, 25]
    about = {"units": units, "interventions": ["mask:zero"], "total": np.zeros(40)}
    estimated = effects((signs * estimates)[:, None], **about, method="linear")
    rows, more = [2, 0], "blocks.1.mlp.hook_post[0]"
    exact = effects(
        np.concatenate([(signs * truth)[rows][:, sample], np.ones((1, 5))])[:, None],
        **about | {"units": [units[row] for row in rows] + [more], "total": np.zeros(5)}, examples=sample,
    )  # fmt: skip
    got = icp.controlled_spuriousness(exact, estimated)
    want = icp.control_variate_mean(truth[rows][:, sample], estimates[rows], sample)
    assert sorted(got.table.index) == sorted([units[2], units[0]])
    assert got.table.loc[units[2], "S"] == pytest.approx(want.mean[0])
    assert got.table.loc[units[0], ["S", "se", "beta", "S sample"]].tolist() == pytest.approx(
        [want.mean[1], want.standard_error[1], want.beta[1], truth[0, sample].mean()]
    )
    assert got.table["S"].is_monotonic_decreasing
    other = effects(estimated.dP[:, :, :20], **about | {"total": np.zeros(20)}, method="linear")
    with pytest.raises(icp.ArtefactError, match="measured exactly but not estimated"):
        icp.controlled_spuriousness(exact, other)
    with pytest.raises(icp.ArtefactError, match="the estimates are of mask:mean, the exact effects of mask:zero"):
        icp.controlled_spuriousness(exact, effects(estimated.dP, **about | {"interventions": ["mask:mean"]}))


def test_a_sample_of_a_real_sweep_comes_nearer_with_estimates():
    model = BY_NAME["llama"].model()
    pairs = [
        (f"The {age} nurse {verb}", f"The {age} doctor {verb}") for age in ("old", "late") for verb in ("said", "ran")
    ]
    probe = make_probe([*pairs, ("The nurse said that", "The doctor said that"), ("The nurse ran", "The doctor ran")])
    units = model.units("neuron", layers=[2])
    call = dict(interventions=icp.Mask("mean"), reference=probe, progress=False)
    whole, estimated = (icp.measure(model, probe, units, method=method, **call) for method in ("exact", "linear"))
    truth = icp.spuriousness(whole).table["S"]
    errors = {"S": [], "S sample": []}
    for seed in range(12):
        part = icp.measure(model, probe.take(4, seed), units, **call)
        found = icp.controlled_spuriousness(part, estimated).table
        for column, values in errors.items():
            values.append(float(((found[column] - truth) ** 2).mean()))
    assert np.mean(errors["S"]) < 0.5 * np.mean(errors["S sample"])


@pytest.mark.parametrize(
    ("what", "way_out"),
    (
        (icp.Mask("mean"), "give both the same reference="),
        (icp.Mask("resample"), "measure both on the same probe"),
        (icp.Swap(example=0), "measure both on the same probe"),
    ),
    ids=lambda what: getattr(what, "label", ""),
)
def test_what_depends_on_the_probes_own_examples_is_not_compared_across_samples(what, way_out):
    """A mean over a sample is another mean, and example 0 of a sample another example."""
    model, probe = BY_NAME["llama"].model(), make_probe(EQUAL_PAIRS[:2] * 2)
    call = dict(units=model.units("head")[:2], interventions=what, progress=False)
    whole, part = (icp.measure(model, texts, **call) for texts in (probe, probe.take(3)))
    for compare in (lambda: icp.controlled_spuriousness(part, whole), lambda: audit(whole, part, what.label)):
        with pytest.raises(icp.ArtefactError, match=f"{what.label}.* puts in what the probe's own .*: {way_out}"):
            compare()
    assert audit(whole, whole, what.label).median_error == 0


def test_an_example_that_is_there_twice_is_found_at_two_places():
    model = BY_NAME["llama"].model()
    probe = icp.Probe(make_probe().examples[:2] * 3)
    call = dict(units=model.units("head"), interventions=icp.Mask("zero"), progress=False)
    whole, part = icp.measure(model, probe, **call), icp.measure(model, probe.take(5), **call)
    found, truth = icp.controlled_spuriousness(part, whole).table, icp.spuriousness(whole).table
    assert np.allclose(found["S"], truth["S"].loc[found.index])
    more = icp.measure(model, icp.Probe(make_probe().examples[:1] * 4), **call)
    with pytest.raises(icp.ArtefactError, match="measured exactly but not estimated"):
        icp.controlled_spuriousness(more, whole)


def test_effects_under_another_config_are_not_compared():
    model, call = BY_NAME["llama"].model(), dict(interventions=icp.Mask("zero"), progress=False)
    before = icp.measure(model, make_probe(), model.units("head"), **call)
    model.config.rms_norm_eps = 1e-2
    after = icp.measure(model, make_probe(), model.units("head"), **call)
    with pytest.raises(icp.ArtefactError, match="the estimates are of another config"):
        audit(before, after, "mask:zero")


def test_the_regression_reduces_the_variance_as_theory_says_and_hardly_biases():
    for correlation in (0.0, 0.6, 0.95):
        exact, estimates = population(correlation, examples=400, units=4)
        draws = samples(400, 40, 1500)
        found = np.array([icp.control_variate_mean(exact[:, d], estimates, d).mean for d in draws])
        plain = np.array([exact[:, d].mean(1) for d in draws])
        explained = np.array([np.corrcoef(*pair)[0, 1] ** 2 for pair in zip(exact, estimates)])
        assert found.var(0) / plain.var(0) == pytest.approx(1 - explained, abs=0.1)
        assert (np.abs(found.mean(0) - exact.mean(1)) < 0.2 * found.std(0)).all()
    assert (explained > 0.9).all()


def test_intervals_hold_the_truth():
    exact, estimates = population(0.8, examples=200, units=1)
    held = 0
    for chosen in samples(200, 30, 1000):
        found = icp.control_variate_mean(exact[:, chosen], estimates, chosen)
        half = stats.t.ppf(0.975, 28) * found.standard_error
        held += bool(abs(found.mean - exact.mean(1)) <= half)
    assert 0.92 < held / 1000 < 0.98


@given(st.integers(3, 30), st.integers(0, 99))
def test_it_is_the_regression_line_at_the_mean_of_all_estimates(size, seed):
    exact, estimates = population(0.6, units=1, seed=seed)
    (chosen,) = samples(40, size, 1, seed)
    found = icp.control_variate_mean(exact[:, chosen], estimates, chosen)
    line = stats.linregress(estimates[0, chosen], exact[0, chosen])
    assert found.beta == pytest.approx([line.slope])
    assert found.mean == pytest.approx([line.intercept + line.slope * estimates.mean()])
    residuals = exact[0, chosen] - line.intercept - line.slope * estimates[0, chosen]
    error = np.sqrt((residuals**2).sum() / (size - 2) / size * (1 - size / 40)) if size > 2 else np.nan
    assert found.standard_error == pytest.approx([error])


def test_all_examples_leave_no_error_and_too_few_leave_no_way_to_tell():
    exact, estimates = population(0.5)
    whole = icp.control_variate_mean(exact, estimates, np.arange(40))
    assert whole.mean == pytest.approx(exact.mean(1)) and (whole.standard_error == 0).all()
    order = np.random.default_rng(0).permutation(40)
    assert icp.control_variate_mean(exact[:, order], estimates, order).mean == pytest.approx(exact.mean(1))
    assert np.isnan(icp.control_variate_mean(exact[:, :2], estimates, np.arange(2)).standard_error).all()
    assert np.isfinite(icp.control_variate_mean(exact[:, :2], estimates, np.arange(2), 1.0).standard_error).all()
    assert np.isnan(icp.control_variate_mean(exact[:, :1], estimates, np.arange(1), 1.0).standard_error).all()


def test_indices_may_be_a_list():
    exact, estimates = population(0.5)
    of_list, of_array = (icp.control_variate_mean(exact[:, :3], estimates, how([0, 1, 2])) for how in (list, np.array))
    assert np.array_equal(of_list.mean, of_array.mean)
    with pytest.raises(icp.IcpError, match=r"the chosen examples \[0.5, 1.5, 2.5\] are not distinct indices"):
        icp.control_variate_mean.__wrapped__(exact[:, :3], estimates, [0.5, 1.5, 2.5])


def test_estimates_that_do_not_vary_change_nothing():
    exact, _ = population(0.5)
    chosen = np.arange(10)
    found = icp.control_variate_mean(exact[:, chosen], np.ones((3, 40)), chosen)
    assert found.mean == pytest.approx(exact[:, :10].mean(1)) and (found.beta == 0).all()


def test_on_effects_of_a_model():
    model, probe = BY_NAME["llama"].model(), make_probe()
    units = model.units("neuron", layers=[2])
    exact, estimated = (
        np.abs(icp.measure(model, probe, units, icp.Scale(0.9), method=how, progress=False).dP[:, 0])
        for how in ("exact", "linear")
    )
    chosen = np.array([0, 1, 3])
    found = icp.control_variate_mean(exact[:, chosen], estimated, chosen, 1.0)
    error = np.abs(found.mean - exact.mean(1)).mean()
    assert error < 0.3 * np.abs(exact[:, chosen].mean(1) - exact.mean(1)).mean()


@pytest.mark.parametrize("chosen", ([0, 0, 1], [0, 1, 40], [-1, 1, 2]))
def test_indices_that_are_none_are_refused(chosen):
    exact, estimates = population(0.5)
    with pytest.raises(icp.IcpError, match="are not distinct indices from 0 to 39"):
        icp.control_variate_mean(exact[:, :3], estimates, np.array(chosen))


@pytest.mark.parametrize("count", (0, 2))
def test_as_many_indices_as_exact_columns_are_needed(count):
    exact, estimates = population(0.5)
    with pytest.raises(icp.IcpError, match=f"{count} examples were measured exactly and 3 are chosen"):
        icp.control_variate_mean(exact[:, :count], estimates, np.arange(3))
