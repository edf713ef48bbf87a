"""CivilComments: comments on news sites, toxic or not, with the identities that they mention as the cue.

Borkan et al., WWW 2019. The table with identities is that of WILDS (Koh et al. 2021), `all_data_with_identities.csv`;
the hub's `google/civil_comments` has none.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from icp.data.labelled import Labelled
from icp.data.reader import read
from icp.data.schema import Form, Maybe, Schema
from icp.errors import DataError

IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
CLASSES = ("not toxic", "toxic")
SPLITS = {"validation": "val"}
"""WILDS' own name of a split, where it is another one."""


@dataclass(frozen=True)
class Comment:
    """A comment, whether at least half of its raters found it toxic, and the identities that half of them saw in it.

    `split` is the column of WILDS, `identities` None where the data has none.
    """

    text: str
    label: int
    toxicity: float
    identities: tuple[str, ...] | None
    split: str | None = None
    group: str | None = None
    word: str | None = None


def _comment(text: str):
    def build(row):
        seen = None
        if IDENTITIES[0] in row:
            seen = tuple(name for name in IDENTITIES if row[name] >= 0.5)
        return [Comment(row[text], int(row["toxicity"] >= 0.5), row["toxicity"], seen, row.get("split"))]

    return build


CIVIL_COMMENTS = Schema(
    "CivilComments",
    (
        Form(
            {"comment_text": str, "toxicity": float, "split": Maybe(str)} | dict.fromkeys(IDENTITIES, float),
            _comment("comment_text"),
        ),
        Form({"text": str, "toxicity": float}, _comment("text")),
    ),
    {"train": (), "validation": (), "test": ()},
)


def civil_comments(
    source: "str | Path", split: str | None = None, config: str | None = None, identity: str | None = None
) -> Labelled:
    """Comments labelled 1 where toxicity is at least 0.5, as WILDS labels them.

    With `identity`, one of the eight of WILDS, the group says whether a comment mentions it: the name, or "no" and the
    name. A file of WILDS holds all splits in a column, and is the one kind of file with which `split` is named.
    """
    if identity is not None and identity not in IDENTITIES:
        raise DataError(f"there is no identity {identity!r}: use one of {', '.join(IDENTITIES)}")
    if not Path(source).is_file():
        rows = read(CIVIL_COMMENTS, source, split, config)
    else:
        rows = read(CIVIL_COMMENTS, source, None, config)
        there = sorted({row.split for row in rows if row.split is not None})
        if split is not None:
            rows = [row for row in rows if row.split == SPLITS.get(split, split)]
            if not rows:
                raise DataError(
                    f"{source} has no rows of the split {split!r}: it has {', '.join(there) or 'no splits'}"
                )
    return Labelled(CLASSES, tuple(_grouped(row, identity, number) for number, row in enumerate(rows)))


def _grouped(row: Comment, identity: str | None, number: int) -> Comment:
    if identity is None:
        return row
    if row.identities is None:
        raise DataError(f"row {number} has no identities, so that {identity!r} is no group: use the table of WILDS")
    return replace(row, group=identity if identity in row.identities else f"no {identity}")
