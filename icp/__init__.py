"""Intervention-based causal pruning: find the units through which a spurious cue reaches an answer, and cut them."""

__version__ = "0.1.0"

from icp.apart import OnPairs
from icp.audit import controlled_spuriousness
from icp.bias import CrowsPairs, StereoSet, crows_pairs, stereoset
from icp.bound import Property
from icp.carriers import Carriers, carriers
from icp.certificate import Certificate
from icp.changed import ChangedAnswers, changed_answers
from icp.chat import Chat
from icp.choose_weight import WeightChoice, choose_weight
from icp.control_variate import ControlledMean, control_variate_mean
from icp.drivers import Drivers, drivers
from icp.effects import Effects
from icp.efficiency import Efficiency, efficiency
from icp.erasure import erasure
from icp.errors import (
    ArtefactError,
    DataError,
    IcpError,
    ModelError,
    NotFiniteError,
    ProbeError,
    PruneError,
    SensitivityWarning,
    UnitError,
)
from icp.evaluate import evaluate
from icp.evaluation import Evaluation
from icp.examples import Example
from icp.faithfulness import OrderFaithfulness, order_faithfulness
from icp.finetune import finetune
from icp.frontier import Frontier
from icp.images import Image
from icp.interventions import Affine, Erase, Intervention, Mask, Scale, Swap
from icp.invariance import Invariance
from icp.loading import load
from icp.losses import Loss, Losses
from icp.mixin import ObjectiveMixin
from icp.model import Model
from icp.nested_sets import frontier
from icp.pairs import FlippingPairs, PreservingPairs
from icp.presets import PRESETS, Preset
from icp.probes import Probe
from icp.properties import (
    ClassProbability,
    ErrorRate,
    LogitDifference,
    LogLikelihood,
    NextTokenLoss,
    PairGap,
    Probability,
    PseudoLogLikelihood,
    Similarity,
    TaskLoss,
)
from icp.prune import prune
from icp.qa import Answers, open_qa
from icp.report import Report, report
from icp.rerank import Rerank
from icp.scores import Scores, damage, indirect_effect, selectivity, spuriousness
from icp.seeds import over_seeds
from icp.selection import Choice, Selection
from icp.step import Objective
from icp.sweep.co_ablation import CoAblation, co_ablation
from icp.sweep.joint import SetEffects, measure_sets
from icp.sweep.linear import Linear
from icp.sweep.measure import measure
from icp.sweep.ray import Ray
from icp.units import Unit
from icp.verify import Check, Verification, verify
from icp.watch import PairWatch

__all__ = [
    "PRESETS",
    "Affine",
    "Answers",
    "ArtefactError",
    "Carriers",
    "Certificate",
    "ChangedAnswers",
    "Chat",
    "Check",
    "Choice",
    "ClassProbability",
    "CoAblation",
    "ControlledMean",
    "CrowsPairs",
    "DataError",
    "Drivers",
    "Effects",
    "Efficiency",
    "Erase",
    "ErrorRate",
    "Evaluation",
    "Example",
    "FlippingPairs",
    "Frontier",
    "IcpError",
    "Image",
    "Intervention",
    "Invariance",
    "Linear",
    "LogLikelihood",
    "LogitDifference",
    "Loss",
    "Losses",
    "Mask",
    "Model",
    "ModelError",
    "NextTokenLoss",
    "NotFiniteError",
    "Objective",
    "ObjectiveMixin",
    "OnPairs",
    "OrderFaithfulness",
    "PairGap",
    "PairWatch",
    "PreservingPairs",
    "Preset",
    "Probability",
    "Probe",
    "ProbeError",
    "Property",
    "PruneError",
    "PseudoLogLikelihood",
    "Ray",
    "Report",
    "Rerank",
    "Scale",
    "Scores",
    "Selection",
    "SensitivityWarning",
    "SetEffects",
    "Similarity",
    "StereoSet",
    "Swap",
    "TaskLoss",
    "Unit",
    "UnitError",
    "Verification",
    "WeightChoice",
    "carriers",
    "changed_answers",
    "choose_weight",
    "co_ablation",
    "control_variate_mean",
    "controlled_spuriousness",
    "crows_pairs",
    "damage",
    "drivers",
    "efficiency",
    "erasure",
    "evaluate",
    "finetune",
    "frontier",
    "indirect_effect",
    "load",
    "measure",
    "measure_sets",
    "open_qa",
    "order_faithfulness",
    "over_seeds",
    "prune",
    "report",
    "selectivity",
    "spuriousness",
    "stereoset",
    "verify",
]  # fmt: skip
