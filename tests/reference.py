"""The naive loops that every fast path must equal.

One unit, one intervention, one example: one unbatched, unpadded, full forward pass, all logits computed, and P read off
them. Modules are looked up here, directly, and hooked with plain PyTorch, or by name through TransformerLens; nothing
of `icp.hooks`, `icp.sites` or `icp.families` is used.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

import icp

Edit = Callable[[Tensor], Tensor]
"""From a unit's values [pos, width] to new ones."""

LAYOUTS = {
    "llama": lambda m: (m.model.embed_tokens, m.model.layers, lambda b: b.mlp.down_proj, lambda b: b.self_attn.o_proj),
    "gpt2": lambda m: (m.transformer.wte, m.transformer.h, lambda b: b.mlp.c_proj, lambda b: b.attn.c_proj),
    "gpt_neo": lambda m: (
        m.transformer.wte, m.transformer.h, lambda b: b.mlp.c_proj, lambda b: b.attn.attention.out_proj
    ),
    "gpt_neox": lambda m: (
        m.gpt_neox.embed_in, m.gpt_neox.layers, lambda b: b.mlp.dense_4h_to_h, lambda b: b.attention.dense
    ),
}  # fmt: skip
LAYOUTS |= {"mistral": LAYOUTS["llama"], "qwen2": LAYOUTS["llama"]}

SPLIT = {
    "llama": lambda b: (b.self_attn.q_proj, b.self_attn.k_proj),
    "gpt_neo": lambda b: (b.attn.attention.q_proj, b.attn.attention.k_proj),
}
SPLIT |= {"mistral": SPLIT["llama"], "qwen2": SPLIT["llama"]}
"""Where queries and keys have projections of their own."""

FUSED = {"gpt2": lambda b: b.attn.c_attn, "gpt_neox": lambda b: b.attention.query_key_value}


def where_is(unit: str, d_head: int) -> tuple[str, slice]:
    """The hook point of an address, and the unit's run of the flat value axis."""
    point, index = re.fullmatch(r"(.+)\[([\d,]+)\]", str(unit)).groups()
    numbers = [int(n) for n in index.split(",")]
    if not point.endswith(("hook_z", "hook_q", "hook_k")):
        return point, slice(numbers[0], numbers[0] + 1)
    start = numbers[0] * d_head
    return point, slice(start, start + d_head) if len(numbers) == 1 else slice(
        start + numbers[1], start + numbers[1] + 1
    )


class Plain:
    """A `transformers` module, hooked with PyTorch's own hooks."""

    def __init__(self, module: nn.Module):
        self.module = module
        config = module.config
        self.d_head = config.hidden_size // config.num_attention_heads
        self._places = LAYOUTS[config.model_type](module)

    def _hook(self, point: str, see: Callable[[Tensor], Tensor | None]):
        embed, blocks, mlp, attn = self._places
        if point == "hook_embed":
            return embed.register_forward_hook(lambda m, args, output: see(output))
        block = blocks[int(point.split(".")[1])]
        if point.endswith(("hook_q", "hook_k")):
            return self._query_or_key(block, int(point.endswith("hook_k")), see)
        if point.endswith("hook_resid_post"):

            def after(module, args, output):
                if not isinstance(output, tuple):
                    return see(output)
                new = see(output[0])
                return None if new is None else (new, *output[1:])

            return block.register_forward_hook(after)
        projection = (mlp if point.endswith("mlp.hook_post") else attn)(block)

        def before(module, args):
            new = see(args[0])
            return None if new is None else (new,)

        return projection.register_forward_pre_hook(before)

    def _query_or_key(self, block: nn.Module, which: int, see: Callable[[Tensor], Tensor | None]):
        family, d_head = self.module.config.model_type, self.d_head
        if family in SPLIT:
            return SPLIT[family](block)[which].register_forward_hook(lambda m, args, output: see(output))
        heads = self.module.config.num_attention_heads
        if family == "gpt2":
            starts = [which * heads * d_head + head * d_head for head in range(heads)]
        else:
            starts = [head * 3 * d_head + which * d_head for head in range(heads)]
        columns = [start + dim for start in starts for dim in range(d_head)]

        def after(module, args, output):
            new = see(output[:, :, columns])
            if new is None:
                return None
            whole = output.clone()
            whole[:, :, columns] = new
            return whole

        return FUSED[family](block).register_forward_hook(after)

    def run(self, ids: list[int], hooks: Sequence[tuple[str, Callable[[Tensor], Tensor | None]]] = ()) -> Tensor:
        """Logits [pos, vocab]; each hook sees a point's values [1, pos, width]."""
        handles = [self._hook(point, see) for point, see in hooks]
        try:
            with torch.no_grad():
                return self.module(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()


class Lens:
    """A `TransformerBridge` or a `HookedTransformer`, through its own `run_with_hooks`."""

    def __init__(self, module: Any):
        self.module = module
        self.d_head = module.cfg.d_head

    def run(self, ids: list[int], hooks: Sequence[tuple[str, Callable[[Tensor], Tensor | None]]] = ()) -> Tensor:
        """Logits [pos, vocab]; each hook sees a point's values [1, pos, width]."""

        def flat(see):
            def hooked(value, hook):
                new = see(value.flatten(2))
                return None if new is None else new.reshape(value.shape)

            return hooked

        with torch.no_grad():
            named = [(point, flat(see)) for point, see in hooks]
            return self.module.run_with_hooks(torch.tensor([ids]), fwd_hooks=named, return_type="logits")[0]


class Naive:
    """P and dP by naive loops over `backend` (`Plain` or `Lens`).

    `partners` gives, for each example, the position of each token's partner in the counterpart, as `helpers.PARTNERS`
    does; None means that positions are the same. A resampled example is the only other one of its length.
    """

    def __init__(
        self,
        backend: Any,
        tokenizer: Any,
        probe: icp.Probe,
        property: icp.Property | None = None,
        *,
        positions: Any = "all",
        reference: icp.Probe | None = None,
        partners: Sequence[Sequence[int]] | None = None,
    ):
        self.backend, self.tokenizer, self.probe = backend, tokenizer, probe
        self.property = icp.LogitDifference() if property is None else property
        self.positions, self.partners = positions, partners
        self.inputs = [self._ids(example.text, example) for example in probe.examples]
        told = probe if reference is None else reference
        self.reference = [tokenizer(example.text)["input_ids"] for example in told.examples]
        self._values: dict[tuple, Tensor] = {}

    def _ids(self, text: str, example: icp.Example) -> list[int]:
        tail = example.answers[self.property.answer] if isinstance(self.property, icp.LogLikelihood) else ""
        return self.tokenizer(text + tail)["input_ids"]

    def values(self, ids: list[int], point: str) -> Tensor:
        """A point's values [pos, width] in the clean run."""
        if (tuple(ids), point) not in self._values:
            seen: list[Tensor] = []
            self.backend.run(ids, [(point, lambda value: seen.append(value[0].clone()))])
            self._values[tuple(ids), point] = seen[0]
        return self._values[tuple(ids), point]

    @cached_property
    def clean(self) -> np.ndarray:
        """P [example]."""
        return np.array([self._p(self.backend.run(ids), e, ids) for e, ids in enumerate(self.inputs)])

    def total(self) -> np.ndarray:
        """P(x') - P(x) [example]."""
        swapped = [self._ids(e.counterpart, e) for e in self.probe.examples]
        return np.array([self._p(self.backend.run(ids), e, ids) for e, ids in enumerate(swapped)]) - self.clean

    def dP(self, units: Sequence[str], interventions: Sequence[icp.Intervention]) -> np.ndarray:
        """dP [unit, intervention, example]."""
        return np.array([[self.joint([unit], what) for what in interventions] for unit in units])

    def joint(self, units: Sequence[str], what: icp.Intervention) -> np.ndarray:
        """dP [example] with every one of these units intervened on at once."""
        p = [self._p(self.logits(e, units, what), e, ids) for e, ids in enumerate(self.inputs)]
        return np.array(p) - self.clean

    def logits(self, example: int, units: Sequence[str], what: icp.Intervention) -> Tensor:
        """All logits [pos, vocab] of an example with these units intervened on at once."""
        return self.backend.run(self.inputs[example], [self._hook(unit, what, example) for unit in units])

    def _hook(self, unit: str, what: icp.Intervention, example: int) -> tuple[str, Callable[[Tensor], Tensor]]:
        point, columns = where_is(unit, self.backend.d_head)
        edit, edited = self._edit(unit, what, example), self._edited(example)

        def see(value: Tensor) -> Tensor:
            new = value.clone()
            new[0, edited, columns] = edit(value[0, :, columns])[edited]
            return new

        return point, see

    def _edited(self, example: int) -> Tensor:
        """Which positions [pos] of an example are edited."""
        length = len(self.tokenizer(self.probe.examples[example].text)["input_ids"])
        edited = torch.zeros(len(self.inputs[example]), dtype=torch.bool)
        if self.positions == "all":
            edited[:] = True
        elif self.positions == "last":
            edited[length - 1] = True
        elif self.positions in ("cue", "rest"):
            other = self.tokenizer(self.probe.examples[example].counterpart)["input_ids"]
            cue = torch.tensor([token not in other for token in self.inputs[example]])
            edited = cue if self.positions == "cue" else ~cue
            edited[length - 1] &= self.positions == "cue"
        else:
            edited[torch.arange(length)[slice(*self.positions)]] = True
        return edited

    def _edit(self, unit: str, what: icp.Intervention, example: int) -> Edit:
        point, columns = where_is(unit, self.backend.d_head)
        ids = self.inputs[example]
        match what:
            case icp.Mask(how="zero"):
                return torch.zeros_like
            case icp.Scale(alpha=alpha):
                return lambda old: alpha * old
            case icp.Mask(how="mean", per_position=False):
                mean = torch.cat([self.values(r, point)[:, columns] for r in self.reference]).mean(0)
                new = mean.expand(len(ids), -1)
            case icp.Mask(how="mean", per_position=True):
                longer = [[r for r in self.reference if len(r) > p] for p in range(len(ids))]
                new = torch.stack([
                    torch.stack([self.values(r, point)[p, columns] for r in rows]).mean(0)
                    for p, rows in enumerate(longer)
                ])  # fmt: skip
            case icp.Mask(how="resample"):
                (other,) = (r for i, r in enumerate(self.inputs) if i != example and len(r) == len(ids))
                new = self.values(other, point)[:, columns]
            case icp.Swap(source="counterpart"):
                row = self.probe.examples[example]
                partner = self.partners[example] if self.partners else range(len(ids))
                new = self.values(self._ids(row.counterpart, row), point)[list(partner), columns]
            case icp.Swap(source=None, example=index):
                new = self.values(self.inputs[index], point)[:, columns]
            case icp.Swap(source=source):
                lender, lent = where_is(source, self.backend.d_head)
                new = self.values(ids, lender)[:, lent]
            case _:
                edited = self._edited(example)[None]
                return lambda old: what.replace(old[None], edited)[0]
        return lambda old: new

    def _p(self, logits: Tensor, example: int, ids: list[int]) -> float:
        return p_of(self.property, logits, ids, self.probe.examples[example], self.tokenizer)


def p_of(what: icp.Property, logits: Tensor, ids: list[int], example: icp.Example, tokenizer: Any) -> float:
    """The property's definition, written out on all logits [pos, vocab] of one input."""

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    answers = [tokens(answer) for answer in example.answers]
    log_p = logits.log_softmax(-1)
    last = logits[-1]
    match what:
        case icp.LogitDifference():
            (yes,), (no,) = (last[answer] for answer in answers)
            return float(yes - no)
        case icp.Probability(answer=answer):
            return float(log_p[-1, answers[answer][0]].exp())
        case icp.ClassProbability(answer=answer):
            among = torch.cat([last[ids] for ids in answers]).softmax(0)
            return float(among[answer])
        case icp.LogLikelihood(answer=answer):
            scored = range(len(ids) - len(answers[answer]), len(ids))
            assert [ids[p] for p in scored] == answers[answer]
            return float(sum(log_p[p - 1, ids[p]] for p in scored))
        case icp.ErrorRate():
            there = logits[-1, [ids[0] for ids in answers]]
            right = there[example.label]
            return float(any(right <= other for i, other in enumerate(there) if i != example.label))
        case icp.TaskLoss():
            return -float(log_p[-1, answers[example.label][0]])
        case icp.NextTokenLoss():
            return -float(sum(log_p[p - 1, ids[p]] for p in range(1, len(ids))) / (len(ids) - 1))
    raise NotImplementedError(what)


def clustered_error(values: np.ndarray, clusters: np.ndarray) -> float:
    """The standard error of a mean clustered two ways, from sums over the members of every cluster, in loops."""
    count, around = len(values), values - values.mean()

    def clustered(keys: list) -> float:
        groups = sorted(set(keys))
        total = sum(sum(a for a, key in zip(around, keys) if key == group) ** 2 for group in groups)
        return len(groups) / (len(groups) - 1) * total / count**2

    template, word = (clustered(column.tolist()) for column in clusters.T)
    both = clustered([tuple(row) for row in clusters.tolist()])
    return float(np.sqrt(max(template + word - both, template, word)))


def erasing_matrix(model, unit, pairs, rank):
    """What erasing multiplies a unit's values by, and their mean: generalised eigenvectors of (D, S)."""
    site = model.site(unit)
    columns, members, differences = list(site.columns(unit)), [], []
    tokens = pairs.tokenize(model.tokenizer)
    for x, other, alignment in zip(tokens.inputs, tokens.counterparts, tokens.alignments):
        found = []
        for sequence in (x, other):
            seen = []
            handle = site.hook(lambda values, seen=seen: seen.append(values[0, :, columns].clone()))
            with torch.no_grad():
                model.logits(model.pad([sequence]))
            handle.remove()
            found.append(seen[0])
        members += [*found[0], *found[1]]
        differences += [found[0][here] - found[1][there] for here, there in enumerate(alignment.positions)]
    values = torch.stack(members).double().numpy()
    mean = values.mean(0)
    covariance = sum(np.outer(v - mean, v - mean) for v in values) / len(values)
    apart = sum(np.outer(d, d) for d in torch.stack(differences).double().numpy()) / len(differences)
    _, vectors = scipy.linalg.eigh(apart, covariance)  # v^T S v = 1
    read = vectors[:, -rank:]
    return np.eye(len(columns)) - read @ (covariance @ read).T, mean
