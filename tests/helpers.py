"""One table of tiny random models, a tiny tokenizer, and small probes, from which all test files draw."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    StableLmConfig,
    StableLmForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

import icp

WORDS = """
    The the It it old nurse doctor carpenter flight attendant said that she he went home early smiled because was late
    and ran laughed quickly
"""
VOCABULARY = ["<pad>", "<unk>", "<eos>", *dict.fromkeys(form for word in WORDS.split() for form in (word, " " + word))]
SIZES = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with its leading space; no beginning-of-text token."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    words.pre_tokenizer = Split(Regex(" ?[^ ]+"), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", padding_side="right"
    )


def make_masked_tokenizer() -> PreTrainedTokenizerFast:
    """The same words between `<cls>` and `<sep>`, and a mask token, which takes the space before it."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    made = make_tokenizer()
    mask = AddedToken("<mask>", lstrip=True, special=True)
    made.add_special_tokens({"cls_token": "<cls>", "sep_token": "<sep>", "mask_token": mask})
    ends = [("<cls>", made.cls_token_id), ("<sep>", made.sep_token_id)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<cls> $A <sep>", special_tokens=ends)
    return made


@dataclass(frozen=True)
class Case:
    """A tiny architecture: `make` builds a module, `layers` is its depth.

    `atol` is how closely two ways to compute a logit in float64 agree.
    """

    name: str
    make: Callable[[], nn.Module]
    layers: int = 2
    atol: float = 1e-9
    tokenizer: Callable[[], PreTrainedTokenizerFast | None] = make_tokenizer
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def module(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
        """The transformers module with random weights and biases large enough that every edit shows."""
        return randomised(self.make(), seed).to(dtype).eval()

    def model(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> icp.Model:
        return icp.load(self.module(dtype, seed), self.tokenizer(), **self.options)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of standard deviation 0.25, embeddings of 1, norms about 1, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                centre = 0.0 if name.endswith("bias") else 1.0
                parameter.copy_(centre + 0.2 * noise)
            else:
                parameter.copy_(noise if id(parameter) in embeddings else 0.25 * noise)
    return module


def _llama():
    return LlamaForCausalLM(
        LlamaConfig(
            **SIZES, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64,
        )
    )  # fmt: skip


def _mistral():
    return MistralForCausalLM(
        MistralConfig(
            **SIZES, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, sliding_window=4,
        )
    )  # fmt: skip


def _qwen2():
    return Qwen2ForCausalLM(
        Qwen2Config(
            **SIZES, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
        )
    )  # fmt: skip


def _gpt2():
    return GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=32, n_inner=48, n_layer=3, n_head=4, n_positions=64))


def _gpt_neo():
    return GPTNeoForCausalLM(
        GPTNeoConfig(
            **SIZES, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, max_position_embeddings=64,
            attention_types=[[["global", "local"], 1]], window_size=3,
        )
    )  # fmt: skip


def _gpt_neox(parallel: bool):
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **SIZES, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64, rotary_pct=0.5, use_parallel_residual=parallel,
        )
    )  # fmt: skip


CASES = (
    Case("llama", _llama, layers=3),
    Case("mistral", _mistral),
    Case("qwen2", _qwen2),
    Case("gpt2", _gpt2, layers=3),
    Case("gpt_neo", _gpt_neo, atol=1e-5),  # its attention works in float32, whatever the model's dtype
    Case("gpt_neox", lambda: _gpt_neox(True)),
    Case("gpt_neox_sequential", lambda: _gpt_neox(False)),
)

USUAL = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64
)  # fmt: skip
GROUPED = USUAL | {"num_key_value_heads": 2, "head_dim": 12}


def _gemma(config, model):
    """A window of 4 tokens in one block of two."""
    kinds = ["sliding_attention", "full_attention"]
    return model(config(**SIZES, **GROUPED, sliding_window=4, layer_types=kinds, query_pre_attn_scalar=12))


def _stablelm():
    return StableLmForCausalLM(StableLmConfig(**SIZES, **USUAL, num_key_value_heads=2, use_parallel_residual=True))


def _opt():
    named = USUAL | {"ffn_dim": 48, "word_embed_proj_dim": 32}
    del named["intermediate_size"]
    return OPTForCausalLM(OPTConfig(**SIZES, **named))


ENCODED = USUAL | SIZES | {"vocab_size": len(VOCABULARY) + 3, "type_vocab_size": 2}
CLASSES = {"num_labels": 3, "id2label": {0: "bad", 1: "good", 2: "neither"}}
SMALL_BERT = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}


def _encoder(name, config, masked, classifier, options=ENCODED):
    """Both heads of an encoder."""

    def case(kind, label, more):
        return Case(label, lambda: kind(config(**options | more)), tokenizer=make_masked_tokenizer)

    return case(masked, name, {}), case(classifier, f"{name}_classes", CLASSES)


HEADLESS = Case("bert_headless", lambda: BertModel(BertConfig(**ENCODED)), tokenizer=make_masked_tokenizer)
"""A sentence encoder: its output is a representation, and not an answer."""

ENCODERS = (
    *_encoder("bert", BertConfig, BertForMaskedLM, BertForSequenceClassification),
    *_encoder("roberta", RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification),
    *_encoder(
        "distilbert", DistilBertConfig, DistilBertForMaskedLM, DistilBertForSequenceClassification,
        {"vocab_size": len(VOCABULARY) + 3, "pad_token_id": 0} | SMALL_BERT,
    ),
)  # fmt: skip

IMAGES = {"image_size": (12, 16), "patch_size": 4}
"""12 patches, in 3 rows of 4."""


def _vit():
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    return ViTForImageClassification(ViTConfig(**sizes, **IMAGES, **CLASSES))


def make_ending_tokenizer() -> PreTrainedTokenizerFast:
    """The same words, and after them an end token, whose id is the largest, as in CLIP's own."""
    from tokenizers.processors import TemplateProcessing

    made = make_tokenizer()
    made.add_special_tokens({"eos_token": "<end>"})
    ends = [("<end>", made.eos_token_id)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single="$A <end>", special_tokens=ends)
    return made


def _clip():
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    ends = {"vocab_size": len(VOCABULARY) + 1, "eos_token_id": len(VOCABULARY)}
    words = SIZES | ends | {"max_position_embeddings": 64}
    vision = CLIPVisionConfig(**sizes | {"num_hidden_layers": 3}, image_size=12, patch_size=4)
    text = CLIPTextConfig(**sizes | {"hidden_size": 24, "num_attention_heads": 3}, **words)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16))


def _tower(name, layers, **options):
    return Case(name, _clip, layers=layers, tokenizer=make_ending_tokenizer, options=options)


CAPTIONS = {"bad": "The nurse ran", "good": "The old doctor laughed", "neither": "It was late"}
CLIPS = (
    _tower("clip", 3, captions=CAPTIONS),
    _tower("clip_vision", 3, tower="vision"),
    _tower("clip_text", 2, tower="text"),
    _tower("clip_captions", 2, tower="text", captions=CAPTIONS),
)
"""The towers of a CLIP, and images classified by captions."""

VISION = (Case("vit", _vit, tokenizer=lambda: None),)

VERIFIED = (
    *CASES,
    Case("qwen3", lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, **GROUPED))),
    Case("stablelm", _stablelm),
    Case("gemma2", lambda: _gemma(Gemma2Config, Gemma2ForCausalLM)),
    Case("gemma3", lambda: _gemma(Gemma3TextConfig, Gemma3ForCausalLM)),
    Case("opt", _opt),
    Case("phi", lambda: PhiForCausalLM(PhiConfig(**SIZES, **USUAL))),
    *ENCODERS,
    HEADLESS,
    *VISION,
    *CLIPS,
)
"""Every architecture; what goes through the other test files, the rows above, has every kind of block."""

BY_NAME = {case.name: case for case in VERIFIED}

PAIRS = (
    ("The nurse said that", "The carpenter said that"),
    ("The doctor smiled because", "The flight attendant smiled because"),
    ("It was late and the nurse said that", "It was late and the doctor said that"),
    ("The old flight attendant went home early because", "The old nurse went home early because"),
)
PARTNERS = ((0, 1, 2, 3), (0, 2, 3, 4), (0, 1, 2, 3, 4, 5, 6, 7), (0, 1, 2, 2, 3, 4, 5, 6))
"""For each token of x in `PAIRS`, the position of its partner in x', worked out by hand."""

EQUAL_PAIRS = (
    ("The nurse said that", "The carpenter said that"),
    ("The doctor smiled because", "The nurse smiled because"),
    ("The old nurse ran", "The old doctor ran"),
)


def make_probe(pairs=PAIRS) -> icp.Probe:
    """Two pairs of 4 tokens and two of 8, so that batches are padded and each input has one other of its length."""
    rows = [
        icp.Example(x, other, (" she", " he"), label=i % 2, template=f"t{i}", word=x.split()[-3], group=f"g{i % 2}")
        for i, (x, other) in enumerate(pairs)
    ]
    return icp.Probe(tuple(rows))


def some_units(case: Case) -> list[str]:
    """A few units of every kind, in the first, a middle and the last block, not in order."""
    last = case.layers - 1
    return [
        f"blocks.{last}.mlp.hook_post[5]",
        "blocks.0.mlp.hook_post[47]",
        "blocks.1.attn.hook_z[3]",
        "blocks.0.attn.hook_z[0]",
        f"blocks.{last}.attn.hook_z[2,7]",
        "blocks.0.attn.hook_z[1,0]",
        "blocks.0.hook_resid_post[31]",
        f"blocks.{last}.hook_resid_post[4]",
        "hook_embed[0]",
        "hook_embed[17]",
    ]


def bridged(module: nn.Module, tokenizer: Any) -> Any:
    """A `TransformerBridge` over a copy of the module, of the same dtype."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        module.config.model_type,
        hf_model=copy.deepcopy(module),
        tokenizer=copy.deepcopy(tokenizer),
        device="cpu",
        dtype=next(module.parameters()).dtype,
    )


HOOKED = ("llama", "gpt2", "gpt_neox")


def hooked_transformer(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A tiny `HookedTransformer` built by hand; skips where TransformerLens no longer has the class."""
    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        pytest.skip("TransformerLens 4 has no HookedTransformer; 3.9 has it")
    shared = dict(n_layers=2, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=48, dtype=dtype, device="cpu")
    own = {
        "llama": dict(
            act_fn="silu", normalization_type="RMS", positional_embedding_type="rotary", rotary_dim=8, gated_mlp=True,
            n_key_value_heads=2, final_rms=True,
        ),
        "gpt2": dict(act_fn="gelu_new", normalization_type="LN"),
        "gpt_neox": dict(
            act_fn="gelu", normalization_type="LN", positional_embedding_type="rotary", rotary_dim=4,
            parallel_attn_mlp=True,
        ),
    }[name]  # fmt: skip
    tokenizer = make_tokenizer()
    config = HookedTransformerConfig(**shared, **own, d_vocab=len(tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = HookedTransformer(config, tokenizer=tokenizer)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "ln" in key:
                parameter.copy_((1.0 if key.endswith(".w") else 0.0) + 0.2 * noise)
            else:
                parameter.copy_((1.0 if "embed.W_" in key else 0.25) * noise)
    return module.eval()


def watched(monkeypatch: pytest.MonkeyPatch, *modules: str) -> list[Any]:
    """The progress bars that these modules make from now on, each with its `updates`, in the order made."""
    from tqdm.auto import tqdm

    bars = []

    class Watched(tqdm):
        def __init__(self, *arguments, **options):
            self.updates = []
            super().__init__(*arguments, **options)
            bars.append(self)

        def update(self, n=1):
            self.updates.append(n)
            return super().update(n)

    for module in modules:
        monkeypatch.setattr(f"{module}.tqdm", Watched)
    return bars
