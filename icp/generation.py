"""What a model writes after a prompt: greedily, or drawn with a seed so that a batch changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import groupby
from typing import Any

import torch
from tqdm.auto import tqdm

from icp.errors import IcpError, ModelError, NotFiniteError, ProbeError
from icp.model import Model
from icp.sweep.memory import within_memory
from icp.sweep.plan import Plan
from icp.tokenizing import encode

ROWS = 16
"""Prompts a pass, unless `batch_size` says otherwise."""


def generate(
    model: Model,
    prompts: Sequence[str],
    *,
    samples: int = 0,
    temperature: float = 1.0,
    seed: int = 0,
    max_tokens: int = 16,
    stops: Sequence[str] = ("\n",),
    batch_size: int | None = None,
    progress: bool = False,
) -> list[list[str]]:
    """Of each prompt the texts that follow it, up to the first of `stops`: the greedy one, or `samples` drawn ones.

    A drawn text depends on the seed, the prompt and its number alone: every row has a generator of its own, whose
    Gumbel noise is added to logits / temperature, so that the largest is a draw from their softmax.

    Raises `ModelError` for a `HookedTransformer`, `ProbeError` where a prompt leaves no room for `max_tokens`, and
    `NotFiniteError` where the model returns NaN.
    """
    if model.kind == "hooked_transformer":
        raise ModelError("a HookedTransformer has no generate of transformers: load the same model by its hub id")
    if max_tokens < 1 or samples < 0 or not temperature > 0 or (batch_size is not None and batch_size < 1):
        raise IcpError(
            f"max_tokens and batch_size are at least 1, samples at least 0 and temperature above 0, got {max_tokens}, "
            f"{batch_size}, {samples} and {temperature}"
        )
    ids = [prompt_tokens(model, prompt, max_tokens) for prompt in prompts]
    rows = [(len(tokens), which, number) for which, tokens in enumerate(ids) for number in range(max(1, samples))]
    rows.sort()
    found = [[""] * max(1, samples) for _ in prompts]
    with tqdm(total=len(rows), unit="answer", desc="generate", disable=not progress, leave=False) as bar:

        def attempt(plan: Plan) -> None:
            bar.update(-bar.n)
            for part in _parts(rows, plan.batch_size, alike=model.kind == "bridge"):
                keys = [_key(seed, number, prompts[which]) for _, which, number in part] if samples else None
                asked = [prompts[which] for _, which, _ in part]
                texts = _texts(model, asked, [ids[which] for _, which, _ in part], keys, temperature, max_tokens, stops)
                for (_, which, number), text in zip(part, texts):
                    found[which][number] = text
                bar.update(len(part))

        within_memory(Plan(ROWS if batch_size is None else batch_size), attempt)
    return found


def prompt_tokens(model: Model, prompt: str, max_tokens: int) -> list[int]:
    """The tokens of a prompt; raises `ProbeError` where they leave no room for `max_tokens`."""
    tokens = encode(model.tokenizer, prompt, "")
    if model.context is not None and len(tokens) + max_tokens > model.context:
        raise ProbeError(
            f"{prompt[:60]!r} has {len(tokens)} tokens: {max_tokens} more do not fit into the {model.context} that "
            f"{model.name} reads, so shorten it"
        )
    return tokens


def _parts(rows: list[tuple[int, int, int]], size: int, alike: bool) -> Iterator[list[tuple[int, int, int]]]:
    """`size` rows at a time; of one length where they are to be `alike`.

    A bridge returns NaN for some architectures where padding comes first, so that its rows go without.
    """
    for _, group in groupby(rows, key=lambda row: row[0] if alike else 0):
        together = list(group)
        for start in range(0, len(together), size):
            yield together[start : start + size]


def _key(seed: int, number: int, prompt: str) -> int:
    return int.from_bytes(sha256(f"{seed}/{number}/{prompt}".encode()).digest()[:7])


def _texts(
    model: Model,
    prompts: list[str],
    ids: list[list[int]],
    keys: list[int] | None,
    temperature: float,
    max_tokens: int,
    stops: Sequence[str],
) -> list[str]:
    """One text a row, padded on the left."""
    from transformers import LogitsProcessorList, StoppingCriteriaList

    batch = model.pad(ids, "left")
    width = batch.ids.shape[1]
    decode = model.tokenizer.batch_decode

    def written(rows) -> list[str]:
        return decode(rows[:, width:], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def stopped(rows, scores, **_):
        ended = [any(stop in text for stop in stops) for text in written(rows)]
        return torch.tensor(ended, dtype=torch.bool, device=rows.device)

    def chosen_by(rows, scores):
        broken = scores.isnan().any(1).tolist()
        if any(broken):
            raise NotFiniteError(f"the model returns nan for {prompts[broken.index(True)]!r}: leave this input out")
        if not own:
            return scores
        noise = torch.stack([torch.empty(scores.shape[1], dtype=torch.float64).exponential_(generator=g) for g in own])
        return scores / temperature - noise.log().to(scores.device, scores.dtype)

    own = [torch.Generator().manual_seed(key) for key in keys or []]
    module = model.module.original_model if model.kind == "bridge" else model.module
    with model.frozen(), torch.no_grad(), _plain(module, model.tokenizer):
        rows = module.generate(
            batch.ids, attention_mask=batch.mask.long(), max_new_tokens=max_tokens, do_sample=False,
            logits_processor=LogitsProcessorList([chosen_by]),
            stopping_criteria=StoppingCriteriaList([stopped]),
        )  # fmt: skip
    return [_before(text, stops) for text in written(rows)]


@contextmanager
def _plain(module: Any, tokenizer: Any) -> Iterator[None]:
    """The module's own defaults of generation, such as penalties, set aside, but for the tokens that end a text."""
    from transformers import GenerationConfig

    own = module.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    ends = sorted({token for token in (*ends, tokenizer.eos_token_id) if token is not None})
    pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    module.generation_config = GenerationConfig(eos_token_id=ends or None, pad_token_id=pad)
    try:
        yield
    finally:
        module.generation_config = own


def _before(text: str, stops: Sequence[str]) -> str:
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(found, default=len(text))].strip()
