"""CAPT (Gui and Ji 2025): fine-tune on the structure that is left when the events of a prompt become random symbols."""

from icp.capt.abstracted import Abstracted, abstract, carried
from icp.capt.abstraction import Abstraction, Mention
from icp.capt.cache import Cached
from icp.capt.corruption import Corrupted
from icp.capt.estimator import Estimator, Failure
from icp.capt.inverse import named, names_of, restored
from icp.capt.quality import Quality, agrees, b_cubed, quality, span_f1
from icp.capt.renaming import Fixed, Names, Null, Order, Random, Renaming, copies
from icp.capt.rewritten import read_rewritten
from icp.capt.splits import by_symbols, require_apart, split
from icp.capt.syllogism_rules import ClosedVocabulary, SyllogismRules
from icp.capt.symbols import pool
from icp.capt.training_rows import Redrawn, answer_probe, worked_probe
from icp.capt.validate import Abstractions, Validator, abstract_all
from icp.capt.worlds import Ontology, anti_sense, non_sense, retold, with_more_symbols

__all__ = [
    "Abstracted", "Abstraction", "Abstractions", "Cached", "ClosedVocabulary", "Corrupted", "Estimator", "Failure",
    "Fixed", "Mention", "Names", "Null", "Ontology", "Order", "Quality", "Random", "Redrawn", "Renaming",
    "SyllogismRules", "Validator", "abstract", "abstract_all", "agrees", "answer_probe", "anti_sense", "b_cubed",
    "by_symbols", "carried", "copies", "named", "names_of", "non_sense", "pool", "quality", "read_rewritten",
    "require_apart", "restored", "retold", "span_f1", "split", "with_more_symbols", "worked_probe",
]  # fmt: skip
