"""How likely a causal model finds a sentence, alone or after a context."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from icp.alignment import Alignment
from icp.errors import ModelError, ProbeError
from icp.examples import Example
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.properties import LogLikelihood
from icp.sweep.plan import values_of_tokens
from icp.tokenizing import require_vocabulary

PART = 128
"""Sentences that are padded to one length; they are taken in order of length."""


def sentence_log_likelihoods(
    model: Model,
    sentences: Sequence[str],
    contexts: Sequence[str | None] | None = None,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> tuple[Float[np.ndarray, " sentence"], Int[np.ndarray, " sentence"]]:
    """Sums of log p over the tokens of each sentence, in nats, and how many tokens these are.

    A sentence with a context follows it after a space, and only its own tokens count. One without follows the token
    that begins texts, or where the tokenizer has none the one that ends them, so that its first token counts too: what
    lm-evaluation-harness does with an empty context.

    Raises `ModelError` for a model that reads later tokens, `ProbeError` for a sentence that is too long or, with a
    context, does not begin a new token.
    """
    require_causal(model)
    contexts = [None] * len(sentences) if contexts is None else contexts
    sums, counts = np.empty(len(sentences)), np.empty(len(sentences), dtype=np.int64)
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]) + len(contexts[i] or ""))
    with tqdm(total=len(order), unit="sentence", desc="score sentences", disable=not progress, leave=False) as bar:
        for start in range(0, len(order), PART):
            part = order[start : start + PART]
            tokens = _tokens(model, [(sentences[i], contexts[i]) for i in part])
            sums[part] = values_of_tokens(model, tokens, batch_size)
            counts[part] = [len(ids) - length for ids, length in zip(tokens.inputs, tokens.text_lengths)]
            bar.update(len(part))
    return sums, counts


def require_causal(model: Model) -> None:
    """Raise `ModelError` for a model whose logits at a position depend on later tokens, as a masked one's do.

    Raises `ProbeError` for one that has no logits of tokens.
    """
    require_vocabulary(model.answered_by, "the likelihood of a sentence")
    with model.frozen(), torch.no_grad():
        first = model.logits(model.pad([[0, 1], [0, 2]]))[:, 0].double()
    if (first[0] - first[1]).abs().max() > 1e-3 * first.abs().max():
        raise ModelError(
            f"{model.name} reads the tokens after a position too, so that it gives a sentence no likelihood token by "
            "token: the pseudo-likelihood of masked models is another metric, never mixed with this one"
        )


def _tokens(model: Model, pairs: list[tuple[str, str | None]]) -> Tokens:
    """Of each sentence what comes before it as the text, and its own tokens as what continues the text."""
    tokenizer, inputs, lengths = model.tokenizer, [], []
    for sentence, context in pairs:
        if context is not None:
            probe = Probe((Example(context, answers=(f" {sentence}",)),))
            told = probe.tokenize(tokenizer, LogLikelihood())
            inputs.append(told.inputs[0])
            lengths.append(told.text_lengths[0])
            continue
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
        if first is None:
            raise ProbeError(
                f"the tokenizer of {model.name} has no token that begins or ends a text: the first token of a sentence "
                "has no likelihood without one, so set tokenizer.bos_token"
            )
        inputs.append(ids if ids[:1] == [first] else [first, *ids])
        lengths.append(1)
        if len(inputs[-1]) < 2:
            raise ProbeError(f"{sentence!r} has no tokens under this tokenizer: give it some words")
    probe = Probe(tuple(Example(sentence) for sentence, _ in pairs))
    alone = Alignment(problem="it has no counterpart")
    return Tokens(probe, LogLikelihood(), inputs, lengths, [None] * len(pairs), [alone] * len(pairs))
