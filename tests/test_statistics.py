"""Errors of means over examples that share templates and words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import clustered_error
from scipy import stats

import icp
from icp.statistics import clusters_of, mean_interval, seeds_interval, share_interval, standard_error

CODES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=25)


def codes_of(pairs):
    return clusters_of({"template": str(a), "word": str(b)} for a, b in pairs)


@given(CODES, st.integers(0, 99))
def test_the_error_is_that_of_a_loop_over_clusters(pairs, seed):
    values = np.random.default_rng(seed).normal(size=(2, len(pairs)))
    clusters = codes_of(pairs)
    found = standard_error(values, clusters)
    assert found == pytest.approx([clustered_error(row, clusters) for row in values], rel=1e-9)


@given(st.integers(2, 30), st.integers(0, 99))
def test_examples_without_clusters_are_independent(count, seed):
    values = np.random.default_rng(seed).normal(size=count)
    expected = stats.sem(values)
    bare = [{"template": None, "word": None}] * count
    alone = [{"template": str(i), "word": None} for i in range(count)]
    same = [{"template": "only one", "word": str(i)} for i in range(count)]
    for clusters in (None, *map(clusters_of, (bare, alone, same))):
        assert standard_error(values, clusters) == pytest.approx(expected)


def test_repetitions_and_counterparts_are_no_new_examples():
    """x and x', and the same text again, are one cluster where there is no template or word."""
    rows = [{"text": f"{i}", "counterpart": f"{i}'"} for i in range(6)]
    turned = [{"text": row["counterpart"], "counterpart": row["text"]} for row in rows]
    values = np.random.default_rng(0).normal(size=6)
    found = standard_error(np.tile(values, 3), clusters_of([*rows, *turned, *rows]))
    assert found == pytest.approx(stats.sem(values))


def test_repeating_every_example_adds_nothing():
    """Ten copies of an example under one template count as one, up to the small-sample factor, which they share."""
    values = np.random.default_rng(0).normal(size=8)
    repeated = clusters_of([{"template": str(i), "word": None} for i in range(8) for _ in range(10)])
    assert standard_error(values.repeat(10), repeated) == pytest.approx(stats.sem(values))
    assert standard_error(values.repeat(10)) < 0.4 * stats.sem(values)


def test_intervals_cover_the_truth_where_templates_and_words_vary():
    """Values with a part of the template, one of the word and one of their own: 95% intervals hold 0 that often."""
    random, templates, words = np.random.default_rng(0), 12, 12
    pairs = [(t, w) for t in range(templates) for w in range(words)]
    clusters = codes_of(pairs)
    held = {"clustered": 0, "independent": 0}
    for _ in range(400):
        by_template, by_word = random.normal(size=templates), random.normal(size=words)
        values = np.array([by_template[t] + by_word[w] for t, w in pairs]) + random.normal(size=len(pairs))
        for name, codes in (("clustered", clusters), ("independent", None)):
            row = mean_interval(values, codes)
            held[name] += row["low"] < 0 < row["high"]
    assert 0.91 < held["clustered"] / 400 < 0.98
    assert held["independent"] / 400 < 0.7


def test_degrees_of_freedom_are_those_of_the_fewer_clusters():
    values = np.array([1.0, 2.0, 4.0, 8.0, 3.0, 5.0])
    clusters = codes_of([(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)])
    row = mean_interval(values, clusters, 0.9)
    half = stats.t.ppf(0.95, 2) * standard_error(values, clusters)
    assert (row["low"], row["high"]) == pytest.approx((values.mean() - half, values.mean() + half))


def test_a_share_over_clusters_counts_as_few():
    """Whole templates right or wrong: six of them, however many sentences each has."""
    right = np.array([1.0] * 4 + [0.0] * 2)
    six = share_interval(right)
    clusters = clusters_of([{"template": str(i), "word": None} for i in range(6) for _ in range(50)])
    many = share_interval(right.repeat(50), clusters)
    assert many["low"] < six["low"] and six["high"] < many["high"], "t has a wider quantile than the normal"
    z = stats.t.ppf(0.975, 5)
    middle, half = (2 / 3 + z**2 / 12) / (1 + z**2 / 6), z / (1 + z**2 / 6) * np.sqrt(2 / 54 + z**2 / 144)
    assert (many["low"], many["high"]) == pytest.approx((middle - half, middle + half))
    assert many["n"] == 300
    loose = share_interval(right.repeat(50))
    assert loose["high"] - loose["low"] < 0.3 * (many["high"] - many["low"])


def test_a_share_that_clusters_do_not_explain_keeps_its_count():
    right = np.tile([1.0, 0.0], 20)
    clusters = clusters_of([{"template": str(i // 2), "word": None} for i in range(40)])
    crossed = codes_of([(i // 2 % 10, i // 20) for i in range(40)])
    assert standard_error(right, crossed) == 0
    for codes in (clusters, crossed):
        found, loose, fewest = share_interval(right, codes), share_interval(right), {20: 20, 10: 2}
        groups = len(set(codes[:, 0].tolist()))
        wider = stats.t.ppf(0.975, fewest[groups] - 1) / stats.norm.ppf(0.975)
        assert 1 < (found["high"] - found["low"]) / (loose["high"] - loose["low"]) <= wider


def test_where_all_agree_a_share_counts_its_templates():
    """Nothing shows how they cluster, so 20 templates of two are 20 examples, with t's quantile."""
    clusters = clusters_of([{"template": str(i // 2), "word": None} for i in range(40)])
    z = stats.t.ppf(0.975, 19)
    assert share_interval(np.ones(40), clusters)["low"] == pytest.approx(20 / (20 + z**2))
    assert share_interval(np.ones(40), clusters)["high"] == 1.0


def test_a_subset_within_one_cluster_counts_each_example():
    codes = codes_of([(0, 0), (0, 1), (1, 2)])[:2]
    assert standard_error(np.array([1.0, 3.0]), codes) == pytest.approx(1.0)


def test_scores_frontiers_and_evaluations_are_clustered():
    """Three templates of four examples that agree within each: the error is that of three values."""
    values = np.array([1.0, 2.0, 6.0])
    rows = [icp.Example(f"{t} {i}", "y", template=str(t)) for t in range(3) for i in range(4)]
    probe = icp.Probe(tuple(rows))
    header = {"units": ["hook_embed[0]"], "interventions": ["mask:zero"], "property": "NextTokenLoss()"}
    header["examples"] = [{"template": e.template, "word": e.word, "label": None} for e in rows]
    many = values.repeat(4)
    effects = icp.Effects(many[None, None], np.zeros(12), np.ones(12), header)
    for scores in (icp.spuriousness(effects), icp.indirect_effect(effects, "mask:zero"), icp.damage(effects)):
        assert scores.table["se"].item() == pytest.approx(stats.sem(values))
    gap = np.stack([many, many / 2])
    frontier = icp.Frontier(
        (0, 1), gap, {"task": gap}, (), (), {}, {}, probe.clusters, {"task": probe.clusters}
    )  # fmt: skip
    assert frontier.table()["gap_se"][0] == pytest.approx(stats.sem(values))
    assert frontier.table()["damage_se task"][1] == pytest.approx(stats.sem(values / 2))


def test_the_interval_over_seeds_covers_what_it_says():
    """Seeds and examples both vary: intervals of three seeds hold the truth about as often as they say."""
    random, held = np.random.default_rng(0), []
    for _ in range(1000):
        values = 1 + 0.3 * random.normal(size=(3, 1)) + random.normal(size=(1, 40)) + random.normal(size=(3, 40))
        low, high = seeds_interval(values.mean(1), float(standard_error(values.mean(0))), 40)
        held.append(low < 1 < high)
    assert 0.92 <= np.mean(held) <= 0.96


def test_the_interval_over_seeds_at_its_ends():
    assert np.isnan(seeds_interval(np.array([0.5]), 0.1, 40)).all()
    assert seeds_interval(np.array([0.5, 0.5]), 0.0, 40) == (0.5, 0.5)
    low, high = seeds_interval(np.array([0.5] * 3), 0.05, 10**6)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.05, rel=1e-3), "equal seeds: over examples alone"
    low, high = seeds_interval(np.array([0.4, 0.5, 0.6]), 0.0, 40)
    assert (high - low) / 2 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3), "over seeds alone: two degrees of freedom"
