"""The regulariser: contract 10 in training, its parts against naive runs, what it refuses, and that it works."""

import math
from dataclasses import dataclass

import pytest
import torch
from helpers import BY_NAME, CASES, EQUAL_PAIRS, PAIRS
from training import batch_step, gradients

import icp
from icp.divergence import cosine, js, kl
from icp.pairs import Pairs

ANSWERS = (" she", " he")
SWAP = icp.Swap("counterpart")


def probe_of(pairs):
    rows = [
        icp.Example(x, other, ANSWERS, label=number % 2, group=str(number % 2))
        for number, (x, other) in enumerate(pairs)
    ]
    return icp.Probe(tuple(rows))


def everyone(model):
    return [*model.units("head"), *model.units("neuron")]


def answers_of(model, text, hooks=()):
    """The answers' logits after one text, run by itself."""
    handles = [site.hook(edit) for site, edit in hooks]
    try:
        logits = model.module(torch.tensor([model.tokenizer(text)["input_ids"]])).logits
    finally:
        for handle in handles:
            handle.remove()
    return logits[0, -1, [model.tokenizer(answer)["input_ids"][0] for answer in ANSWERS]]


def consistency(model, probe):
    """KL(sg f(x) || f(x')) over the answers, averaged over rows, in nats."""
    total = 0.0
    for example in probe.examples:
        clean, other = (answers_of(model, text) for text in (example.text, example.counterpart))
        log_p, log_q = clean.detach().log_softmax(-1), other.log_softmax(-1)
        total = total + (log_p.exp() * (log_p - log_q)).sum()
    return total / len(probe)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_over_everything_it_is_consistency_in_loss_and_gradient(name):
    model, probe, atol = BY_NAME[name].model(), probe_of(EQUAL_PAIRS[:2]), BY_NAME[name].atol
    loss = icp.Invariance(everyone(model)).penalty(batch_step(model, probe))
    expected = consistency(model, probe)
    assert expected > 100 * atol
    assert abs(loss - expected) < atol
    got, want = gradients(model, loss), gradients(model, expected)
    assert max(float(g.abs().max()) for g in want.values()) > 100 * atol
    for parameter in want:
        assert float((got[parameter] - want[parameter]).abs().max()) < 10 * atol, parameter


def test_a_detached_swap_gives_what_writes_the_cue_no_gradient():
    """Over all heads and neurons, a detached swap gives the first block's queries none: nothing that is left reads
    them. The live one does."""
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    step = batch_step(model, probe)
    query = model.module.model.layers[0].self_attn.q_proj.weight
    assert gradients(model, icp.Invariance(everyone(model)).penalty(step))[
        "model.layers.0.self_attn.q_proj.weight"
    ].abs().max() > 1e-6  # fmt: skip
    stored = {}
    for name in {unit.site for unit in everyone(model)}:
        stored[name] = model.sites[name]
    values = {}
    handles = [site.hook(lambda v, name=name: values.update({name: v.detach()})) for name, site in stored.items()]
    model.module(torch.tensor([model.tokenizer(example.counterpart)["input_ids"] for example in probe.examples[:1]]))
    for handle in handles:
        handle.remove()
    swapped = answers_of(
        model, probe.examples[0].text, [(site, lambda v, name=name: values[name]) for name, site in stored.items()]
    )
    loss = kl(answers_of(model, probe.examples[0].text).detach()[None], swapped[None]).sum()
    found = torch.autograd.grad(loss, [query], allow_unused=True)[0]
    assert found is None or not found.any()


@dataclass(frozen=True)
class Halved(icp.Intervention):
    def replace(self, values, where):
        return values / 2


def seen(model, text, site, columns):
    """A site's values [pos, width] in a clean run of one text."""
    kept = []
    answers_of(model, text, [(site, lambda values: kept.append(values[0, :, columns]))])
    return kept[0]


def naive_edit(model, unit, what, probe, row):
    """A hook that does `what` to a unit in one text's run, with the mean over all texts of the probe."""
    example, site, columns = probe.examples[row], model.site(unit), list(model.site(unit).columns(unit))

    def edit(values):
        new = values.clone()
        match what.label:
            case "mask:zero":
                new[0, :, columns] = 0
            case "scale:0.5" | "Halved()":
                new[0, :, columns] = values[0, :, columns] / 2
            case "swap:counterpart":
                new[0, :, columns] = put[0]
            case _:
                new[0, :, columns] = put[1]
        return new

    lender = model.site("blocks.0.attn.hook_z[0]")
    put = seen(model, example.counterpart, site, columns), seen(model, example.text, lender, list(range(8)))
    if what.label != "mask:mean":
        return site, edit
    mean = torch.cat([seen(model, other.text, site, columns).detach() for other in probe.examples]).mean(0)
    return site, lambda values: values.index_copy(2, torch.tensor(columns), mean.expand(1, values.shape[1], -1))


WHATS = (icp.Mask("zero"), icp.Mask("mean"), icp.Scale(0.5), SWAP, icp.Swap("blocks.0.attn.hook_z[0]"), Halved())


@pytest.mark.parametrize("divergence", ("kl", "js"))
@pytest.mark.parametrize("what", WHATS, ids=lambda what: what.label)
def test_it_is_the_divergence_of_naive_runs_in_loss_and_gradient(what, divergence):
    """Texts of several lengths in one batch, each against a run by itself."""
    model = BY_NAME["llama"].model()
    probe = probe_of((*EQUAL_PAIRS[:2], ("The nurse said", "The doctor said")))
    units = [model.units("head")[i] for i in (1, 2, 9)]
    invariance = icp.Invariance(units, weight=3.0, interventions=what, divergence=divergence)
    loss = invariance.penalty(batch_step(model, probe, invariance))
    expected = 0.0
    for row, example in enumerate(probe.examples):
        other = answers_of(model, example.text, [naive_edit(model, unit, what, probe, row) for unit in units])
        clean = answers_of(model, example.text).detach()
        expected = expected + {"kl": kl, "js": js}[divergence](clean[None], other[None]).sum() / len(probe)
    assert expected > 1e-6
    assert loss.item() == pytest.approx(3 * expected.item(), rel=1e-9)
    got, want = gradients(model, loss), gradients(model, 3 * expected)
    largest = max(float(gradient.abs().max()) for gradient in want.values())
    difference = max(float((got[name] - want[name]).abs().max()) for name in want)
    assert difference < 1e-6 * largest  # norms work in float32, and a batch rounds otherwise than a row


def test_pairs_of_unequal_length_swap_at_their_partners():
    model = BY_NAME["llama"].model()
    unequal = [pair for pair in PAIRS if len(set(len(model.tokenizer(text)["input_ids"]) for text in pair)) == 2]
    probe = probe_of([unequal[0], unequal[0][::-1]])
    units = model.units("head")[:3]
    invariance = icp.Invariance(units)
    loss = invariance.penalty(batch_step(model, probe)).item()
    swapped = icp.measure_sets(model, probe, [units], SWAP, progress=False)
    clean = torch.tensor(swapped.clean)
    edited = torch.tensor(swapped.dP[0]) + clean
    two = [torch.stack([value, torch.zeros_like(value)], -1) for value in (clean, edited)]
    assert loss == pytest.approx(float(kl(*two).mean()), rel=1e-6) and loss > 1e-9


def test_js_is_symmetric_and_bounded_and_kl_is_not_symmetric():
    p, q = torch.tensor([[50.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 50.0], [0.0, 0.5]])
    assert torch.allclose(js(p, q), js(q, p)) and float(js(p, q)[0]) == pytest.approx(math.log(2))
    assert not torch.allclose(kl(p, q)[1], kl(q, p)[1])
    assert float(kl(p, p).abs().max()) == float(js(p, p).abs().max()) == 0


@pytest.mark.parametrize("representation", (None, "blocks.1.hook_resid_post"))
def test_a_representation_is_compared_where_the_answer_is_read(representation):
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    site = model.sites[representation or "blocks.2.hook_resid_post"]
    invariance = icp.Invariance(
        model.units("head", layers=[0]),
        divergence="cosine",
        representation=representation,
        interventions=icp.Scale(0.0),
    )
    loss = invariance.penalty(batch_step(model, probe, invariance)).item()
    heads = model.sites["blocks.0.attn.hook_z"]
    total = 0.0
    for example in probe.examples:
        kept = []
        for hooks in ([], [(heads, torch.zeros_like)]):
            answers_of(model, example.text, [*hooks, (site, lambda v, kept=kept: kept.append(v[:, -1]))])
        total += cosine(*kept).item() / len(probe)
    assert loss == pytest.approx(total, rel=1e-9) and loss > 1e-3


def test_contrastive_is_least_where_each_row_is_nearest_its_own():
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])

    def loss(**options):
        invariance = icp.Invariance(model.units("head"), divergence="contrastive", **options)
        return invariance.penalty(batch_step(model, probe, invariance)).item()

    near = loss(interventions=icp.Scale(1.0), temperature=0.01)
    assert 0 <= near < loss(interventions=icp.Scale(1.0)) < math.log(len(probe))
    assert loss(interventions=icp.Mask("zero")) > loss(interventions=icp.Scale(1.0))


def test_units_and_interventions_are_drawn_anew_at_each_step_and_alike_in_each_run():
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    options = {"units_per_step": 2, "interventions": (SWAP, icp.Mask("zero"))}

    def losses(seed):
        invariance = icp.Invariance(everyone(model), seed=seed, **options)
        return [invariance.penalty(batch_step(model, probe, number=number)).item() for number in range(6)]

    assert losses(0) == losses(0) != losses(1)
    assert len(set(losses(0))) == 6


def test_the_mean_over_single_units_is_what_one_unit_a_step_estimates():
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    units = model.units("head")[:3]
    each = [icp.Invariance([unit]).penalty(batch_step(model, probe)).item() for unit in units]
    one = icp.Invariance(units, units_per_step=1)
    drawn = {round(one.penalty(batch_step(model, probe, number=number)).item(), 12) for number in range(30)}
    assert drawn == {round(value, 12) for value in each}


def checkpointing(module, reentrant=False):
    """Turn activation checkpointing on, by the name that this version of transformers has for it."""
    enable = getattr(module, "activation_checkpointing_enable", module.gradient_checkpointing_enable)
    enable({"use_reentrant": reentrant})


def checkpointed(part):
    return getattr(part, "gradient_checkpointing", False)


def hooks_of(module):
    return [(*part._forward_hooks, *part._forward_pre_hooks) for part in module.modules()]


@pytest.mark.parametrize("what", (SWAP, icp.Mask("mean")), ids=lambda what: what.label)
@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_activation_checkpointing_changes_nothing(name, what):
    model, probe = BY_NAME[name].model(), probe_of(EQUAL_PAIRS[:2])
    model.module.train()
    for part in model.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if hasattr(part, "attn_pdrop"):
            part.attn_pdrop = 0.0
    model.config.attn_pdrop = 0.0
    invariance = icp.Invariance(everyone(model), interventions=what)
    plain = batch_step(model, probe, invariance)
    want = gradients(model, invariance.penalty(plain) + plain.row_losses.mean())
    checkpointing(model.module)
    before = hooks_of(model.module)
    step = batch_step(model, probe, invariance)
    got = gradients(model, invariance.penalty(step) + step.row_losses.mean())
    assert max(float((got[name] - want[name]).abs().max()) for name in want) < 1e-12
    assert hooks_of(model.module) == before
    functions = {part._gradient_checkpointing_func for part in model.module.modules() if checkpointed(part)}
    assert len(functions) == 1, "each block's own function is back"


def test_checkpointing_that_would_detach_the_swap_is_refused():
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    model.module.train()
    checkpointing(model.module, reentrant=True)
    before = hooks_of(model.module)
    with pytest.raises(icp.ModelError, match="use_reentrant=True would detach what is swapped in"):
        batch_step(model, probe, icp.Invariance(model.units("head")))
    assert hooks_of(model.module) == before


def test_units_that_were_pruned_are_refused():
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    selection = icp.Selection.of(model, model.units("head")[:2])
    pruned = icp.prune(model, selection)
    with pytest.raises(icp.UnitError, match=r"2 of the units, such as .* were pruned from"):
        batch_step(pruned, probe, icp.Invariance(selection))


@pytest.mark.parametrize("kinds", (("head", "neuron"), ("neuron", "head")))
def test_a_swap_with_a_unit_of_another_width_is_refused(kinds):
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    unit, lender = (model.units(kind)[3] for kind in kinds)
    with pytest.raises(icp.UnitError, match="cannot swap a unit of width"):
        batch_step(model, probe, icp.Invariance([unit], interventions=icp.Swap(lender)))


def test_the_label_tells_one_from_another_and_is_short():
    model = BY_NAME["llama"].model()
    whole = everyone(model)
    some = [icp.Invariance(whole), icp.Invariance(whole[1:]), icp.Invariance(whole, weight=0.5),
            icp.Invariance(whole, interventions=icp.Mask("zero")), icp.Invariance(whole, units_per_step=3)]  # fmt: skip
    assert len({invariance.label for invariance in some}) == len(some)
    assert icp.Invariance(list(whole)).label == some[0].label
    assert max(len(invariance.label) for invariance in some) < 250


def test_a_selection_gives_those_that_are_to_be_regularised():
    model = BY_NAME["llama"].model()
    units = model.units("head")[:3]
    choices = (icp.Choice(units[0], "prune"), icp.Choice(units[1], "regularise"), icp.Choice(units[2], "regularise"))
    assert icp.Invariance(icp.Selection(choices, model.binding)).units == tuple(units[1:])
    assert icp.Invariance(icp.Selection(choices[:1], model.binding)).units == (units[0],)


def bad(model, **options):
    units = options.pop("units", ["blocks.0.attn.hook_z[1]"])
    train = options.pop("train", probe_of(EQUAL_PAIRS[:2]))
    return icp.finetune(model, train, invariance=icp.Invariance(units, **options), progress=False)


NONE = icp.Probe.from_texts([{"text": "The nurse said", "label": 0}, {"text": "The doctor said", "label": 1}], ANSWERS)
LEFT_OUT = probe_of([("The nurse said that", "The carpenter said that"), ("The old nurse said", "The nurse said")])


@pytest.mark.parametrize(
    ("options", "says"),
    (
        ({"units": []}, "at least one unit"),
        ({"interventions": ()}, "at least one unit and one intervention"),
        ({"weight": -1.0}, "weight=-1.0"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"divergence": "l2"}, "unknown divergence 'l2': use one of kl, js, cosine, contrastive"),
        ({"units_per_step": 2}, "units_per_step=2 is not between 1 and the 1 units"),
        ({"representation": "blocks.0.hook_resid_post"}, "goes with cosine or contrastive"),
        ({"divergence": "cosine", "representation": "blocks.9.hook_resid_post"}, "no residual stream"),
        ({"interventions": icp.Mask("resample")}, "cannot be trained with"),
        ({"interventions": icp.Mask("mean", per_position=True)}, "cannot be trained with"),
        ({"interventions": icp.Erase()}, "erase:1 cannot be trained with"),
        ({"units": ["blocks.7.attn.hook_z[0]"]}, "no site"),
        ({"units": ["blocks.0.attn.hook_z[1]", "blocks.0.attn.hook_z[1,3]"]}, "cover"),
        ({"train": NONE}, "row 0 .*has no counterpart"),
        ({"train": LEFT_OUT}, "row 1 .*cannot be swapped with its counterpart: .*leaves them out"),
        (
            {"train": icp.FlippingPairs(probe_of(EQUAL_PAIRS[:2]), (1, 0))},
            "needs label-preserving pairs and was given label-flipping ones",
        ),
    ),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_before_anything_is_trained(options, says, monkeypatch):
    model = BY_NAME["llama"].model(torch.float32)
    monkeypatch.setattr("icp.adapters.adapted", lambda *given: pytest.fail("adapters were put on"))
    with pytest.raises(icp.IcpError, match=says):
        bad(model, **options)


def test_a_pair_is_of_one_kind_and_says_what_it_lacks():
    probe = probe_of(EQUAL_PAIRS[:2])
    for make, says in (
        (lambda: Pairs(probe), "make PreservingPairs or FlippingPairs"),
        (lambda: icp.PreservingPairs(NONE), "row 0 .* has no counterpart"),
        (lambda: icp.FlippingPairs(probe, (1,)), "1 flipped labels were given for 2 pairs"),
        (lambda: icp.FlippingPairs(probe, (0, 0)), "that is a label-preserving pair"),
        (lambda: icp.FlippingPairs(probe, (2, 0)), "indices into its answers"),
    ):
        with pytest.raises(icp.ProbeError, match=says):
            make()


def test_a_selection_of_another_model_is_refused():
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    other = BY_NAME["llama"].model(seed=1)
    selection = icp.Selection.of(other, other.units("head")[:3], "regularise")
    with pytest.raises(icp.ArtefactError, match=r"made on another weights .*weights='any'"):
        batch_step(model, probe, icp.Invariance(selection))
    batch_step(model, probe, icp.Invariance(selection, weights="any"))
    gpt2 = BY_NAME["gpt2"].model()
    foreign = icp.Selection.of(gpt2, gpt2.units("head")[:3], "regularise")
    with pytest.raises(icp.ArtefactError, match="made on another architecture"):
        batch_step(model, probe, icp.Invariance(foreign, weights="any"))


def test_what_a_selection_cut_itself_is_its_own():
    """Prune what is extreme, regularise what is moderate, in one line."""
    model, probe = BY_NAME["llama"].model(), probe_of(EQUAL_PAIRS[:2])
    first, second = model.units("head")[:2]
    mixed = icp.Selection(
        (icp.Choice(first, "prune", 0.0, (0.5,) * 8), icp.Choice(second, "regularise")), model.binding
    )
    pruned = icp.prune(model, mixed)
    invariance = icp.Invariance(mixed)
    assert invariance.units == (second,)
    batch_step(pruned, probe, invariance)
    elsewhere = icp.prune(model, icp.Selection.of(model, [first]))
    with pytest.raises(icp.ArtefactError, match="made on another"):
        batch_step(elsewhere, probe, invariance)
