"""Was the check right? Abstractions by a language model that their makers' automatic check rejected, read again.

`python benchmarks/capt_reference.py FOLDER` prints the counts; FOLDER holds the two files of rejected items that are
published in CM-BF/cladder. An item's prompt is taken sentence by sentence beside ours of `CladderRules`: its
placeholders must come in the order of our mentions, one for each variable, and say the same polarity. `{symbol_1}=0`
and a denial before the placeholder ("not receiving {symbol_2}") each say that it is not so, and both together
contradict each other. Of PrOntoQA's items every word must be gone that is not one of the frame.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from icp.capt import Abstraction, CladderRules
from icp.capt.cladder_grammar import SENTENCE

PLACE = re.compile(r"\{symbol_(\d+)\}(?:\s?=\s?([01]))?")
DENIED = re.compile(r"\b(?:not|no|low)(?: (?:receiving|have|having))?\s*$")
CARRIER = re.compile(r"\b(?:receiv\w*|pay|paid)\b")
FRAME = frozenset(
    "given facts every each is a an are not answer the question true or false s".split()  # noqa: SIM905
)
EVENT = re.compile(r"\b(?:treatment|recover\w*|hospital|bill|kidney|stones?|male|gender|old|young|age)\b")
BEYOND = ("a name within another word", "a name within a term of causal inference")


def cladder_defects(row: dict) -> set[str]:
    """What is wrong with the abstract prompt of a CLadder item; empty where nothing is."""
    ours = CladderRules().estimate(row["raw_prompt"])
    if not isinstance(ours, Abstraction):
        raise ValueError(ours.told)
    mine, theirs = SENTENCE.findall(ours.text), SENTENCE.findall(row["abstract_raw_prompt"])
    if len(mine) != len(theirs):
        return {"sentences missing"}
    found: set[str] = set()
    of_slot: dict[str, str] = {}
    for right, said in zip(mine, theirs):
        if EVENT.search(said):
            found.add("event left")
        elif CARRIER.search(said):
            found.add("carrier left")
        wanted, given = [*PLACE.finditer(right)], [*PLACE.finditer(said)]
        if len(wanted) != len(given):
            found.add("mention missing")
            continue
        for one, other in zip(wanted, given):
            if of_slot.setdefault(other.group(1), one.group(1)) != one.group(1):
                found.add("wrong variable")
            negative = bool(DENIED.search(right[: one.start()]))
            denied, value = bool(DENIED.search(said[: other.start()])), other.group(2)
            if denied and value == "0":
                found.add("denied twice")
            elif (denied or value == "0") != negative:
                found.add("polarity lost")
    return found


def prontoqa_defects(row: dict) -> set[str]:
    """What is wrong with the abstract prompt of a PrOntoQA item: words of its taxonomy that are left."""
    said = re.findall(r"[a-z]+(?:-[a-z]+)*", PLACE.sub(" ", row["abstract_raw_prompt"]).lower())
    return {"event left"} if set(said) - FRAME else set()


def why_rejected(row: dict) -> str:
    """What the check found, a plain search for the names of the variables in prompt and reasoning."""
    names = [one["name"].lower() for one in row["var2name_map"].values()]
    prompt, reasoning = row["abstract_raw_prompt"].lower(), row["abstract_reasoning"].lower()
    if any(name in prompt for name in names):
        return "a name in the prompt"
    if not any(re.search(rf"\b{re.escape(name)}\b", reasoning) for name in names):
        return BEYOND[0] if any(name in reasoning for name in names) else "no name anywhere"
    plain = reasoning.replace("treatment effect", "")
    return BEYOND[1] if not any(re.search(rf"\b{re.escape(name)}\b", plain) for name in names) else "a name in the text"


def judged(defects: set[str]) -> str:
    """`right`: the prompt has a defect. `words only`: a verb of the event is left and nothing else. `wrong`: none."""
    if defects - {"carrier left"}:
        return "right"
    return "words only" if defects else "wrong"


def counts(folder: Path) -> dict:
    """Of each data set: items, whether rejecting them was right, their defects, and what the check stumbled over."""
    found = {}
    for name, file, defects_of in (
        ("cladder", "cladder-v1-q-commonsense_gpt-4o-mini_2ex_abstract_invalid.json", cladder_defects),
        ("prontoqa", "prontoqa_gpt-4o-mini_abstract_invalid.json", prontoqa_defects),
    ):
        rows = json.loads((folder / file).read_text(encoding="utf-8"))
        defects = [defects_of(row) for row in rows]
        found[name] = {
            "items": len(rows),
            "rejection": dict(Counter(map(judged, defects))),
            "defects": dict(Counter(defect for of_row in defects for defect in of_row)),
            "why": dict(Counter(map(why_rejected, rows))),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(counts(Path(sys.argv[1])), indent=1))
