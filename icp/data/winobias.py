"""WinoBias: two people by their occupations, and a pronoun whose gender goes with a stereotype or against it.

Zhao et al., NAACL 2018, `WinoBias/wino/data` of uclanlp/corefBias.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from icp.data.text_pairs import TextPairs
from icp.errors import DataError
from icp.pairs import PreservingPairs

CLASSES = ("first", "second")
GENDERS = {"he": "male", "him": "male", "his": "male", "himself": "male"}
GENDERS |= {"she": "female", "her": "female", "hers": "female", "herself": "female"}
SPLITS = {"validation": "dev", "test": "test"}
OCCUPATIONS = (
    "accountant", "analyst", "assistant", "attendant", "auditor", "baker", "carpenter", "cashier", "CEO", "chief",
    "cleaner", "clerk", "construction worker", "cook", "counselor", "designer", "developer", "driver", "editor",
    "farmer", "guard", "hairdresser", "housekeeper", "janitor", "laborer", "lawyer", "librarian", "manager", "mechanic",
    "mover", "nurse", "physician", "receptionist", "salesperson", "secretary", "sheriff", "supervisor", "tailor",
    "teacher", "writer",
)  # fmt: skip
NAMED = re.compile(rf"\b(?:{'|'.join(OCCUPATIONS)})\b", re.IGNORECASE)
BRACKETS = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Coreference:
    """A sentence without its brackets, in which `pronoun`, of the gender `group`, means `word` and not `other`.

    `label` says whether `word` is the first or the second of the two people that the text names.
    """

    text: str
    label: int
    group: str
    word: str
    other: str
    pronoun: str


def winobias(source: "str | Path", split: str, type: int) -> TextPairs:
    """A sentence that goes with the stereotype, and the one against it, in which the same person is meant.

    `source` is the authors' folder, `split` "validation" or "test". In `type` 1 only what is known of the world says
    who is meant, in 2 the syntax does. Where two sentences differ in more than pronouns they are `left_out`, by number.
    """
    if split not in SPLITS or type not in (1, 2):
        raise DataError(f"WinoBias has the splits {', '.join(SPLITS)} and the types 1 and 2, not {split!r} and {type}")
    files = [Path(source) / f"{side}_stereotyped_type{type}.txt.{SPLITS[split]}" for side in ("pro", "anti")]
    pro, anti = (_lines(file) for file in files)
    if pro.keys() != anti.keys():
        alone = min(pro.keys() ^ anti.keys(), key=int)
        raise DataError(f"sentence {alone} is in one of {files[0]} and {files[1]} only: they go in pairs")
    pairs = {key: (pro[key], anti[key]) for key in pro}
    alike = {key: pair for key, pair in pairs.items() if _differ_in_pronouns(*pair)}
    other = tuple(key for key in pairs if key not in alike)
    left_out = {"more than pronouns differ": other} if other else {}
    return TextPairs(PreservingPairs, CLASSES, tuple(alike.values()), left_out)


def _lines(file: Path) -> dict[str, Coreference]:
    if not file.is_file():
        raise DataError(f"there is no {file}: give the folder that holds {file.name}, as the authors publish it")
    found: dict[str, Coreference] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        key, _, sentence = line.partition(" ")
        marked = [part.strip() for part in BRACKETS.findall(sentence)]
        pronouns = [part for part in marked if part.lower() in GENDERS]
        meant = [named.group() for part in marked if (named := NAMED.search(part))]
        text = " ".join(re.sub(r"[\[\]]", "", sentence).split())
        people = list(dict.fromkeys(named.group().lower() for named in NAMED.finditer(text)))
        if not key.isdigit() or key in found or not pronouns or len(meant) != 1 or len(people) < 2:
            raise DataError(
                f"{file}, line {number} is {line!r}: it should have a number of its own, two occupations, and in "
                "brackets one of them and a pronoun that means it"
            )
        word = meant[0].lower()
        other = next(one for one in people if one != word)
        label = int(people.index(word) > people.index(other))
        found[key] = Coreference(text, label, GENDERS[pronouns[0].lower()], word, other, pronouns[0])
    return found


def _differ_in_pronouns(one: Coreference, other: Coreference) -> bool:
    """Whether the sentences are the same but for pronouns, each of the other gender, and mean the same person."""
    words, others = (re.findall(r"\w+|[^\w\s]", row.text) for row in (one, other))
    differing = [(a.lower(), b.lower()) for a, b in zip(words, others) if a != b]
    genders = {(GENDERS.get(a), GENDERS.get(b)) for a, b in differing}
    return len(words) == len(others) and one.word == other.word and genders == {(one.group, other.group)}
