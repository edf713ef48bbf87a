"""Running the late positions only gives what the ordinary path and the naive loop give, and is used where it may be."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, EQUAL_PAIRS, PAIRS, PARTNERS, bridged, make_probe, make_tokenizer, some_units
from reference import Naive, Plain

import icp
from icp.sweep.late import LateBatch, LateLayout
from icp.sweep.plan import Layout, Plan, _bytes_of

SPANS = ("last", (-2, None), (-3, -1))
QUIET = {"progress": False}
RAGGED = (*PAIRS, ("The nurse", "The doctor"), ("The old nurse", "The old flight attendant"))
"""Texts of 8, 4, 3 and 2 tokens: with two late positions, all of one text is late."""
RAGGED_PARTNERS = (*PARTNERS, (0, 1), (0, 1, 3))


def units_of(case):
    """Those of `some_units`, and heads and neurons of the first and the last block."""
    last = case.layers - 1
    more = [f"blocks.{last}.attn.hook_z[0]", f"blocks.{last}.attn.hook_z[2]", f"blocks.{last}.mlp.hook_post[0]"]
    return [*some_units(case), *more, "blocks.0.attn.hook_z[2]", "blocks.0.mlp.hook_post[3]"]


def narrow_and_wide(units):
    heads = [unit for unit in units if icp.Unit.parse(unit).kind == "head"]
    return [unit for unit in units if unit not in heads], heads


def ragged_probe():
    rows = [icp.Example(x, other, (" she", " he"), label=i % 2) for i, (x, other) in enumerate(RAGGED)]
    return icp.Probe(tuple(rows))


@contextmanager
def recorded(monkeypatch):
    """Every batch that a forward pass is called with."""
    seen = []
    real = icp.Model._forward

    def forward(self, batch):
        seen.append(batch)
        return real(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(icp.Model, "_forward", forward)
        yield seen


def late_width(batches):
    """How many positions the narrowest of the passes after a past ran, or None where every pass was ordinary."""
    widths = {batch.ids.shape[1] for batch in batches if isinstance(batch, LateBatch) and batch.past.rows is not None}
    return min(widths) if widths else None


def used(monkeypatch, *arguments, **options):
    """Effects, and the positions of the narrowest late pass that made them."""
    with recorded(monkeypatch) as batches:
        effects = icp.measure(*arguments, **options, **QUIET)
    return effects, late_width(batches)


@contextmanager
def ordinary(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(LateLayout, "of_positions", classmethod(lambda cls, *_: None))
        yield


WHATS = [
    icp.Mask("zero"), icp.Mask("mean"), icp.Mask("mean", per_position=True), icp.Scale(-1.5), icp.Swap("counterpart"),
]  # fmt: skip
FULL = ("llama", "gpt2")
LATE = [case.name for case in CASES if case.name not in ("gpt_neo", "mistral")]
EVERY = [(name, positions) for name in LATE for positions in (SPANS if name in FULL else SPANS[:2])]


@pytest.mark.parametrize("attention", ("sdpa", "eager"))
@pytest.mark.parametrize(("name", "positions"), EVERY, ids=str)
def test_late_effects_equal_the_naive_loop(name, positions, attention, monkeypatch):
    case, module = BY_NAME[name], BY_NAME[name].module()
    module.set_attn_implementation(attention)
    model = icp.load(module, make_tokenizer())
    atol = 1e-5 if attention == "eager" else case.atol  # eager attention has its softmax in float32, whatever the dtype
    probe, partners = (ragged_probe(), RAGGED_PARTNERS) if positions != (-3, -1) else (make_probe(), PARTNERS)
    naive = Naive(Plain(module), make_tokenizer(), probe, positions=positions, partners=partners)
    sizes = (1, 2, 3, None) if name == "llama" and attention == "sdpa" else (5,)
    last = case.layers - 1
    narrow, heads = narrow_and_wide(units_of(case))
    lenders = [icp.Swap(f"blocks.{last}.mlp.hook_post[2]"), icp.Swap("hook_embed[3]")]
    for units, whats in ((narrow, [*WHATS, *lenders]), (heads, [*WHATS, icp.Swap("blocks.0.attn.hook_z[1]")])):
        want = naive.dP(units, whats)
        quiet = ((np.abs(want).max(axis=2) < 1e-6).any(1)).sum()
        assert quiet == 0 or positions == (-3, -1), "an edit without any effect tests nothing"
        assert np.abs(want).max() > 0.01
        for batch_size in sizes:
            got, width = used(monkeypatch, model, probe, units, whats, positions=positions, batch_size=batch_size)
            assert width == {"last": 1, (-2, None): 2, (-3, -1): 3}[positions]
            assert np.abs(got.dP - want).max() < atol
            assert np.abs(got.clean - naive.clean).max() < atol


def test_late_resampling_and_swaps_with_examples_equal_the_naive_loop(monkeypatch):
    case, module = BY_NAME["gpt2"], BY_NAME["gpt2"].module()
    model = icp.load(module, make_tokenizer())
    for probe, whats in (
        (make_probe(), [icp.Mask("resample"), icp.Scale(0.5)]),
        (make_probe(EQUAL_PAIRS), [icp.Swap(example=1), icp.Swap(example=2)]),
    ):
        want = Naive(Plain(module), make_tokenizer(), probe, positions=(-2, None)).dP(units_of(case), whats)
        got, width = used(monkeypatch, model, probe, units_of(case), whats, positions=(-2, None), batch_size=3)
        assert width == 2
        assert np.abs(want).max() > 0.01
        assert np.abs(got.dP - want).max() < 1e-9


def test_a_mean_over_a_reference_is_late_too(monkeypatch):
    case, module = BY_NAME["llama"], BY_NAME["llama"].module()
    reference = icp.Probe.from_texts(["It was late and", "the old carpenter laughed quickly because it was early"])
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), positions="last", reference=reference)
    want = naive.dP(units_of(case), WHATS[1:3])
    model = icp.load(module, make_tokenizer())
    got, width = used(
        monkeypatch, model, make_probe(), units_of(case), WHATS[1:3], positions="last", reference=reference
    )
    assert width == 1
    assert np.abs(got.dP - want).max() < 1e-9


PROPERTIES = (
    icp.Probability(1),
    icp.ClassProbability(),
    icp.LogLikelihood(),
    icp.TaskLoss(),
    icp.TaskLoss(among_answers=True),
    icp.NextTokenLoss(),
)


@pytest.mark.parametrize("positions", SPANS, ids=str)
@pytest.mark.parametrize("property", PROPERTIES, ids=lambda p: p.label)
def test_late_properties_equal_their_definition(property, positions, monkeypatch):
    """`NextTokenLoss` reads before the window, which no edit there changes."""
    case, module = BY_NAME["gpt2"], BY_NAME["gpt2"].module()
    partners = PARTNERS
    answers = (" she went home", " he") if isinstance(property, icp.LogLikelihood) else (" she", " he")
    if isinstance(property, icp.LogLikelihood):
        partners = [(*row, *range(row[-1] + 1, row[-1] + 4)) for row in PARTNERS]
    probe = icp.Probe(tuple(icp.Example(e.text, e.counterpart, answers, e.label) for e in make_probe().examples))
    units, whats = units_of(case)[::2], [icp.Mask("mean"), icp.Swap("counterpart")]
    if isinstance(property, icp.TaskLoss) and property.among_answers:
        naive = None
        with ordinary(monkeypatch):
            ran = icp.measure(
                icp.load(module, make_tokenizer()), probe, units, whats, property=property, positions=positions, **QUIET
            )
        want, clean = ran.dP, ran.clean
    else:
        naive = Naive(Plain(module), make_tokenizer(), probe, property, positions=positions, partners=partners)
        want, clean = naive.dP(units, whats), naive.clean
    if isinstance(property, icp.NextTokenLoss) and positions == "last":
        assert (want == 0).all()
    else:
        assert np.abs(want).max() > 1e-4
    for batch_size in (3, None):
        got, width = used(
            monkeypatch, icp.load(module, make_tokenizer()), probe, units, whats, property=property,
            positions=positions, batch_size=batch_size,
        )  # fmt: skip
        assert width == {"last": 1, (-2, None): 2, (-3, -1): 3}[positions] + 3 * (
            isinstance(property, icp.LogLikelihood)
        )
        assert np.abs(got.dP - want).max() < 1e-9
        assert np.abs(got.clean - clean).max() < 1e-9


@pytest.mark.parametrize("of", (icp.LogitDifference(), icp.NextTokenLoss()), ids=lambda p: p.label)
@pytest.mark.parametrize("positions", SPANS[:2], ids=str)
def test_a_late_pair_gap_has_the_intervention_in_both_runs(of, positions, monkeypatch):
    case, module = BY_NAME["gpt2"], BY_NAME["gpt2"].module()
    whats = [icp.Mask("mean"), icp.Scale(0.5), icp.Swap("counterpart")]
    backwards = [(0, 1, 2, 3), (0, 1, 1, 2, 3), tuple(range(8)), (0, 1, 3, 4, 5, 6, 7)]
    swapped, units = make_probe().swapped(), units_of(case)[::2]
    one = Naive(Plain(module), make_tokenizer(), make_probe(), of, positions=positions, partners=PARTNERS)
    other = Naive(
        Plain(module), make_tokenizer(), swapped, of, reference=make_probe(), positions=positions, partners=backwards
    )
    model = icp.load(module, make_tokenizer())
    got, width = used(monkeypatch, model, make_probe(), units, whats, property=icp.PairGap(of), positions=positions)
    assert width == {"last": 1, (-2, None): 2}[positions]
    assert np.abs(got.dP - (one.dP(units, whats) - other.dP(units, whats))).max() < 1e-9
    assert np.abs(got.clean - (one.clean - other.clean)).max() < 1e-9


@pytest.mark.parametrize("positions", SPANS[:2], ids=str)
@pytest.mark.parametrize("name", LATE)
def test_a_late_row_gives_the_same_alone_and_in_any_batch(name, positions, monkeypatch):
    case, probe = BY_NAME[name], ragged_probe()
    model, units = case.model(), units_of(case)[1::2]
    options = dict(positions=positions, reference=make_probe())
    with ordinary(monkeypatch):
        alone = [icp.measure(model, icp.Probe((e,)), units, WHATS, **options, **QUIET) for e in probe.examples]
    dP = np.concatenate([effects.dP for effects in alone], axis=2)
    for side in ("right", "left"):
        for batch_size in (1, 2, 7, None):
            got, width = used(
                monkeypatch, model, probe, units, WHATS, padding_side=side, batch_size=batch_size, **options
            )
            assert width is not None
            assert np.abs(got.dP - dP).max() < case.atol


@pytest.mark.parametrize("name", LATE)
def test_one_world_does_not_see_another(name, monkeypatch):
    """Many units, so that a row has many worlds; a unit alone gives the same."""
    case = BY_NAME[name]
    model = case.model()
    units = sorted(model.units("neuron", "head", layers=[0])[::3])
    whole, _ = used(monkeypatch, model, make_probe(), units, WHATS[:2], positions=(-2, None))
    with recorded(monkeypatch) as batches:
        icp.measure(model, make_probe(), units, WHATS[:2], positions=(-2, None), **QUIET)
    assert max(batch.ids.shape[1] for batch in batches if isinstance(batch, LateBatch)) > 8, "one world a row"
    for row in (0, 5, len(units) - 1):
        alone, _ = used(monkeypatch, model, make_probe(), units[row], WHATS[:2], positions=(-2, None), batch_size=1)
        assert np.abs(alone.dP[0] - whole.dP[row]).max() < 1e-12


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("name", LATE)
def test_scale_one_at_the_last_position_measures_exactly_zero(name, dtype, monkeypatch):
    """One world a row and one row an example: the shape of the run without an edit."""
    case = BY_NAME[name]
    for unit in units_of(case)[::3]:
        got, width = used(
            monkeypatch, case.model(dtype), make_probe(), unit, icp.Scale(1.0), positions="last", batch_size=4
        )
        assert width == 1
        assert (got.dP == 0).all()


def test_a_plan_repeated_gives_the_same_bits_late(monkeypatch):
    case = BY_NAME["llama"]
    call = dict(positions="last", batch_size=3)
    kept = [used(monkeypatch, case.model(torch.float32), make_probe(), units_of(case), WHATS, **call) for _ in range(2)]
    assert kept[0][1] == 1
    assert np.array_equal(kept[0][0].dP, kept[1][0].dP)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_late_effects_agree_with_the_ordinary_path_in_lower_precision(dtype, monkeypatch):
    case = BY_NAME["llama"]
    model, call = case.model(dtype), (make_probe(), units_of(case), WHATS)
    with ordinary(monkeypatch):
        want = icp.measure(model, *call, positions="last", **QUIET)
    got, width = used(monkeypatch, model, *call, positions="last")
    assert width == 1
    atol = {torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype] * np.abs(want.dP).max()
    assert np.abs(got.dP - want.dP).max() < atol


def test_a_probe_too_large_to_be_held_is_measured_in_parts(monkeypatch):
    """The past of some examples at a time."""
    case = BY_NAME["llama"]
    model, call = case.model(), (make_probe(), units_of(case), WHATS)
    want, _ = used(monkeypatch, model, *call, positions="last")
    asked = []
    real = LateLayout.prepared

    def prepared(self, model, examples, plan):
        asked.append(examples.tolist())
        return real(self, model, examples, plan)

    held = next(iter(model.module.parameters())).itemsize  # so little that one example is held at a time
    with monkeypatch.context() as patched:
        patched.setattr(LateLayout, "prepared", prepared)
        patched.setattr("icp.sweep.plan.CAPTURE_BYTES", held)
        got, width = used(patched, model, *call, positions="last")
    assert width == 1
    assert asked == [[0], [1], [2], [3]]
    assert np.abs(got.dP - want.dP).max() < 1e-12


@pytest.mark.parametrize("over", (1, 3))
def test_late_positions_that_run_out_of_memory_are_done_with_smaller_batches(over, monkeypatch, tmp_path):
    """A pass over the last position of eight texts takes no more than one over a whole text of eight tokens."""
    case = BY_NAME["qwen2"]
    model, call = case.model(), (make_probe(), units_of(case), WHATS)
    want = icp.measure(model, *call, positions="last", batch_size=4, **QUIET)
    real, fitted = icp.Model._forward, []

    def forward(self, batch):
        if batch.ids.numel() > 8 * over:
            raise torch.OutOfMemoryError(f"{batch.ids.numel()} tokens do not fit")
        fitted.append(isinstance(batch, LateBatch))
        return real(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(icp.Model, "_forward", forward)
        got = icp.measure(model, *call, positions="last", batch_size=4, store=tmp_path / "effects", **QUIET)
    assert any(fitted) and not all(fitted)
    assert got.header["plans"][-1].startswith(f"Plan(batch_size={1 if over == 1 else 2},")
    assert np.abs(got.dP - want.dP).max() < 1e-12
    assert np.array_equal(np.sort(icp.Effects.load(tmp_path / "effects").dP, 0), np.sort(got.dP, 0))


def reads_of(monkeypatch, *call, **options):
    """Effects, and how many logits' rows the largest late pass read, with the widest pass's positions."""
    most, real = [], icp.Model.read

    def read(self, batch, reads, **entered):
        if isinstance(batch, LateBatch):
            most.append((len(reads.rows), batch.ids.numel()))
        return real(self, batch, reads, **entered)

    with monkeypatch.context() as patched:
        patched.setattr(icp.Model, "read", read)
        effects = icp.measure(*call, **options, **QUIET)
    return effects, max(read for read, _ in most), max(ran for _, ran in most)


def test_a_late_pass_reads_no_more_logits_than_the_plan_allows(monkeypatch):
    """It has many more versions than rows; where P reads the whole vocabulary, that is what takes the room."""
    model = BY_NAME["llama"].model()
    units = sorted(model.units("neuron"))
    call = dict(positions="last", batch_size=2)
    loss = icp.TaskLoss()
    want, wide, positions = reads_of(monkeypatch, model, make_probe(), units, WHATS, property=loss, **call)
    assert wide > 8 and positions == wide
    vocabulary = model.vocabulary_read(loss)
    with monkeypatch.context() as patched:
        patched.setattr("icp.sweep.plan.LOGITS_A_PASS", 5 * vocabulary)
        got, read, _ = reads_of(patched, model, make_probe(), units, WHATS, property=loss, **call)
        assert read == 5
        assert np.abs(got.dP - want.dP).max() < 1e-12
        _, few, _ = reads_of(patched, model, make_probe(), units, WHATS, **call)
        assert few == wide, "two logits a version take none"


def test_late_logits_stay_within_a_budget_of_memory(monkeypatch):
    model = BY_NAME["llama"].model()
    monkeypatch.setattr("icp.sweep.plan.bytes_held", lambda device: 10**9)
    tokens = make_probe().tokenize(model.tokenizer, icp.TaskLoss())
    layout = Layout.of(model, tokens, "right")
    once, whole, logits = _bytes_of(model, layout, model.vocabulary_read(icp.TaskLoss()), False)
    assert once == 0 and whole > logits
    for spare in (0.5, 3.5):
        free = 2 * int(whole + logits + spare * logits)
        plan = Plan.of(model, layout, memory=1e9 + free)
        assert (plan.batch_size, plan.read_rows) == (1, 1 + int(spare))
        call = dict(property=icp.TaskLoss(), positions="last", memory=1e9 + free)
        _, read, _ = reads_of(monkeypatch, model, make_probe(), units_of(BY_NAME["llama"]), WHATS, **call)
        assert read == plan.read_rows


def falls_back(monkeypatch, model, want, *call, **options):
    got, width = used(monkeypatch, model, *call, **options)
    assert width is None
    assert np.abs(want).max() > 0.01
    assert np.abs(got.dP - want).max() < 1e-9


def test_edits_that_start_early_run_whole_texts(monkeypatch):
    case, module = BY_NAME["llama"], BY_NAME["llama"].module()
    for positions in ("all", (1, 3), (0, 1)):
        want = Naive(Plain(module), make_tokenizer(), make_probe(), positions=positions).dP(units_of(case), WHATS[:1])
        model = icp.load(module, make_tokenizer())
        falls_back(monkeypatch, model, want, make_probe(), units_of(case), WHATS[:1], positions=positions)


def test_attention_that_finds_out_by_itself_what_is_near_runs_whole_texts(monkeypatch):
    case = BY_NAME["gpt_neo"]
    got, width = used(monkeypatch, case.model(), make_probe(), units_of(case), WHATS, positions="last")
    naive = Naive(Plain(case.module()), make_tokenizer(), make_probe(), positions="last", partners=PARTNERS)
    assert width is None
    assert np.abs(got.dP - naive.dP(units_of(case), WHATS)).max() < case.atol


@pytest.mark.parametrize("name", ("mistral", "qwen2"))
def test_a_sliding_window_allows_it_only_for_texts_within_the_window(name, monkeypatch):
    case, module = BY_NAME[name], BY_NAME[name].module()
    if name == "qwen2":
        config = copy.deepcopy(module.config)
        config.use_sliding_window, config.sliding_window, config.max_window_layers = True, 4, 1
        config.layer_types = ["full_attention", "sliding_attention"]
        other = type(module)(config).to(torch.float64).eval()
        other.load_state_dict(module.state_dict())
        module = other
    model = icp.load(module, make_tokenizer())
    for probe, width in ((make_probe(EQUAL_PAIRS), 1), (make_probe(), None)):
        partners = None if width else PARTNERS
        naive = Naive(Plain(module), make_tokenizer(), probe, positions="last", partners=partners)
        got, found = used(monkeypatch, model, probe, units_of(case), WHATS, positions="last")
        assert found == width
        assert np.abs(got.dP - naive.dP(units_of(case), WHATS)).max() < 1e-9


def test_an_intervention_of_ones_own_runs_whole_texts(monkeypatch):
    class Clipped(icp.Intervention):
        def replace(self, values, where):
            return values.clamp(-0.1, 0.1)

    case, module = BY_NAME["llama"], BY_NAME["llama"].module()
    whats = [Clipped(), icp.Mask()]
    want = Naive(Plain(module), make_tokenizer(), make_probe(), positions="last").dP(units_of(case), whats)
    model = icp.load(module, make_tokenizer())
    falls_back(monkeypatch, model, want, make_probe(), units_of(case), whats, positions="last")


@pytest.mark.parametrize("place", ("model.embed_tokens", "model.layers.0.self_attn", "model.norm", "model", ""))
@pytest.mark.parametrize("side", ("before", "after"))
def test_a_hook_of_the_users_sees_whole_texts(place, side, monkeypatch):
    case, module = BY_NAME["llama"], BY_NAME["llama"].module()
    model, widths, call = icp.load(module, make_tokenizer()), [], (make_probe(), units_of(case), WHATS[:2])
    want = icp.measure(model, *call, positions="last", **QUIET)
    part = module.get_submodule(place)

    def see(module, args, kwargs, *output):
        found = kwargs.get("input_ids", kwargs.get("hidden_states"))
        widths.append((args[0] if found is None else found).shape[1])

    hook = {"before": part.register_forward_pre_hook, "after": part.register_forward_hook}[side]
    handle = hook(see, with_kwargs=True)
    got, width = used(monkeypatch, model, *call, positions="last")
    handle.remove()
    assert width is None
    assert set(widths) == {8}
    assert np.abs(got.dP - want.dP).max() < 1e-9


def test_a_bridge_runs_whole_texts(monkeypatch):
    case = BY_NAME["gpt2"]
    model = icp.load(bridged(case.module(), make_tokenizer()))
    want = icp.measure(case.model(), make_probe(), units_of(case), WHATS[:2], positions="last", **QUIET).dP
    falls_back(monkeypatch, model, want, make_probe(), units_of(case), WHATS[:2], positions="last")


def test_flash_attention_runs_whole_texts():
    """Its kernels take no mask of one's own."""
    model = BY_NAME["llama"].model()
    tokens = make_probe().tokenize(model.tokenizer)
    assert LateLayout.of_positions(model, tokens, "last") is not None
    model.module.config._attn_implementation = "flash_attention_2"
    assert LateLayout.of_positions(model, tokens, "last") is None


def test_a_span_that_does_not_fit_is_refused_as_on_the_ordinary_path():
    model = BY_NAME["llama"].model()
    with pytest.raises(icp.ProbeError, match=r"the span \(-6, None\) does not fit 'The nurse said that', which has 4"):
        icp.measure(model, make_probe(), units_of(BY_NAME["llama"]), icp.Mask(), positions=(-6, None), **QUIET)


def test_what_is_kept_of_an_example_is_what_its_past_takes():
    """A head's keys and values, as many as there are heads at most: the plan holds examples by this number."""
    model = BY_NAME["gpt2"].model()
    tokens = make_probe().tokenize(model.tokenizer)
    layout = LateLayout.of_positions(model, tokens, "last")
    with torch.no_grad():
        past = layout.prepared(model, torch.arange(4), Plan(2)).past
    kept = sum(t.numel() * t.itemsize for t in (*past.keys.values(), *past.values.values()))
    assert kept == 4 * layout.bytes_kept(model)
    assert Layout.of(model, tokens, "right").bytes_kept(model) == 0
