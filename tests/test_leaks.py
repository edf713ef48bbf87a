"""Contract 4: whatever happens, nothing is left behind, and the user's own hooks stay and keep working."""

import copy
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import BY_NAME, PARTNERS, bridged, hooked_transformer, make_probe, make_tokenizer, some_units
from reference import Lens, Naive, Plain
from torch.nn.modules import module as torch_module

import icp

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def same_bits(one, other):
    return torch.equal(one.flatten().view(torch.uint8), other.flatten().view(torch.uint8))


@dataclass
class Before:
    """Everything of the caller's that a measurement must leave as it was."""

    module: torch.nn.Module

    def __post_init__(self):
        self.state = self._state()
        self.tensors = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.grads = {n: None if p.grad is None else p.grad.clone() for n, p in self.module.named_parameters()}

    def _state(self):
        modules = dict(self.module.named_modules())
        config = getattr(self.module, "config", None) or self.module.cfg
        return {
            "hooks": {
                (name, kind): list(getattr(part, kind).items()) for name, part in modules.items() for kind in HOOKS
            },
            "global hooks": [list(getattr(torch_module, kind)) for kind in GLOBAL_HOOKS],
            "tensor hooks": [bool(p._backward_hooks) for p in self.module.parameters()],
            "modes": {name: part.training for name, part in modules.items()},
            "own attributes": {name: sorted(part.__dict__) for name, part in modules.items()},
            "forwards": {name: part.__dict__.get("forward") for name, part in modules.items()},
            "config": copy.deepcopy(config.to_dict()),
            "parameters": {n: (id(p), p.requires_grad, p.dtype) for n, p in self.module.named_parameters()},
            "keys": list(self.module.state_dict()),
            "grad mode": torch.is_grad_enabled(),
            "threads": torch.get_num_threads(),
        }

    def check(self):
        after = self._state()
        for what, value in self.state.items():
            assert after[what] == value, f"{what} changed"
        for name, value in self.module.state_dict().items():
            assert same_bits(value, self.tensors[name]), f"{name} changed"
        for name, parameter in self.module.named_parameters():
            before = self.grads[name]
            assert (parameter.grad is None) == (before is None), f"{name}.grad changed"
            assert before is None or torch.equal(parameter.grad, before), f"{name}.grad changed"


@dataclass(frozen=True)
class Squared(icp.Intervention):
    """Takes the hook path."""

    def replace(self, values, where):
        return values.square()


UNITS = some_units(BY_NAME["gpt_neox"])
QUIET = {"progress": False}


def exact(model):
    icp.measure(
        model, make_probe(), UNITS, [icp.Swap("counterpart"), icp.Mask("mean"), Squared()], batch_size=3, **QUIET
    )


def linear(model):
    icp.measure(model, make_probe(), UNITS, [icp.Swap("counterpart"), icp.Mask("mean")], method="linear", **QUIET)


def joint(model):
    icp.measure_sets(model, make_probe(), [UNITS[:4], UNITS[3:6]], icp.Mask("mean"), batch_size=3, **QUIET)


def ranking():
    """A ranking that no model was needed for."""
    import pandas

    chosen = UNITS[:4]
    return icp.Scores(pandas.DataFrame({"score": range(len(chosen), 0, -1)}, index=pandas.Index(chosen)), "score")


def frontier(model):
    icp.frontier(model, make_probe(), ranking(), icp.Mask("mean"), **QUIET)


def evaluate(model):
    icp.evaluate(model, make_probe(), ["gap", "accuracy", "task_loss", "next_token_loss"])


def prune(model):
    icp.prune(model, icp.Selection.of(model, UNITS[:4]))


def view(model):
    bridge = model.view()
    if bridge is not model.module:
        bridge.run_with_hooks(
            torch.tensor([[3, 4, 5]]), fwd_hooks=[("blocks.0.mlp.hook_post", lambda value, hook: value * 2)]
        )


OPERATIONS = (exact, linear, joint, frontier, evaluate, prune, view)
KINDS = ("llama", "gpt2", "bridge", "hooked_transformer")


def model_of(kind):
    """A model in train mode, one block in evaluation mode, one frozen weight, one gradient, and a user's hook."""
    if kind == "hooked_transformer":
        module = hooked_transformer("llama")
    elif kind == "bridge":
        module = bridged(BY_NAME["gpt2"].module(), make_tokenizer())
    else:
        module = BY_NAME[kind].module()
    model = icp.load(module, make_tokenizer())
    module.train()
    model.blocks[1].eval()
    parameters = list(module.parameters())
    parameters[3].requires_grad_(False)
    parameters[5].grad = torch.full_like(parameters[5], 0.5)
    return model


@contextmanager
def counting(model):
    """A user's own hook that only counts."""
    calls = []
    handle = model.blocks[1].register_forward_hook(lambda module, args, output: calls.append(1))
    yield calls
    seen = len(calls)
    with torch.no_grad():
        model.logits(model.pad([[3, 4]]))
    assert len(calls) == seen + 1, "the user's hook is gone"
    handle.remove()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_after_success(kind, operation):
    model = model_of(kind)
    with counting(model):
        before = Before(model.module)
        operation(model)
        before.check()


class Broken(Exception):
    """What a user's hook may raise."""


@pytest.mark.parametrize("error", (Broken, KeyboardInterrupt), ids=lambda e: e.__name__)
@pytest.mark.parametrize("operation", OPERATIONS[:-1], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_after_an_error_in_the_middle(kind, operation, error):
    """Raised at the first, second, third, fifth, ... pass through a block, until it is late enough to succeed."""
    model = model_of(kind)
    with counting(model):
        for fuse in (1, 2, 4, 9, 19, 40, 90):
            left = [fuse]

            def burn(module, args, left=left):
                left[0] -= 1
                if left[0] == 0:
                    raise error("burnt")

            handle = model.blocks[0].register_forward_pre_hook(burn)
            before = Before(model.module)
            if left_to_burn(model, operation, error):
                assert left[0] <= 0
            else:
                assert fuse > 1, "the fuse never burnt"
                assert left[0] > 0
            before.check()
            handle.remove()
            if left[0] > 0:
                break


def left_to_burn(model, operation, error):
    """Whether the operation ended in this error. A copy that is made while pruning has the hook too."""
    try:
        operation(model)
    except error:
        return True
    return False


def test_the_pass_that_asks_what_blocks_return_is_hidden_from_hooks():
    model, seen = BY_NAME["llama"].model(), []
    handle = model.blocks[0].register_forward_hook(lambda module, args, output: seen.append(output))
    assert model._tuple_output is False and not seen
    model.logits(model.pad([[3, 4]]))
    assert len(seen) == 1, "the hook is there again"
    handle.remove()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())


@pytest.mark.parametrize("error", (Broken, KeyboardInterrupt), ids=lambda e: e.__name__)
@pytest.mark.parametrize("measure", (icp.measure, icp.measure_sets), ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_after_an_error_inside_an_intervention(kind, measure, error):
    """The error is raised while the toolkit's own hooks are on the stack."""
    model = model_of(kind)
    calls = []

    class Failing(icp.Intervention):
        def replace(self, values, where):
            calls.append(1)
            if len(calls) == 3:
                raise error("burnt")
            return values

    units = UNITS if measure is icp.measure else [UNITS[:2], UNITS[2:4]]
    with counting(model):
        before = Before(model.module)
        with pytest.raises(error, match="burnt"):
            measure(model, make_probe(), units, Failing(), batch_size=2, **QUIET)
        assert len(calls) == 3
        before.check()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_after_nan(kind, operation):
    model = model_of(kind)
    with torch.no_grad():
        model.sites["blocks.1.mlp.hook_post"].outgoing[0, 0] = float("nan")
    with counting(model):
        before = Before(model.module)
        if operation is view:
            operation(model)
        elif operation is prune:
            with pytest.raises(icp.PruneError, match="nan"):
                operation(model)
        else:
            with pytest.raises(icp.NotFiniteError, match="nan"):
                operation(model)
        before.check()


@pytest.mark.parametrize("kind", KINDS)
def test_loading_leaves_nothing(kind):
    if kind == "hooked_transformer":
        module = hooked_transformer("llama")
    else:
        module = BY_NAME["gpt2" if kind == "bridge" else kind].module()
        module = bridged(module, make_tokenizer()) if kind == "bridge" else module
    module.train()
    module(torch.tensor([[3, 4]]))  # a bridge attaches hooks of its own in its first pass
    before = Before(module)
    icp.load(module, make_tokenizer())
    before.check()
    with torch.no_grad():
        list(module.parameters())[-1].fill_(float("nan"))
    before = Before(module)
    with pytest.raises(icp.NotFiniteError):
        icp.load(module, make_tokenizer())
    before.check()


@pytest.mark.parametrize("operation", (exact, linear, joint), ids=lambda f: f.__name__)
def test_a_model_in_train_mode_measures_as_in_evaluation_mode(operation):
    """GPT-2 has dropout, which must not act."""
    kept = []
    for training in (False, True):
        module = BY_NAME["gpt2"].module().train(training)
        model = icp.load(module, make_tokenizer())
        if operation is joint:
            kept.append(icp.measure_sets(model, make_probe(), [UNITS[:4]], icp.Mask("mean"), **QUIET).dP)
        else:
            kept.append(
                icp.measure(model, make_probe(), UNITS, icp.Mask("mean"), method=operation.__name__, **QUIET).dP
            )
        assert module.training == training
    assert np.array_equal(*kept)


def _places(case, module):
    """Where a user may have hooked: around the sites, inside the blocks, and at the residual stream."""
    layers = module.model.layers if case == "llama" else module.transformer.h
    mlp_out = (lambda b: b.mlp.down_proj) if case == "llama" else (lambda b: b.mlp.c_proj)
    attn = (lambda b: b.self_attn) if case == "llama" else (lambda b: b.attn)
    norm = module.model.norm if case == "llama" else module.transformer.ln_f
    return {
        "neurons": (mlp_out(layers[1]), "input"),
        "mlp output": (layers[1].mlp, "output"),
        "attention output": (attn(layers[0]), "output"),
        "block output": (layers[1], "output"),
        "block input": (layers[1], "input"),
        "last block output": (layers[2], "output"),
        "final norm input": (norm, "input"),
        "unembedding input": (module.lm_head, "input"),
        "logits": (module.lm_head, "output"),
    }


PLACES = (
    "neurons", "mlp output", "attention output", "block output", "block input", "last block output",
    "final norm input", "unembedding input", "logits",
)  # fmt: skip


def steer(tensor):
    """Not linear, and not the same in every dimension."""
    return torch.tanh(tensor) + 0.5 * tensor.roll(1, -1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_effects_are_those_of_the_model_with_the_users_own_hook(name, place):
    """A hook that steers the model is part of the model."""
    case = BY_NAME[name]
    module = case.module()
    target, side = _places(name, module)[place]
    calls = []

    def before(module, args):
        calls.append(1)
        return (steer(args[0]), *args[1:])

    def after(module, args, output):
        calls.append(1)
        return (steer(output[0]), *output[1:]) if isinstance(output, tuple) else steer(output)

    model = icp.load(module, make_tokenizer())
    units = [
        *some_units(case)[::2],
        *some_units(case)[7:8],
        "blocks.1.mlp.hook_post[11]",
        "blocks.1.hook_resid_post[11]",
    ]
    whats = [icp.Mask("mean"), icp.Swap("counterpart"), Squared()]
    unsteered = icp.measure(model, make_probe(), units, whats, **QUIET).dP
    handle = target.register_forward_pre_hook(before) if side == "input" else target.register_forward_hook(after)
    naive = Naive(Plain(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    want = naive.dP(units, whats)
    assert np.abs(want - unsteered).max() > 0.01, "the user's hook changed nothing"
    calls.clear()
    got = icp.measure(model, make_probe(), units, whats, batch_size=5, **QUIET)
    assert calls
    assert np.abs(got.clean - naive.clean).max() < 1e-9
    assert np.abs(got.dP - want).max() < 1e-9
    hooked_before_loading = icp.load(module, make_tokenizer())
    again = icp.measure(hooked_before_loading, make_probe(), units[-2:], whats, **QUIET)
    assert np.abs(again.dP - want[-2:]).max() < 1e-9
    sets = [units[:3], units[3:7]]
    together = icp.measure_sets(model, make_probe(), sets, whats[1], batch_size=3, **QUIET)
    assert np.abs(together.dP - np.array([naive.joint(members, whats[1]) for members in sets])).max() < 1e-9
    handle.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_left_out_unless_the_user_hooked_it(kind):
    model = model_of(kind)
    site = model.sites["blocks.1.mlp.hook_post"]
    short = {name: model.additive_entrance(site) for name, site in model.sites.items()}
    assert short == {name: site.additive_entrance for name, site in model.sites.items()}
    assert short[site.name] == 2
    with counting(model):
        assert model.additive_entrance(site) is None
        assert model.additive_entrance(model.sites["blocks.0.mlp.hook_post"]) == 1
    assert model.additive_entrance(site) == 2


NORMS = (("llama", "input_layernorm"), ("gpt2", "ln_1"), ("gpt_neox", "input_layernorm"))


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_a_users_hook_that_works_in_place_acts_once(name, norm):
    """On a norm's input it changes the residual stream beside it too."""
    case = BY_NAME[name]
    module = case.module()
    model = icp.load(module, make_tokenizer())
    units, whats = ["blocks.0.attn.hook_z[0]", "blocks.1.mlp.hook_post[5]"], [icp.Scale(1.0), icp.Mask("zero")]
    plain = icp.measure(model, make_probe(), units, whats, **QUIET).dP
    handle = model.blocks[1].get_submodule(norm).register_forward_pre_hook(lambda m, args: (args[0].mul_(1.3), None)[1])
    want = Naive(Plain(module), make_tokenizer(), make_probe(), partners=PARTNERS).dP(units, whats)
    got = icp.measure(model, make_probe(), units, whats, **QUIET).dP
    together = icp.measure_sets(model, make_probe(), [units[:1]], whats[1], **QUIET).dP
    handle.remove()
    assert np.abs(want - plain).max() > 0.01
    assert np.abs(got[:, 0]).max() == 0
    assert np.abs(got - want).max() < 1e-9
    assert np.abs(together[0] - want[0, 1]).max() < 1e-9


@pytest.mark.parametrize(
    "place", ("blocks.1.mlp.hook_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post", "unembed.hook_out")
)
@pytest.mark.parametrize("kind", ("bridge", "hooked_transformer"))
def test_effects_are_those_of_a_lens_model_with_the_users_own_hook(kind, place):
    """The same for a hook attached with TransformerLens's `add_hook`."""
    if kind == "hooked_transformer" and place.startswith("unembed"):
        pytest.skip("a HookedTransformer has no hook point there")
    module = (
        hooked_transformer("gpt2")
        if kind == "hooked_transformer"
        else bridged(BY_NAME["gpt2"].module(), make_tokenizer())
    )
    model, swap = icp.load(module, make_tokenizer()), icp.Swap("counterpart")
    units = [*UNITS, "blocks.1.mlp.hook_post[11]"]
    unsteered = icp.measure(model, make_probe(), units, swap, **QUIET)
    module.add_hook(place, lambda value, hook: steer(value), is_permanent=True)
    lens = Naive(Lens(module), make_tokenizer(), make_probe(), partners=PARTNERS)
    got = icp.measure(model, make_probe(), units, swap, **QUIET)
    assert np.abs(got.dP - unsteered.dP).max() > 0.01
    assert np.abs(got.dP - lens.dP(units, [swap])).max() < 1e-9
