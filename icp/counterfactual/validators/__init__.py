"""Checks of a proposed pair, each a record to put into `make_pairs(..., validators=[...])`."""

from icp.counterfactual.validators.classified import CueFlips, LabelAgrees, label_classifier
from icp.counterfactual.validators.fluency import PerplexityRatio
from icp.counterfactual.validators.worded import Changed, EditDistance, FixedWords, SpansKept

__all__ = [
    "Changed", "CueFlips", "EditDistance", "FixedWords", "LabelAgrees", "PerplexityRatio", "SpansKept",
    "label_classifier",
]  # fmt: skip
