"""How likely a masked language model finds what two sentences share, and what fills a blank, a token at a time."""

import string
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
from jaxtyping import Float
from tqdm.auto import tqdm

from icp.alignment import Alignment
from icp.errors import DataError
from icp.examples import Example
from icp.masking import own_positions, require_masked
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.properties import PseudoLogLikelihood
from icp.sweep.plan import values_of_tokens
from icp.tokenizing import encode

PART = 512
"""Rows that are padded to one length; they are taken in order of length."""

Row = tuple[int, list[int], int, int]
"""The number of what it is a part of, token ids with one mask among them, its position, and the token to find there."""


def shared_pseudo_log_likelihoods(
    model: Model, pairs: Sequence[tuple[str, str]], *, batch_size: int | None = None, progress: bool = False
) -> Float[np.ndarray, "pair 2"]:
    """Of both sentences of each pair, the sum of log p over the tokens that the two share, each masked alone, in nats.

    The score of CrowS-Pairs (Nangia et al. 2020): shared are the runs of tokens that `difflib` matches, without those
    that begin and end a text. A pair that shares none scores 0 twice.
    """
    rows: list[Row] = []
    for number, pair in enumerate(pairs):
        ids = [encode(model.tokenizer, text, "") for text in pair]
        own = [set(own_positions(model.answered_by, one, text)) for one, text in zip(ids, pair)]
        for start, other, size in SequenceMatcher(None, *ids, autojunk=False).get_matching_blocks():
            for side, first in enumerate((start, other)):
                places = (place for place in range(first, first + size) if place in own[side])
                rows += [(2 * number + side, *_hidden(model, ids[side], place)) for place in places]
    sums = np.zeros(2 * len(pairs))
    np.add.at(sums, [row[0] for row in rows], _log_p(model, rows, batch_size, progress))
    return sums.reshape(-1, 2)


def blank_probabilities(
    model: Model,
    blanks: Sequence[tuple[str, str]],
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> Float[np.ndarray, " blank"]:
    """Of each context and the sentence that it becomes with its BLANK filled, how likely the word is that fills it.

    The score of StereoSet (Nadeem et al. 2021) as its authors' `evaluate_intrasentence` works it out: the mean, over
    the pieces of the word, of p(piece | the context with the pieces before it and one mask token in the BLANK's place).
    The word is the one at the BLANK's place when both are split at spaces, without its punctuation. It is a mean of
    probabilities, not of their logs. Raises `DataError` where a context has no BLANK, or a sentence no word there.
    """
    masked, rows = require_masked(model.answered_by), []
    mask, tokenizer = model.tokenizer.convert_ids_to_tokens(masked.mask), model.tokenizer
    for number, (context, sentence) in enumerate(blanks):
        word = _filling(context, sentence)
        before = context.partition("BLANK")[0]
        pieces = tokenizer(f" {word}" if before.endswith(" ") else word, add_special_tokens=False)["input_ids"]
        for done, piece in enumerate(pieces):
            filled = f"{tokenizer.decode(pieces[:done]).strip()}{mask}"
            ids = encode(tokenizer, context.replace("BLANK", filled), "")
            rows.append((number, ids, masked.position(ids), piece))
    p = np.exp(_log_p(model, rows, batch_size, progress))
    which = [row[0] for row in rows]
    return np.bincount(which, p, len(blanks)) / np.bincount(which, minlength=len(blanks))


def _filling(context: str, sentence: str) -> str:
    place = next((place for place, word in enumerate(context.split(" ")) if "BLANK" in word), None)
    if place is None:
        raise DataError(f"the context {context!r} has no BLANK: only what fills one has a score under a masked model")
    words = sentence.split(" ")
    word = words[place].translate(str.maketrans("", "", string.punctuation)) if place < len(words) else ""
    if not word:
        raise DataError(f"{sentence!r} has no word where {context!r} has its BLANK: leave this item out")
    return word


def _hidden(model: Model, ids: list[int], place: int) -> tuple[list[int], int, int]:
    mask = require_masked(model.answered_by).mask
    return [*ids[:place], mask, *ids[place + 1 :]], place, ids[place]


def _log_p(model: Model, rows: list[Row], batch_size: int | None, progress: bool) -> Float[np.ndarray, " row"]:
    found = np.empty(len(rows))
    order = sorted(range(len(rows)), key=lambda row: len(rows[row][1]))
    with tqdm(total=len(order), unit="token", desc="score masked tokens", disable=not progress, leave=False) as bar:
        for start in range(0, len(order), PART):
            part = order[start : start + PART]
            found[part] = values_of_tokens(model, _tokens(model, [rows[row] for row in part]), batch_size)
            bar.update(len(part))
    return found


def _tokens(model: Model, rows: list[Row]) -> Tokens:
    inputs = [ids for _, ids, _, _ in rows]
    probe = Probe(tuple(Example(model.tokenizer.decode(ids)) for ids in inputs))
    alone = Alignment(problem="it has no counterpart")
    masked = tuple((place, token) for _, _, place, token in rows)
    lengths = [len(ids) for ids in inputs]
    return Tokens(probe, PseudoLogLikelihood(), inputs, lengths, [None] * len(rows), [alone] * len(rows), masked)
