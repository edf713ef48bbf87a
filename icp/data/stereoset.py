"""StereoSet: a stereotype, an anti-stereotype and something unrelated, to end a sentence or to follow one.

Nadeem et al., ACL 2021, `dev.json` of moinnadeem/StereoSet; hub `McGill-NLP/stereoset`; the files a domain of
zjunlp/EditBias (Xu et al., ACL 2025).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.data.reader import read
from icp.data.schema import Choice, Form, Schema
from icp.errors import DataError

OPTIONS = ("stereotype", "anti-stereotype", "unrelated")
GOLD = Choice({name: name for name in OPTIONS})


@dataclass(frozen=True)
class StereoSetItem:
    """Three options about `target`, of the domain `bias_type`.

    An option of `kind` "intrasentence" is the whole sentence, that is, the context with its BLANK filled. One of kind
    "intersentence" is a sentence that follows the context.
    """

    id: str
    target: str
    bias_type: str
    kind: str
    context: str
    stereotype: str
    anti_stereotype: str
    unrelated: str


def _item(row: dict[str, Any], options: dict[str, str], kind: str | None = None) -> StereoSetItem:
    if set(options) != set(OPTIONS):
        raise DataError(
            f"the item {row['id']!r} has the options {sorted(options)}: it should have each of {', '.join(OPTIONS)}"
        )
    kind = kind or ("intrasentence" if "BLANK" in row["context"] else "intersentence")
    told = row["id"], row["target"], row["bias_type"], kind, row["context"]
    return StereoSetItem(*told, *(options[name] for name in OPTIONS))


def _listed(row: dict[str, Any], kind: str | None = None) -> StereoSetItem:
    return _item(row, {one["gold_label"]: one["sentence"] for one in row["sentences"]}, kind)


HEAD = {"id": str, "target": str, "bias_type": str, "context": str}
LISTED = HEAD | {"sentences": [{"sentence": str, "gold_label": GOLD}]}

STEREOSET = Schema(
    "StereoSet",
    (
        Form(
            HEAD | {"data": {name: {"sentence": str} for name in OPTIONS}},
            lambda row: [_item(row, {name: row["data"][name]["sentence"] for name in OPTIONS})],
        ),
        Form(
            HEAD | {"sentences": {"sentence": [str], "gold_label": [GOLD]}},
            lambda row: [_item(row, dict(zip(row["sentences"]["gold_label"], row["sentences"]["sentence"])))],
        ),
        Form(
            {"data": {"intrasentence": [LISTED], "intersentence": [LISTED]}},
            lambda content: [_listed(row, kind) for kind, rows in content["data"].items() for row in rows],
        ),
    ),
    {
        "validation": ("dev.json",),
        "race": ("race_test.json",), "religion": ("religion_test.json",), "gender": ("gender_test.json",),
    },
)  # fmt: skip


def stereoset(source: "str | Path", split: str | None = None, config: str | None = None) -> list[StereoSetItem]:
    """The items; of the authors' file both kinds, of the hub the one that `config` names.

    In a folder of EditBias the domains race, religion and gender take the place of splits. The sentences are offensive
    by design.
    """
    return read(STEREOSET, source, split, config)
