"""Contract 2: a no-op changes nothing, not one bit."""

import pytest
import torch
from helpers import BY_NAME, CASES, HOOKED, bridged, hooked_transformer, make_probe, make_tokenizer, some_units

import icp
from icp.hooks import Reads, SiteEdits, captured, edited, started_at
from icp.interventions import affine
from icp.selection import hooked

DTYPES = (torch.float32, torch.float64)
EVERY = [(kind, case.name) for kind in ("transformers", "bridge") for case in CASES]
EVERY += [("hooked_transformer", name) for name in HOOKED]


def model_of(name, dtype, kind):
    if kind == "hooked_transformer":
        return icp.load(hooked_transformer(name, dtype))
    module = BY_NAME[name].module(dtype)
    return icp.load(module if kind == "transformers" else bridged(module, make_tokenizer()), make_tokenizer())


def padded(model):
    """Rows of 4 and 8 tokens; a bridge of a model with a sliding window takes rows of one length (see test_oracle)."""
    rows = model.pad(make_probe().tokenize(model.tokenizer).inputs)
    return rows if model.kind == "transformers" else rows[torch.tensor([2, 3])]


def edits_of_every_site(model, alpha):
    """All columns of every site, in two entries a row, times `alpha`."""
    batch = padded(model)
    count = len(batch.ids)
    edits = []
    for site in model.sites.values():
        halves = torch.arange(site.width).view(2, -1)
        rows = torch.arange(count).repeat_interleave(2)
        where = batch.mask[rows]
        edits.append(
            (site, SiteEdits(rows, halves.repeat(count, 1), where, torch.full((len(rows),), alpha).to(model.dtype)))
        )
    return edits


def test_an_affine_edit_keeps_the_sign_of_zero_and_lets_no_removed_value_in():
    old = torch.tensor([-0.0, 0.0, torch.inf, torch.nan, 2.0])
    one, zero = torch.ones(5), torch.zeros(5)
    kept = affine(old, one, zero)
    assert torch.equal(kept.view(torch.int32), old.view(torch.int32)), "not one bit, NaN's included"
    assert torch.equal(affine(old, zero, 3 * one), 3 * one)
    assert torch.equal(affine(old[4:], 0.5 * one[4:], one[4:]), torch.tensor([2.0]))


def test_a_selection_that_scales_by_one_changes_no_bit():
    model = BY_NAME["llama"].model(torch.float32)
    unit = model.units("head")[1]
    site, seen = model.site(unit), []
    with torch.no_grad(), site.hook(lambda values: torch.full_like(values, -0.0)):
        with hooked(model, [icp.Choice(unit, "scale", 1.0)]), site.hook(seen.append):
            model.logits(padded(model))
    assert not seen[0].any() and seen[0].signbit().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_scaling_every_unit_by_one_gives_the_same_bits(name, dtype, kind):
    model = model_of(name, dtype, kind)
    batch = padded(model)
    with torch.no_grad():
        clean = model.logits(batch)
        with edited(edits_of_every_site(model, 1.0)):
            hooked = model.logits(batch)
        with edited(edits_of_every_site(model, 1.0 + 1e-3)):
            changed = model.logits(batch)
    assert torch.isfinite(clean).all()
    assert torch.equal(hooked, clean)
    assert not torch.equal(changed, clean)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_scale_one_measures_exactly_zero(name):
    case = BY_NAME[name]
    for dtype in DTYPES:
        got = icp.measure(
            case.model(dtype), make_probe(), some_units(case), [icp.Scale(1.0), icp.Scale(2.0)], batch_size=4,
            progress=False,
        )  # fmt: skip
        assert (got.of(icp.Scale(1.0).label) == 0).all()
        assert (got.of(icp.Scale(2.0).label) != 0).any(axis=1).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_suffix_from_the_cached_residual_gives_the_same_bits(name, dtype, kind):
    """From every block and from the final norm; the full run's logits, all of them and as read."""
    model = model_of(name, dtype, kind)
    batch = padded(model)
    rows, length = batch.ids.shape
    reads = Reads(torch.arange(rows), torch.tensor([length - 1] * rows), torch.tensor([7, 3, 11]))
    everywhere = Reads(torch.arange(rows).repeat_interleave(length), torch.arange(length).repeat(rows))
    with torch.no_grad():
        full = model.logits(batch)
        read, whole = model.read(batch, reads), model.read(batch, everywhere)
        assert (whole.view(full.shape) - full).abs().max() <= 1e-5 * full.abs().max()
        for start in range(1, len(model.blocks) + 1):
            hidden = model.entering(batch, start, {}, [])
            with started_at(model.entrances, start, hidden, model._tuple_output):
                assert torch.equal(model.logits(batch), full)
            assert torch.equal(model.read(batch, reads, start=start, hidden=hidden), read)
            assert torch.equal(model.read(batch, everywhere, start=start, hidden=hidden), whole)
            assert not torch.equal(model.read(batch, reads, start=start, hidden=hidden * 1.01), read)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_skipped_block_does_not_run(name):
    """Its own parts are never called, so starting later saves what it should."""
    model = BY_NAME[name].model()
    batch = padded(model)
    reads = Reads(torch.tensor([0]), torch.tensor([0]))
    with torch.no_grad():
        model.read(batch, reads)  # the first time, a probing pass finds out what a block returns
    called = []
    handles = [
        model.sites[f"blocks.{layer}.{point}"].module.register_forward_pre_hook(
            lambda m, a, where=(layer, point): called.append(where)
        )
        for layer in range(len(model.blocks))
        for point in ("mlp.hook_post", "attn.hook_z")
    ]
    last = len(model.blocks) - 1
    try:
        with torch.no_grad():
            hidden = model.entering(batch, last, {}, [])
            assert {layer for layer, _ in called} == set(range(last)), "blocks after the entrance ran"
            called.clear()
            model.read(batch, reads, start=last, hidden=hidden)
            assert {layer for layer, _ in called} == {last}
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_looking_changes_nothing(name, kind):
    """Capturing every site, on the graph or off it, leaves the logits bit-equal."""
    model = model_of(name, torch.float32, kind)
    batch = padded(model)
    with torch.no_grad():
        clean = model.logits(batch)
        values = {}
        with captured(list(model.sites.values()), values):
            assert torch.equal(model.logits(batch), clean)
    assert set(values) == set(model.sites)
    with captured(list(model.sites.values()), {}, differentiable=True):
        assert torch.equal(model.logits(batch), clean)
