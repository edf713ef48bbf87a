"""Loaders, one a benchmark's published schema: a local file or folder, or a data set of the Hugging Face hub."""

from icp.data.bias_bios import bias_bios
from icp.data.cad_imdb import ReviewPairs, cad_imdb
from icp.data.civil_comments import Comment, civil_comments
from icp.data.cladder import CausalQuestion, cladder, cladder_models
from icp.data.counterfact import Fact, Facts, counterfact
from icp.data.crows_pairs import CrowsPair, crows_pairs
from icp.data.fever import Claim, fever, fever_symmetric
from icp.data.imdb import imdb
from icp.data.labelled import Labelled, LabelledText
from icp.data.nq_open import nq_open
from icp.data.questions import Question
from icp.data.squad import squad
from icp.data.sst2 import sst2
from icp.data.stereoset import StereoSetItem, stereoset
from icp.data.triviaqa import triviaqa

__all__ = [
    "CausalQuestion", "Claim", "Comment", "CrowsPair", "Fact", "Facts", "Labelled", "LabelledText", "Question",
    "ReviewPairs", "StereoSetItem", "bias_bios", "cad_imdb", "civil_comments", "cladder", "cladder_models",
    "counterfact", "crows_pairs", "fever", "fever_symmetric", "imdb", "nq_open", "squad", "sst2", "stereoset",
    "triviaqa",
]  # fmt: skip
