"""What the invariance is compared with: published ways to lean less on a cue, each on the same loop."""

from icp.baselines.adversarial import Adversarial
from icp.baselines.balance import GroupDRO, InversePropensity
from icp.baselines.flipping import FlippedCrossEntropy, FlippedMargin, SwappedConsistency
from icp.baselines.influence import influences, without_harmful
from icp.baselines.last_layer import last_layer_retraining
from icp.baselines.mmd import MMD
from icp.baselines.paired import Consistency, CounterfactualAugmentation, LogitPairing
from icp.baselines.twice import Weighted, just_train_twice

__all__ = [
    "MMD", "Adversarial", "Consistency", "CounterfactualAugmentation", "FlippedCrossEntropy", "FlippedMargin",
    "GroupDRO", "InversePropensity", "LogitPairing", "SwappedConsistency", "Weighted", "influences",
    "just_train_twice", "last_layer_retraining", "without_harmful",
]  # fmt: skip
