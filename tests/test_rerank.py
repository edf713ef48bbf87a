"""Re-ranking while training: against the measured estimate, and that what is chosen is kept over a resumption."""

import dataclasses

import pytest
import torch
from helpers import BY_NAME, EQUAL_PAIRS, PAIRS
from peft import LoraConfig, get_peft_model
from training import batch_step

import icp
from icp.losses import Losses
from icp.rerank import live_indirect_effects
from icp.step import Objective

ANSWERS = (" she", " he")
UNEQUAL = [pair for number, pair in enumerate(PAIRS) if number in (0, 2, 3)]


def rows(pairs=(*EQUAL_PAIRS, *UNEQUAL)):
    return icp.Probe(tuple(icp.Example(x, other, ANSWERS, label=i % 2) for i, (x, other) in enumerate(pairs)))


def adapted(model, dropout=0.0):
    """Adapters that do something, on a copy of the module."""
    adapters = get_peft_model(
        model.copy().module, LoraConfig(r=4, target_modules="all-linear", lora_dropout=dropout, task_type="CAUSAL_LM")
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapters.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapters


@dataclasses.dataclass(frozen=True)
class Looks(Objective):
    """Takes the indirect effects where a step would, and keeps them."""

    found: list = dataclasses.field(default_factory=list)
    units: tuple = ()
    batch_size: int = 2

    def penalty(self, step):
        self.found.append(live_indirect_effects(step, self.units, range(len(step.rows)), self.batch_size))
        assert step.model.module.training
        return step.logits.new_zeros(())


@pytest.mark.parametrize("name", ("llama", "gpt2", "qwen2"))
def test_it_is_the_measured_first_order_indirect_effect_of_the_merged_model(name):
    """In float64, with dropout on while training, and in batches of padded rows; heads, neurons, dimensions."""
    model = BY_NAME[name].model()
    units = (*model.units("head")[:-1], *model.units("neuron", layers=[0, 1]), *model.units("resid", layers=[0]),
             model.units("value")[-3], model.units("value")[-1], *model.units("embed"))  # fmt: skip
    adapters = adapted(model, dropout=0.3).train()
    looks = Looks(units=units)
    losses = Losses.of(model, rows(), looks).on(adapters)
    loss = losses.step([0, 1], 0, adapters)
    loss.total.backward()
    merged = dataclasses.replace(model, module=adapters.merge_and_unload().eval())
    effects = icp.measure(merged, rows(), units, icp.Swap("counterpart"), method="linear", progress=False)
    want = icp.indirect_effect(effects).table["indirect_effect"]
    got = looks.found[0].tolist()
    assert got == pytest.approx([want[str(unit)] for unit in units], abs=1e-4 * float(want.abs().max()))
    assert want.abs().max() > 0.01


def test_of_a_completion_it_is_the_slope_of_the_mean_log_odds():
    """Against central differences, a fraction of the swap at a time, of one unit of each site."""
    model = BY_NAME["llama"].model()
    pairs = [icp.Example(x, other, (" went home",)) for x, other in EQUAL_PAIRS[:1]]
    step = batch_step(model, icp.Probe(tuple(pairs)))
    units = [icp.Unit.parse(unit) for unit in ("blocks.0.attn.hook_z[1]", "blocks.1.mlp.hook_post[7]")]
    found = live_indirect_effects(step, units, [0], 1)

    def p(edit=None, unit=None, batch=step.batch, reads=step.reads):
        handle = None if edit is None else model.site(unit).hook(edit)
        try:
            logits = step.run(batch, reads).detach()
        finally:
            if handle is not None:
                handle.remove()
        q = logits.softmax(-1)[torch.arange(len(logits)), step.targets]
        return float((q / (1 - q)).log().mean())

    other = step.counterparts
    share = 1e-3  # norms work in float32
    sign = 1 if p(batch=other.batch, reads=other.reads(step.reads)) > p() else -1
    for unit, value in zip(units, found.tolist()):
        columns, seen = list(model.site(unit).columns(unit)), []
        p(lambda values, columns=columns, seen=seen: seen.append(values[..., columns].clone()), unit, other.batch,
          other.reads(step.reads))  # fmt: skip

        def part(values, share, columns=columns, seen=seen):
            new = values.clone()
            new[..., columns] += share * (seen[0] - values[..., columns])
            return new

        slope = (p(lambda v: part(v, share), unit) - p(lambda v: part(v, -share), unit)) / (2 * share)
        assert value == pytest.approx(sign * slope, rel=1e-2) and abs(value) > 0.01


def test_the_top_units_are_chosen_and_kept_until_the_next_time():
    model = BY_NAME["llama"].model()
    candidates = [*model.units("head"), *model.units("neuron")]
    invariance = icp.Invariance(candidates, rerank=icp.Rerank(every=3, top=5, rows=100))
    step = batch_step(model, rows(), invariance, number=4)
    effects = live_indirect_effects(step, candidates, range(len(step.rows)), 8)
    best = [candidates[i] for i in effects.argsort(descending=True)[:5].tolist()]
    loss = invariance.penalty(step).item()
    assert [candidates[i] for i in step.state["chosen"].tolist()] == sorted(best, key=candidates.index)
    assert loss == pytest.approx(icp.Invariance(best).penalty(batch_step(model, rows(), number=4)).item(), rel=1e-9)
    step.state["chosen"].copy_(torch.arange(5))
    for number, again in ((4, False), (6, False), (7, True)):
        invariance.penalty(dataclasses.replace(step, number=number))
        assert (step.state["chosen"].tolist() != list(range(5))) == again
    assert step.state["since"].item() == 7


def test_rows_are_drawn_by_the_seed_and_anew_each_time():
    model = BY_NAME["llama"].model()
    candidates = [*model.units("head"), *model.units("neuron")]

    def chosen(seed, number):
        invariance = icp.Invariance(candidates, rerank=icp.Rerank(every=1, top=9, rows=1), seed=seed)
        step = batch_step(model, rows(), invariance, number=number)
        invariance.penalty(step)
        return step.state["chosen"].tolist()

    assert chosen(0, 0) == chosen(0, 0)
    assert len({tuple(chosen(seed, number)) for seed in (0, 1, 2) for number in (0, 1, 2)}) > 3


class Stop(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Dying(Objective):
    def penalty(self, step):
        if step.number == Dying.at:
            raise Stop
        return step.logits.new_zeros(())


def test_a_killed_run_goes_on_with_what_was_chosen(tmp_path):
    """Every 4 steps, killed after the checkpoint at step 6, so that the choice of step 4 has to be remembered."""
    model = BY_NAME["llama"].model(torch.float32)
    lora = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.2, task_type="CAUSAL_LM")
    arguments = {"num_train_epochs": 3, "per_device_train_batch_size": 2, "learning_rate": 3e-2, "logging_steps": 1}
    candidates = [*model.units("head"), *model.units("neuron")]
    invariance = icp.Invariance(candidates, rerank=icp.Rerank(every=4, top=6, rows=3))
    options = {"lora": lora, "objective": Dying(), "invariance": invariance, "arguments": arguments, "progress": False}

    def losses(found):
        return [entry["loss"] for entry in found.tuning.history]

    Dying.at = None
    whole = icp.finetune(model, rows(), folder=tmp_path / "whole", **options)
    Dying.at = 7
    with pytest.raises(Stop):
        icp.finetune(model, rows(), folder=tmp_path / "killed", **options)
    assert (tmp_path / "killed" / "checkpoint-6").is_dir()
    Dying.at = None
    resumed = icp.finetune(model, rows(), folder=tmp_path / "killed", **options)
    assert losses(resumed) == losses(whole)
    assert all(torch.equal(a, b) for a, b in zip(whole.module.parameters(), resumed.module.parameters()))
    never = dataclasses.replace(invariance, rerank=icp.Rerank(every=100, top=6, rows=3))
    once = icp.finetune(model, rows(), **options | {"invariance": never})
    assert losses(once)[:4] == losses(whole)[:4] and losses(once)[4:] != losses(whole)[4:]


@pytest.mark.parametrize(
    ("make", "says"),
    (
        (lambda: icp.Rerank(every=0, top=1), "every=0 of Rerank is not a whole number"),
        (lambda: icp.Rerank(every=1, top=-3), "top=-3 of Rerank is not a whole number"),
        (lambda: icp.Invariance(["hook_embed[0]"], rerank=icp.Rerank(1, 2)), "top=2 of Rerank is more than the 1 cand"),
        (lambda: icp.Invariance([f"hook_embed[{i}]" for i in range(3)], rerank=icp.Rerank(1, 2), units_per_step=3),
         "units_per_step=3 is not between 1 and the 2 units"),
    ),
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(make, says):
    with pytest.raises(icp.IcpError, match=says):
        make()


def test_it_needs_counterparts_whatever_the_interventions():
    model = BY_NAME["llama"].model()
    alone = icp.Probe(tuple(dataclasses.replace(example, counterpart=None) for example in rows().examples))
    invariance = icp.Invariance(model.units("head"), interventions=icp.Mask("zero"), rerank=icp.Rerank(1, 2))
    with pytest.raises(icp.ProbeError, match=r"row 0 .* has no counterpart, which re-ranking needs"):
        Losses.of(model, alone, invariance)
