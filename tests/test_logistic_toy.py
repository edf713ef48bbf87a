"""The logistic toy gives the published table, red row included."""

import logistic_toy
import pytest
import torch
from logistic_toy import AGREEMENT, PENALTIES, PUBLISHED, Regression, draw, figures


@pytest.fixture(scope="module")
def found():
    return figures(2, test=10000)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_row_is_within_two_points_of_the_published_one(found, name):
    for measure, value in zip(AGREEMENT, PUBLISHED[name]):
        assert found[name][measure] == pytest.approx(value, abs=2), measure


def test_the_proposals_loss_reads_as_consistent_while_it_answers_by_the_cue(found):
    wrong, right = found["swapped_consistency"], found["preserving"]
    assert wrong["same_answer_to_other_cause"] > 99.9
    assert wrong["same_answer_to_other_cue"] < 0.1
    assert right["same_answer_to_other_cause"] < 40
    assert right["same_answer_to_other_cue"] > 90


def test_a_penalty_in_one_direction_leaves_more_of_the_cue(found):
    assert found["preserving_one_sided"]["s_inverted"] < found["preserving"]["s_inverted"] - 2


def test_figures_are_means_over_seeds_with_their_interval(found):
    row = found["erm"]
    assert row["id"] == pytest.approx(sum(row["id_seeds"]) / 2)
    assert row["id_ci"][0] < row["id"] < row["id_ci"][1]


def test_an_edit_changes_its_variable_alone():
    toy = draw(50, 0, 0.95)
    assert torch.equal(toy.other_cause[:, -1], toy.inputs[:, -1])
    sign = 2 * toy.classes - 1
    noise = toy.inputs[:, :-1] - sign[:, None]
    torch.testing.assert_close(toy.other_cause[:, :-1], noise - sign[:, None])
    assert torch.equal(toy.other_cue[:, :-1], toy.inputs[:, :-1])
    assert torch.equal(toy.other_cue[:, -1], -toy.inputs[:, -1])


def test_draws_of_one_seed_differ_in_the_cue_alone():
    common, rare = draw(4000, 3, 0.95), draw(4000, 3, 0.05)
    assert torch.equal(common.inputs[:, :-1], rare.inputs[:, :-1])
    for toy, share in ((common, 0.95), (rare, 0.05)):
        assert float((toy.inputs[:, -1] == 2 * toy.classes - 1).double().mean()) == pytest.approx(share, abs=0.02)


def test_training_reaches_the_optimum():
    toy = draw(1000, 0, 0.95)
    weights = logistic_toy.trained(toy, PENALTIES["preserving"]).weights.clone().requires_grad_()
    model = Regression(weights)
    logits = model.logits(toy.inputs)
    loss = torch.nn.functional.cross_entropy(logits, toy.classes) + logistic_toy.DECAY / 2 * (weights**2).sum()
    (loss + PENALTIES["preserving"](model, toy, logits)).backward()
    assert float(weights.grad.abs().max()) < 1e-4
