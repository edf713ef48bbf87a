"""The folder of a fine-tune: what it was asked for, its checkpoints, and in the end its adapters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icp.adapters import Tuning, put_on
from icp.errors import ArtefactError
from icp.files import read_json, write_json
from icp.model import Model
from icp.rows import Rows
from icp.step import Objective

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

FORMAT, VERSION = "icp-finetune", 1
ASKED, DONE = "asked.json", "history.json"


@dataclass(frozen=True)
class Run:
    """A folder, and what is asked of it; raises `ArtefactError` where it was begun for something else."""

    folder: Path
    asked: dict[str, Any]

    def __post_init__(self):
        file = self.folder / ASKED
        asked = json.loads(json.dumps(self.asked))
        if not file.exists():
            write_json(file, FORMAT, VERSION, {"asked": asked})
            return
        before = read_json(file, FORMAT, VERSION).get("asked", {})
        for name in asked:
            if before.get(name) != asked[name]:
                raise ArtefactError(
                    f"{self.folder} was begun with {name} {before.get(name)}, this call has {asked[name]}: give "
                    "another folder, or make the same call"
                )

    def finished(self, adapters: "PeftModel") -> tuple[dict[str, int | float], ...] | None:
        """What was logged, the trained weights put on; None where the run has not come to its end."""
        if not (self.folder / DONE).exists():
            return None
        from safetensors.torch import load_file

        put_on(adapters, load_file(self.folder / "adapter" / "adapter_model.safetensors"))
        return tuple(read_json(self.folder / DONE, FORMAT, VERSION)["history"])

    def finish(self, tuning: Tuning) -> None:
        tuning.write(self.folder / "adapter", tuning.config.base_model_name_or_path)
        write_json(self.folder / DONE, FORMAT, VERSION, {"history": list(tuning.history)})


def provenance(
    model: Model,
    rows: Rows,
    objectives: Sequence[Objective],
    lora: "LoraConfig",
    arguments: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """All that the numbers of a run depend on."""
    config = {name: sorted(v) if isinstance(v, set) else v for name, v in lora.to_dict().items()}
    captions = {} if model.captions is None else {"captions": model.captions}
    return captions | {
        "model": model.binding,
        "rows": rows.digest,
        "objectives": [objective.label for objective in objectives],
        "lora": {name: value for name, value in config.items() if _plain(value)},
        "arguments": {name: value if _plain(value) else repr(value) for name, value in arguments.items()},
        "seed": seed,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")},
    }


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)
