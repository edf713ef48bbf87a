"""What renaming events while fine-tuning does to accuracy, in distribution and out of it, on PrOntoQA.

Training rows and test problems share no skeleton: of chains of 1 to 3 hops there are eight, and nearly all problems
that are tested on have two, a length that is not trained on. A point is a renaming with so many training rows, copies
of each (`epochs`) and errors of the estimator (`rate`). Training rows differ by seed, test problems do not, and each is
tested as it is (`id`), against sense, in invented words, and at the settings of the first part also paraphrased, asked
in another way, and with more variables (`icp.capt.told_otherwise`). `train` is the accuracy on training rows.

- `setting`: null on the first seed after more and more copies. What to run the others at (`--epochs`, `--hops`,
  `--learning-rate`) is chosen by its `train` alone: enough for plain training to learn its own rows.
- `renamings`: null, random, order, names and fixed. Test prompts get symbols as training rows do, but plain texts where
  these have real names. `fixed` has one symbol an event; events that it has none for get random ones. `exchanged` is
  `id` in symbols drawn at random, which shows what a model owes to symbols that it has memorised.
- `errors`: random, of mentions found with errors at a rate, in training and in test prompts alike.
- `rows`: null and random on fewer and on more rows.
- `steps`: order and random after fewer copies: learning curves, beside the loss that each run logged.
- `reasoning`: null and random, trained to write the worked solution and then the answer, elsewhere the answer alone.
- `corr2cause`: F1 of the answer Yes on causal questions, before training and after it on PrOntoQA.

Means over seeds in percent, with intervals over seeds and over problems by logical form
(`icp.statistics.seeds_interval`), given the shapes that were held out; of one seed there is none. Finished runs are
kept in the JSON file and adapters beside it, so that the same call goes on where it was stopped. `--authors` is the
setting of Gui and Ji, but for their quantisation, and asks for a GPU.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from capt_summary import picture, summary, table
from rounds import Rounds, commit, machine
from tqdm import tqdm

import icp
from icp import capt, data
from icp.capt import Abstracted, Renaming
from icp.data import Problem
from icp.data.syllogisms import read_statements

PARTS = ("setting", "renamings", "errors", "rows", "steps", "reasoning", "corr2cause")
RENAMINGS = ("null", "random", "order", "names", "fixed")
MAIN = ("id", "anti", "nonsense")
ARGUMENTS = {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "lr_scheduler_type": "cosine", "warmup_steps": 5}


@dataclass(frozen=True)
class Size:
    """How much of everything; `hops` are the lengths of chains, of which each problem has one drawn at random."""

    model: str = "smollm2"
    seeds: tuple[int, ...] = (0, 1, 2)
    hops: tuple[int, ...] = (1, 2, 3)
    rows: int = 200
    epochs: int = 8
    tested: int = 200
    held_out: float = 0.4
    pool: int = 26
    rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    other_rows: tuple[int, ...] = (100, 500)
    other_epochs: tuple[int, ...] = (2, 4, 16, 32)
    tried: tuple[int, ...] = (4, 8, 16, 32)
    questions: int = 100
    arguments: Mapping[str, Any] = field(default_factory=lambda: ARGUMENTS)
    lora: Mapping[str, Any] | None = None
    device: str | None = None
    dtype: str = "float32"


QUICK = Size(
    seeds=(0,), hops=(1, 2), rows=40, epochs=2, tested=20, rates=(0.2,), other_rows=(20,), other_epochs=(1,),
    tried=(2,), questions=6,
)  # fmt: skip
AUTHORS = Size(
    "Qwen/Qwen2.5-3B-Instruct", hops=(3, 4, 5), rows=100, epochs=16, tested=400, held_out=0.2, other_rows=(200, 500),
    other_epochs=(2, 4, 8), questions=400,
    arguments=ARGUMENTS | {"learning_rate": 3e-4, "per_device_train_batch_size": 4, "weight_decay": 0.01, "bf16": True},
    lora={
        "r": 64, "lora_alpha": 128, "lora_dropout": 0.1, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "task_type": "CAUSAL_LM",
    },
    device="cuda", dtype="bfloat16",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """The problems of a size, and the models that are trained on them."""

    size: Size
    folder: Path

    @cached_property
    def problems(self) -> tuple[list[Problem], list[Problem]]:
        """To train on and to test on, without a skeleton in common; the same for every seed."""
        whole, draw = data.prontoqa(data_folder() / "prontoqa" / "prontoqa.json"), random.Random(0)
        cut = {}
        for one in whole:
            hops = min(draw.choice(self.size.hops), int(one.query_type.split()[0]))
            short = capt.shortened(one, hops)
            cut.setdefault(short.prompt, short)
        train, test = capt.split(list(cut.values()), test=self.size.held_out)
        return train, draw.sample(test, self.size.tested)

    @cached_property
    def tests(self) -> dict[str, list[Problem]]:
        """The test problems, told in every way that is tested, with more variables than any training prompt has."""
        train, test = self.problems
        most = max(capt.SyllogismRules().estimate(one.prompt).slots for one in (*train, *test))
        ontology = capt.Ontology.of(data.prontoqa(data_folder() / "prontoqa" / "prontoqa.json"))
        found: dict[str, list[Problem]] = {}
        for one in capt.told_otherwise(test, ontology, most + 2):
            found.setdefault(one.split, []).append(one)
        return found

    @cached_property
    def base(self) -> icp.Model:
        size = self.size
        return icp.load(size.model, device=size.device, dtype=getattr(torch, size.dtype))

    def rows(self, point: Mapping[str, Any]) -> list[Abstracted]:
        """The training rows of a point; more rows hold those of fewer."""
        chosen = list(self.problems[0])
        random.Random(point["seed"]).shuffle(chosen)
        return self.found(chosen[: point["rows"]], point)

    def found(self, problems: Sequence[Problem], point: Mapping[str, Any]) -> list[Abstracted]:
        """Abstracted by the estimator of a point; a prompt of which it finds nothing is as it is."""
        if not point["rate"]:
            kept = capt.abstract_all(problems, capt.SyllogismRules())
            if kept.refused:
                raise icp.DataError(f"{len(kept.refused)} prompts are not valid: {kept.refused[0].told}")
            return list(kept.rows)
        estimator = capt.Corrupted(capt.SyllogismRules(), point["rate"], point["seed"])
        found = [capt.abstract(one, estimator) for one in problems]
        return [capt.untouched(p) if isinstance(row, capt.Failure) else row for p, row in zip(problems, found)]

    def renaming(self, name: str, rows: Sequence[Abstracted]) -> Renaming:
        symbols = capt.pool(self.size.pool)
        if name == "fixed":
            known = [*rows, *(row for kind in ("id", "anti") for row in self.found(self.tests[kind], {"rate": 0}))]
            return replace(capt.Fixed.of(known, capt.pool(100)), others=capt.pool(100))
        made = {"null": capt.Null(), "random": capt.Random(symbols), "order": capt.Order(symbols)}
        return (made | {"names": capt.Names()})[name]

    def model(self, point: Mapping[str, Any]) -> icp.Model:
        """Trained, or taken from the folder where it was; the one before training has no epochs."""
        if not point["epochs"]:
            return self.base
        rows = self.rows(point)
        reasoned = point["what"] == "reasoned"
        name = "-".join(str(point[part]) for part in ("renaming", "rows", "epochs", "rate", "seed"))
        name += "-reasoned" * reasoned
        options: dict[str, Any] = {}
        if self.size.lora is not None:
            from peft import LoraConfig

            options["lora"] = LoraConfig(**self.size.lora)
        return capt.train(
            self.base, rows, self.renaming(point["renaming"], rows), epochs=point["epochs"], seed=point["seed"],
            reasoning=reasoned,
            test=[one for kind in MAIN for one in self.tests[kind]], folder=self.folder / name, progress=False,
            arguments={**self.size.arguments, "save_strategy": "no"},
            validator=None if point["rate"] else capt.Validator(), **options,
        )  # fmt: skip

    def asked(self, model: icp.Model, point: Mapping[str, Any]) -> dict[str, Any]:
        """For each kind of test which problems are answered rightly, and the number of each problem's form."""
        rows = self.rows(point)
        trained, reasoned = self.renaming(point["renaming"], rows), point["what"] == "reasoned"
        usual = self.usual(point) and not reasoned
        plain = isinstance(trained, capt.Null | capt.Names)
        found = {}

        def ask(kind: str, of: Sequence[Abstracted], renaming: Renaming) -> None:
            given = capt.Null() if plain else renaming
            right = capt.ask(model, of, given, reasoning=reasoned, seed=1000, progress=False).right
            codes: dict[tuple[object, ...], int] = {}
            forms = [codes.setdefault(form(row.problem), len(codes)) for row in of]
            found[kind] = {"right": "".join(f"{one:.0f}" for one in right), "forms": forms}

        ask("train", rows[: self.size.tested], trained)
        drawn = capt.Random(capt.pool(100 if point["renaming"] == "fixed" else self.size.pool))
        for kind, problems in self.tests.items():
            if kind in MAIN or usual:
                ask(kind, self.found(problems, point), trained)
        if usual and not plain:
            ask("exchanged", self.found(self.tests["id"], point), drawn)
        return found

    def usual(self, point: Mapping[str, Any]) -> bool:
        """Whether it is a point of the first part."""
        return (point["rows"], point["epochs"], point["rate"]) == (self.size.rows, self.size.epochs, 0.0)

    def causal(self, model: icp.Model) -> dict[str, Any]:
        """What is said to causal questions; their variables are letters already."""
        problems = data.corr2cause(data_folder() / "corr2cause", "test")
        problems = random.Random(0).sample(problems, self.size.questions)
        said = capt.ask(model, [capt.untouched(one) for one in problems], capt.Null(), progress=False).said
        premises = sorted({one.skeleton for one in problems})
        return {
            "said": said,
            "answers": [one.answer for one in problems],
            "forms": [premises.index(one.skeleton) for one in problems],
        }


def form(problem: Problem) -> tuple[object, ...]:
    """What is left of a problem without words, phrasing and order: its skeleton, and how much is said to hold."""
    *facts, asked = read_statements(problem.prompt)[0]
    return problem.skeleton, problem.answer, asked.holds, sum(one.holds for one in facts)


def data_folder() -> Path:
    folder = os.environ.get("ICP_DATA")
    if folder is None or not (Path(folder) / "prontoqa").is_dir():
        raise SystemExit("set ICP_DATA to the folder that holds prontoqa/prontoqa.json and corr2cause/corr2cause.csv")
    return Path(folder)


def jobs(size: Size, parts: Sequence[str]) -> list[dict[str, Any]]:
    """What there is to do, each with the part that it was first wanted for; a point of several parts is run once."""
    usual = {"rows": size.rows, "epochs": size.epochs, "rate": 0.0}
    points = {
        "setting": [{"renaming": "null", **usual, "epochs": epochs} for epochs in size.tried],
        "renamings": [
            {"renaming": "null", **usual, "epochs": 0},
            *({"renaming": name, **usual} for name in RENAMINGS),
        ],
        "errors": [{"renaming": "random", **usual, "rate": rate} for rate in (0.0, *size.rates)],
        "rows": [{"renaming": n, **usual, "rows": r} for r in (size.rows, *size.other_rows) for n in RENAMINGS[:2]],
        "steps": [
            {"renaming": n, **usual, "epochs": e} for e in (*size.other_epochs, size.epochs) for n in RENAMINGS[1:3]
        ],
    }
    found: list[dict[str, Any]] = []
    for part in parts:
        if part == "corr2cause":
            causal = [{"renaming": "null", **usual, "epochs": 0}, *({"renaming": n, **usual} for n in RENAMINGS[:2])]
            wanted = [{"what": "corr2cause", **point} for point in causal]
        elif part == "reasoning":
            wanted = [{"what": "reasoned", "renaming": name, **usual} for name in RENAMINGS[:2]]
        else:
            wanted = [{"what": "prontoqa", **point} for point in points[part]]
        for seed in size.seeds[:1] if part == "setting" else size.seeds:
            for point in wanted:
                job = {**point, "seed": seed if point["epochs"] else size.seeds[0]}
                if job not in found:
                    found.append(job)
    return found


def run(job: Mapping[str, Any], size: Size, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(1)
    study, start = Study(size, folder), time.process_time()
    model = study.model(job)
    trained = time.process_time()
    found = {"causal": study.causal(model)} if job["what"] == "corr2cause" else {"splits": study.asked(model, job)}
    history = [] if model.tuning is None else [[each["step"], each["task"]] for each in model.tuning.history]
    seconds = {"training": trained - start, "testing": time.process_time() - trained}
    return found | {"history": history, "seconds_of_processor": seconds, "commit": commit()}


def main(
    json_path: Annotated[Path, typer.Option("--json", help="Where the numbers go; finished runs in it are kept.")],
    quick: Annotated[bool, typer.Option(help="One seed and little of everything: too small to say anything.")] = False,
    authors: Annotated[bool, typer.Option(help="Qwen2.5-3B, whole chains, on a GPU; one worker.")] = False,
    workers: Annotated[int, typer.Option(help="Runs made at once, one thread each.")] = 2,
    only: Annotated[list[str], typer.Option(help=f"A part, of {', '.join(PARTS)}; all where none is named.")] = [],  # noqa: B006
    hops: Annotated[list[int], typer.Option(help="Another length of chains; may be given again.")] = [],  # noqa: B006
    epochs: Annotated[int, typer.Option(help="Another number of copies of each row.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Another learning rate.")] = 0.0,
):
    if unknown := set(only) - set(PARTS):
        raise typer.BadParameter(f"there is no part {unknown.pop()!r}: there are {', '.join(PARTS)}")
    if quick and authors:
        raise typer.BadParameter("--quick and --authors are two sizes: choose one")
    size = QUICK if quick else AUTHORS if authors else Size()
    arguments = {**size.arguments, "learning_rate": learning_rate or size.arguments["learning_rate"]}
    size = replace(size, hops=tuple(hops) or size.hops, epochs=epochs or size.epochs, arguments=arguments)
    about = {name: value for name, value in machine(1).items() if name != "commit"} | {"size": asdict(size)}
    digest = hashlib.sha256(json.dumps(asdict(size), sort_keys=True).encode()).hexdigest()[:8]
    folder = json_path.with_name(json_path.stem + "-runs") / digest  # another size has models of its own
    rounds = Rounds(json_path, about, summary)
    waiting = rounds.missing(jobs(size, [part for part in PARTS if part in (only or PARTS)]))
    failed = []
    for some in (
        [job for job in waiting if job["what"] != "corr2cause"],
        [job for job in waiting if job["what"] == "corr2cause"],  # of models that the others trained
    ):
        with ProcessPoolExecutor(1 if authors else workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(run, job, size, folder): job for job in some}
            for done in tqdm(as_completed(running), total=len(running), unit="run"):
                if done.exception() is None:
                    rounds.add(running[done], done.result(), summarised=False)
                else:
                    failed.append((running[done], done.exception()))
    rounds.write()
    if failed:
        told = "; ".join(f"{job}: {error}" for job, error in failed)
        raise SystemExit(f"{len(failed)} runs failed, the others are kept: {told}") from failed[0][1]
    found = rounds.summary()
    picture(found).write_html(json_path.with_suffix(".html"), include_plotlyjs=True)
    print(table(found))


if __name__ == "__main__":
    typer.run(main)
