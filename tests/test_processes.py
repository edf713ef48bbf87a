"""Two processes train as one does on batches of twice the size, and write one folder."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS

import icp
from icp.step import Objective

ANSWERS = (" she", " he")


@dataclasses.dataclass(frozen=True)
class Sums(Objective):
    """Keeps the sum over steps of the mean number of the rows."""

    def begin(self, model, rows):
        Sums.state = {"sum": torch.zeros(1)}
        return Sums.state

    def penalty(self, step):
        step.state["sum"] += sum(step.index) / len(step.index)
        return step.logits.new_zeros(())


def tuned(folder, batch_size):
    """With all that a step can hold: swaps, a re-ranking of which one is due twice, and units that are kept."""
    rows = [icp.Example(x, other, ANSWERS, label=i % 2) for i, (x, other) in enumerate(EQUAL_PAIRS * 4)]
    model = BY_NAME["llama"].model(torch.float32)
    invariance = icp.Invariance([*model.units("head"), *model.units("neuron")], keep=["hook_embed[3]"],
                                rerank=icp.Rerank(every=2, top=20, rows=4))  # fmt: skip
    arguments = {"per_device_train_batch_size": batch_size, "num_train_epochs": 1, "optim": "sgd",
                 "learning_rate": 0.1, "logging_steps": 1}  # fmt: skip
    return icp.finetune(model, icp.Probe(tuple(rows)), objective=Sums(), invariance=invariance, folder=folder,
                        arguments=arguments, progress=False)  # fmt: skip


def test_two_processes_are_one_on_batches_of_twice_the_size(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
                          "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
    given["PYTHONPATH"] = os.pathsep.join([str(Path(icp.__file__).parents[1]), str(Path(__file__).parent)])
    both = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path / "run"), str(tmp_path / str(rank))],
            env=given | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=900)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], errors
    alone = tuned(tmp_path / "alone", 4)
    first, second = (json.loads((tmp_path / str(rank)).read_text()) for rank in range(2))
    assert first == second
    assert len(first["history"]) == len(alone.tuning.history) == 3
    assert first["sum"] == pytest.approx(Sums.state["sum"].item(), rel=1e-6)
    for found, expected in zip(first["history"], alone.tuning.history):
        for name in ("loss", "task", "penalty"):
            assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "adapter", "asked.json", "checkpoint-3", "history.json"
    ]  # fmt: skip
    stored = json.loads((tmp_path / "run" / "history.json").read_text())
    assert stored["history"] == first["history"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    from icp.weights import weights_digest

    found = tuned(sys.argv[1], 2)
    Path(sys.argv[2]).write_text(
        json.dumps(
            {
                "sum": Sums.state["sum"].item(),
                "weights": weights_digest(found.module),
                "history": list(found.tuning.history),
            }
        )
    )
