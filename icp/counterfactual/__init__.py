"""Counterfactual pairs: declare the cause and the cue, make pairs, prove them, train on them."""

from icp.counterfactual import lexicons
from icp.counterfactual.editors import Editor
from icp.counterfactual.finders import Classifier, Column, Finder, Pattern
from icp.counterfactual.lexicon import Lexicon
from icp.counterfactual.made import MadePairs
from icp.counterfactual.make import make_pairs
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec, Variable
from icp.counterfactual.swap import LexiconSwap
from icp.counterfactual.validator import Validator

__all__ = [
    "Classifier", "Column", "Edit", "Editor", "Finder", "Lexicon", "LexiconSwap", "MadePairs", "Pattern", "Rejection",
    "Row", "Spec", "Validator", "Variable", "lexicons", "make_pairs",
]  # fmt: skip
