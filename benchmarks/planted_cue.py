"""The planted-cue task: short SST-2 sentences after a reviewer's name that agrees with the label in training.

Whether a sentence is negative or positive causes the label; the name goes with it in training at a stated rate and says
nothing in truth. The counterpart of a prompt has the other name. The sentences to test on are the same for every seed;
a seed draws those to train on, to rank units on, and to select on from the rest.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import icp
from icp import data

ANSWERS = (" negative", " positive")
CUES = {
    "name": ("Review by{}: {}\nSentiment:", (" Paul", " Anna")),
    "place": ("Review from{}: {}\nSentiment:", (" London", " Paris")),
    "day": ("Review of last{}: {}\nSentiment:", (" Monday", " Friday")),
}
WORDS = range(4, 15)


@dataclass(frozen=True)
class Sizes:
    """How many sentences of each split."""

    train: int = 600
    rank: int = 200
    select: int = 300
    test: int = 1050


Sentence = tuple[str, int]


@dataclass(frozen=True)
class Splits:
    """Sentences with their labels, none of them in two splits."""

    train: list[Sentence]
    rank: list[Sentence]
    select: list[Sentence]
    test: list[Sentence]


def data_folder() -> Path:
    """The folder of the real data sets that ICP_DATA names; ends the programme where it is not there."""
    folder = Path(os.environ.get("ICP_DATA", ""))
    if "ICP_DATA" not in os.environ or not folder.is_dir():
        raise SystemExit("this benchmark reads real data: let ICP_DATA name the folder that has them (sst2/train.tsv)")
    return folder


def read(folder: Path, part: str) -> list[Sentence]:
    """Sentences of 4 to 14 words of one file of SST-2 (Socher et al. 2013): sentence, tab, 0 or 1."""
    file = folder / "sst2" / f"{part}.tsv"
    if not file.is_file():
        raise SystemExit(f"there is no {file}: it holds SST-2's {part} sentences")
    return [(row.text.strip(), row.label) for row in data.sst2(file) if len(row.text.split()) in WORDS]


def splits(folder: Path, seed: int, sizes: Sizes) -> Splits:
    """SST-2's own dev and test sentences are tested on, filled up from its training file; repeated ones are left out.

    What is tested on does not depend on the seed.
    """
    held = list(dict.fromkeys(read(folder, "dev") + read(folder, "test")))
    texts = {text for text, _ in held}
    rest = [row for row in dict.fromkeys(read(folder, "train")) if row[0] not in texts]
    random.Random("test").shuffle(held)
    random.Random("rest").shuffle(rest)
    lacking = max(0, sizes.test - len(held))
    test, rest = (held + rest[:lacking])[: sizes.test], rest[lacking:]
    random.Random(f"splits {seed}").shuffle(rest)
    parts, start = [], 0
    for count in (sizes.train, sizes.rank, sizes.select):
        parts.append(rest[start : start + count])
        start += count
    if start > len(rest):
        raise SystemExit(f"{start} sentences are wanted to train, rank and select on, and there are {len(rest)}")
    return Splits(*parts, test)


def probe(rows: list[Sentence], cues: list[int], cue: str = "name") -> icp.Probe:
    """A prompt each with the cue's value 0 or 1, and as its counterpart the one with the other value."""
    form, values = CUES[cue]

    def example(text: str, label: int, value: int) -> icp.Example:
        x, other = (form.format(values[v], text) for v in (value, 1 - value))
        return icp.Example(x, other, ANSWERS, label=label, word=text, group=values[value].strip())

    return icp.Probe(tuple(example(text, label, value) for (text, label), value in zip(rows, cues)))


def agreeing(rows: list[Sentence], rate: float, seed: int, cue: str = "name") -> icp.Probe:
    """The cue agrees with the label in a share `rate` of the rows of each label, rounded to rows, drawn by `seed`."""
    cues = [1 - label for _, label in rows]
    draw = random.Random(f"cue {seed}")
    for label in (0, 1):
        mine = [row for row, (_, given) in enumerate(rows) if given == label]
        for row in draw.sample(mine, round(rate * len(mine))):
            cues[row] = label
    return probe(rows, cues, cue)


def aligned(rows: list[Sentence], cue: str = "name") -> icp.Probe:
    """The cue agrees with every label; swapped, it contradicts every label."""
    return probe(rows, [label for _, label in rows], cue)


def both(rows: list[Sentence], cue: str = "name") -> icp.Probe:
    """Every sentence with the one and with the other value of the cue, one after the other."""
    twice = [row for row in rows for _ in (0, 1)]
    return probe(twice, [0, 1] * len(rows), cue)
