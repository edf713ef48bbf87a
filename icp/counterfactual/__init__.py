"""Counterfactual pairs: declare the cause and the cue, make pairs, prove them, train on them."""

from icp.counterfactual import lexicons
from icp.counterfactual.editors import Editor
from icp.counterfactual.endpoint import Endpoint
from icp.counterfactual.finders import Classifier, Column, Finder, Pattern
from icp.counterfactual.function import Function
from icp.counterfactual.language_model import LanguageModel
from icp.counterfactual.lexicon import Lexicon
from icp.counterfactual.made import MadePairs
from icp.counterfactual.make import make_pairs
from icp.counterfactual.proposal import Proposal, proposed
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec, Variable
from icp.counterfactual.swap import LexiconSwap
from icp.counterfactual.template import Template
from icp.counterfactual.validator import Validator
from icp.counterfactual.written import Shot

__all__ = [
    "Classifier", "Column", "Edit", "Editor", "Endpoint", "Finder", "Function", "LanguageModel", "Lexicon",
    "LexiconSwap", "MadePairs", "Pattern", "Proposal", "Rejection", "Row", "Shot", "Spec", "Template", "Validator",
    "Variable", "lexicons", "make_pairs", "proposed",
]  # fmt: skip
