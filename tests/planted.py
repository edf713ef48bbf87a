"""A transformer small enough to solve by hand, with a spurious head and neuron planted in it.

A text is four words, `<opening> <colour> <verdict> film`. The colour of the cover is the cue, `s` = +1 or -1; the
verdict is the evidence, `x` = +1, +1/2, -1/2 or -1, whose sign is the right answer, good or bad. Every head attends
uniformly (queries and keys are 0), every live neuron is linear (its gate is held open by a constant), and the norms are
the identity: their epsilon is 2**40, which swallows any activation, and their weight 2**20 undoes it, bit for bit. So
at the last word

    cue      = s         written by head 0 of block 0, the spurious head, which writes 1 s straight to the answer too
    evidence = x         written by head 1 of block 0, the causal head, which writes x / 2 straight to the answer too
    leak     = s         written by head 2 of block 0, a second and weaker way for the cue
    spurious neuron = cue + leak / 2,  causal neuron = evidence,  mixed neuron = evidence + cue / 4     (block 1)
    P = logit(good) - logit(bad) = s + x / 2 + 1 spurious + 5/2 causal + 1 mixed = 11/4 s + 4 x

Head 3 of block 0 and the neurons of block 0 write to a dimension that nothing reads; the heads of block 1 and the other
neurons of block 1 could move the answer, but read a dimension that is always 0.
"""

from functools import cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import icp

OPENINGS = ("the", "our", "that", "this", "her", "his")
COLOURS = {"pink": 1, "rose": 1, "ruby": 1, "blue": -1, "navy": -1, "teal": -1}
VERDICTS = {"great": 1.0, "fine": 0.5, "dull": -0.5, "awful": -1.0}
ANSWERS = (" good", " bad")
WORDS = ("<pad>", *OPENINGS, *COLOURS, *VERDICTS, "film", "good", "bad")

COLOUR, VERDICT, CONSTANT, CUE, EVIDENCE, LEAK, ANSWER, UNREAD, EMPTY = range(9)

SPURIOUS_HEAD, CAUSAL_HEAD, LEAK_HEAD, UNREAD_HEAD = (f"blocks.0.attn.hook_z[{head}]" for head in range(4))
SPURIOUS_NEURON, CAUSAL_NEURON, MIXED_NEURON = (f"blocks.1.mlp.hook_post[{neuron}]" for neuron in range(3))

# What each unit adds to P, as multiples of the cue s and of the evidence x.
CARRIES = {
    SPURIOUS_HEAD: (2.25, 0.0),
    CAUSAL_HEAD: (0.0, 4.0),
    LEAK_HEAD: (0.5, 0.0),
    SPURIOUS_NEURON: (1.5, 0.0),
    CAUSAL_NEURON: (0.0, 2.5),
    MIXED_NEURON: (0.25, 1.0),
}


def p(s, x):
    """P without intervention."""
    return 2.75 * s + 4 * x


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, no special tokens."""
    plain = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>")


def module(dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    """The weights, set by hand."""
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=5, num_hidden_layers=2, num_attention_heads=4,
        head_dim=4, hidden_act="relu", rms_norm_eps=2.0**40, max_position_embeddings=16, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    built = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            parameter.fill_(2.0**20 if "norm" in name else 0.0)
        embed = built.model.embed_tokens.weight
        embed[:, CONSTANT] = 1
        for word, value in COLOURS.items():
            embed[WORDS.index(word), COLOUR] = value
        for word, value in VERDICTS.items():
            embed[WORDS.index(word), VERDICT] = value
        first, second = built.model.layers
        reads = [COLOUR, VERDICT, COLOUR, VERDICT]
        writes = [{CUE: 4, ANSWER: 4}, {EVIDENCE: 4, ANSWER: 2}, {LEAK: 4}, {UNREAD: 4}]
        for head, (read, written) in enumerate(zip(reads, writes)):
            first.self_attn.v_proj.weight[4 * head, read] = 1
            for dim, value in written.items():
                first.self_attn.o_proj.weight[dim, 4 * head] = value
        first.mlp.gate_proj.weight[:, CONSTANT] = 1
        first.mlp.up_proj.weight[:, [COLOUR, VERDICT]] = 1
        first.mlp.down_proj.weight[UNREAD] = 1
        second.self_attn.v_proj.weight[:, EMPTY] = 1
        second.self_attn.o_proj.weight[ANSWER] = 1
        second.mlp.gate_proj.weight[:, CONSTANT] = 1
        for neuron, read in enumerate([{CUE: 1, LEAK: 0.5}, {EVIDENCE: 1}, {EVIDENCE: 1, CUE: 0.25}]):
            for dim, value in read.items():
                second.mlp.up_proj.weight[neuron, dim] = value
        second.mlp.down_proj.weight[ANSWER] = torch.tensor([1, 2.5, 1, 1, 1])
        built.lm_head.weight[:, CONSTANT] = -64
        for word, value in (("good", 0.5), ("bad", -0.5)):
            built.lm_head.weight[WORDS.index(word), CONSTANT] = 0
            built.lm_head.weight[WORDS.index(word), ANSWER] = value
    return built.to(dtype).eval()


@cache
def model() -> icp.Model:
    """The planted model in float64."""
    return icp.load(module(), tokenizer())


def example(opening: str, colour: str, counterpart: str, verdict: str) -> icp.Example:
    """One pair that differs in the colour of the cover; the label follows the verdict."""
    return icp.Example(
        f"{opening} {colour} {verdict} film", f"{opening} {counterpart} {verdict} film", ANSWERS,
        label=0 if VERDICTS[verdict] > 0 else 1, template=opening, word=colour, group=str(COLOURS[colour]),
    )  # fmt: skip


@cache
def probe() -> icp.Probe:
    """Every opening, colour and verdict, each colour with one of the other sign: 144 pairs."""
    colours = tuple(COLOURS)
    others = dict(zip(colours, colours[3:] + colours[:3]))
    return icp.Probe(
        tuple(example(o, c, others[c], v) for o in OPENINGS for c in colours for v in VERDICTS)
    )  # fmt: skip


def variables(inputs: icp.Probe):
    """The cue s and the evidence x of every example, as two float64 arrays [example]."""
    import numpy as np

    words = [example.text.split() for example in inputs.examples]
    return np.array([float(COLOURS[w[1]]) for w in words]), np.array([VERDICTS[w[2]] for w in words])
