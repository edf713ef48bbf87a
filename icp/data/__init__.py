"""Loaders, one a benchmark's published schema: a local file or folder, or a data set of the Hugging Face hub."""

from icp.data.bias_bios import bias_bios
from icp.data.cad_imdb import cad_imdb
from icp.data.civil_comments import Comment, civil_comments
from icp.data.cladder import CausalQuestion, cladder, cladder_models
from icp.data.corr2cause import corr2cause
from icp.data.counterfact import Fact, Facts, counterfact
from icp.data.crows_pairs import CrowsPair, crows_pairs
from icp.data.fever import Claim, fever, fever_symmetric
from icp.data.imdb import imdb
from icp.data.imdb_contrast import imdb_contrast
from icp.data.labelled import Labelled, LabelledText
from icp.data.nq_open import nq_open
from icp.data.problems import Problem
from icp.data.prontoqa import prontoqa
from icp.data.questions import Question
from icp.data.shapes import coloured_shapes
from icp.data.squad import squad
from icp.data.sst2 import sst2
from icp.data.stereoset import StereoSetItem, stereoset
from icp.data.text_pairs import TextPairs
from icp.data.triviaqa import triviaqa
from icp.data.waterbirds import pictures, waterbirds
from icp.data.wiki_toxicity_fuzzed import wiki_toxicity_fuzzed
from icp.data.winobias import Coreference, winobias
from icp.data.winogender import winogender

__all__ = [
    "CausalQuestion", "Claim", "Comment", "Coreference", "CrowsPair", "Fact", "Facts", "Labelled", "LabelledText",
    "Problem", "Question", "StereoSetItem", "TextPairs", "bias_bios", "cad_imdb", "civil_comments",
    "cladder", "cladder_models", "coloured_shapes", "corr2cause", "counterfact", "crows_pairs", "fever",
    "fever_symmetric", "imdb", "imdb_contrast", "nq_open", "pictures", "prontoqa", "squad", "sst2", "stereoset",
    "triviaqa", "waterbirds", "wiki_toxicity_fuzzed", "winobias", "winogender",
]  # fmt: skip
