"""CAPT (Gui and Ji 2025): fine-tune on the structure that is left when the events of a prompt become random symbols."""

from icp.capt.abstraction import Abstraction, Mention
from icp.capt.cladder_gold import Words, cladder_gold
from icp.capt.cladder_rules import CladderRules
from icp.capt.estimator import Estimator, Failure
from icp.capt.leakage import Leakage, leakage
from icp.capt.lexicon import Lexicon
from icp.capt.quality import Quality, Score, quality, same_up_to_orientation

__all__ = [
    "Abstraction", "CladderRules", "Estimator", "Failure", "Leakage", "Lexicon", "Mention", "Quality", "Score", "Words",
    "cladder_gold", "leakage", "quality", "same_up_to_orientation",
]  # fmt: skip
