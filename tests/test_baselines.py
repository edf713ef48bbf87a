"""Each baseline against its paper's defining property."""

import dataclasses
import math
import sys

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS
from hypothesis import given
from hypothesis import strategies as st
from training import batch_step, gradients

import icp
from icp import baselines
from icp.adapters import adapted, put_on
from icp.baselines.mmd import squared_mmd
from icp.divergence import kl
from icp.rows import Rows
from icp.weights import copied

ANSWERS = (" she", " he")
LABELS_AND_CUES = ((0, "a"), (0, "a"), (0, "b"), (1, "b"), (1, "b"), (1, "b"), (1, "a"), (0, "a"))


def rows(cells=LABELS_AND_CUES):
    examples = []
    for number, (label, cue) in enumerate(cells):
        x, other = EQUAL_PAIRS[number % 3]
        examples.append(icp.Example(x if cue == "a" else other, other if cue == "a" else x, ANSWERS, label, group=cue))
    return icp.Probe(tuple(examples))


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model()


def counterpart_logits(model, probe):
    found = []
    for example in probe.examples:
        logits = model.module(torch.tensor([model.tokenizer(example.counterpart)["input_ids"]])).logits[0, -1]
        found.append(logits[[model.tokenizer(answer)["input_ids"][0] for answer in ANSWERS]])
    return torch.stack(found)


def test_augmentation_is_training_on_both_members(model):
    probe = rows()
    step = batch_step(model, probe)
    both = icp.Probe((*probe.examples, *probe.swapped().examples))
    loss, expected = baselines.CounterfactualAugmentation().task(step), batch_step(model, both).row_losses.mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    got, want = gradients(model, loss), gradients(model, expected)
    assert max((got[name] - want[name]).abs().max().item() for name in want) < 1e-6


@pytest.mark.parametrize("unequal", (False, True))
def test_consistency_and_logit_pairing_compare_with_the_counterparts(model, unequal):
    probe = rows()
    if unequal:  # what a swap cannot align, a whole counterpart can still be compared with
        longer = [dataclasses.replace(e, counterpart="It was late and " + e.counterpart) for e in probe.examples]
        probe = icp.Probe(tuple(longer))
    step, other = batch_step(model, probe), counterpart_logits(model, probe)
    consistency = baselines.Consistency(weight=2.0).penalty(step)
    pairing = baselines.LogitPairing(weight=2.0).penalty(step)
    assert consistency.item() == pytest.approx(2 * kl(step.logits, other).mean().item(), rel=1e-6)
    assert pairing.item() == pytest.approx(2 * (step.logits - other).abs().mean().item(), rel=1e-6)
    assert consistency > 1e-6 and pairing > 1e-3
    alike = icp.Probe(tuple(dataclasses.replace(e, counterpart=e.text) for e in probe.examples))
    step = batch_step(model, alike)
    assert baselines.Consistency().penalty(step) < 1e-12 and baselines.LogitPairing().penalty(step) < 1e-6


def test_the_target_of_consistency_gets_no_gradient_and_both_sides_of_logit_pairing_do(model):
    step = batch_step(model, rows())
    step = dataclasses.replace(step, logits=step.logits.detach().requires_grad_())
    assert torch.autograd.grad(baselines.Consistency().penalty(step), step.logits, allow_unused=True)[0] is None
    assert torch.autograd.grad(baselines.LogitPairing().penalty(step), step.logits)[0].any()


cells = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab")), min_size=4, max_size=40).map(
    lambda found: [*found, (0, "a"), (0, "b"), (1, "a"), (1, "b")]
)


@given(cells)
def test_weighted_by_inverse_propensity_label_and_cue_are_independent(found):
    model = BY_NAME["llama"].model()
    weights = baselines.InversePropensity().begin(model, Rows.of(model, rows(found)))["weights"]
    total = {cell: sum(w.item() for w, mine in zip(weights, found) if mine == cell) for cell in set(found)}
    label = {l: sum(w for (mine, _), w in total.items() if mine == l) for l in (0, 1)}  # noqa: E741
    cue = {c: sum(w for (_, mine), w in total.items() if mine == c) for c in "ab"}
    assert weights.sum().item() == pytest.approx(len(found))
    for (l, c), weight in total.items():  # noqa: E741
        assert weight == pytest.approx(label[l] * cue[c] / len(found))
        assert label[l] == pytest.approx(sum(mine == l for mine, _ in found)), "margins stay"


def test_inverse_propensity_weighs_the_loss_of_each_row(model):
    step = batch_step(model, rows(), baselines.InversePropensity())
    share = {(0, "a"): 3, (0, "b"): 1, (1, "b"): 3, (1, "a"): 1}
    weights = torch.tensor([4 * 4 / share[cell] / 8 for cell in LABELS_AND_CUES], dtype=torch.float64)
    expected = (weights * step.row_losses).mean().item()
    assert baselines.InversePropensity().task(step).item() == pytest.approx(expected, rel=1e-12)


def test_group_dro_follows_its_update_by_hand(model):
    objective = baselines.GroupDRO(step_size=0.5)
    step = batch_step(model, rows(), objective)
    groups = sorted(set(LABELS_AND_CUES))
    each = [
        sum(loss.item() for loss, cell in zip(step.row_losses, LABELS_AND_CUES) if cell == group)
        / LABELS_AND_CUES.count(group)
        for group in groups
    ]
    q = [0.25] * 4
    for _ in range(3):
        q = [weight * math.exp(0.5 * loss) for weight, loss in zip(q, each)]
        q = [weight / sum(q) for weight in q]
        assert objective.task(step).item() == pytest.approx(sum(w * loss for w, loss in zip(q, each)), rel=1e-9)
        assert step.state["q"].tolist() == pytest.approx(q, rel=1e-9)
    assert step.state["q"].argmax() == each.index(max(each)), "the group that is worst off weighs most"


def test_group_dro_leaves_a_group_alone_that_is_not_in_the_batch(model):
    objective = baselines.GroupDRO(step_size=0.5)
    step = batch_step(model, rows(), objective)
    part = dataclasses.replace(batch_step(model, icp.Probe(rows().examples[:2] + rows().examples[3:4])),
                               rows=step.rows, index=[0, 1, 3], state=step.state)  # fmt: skip
    before = step.state["q"].clone()
    loss = objective.task(part)
    assert torch.isfinite(loss)
    now = step.state["q"]
    absent = [groups for groups in range(4) if groups not in step.rows.groups[[0, 1, 3]].tolist()]
    assert now[absent[0]] / now[absent[1]] == before[absent[0]] / before[absent[1]]


def test_group_dro_weighs_a_rare_group_as_its_q_says(model):
    """Over batches of one row each, the mean loss is the sum of q times the groups' losses, whatever their sizes."""
    objective = baselines.GroupDRO(step_size=1e-12)
    whole = batch_step(model, rows(), objective)
    losses = []
    for row in range(len(whole.index)):
        reads = dataclasses.replace(whole.reads, rows=torch.tensor([0]), positions=whole.reads.positions[[row]])
        alone = dataclasses.replace(
            whole, index=[row], logits=whole.logits[[row]], targets=whole.targets[[row]], reads=reads
        )
        losses.append(objective.task(alone).item())
    groups = whole.rows.groups
    each = [whole.row_losses[groups == group].mean().item() for group in range(4)]
    assert sum(losses) / len(losses) == pytest.approx(sum(0.25 * loss for loss in each), rel=1e-9)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_squared_mmd_equals_double_loops_and_is_zero_for_equal_sets(count, others, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count + others, 2, generator=generator, dtype=torch.float64)
    one = torch.arange(count + others) < count

    def k(x, y):
        return math.exp(-float((x - y).square().sum()) / (2 * 0.7**2))

    def mean(xs, ys):
        return sum(k(x, y) for x in xs for y in ys) / (len(xs) * len(ys))

    a, b = values[one], values[~one]
    expected = mean(a, a) + mean(b, b) - 2 * mean(a, b)
    assert squared_mmd(values, one, ~one, 0.7).item() == pytest.approx(expected, abs=1e-9)
    twice = torch.cat([a, a])
    first = torch.arange(2 * count) < count
    assert abs(squared_mmd(twice, first, ~first, 0.7).item()) < 1e-9


def test_the_direction_of_mmd_decides_what_is_compared(model):
    """Outputs that differ by label alone: the cue goes with it, so they differ marginally, but not within a label."""
    step = batch_step(model, rows())
    labels = torch.tensor([label for label, _ in LABELS_AND_CUES])
    step = dataclasses.replace(step, logits=torch.stack([3.0 * labels, -3.0 * labels], 1).double())
    assert baselines.MMD("causal").penalty(step) > 0.1
    assert abs(baselines.MMD("anti-causal").penalty(step)) < 1e-12


def test_mmd_brings_outputs_together_that_lie_far_apart(model):
    """A kernel as wide as they are apart has a gradient there; one of a fixed width of 1 has none."""
    step = batch_step(model, rows())
    cues = torch.tensor([1.0 if cue == "a" else -1.0 for _, cue in LABELS_AND_CUES], dtype=torch.float64)
    logits = torch.stack([20 * cues, -20 * cues], 1).requires_grad_()
    step = dataclasses.replace(step, logits=logits)
    pulls = {
        width: torch.autograd.grad(baselines.MMD("causal", bandwidth=width).penalty(step), logits)[0]
        for width in (None, 1.0)
    }
    assert (pulls[None][:, 0] * cues > 1e-4).all() and pulls[1.0].abs().max() < 1e-12


def test_the_adversary_removes_what_of_the_task_would_help_it(model):
    """Of each tensor: what is left of the task's gradient is orthogonal to the adversary's, and alpha is beside it."""
    objective = baselines.Adversarial(alpha=0.5)
    step = batch_step(model, rows(), objective)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(step.state["adversary"].shape, generator=generator)
    step.state["adversary"].copy_(weights)
    theirs = gradients(model, objective.adversary_loss(step, objective.inputs(step), weights))
    total = gradients(model, objective.task(step) + objective.penalty(step))
    seen = 0
    for name, against in theirs.items():
        square = against.square().sum().item()
        if square > 1e-12:
            seen += 1
            assert (total[name] * against).sum().item() == pytest.approx(-0.5 * square, rel=1e-6, abs=1e-12), name
    assert seen > 10


@pytest.mark.parametrize("size", (1.0, 20.0))
def test_the_adversary_learns_where_there_is_a_cue_and_stays_at_chance_where_there_is_none(model, size):
    """However large the logits are, and whatever they have in common."""

    def learnt(cues):
        probe = rows([(label, cue) for label, cue in zip((0, 1) * 4, cues)])
        objective = baselines.Adversarial(odds=False)
        step = batch_step(model, probe, objective)
        values = torch.tensor([size if cue == "a" else -size for cue in "aabbaabb"], dtype=torch.float64)
        step = dataclasses.replace(step, logits=torch.stack([values, -values], 1) + 15 + 0 * step.logits)
        for _ in range(60):
            objective.penalty(step)
        return objective.adversary_loss(step, objective.inputs(step), step.state["adversary"]).item()

    assert learnt("aabbaabb") < 0.1
    assert learnt("abbaabba") == pytest.approx(math.log(2), abs=0.01)


BALANCED = [(label, cue) for label in (0, 1) for cue in "ab"]
OBJECTIVES = (
    baselines.CounterfactualAugmentation(),
    baselines.Consistency(),
    baselines.LogitPairing(weight=0.1),
    baselines.InversePropensity(),
    baselines.GroupDRO(),
    baselines.MMD("anti-causal"),
    baselines.Adversarial(),
)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_each_runs_on_the_same_loop(objective):
    model = BY_NAME["llama"].model(torch.float32)
    arguments = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "num_train_epochs": 5, "logging_steps": 1}
    tuned = icp.finetune(model, rows(), objective=objective, arguments=arguments, progress=False)
    task = [entry["task"] for entry in tuned.tuning.history]
    assert all(map(math.isfinite, task)) and sum(task[-2:]) < sum(task[:2])


@pytest.mark.parametrize("objective", OBJECTIVES[3:], ids=lambda objective: type(objective).__name__)
@pytest.mark.parametrize(
    ("cells", "says"),
    (
        ([(0, "a"), (1, "b"), (0, "b")], "no row has the label 1 and the group 'a'"),
        ([(0, "a"), (1, "a")], "all rows have the group 'a'"),
        ([(0, None), (1, "a")], "row 0 .* has no group"),
    ),
)
def test_an_empty_group_is_refused(objective, cells, says):
    with pytest.raises(icp.ProbeError, match=says):
        icp.finetune(BY_NAME["llama"].model(torch.float32), rows(cells), objective=objective, progress=False)


@pytest.mark.parametrize("objective", OBJECTIVES[:3], ids=lambda objective: type(objective).__name__)
def test_the_wrong_kind_of_pair_is_refused(objective):
    flipping = icp.FlippingPairs(rows(), tuple(1 - label for label, _ in LABELS_AND_CUES))
    with pytest.raises(icp.ProbeError, match="needs label-preserving pairs and was given label-flipping ones"):
        icp.finetune(BY_NAME["llama"].model(torch.float32), flipping, objective=objective, progress=False)


@pytest.mark.parametrize(
    ("make", "says"),
    (
        (lambda: baselines.MMD("sideways"), "unknown direction 'sideways'"),
        (lambda: baselines.MMD("causal", bandwidth=0.0), "bandwidth=0.0"),
        (lambda: baselines.GroupDRO(step_size=0.0), "step_size=0.0"),
        (lambda: baselines.Adversarial(alpha=-1.0), "alpha=-1.0"),
        (lambda: baselines.Consistency(-1.0), r"weight=-1\.0 has to be a positive number"),
        (lambda: baselines.LogitPairing(float("nan")), "weight=nan has to be a positive number"),
        (lambda: baselines.Consistency(divergence="cosine"), "unknown divergence 'cosine' of outputs"),
    ),
)
def test_settings_that_make_no_sense_are_refused(make, says):
    with pytest.raises(icp.IcpError, match=says):
        make()


def separable():
    """Six texts, each with a label of its own, and every group among them."""
    texts = list(dict.fromkeys(text for pair in EQUAL_PAIRS for text in pair))
    cells = ((0, "a"), (1, "b"), (1, "a"), (0, "b"), (0, "a"), (1, "a"))
    return icp.Probe(tuple(icp.Example(x, None, ANSWERS, label, group=cue) for x, (label, cue) in zip(texts, cells)))


FAST = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "num_train_epochs": 3, "logging_steps": 1}


def test_weights_of_two_are_the_row_twice(model):
    probe = rows()
    objective = baselines.Weighted((2.0, *[1.0] * 7))
    twice = icp.Probe((probe.examples[0], *probe.examples))
    got = objective.task(batch_step(model, probe, objective))
    assert got.item() == pytest.approx(batch_step(model, twice).row_losses.mean().item(), rel=1e-9)
    assert objective.label != baselines.Weighted((1.0, *[1.0] * 7)).label
    with pytest.raises(icp.IcpError, match="8 weights were given for 2 rows"):
        batch_step(model, icp.Probe(probe.examples[2:4]), objective)


def test_training_twice_weighs_what_the_first_model_gets_wrong(monkeypatch):
    model, probe, seen = BY_NAME["llama"].model(torch.float32), rows(), []
    module = sys.modules["icp.baselines.twice"]
    finetune = module.finetune

    def watched(*given, **options):
        seen.append((options, finetune(*given, **options)))
        return seen[-1][1]

    monkeypatch.setattr(module, "finetune", watched)
    baselines.just_train_twice(model, probe, upweight=7.0, first={"max_steps": 1}, arguments=FAST, progress=False)
    (first, begun), (second, _) = seen
    accuracy = icp.evaluate(begun, probe, ["accuracy"]).values[begun.name]["accuracy"]
    assert first["arguments"] == FAST | {"max_steps": 1} and second["arguments"] == FAST
    assert 0 < accuracy.mean() < 1
    assert second["objective"].weights == tuple(7.0 if right == 0 else 1.0 for right in accuracy)


def test_training_twice_says_when_there_are_no_errors():
    model = BY_NAME["llama"].model(torch.float32)
    with pytest.raises(icp.IcpError, match=r"gets all 6 rows right.*give first= fewer epochs"):
        baselines.just_train_twice(model, separable(), arguments=FAST | {"num_train_epochs": 30}, progress=False)


def test_last_layer_retraining_changes_the_label_words_only_and_fits_them():
    model, probe = BY_NAME["llama"].model(torch.float32), separable()
    found = baselines.last_layer_retraining(model, probe, strength=1e3, draws=50)
    before, after = model.module.state_dict(), found.module.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"lm_head.weight"}
    words = [model.tokenizer(answer)["input_ids"][0] for answer in ANSWERS]
    same = [token for token in range(len(after["lm_head.weight"])) if token not in words]
    assert torch.equal(before["lm_head.weight"][same], after["lm_head.weight"][same])
    accuracy = {name: icp.evaluate(m, probe, ["accuracy"]).values[m.name]["accuracy"].mean()
                for name, m in (("before", model), ("after", found))}  # fmt: skip
    assert accuracy["after"] == 1 > accuracy["before"]


def test_a_tied_unembedding_is_untied_before_it_is_retrained():
    model = BY_NAME["qwen2"].model(torch.float32)
    found = baselines.last_layer_retraining(model, rows(), strength=1.0)
    assert torch.equal(model.module.model.embed_tokens.weight, found.module.model.embed_tokens.weight)
    assert not torch.equal(found.module.lm_head.weight, found.module.model.embed_tokens.weight)
    assert not found.config.tie_word_embeddings and model.config.tie_word_embeddings


def test_each_group_counts_alike_in_the_last_layer(model):
    """As many rows are drawn of every group as the smallest has, so repeating one group's row changes nothing."""
    probe = rows(BALANCED)
    repeated = icp.Probe((*probe.examples, *probe.examples[:1] * 5))
    once, more = (baselines.last_layer_retraining(model, texts).module.lm_head.weight for texts in (probe, repeated))
    assert torch.allclose(once, more, atol=1e-6)


def test_influence_is_what_a_step_on_the_row_does_to_the_reference():
    """Central differences along the row's own gradient, by hand, on a model whose adapters are trained."""
    model, train, reference = BY_NAME["llama"].model(), rows(), icp.Probe(rows().examples[2:5])
    tuned = icp.finetune(model, train, arguments=FAST, progress=False)
    found = baselines.influences(model, tuned, train, reference, progress=False)
    assert found.shape == (8,) and (found < 0).any() and (found > 0).any()
    everything = baselines.influences(model, tuned, reference, reference, progress=False)
    assert everything.mean() > 0, "the mean of the reference's own rows is the square of its gradient"
    base = adapted(copied(model.module), tuned.tuning.config)
    put_on(base, tuned.tuning.weights)
    carried = dataclasses.replace(model, module=base.base_model.model)
    trained = [parameter for parameter in carried.module.parameters() if parameter.requires_grad]

    def losses(probe):
        with carried.frozen():
            return batch_step(carried, probe).row_losses

    for row in (0, 3):
        gradient = torch.autograd.grad(losses(train)[row], trained)
        values = []
        for sign in (1e-5, -1e-5):
            with torch.no_grad():
                for parameter, part in zip(trained, gradient):
                    parameter += sign * part
                values.append(losses(reference).mean().item())
                for parameter, part in zip(trained, gradient):
                    parameter -= sign * part
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(found[row], rel=1e-3)


def test_what_does_harm_is_left_out(monkeypatch):
    """Rows with the wrong label, against a reference whose labels are right."""
    model = BY_NAME["llama"].model(torch.float32)
    right = [icp.Example(x, answers=ANSWERS, label=number % 2) for number, (x, _) in enumerate(EQUAL_PAIRS[:2] * 4)]
    wrong = [dataclasses.replace(example, label=1 - example.label) for example in right[:2]]
    train, reference = icp.Probe((*right, *wrong)), icp.Probe(tuple(right[:2]))
    tuned = icp.finetune(model, train, arguments=FAST, progress=False)
    found = baselines.influences(model, tuned, train, reference, progress=False)
    assert found[-2:].max() < found[:-2].min()
    better = baselines.without_harmful(model, train, reference, share=0.2, arguments=FAST, progress=False)
    losses = icp.evaluate({"all": tuned, "without": better}, reference, ["task_loss"])
    assert losses.values["without"]["task_loss"].mean() < losses.values["all"]["task_loss"].mean()
    with pytest.raises(icp.IcpError, match=r"share=1\.0 is not between"):
        baselines.without_harmful(model, train, reference, share=1.0, progress=False)
    monkeypatch.setattr(sys.modules["icp.baselines.influence"], "finetune", lambda *_, **__: pytest.fail("trained"))
    for share, count in ((0.01, 0), (0.99, len(train))):
        with pytest.raises(icp.IcpError, match=f"share={share} of {len(train)} rows leaves out {count}: give one that"):
            baselines.without_harmful(model, train, reference, share=share, progress=False)
