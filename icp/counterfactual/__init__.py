"""Counterfactual pairs: declare the cause and the cue, make pairs, prove them, train on them."""

from icp.counterfactual import lexicons
from icp.counterfactual.association import association
from icp.counterfactual.checked import check_pairs
from icp.counterfactual.difference import edit_distance, edited_spans
from icp.counterfactual.domains import FILM_REVIEWS, JOB_APPLICATIONS, MEDICAL_NOTES, PRODUCT_COMPLAINTS, WORLDS
from icp.counterfactual.editors import Editor
from icp.counterfactual.effects import CueEffects, cue_effects
from icp.counterfactual.endpoint import Endpoint
from icp.counterfactual.equations import Equation, Equations
from icp.counterfactual.finders import Classifier, Column, Finder, Pattern
from icp.counterfactual.function import Function
from icp.counterfactual.given import Given, given_pairs, pairs_again
from icp.counterfactual.graph import causal_graph
from icp.counterfactual.language_model import LanguageModel
from icp.counterfactual.lexicon import Lexicon
from icp.counterfactual.lines import lines_of
from icp.counterfactual.made import MadePairs
from icp.counterfactual.make import make_pairs
from icp.counterfactual.proposal import Proposal, proposed
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.show import show
from icp.counterfactual.spec import Spec, Variable
from icp.counterfactual.swap import LexiconSwap
from icp.counterfactual.template import Template
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
from icp.counterfactual.written import Shot

__all__ = [
    "FILM_REVIEWS", "JOB_APPLICATIONS", "MEDICAL_NOTES", "PRODUCT_COMPLAINTS", "WORLDS", "Changed", "Classifier",
    "Column", "CueEffects", "CueFlips", "Edit", "EditDistance", "Editor", "Endpoint", "Equation", "Equations",
    "Finder", "FixedWords", "Function", "Given", "LabelAgrees", "LanguageModel", "Lexicon", "LexiconSwap",
    "MadePairs", "Pattern", "PerplexityRatio", "Proposal", "Rejection", "Row", "Shot", "SpansKept", "Spec",
    "Template", "Validator", "Variable", "World", "WorldEditor", "association", "causal_graph", "check_pairs",
    "cue_effects", "edit_distance", "edited_spans", "given_pairs", "label_classifier", "lexicons", "lines_of",
    "make_pairs", "pairs_again", "proposed", "show",
]  # fmt: skip
