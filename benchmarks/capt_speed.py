"""Seconds of abstracting and validating prompts by rules, in this process alone, on one thread; prints them as JSON.

So many prompts of CLadder and as many of PrOntoQA, the real ones from the first on and, where they are fewer, again
from the first; with their reasoning, whose mentions are found too. `seconds` are those of the clock, which whatever
else runs makes longer; `seconds_of_processor` are those that were worked. What the rules remember of words starts
empty.
"""

import json
import sys
import time
from itertools import cycle, islice
from typing import Annotated

import capt_estimators
import typer

from icp import capt


def main(prompts: Annotated[int, typer.Argument(help="How many of each kind.")]):
    folder, found = capt_estimators.data_folder(), {}
    readers = {"cladder": capt_estimators.cladder_rows, "prontoqa": capt_estimators.prontoqa_rows}
    for name, read in readers.items():
        rows = read(folder / name)
        problems = [row.problem for row in islice(cycle(rows), prompts)]
        start, spent = time.perf_counter(), time.process_time()
        made = capt.abstract_all(problems, capt_estimators.RULES[name], capt_estimators.VALIDATOR)
        found[name] = {
            "prompts": len(problems), "distinct": min(len(rows), prompts), "valid": len(made.rows),
            "seconds": time.perf_counter() - start, "seconds_of_processor": time.process_time() - spent,
        }  # fmt: skip
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    typer.run(main)
