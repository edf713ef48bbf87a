"""One declarative row an architecture: where its blocks, projections, and norms are.

To add an architecture, add a row. Everything else in `icp` reads rows; `icp.loading.check` compares a row with the
live module at load and refuses one that does not fit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from icp.errors import ModelError


@dataclass(frozen=True)
class Point:
    """A place to hook inside a block: a module path and a side, `"input"` or `"output"`.

    `part` is None where all of the module's values are meant. `flat` says that the module sees [row * pos, width].
    """

    module: str
    side: str
    part: "Part | None" = None
    flat: bool = False


@dataclass(frozen=True)
class Part:
    """One of `count` equal parts of a fused projection's output, number `index`.

    `by_head` is true where every head has its parts side by side, `[head, part, d_head]` (GPT-NeoX), and false where
    each part has its heads side by side, `[part, head, d_head]` (GPT-2).
    """

    index: int
    count: int = 3
    by_head: bool = False


@dataclass(frozen=True)
class Projection:
    """The weights that carry a site into the residual stream, as attributes of a module inside a block."""

    module: str
    weight: str = "weight"
    bias: str = "bias"


@dataclass(frozen=True)
class BiasSwitch:
    """A config option that gives a bias to the named modules of every block."""

    option: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Classifier:
    """The head of a `...ForSequenceClassification`, in the place of the unembedding; `after` None: the same module.

    `reads` is `"last"`, the token whose logits count, or `"first"`: the head takes the first token by itself.
    """

    unembed: str = "score"
    after: str | None = None
    reads: str = "last"


@dataclass(frozen=True)
class Family:
    """A row. Paths are relative to the root module, or to a block for units' points and projections.

    Queries and keys are those before any norm or rotary embedding.

    `after` is the module that takes in what the last block gives: the final norm, or a head. `reads` says where the
    answer is: `"next"`, in the logits at the last token; `"mask"`, in those at the mask token; `"last"` and
    `"first"` of a classifier; `"mean"` of a model without a head, whose output is the mean over attended tokens.
    `first_position` is the number of the first token's position.

    `norm` says what becomes of what attention and MLP give: `"before"`, it is added to the residual stream as it
    is; `"around"`, it is normed and then added (Gemma 2); `"after"`, it is added and the sum is normed (BERT). Only
    in the first case is an edit an additive change of the stream. `attention` is the module whose first output is
    that of the output projection, if any; `positionwise` are modules of one input that act on each position alone.
    `pixels` says that the inputs are images, of which all have the same number of patches: there is no padding.
    `embed_scale` is what the embedding's weights are multiplied by on their way out.

    `parallel` is true where attention and MLP both read the block's input (GPT-NeoX), so that a head's edit, like a
    neuron's, is an additive change of the block's output. A `*_bias` switch is None where every projection of that
    kind has a bias already, or where the config cannot give it one. `masked_by_position` is false where attention
    counts keys to find out what is near (GPT-Neo), so that a mask of one's own cannot say who attends to whom.
    """

    name: str
    model_types: tuple[str, ...]
    embed: str
    blocks: str
    after: str | None
    unembed: str | None
    neurons: Point
    heads: Point
    queries: Point
    keys: Point
    mlp_out: Projection
    attn_out: Projection
    mlp_bias: BiasSwitch | None = None
    attn_bias: BiasSwitch | None = None
    parallel: Callable[[object], bool] = lambda config: False
    n_heads: Callable[[object], int] = lambda config: config.num_attention_heads
    masked_by_position: bool = True
    n_key_heads: Callable[[object], int] = lambda config: (
        getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    )
    norm: str = "before"
    embed_scale: Callable[[object], float] = lambda config: 1.0
    attention: str | None = None
    positionwise: tuple[str, ...] = ()
    reads: str = "next"
    classifier: Classifier = Classifier()
    first_position: Callable[[object], int] = lambda config: 0
    pixels: bool = False

    @property
    def cut_to_first(self) -> bool:
        """Whether the last block gives on only the first token, which padding on the left would move."""
        return self.reads == "first" and not self.pixels

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.reads in ("next", "last")

    @property
    def whole_after(self) -> bool:
        """Whether what the last block gives goes on whole, into a module at which it can be handed in."""
        return self.reads != "mean" and not self.cut_to_first

    @property
    def one_output(self) -> bool:
        """Whether a row of tokens has one output, and not one a position."""
        return self.reads in ("first", "mean")

    def headless(self) -> "Family":
        """The row of an encoder's blocks alone, which lie at the root of their module."""
        root = f"{self.embed.partition('.')[0]}."
        embed, blocks = self.embed.removeprefix(root), self.blocks.removeprefix(root)
        return replace(self, embed=embed, blocks=blocks, after=None, unembed=None, reads="mean")

    def classifying(self) -> "Family":
        """The row of the same blocks under a classification head."""
        head = self.classifier
        return replace(self, unembed=head.unembed, after=head.after or self.after, reads=head.reads)


def _row(name, model_types, embed, blocks, after, unembed, mlp_out, attn_out, queries, keys, **rest) -> Family:
    """A plain `transformers` row: neurons and heads live at the inputs of the two projections out."""
    mlp, attention = mlp_out.rpartition(".")[0], attn_out.rpartition(".")[0]
    usual = dict(
        neurons=Point(mlp_out, "input"), heads=Point(attn_out, "input"), attention=attention,
        positionwise=(mlp, attn_out) if mlp else (attn_out,),
    )  # fmt: skip
    return Family(
        name, model_types, embed, blocks, after, unembed, queries=queries, keys=keys,
        mlp_out=Projection(mlp_out), attn_out=Projection(attn_out), **usual | rest,
    )  # fmt: skip


_LLAMA = _row(
    "llama", ("llama",), "model.embed_tokens", "model.layers", "model.norm", "lm_head",
    "mlp.down_proj", "self_attn.o_proj",
    Point("self_attn.q_proj", "output"), Point("self_attn.k_proj", "output"),
    mlp_bias=BiasSwitch("mlp_bias", ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")),
    attn_bias=BiasSwitch(
        "attention_bias", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    ),
)  # fmt: skip

_GEMMA2 = replace(
    _LLAMA, name="gemma2", model_types=("gemma2",), mlp_bias=None, norm="around",
    embed_scale=lambda config: config.hidden_size**0.5,
)  # fmt: skip

_BERT_BLOCK = dict(
    queries=Point("attention.self.query", "output"), keys=Point("attention.self.key", "output"),
    reads="mask", norm="after", attention=None,
    positionwise=("attention.output.dense", "intermediate", "output.dense"),
)  # fmt: skip

FAMILIES = (
    _LLAMA,
    replace(_LLAMA, name="mistral", model_types=("mistral",), mlp_bias=None, attn_bias=None),
    replace(_LLAMA, name="qwen2", model_types=("qwen2",), mlp_bias=None, attn_bias=None),
    replace(_LLAMA, name="qwen3", model_types=("qwen3",), mlp_bias=None),
    _GEMMA2,
    replace(_GEMMA2, name="gemma3", model_types=("gemma3_text",)),
    _row(
        "gpt2", ("gpt2",), "transformer.wte", "transformer.h", "transformer.ln_f", "lm_head",
        "mlp.c_proj", "attn.c_proj",
        Point("attn.c_attn", "output", Part(0)), Point("attn.c_attn", "output", Part(1)),
    ),
    _row(
        "gpt_neo", ("gpt_neo",), "transformer.wte", "transformer.h", "transformer.ln_f", "lm_head",
        "mlp.c_proj", "attn.attention.out_proj",
        Point("attn.attention.q_proj", "output"), Point("attn.attention.k_proj", "output"), masked_by_position=False,
    ),
    _row(
        "gpt_neox", ("gpt_neox",), "gpt_neox.embed_in", "gpt_neox.layers", "gpt_neox.final_layer_norm",
        "lm_head", "mlp.dense_4h_to_h", "attention.dense",
        Point("attention.query_key_value", "output", Part(0, by_head=True)),
        Point("attention.query_key_value", "output", Part(1, by_head=True)),
        attn_bias=BiasSwitch("attention_bias", ("attention.query_key_value", "attention.dense")),
        parallel=lambda config: config.use_parallel_residual,
    ),
    _row(
        "opt", ("opt",), "model.decoder.embed_tokens", "model.decoder.layers", "model.decoder.final_layer_norm",
        "lm_head", "fc2", "self_attn.out_proj",
        Point("self_attn.q_proj", "output"), Point("self_attn.k_proj", "output"),
        neurons=Point("fc2", "input", flat=True),
    ),
    _row(
        "phi", ("phi",), "model.embed_tokens", "model.layers", "model.final_layernorm", "lm_head",
        "mlp.fc2", "self_attn.dense",
        Point("self_attn.q_proj", "output"), Point("self_attn.k_proj", "output"), parallel=lambda config: True,
    ),
    _row(
        "bert", ("bert",), "bert.embeddings.word_embeddings", "bert.encoder.layer", "cls", "cls.predictions.decoder",
        "output.dense", "attention.output.dense", **_BERT_BLOCK,
        classifier=Classifier("classifier", "bert.pooler", "first"),
    ),
    _row(
        "roberta", ("roberta",), "roberta.embeddings.word_embeddings", "roberta.encoder.layer", "lm_head",
        "lm_head.decoder", "output.dense", "attention.output.dense", **_BERT_BLOCK,
        classifier=Classifier("classifier.out_proj", "classifier", "first"),
        first_position=lambda config: config.pad_token_id + 1,
    ),
    _row(
        "distilbert", ("distilbert",), "distilbert.embeddings.word_embeddings", "distilbert.transformer.layer",
        "vocab_transform", "vocab_projector", "ffn.lin2", "attention.out_lin",
        Point("attention.q_lin", "output"), Point("attention.k_lin", "output"), reads="mask", norm="after",
        classifier=Classifier("classifier", "pre_classifier", "first"),
    ),
    _row(
        "vit", ("vit",), "vit.embeddings", "vit.layers", "vit.layernorm", "classifier", "mlp.fc2", "attention.o_proj",
        Point("attention.q_proj", "output"), Point("attention.k_proj", "output"), reads="first", pixels=True,
    ),
)  # fmt: skip

REFUSED = {
    "it is a mixture of experts: each token goes through a few of many MLPs, so that a neuron has no value at the "
    "others": (
        "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "jetmoe", "dbrx", "gpt_oss", "deepseek_v2",
        "deepseek_v3", "granitemoe", "granitemoeshared", "glm4_moe", "ernie4_5_moe", "llama4", "llama4_text", "minimax",
        "switch_transformers", "nllb_moe",
    ),
    "it has blocks whose state, not attention heads, carries information from token to token": (
        "mamba", "mamba2", "falcon_mamba", "falcon_h1", "jamba", "bamba", "zamba", "zamba2", "rwkv", "xlstm",
        "recurrent_gemma", "nemotron_h", "granitemoehybrid", "qwen3_next", "kimi_linear", "olmo_hybrid",
    ),
}  # fmt: skip
"""Model types that no row can describe, by the reason."""

HOOKED_TRANSFORMER = Family(
    "hooked_transformer", (), "hook_embed", "blocks", "ln_final", "unembed",
    neurons=Point("mlp.hook_post", "output"), heads=Point("attn.hook_z", "output"),
    queries=Point("attn.hook_q", "output"), keys=Point("attn.hook_k", "output"),
    mlp_out=Projection("mlp", "W_out", "b_out"), attn_out=Projection("attn", "W_O", "b_O"),
    parallel=lambda config: config.parallel_attn_mlp, n_heads=lambda config: config.n_heads,
    n_key_heads=lambda config: (
        config.n_heads if config.ungroup_grouped_query_attention else config.n_key_value_heads or config.n_heads
    ),
)  # fmt: skip

BRIDGE = Family(
    "transformer_bridge", (), "embed", "blocks", "ln_final", "unembed",
    neurons=Point("mlp.out.hook_in", "output"), heads=Point("attn.o.hook_in", "output"),
    queries=Point("attn.q.hook_out", "output"), keys=Point("attn.k.hook_out", "output"),
    mlp_out=Projection("mlp.out"), attn_out=Projection("attn.o"),
    parallel=lambda config: bool(getattr(config, "parallel_attn_mlp", False)),
    n_heads=lambda config: config.n_heads,
    n_key_heads=lambda config: getattr(config, "n_key_value_heads", None) or config.n_heads,
)  # fmt: skip


def family_of(model_type: str) -> Family:
    """The row of a `transformers` model type; raises `ModelError` naming the known ones."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    for reason, types in REFUSED.items():
        if model_type in types:
            raise ModelError(f"model type {model_type!r} cannot be measured, since {reason}")
    known = ", ".join(t for f in FAMILIES for t in f.model_types)
    raise ModelError(
        f"no architecture row for model type {model_type!r}: known are {known}; add a row to icp/families.py"
    )


def outgoing(block: nn.Module, projection: Projection) -> tuple[Tensor, nn.Parameter | None]:
    """The outgoing weights [d_in, d_model], as a view to edit in place, and the bias [d_model] or None.

    `nn.Linear` stores [d_model, d_in], `Conv1D` the transpose, and TransformerLens [head, d_head, d_model].
    """
    module = unwrap(block.get_submodule(projection.module))
    weight = getattr(module, projection.weight)
    flat = weight.T if isinstance(module, nn.Linear) else weight.view(-1, weight.shape[-1])
    return flat, getattr(module, projection.bias)


def unwrap(module: nn.Module) -> nn.Module:
    """The plain module behind a TransformerLens bridge component or an adapter's layer, or the module itself."""
    while inside := next((name for name in ("_original_component", "base_layer") if name in module._modules), None):
        module = module._modules[inside]
    return module
