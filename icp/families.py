"""One declarative row an architecture.

To add an architecture, add a row. Everything else in `icp` reads rows; `icp.fitting.check` compares a row with the
live module at load and refuses one that does not fit.
"""

from dataclasses import replace

from icp.errors import ModelError
from icp.family import BiasSwitch, Classifier, Family, Part, Point, Projection


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
    replace(
        _LLAMA, name="stablelm", model_types=("stablelm",), mlp_bias=None, attn_bias=None,
        parallel=lambda config: config.use_parallel_residual,
    ),
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
    _row(
        "clip_text", ("clip",), "text_model.embeddings.token_embedding", "text_model.encoder.layers",
        "text_model.final_layer_norm", None, "mlp.fc2", "self_attn.out_proj",
        Point("self_attn.q_proj", "output"), Point("self_attn.k_proj", "output"),
        reads="pooled", tower="text", features="get_text_features",
    ),
    _row(
        "clip_vision", ("clip",), "vision_model.pre_layrnorm", "vision_model.encoder.layers", None, None,
        "mlp.fc2", "self_attn.out_proj", Point("self_attn.q_proj", "output"), Point("self_attn.k_proj", "output"),
        reads="pooled", pixels=True, tower="vision", features="get_image_features",
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
    "it is one tower of a CLIP without the other: load the whole CLIPModel, and say which tower is meant": (
        "clip_text_model", "clip_vision_model",
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


def family_of(model_type: str, tower: str | None = None) -> Family:
    """The row of a `transformers` model type, and of one `tower` of it; raises `ModelError` naming the known ones."""
    rows = {family.tower: family for family in FAMILIES if model_type in family.model_types}
    if tower in rows:
        return rows[tower]
    if None in rows:
        raise ModelError(f"a {model_type} has one tower, and tower={tower!r} was asked for: leave it out")
    if rows:
        raise ModelError(
            f"a {model_type} has two towers, and tower={tower!r} was asked for: give one of {', '.join(rows)}, or "
            "captions={class: caption} to have images classified"
        )
    for reason, types in REFUSED.items():
        if model_type in types:
            raise ModelError(f"model type {model_type!r} cannot be measured, since {reason}")
    known = ", ".join(dict.fromkeys(t for f in FAMILIES for t in f.model_types))
    raise ModelError(
        f"no architecture row for model type {model_type!r}: known are {known}; add a row to icp/families.py"
    )
