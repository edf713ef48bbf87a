"""Contract 1: dP equals the naive loop and TransformerLens's own hooks, for every unit kind and intervention."""

import copy
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import torch
from helpers import (
    BY_NAME,
    CASES,
    EQUAL_PAIRS,
    HOOKED,
    PARTNERS,
    bridged,
    hooked_transformer,
    make_probe,
    make_tokenizer,
    some_units,
)
from reference import Lens, Naive, Plain

import icp
from icp.hooks import SiteEdits, edited

FULL = ("llama", "gpt2")
POSITIONS = ("all", "last", (1, 3), (-3, -1))
NAN_IN_FLOAT64 = ("mistral",)  # a float64 bridge returns NaN where a sliding window sees padding only


@dataclass(frozen=True)
class Clipped(icp.Intervention):
    """A user's own, with no affine form."""

    limit: float = 0.1

    def replace(self, values, where):
        return values.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class UnitNorm(icp.Intervention):
    """A user's own that needs a unit's dimensions together."""

    def replace(self, values, where):
        return values / values.norm(dim=-1, keepdim=True)


def every_intervention(case):
    return [
        icp.Mask("zero"),
        icp.Mask("mean"),
        icp.Mask("mean", per_position=True),
        icp.Mask("resample"),
        icp.Scale(0.5),
        icp.Scale(-1.5),
        icp.Swap("counterpart"),
        Clipped(),
        UnitNorm(),
    ]


def plan_of(case, positions="all"):
    """Units in the two widths, each with the interventions that suit it; reduced on all but two families."""
    units, interventions = some_units(case), every_intervention(case)
    if case.name not in FULL or positions != "all":
        units = units[::2] + units[3:4]
        interventions = [interventions[i] for i in (1, 4, 6, 7)]
    heads = [u for u in units if u.endswith(("hook_z[3]", "hook_z[0]"))]
    last = case.layers - 1
    lender, other_lender = f"blocks.{last}.mlp.hook_post[2]", "hook_embed[3]"
    return (
        ([u for u in units if u not in heads], [*interventions, icp.Swap(lender), icp.Swap(other_lender)]),
        (heads, [*interventions, icp.Swap("blocks.1.attn.hook_z[1]")]),
    )


@lru_cache
def naive_of(name, positions="all"):
    """The naive dP of both halves of the plan, with the module that it was measured on."""
    case = BY_NAME[name]
    module = case.module()
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), positions=positions, partners=PARTNERS)
    return module, [naive.dP(units, interventions) for units, interventions in plan_of(case, positions)]


def close(got, want, atol=1e-9):
    """Equal, and not because everything is zero."""
    assert got.shape == want.shape
    assert np.abs(want).max() > 0.01
    assert np.abs(got - want).max() <= atol


BATCHED = [(case.name, size) for case in CASES for size in ((1, 2, 3, None) if case.name in FULL else (3, None))]


@pytest.mark.parametrize(("name", "batch_size"), BATCHED)
def test_exact_effects_equal_the_naive_loop(name, batch_size):
    module, wanted = naive_of(name)
    model = icp.load(module, make_tokenizer())
    for (units, interventions), want in zip(plan_of(BY_NAME[name]), wanted):
        assert (np.abs(want).max(axis=2) > 0).all(), "an edit without any effect tests nothing"
        got = icp.measure(model, make_probe(), units, interventions, batch_size=batch_size, progress=False)
        close(got.dP, want, BY_NAME[name].atol)


NARROW = [(case.name, positions) for case in CASES for positions in (POSITIONS[1:] if case.name in FULL else [(1, 3)])]


NARROW += [("llama", "cue"), ("llama", "rest"), ("gpt2", "cue")]


@pytest.mark.parametrize(("name", "positions"), NARROW, ids=str)
def test_exact_effects_at_some_positions_equal_the_naive_loop(name, positions):
    module, wanted = naive_of(name, positions)
    model = icp.load(module, make_tokenizer())
    for (units, interventions), want in zip(plan_of(BY_NAME[name], positions), wanted):
        call = (model, make_probe(), units, interventions)
        close(icp.measure(*call, positions=positions, batch_size=3, progress=False).dP, want, BY_NAME[name].atol)
        everywhere = icp.measure(*call, progress=False).dP
        assert np.abs(everywhere - want).max() > 1e-3, "positions made no difference"


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_swap_with_another_example_equals_the_naive_loop(name):
    case, probe = BY_NAME[name], make_probe(EQUAL_PAIRS)
    module, swaps = case.module(), [icp.Swap(example=1), icp.Swap(example=2), icp.Swap("counterpart")]
    want = Naive(Plain(module), make_tokenizer(), probe).dP(some_units(case), swaps)
    got = icp.measure(icp.load(module, make_tokenizer()), probe, some_units(case), swaps, progress=False)
    close(got.dP, want, case.atol)
    assert (want[:, 0, 1] == 0).all(), "an example swapped with itself"
    assert np.abs(got.dP[:, 0, 1]).max() < 1e-12


def test_resampling_draws_other_examples_with_another_seed():
    model, whats = BY_NAME["gpt2"].model(), [icp.Mask("resample", seed=seed) for seed in range(8)]
    dP = icp.measure(model, make_probe(EQUAL_PAIRS), ["blocks.1.attn.hook_z[1]"], whats, progress=False).dP[0]
    swaps = [icp.Swap(example=i) for i in range(len(EQUAL_PAIRS))]
    lent = icp.measure(model, make_probe(EQUAL_PAIRS), ["blocks.1.attn.hook_z[1]"], swaps, progress=False).dP[0]
    for example, drawn in enumerate(dP.T):
        others = np.delete(lent[:, example], example)
        taken = np.abs(drawn[:, None] - others).argmin(1)
        assert set(taken) == {0, 1}, "eight seeds draw either of the two others"
        close(drawn, others[taken])


@pytest.mark.parametrize("method", ("exact", "linear"))
@pytest.mark.parametrize("name", FULL)
def test_effects_of_a_bfloat16_model_are_near_those_of_the_same_weights_in_float32(name, method, tmp_path):
    module = BY_NAME[name].module(torch.bfloat16)
    call = dict(probe=make_probe(), units=some_units(BY_NAME[name]), method=method, progress=False)
    call["interventions"] = [icp.Mask("mean"), icp.Swap("counterpart")]
    want = icp.measure(icp.load(copy.deepcopy(module).float(), make_tokenizer()), **call)
    got = icp.measure(icp.load(module, make_tokenizer()), store=tmp_path / "effects", **call)
    assert got.header["dtype"] == "torch.bfloat16" and got.dP.dtype == np.float32
    for values, others in ((got.dP, want.dP), (got.clean, want.clean), (got.total, want.total)):
        assert 0 < np.abs(values - others).max() < 0.1 * np.abs(others).max()
    assert np.array_equal(np.sort(icp.Effects.load(tmp_path / "effects").dP, axis=0), np.sort(got.dP, axis=0))


@pytest.mark.parametrize("name", FULL)
def test_clean_and_total_effects_equal_the_naive_loop(name):
    module = BY_NAME[name].module()
    naive = Naive(Plain(module), make_tokenizer(), make_probe())
    got = icp.measure(icp.load(module, make_tokenizer()), make_probe(), ["hook_embed[0]"], icp.Mask(), progress=False)
    close(got.clean, naive.clean)
    close(got.total, naive.total())


def test_mean_masks_take_the_mean_over_the_reference():
    case, module = BY_NAME["llama"], BY_NAME["llama"].module()
    reference = icp.Probe.from_texts(["It was late and", "the old carpenter laughed quickly because it was early"])
    masks = [icp.Mask("mean"), icp.Mask("mean", per_position=True)]
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), reference=reference)
    got = icp.measure(
        icp.load(module, make_tokenizer()), make_probe(), some_units(case), masks, reference=reference,
        property=icp.TaskLoss(), progress=False,
    )  # fmt: skip
    naive.property = icp.TaskLoss()
    want = naive.dP(some_units(case), masks)
    close(got.dP, want)
    assert np.abs(want - Naive(Plain(module), make_tokenizer(), make_probe(), icp.TaskLoss()).dP(
        some_units(case), masks)).max() > 1e-3  # fmt: skip


SETS = (
    (),
    ("blocks.0.mlp.hook_post[3]",),
    ("blocks.1.attn.hook_z[1]", "blocks.1.attn.hook_z[3]", "blocks.0.attn.hook_z[2]"),
    ("blocks.1.mlp.hook_post[0]", "blocks.0.mlp.hook_post[9]", "blocks.0.mlp.hook_post[1]", "hook_embed[4]"),
    ("blocks.0.attn.hook_z[1]", "blocks.0.attn.hook_z[2,5]", "blocks.0.hook_resid_post[7]", "blocks.1.attn.hook_z[0]"),
)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_joint_effects_equal_the_naive_loop(name):
    case, module = BY_NAME[name], BY_NAME[name].module()
    model = icp.load(module, make_tokenizer())
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    whats = [icp.Mask("zero"), icp.Mask("mean"), icp.Scale(0.5), icp.Swap("counterpart"), Clipped(), UnitNorm()]
    for what in whats if name in FULL else whats[1::2]:
        want = np.array([naive.joint(members, what) for members in SETS])
        for batch_size in (1, 2, 3, None) if name in FULL else (3, None):
            got = icp.measure_sets(model, make_probe(), SETS, what, batch_size=batch_size, progress=False)
            close(got.dP, want, case.atol)
            close(got.clean, naive.clean, case.atol)
            assert (got.dP[0] == 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_first_order_effects_at_the_cue_the_last_token_and_the_rest_add_up(side):
    """A first-order estimate is a sum over positions, and these three are all of them, once each."""
    model = BY_NAME["llama"].model()
    swap = icp.Swap("counterpart")
    call = dict(method="linear", padding_side=side, progress=False)
    parts = [
        icp.measure(model, make_probe(), some_units(BY_NAME["llama"]), swap, positions=positions, **call).dP
        for positions in ("all", "cue", "last", "rest")
    ]
    assert all(np.abs(part).max() > 1e-3 for part in parts)
    np.testing.assert_allclose(parts[0], sum(parts[1:]), atol=1e-9)


def test_joint_effects_at_some_positions_and_from_another_unit_equal_the_naive_loop():
    module = BY_NAME["gpt2"].module()
    model = icp.load(module, make_tokenizer())
    sets = (SETS[1], SETS[3], ("blocks.2.mlp.hook_post[3]", "blocks.2.attn.hook_z[2,2]"))
    swap = icp.Swap("blocks.1.mlp.hook_post[3]")
    for positions in POSITIONS:
        naive = Naive(Plain(module), make_tokenizer(), make_probe(), positions=positions)
        got = icp.measure_sets(model, make_probe(), sets, swap, positions=positions, progress=False)
        close(got.dP, np.array([naive.joint(members, swap) for members in sets]))


def test_rows_with_different_units_and_interventions_share_a_forward_pass():
    """Two sites edited at once; in each, rows differ in columns, positions, alpha and shift."""
    case = BY_NAME["llama"]
    module = case.module()
    model = icp.load(module, make_tokenizer())
    ids = make_tokenizer()("It was late and the nurse said that")["input_ids"]
    generator = torch.Generator().manual_seed(1)
    where = torch.rand(3, len(ids), generator=generator) < 0.6
    shift = torch.randn(3, len(ids), 2, generator=generator, dtype=torch.float64)
    alpha = torch.tensor([0.0, 0.5, -2.0], dtype=torch.float64)
    rows = torch.tensor([2, 0, 2])
    columns = {"blocks.0.mlp.hook_post": [[0, 1], [5, 9], [4, 3]], "blocks.1.attn.hook_z": [[8, 1], [30, 2], [0, 31]]}
    edits = {
        model.sites[name]: SiteEdits(rows, torch.tensor(which), where, alpha, shift) for name, which in columns.items()
    }
    with torch.no_grad(), edited(edits.items()):
        got = model.logits(model.pad([ids] * 3))

    def see(name, row):
        def change(value):
            new = value.clone()
            for e in range(3):
                if rows[e] == row:
                    for w, column in enumerate(columns[name][e]):
                        at = where[e]
                        new[0, at, column] = alpha[e] * value[0, at, column] + shift[e, at, w]
            return new

        return change

    plain = Plain(module)
    want = torch.stack([plain.run(ids, [(name, see(name, row)) for name in columns]) for row in range(3)])
    assert torch.equal(want[1], plain.run(ids))
    assert (want[0] - want[1]).abs().max() > 0.01
    assert (got - want).abs().max() < 1e-9


def lens_plan(case):
    """A smaller plan, since `run_with_hooks` is slow."""
    whats = [icp.Mask("zero"), icp.Mask("mean"), icp.Scale(0.5), icp.Swap("counterpart")]
    return some_units(case)[::2], whats if case.name in FULL else whats[1::2]


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_effects_equal_run_with_hooks_on_a_bridge_over_the_same_weights(name):
    """In float64 where the architecture computes in it throughout; Llama's RMS norm always works in float32."""
    case = BY_NAME[name]
    exactly = name.startswith("gpt")
    module = case.module(torch.float64 if exactly else torch.float32)
    units, interventions = lens_plan(case)
    lens = Naive(Lens(bridged(module, make_tokenizer())), make_tokenizer(), make_probe(), partners=PARTNERS)
    got = icp.measure(icp.load(module, make_tokenizer()), make_probe(), units, interventions, progress=False)
    scale = float(lens.backend.run(lens.inputs[0]).abs().max())
    close(got.dP, lens.dP(units, interventions), case.atol if exactly else 1e-4 * scale)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_bridge_is_measured_as_its_own_run_with_hooks_says(name):
    case = BY_NAME[name]
    dtype, atol = (torch.float32, 1e-4) if name in NAN_IN_FLOAT64 else (torch.float64, case.atol)
    bridge = bridged(case.module(dtype), make_tokenizer())
    units, interventions = lens_plan(case)
    lens = Naive(Lens(bridge), make_tokenizer(), make_probe(), partners=PARTNERS)
    want = lens.dP(units, interventions)
    model = icp.load(bridge)
    assert model.kind == "bridge"
    for batch_size in (1, 3, None):
        got = icp.measure(model, make_probe(), units, interventions, batch_size=batch_size, progress=False)
        close(got.dP, want, atol)
    joint = icp.measure_sets(model, make_probe(), SETS, icp.Swap("counterpart"), progress=False)
    close(joint.dP, np.array([lens.joint(members, icp.Swap("counterpart")) for members in SETS]), atol)


@pytest.mark.parametrize("name", HOOKED)
def test_a_hooked_transformer_is_measured_as_its_own_run_with_hooks_says(name):
    module = hooked_transformer(name)
    model = icp.load(module)
    assert model.kind == "hooked_transformer"
    case = BY_NAME["gpt_neox"]  # two blocks, as here
    units = some_units(case)
    whats = [icp.Mask("zero"), icp.Mask("mean"), icp.Scale(0.5), icp.Swap("counterpart"), Clipped()]
    lens = Naive(Lens(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    want = lens.dP(units, whats)
    for batch_size in (1, 2, 3, None):
        got = icp.measure(model, make_probe(), units, whats, batch_size=batch_size, progress=False)
        close(got.dP, want)
    for positions in POSITIONS[1:]:
        narrow = Naive(Lens(module), make_tokenizer(), make_probe(), positions=positions, partners=PARTNERS)
        got = icp.measure(model, make_probe(), units[::3], whats[::3], positions=positions, progress=False)
        close(got.dP, narrow.dP(units[::3], whats[::3]))
    joint = icp.measure_sets(model, make_probe(), SETS, icp.Swap("counterpart"), progress=False)
    close(joint.dP, np.array([lens.joint(members, icp.Swap("counterpart")) for members in SETS]))


PROPERTIES = (
    icp.LogitDifference(),
    icp.Probability(),
    icp.Probability(1),
    icp.ClassProbability(),
    icp.ClassProbability(1),
    icp.LogLikelihood(),
    icp.TaskLoss(),
    icp.NextTokenLoss(),
)


@pytest.mark.parametrize("positions", ("all", (1, 3)), ids=str)
@pytest.mark.parametrize("property", PROPERTIES, ids=lambda p: p.label)
@pytest.mark.parametrize("name", FULL)
def test_properties_equal_their_definition_on_all_logits(name, property, positions):
    case = BY_NAME[name]
    module, probe, whats = case.module(), make_probe(), [icp.Mask("mean"), icp.Swap("counterpart")]
    model, units = icp.load(module, make_tokenizer()), some_units(case)[::2]
    options = dict(positions=positions, partners=_longer(property, PARTNERS))
    naive = Naive(Plain(module), make_tokenizer(), probe, property, **options)
    want, sets = naive.dP(units, whats), [naive.joint(members, whats[1]) for members in SETS[::2]]
    assert np.abs(want).max() > 1e-5
    options = dict(property=property, positions=positions, progress=False)
    for batch_size in (3, None):
        got = icp.measure(model, probe, units, whats, batch_size=batch_size, **options)
        assert np.abs(got.dP - want).max() < 1e-9
        assert np.abs(got.clean - naive.clean).max() < 1e-9
        assert np.abs(got.total - naive.total()).max() < 1e-9
    joint = icp.measure_sets(model, probe, SETS[::2], whats[1], **options)
    assert np.abs(joint.dP - np.array(sets)).max() < 1e-9


@pytest.mark.parametrize("name", FULL)
def test_an_error_rate_is_counted_on_all_logits(name):
    case = BY_NAME[name]
    module, units = case.module(), [*some_units(case)[::2], "hook_embed[3]"]
    whats = [icp.Mask("zero"), icp.Scale(-9.0), icp.Swap("counterpart")]
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), icp.ErrorRate(), partners=PARTNERS)
    model = icp.load(module, make_tokenizer())
    got = icp.measure(model, make_probe(), units, whats, property=icp.ErrorRate(), progress=False)
    assert np.array_equal(got.dP, naive.dP(units, whats)) and np.array_equal(got.clean, naive.clean)
    assert {0.0, 1.0} == set(got.clean) and {-1.0, 0.0, 1.0} == set(got.dP.flat)


def _longer(property, partners, by=1):
    """Partners of texts that have a continuation of `by` tokens, the same on both sides."""
    if not isinstance(property, icp.LogLikelihood):
        return partners
    return [(*row, *range(row[-1] + 1, row[-1] + 1 + by)) for row in partners]


@pytest.mark.parametrize("positions", ("all", "last", (1, 3)), ids=str)
def test_log_likelihood_of_several_tokens_equals_its_definition(positions):
    case = BY_NAME["llama"]
    answers = (" she went home", " he")
    examples = [icp.Example(e.text, e.counterpart, answers) for e in make_probe().examples]
    examples[2] = icp.Example(examples[2].text, examples[2].counterpart, (" laughed quickly", " he"))
    probe = icp.Probe(tuple(examples))
    counts = [len(e.answers[0].split()) for e in examples]
    partners = [_longer(icp.LogLikelihood(), [row], count)[0] for row, count in zip(PARTNERS, counts)]
    module, units = case.module(), some_units(case)
    whats = [icp.Mask("zero"), icp.Mask("mean"), icp.Swap("counterpart")]
    naive = Naive(Plain(module), make_tokenizer(), probe, icp.LogLikelihood(), positions=positions, partners=partners)
    got = icp.measure(
        icp.load(module, make_tokenizer()), probe, units, whats, property=icp.LogLikelihood(), positions=positions,
        batch_size=3, progress=False,
    )  # fmt: skip
    close(got.dP, naive.dP(units, whats))
    close(got.clean, naive.clean)


def test_in_a_pair_gap_each_run_swaps_with_its_own_examples():
    model = BY_NAME["gpt2"].model()
    pairs = icp.Probe.from_pairs(EQUAL_PAIRS, answers=(" she", " he"))
    units, options = some_units(BY_NAME["gpt2"])[:4], dict(progress=False)
    swap = icp.Swap(example=1)
    got = icp.measure(model, pairs, units, [swap], property=icp.PairGap(), **options)
    one, other = (icp.measure(model, probe, units, [swap], **options) for probe in (pairs, pairs.swapped()))
    close(got.dP, one.dP - other.dP)
    with pytest.raises(icp.ProbeError, match=f"there is no example {len(pairs)}: the probe has {len(pairs)}"):
        icp.measure(model, pairs, units, icp.Swap(example=len(pairs)), property=icp.PairGap(), **options)
    alone = icp.Probe(pairs.examples[:1])
    with pytest.raises(icp.ProbeError, match="is the only one with"):
        icp.measure(model, alone, units, icp.Mask("resample"), property=icp.PairGap(), **options)


@pytest.mark.parametrize("of", (icp.LogitDifference(), icp.NextTokenLoss()), ids=lambda p: p.label)
def test_a_pair_gap_has_the_intervention_in_both_runs(of):
    case = BY_NAME["gpt2"]
    module, units = case.module(), some_units(case)
    whats = [icp.Mask("mean"), icp.Scale(0.5), icp.Swap("counterpart")]
    backwards = [(0, 1, 2, 3), (0, 1, 1, 2, 3), tuple(range(8)), (0, 1, 3, 4, 5, 6, 7)]
    one = Naive(Plain(module), make_tokenizer(), make_probe(), of, partners=PARTNERS)
    swapped = make_probe().swapped()
    other = Naive(Plain(module), make_tokenizer(), swapped, of, reference=make_probe(), partners=backwards)
    got = icp.measure(
        icp.load(module, make_tokenizer()), make_probe(), units, whats, property=icp.PairGap(of), progress=False
    )
    close(got.dP, one.dP(units, whats) - other.dP(units, whats))
    close(got.clean, one.clean - other.clean)
    close(got.total, -2 * (one.clean - other.clean))


@pytest.mark.smollm2
def test_effects_on_real_weights_equal_run_with_hooks(smollm2):
    pairs = [
        ("The nurse said that", "The carpenter said that"),
        ("My friend is a secretary and", "My friend is a flight attendant and"),
    ]
    probe = icp.Probe.from_pairs(pairs, answers=(" she", " he"))
    units = [
        "blocks.2.mlp.hook_post[7]",
        "blocks.20.attn.hook_z[3]",
        "blocks.11.attn.hook_z[8,5]",
        "blocks.5.hook_resid_post[12]",
        "hook_embed[3]",
    ]
    whats = [icp.Mask("mean"), icp.Swap("counterpart")]
    tokens = probe.tokenize(smollm2.tokenizer)
    assert len(tokens.inputs[1]) != len(tokens.counterparts[1])
    partners = [(0, 1, 2, 3), (0, 1, 2, 3, 5, 6)]
    lens = Naive(Lens(smollm2.view()), smollm2.tokenizer, probe, partners=partners)
    got = icp.measure(smollm2, probe, units, whats, batch_size=5, progress=False)
    scale = float(lens.backend.run(lens.inputs[0]).abs().max())
    close(got.dP, lens.dP(units, whats), 1e-4 * scale)
