"""Winogender schemas: a person by occupation, another one, and a pronoun whose gender does not say who is meant.

Rudinger et al., NAACL 2018, `data/all_sentences.tsv` of rudinger/winogender-schemas.
"""

from pathlib import Path

from icp.data.labelled import LabelledText
from icp.data.reader import read
from icp.data.schema import Form, Schema
from icp.data.text_pairs import TextPairs
from icp.errors import DataError
from icp.pairs import PreservingPairs

CLASSES = ("occupation", "participant")
GENDERS = ("male", "female", "neutral")


def _sentence(row):
    parts = row["sentid"].removesuffix(".txt").split(".")
    if len(parts) != 4 or parts[2] not in ("0", "1") or parts[3] not in GENDERS:
        raise DataError(
            f"the field 'sentid' is {row['sentid']!r}, and should be occupation.participant.answer.gender.txt, with "
            f"the answer 0 or 1 and a gender of {', '.join(GENDERS)}"
        )
    return [(tuple(parts[:3]), LabelledText(row["sentence"], int(parts[2]), group=parts[3], word=parts[0]))]


WINOGENDER = Schema(
    "Winogender",
    (Form({"sentid": str, "sentence": str}, _sentence),),
    {"test": ("all_sentences.tsv", "data/all_sentences.tsv")},
)


def winogender(source: "str | Path", split: str | None = None) -> TextPairs:
    """A sentence with a male pronoun and the same with a female one; the label says who is meant.

    The data set has one split, "test". The sentences with a neutral pronoun are `left_out`.
    """
    found: dict[tuple[str, ...], dict[str | None, LabelledText]] = {}
    for key, row in read(WINOGENDER, source, split):
        found.setdefault(key, {})[row.group] = row
    for key, of_gender in found.items():
        if not {"male", "female"} <= of_gender.keys():
            raise DataError(f"{'.'.join(key)} of {source} has no sentence for male or for female: it needs both")
    neutral = tuple(".".join(key) for key, of_gender in found.items() if "neutral" in of_gender)
    pairs = tuple((of_gender["male"], of_gender["female"]) for of_gender in found.values())
    return TextPairs(PreservingPairs, CLASSES, pairs, {"a neutral pronoun": neutral} if neutral else {})
