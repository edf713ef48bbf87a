"""Throughput, roofline share and memory of exact measuring by layer, for models of well-known shapes.

GPT-2 (124M), Pythia-1.4B and Llama-2-7B with random weights, on the accelerator there is; without one the same
architectures scaled down, on the CPU. Neurons of an early, a middle and a late block, zero mask at all positions, in
float32, in tf32 where the device has it, and in bfloat16. What a call costs whatever its size (the clean pass, the
model's digest) is the least of three times with one unit, and taken off: rates and shares are marginal, and the share
with nothing taken off stands beside them. A row that cannot be measured says why. A finished row is kept in the JSON
file and not repeated.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from operations import FORMULA, MatrixRate, Shape, matrix_rate, synchronise
from random_models import DESIGNS, Design, random_module, random_probe, word_tokenizer
from resident import forget_peak, peak_resident
from rounds import Rounds, machine
from scipy.stats import spearmanr
from tqdm import tqdm

import icp

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
MATRICES = {
    False: [(8192, 8192, 8192), (8192, 4096, 11008), (16384, 2048, 8192)],
    True: [(2048, 256, 1024), (1024, 1024, 1024), (2048, 2048, 2048)],
}
LAYERS = ("early", "middle", "late")
FEWEST = 32
FIXED = 3
SPEARMAN = 0.99


def layers(blocks: int) -> dict[str, int]:
    """The last block and the one before it hardly compute anything, so the late one comes before those."""
    return dict(zip(LAYERS, (1, blocks // 2, blocks - 3)))


def modes(device: torch.device) -> list[str]:
    return ["fp32", "tf32", "bf16"] if device.type == "cuda" else ["fp32", "bf16"]


def one_row(
    model: icp.Model, probe: icp.Probe, tokens: int, layer: int, rate: MatrixRate, target: float, batch: int | None
) -> dict[str, Any]:
    """Exact effects of as many neurons of a block as take about `target` seconds at the matrix rate."""
    shape = Shape.of(model)
    each = len(probe) * shape.operations(layer, tokens)
    everyone = model.units("neuron", layers=[layer])
    order = np.random.default_rng(layer).permutation(len(everyone))
    count = min(len(everyone), max(FEWEST, int(target * rate.operations_per_second / each)))
    forget(model.device)

    def timed(units: list[icp.Unit]) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        found = icp.measure(model, probe, units, icp.Mask("zero"), batch_size=batch, progress=False)
        synchronise(model.device)
        return time.perf_counter() - start, np.abs(found.dP[:, 0].astype(np.float64)).mean(1)

    fixed = min(timed([everyone[order[0]]])[0] for _ in range(FIXED))
    whole, spread = timed([everyone[i] for i in order[:count]])
    found = figures(count, each, fixed, whole, rate.operations_per_second)
    return found | {
        "matrix_rate": rate.record(), "peak_gb": peak(model.device) / 1e9, "mean_absolute_effect": spread.tolist(),
    }  # fmt: skip


def figures(count: int, each: int, fixed: float, whole: float, fastest: float) -> dict[str, Any]:
    """What `count` neurons of `each` operations reach in `whole` seconds, of which one neuron takes `fixed`.

    `roofline_fraction` is marginal, of all but one neuron in the time beyond that of one; `roofline_fraction_whole` is
    that of all in the whole time. Raises `IcpError` where there is no time beyond.
    """
    if whole <= fixed:
        raise icp.IcpError(f"{count} neurons took no longer than one ({whole:.2f} s): pass a larger --seconds")
    seconds, operations = whole - fixed, (count - 1) * each
    return {
        "units": count,
        "seconds": seconds,
        "fixed_seconds": fixed,
        "units_per_second": (count - 1) / seconds,
        "operations": operations,
        "operations_per_second": operations / seconds,
        "roofline_fraction": operations / seconds / fastest,
        "operations_whole": count * each,
        "seconds_whole": whole,
        "roofline_fraction_whole": count * each / whole / fastest,
    }


def measured_or_refused(measure: Callable[..., dict[str, Any]], *given) -> dict[str, Any]:
    """The row, or the first line of why there is none, so that the others are measured all the same."""
    try:
        return measure(*given)
    except icp.IcpError as error:
        return {"refused": str(error).splitlines()[0]}


def forget(device: torch.device) -> None:
    if device.type in ("cuda", "xpu"):
        torch.get_device_module(device).reset_peak_memory_stats()
    else:
        forget_peak()


def peak(device: torch.device) -> int:
    """Bytes: the device's own where it counts them, else the process's."""
    if device.type in ("cuda", "xpu"):
        return torch.get_device_module(device).max_memory_allocated()
    return peak_resident()


def agreement(row: dict, rows: list[dict]) -> float | None:
    """Spearman rank correlation of mean |dP| with the fp32 row of the same layer, over the neurons both measured."""
    same = [r for r in rows if (r["model"], r["layer"], r["mode"]) == (row["model"], row["layer"], "fp32")]
    if row["mode"] == "fp32" or not same or "refused" in row or "refused" in same[0]:
        return None
    theirs = same[0]["mean_absolute_effect"]
    shared = min(len(theirs), len(row["mean_absolute_effect"]))
    return float(spearmanr(theirs[:shared], row["mean_absolute_effect"][:shared]).statistic)


def summary(rows: list[dict]) -> dict[str, Any]:
    """By model and mode: operations over time of all layers, against the matrix rate; bf16 where its ranks hold.

    Rates and shares are marginal, but for the one that is called whole.
    """
    found: dict[str, Any] = {}
    for name, mode in dict.fromkeys((row["model"], row["mode"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["mode"]) == (name, mode) and "refused" not in row]
        if not mine:
            continue
        fastest = max(row["matrix_rate"]["operations_per_second"] for row in mine)
        reached, whole = (
            sum(row["operations" + what] for row in mine) / sum(row["seconds" + what] for row in mine)
            for what in ("", "_whole")
        )
        ranks = [rank for row in mine if (rank := agreement(row, rows)) is not None]
        found.setdefault(name, {})[mode] = {
            "operations_per_second": reached,
            "roofline_fraction": reached / fastest,
            "roofline_fraction_whole": whole / fastest,
            "spearman_with_fp32": min(ranks) if ranks else None,
            "counts": mode != "bf16" or (bool(ranks) and min(ranks) >= SPEARMAN),
            "peak_gb": max(row["peak_gb"] for row in mine),
        }
    return {"models": found}


def table(rows: list[dict], device: str, scaled_down: bool) -> str:
    lines = [
        FORMULA,
        "",
        f"{device}; " + ("shapes scaled down, for want of an accelerator" if scaled_down else "published shapes"),
        "units/s, TFLOP/s and share are marginal, without what any call costs; whole is the share with it",
        f"{'model':<24}{'mode':<6}{'layer':<8}{'units/s':>10}{'TFLOP/s':>9}{'share':>7}{'whole':>7}{'peak GB':>9}"
        f"{'Spearman':>10}",
    ]
    for row in rows:
        head = f"{row['model']:<24}{row['mode']:<6}{row['layer']:<8}"
        if "refused" in row:
            lines.append(f"{head}cannot run: {row['refused']}")
            continue
        rank = agreement(row, rows)
        said = "" if rank is None else f"{rank:.4f}"
        remark = "  does not count" if row["mode"] == "bf16" and (rank is None or rank < SPEARMAN) else ""
        lines.append(
            f"{head}{row['units_per_second']:>10.1f}{row['operations_per_second'] / 1e12:>9.2f}"
            f"{row['roofline_fraction']:>7.2f}{row['roofline_fraction_whole']:>7.2f}{row['peak_gb']:>9.2f}{said:>10}{remark}"
        )
    return "\n".join(lines)


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished rows in it are kept.")],
    quick: Annotated[bool, typer.Option(help="Little work a row.")] = False,
    threads: Annotated[int, typer.Option(help="torch threads.")] = 2,
    seconds: Annotated[float, typer.Option(help="Work a row, in seconds at the matrix rate.")] = 10.0,
    prompts: Annotated[int, typer.Option(help="Prompts.")] = 16,
    tokens: Annotated[int, typer.Option(help="Tokens a prompt.")] = 32,
    batch: Annotated[int | None, typer.Option(help="Rows a forward pass; icp's own plan where not given.")] = None,
):
    torch.set_num_threads(threads)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    scaled_down = device.type == "cpu"
    named = machine(threads) if scaled_down else machine(threads) | {"device": _name(device)}
    seconds = min(seconds, 0.2) if quick else seconds
    about = named | {
        "scaled_down": scaled_down, "work_seconds": seconds, "prompts": prompts, "tokens": tokens, "batch": batch,
        "bf16_counts_from_spearman": SPEARMAN, "formula": FORMULA.splitlines(),
    }  # fmt: skip
    rows = Rounds(json_path, about, summary)
    keys = [
        {"model": design.named(scaled_down), "mode": mode, "layer": layer}
        for design in DESIGNS
        for mode in modes(device)
        for layer in LAYERS
    ]
    with tqdm(total=len(keys), initial=len(keys) - len(rows.missing(keys)), unit="row") as bar:
        for design in DESIGNS:
            todo = rows.missing([key for key in keys if key["model"] == design.named(scaled_down)])
            if todo:
                one_design(design, todo, rows, device, scaled_down, (prompts, tokens), seconds, batch, bar)
    print(table(rows.finished, named["device"], scaled_down))


def one_design(
    design: Design,
    todo: list[dict],
    rows: Rounds,
    device: torch.device,
    scaled_down: bool,
    sizes: tuple[int, int],
    seconds: float,
    batch: int | None,
    bar: tqdm,
) -> None:
    """All the missing rows of one model, whose weights are drawn once; bfloat16 comes last and changes them."""
    probe = random_probe(*sizes)
    module = None
    for mode in [mode for mode in modes(device) if any(key["mode"] == mode for key in todo)]:
        mine = [key for key in todo if key["mode"] == mode]
        torch.set_float32_matmul_precision("high" if mode == "tf32" else "highest")
        try:
            rate = matrix_rate(MATRICES[scaled_down], DTYPES[mode], device)
            module = random_module(design, scaled_down, device) if module is None else module
            model = icp.load(module.to(DTYPES[mode]), word_tokenizer())
            where = layers(len(model.blocks))
            icp.measure(model, probe, model.units("neuron", layers=[1])[:FEWEST], icp.Mask("zero"), progress=False)
            for key in mine:
                given = (model, probe, sizes[1], where[key["layer"]], rate, seconds, batch)
                rows.add(key, measured_or_refused(one_row, *given))
                bar.update()
        except (torch.OutOfMemoryError, icp.IcpError) as error:
            for key in rows.missing(mine):
                rows.add(key, {"refused": str(error).splitlines()[0]})
                bar.update()
        finally:
            torch.set_float32_matmul_precision("highest")


def _name(device: torch.device) -> str:
    return torch.get_device_module(device).get_device_name() if device.type in ("cuda", "xpu") else device.type


if __name__ == "__main__":
    typer.run(main)
