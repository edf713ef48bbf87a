"""Counterfactual pairs: declare the cause and the cue, make pairs, prove them, train on them."""

from icp.counterfactual.association import association
from icp.counterfactual.domains import FILM_REVIEWS, JOB_APPLICATIONS, MEDICAL_NOTES, PRODUCT_COMPLAINTS, WORLDS
from icp.counterfactual.editors import Editor
from icp.counterfactual.effects import CueEffects, cue_effects
from icp.counterfactual.equations import Equation, Equations
from icp.counterfactual.finders import Classifier, Column, Finder, Lexicon, Pattern
from icp.counterfactual.made import MadePairs
from icp.counterfactual.make import make_pairs
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec, Variable
from icp.counterfactual.validator import Validator
from icp.counterfactual.worlds import World, WorldEditor

__all__ = [
    "FILM_REVIEWS", "JOB_APPLICATIONS", "MEDICAL_NOTES", "PRODUCT_COMPLAINTS", "WORLDS", "Classifier", "Column",
    "CueEffects", "Edit", "Editor", "Equation", "Equations", "Finder", "Lexicon", "MadePairs", "Pattern", "Rejection",
    "Row", "Spec", "Validator", "Variable", "World", "WorldEditor", "association", "cue_effects", "make_pairs",
]  # fmt: skip
