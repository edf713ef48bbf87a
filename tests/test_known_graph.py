"""Intervals hold the true effect about as often as they say, and miss a number that is not it."""

import known_graph
import pytest
from known_graph import coverage, reader_of

from icp.counterfactual import FILM_REVIEWS, WORLDS, World


@pytest.fixture(scope="module")
def held():
    return coverage(draws=20)


@pytest.mark.parametrize("of", ("reader", "label"))
def test_intervals_hold_the_truth_in_nine_draws_of_ten(held, of):
    assert sum(held[of].values()) >= 0.9 * 20 * len(held[of])
    assert min(held[of].values()) >= 16
    assert {name.split(":")[0] for name in held[of]} == {world.name for world in WORLDS}


def test_they_do_not_hold_what_is_not_the_truth(monkeypatch):
    true = World.total_effect
    monkeypatch.setattr(World, "total_effect", lambda *of: true(*of) + 0.15)
    assert max(known_graph._of_readers(5, 200).values()) == 0


def test_the_effect_on_a_reader_is_the_mean_over_every_text():
    """Templates weigh nothing: every opinion with every pair of places gives it."""
    reader, world = reader_of(FILM_REVIEWS), FILM_REVIEWS
    words, chance = world.words, world.equations.probability
    by_hand = 0.0
    for opinion, said in words["opinion"].items():
        for word in said:
            for capital, coast in zip(words["place"]["capital"], words["place"]["coast"]):
                change = reader(f"{word} {coast}") - reader(f"{word} {capital}")
                by_hand += chance({"opinion": opinion}) / 16 * change
    assert world.total_effect(reader, "place", "capital", "coast") == pytest.approx(by_hand)
    assert by_hand > 0.1
