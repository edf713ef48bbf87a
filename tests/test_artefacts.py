"""Artefacts come back bit for bit, appear whole or not at all, and refuse what is not theirs."""

import errno
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BY_NAME, make_probe
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import icp
from icp.evaluation import Inputs

UNITS = ["hook_embed[1]", "blocks.0.attn.hook_z[2]", "blocks.1.attn.hook_z[0,3]", "blocks.2.mlp.hook_post[47]"]
WHATS = [icp.Mask("zero"), icp.Swap("counterpart")]
BINDING = {"architecture": "a", "tokenizer": "t", "weights": "w"}


@pytest.fixture(scope="module")
def model():
    return BY_NAME["gpt2"].model(torch.float32)


@pytest.fixture(scope="module")
def effects(model):
    return icp.measure(model, make_probe(), UNITS, WHATS, progress=False)


def some_frontier():
    choices = tuple(icp.Choice(icp.Unit.parse(u), "prune", 0.0, (0.1 + i, -0.0)) for i, u in enumerate(UNITS))
    random = np.random.default_rng(0)
    costs = {"task": random.normal(size=(3, 5)), "neutral": random.normal(size=(3, 2)).astype(np.float32)}
    return icp.Frontier(
        (0, 2, 4), random.normal(size=(3, 5)), costs, choices, (3.0, 1 / 3, 0.2, -1e-300), BINDING, {"a": [1]},
        random.integers(0, 3, (5, 2)), {"neutral": random.integers(0, 3, (2, 2))},
    )  # fmt: skip


def some_selection():
    choices = (
        icp.Choice(icp.Unit.parse(UNITS[1]), "prune", 0.0, tuple(np.random.default_rng(0).normal(size=8))),
        icp.Choice(icp.Unit.parse(UNITS[0]), "scale", 1 / 3),
        icp.Choice(icp.Unit.parse(UNITS[2]), "regularise"),
        icp.Choice(icp.Unit.parse(UNITS[3]), "keep"),
    )
    return icp.Selection(choices, BINDING, {"rule": {"top": 4}, "ranking": "indirect_effect"})


def some_evaluation():
    values = np.array([1 / 3, -0.0, 1e-310, 7e300, np.nan])
    return icp.Evaluation(
        {"before": {"gap": values, "accuracy": np.ones(5)}, "after": {"gap": values[::-1].copy()}},
        {"gap": Inputs("digest", np.arange(10).reshape(5, 2))},
        {"before": BINDING},
    )


def same_bits(one, other):
    assert one.dtype == other.dtype and one.shape == other.shape
    assert one.tobytes() == other.tobytes()


def in_full(artefact):
    """Everything an artefact holds, in a form that compares bits."""
    match artefact:
        case icp.Effects():
            arrays = {"dP": artefact.dP, "clean": artefact.clean, "total": artefact.total}
            rest = artefact.header
        case icp.Frontier():
            arrays = {"gap": artefact.gap, "clusters": artefact.clusters} | artefact.costs
            arrays |= {f"clusters {name}": codes for name, codes in artefact.cost_clusters.items()}
            rest = (artefact.sizes, artefact.scores, artefact.choices, artefact.binding, artefact.origin)
        case icp.Evaluation():
            arrays = {f"{m} {k}": v for m, metrics in artefact.values.items() for k, v in metrics.items()}
            arrays |= {f"clusters {k}": inputs.clusters for k, inputs in artefact.inputs.items()}
            rest = (artefact.bindings, {k: inputs.digest for k, inputs in artefact.inputs.items()})
        case icp.Selection():
            return artefact
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}, rest


KINDS = {
    "selection": (some_selection, icp.Selection),
    "frontier": (some_frontier, icp.Frontier),
    "evaluation": (some_evaluation, icp.Evaluation),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_come_back_bit_for_bit(kind, tmp_path):
    make, loader = KINDS[kind]
    path = make().save(tmp_path / "deep" / "artefact")
    assert in_full(loader.load(path)) == in_full(make())
    assert [p.name for p in path.parent.iterdir()] == ["artefact"]
    make().save(path)  # over itself
    assert in_full(loader.load(str(path))) == in_full(make())


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=9), st.floats(allow_nan=False, allow_infinity=False))
def test_constants_of_a_selection_come_back_bit_for_bit(tmp_path_factory, shift, alpha):
    cut = icp.Choice(icp.Unit.parse(UNITS[0]), "prune", shift=tuple(shift))
    scaled = icp.Choice(icp.Unit.parse(UNITS[1]), "scale", alpha)
    path = icp.Selection((cut, scaled), BINDING).save(tmp_path_factory.mktemp("s") / "selection")
    found = icp.Selection.load(path).choices
    same_bits(np.array([found[1].alpha, *found[0].shift]), np.array([alpha, *shift]))


def test_a_frontier_decides_alike_after_loading(tmp_path):
    path = some_frontier().save(tmp_path / "frontier")
    for rule in ({"top": 3}, {"threshold": 0.3}, {"max_damage": 99.0}, {"threshold": 0.3, "regularise": 0.2}):
        assert icp.Frontier.load(path).select(**rule) == some_frontier().select(**rule)


def test_effects_come_back_bit_for_bit_saved_or_measured_into_a_store(model, effects, tmp_path):
    assert in_full(icp.Effects.load(effects.save(tmp_path / "saved"))) == in_full(effects)
    stored = icp.measure(model, make_probe(), UNITS, WHATS, progress=False, store=tmp_path / "store")
    assert in_full(stored) == in_full(effects)
    loaded = icp.Effects.load(tmp_path / "store")
    order = [loaded.header["units"].index(u) for u in UNITS]  # a store keeps units in the order of the blocks
    same_bits(loaded.dP[order], effects.dP)
    same_bits(loaded.total, effects.total)
    effects.save(tmp_path / "saved")  # over itself
    assert sorted(p.name for p in tmp_path.iterdir()) == ["saved", "store"]


def test_effects_without_counterparts_and_in_float64_come_back(tmp_path):
    model = BY_NAME["gpt2"].model()
    probe = icp.Probe.from_texts([e.text for e in make_probe().examples], answers=(" she", " he"))
    effects = icp.measure(model, probe, UNITS, icp.Mask(), progress=False)
    assert np.isnan(effects.total).all() and effects.dP.dtype == np.float64
    assert in_full(icp.Effects.load(effects.save(tmp_path / "e"))) == in_full(effects)


def test_a_dataset_carries_labels(effects):
    data = effects.dataset()
    assert data.dP.dims == ("unit", "intervention", "example")
    assert data.unit.values.tolist() == UNITS
    assert data.intervention.values.tolist() == ["mask:zero", "swap:counterpart"]
    for field in ("text", "template", "word", "group", "label"):
        assert data[field].values.tolist() == [getattr(e, field) for e in make_probe().examples]
    one = data.dP.sel(unit=UNITS[1], intervention="swap:counterpart")
    np.testing.assert_array_equal(one.values, effects.of("swap:counterpart")[1])
    assert data.attrs["property"] == "LogitDifference()" and data.attrs["unit_of_P"] == "logits"
    assert json.loads(data.attrs["provenance"])["binding"] == effects.header["binding"]
    assert data.groupby("group").mean().dP.sizes["group"] == 2


def refused(words, load, *arguments):
    with pytest.raises(icp.ArtefactError) as error:
        load(*arguments)
    message = str(error.value)
    for word in [words] if isinstance(words, str) else words:
        assert word in message
    return message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(kind, part, tmp_path):
    make, loader = KINDS[kind]
    path = make().save(tmp_path / "artefact")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    refused(str(path), loader.load, path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_file_is_refused(kind, tmp_path):
    loader = KINDS[kind][1]
    (tmp_path / "text").write_text("an essay")
    (tmp_path / "json").write_text("[1, 2]")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "pickle").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "folder").mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "safetensors")
    for name in ("text", "json", "bytes", "pickle", "folder", "safetensors", "nothing"):
        refused(str(tmp_path / name), loader.load, tmp_path / name)
    for other, (make_other, _) in KINDS.items():
        if other != kind:
            refused(str(tmp_path / other), loader.load, make_other().save(tmp_path / other))
    message = refused("safetensors", icp.Selection.load, some_frontier().save(tmp_path / "safetensors"))
    assert "'icp-frontier'" in message and "'icp-selection'" in message


def rewrite(path, change=lambda header, about, tensors: None):
    """Write a safetensors artefact again with something about it changed."""
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    about, tensors = json.loads(header["about"]), {k: v.clone() for k, v in load_file(path).items()}
    change(header, about, tensors)
    save_file(tensors, path, header | {"about": json.dumps(about)} if "about" in header else header)
    return path


@pytest.mark.parametrize("kind", ["selection", "frontier"])
def test_a_file_of_another_version_is_refused(kind, tmp_path):
    make, loader = KINDS[kind]
    path = rewrite(make().save(tmp_path / "a"), lambda header, about, tensors: header.update(version="99"))
    refused(["version 99", "reads version"], loader.load, path)


def test_an_evaluation_of_another_version_is_refused(tmp_path):
    path = some_evaluation().save(tmp_path / "a")
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"version": 1}))
    refused(["version 1", "reads version 3"], icp.Evaluation.load, path)
    path.write_text(json.dumps({k: v for k, v in stored.items() if k != "version"}))
    refused(["version None", "reads version 3"], icp.Evaluation.load, path)
    for values in (None, [], {"a": 1}, {"a": {"gap": "x"}}):
        path.write_text(json.dumps(stored | {"values": values}))
        refused("damaged", icp.Evaluation.load, path)


@pytest.mark.parametrize("kind", ["selection", "frontier"])
def test_a_file_with_parts_missing_is_refused(kind, tmp_path):
    make, loader = KINDS[kind]
    keys = ["choices", "binding", "origin"] + ["sizes", "scores"] * (kind == "frontier")
    for key in keys:
        path = rewrite(make().save(tmp_path / "a"), lambda header, about, tensors, key=key: about.pop(key))
        refused("damaged", loader.load, path)
    path = rewrite(make().save(tmp_path / "a"), lambda header, about, tensors: header.pop("about"))
    refused("damaged", loader.load, path)
    path = rewrite(
        make().save(tmp_path / "a"), lambda header, about, tensors: about.update(choices=[["x[1]", "prune", 0]])
    )
    refused("damaged", loader.load, path)


def test_a_frontier_of_another_shape_is_refused_with_both_values(tmp_path):
    def gap(header, about, tensors):
        tensors["gap"] = tensors["gap"][:2].contiguous()

    def cost(header, about, tensors):
        tensors["cost.task"] = torch.zeros(4, 5)

    refused(["3 sizes but 2 rows"], icp.Frontier.load, rewrite(some_frontier().save(tmp_path / "a"), gap))
    refused(["3 sizes but 4 rows"], icp.Frontier.load, rewrite(some_frontier().save(tmp_path / "a"), cost))
    lost = rewrite(some_frontier().save(tmp_path / "a"), lambda header, about, tensors: about["scores"].pop())
    refused(["4 units but 3 scores"], icp.Frontier.load, lost)
    lost = rewrite(some_frontier().save(tmp_path / "a"), lambda header, about, tensors: tensors.pop("gap"))
    refused("damaged", icp.Frontier.load, lost)


def test_a_store_that_is_not_whole_is_refused(effects, tmp_path):
    def fresh():
        shutil.rmtree(tmp_path / "e", ignore_errors=True)
        return effects.save(tmp_path / "e")

    refused([str(tmp_path / "nothing"), "not a store of effects"], icp.Effects.load, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "text").write_text("an essay")
    refused("not a store of effects", icp.Effects.load, tmp_path / "text")
    (tmp_path / "empty").mkdir()
    refused("not a store of effects", icp.Effects.load, tmp_path / "empty")
    for name in ("dP", "clean", "total", "batch_size"):
        shutil.rmtree(fresh() / name)
        refused("not a whole store of effects", icp.Effects.load, tmp_path / "e")
    for name in ("zarr.json", "dP/zarr.json"):
        whole = (fresh() / name).read_text()
        (tmp_path / "e" / name).write_text(whole[: len(whole) // 2])
        refused(str(tmp_path / "e"), icp.Effects.load, tmp_path / "e")
    chunk = next(p for p in (fresh() / "dP" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    refused([str(tmp_path / "e"), "damaged"], icp.Effects.load, tmp_path / "e")
    chunk = next(p for p in (fresh() / "dP" / "c").rglob("*") if p.is_file())
    chunk.unlink()
    refused(["is unfinished: 4 of 4 units are missing", "rerun the same measurement"], icp.Effects.load, tmp_path / "e")


def test_a_store_of_another_version_shape_or_measurement_is_refused(model, effects, tmp_path):
    path = effects.save(tmp_path / "e") / "zarr.json"
    stored = json.loads(path.read_text())

    def changed(**attributes):
        path.write_text(json.dumps(stored | {"attributes": stored["attributes"] | attributes}))
        return tmp_path / "e"

    refused(["version 3", "reads version 2"], icp.Effects.load, changed(version=3))
    refused("something else wrote it", icp.Effects.load, changed(format="other"))
    header = stored["attributes"]["header"]
    refused(["(4, 2, 4)", "(3, 2, 4)"], icp.Effects.load, changed(header=header | {"units": header["units"][:3]}))
    refused(["(4, 2, 4)", "(4, 2, 2)"], icp.Effects.load, changed(header=header | {"examples": header["examples"][:2]}))
    changed()
    with pytest.raises(icp.ArtefactError) as error:
        icp.measure(model, make_probe(), UNITS, icp.Mask(), store=tmp_path / "e", progress=False)
    for word in ("holds another measurement", "interventions", "mask:zero", "choose another path or delete it"):
        assert word in str(error.value)


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_of_safetensors(tensors, path, *arguments, **options):
    """How safetensors reports it, after it has written a part."""
    Path(path).write_bytes(b"a part")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def full_after_a_part(self, text, *arguments, **options):
    with self.open("w") as file:
        file.write(text[: len(text) // 2])
    full()


def assert_says_full(path, save):
    with pytest.raises(icp.ArtefactError) as error:
        save(path)
    message = str(error.value)
    assert f"the disk that holds {path} is full: free space or write elsewhere" in message
    assert "nothing was left half-written" in message and "\n" not in message


@pytest.mark.parametrize("kind", ["selection", "frontier"])
@pytest.mark.parametrize("fails", [full, full_of_safetensors])
def test_a_full_disk_leaves_the_previous_file(kind, fails, tmp_path, monkeypatch):
    make = KINDS[kind][0]
    path = make().save(tmp_path / "artefact")
    before = path.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", fails)
    assert_says_full(path, make().save)
    assert_says_full(tmp_path / "new", make().save)
    assert [p.name for p in tmp_path.iterdir()] == ["artefact"] and path.read_bytes() == before


@pytest.mark.parametrize("make", [some_evaluation, make_probe])
def test_a_full_disk_leaves_the_previous_text(make, tmp_path, monkeypatch):
    path = make().save(tmp_path / "artefact")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_text", full_after_a_part)
    assert_says_full(path, make().save)
    assert_says_full(tmp_path / "new", make().save)
    assert [p.name for p in tmp_path.iterdir()] == ["artefact"] and path.read_bytes() == before


@pytest.mark.parametrize("fails", [full, full_of_safetensors])
def test_a_full_disk_leaves_the_previous_checkpoint(model, fails, tmp_path, monkeypatch):
    folder = model.save_pretrained(tmp_path / "m")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def saving(self, where, *arguments, **options):
        Path(where, "config.json").write_text("{")
        fails({}, Path(where) / "model.safetensors")

    monkeypatch.setattr(type(model.module), "save_pretrained", saving)
    assert_says_full(folder, model.save_pretrained)
    assert_says_full(tmp_path / "new", model.save_pretrained)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def filling_up(monkeypatch, after):
    """A disk that is full after so many writes of a store's files."""
    from zarr.storage import LocalStore

    writes, by_zarr, by_hand = [], LocalStore.set, Path.write_bytes

    def count(name):
        writes.append(name)
        if len(writes) > after:
            full()

    async def set(self, key, value):
        count(key)
        await by_zarr(self, key, value)

    def write_bytes(self, content):
        count(self.name)
        return by_hand(self, content)

    monkeypatch.setattr(LocalStore, "set", set)
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    return writes


@pytest.mark.parametrize("after", range(9))
def test_a_full_disk_leaves_the_previous_effects(effects, after, tmp_path, monkeypatch):
    path = effects.save(tmp_path / "e")
    assert sum(p.is_file() for p in path.rglob("*")) == 9
    filling_up(monkeypatch, after)
    assert_says_full(path, effects.save)
    monkeypatch.undo()
    filling_up(monkeypatch, after)
    assert_says_full(tmp_path / "new", effects.save)
    assert [p.name for p in tmp_path.iterdir()] == ["e"]
    monkeypatch.undo()
    assert in_full(icp.Effects.load(path)) == in_full(effects)


@pytest.mark.parametrize("after", range(10))
def test_a_full_disk_while_measuring_keeps_what_is_finished_and_resumes(model, after, tmp_path, monkeypatch):
    units = model.units("neuron")  # 144: three chunks of 64
    measure = lambda: icp.measure(model, make_probe(), units, icp.Mask(), store=tmp_path / "s", progress=False)  # noqa: E731
    writes = filling_up(monkeypatch, after)
    with pytest.raises(icp.ArtefactError) as error:
        measure()
    message = str(error.value)
    assert str(tmp_path / "s") in message and "\n" not in message
    assert "is full" in message or ("No space left" in message and "the same call resumes" in message)
    assert len(writes) > after
    assert [p.name for p in tmp_path.iterdir()] in ([], ["s"])
    monkeypatch.undo()
    expected = icp.measure(model, make_probe(), units, icp.Mask(), progress=False)
    same_bits(measure().dP, expected.dP)
    same_bits(icp.Effects.load(tmp_path / "s").dP, expected.dP)


def test_folders_that_hold_something_else_are_not_replaced(model, effects, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for save in (model.save_pretrained, effects.save):
        refused(["holds something else, such as thesis.tex", "choose a new or empty folder"], save, tmp_path)
        refused("cannot write", save, tmp_path / "thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert icp.Effects.load(effects.save(tmp_path / "empty")).dP.shape == effects.dP.shape


def in_bytes(folder):
    """Every file below a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def foreign_folder(kind, path):
    import zarr

    match kind:
        case "group of attributes":
            zarr.open_group(path, mode="w").attrs.update(title="a thesis")
        case "group with arrays":
            group = zarr.open_group(path, mode="w")
            for name in ("clean", "theirs"):
                group.create_array(name, data=np.arange(5.0))
        case "group whose arrays are named as ours":
            group = zarr.open_group(path, mode="w")
            for name in ("dP", "clean", "total"):
                group.create_array(name, data=np.arange(5.0))
        case "array":
            zarr.create_array(path, data=np.arange(5.0))
        case "settings":
            path.mkdir()
            (path / "config.json").write_text('{"port": 80}')
        case "checkpoint with notes":
            BY_NAME["gpt2"].model(torch.float32).save_pretrained(path)
            (path / "notes.md").write_text("how it was trained")
        case "folders":
            (path / "deep" / "deeper").mkdir(parents=True)
            (path / "deep" / "deeper" / "data.bin").write_bytes(bytes(range(256)))
    assert in_bytes(path)
    return path


FOREIGN = ["group of attributes", "group with arrays", "group whose arrays are named as ours", "array", "settings",
           "checkpoint with notes", "folders"]  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("write", ["effects", "store", "checkpoint", "report", "selection", "probe"])
def test_a_foreign_folder_is_refused_and_left_as_it_was(model, effects, write, kind, tmp_path):
    path = foreign_folder(kind, tmp_path / "theirs")
    before = in_bytes(path)
    writer = {
        "effects": effects.save,
        "store": lambda path: icp.measure(model, make_probe(), UNITS, icp.Mask(), store=path, progress=False),
        "checkpoint": model.save_pretrained,
        "report": icp.report("A title").save,
        "selection": some_selection().save,
        "probe": make_probe().save,
    }[write]
    words = {"effects": "holds something else", "checkpoint": "holds something else", "store": "store of effects"}
    refused([str(path), words.get(write, "cannot write")], writer, path)
    assert in_bytes(path) == before and [p.name for p in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
@pytest.mark.parametrize("kind", KINDS)
def test_saving_onto_a_link_writes_the_file_it_points_to(kind, there, tmp_path):
    make, loader = KINDS[kind]
    file, link = tmp_path / "real" / "artefact", tmp_path / "link"
    link.symlink_to("real/artefact")
    if there:
        make_probe().save(file)
    assert make().save(link) == link
    assert link.is_symlink() and not file.is_symlink()
    assert in_full(loader.load(file)) == in_full(loader.load(link)) == in_full(make())
    assert [p.name for p in file.parent.iterdir()] == ["artefact"]


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_saving_onto_a_link_writes_the_folder_it_points_to(model, effects, there, tmp_path):
    for name, artefact in {"effects": effects.save, "checkpoint": model.save_pretrained}.items():
        folder, link = tmp_path / "real" / name, tmp_path / f"link to {name}"
        link.symlink_to(f"real/{name}")
        if there:
            artefact(folder)
        assert artefact(link) == link
        assert link.is_symlink() and not folder.is_symlink()
        assert in_bytes(folder) == in_bytes(artefact(tmp_path / "alone" / name))
    assert sorted(p.name for p in (tmp_path / "real").iterdir()) == ["checkpoint", "effects"]


def test_a_full_disk_leaves_what_a_link_points_to(model, effects, tmp_path, monkeypatch):
    writers = {"effects": effects.save, "checkpoint": model.save_pretrained, "selection": some_selection().save}
    for name, save in writers.items():
        save(tmp_path / "real" / name)
        (tmp_path / name).symlink_to(f"real/{name}")
    before = in_bytes(tmp_path / "real")
    monkeypatch.setattr(type(model.module), "save_pretrained", full)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    for name, save in writers.items():
        refused(f"the disk that holds {tmp_path / 'real' / name} is full", save, tmp_path / name)
        assert (tmp_path / name).is_symlink()
    assert in_bytes(tmp_path / "real") == before


def test_what_is_behind_a_link_to_a_foreign_folder_is_left_as_it_was(model, effects, tmp_path):
    theirs = foreign_folder("folders", tmp_path / "theirs")
    before, link = in_bytes(theirs), tmp_path / "link"
    link.symlink_to(theirs)
    for save in (model.save_pretrained, effects.save):
        refused([str(theirs), "holds something else, such as deep"], save, link)
    assert in_bytes(theirs) == before and link.is_symlink()


def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(icp.ArtefactError, match=r"cannot write .*file/selection"):
        some_selection().save(tmp_path / "file" / "selection")


def test_no_pickle_is_read_or_written_anywhere():
    words = re.compile(
        r"pickle|torch\.load|torch\.save\b|allow_pickle|joblib|dill|marshal|shelve|np\.load\b|(?<![.\w])(eval|exec)\("
    )
    sources = sorted(Path(icp.__file__).parent.rglob("*.py"))
    assert len(sources) > 20
    found = [f"{p.name}: {line.strip()}" for p in sources for line in p.read_text().splitlines() if words.search(line)]
    assert not found
