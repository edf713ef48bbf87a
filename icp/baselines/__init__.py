"""What the invariance is compared with: published ways to lean less on a cue, each on the same loop."""

from icp.baselines.adversarial import Adversarial
from icp.baselines.balance import GroupDRO, InversePropensity
from icp.baselines.mmd import MMD
from icp.baselines.paired import Consistency, CounterfactualAugmentation, LogitPairing

__all__ = [
    "MMD", "Adversarial", "Consistency", "CounterfactualAugmentation", "GroupDRO", "InversePropensity", "LogitPairing",
]  # fmt: skip
