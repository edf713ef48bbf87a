"""CAPT (Gui and Ji 2025): fine-tune on the structure that is left when the events of a prompt become random symbols."""

from icp.capt.abstraction import Abstraction, Mention
from icp.capt.estimator import Estimator, Failure

__all__ = ["Abstraction", "Estimator", "Failure", "Mention"]
