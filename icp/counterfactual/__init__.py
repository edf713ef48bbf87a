"""Counterfactual pairs: declare the cause and the cue, make pairs, prove them, train on them."""

from icp.counterfactual import lexicons
from icp.counterfactual.association import association
from icp.counterfactual.difference import edit_distance, edited_spans
from icp.counterfactual.domains import FILM_REVIEWS, JOB_APPLICATIONS, MEDICAL_NOTES, PRODUCT_COMPLAINTS, WORLDS
from icp.counterfactual.editors import Editor
from icp.counterfactual.effects import CueEffects, cue_effects
from icp.counterfactual.equations import Equation, Equations
from icp.counterfactual.finders import Classifier, Column, Finder, Pattern
from icp.counterfactual.given import Given, given_pairs
from icp.counterfactual.lexicon import Lexicon
from icp.counterfactual.made import MadePairs
from icp.counterfactual.make import make_pairs
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.show import show
from icp.counterfactual.spec import Spec, Variable
from icp.counterfactual.swap import LexiconSwap
from icp.counterfactual.validator import Validator
from icp.counterfactual.validators import (
    Changed,
    CueFlips,
    EditDistance,
    FixedWords,
    LabelAgrees,
    PerplexityRatio,
    SpansKept,
    label_classifier,
)
from icp.counterfactual.worlds import World, WorldEditor

__all__ = [
    "FILM_REVIEWS", "JOB_APPLICATIONS", "MEDICAL_NOTES", "PRODUCT_COMPLAINTS", "WORLDS", "Changed", "Classifier",
    "Column", "CueEffects", "CueFlips", "Edit", "EditDistance", "Editor", "Equation", "Equations", "Finder",
    "FixedWords", "Given", "LabelAgrees", "Lexicon", "LexiconSwap", "MadePairs", "Pattern", "PerplexityRatio",
    "Rejection", "Row", "SpansKept", "Spec", "Validator", "Variable", "World", "WorldEditor", "association",
    "cue_effects", "edit_distance", "edited_spans", "given_pairs", "label_classifier", "lexicons", "make_pairs",
    "show",
]  # fmt: skip
