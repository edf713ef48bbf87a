"""CAPT (Gui and Ji 2025): fine-tune on the structure that is left when the events of a prompt become random symbols."""

from icp.capt.abstracted import Abstracted, abstract, carried, untouched
from icp.capt.abstraction import Abstraction, Mention
from icp.capt.answering import ask
from icp.capt.cache import Cached
from icp.capt.cladder_gold import Words, cladder_gold
from icp.capt.cladder_grammar import FRAME
from icp.capt.cladder_retold import cladder_told_otherwise, reworded
from icp.capt.cladder_rules import CladderRules
from icp.capt.corruption import Corrupted
from icp.capt.estimator import Estimator, Failure
from icp.capt.held_out import shortened, told_otherwise
from icp.capt.inverse import named, names_of, restored
from icp.capt.language_models import LATER, Endpoint, LanguageModel
from icp.capt.leakage import Leakage, leakage
from icp.capt.lexicon import Lexicon
from icp.capt.other_events import Event, OtherEvents
from icp.capt.quality import Quality, Score, quality, same_up_to_orientation
from icp.capt.recipe import RULES, Recipe, read_problems
from icp.capt.renaming import Fixed, Names, Null, Order, Random, Renaming, copies
from icp.capt.replies import Replies, accuracies, parsed
from icp.capt.rewritten import read_rewritten
from icp.capt.show import show
from icp.capt.splits import by_symbols, require_apart, split
from icp.capt.stored import load_abstractions, save_abstractions
from icp.capt.syllogism_rules import ClosedVocabulary, SyllogismRules
from icp.capt.symbols import pool
from icp.capt.training import train
from icp.capt.training_rows import Redrawn, answer_probe, worked_probe
from icp.capt.validate import Abstractions, Validator, abstract_all
from icp.capt.variable_rules import VariableRules
from icp.capt.worlds import Ontology, anti_sense, non_sense, retold, with_more_symbols

__all__ = [
    "FRAME", "LATER", "RULES", "Abstracted", "Abstraction", "Abstractions", "Cached", "CladderRules",
    "ClosedVocabulary", "Corrupted", "Endpoint", "Estimator", "Event", "Failure", "Fixed", "LanguageModel",
    "Leakage", "Lexicon", "Mention", "Names", "Null", "Ontology", "Order", "OtherEvents", "Quality", "Random",
    "Recipe", "Redrawn", "Renaming", "Replies", "Score", "SyllogismRules", "Validator", "VariableRules", "Words",
    "abstract", "abstract_all", "accuracies", "answer_probe", "anti_sense", "ask", "by_symbols", "carried",
    "cladder_gold", "cladder_told_otherwise", "copies", "leakage", "load_abstractions", "named", "names_of",
    "non_sense", "parsed", "pool", "quality", "read_problems", "read_rewritten", "require_apart", "restored", "retold",
    "reworded", "same_up_to_orientation", "save_abstractions", "shortened", "show", "split", "told_otherwise", "train",
    "untouched", "with_more_symbols", "worked_probe",
]  # fmt: skip
