"""Contract 7: batch size, unit order and resume point do not matter; a plan repeated gives the same bits."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_probe, make_tokenizer, some_units

import icp
from icp.sweep import capture
from icp.sweep.donors import Donors, Means
from icp.sweep.plan import Layout, Plan, _bytes_of
from icp.sweep.store import Store

CASE = BY_NAME["qwen2"]
WHATS = [icp.Mask("mean"), icp.Swap("counterpart")]
ROWS_A_UNIT = len(WHATS) * len(make_probe())
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return CASE.model()


@pytest.fixture(scope="module")
def units(model):
    """96 neurons and 50 dimensions: two full chunks of 64 and a rest."""
    found = sorted([*model.units("neuron"), *model.units("resid", layers=[1]), *model.units("embed")[:18]])
    assert len(found) == 146
    return found


@contextmanager
def passes(model, at=None, error=None):
    """Count forward passes; raise `error` at pass number `at`."""
    counted = []

    def count(module, args, kwargs):
        counted.append(kwargs["input_ids"].shape[0])
        if at is not None and len(counted) == at:
            raise error

    handle = model.module.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counted
    finally:
        handle.remove()


def plans(path):
    return Store.open(path).plans


@pytest.mark.parametrize("method", ("exact", "linear"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
def test_batch_size_does_not_matter(dtype, method):
    model = CASE.model(dtype)
    kept = [
        icp.measure(model, make_probe(), some_units(CASE)[::3], WHATS, method=method, batch_size=size, **QUIET).dP
        for size in (1, 2, 3, 5, 64, None)
    ]
    atol = 1e-12 if dtype == torch.float64 else 1e-5
    for dP in kept[1:]:
        assert np.abs(dP - kept[0]).max() < atol
    assert np.abs(kept[0]).max() > 0.01


@pytest.mark.parametrize("size", (1, 3, None))
def test_batch_size_is_the_number_of_rows_in_a_pass(model, units, size):
    with passes(model) as counted:
        icp.measure(model, make_probe(), units[:12], WHATS, batch_size=size, **QUIET)
    assert max(counted) == (size or 96)


@pytest.mark.parametrize("method", ("exact", "linear"))
def test_unit_order_does_not_matter(model, units, method):
    mixed = [*units[60:70], *model.units("head", "value", layers=[1]), *model.units("embed")[:3]]
    shuffled = [mixed[i] for i in np.random.default_rng(0).permutation(len(mixed))]
    assert shuffled != mixed
    one = icp.measure(model, make_probe(), mixed, WHATS, method=method, **QUIET)
    other = icp.measure(model, make_probe(), shuffled, WHATS, method=method, **QUIET)
    assert other.units == shuffled
    assert other.header["units"] == [str(unit) for unit in shuffled]
    place = [shuffled.index(unit) for unit in mixed]
    assert np.array_equal(other.dP[place], one.dP)
    alone = icp.measure(model, make_probe(), mixed[5:6], WHATS, method=method, **QUIET)
    assert np.abs(alone.dP[0] - one.dP[5]).max() < 1e-12


@pytest.mark.parametrize("method", ("exact", "linear"))
@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_a_plan_repeated_gives_the_same_bits(name, method):
    for options in ({"batch_size": 3, "positions": "last"}, {"batch_size": None}):
        kept = [
            icp.measure(
                BY_NAME[name].model(torch.float32),
                make_probe(),
                some_units(CASE),
                WHATS,
                method=method,
                **options,
                **QUIET,
            ).dP
            for _ in range(2)
        ]
        assert np.array_equal(*kept)


@pytest.mark.parametrize("positions", ("all", "last"))
def test_passes_of_one_shape_give_the_same_numbers(model, units, positions, monkeypatch):
    """As on a GPU: the last pass of several is filled up, and what fills it is thrown away."""
    options = dict(positions=positions, batch_size=5, **QUIET)
    want = icp.measure(model, make_probe(), units[:13], WHATS, **options)
    with passes(model) as ragged:
        icp.measure(model, make_probe(), units[:13], WHATS, **options)
    monkeypatch.setattr(Plan, "of", classmethod(lambda cls, *_, **__: cls(5, static=True)))
    with passes(model) as counted:
        got = icp.measure(model, make_probe(), units[:13], WHATS, **options)
    assert np.abs(got.dP - want.dP).max() < 1e-12
    assert len(counted) == len(ragged) and sum(counted) > sum(ragged)


def test_a_joint_measurement_repeated_gives_the_same_bits_at_any_batch_size(model):
    sets = [some_units(CASE)[:4], some_units(CASE)[4:8]]
    kept = [icp.measure_sets(model, make_probe(), sets, icp.Mask("mean"), batch_size=3, **QUIET).dP for _ in range(2)]
    assert np.array_equal(*kept)
    for batch_size in (1, None):
        got = icp.measure_sets(model, make_probe(), sets, icp.Mask("mean"), batch_size=batch_size, **QUIET).dP
        assert np.abs(got - kept[0]).max() < 1e-12


@pytest.mark.parametrize("property", (icp.LogitDifference(), icp.PairGap()), ids=lambda p: p.label)
@pytest.mark.parametrize("chunks", (0, 1, 2))
def test_an_interrupted_sweep_goes_on_where_it_stopped(model, units, chunks, property, tmp_path):
    """Finished chunks are read, not measured again, and the numbers are those of a sweep that ran through."""
    options = dict(batch_size=16, property=property, **QUIET)
    with passes(model) as through:
        want = icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "through", **options)
    rows_a_unit = ROWS_A_UNIT * (2 if property == icp.PairGap() else 1)
    chunk = 64 * rows_a_unit // 16
    rest = (146 - 128) * rows_a_unit // 16
    before = len(through) - 2 * chunk - rest
    assert 0 < before < 20
    with passes(model, at=before + chunks * chunk + 3, error=KeyboardInterrupt("stop")):
        with pytest.raises(KeyboardInterrupt, match="stop"):
            icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "sweep", **options)
    stored = Store.open(tmp_path / "sweep")
    assert stored.measured().tolist() == [unit < 64 * chunks for unit in range(146)]
    with pytest.raises(icp.ArtefactError, match=f"is unfinished: {146 - 64 * chunks} of 146 units are missing; rerun"):
        icp.Effects.load(tmp_path / "sweep")
    with passes(model) as resumed:
        got = icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "sweep", **options)
    assert len(resumed) == len(through) - chunks * chunk
    assert np.array_equal(got.dP, want.dP)
    assert np.array_equal(icp.Effects.load(tmp_path / "sweep").dP, want.dP)
    with passes(model) as again:
        assert np.array_equal(
            icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "sweep", **options).dP, want.dP
        )
    assert len(again) < before


def test_a_sweep_that_goes_on_with_another_plan_agrees_and_records_both(model, units, tmp_path):
    want = icp.measure(model, make_probe(), units, WHATS, batch_size=16, **QUIET)
    with passes(model, at=60, error=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        icp.measure(model, make_probe(), units, WHATS, batch_size=16, store=tmp_path / "sweep", **QUIET)
    shuffled = units[::-1]
    got = icp.measure(model, make_probe(), shuffled, WHATS, batch_size=23, store=tmp_path / "sweep", **QUIET)
    assert np.abs(got.dP - want.dP[::-1]).max() < 1e-12
    assert plans(tmp_path / "sweep") == [repr(Plan(16)), repr(Plan(23))]


@pytest.mark.parametrize("method", ("exact", "linear"))
@pytest.mark.parametrize("property", (icp.LogitDifference(), icp.PairGap()), ids=lambda p: p.label)
def test_a_finished_store_is_read_and_needs_no_model(model, property, method, tmp_path):
    options = dict(property=property, method=method, store=tmp_path / "effects", **QUIET)
    got = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options)
    loaded = icp.Effects.load(tmp_path / "effects")
    order = [loaded.units.index(unit) for unit in got.units]
    assert np.array_equal(loaded.dP[order], got.dP)
    assert np.array_equal(loaded.clean, got.clean)
    assert np.array_equal(loaded.total, got.total)
    assert loaded.header | {"units": None} == got.header | {"units": None}
    again = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options)
    assert np.array_equal(again.dP, got.dP)
    assert again.units == got.units


def on_a_gpu(rows):
    raise torch.OutOfMemoryError(f"{rows} rows do not fit")


def in_python(rows):
    raise MemoryError


def in_the_allocator_for_cpus(rows):
    torch.empty(1 << 60, dtype=torch.uint8)


@contextmanager
def out_of_memory(model, over, fail=on_a_gpu):
    """Passes of more than `over` rows do not fit."""
    fitted = []

    def check(module, args, kwargs):
        rows = kwargs["input_ids"].shape[0]
        if rows > over:
            fail(rows)
        fitted.append(rows)

    handle = model.module.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield fitted
    finally:
        handle.remove()


def test_out_of_memory_once_in_the_middle_writes_a_new_plan(model, units, tmp_path):
    want = icp.measure(model, make_probe(), units, WHATS, batch_size=16, **QUIET)
    with passes(model, at=40, error=torch.OutOfMemoryError("full")) as counted:
        got = icp.measure(model, make_probe(), units, WHATS, batch_size=16, store=tmp_path / "effects", **QUIET)
    assert counted[39] == 16
    assert max(counted[40:]) == 8
    assert plans(tmp_path / "effects") == [repr(Plan(16)), repr(Plan(8))]
    assert np.abs(got.dP - want.dP).max() < 1e-12
    assert np.array_equal(icp.Effects.load(tmp_path / "effects").dP, got.dP)


@pytest.mark.parametrize("over", (1, 2, 3))
@pytest.mark.parametrize("method", ("exact", "linear"))
def test_whatever_runs_out_of_memory_is_done_with_smaller_batches(model, method, over, tmp_path):
    """The clean pass, the means, the counterparts and the edited rows alike."""
    options = dict(method=method, batch_size=4)
    want = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options, **QUIET)
    with out_of_memory(model, over) as fitted:
        got = icp.measure(model, make_probe(), some_units(CASE), WHATS, store=tmp_path / "e", **options, **QUIET)
    assert max(fitted) == (2 if over == 3 else over)
    assert np.abs(got.dP - want.dP).max() < 1e-12
    assert plans(tmp_path / "e")[-1] == repr(Plan(max(fitted)))


def test_sets_and_metrics_that_run_out_of_memory_are_done_with_smaller_batches(model):
    sets = [some_units(CASE)[:4], some_units(CASE)[4:8]]
    want = icp.measure_sets(model, make_probe(), sets, icp.Mask("mean"), **QUIET)
    evaluated = icp.evaluate(model, make_probe()).values[model.name]
    with out_of_memory(model, 2):
        got = icp.measure_sets(model, make_probe(), sets, icp.Mask("mean"), **QUIET)
        again = icp.evaluate(model, make_probe()).values[model.name]
    assert np.abs(got.dP - want.dP).max() < 1e-12
    for metric, values in evaluated.items():
        assert np.abs(again[metric] - values).max() < 1e-12


FAILURES = (
    (on_a_gpu, "1 rows do not fit"),
    (in_python, "MemoryError"),
    (in_the_allocator_for_cpus, ".*DefaultCPUAllocator.* 1152921504606846976 bytes.*"),
)


@pytest.mark.parametrize(("fail", "said"), FAILURES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("method", ("exact", "linear"))
def test_memory_that_runs_out_is_known_by_all_its_names(model, method, fail, said):
    options = dict(method=method, batch_size=4)
    want = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options, **QUIET)
    with out_of_memory(model, 2, fail) as fitted:
        got = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options, **QUIET)
    assert max(fitted) == 2 and np.abs(got.dP - want.dP).max() < 1e-12
    sentence = rf"^out of memory: a forward pass of one row does not fit \({said}\); give shorter texts, fewer units or"
    with out_of_memory(model, 0, fail), pytest.raises(icp.IcpError, match=sentence):
        icp.measure(model, make_probe(), some_units(CASE), WHATS, **options, **QUIET)


def test_another_error_is_not_taken_for_want_of_memory(model):
    with passes(model, at=40, error=RuntimeError("shapes do not match")) as counted:
        with pytest.raises(RuntimeError, match=r"^shapes do not match$"):
            icp.measure(model, make_probe(), some_units(CASE), WHATS, batch_size=1, **QUIET)
    assert len(counted) == 40


def holding(monkeypatch, most):
    """No more than `most` examples times columns of clean values fit; what was asked for is returned."""
    asked = []

    class Full(Donors):
        def __init__(self, model, layout, interventions, columns, means, plan, examples, *rest, **options):
            asked.append((len(examples), sum(map(len, columns.values())), plan.batch_size))
            if asked[-1][0] * asked[-1][1] > most:
                raise torch.OutOfMemoryError(f"{asked[-1][:2]} values do not fit")
            super().__init__(model, layout, interventions, columns, means, plan, examples, *rest, **options)

    monkeypatch.setattr("icp.sweep.capture.Donors", Full)
    return asked


@pytest.mark.parametrize("positions", ("all", "last"))
@pytest.mark.parametrize("most", (64, 150, 300))
def test_clean_values_that_do_not_fit_are_held_in_parts(model, units, most, positions, monkeypatch, tmp_path):
    """Smaller forward passes alone do not help there; what is measured already is not measured again."""
    options = dict(batch_size=16, positions=positions, **QUIET)
    want = icp.measure(model, make_probe(), units, WHATS, **options)
    asked = holding(monkeypatch, most)
    got = icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "effects", **options)
    fitted = [(examples, columns) for examples, columns, _ in asked if examples * columns <= most]
    assert sum(examples * columns for examples, columns in fitted) == 4 * len(units)
    assert max(examples * columns for examples, columns in fitted) > most / 3, "much less than fits"
    assert np.abs(got.dP - want.dP).max() < 1e-12
    sizes = list(dict.fromkeys(size for _, _, size in asked))
    noted = plans(tmp_path / "effects")
    assert sizes == [16, 8, 4, 2, 1][: len(sizes)]
    assert noted and noted == [repr(Plan(size)) for size in sizes[-len(noted) :]]


def test_a_clean_run_that_cannot_be_recorded_is_made_without(model, units, monkeypatch, tmp_path):
    """Smaller batches would not help there: the values are captured in parts afterwards."""
    want = icp.measure(model, make_probe(), units, WHATS, **QUIET)
    tried = []

    class Full(capture.Recorder):
        def recorded(self):
            tried.append(len(self.columns))
            raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(capture, "Recorder", Full)
    got = icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "effects", **QUIET)
    assert len(tried) == 1 and plans(tmp_path / "effects") == want.header["plans"]
    assert np.abs(got.dP - want.dP).max() < 1e-12


def test_rows_that_do_not_fit_beside_the_clean_values_get_room(model, units, monkeypatch):
    """Out of memory in an edited pass of one row, as long as more than two examples are held."""
    units = units[::6]
    want = icp.measure(model, make_probe(), units, WHATS, batch_size=1, **QUIET)
    held, real = [], icp.Model.read

    class Watched(Donors):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            held[:] = [self]

    def read(self, *given, start=0, **entered):
        if start and len(held[0].hidden[start]) > 2:
            raise torch.OutOfMemoryError("full")
        return real(self, *given, start=start, **entered)

    monkeypatch.setattr("icp.sweep.capture.Donors", Watched)
    monkeypatch.setattr(icp.Model, "read", read)
    got = icp.measure(model, make_probe(), units, WHATS, batch_size=1, **QUIET)
    assert np.abs(got.dP - want.dP).max() < 1e-12


def test_where_not_one_example_s_clean_values_fit_it_is_one_sentence(model, units, monkeypatch):
    asked = holding(monkeypatch, 63)
    said = (
        r"^out of memory: one row beside the clean values of one example does not fit \(\(1, 64\) values do not fit\);"
    )
    with pytest.raises(icp.IcpError, match=said):
        icp.measure(model, make_probe(), units, WHATS, batch_size=4, **QUIET)
    assert asked[-1] == (1, 64, 1)


@pytest.mark.parametrize("size", (1, 2, 4))
def test_longer_reference_texts_run_fewer_at_a_time(model, size):
    """A pass over them has no more tokens than one over the probe's rows, or is one row."""
    texts = ["the old carpenter laughed quickly because it was early and the nurse said that it was late"] * 5
    reference = icp.Probe.from_texts([*texts, "It was late"])
    options = dict(reference=reference, batch_size=size, **QUIET)
    tokens = []

    def see(module, args, kwargs):
        tokens.append(kwargs["input_ids"].shape)

    handle = model.module.register_forward_pre_hook(see, with_kwargs=True)
    got = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options)
    icp.measure_sets(model, make_probe(), [some_units(CASE)[:4]], WHATS[0], **options)
    handle.remove()
    wide = [rows for rows, width in tokens if width > 8]
    assert sum(wide) == 12 and max(wide) == max(1, size * 8 // 17)
    want = icp.measure(model, make_probe(), some_units(CASE), WHATS, reference=reference, batch_size=6, **QUIET)
    assert np.abs(got.dP - want.dP).max() < 1e-12


def test_means_at_each_position_are_taken_only_where_they_are_asked_for(model, monkeypatch):
    kept, real = [], Means.__init__

    def init(self, *given, **options):
        real(self, *given, **options)
        kept.append(self)

    monkeypatch.setattr(Means, "__init__", init)
    for per_position in (False, True):
        what = icp.Mask("mean", per_position=per_position)
        icp.measure(model, make_probe(), some_units(CASE), what, **QUIET)
        icp.measure_sets(model, make_probe(), [some_units(CASE)[:4]], what, **QUIET)
        assert [bool(means.per_position) for means in kept[-2:]] == [per_position] * 2
    for name, mean in kept[0].overall.items():
        assert mean.ndim == 1 and (mean - kept[2].overall[name]).abs().max() < 1e-12
    assert len(kept) == 4


def test_a_plan_counts_logits_as_they_are_made():
    """In float32 at least, from an unembedding that is cast to it."""
    bytes_of = {}
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        model = CASE.model(dtype)
        for property in (icp.LogitDifference(), icp.TaskLoss()):
            layout = Layout.of(model, make_probe().tokenize(model.tokenizer, property), "right")
            bytes_of[dtype, property] = _bytes_of(model, layout, model.vocabulary_read(property), False)
    loss = icp.TaskLoss()
    weight = model.unembed.weight
    assert bytes_of[torch.bfloat16, loss][0] == 4 * weight.numel()
    assert bytes_of[torch.float32, loss][0] == bytes_of[torch.float64, loss][0] == 0
    assert bytes_of[torch.bfloat16, icp.LogitDifference()][0] < 4 * weight.numel() / 10
    assert bytes_of[torch.bfloat16, loss][2] == bytes_of[torch.float32, loss][2] == 3 * 4 * len(weight)
    assert bytes_of[torch.float64, loss][2] == 3 * 8 * len(weight)
    assert bytes_of[torch.bfloat16, loss][1] == bytes_of[torch.float32, loss][1] / 2


def test_effects_know_the_plans_they_were_measured_with(model, tmp_path):
    options = dict(batch_size=4, **QUIET)
    for method in ("exact", "linear"):
        memory = icp.measure(model, make_probe(), some_units(CASE), WHATS, method=method, **options)
        call = options | {"method": method}
        stored = icp.measure(model, make_probe(), some_units(CASE), WHATS, store=tmp_path / method, **call)
        assert memory.header["plans"] == stored.header["plans"] == [repr(Plan(4))]
        assert icp.Effects.load(tmp_path / method).header["plans"] == [repr(Plan(4))]
        assert icp.Effects.load(memory.save(tmp_path / f"saved {method}")).header == memory.header


def test_a_store_does_not_mind_what_the_model_is_called(model, tmp_path):
    call = dict(units=some_units(CASE), interventions=WHATS, store=tmp_path / "effects", **QUIET)
    kept = icp.measure(model, make_probe(), **call)
    renamed = replace(model, name="another name")
    assert np.array_equal(icp.measure(renamed, make_probe(), **call).dP, kept.dP)


class Renamed(icp.Scale):
    """Labelled as what it stands on, though it does something else."""

    def as_affine(self):
        return icp.Affine(-self.alpha)


class Negated(icp.LogitDifference):
    def of(self, logits, targets):
        return -super().of(logits, targets)


class Unnamed(icp.Intervention):
    def replace(self, values, where):
        return values + 1


@pytest.mark.parametrize("given", [{"interventions": Renamed(0.5)}, {"property": Negated()}], ids=str)
def test_what_may_share_its_label_with_another_is_refused(model, given):
    call = dict(units=some_units(CASE), interventions=icp.Mask()) | given
    with pytest.raises(icp.IcpError, match="is not a dataclass of its own, so that its label"):
        icp.measure(model, make_probe(), **call, **QUIET)


def test_what_has_another_label_in_every_run_is_not_stored(model, tmp_path):
    assert np.abs(icp.measure(model, make_probe(), some_units(CASE), Unnamed(), **QUIET).dP).max() > 0
    with pytest.raises(icp.IcpError, match="Unnamed is not a dataclass of its own, so that its label"):
        icp.measure(model, make_probe(), some_units(CASE), Unnamed(), store=tmp_path / "effects", **QUIET)
    assert not (tmp_path / "effects").exists()


def other_probe():
    examples = make_probe().examples
    return icp.Probe((replace(examples[0], text="The old nurse said that"), *examples[1:]))


@pytest.mark.parametrize("method", ("exact", "linear"))
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("property", {"property": icp.TaskLoss()}),
        ("property", {"property": icp.PairGap()}),
        ("positions", {"positions": "last"}),
        ("reference", {"reference": icp.Probe.from_texts(["It was late"])}),
        ("interventions", {"interventions": [icp.Mask("zero"), icp.Swap("counterpart")]}),
        ("units", {"units": some_units(CASE)[1:]}),
        ("examples", {"probe": other_probe()}),
        ("binding", {"model": CASE.model(seed=1)}),
        ("dtype", {"model": CASE.model(torch.float32)}),
        ("method", {"method": None}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_store_of_another_measurement_is_refused_naming_what_differs(model, method, what, change, tmp_path):
    path = tmp_path / "effects"
    call = dict(
        model=model, probe=make_probe(), units=some_units(CASE), interventions=WHATS, method=method, store=path, **QUIET
    )
    kept = icp.measure(**call)
    if what == "method":
        change = {"method": "linear" if method == "exact" else "exact"}
    with pytest.raises(icp.ArtefactError) as raised:
        icp.measure(**call | change)
    message = str(raised.value)
    assert str(path) in message
    assert "holds another measurement: it differs in" in message
    assert what in message.split("(")[0]
    assert "choose another path or delete it" in message
    assert np.array_equal(np.sort(icp.Effects.load(path).dP, axis=0), np.sort(kept.dP, axis=0)), "the store was touched"


@pytest.fixture
def held(monkeypatch):
    """What the process is said to hold, in bytes: set `held[0]`."""
    bytes_held = [10**9]
    monkeypatch.setattr("icp.sweep.plan.bytes_held", lambda device: bytes_held[0])
    return bytes_held


def planned_for(model, memory):
    layout = Layout.of(model, make_probe().tokenize(model.tokenizer), "right")
    return Plan.of(model, layout, memory=memory)


@pytest.mark.parametrize("method", ("exact", "linear"))
def test_a_budget_gives_every_process_on_a_store_the_same_plan(model, units, held, method, tmp_path):
    """Though each holds another amount of memory at that moment, more or less."""
    call = dict(method=method, memory=1e9 + 1e6, store=tmp_path / "effects", **QUIET)
    icp.measure(model, make_probe(), units, WHATS, **call | {"shard": "1/3"})
    noted = Store.open(tmp_path / "effects").planned
    for more in (-500_000, 100_000):
        held[0] = 10**9 + more
        assert planned_for(model, call["memory"]).batch_size != noted.batch_size
        icp.measure(model, make_probe(), units, WHATS, **call | {"shard": "2/3" if more < 0 else "3/3"})
    assert plans(tmp_path / "effects") == [repr(noted)] == [repr(Plan(noted.batch_size))]
    held[0] = 10**9
    want = icp.measure(model, make_probe(), units, WHATS, **call | {"store": None})
    assert np.array_equal(icp.Effects.load(tmp_path / "effects").dP, want.dP[[want.units.index(u) for u in units]])


def test_a_noted_plan_is_left_where_it_does_not_fit_or_is_not_asked_for(model, units, held, tmp_path):
    path = tmp_path / "effects"
    call = dict(memory=1e9 + 1e6, store=path, **QUIET)
    icp.measure(model, make_probe(), units, WHATS, **call, shard="1/3")
    noted = Store.open(path).planned
    held[0] = 10**9 + 700_000
    icp.measure(model, make_probe(), units, WHATS, **call, shard="2/3")
    own = planned_for(model, call["memory"])
    assert 1 <= own.batch_size < noted.batch_size
    held[0] = 10**9
    icp.measure(model, make_probe(), units, WHATS, **call, batch_size=7, shard="3/3")
    assert plans(path) == [repr(Plan(size)) for size in (noted.batch_size, own.batch_size, 7)]
    icp.measure(model, make_probe(), units, WHATS, store=tmp_path / "other", batch_size=5, **QUIET)
    assert Store.open(tmp_path / "other").planned is None


def test_a_store_that_another_process_makes_meanwhile_gives_its_plan(model, units, held, tmp_path, monkeypatch):
    """All shards of a sweep start at a time, before there is a store."""
    path = tmp_path / "effects"
    call = dict(memory=1e9 + 1e6, store=path, **QUIET)
    begun, real = [], Layout.clean

    def clean(self, model, plan):
        if not begun:
            begun.append(plan)
            held[0] = 10**9 + 200_000
            icp.measure(model, make_probe(), units, WHATS, **call, shard="2/3")
            held[0] = 10**9
        return real(self, model, plan)

    monkeypatch.setattr(Layout, "clean", clean)
    icp.measure(model, make_probe(), units, WHATS, **call, shard="1/3")
    noted = Store.open(path).planned
    assert noted.batch_size < planned_for(model, call["memory"]).batch_size
    assert plans(path) == [repr(noted)]


def test_a_plan_of_no_rows_is_refused(model):
    for rows in (-1, 0):
        with pytest.raises(icp.ProbeError, match=f"batch_size and unit_chunk are at least 1, got {rows} and 64"):
            icp.measure(model, make_probe(), some_units(CASE), WHATS, batch_size=rows, **QUIET)
        with pytest.raises(icp.ProbeError, match=f"batch_size and unit_chunk are at least 1, got {rows} and 64"):
            icp.measure_sets(model, make_probe(), [some_units(CASE)[:2]], WHATS[0], batch_size=rows, **QUIET)


def test_a_model_loaded_again_resumes_the_same_store(model, tmp_path):
    """Nothing in a store depends on the session that wrote it."""
    options = dict(store=tmp_path / "effects", **QUIET)
    one = icp.measure(model, make_probe(), some_units(CASE), WHATS, **options)
    fresh = icp.load(CASE.module(), make_tokenizer())
    with passes(fresh) as counted:
        other = icp.measure(fresh, make_probe(), some_units(CASE), WHATS, **options)
    assert np.array_equal(one.dP, other.dP)
    assert len(counted) < 5
