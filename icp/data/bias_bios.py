"""Bias in Bios: biographies with a profession, and the gender of their subject as the cue.

De-Arteaga et al., FAT* 2019. The authors publish a scraper; what is read is the table that Ravfogel et al. (2020) made
of its output, hub `LabHC/bias_in_bios`.
"""

from pathlib import Path

from icp.data.labelled import Labelled, LabelledText
from icp.data.reader import read
from icp.data.schema import Choice, Form, Schema

PROFESSIONS = (
    "accountant", "architect", "attorney", "chiropractor", "comedian", "composer", "dentist", "dietitian", "dj",
    "filmmaker", "interior_designer", "journalist", "model", "nurse", "painter", "paralegal", "pastor",
    "personal_trainer", "photographer", "physician", "poet", "professor", "psychologist", "rapper",
    "software_engineer", "surgeon", "teacher", "yoga_teacher",
)  # fmt: skip
"""In the order of the hub's numbers."""

BIAS_BIOS = Schema(
    "Bias in Bios",
    (
        Form(
            {
                "hard_text": str,
                "profession": Choice({str(number): number for number in range(len(PROFESSIONS))}),
                "gender": Choice({"0": "male", "1": "female"}),
            },
            lambda row: [LabelledText(row["hard_text"], row["profession"], group=row["gender"])],
        ),
    ),
    {"train": (), "validation": ("dev.csv", "dev.jsonl"), "test": ()},
)


def bias_bios(source: "str | Path", split: str | None = None, config: str | None = None) -> Labelled:
    """Biographies without their first sentence (`hard_text`); 28 professions, `group` is "male" or "female".

    `keep("nurse", "surgeon")` narrows the professions. The hub's splits are train, test and dev.
    """
    return Labelled(PROFESSIONS, tuple(read(BIAS_BIOS, source, split, config)))
