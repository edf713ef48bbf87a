"""What is run of a probe: its texts, both sides of its pairs, or each text as often as it has tokens to mask."""

from collections.abc import Iterable
from typing import Any

from icp.alignment import Alignment
from icp.bound import Property
from icp.errors import ProbeError
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.properties import PairGap, PseudoLogLikelihood
from icp.tokenizing import Masked


def rows_of(model: Model, probe: Probe, property: Property) -> Tokens:
    """A probe as the rows of tokens that are run; for a pair gap those of its two halves, x and x'.

    Raises `ProbeError` for a pseudo-log-likelihood where there is no mask token to read, and of texts that have one.
    """
    gap = isinstance(property, PairGap)
    both = Probe(probe.examples + probe.swapped().examples) if gap else probe
    tokens = both.tokenize(model.tokenizer, property)
    if not isinstance(property.of_property if gap else property, PseudoLogLikelihood):
        return tokens
    own = [own_positions(model.answered_by, ids, e.text) for ids, e in zip(tokens.inputs, both.examples)]
    return each_masked(model.answered_by, tokens, own)


def require_masked(answered_by: Any) -> Masked:
    """Raise `ProbeError` for a model that fills in no mask token."""
    if not isinstance(answered_by, Masked):
        raise ProbeError(
            "a pseudo-log-likelihood needs a masked language model: a causal one has a likelihood (LogLikelihood, "
            "NextTokenLoss), and a classifier or an encoder without a head neither"
        )
    return answered_by


def own_positions(answered_by: Any, ids: list[int], text: str) -> list[int]:
    """Where the tokens of the text itself are, without those that begin and end it; raises `ProbeError` for none."""
    tokenizer = require_masked(answered_by).tokenizer
    if answered_by.mask in ids:
        raise ProbeError(f"{text!r} has a mask token: each token is masked in turn, so write the text out")
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    found = [position for position, token in enumerate(ids) if token not in special]
    if not found:
        raise ProbeError(f"{text!r} has no tokens of its own under this tokenizer: give it some words")
    return found


def each_masked(answered_by: Any, tokens: Tokens, positions: Iterable[list[int]]) -> Tokens:
    """A row for each of these positions of each text, which is masked there, and so is its counterpart's partner."""
    mask = require_masked(answered_by).mask
    rows = [(number, position) for number, some in enumerate(positions) for position in some]

    def hidden(ids: list[int], position: int) -> list[int]:
        return [*ids[:position], mask, *ids[position + 1 :]]

    def other(number: int, position: int) -> list[int] | None:
        alignment: Alignment = tokens.alignments[number]
        ids = tokens.counterparts[number]
        return hidden(ids, alignment.positions[position]) if alignment.problem is None else ids

    return Tokens(
        Probe(tuple(tokens.probe.examples[number] for number, _ in rows)),
        tokens.property,
        [hidden(tokens.inputs[number], position) for number, position in rows],
        [tokens.text_lengths[number] for number, _ in rows],
        [other(number, position) for number, position in rows],
        [tokens.alignments[number] for number, _ in rows],
        tuple((position, tokens.inputs[number][position]) for number, position in rows),
        tuple(number for number, _ in rows),
    )
