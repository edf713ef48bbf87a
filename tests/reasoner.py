"""A tiny random model with a vocabulary of PrOntoQA's words and symbols, and problems for it."""

import torch
from helpers import randomised
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import icp
from icp import data
from icp.capt import pool
from icp.data.ontologies import WORDS

PIECE = r" ?[^\s.?:]+|[.?:]|\n\n|\n"
FRAME = "Each each Every every All all Any any A a An an is are not or that it Is true false Yes No Answer Reasoning"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word with its space before it is a token."""
    said = {part for word in WORDS for form in word.forms for part in form.split()} | set(FRAME.split()) | set(pool(50))
    said |= {word.capitalize() for word in said}
    forms = [form for word in sorted(said) for form in (word, f" {word}")]
    vocabulary = {form: n for n, form in enumerate(["<pad>", "<unk>", "<eos>", ".", "?", ":", "\n", "\n\n", *forms])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Split(Regex(PIECE), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", padding_side="right"
    )


def reasoner(seed: int = 0) -> icp.Model:
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=2, bos_token_id=None, hidden_size=32,
        intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512,
    )  # fmt: skip
    return icp.load(randomised(LlamaForCausalLM(config), seed).to(torch.float32).eval(), tokenizer)


def problem(classes: tuple[str, str], feature: str, who: str, holds: bool, asked: bool, number: int) -> data.Problem:
    """Of two hops: the individual is of the first class, that is of the second, which has the feature or not."""
    lower, upper = classes
    told = f"Every {upper} is {'' if holds else 'not '}{feature}."
    worked = f"{who} is a {lower}. Each {lower} is a {upper}. {who} is a {upper}. {told} {who} is "
    return data.Problem(
        f"Each {lower} is a {upper}. {told} {who} is a {lower}.\n"
        f"True or false: {who} is {'' if asked else 'not '}{feature}.",
        str(holds == asked), ("True", "False"), f"{worked}{'' if holds else 'not '}{feature}.", "true", "mammals",
        f"k{number % 3}", "2 hops",
    )  # fmt: skip


def problems() -> list[data.Problem]:
    pairs = [("cat", "mammal"), ("tabby", "feline"), ("snake", "vertebrate")]
    cells = [(pair, w, h, a) for pair in pairs for w in ("Rex", "Max") for h in (True, False) for a in (True, False)]
    return [problem(pair, "furry", who, h, a, number) for number, (pair, who, h, a) in enumerate(cells)]
