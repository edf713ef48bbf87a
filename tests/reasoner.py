"""A tiny random model with a vocabulary of PrOntoQA's words and symbols, and problems for it."""

import random
from itertools import pairwise

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
CLASSES = "tabby cat feline carnivore mammal vertebrate chordate bilaterian".split()  # noqa: SIM905
FRAME = "Each Every All Any A An is are not or that it Is true false Yes No Premise Hypothesis Answer Reasoning"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word with its space before it is a token."""
    said = {part for word in WORDS for form in word.forms for part in form.split()} | set(FRAME.split()) | set(pool(50))
    said |= {form for word in said for form in (word.capitalize(), word.lower())}
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


def puzzle(draw: random.Random) -> dict:
    """A row of the true ontology: three hops, up to three facts that lead elsewhere, and one that distracts."""
    first = draw.randrange(4)
    chain, feature, holds = CLASSES[first : first + 3], draw.choice(["furry", "bony", "small"]), draw.random() < 0.5
    denied = ("", "not ")
    steps = [f"Every {one} is a {two}." for one, two in pairwise(chain)]
    steps.append(f"Each {chain[-1]} is {denied[not holds]}{feature}.")
    facts = [*steps, f"Snakes are {denied[holds]}{feature}."]
    facts += [f"Each {one} is {draw.choice(['real', 'prime'])}." for one in draw.sample(chain, draw.randrange(4))]
    draw.shuffle(facts)
    claims = [f"Rex is a {one}." for one in chain] + [f"Rex is {denied[not holds]}{feature}."]
    query = f"True or false: Rex is {draw.choice(denied)}{feature}."
    return {"Facts": " ".join(facts), "Query": query, "claims": claims, "next_steps": [*steps, "Finish."]}
