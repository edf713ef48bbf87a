"""What a row of `icp.families` says of an architecture: where its blocks, projections and norms are, and its answer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn


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
    `"first"` of a classifier; `"mean"` of a model without a head, whose output is the mean over attended tokens;
    `"pooled"` of one that makes a representation itself; `"captions"` where that of an image is compared with those of
    captions, one a class, which the text tower has `abreast`. `first_position` is the number of the first token's
    position.

    `tower` names which of a model's two towers the row is about (CLIP): `config` is then that tower's, `features` the
    method of the module that gives its representations, and the names of its sites begin with it.

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
    tower: str | None = None
    features: str | None = None

    @property
    def cut_to_first(self) -> bool:
        """Whether the last block gives on only the first token, which padding on the left would move."""
        return self.reads == "first" and not self.pixels

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it, and the answer is read at the last one."""
        return self.reads in ("next", "last")

    @property
    def whole_after(self) -> bool:
        """Whether what the last block gives goes on whole, into a module at which it can be handed in."""
        return self.after is not None and not self.cut_to_first

    @property
    def one_output(self) -> bool:
        """Whether a row of tokens has one output, and not one a position."""
        return self.reads in ("first", "captions") or self.represents

    @property
    def represents(self) -> bool:
        """Whether the output is a representation, and not logits."""
        return self.reads in ("mean", "pooled")

    def headless(self) -> "Family":
        """The row of an encoder's blocks alone, which lie at the root of their module."""
        root = f"{self.embed.partition('.')[0]}."
        embed, blocks = self.embed.removeprefix(root), self.blocks.removeprefix(root)
        return replace(self, embed=embed, blocks=blocks, after=None, unembed=None, reads="mean")

    @property
    def of_patches(self) -> bool:
        """Whether its tokens are patches of images, and a class token."""
        return self.pixels and not self.abreast

    @property
    def abreast(self) -> bool:
        """Whether a row holds the captions of all classes side by side, about one image."""
        return self.reads == "captions" and self.tower == "text"

    def captioned(self) -> "Family":
        """The row of a tower under captions of classes: the inputs of either are images."""
        row = replace(self, reads="captions", pixels=True)
        return replace(row, attention=None, positionwise=()) if row.abreast else row

    def classifying(self) -> "Family":
        """The row of the same blocks under a classification head."""
        head = self.classifier
        return replace(self, unembed=head.unembed, after=head.after or self.after, reads=head.reads)


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
