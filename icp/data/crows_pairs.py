"""CrowS-Pairs: two sentences that differ in the group they speak of, one more stereotyping than the other.

Nangia et al., EMNLP 2020, `crows_pairs_anonymized.csv` of nyu-mll/crows-pairs; hub `nyu-mll/crows_pairs`.
"""

from dataclasses import dataclass
from pathlib import Path

from icp.data.reader import read
from icp.data.schema import Choice, Form, Maybe, Schema


@dataclass(frozen=True)
class CrowsPair:
    """`more` is the sentence that stereotypes more, whichever the `direction` in which it was written.

    `writer` is the number of the crowd worker who wrote the pair, where the data says so.
    """

    more: str
    less: str
    bias_type: str
    direction: str
    writer: str | None = None


CROWS_PAIRS = Schema(
    "CrowS-Pairs",
    (
        Form(
            {
                "sent_more": str,
                "sent_less": str,
                "stereo_antistereo": Choice({"stereo": "stereo", "antistereo": "antistereo"}),
                "bias_type": str,
                "anon_writer": Maybe(str),
            },
            lambda row: [
                CrowsPair(
                    row["sent_more"], row["sent_less"], row["bias_type"], row["stereo_antistereo"], row["anon_writer"]
                )
            ],
        ),
    ),
    {"test": ("crows_pairs_anonymized.csv",)},
)


def crows_pairs(source: "str | Path", split: str | None = None, config: str | None = None) -> list[CrowsPair]:
    """The pairs. The sentences are offensive by design; the data set has one split, `"test"`."""
    return read(CROWS_PAIRS, source, split, config)
