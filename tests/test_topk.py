"""`icp.measure(..., top=k)`: the units found and their certificate, against measuring everything."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BY_NAME, PAIRS, make_probe
from reference import Naive, Plain
from test_plan import passes

import icp
from icp.certificate import Stratum
from icp.sweep.topk import pool_of, require_options

CASE = BY_NAME["llama"]
ZERO = icp.Mask("zero")
OPTIONS = dict(top=20, budget=0.7, miss_rate=0.05, progress=False)


@pytest.fixture(scope="module")
def model():
    return CASE.model()


@pytest.fixture(scope="module")
def units(model):
    """284 units of four kinds in no order, of which nothing but their address tells where they are."""
    found = model.units("neuron", "head", "resid", "embed")
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


@pytest.fixture(scope="module")
def exact(model, units):
    return icp.measure(model, make_probe(), units, ZERO, progress=False)


def best_of(effects, count):
    order = np.argsort(-np.abs(effects.dP[:, 0]).mean(1), kind="stable")[:count]
    return [effects.header["units"][i] for i in order]


def test_the_whole_budget_gives_the_exact_top(model, units, exact):
    found = icp.measure(model, make_probe(), units, ZERO, top=20, budget=1.0, progress=False)
    assert found.header["units"] == best_of(exact, 20)
    assert found.certificate.met and found.certificate.missed_upper == 0 and found.certificate.work_fraction == 1.0


def test_what_is_found_is_exact_best_first_and_labelled(model, units, exact):
    found = icp.measure(model, make_probe(), units, ZERO, **OPTIONS)
    names = found.header["units"]
    rows = [exact.header["units"].index(name) for name in names]
    assert np.abs(found.dP - exact.dP[rows]).max() < 1e-12
    assert np.abs(found.clean - exact.clean).max() < 1e-12
    assert np.abs(found.total - exact.total).max() < 1e-12
    scores = np.abs(found.dP[:, 0]).mean(1)
    assert (np.diff(scores) <= 0).all() and len(names) == len(set(names)) == 20
    same = {k: v for k, v in exact.header.items() if k not in ("units", "plans")}
    assert {k: v for k, v in found.header.items() if k not in ("units", "plans", "certificate")} == same
    assert exact.certificate is None
    assert icp.spuriousness(found).units == found.units


def test_what_is_found_is_what_the_naive_loop_gives(model, units):
    naive = Naive(Plain(model.module), model.tokenizer, make_probe())
    found = icp.measure(model, make_probe(), units, ZERO, **OPTIONS)
    for unit, dP in list(zip(found.header["units"], found.dP))[:4]:
        assert dP[0] == pytest.approx(naive.dP([unit], [ZERO])[0, 0], abs=CASE.atol)


def test_the_promise_is_kept(model, units, exact):
    """Of the units not measured at most `missed_upper` are above the last found, and recall is no less than bound."""
    best, met = best_of(exact, 20), []
    for seed in range(5):
        found = icp.measure(model, make_probe(), units, ZERO, seed=seed, **OPTIONS)
        certificate = found.certificate
        recall = len(set(best) & set(found.header["units"])) / 20
        assert recall >= certificate.recall_lower > 0
        assert certificate.work_fraction <= 0.7 and (certificate.seed, certificate.units) == (seed, 284)
        met.append(certificate.met)
    assert any(met)


@pytest.mark.parametrize(
    "what, property",
    [
        (icp.Swap("counterpart"), icp.LogitDifference()),
        (icp.Mask("mean"), icp.NextTokenLoss()),
        (ZERO, icp.PairGap()),
        (icp.Scale(0.5), icp.PairGap(icp.Probability())),
    ],
    ids=str,
)
def test_any_affine_intervention_and_property(model, units, what, property):
    probe = make_probe()
    exact = icp.measure(model, probe, units, what, property=property, progress=False)
    found = icp.measure(model, probe, units, what, property=property, **OPTIONS)
    rows = [exact.header["units"].index(name) for name in found.header["units"]]
    assert np.abs(found.dP - exact.dP[rows]).max() < 1e-10
    assert len(set(best_of(exact, 20)) & set(found.header["units"])) / 20 >= found.certificate.recall_lower
    whole = icp.measure(model, probe, units, what, property=property, top=20, budget=1.0, progress=False)
    assert whole.header["units"] == best_of(exact, 20)


def test_an_intervention_without_an_estimate_needs_the_whole_budget(model, units):
    class Halved(icp.Intervention):
        label = "halved"

        def replace(self, values, where):
            return values / 2

    some = units[:12]
    with pytest.raises(icp.IcpError, match=r"halved is not affine.*budget=1\.0"):
        icp.measure(model, make_probe(), some, Halved(), top=3, progress=False)
    found = icp.measure(model, make_probe(), some, Halved(), top=3, budget=1.0, progress=False)
    assert found.header["units"] == best_of(icp.measure(model, make_probe(), some, Halved(), progress=False), 3)


def test_a_budget_too_small_is_said_and_the_top_of_the_estimates_is_given(model, units):
    found = icp.measure(model, make_probe(), units, ZERO, top=20, progress=False)
    certificate = found.certificate
    assert not certificate.met and certificate.missed_upper == 264 and certificate.recall_lower == 0
    estimated = icp.measure(model, make_probe(), units, ZERO, method="linear", progress=False)
    assert set(found.header["units"]) == set(best_of(estimated, 20))
    assert "NOT the 0.50% asked for: a budget of 0.03 pays for 0 audited units; " in str(certificate)


def stored(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_search_that_was_killed_resumes_where_it_stopped(model, units, tmp_path):
    whole = icp.measure(model, make_probe(), units, ZERO, **OPTIONS)
    with passes(model) as counted:
        icp.measure(model, make_probe(), units, ZERO, **OPTIONS)
    everything = len(counted)
    for at in (everything // 3, everything // 2, everything - 1):
        folder = tmp_path / str(at)
        with pytest.raises(KeyboardInterrupt), passes(model, at, KeyboardInterrupt()):
            icp.measure(model, make_probe(), units, ZERO, store=folder, **OPTIONS)
        left = stored(folder)
        assert "top" not in left
        with passes(model) as counted:
            again = icp.measure(model, make_probe(), units, ZERO, store=folder, **OPTIONS)
        assert np.array_equal(again.dP, whole.dP)
        assert again.header == whole.header
        assert len(counted) < everything
        loaded = icp.Effects.load(folder / "top")
        assert np.array_equal(loaded.dP, whole.dP) and loaded.certificate == whole.certificate


def test_a_finished_search_measures_nothing_again(model, units, tmp_path):
    first = icp.measure(model, make_probe(), units, ZERO, store=tmp_path / "s", **OPTIONS)
    parts = stored(tmp_path / "s")
    with passes(model) as counted:
        again = icp.measure(model, make_probe(), units, ZERO, store=tmp_path / "s", **OPTIONS)
    assert np.array_equal(first.dP, again.dP) and first.certificate == again.certificate
    assert len(counted) <= 3 * len(parts), "clean values and counterparts, no unit"
    other = icp.measure(model, make_probe(), units, ZERO, store=tmp_path / "s", seed=1, **OPTIONS)
    assert len(stored(tmp_path / "s")) == len(parts) + 1, "another audit, the same candidates"
    assert (first.certificate.number, other.certificate.number) == (1, 2)
    assert "It is search number 2 of its folder" in str(other.certificate)
    assert "of its folder" not in str(first.certificate)
    for again, number in ((1, 2), (0, 1), (2, 3)):
        found = icp.measure(model, make_probe(), units, ZERO, store=tmp_path / "s", seed=again, **OPTIONS)
        assert found.certificate.number == number
    assert other.certificate == replace(
        icp.measure(model, make_probe(), units, ZERO, seed=1, **OPTIONS).certificate, number=2
    )
    kept = json.loads((tmp_path / "s" / "searches").read_text())["certificates"]
    assert [(each["seed"], each["number"]) for each in kept] == [(0, 1), (1, 2), (2, 3)]
    found = icp.measure(model, make_probe(), units, ZERO, store=tmp_path / "s", seed=1, **OPTIONS)
    assert icp.Effects.load(tmp_path / "s" / "top").certificate == other.certificate


@pytest.mark.parametrize("text", ["{", '{"format": "searches", "version": 1}', '{"format": "searches", "version": 2}'])
def test_damaged_certificates_of_a_folder_are_refused(text, model, units, tmp_path):
    (tmp_path / "searches").write_text(text)
    with pytest.raises(icp.ArtefactError, match="searches"):
        icp.measure(model, make_probe(), units[:30], ZERO, top=3, store=tmp_path, progress=False)


def test_a_search_of_something_else_is_refused(model, units, tmp_path):
    icp.measure(model, make_probe(), units, ZERO, store=tmp_path / "s", **OPTIONS)
    with pytest.raises(icp.ArtefactError, match="holds another measurement: it differs in interventions"):
        icp.measure(model, make_probe(), units, icp.Mask("mean"), store=tmp_path / "s", **OPTIONS)


def test_effects_are_saved_with_their_certificate(model, units, tmp_path):
    found = icp.measure(model, make_probe(), units, ZERO, **OPTIONS)
    again = icp.Effects.load(found.save(tmp_path / "e"))
    assert again.certificate == found.certificate and isinstance(again.certificate.strata[0], Stratum)
    assert icp.Certificate.from_json(json.loads(json.dumps(found.certificate.as_json()))) == found.certificate


@pytest.mark.parametrize(
    "change",
    [
        {"top": None}, {"strata": [{"size": 1, "sampled": 2}]}, {"strata": 3}, {"strata": [3]}, {"surprise": 1},
        {"missed_upper": "x"}, {"missed_upper": 1.5}, {"units": True}, {"threshold": None}, {"reason": 3},
        {"strata": [{"size": "x"}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_certificate_is_refused(model, units, change):
    found = icp.measure(model, make_probe(), units[:30], ZERO, top=3, progress=False)
    stored = found.header["certificate"] | change
    assert stored != found.header["certificate"]
    if change == {"top": None}:
        del stored["top"]
    with pytest.raises(icp.ArtefactError, match="certificate of these effects is damaged"):
        replace(found, header=found.header | {"certificate": stored}).certificate  # noqa: B018


CERTIFICATE = icp.Certificate(
    top=100, units=46_350, confidence=0.95, miss_rate=0.005, budget=0.03, seed=0, threshold=0.5, candidates=317,
    strata=(Stratum(1000, 100, 2), Stratum(45_033, 558)), unknown=1, missed_upper=220, work_fraction=0.0234,
)  # fmt: skip


def test_a_certificate_reads_as_a_paragraph():
    expected = (
        "Top 100 of 46,350 units; 317 candidates and 658 audited were measured exactly (2.1% of the units, 2.3% of "
        "the work of measuring all). Of the 45,376 others at most 220 (0.49%) are above the last one found, with 95% "
        "confidence (as asked); recall is at least 0.00."
    )
    assert str(CERTIFICATE) == repr(CERTIFICATE) == expected
    failed = replace(CERTIFICATE, missed_upper=460, reason="a budget of 0.03 pays for 320 audited units; more would do")
    assert "(NOT the 0.50% asked for: a budget of 0.03 pays for 320 audited units; more would do)" in str(failed)
    assert not failed.met and CERTIFICATE.met
    whole = replace(CERTIFICATE, candidates=46_350, strata=(), unknown=0, missed_upper=0)
    assert str(whole).endswith("Nothing is left out: recall is 1.")


@pytest.mark.parametrize(
    "missed, top, said",
    [
        (4, 1000, r"at most 4 \(0.01%\).*recall is at least 0.99\."),
        (1, 100, r"\(0.01%\).*recall is at least 0.99\."),
        (224, 1000, r"at most 224 \(0.50%\).*recall is at least 0.77\."),
        (0, 100, r"at most 0 \(0.00%\).*recall is at least 1.00\."),
    ],
)
def test_what_is_proven_is_never_rounded_to_more_than_that(missed, top, said):
    """Recalls of 0.996, 0.99, 0.776 and 1, rates of 0.0088%, 0.0022%, 0.4937% and 0."""
    assert re.search(said, str(replace(CERTIFICATE, missed_upper=missed, top=top)))


def test_confidence_is_said_as_it_is():
    assert "with 99.9999% confidence" in str(replace(CERTIFICATE, confidence=0.999999))


def test_what_follows_from_a_certificate():
    assert (CERTIFICATE.audited, CERTIFICATE.unmeasured) == (658, 45_375)
    assert CERTIFICATE.miss_rate_upper == pytest.approx(220 / 45_376)
    assert CERTIFICATE.units_fraction == pytest.approx(975 / 46_350)
    assert replace(CERTIFICATE, missed_upper=25).recall_lower == 0.75


@pytest.mark.parametrize("name", ("llama", "gpt_neox"))
def test_a_unit_costs_the_blocks_that_run_again(name, monkeypatch):
    """By counting the blocks that one more intervention on it enters; the read-out counts as one block."""
    model = BY_NAME[name].model()
    blocks, entered = len(model.blocks), []
    for block in model.blocks:
        forward = block.mlp.forward

        def counted(hidden, forward=forward):
            entered.append(hidden)
            return forward(hidden)

        monkeypatch.setitem(block.mlp.__dict__, "forward", counted)
    found = [icp.Unit.parse("hook_embed[0]")]
    for point in ("mlp.hook_post[1]", "attn.hook_z[1]", "attn.hook_z[1,2]", "hook_resid_post[3]"):
        found += [icp.Unit.parse(f"blocks.{layer}.{point}") for layer in range(blocks)]
    probe = icp.Probe.from_texts([x for x, _ in PAIRS], (" she", " he"))
    pool = pool_of(model, probe, found, ZERO)
    icp.measure(model, probe, found[:1], ZERO, progress=False)  # what a model asks of itself once is no unit's cost
    for unit, cost in zip(found, pool.costs):
        counts = []
        for whats in ([ZERO], [ZERO, icp.Scale(0.5)]):
            entered.clear()
            icp.measure(model, probe, [unit], whats, batch_size=len(probe), progress=False)
            counts.append(len(entered))
        assert cost == pytest.approx((counts[1] - counts[0] + 1) / (blocks + 1))
    assert len(set(pool.groups.tolist())) == len({(unit.layer, unit.kind) for unit in found})


def test_a_call_costs_the_passes_that_come_with_it(model):
    """By counting them: clean values with activations, counterparts, and values put in from other inputs."""
    bare = icp.Probe.from_texts([x for x, _ in PAIRS], (" she", " he"))
    unit = [icp.Unit.parse("blocks.1.mlp.hook_post[0]")]
    icp.measure(model, bare, unit, ZERO, progress=False)
    for probe, what, calling in [
        (bare, ZERO, 1),
        (bare, icp.Swap("hook_embed[1]"), 1),
        (bare, icp.Mask("mean"), 2),
        (make_probe(), ZERO, 2),
        (make_probe(), icp.Swap("counterpart"), 3),
    ]:
        assert pool_of(model, probe, unit, what).calling == calling
        with passes(model) as counted:
            icp.measure(model, probe, unit, what, batch_size=len(probe), progress=False)
        assert len(counted) == calling + 1


class Counted:
    """Positions that enter the MLP of each block; and where gradients are taken, how often it is passed either way."""

    def __init__(self, model, monkeypatch):
        self.positions, self.forward, self.backward = (np.zeros(len(model.blocks), dtype=int) for _ in range(3))
        for layer, block in enumerate(model.blocks):
            monkeypatch.setitem(block.mlp.__dict__, "forward", self.counting(layer, block.mlp.forward))

    def counting(self, layer, forward):
        def counted(hidden):
            self.positions[layer] += hidden.shape[:-1].numel()
            self.forward[layer] += torch.is_grad_enabled()
            output = forward(hidden)
            if output.requires_grad:
                output.register_hook(lambda gradient: self.went_back(layer))
            return output

        return counted

    def went_back(self, layer):
        self.backward[layer] += 1

    def of(self, call):
        """The positions of this call alone."""
        before = self.positions.copy()
        call()
        return self.positions - before


SPANS = ("all", "last", (-2, None), (0, 1))
POINTS = ("mlp.hook_post[1]", "attn.hook_z[1]", "hook_resid_post[3]")


@pytest.mark.parametrize("positions", SPANS, ids=str)
@pytest.mark.parametrize("name", ("llama", "gpt_neox"))
def test_a_unit_and_a_call_cost_the_positions_that_run(name, positions, monkeypatch):
    """The last block, of which only what is read runs, and the read-out count as the others do."""
    model, probe = BY_NAME[name].model(), icp.Probe.from_texts([x for x, _ in PAIRS], (" she", " he"))
    blocks, whole = len(model.blocks), len(probe) * 8
    units = [icp.Unit.parse(f"blocks.{layer}.{point}") for point in POINTS for layer in range(blocks)]
    pool = pool_of(model, probe, units, ZERO, positions=positions)
    late = positions in ("last", (-2, None))
    share = {"last": 1 / 8, (-2, None): 2 / 8}.get(positions, 1.0)
    icp.measure(model, probe, units[:1], ZERO, progress=False)
    counted = Counted(model, monkeypatch)

    def run(unit, whats):
        return counted.of(
            lambda: icp.measure(model, probe, [unit], whats, positions=positions, batch_size=4, progress=False)
        )

    for unit, cost in zip(units, pool.costs):
        more = run(unit, [ZERO, icp.Scale(0.5)]) - run(unit, [ZERO])
        expected = more[:-1].sum() / whole + share * ((more[-1] > 0) + 1)
        assert cost == pytest.approx(expected / (blocks + 1)), unit
    first = run(units[blocks - 1], [ZERO])[0] / whole  # none of it is of the unit itself, which is in the last block
    captured = share if late else 0
    assert first == 1 + captured + ((1 - share) + share if late else 0)
    assert pool.calling == pytest.approx(first)


@pytest.mark.parametrize("change", [
    {"positions": "last"}, {"property": icp.PairGap()}, {"method": icp.Linear(steps=2)},
    {"reference": icp.Probe.from_texts([PAIRS[3][0]] * 12, (" she", " he"))},
], ids=str)  # fmt: skip
def test_a_search_is_told_what_its_own_measuring_costs(model, units, change, monkeypatch):
    told = []

    def asked(pool, *given, **options):
        told.append(pool)
        raise KeyboardInterrupt

    monkeypatch.setattr("icp.sweep.topk.search", asked)
    mean = icp.Mask("mean")
    with pytest.raises(KeyboardInterrupt):
        icp.measure(model, make_probe(), units, mean, **OPTIONS, **change)
    want, plain = (pool_of(model, make_probe(), units, mean, **how) for how in (change, {}))
    facts = [(p.costs.tolist(), p.calling, p.estimating) for p in (*told, want, plain)]
    assert facts[0] == facts[1] != facts[2]


@pytest.mark.parametrize("method", [icp.Linear(steps=3), icp.Linear(grad_drop=True)], ids=lambda method: method.label)
def test_a_search_estimates_as_it_is_told(model, units, exact, method, tmp_path):
    store = tmp_path / "s"
    found = icp.measure(model, make_probe(), units, ZERO, method=method, store=store, **OPTIONS)
    certificate = found.certificate
    assert certificate.estimates == method.label and f"(estimates: {method.label})" in str(certificate)
    assert len(set(best_of(exact, 20)) & set(found.header["units"])) / 20 >= certificate.recall_lower
    assert found.header["method"] == "exact"
    (kept,) = (path for path in store.iterdir() if path.name.startswith("linear-"))
    want = icp.measure(model, make_probe(), sorted(units), ZERO, method=method, progress=False)
    assert (
        np.array_equal(icp.Effects.load(kept).dP, want.dP) and icp.Effects.load(kept).header["method"] == method.label
    )
    plain = icp.measure(model, make_probe(), units, ZERO, **OPTIONS).certificate
    assert plain.estimates == "linear"
    with passes(model) as counted:
        again = icp.measure(model, make_probe(), units, ZERO, method=method, store=store, **OPTIONS)
    assert again.certificate == certificate and len(counted) <= 3 * len(stored(store))


@pytest.mark.parametrize("change", [{"budget": 1.0}, {"top": 12}], ids=str)
def test_a_way_to_estimate_is_refused_where_all_are_measured(model, units, change):
    with pytest.raises(icp.IcpError, match=r"measures all of them: leave out Linear\(steps=2"):
        icp.measure(
            model, make_probe(), units[:12], ZERO, method=icp.Linear(steps=2), progress=False, **{"top": 3} | change
        )
    whole = icp.measure(model, make_probe(), units[:12], ZERO, progress=False, **{"top": 3} | change)
    assert whole.certificate.estimates == ""


ESTIMATORS = [
    icp.Linear(), icp.Linear(grad_drop=True), icp.Linear(steps=3), icp.Linear(steps=2, grad_drop=True),
]  # fmt: skip


@pytest.mark.parametrize("method", ESTIMATORS, ids=lambda method: method.label)
@pytest.mark.parametrize("kinds", [("neuron",), ("embed", "head", "value"), ("resid",)], ids=str)
@pytest.mark.parametrize("layers", [[0, 1, 2], [1], [1, 2], [2]], ids=str)
def test_estimates_cost_the_passes_that_they_take(model, method, kinds, layers, monkeypatch):
    """By counting the blocks that a gradient passes, forwards and backwards, and the read-out at either."""
    units = [unit for kind in kinds for unit in model.units(kind, layers=None if kind == "embed" else layers)]
    probe = icp.Probe.from_texts([PAIRS[0][0]] * 2, (" she", " he"))
    drops, real = [], torch.autograd.grad
    with monkeypatch.context() as patched:
        patched.setattr(torch.autograd, "grad", lambda of, *a, **k: drops.append(of.ndim == 0) or real(of, *a, **k))
        counted = Counted(model, patched)
        icp.measure(model, probe, units, ZERO, method=method, progress=False)
    graphs = 1 if method.steps == 1 else method.steps * len({(unit.site, unit.kind) for unit in units})
    passed = counted.forward.sum() + graphs + 2 * (counted.backward.sum() + sum(drops))
    assert method.passes(model, units) == pytest.approx(passed / (len(model.blocks) + 1))
    assert pool_of(model, probe, units, ZERO, method=method).estimating == method.passes(model, units)


def test_the_qk_fix_costs_an_attention_a_block_and_side(model):
    units = model.units("query", "key", layers=[0, 2])
    assert icp.Linear().passes(model, units) == icp.Linear().passes(model, model.units("head", layers=[0, 2])) + 1
    assert icp.Linear(qk_fix=False).passes(model, units) == 3


BAD = [
    ({"top": 0}, r"top=0 of 12 units: ask for a whole number from 1 to 12"),
    ({"top": 13}, r"top=13 of 12 units"),
    ({"top": True}, r"top=True of 12 units"),
    ({"confidence": 0.0}, r"confidence=0.0 is out of range"),
    ({"confidence": 1.0}, r"confidence=1.0 is out of range"),
    ({"confidence": float("nan")}, r"confidence=nan is out of range"),
    ({"budget": 0.0}, r"budget=0.0 is out of range"),
    ({"miss_rate": 1.0}, r"miss_rate=1.0 is out of range"),
    ({"miss_rate": -0.1}, r"miss_rate=-0.1 is out of range"),
    ({"seed": -1}, r"seed=-1 is out of range"),
    ({"seed": True}, r"seed=True is out of range"),
    ({"method": "linear"}, r"top=3 estimates and then measures exactly: leave out method='linear'"),
    ({"interventions": [ZERO, icp.Mask("mean")]}, r"top=3 ranks by one intervention, 2 were given"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[str(change) for change, _ in BAD])
def test_bad_options_are_refused_before_anything_runs(model, units, change, message):
    options = {"top": 3, "interventions": ZERO} | change
    what = options.pop("interventions")
    with passes(model) as counted, pytest.raises(icp.IcpError, match=message):
        icp.measure(model, make_probe(), units[:12], what, progress=False, **options)
    assert not counted


@pytest.mark.parametrize("value", ["0.03", None, True, [0.03]])
@pytest.mark.parametrize("name", ["confidence", "miss_rate", "budget"])
def test_a_share_that_is_no_number_is_refused(name, value):
    """Asked of the check itself: in tests `measure` has its arguments' types checked before."""
    options = dict(confidence=0.95, miss_rate=0.005, budget=0.03, seed=0) | {name: value}
    with pytest.raises(icp.IcpError, match=f"{name}=.* is not a Python number: give a share, such as"):
        require_options(12, [ZERO], "exact", 3, **options)


@pytest.mark.parametrize("option", [{"confidence": 0.9}, {"miss_rate": 0.1}, {"budget": 0.5}, {"seed": 3}], ids=str)
def test_options_of_a_search_without_one_are_refused(model, units, option):
    (name,) = option
    with pytest.raises(icp.IcpError, match=f"{name}=.* is for a search: give top=k too"):
        icp.measure(model, make_probe(), units[:3], ZERO, progress=False, **option)


def test_a_property_without_a_gradient_needs_the_whole_budget(model, units):
    property = icp.ErrorRate()
    with pytest.raises(icp.IcpError, match="no gradient"):
        icp.measure(model, make_probe(), units, ZERO, property=property, **OPTIONS)
    found = icp.measure(model, make_probe(), units[:20], ZERO, property=property, top=3, budget=1.0, progress=False)
    assert len(found.units) == 3


def test_float32_too():
    model = CASE.model(torch.float32)
    units = model.units("neuron")
    found = icp.measure(model, make_probe(), units, ZERO, **OPTIONS)
    assert found.dP.dtype == np.float32 and len(found.units) == 20


def test_a_search_with_shows_bars_only_when_asked(model, units, capsys):
    icp.measure(model, make_probe(), units[:30], ZERO, top=3, progress=False)
    assert capsys.readouterr().err == ""
