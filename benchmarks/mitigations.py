"""What the table compares: one function a method, from a trial to a model, and the settings among which each is tuned.

Every method has the base model, the training rows, two small sets of rows where the cue says nothing of the label (to
rank units or fit a last layer on, and to select on), and the same LoRA, learning rate and number of epochs.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import planted_cue
from peft import LoraConfig

import icp
from icp import baselines
from icp.adapters import default_lora
from icp.sweep.plan import clean_values


@dataclass(frozen=True, eq=False)
class Trial:
    """One seed: the splits as probes, and the plainly fine-tuned model in which units are ranked."""

    base: icp.Model
    splits: planted_cue.Splits
    seed: int
    agree: float
    named: str
    arguments: Mapping[str, Any]
    folder: Path
    spent: dict[str, float] = field(default_factory=dict)

    @cached_property
    def train(self) -> icp.PreservingPairs:
        return icp.PreservingPairs(planted_cue.agreeing(self.splits.train, self.agree, self.seed, self.named))

    @cached_property
    def rank(self) -> icp.Probe:
        """Every sentence once with each value of the cue."""
        return planted_cue.both(self.splits.rank, self.named)

    @cached_property
    def select(self) -> icp.Probe:
        return planted_cue.both(self.splits.select, self.named)

    @cached_property
    def pairs(self) -> icp.Probe:
        """Every sentence to rank on once, with its counterpart."""
        return icp.Probe(self.rank.examples[::2])

    @cached_property
    def unpaired(self) -> icp.Probe:
        """The training rows without their counterparts."""
        return icp.Probe(tuple(replace(example, counterpart=None) for example in self.train.probe.examples))

    def tune(
        self, name: str, model: icp.Model | None = None, arguments: Mapping[str, Any] | None = None,
        train: icp.Probe | None = None, **options: Any,
    ) -> icp.Model:  # fmt: skip
        """A fine-tuned copy, of the base model unless another is given; the same call takes it from the folder."""
        return self.timed(name, lambda: icp.finetune(
            self.base if model is None else model, self.train if train is None else train,
            arguments=dict(self.arguments) | {"save_strategy": "no"} | dict(arguments or {}),
            folder=self.folder / name, seed=self.seed, progress=False, **options,
        ))  # fmt: skip

    def timed(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives; `spent` notes the seconds that it took when what it keeps in the folder was made."""
        start, kept = time.perf_counter(), self.folder / f"{name}-seconds.json"
        found = make()
        if not kept.exists():
            kept.write_text(json.dumps(time.perf_counter() - start))
        self.spent[name] = json.loads(kept.read_text())
        return found

    @cached_property
    def erm(self) -> icp.Model:
        return self.tune("erm")

    @cached_property
    def cue(self) -> icp.Effects:
        """The cue's indirect effects in the plainly fine-tuned model, to first order, of all heads and neurons."""
        return self._effects("cue", self.pairs, icp.Swap("counterpart"), icp.LogitDifference())

    @cached_property
    def cost(self) -> icp.Effects:
        """What mean masks cost there where the cue says nothing, to first order, in nats."""
        return self._effects("cost", self.rank, icp.Mask("mean"), icp.TaskLoss())

    def _effects(self, name: str, probe: icp.Probe, what: icp.Intervention, property: icp.Property) -> icp.Effects:
        tuned, units = self.erm, self.base.units("head", "neuron")
        return self.timed(name, lambda: icp.measure(
            tuned, probe, units, what, property=property, method="linear", store=self.folder / f"{name}.zarr",
            progress=False,
        ))  # fmt: skip

    @cached_property
    def ranking(self) -> icp.Scores:
        return icp.indirect_effect(self.cue)

    def heads(self, count: int) -> list[icp.Unit]:
        """Those of largest indirect effect."""
        return [unit for unit in self.ranking.units if unit.kind == "head"][:count]

    def cuts(self, what: str, count: int) -> icp.Selection:
        """In the plainly fine-tuned model: one direction of `count` heads each, or the `count` most selective units."""
        if what == "directions":
            return icp.erasure(self.erm, self.heads(count), self.pairs)
        ranked = icp.selectivity(self.cue, self.cost, max_damage=0.02).head(count)
        frontier = icp.frontier(
            self.erm, self.pairs.take(8), ranked, icp.Mask("mean"), sizes=[len(ranked.units)], reference=self.rank,
            progress=False,
        )  # fmt: skip
        return frontier.select(top=len(ranked.units))

    def chosen(self, count: int) -> list[icp.Unit]:
        return self.ranking.units[:count]

    def by_chance(self, count: int) -> list[icp.Unit]:
        """As many heads and as many neurons as among the best, drawn at random."""
        draw, best = random.Random(f"units {self.seed}"), self.chosen(count)
        heads = sum(unit.kind == "head" for unit in best)
        return draw.sample(self.base.units("head"), heads) + draw.sample(self.base.units("neuron"), count - heads)


def base(trial: Trial) -> icp.Model:
    return trial.base


def erm(trial: Trial) -> icp.Model:
    return trial.erm


def weight_decay(trial: Trial, decay: float, dropout: float) -> icp.Model:
    config: LoraConfig = default_lora(trial.base)
    config.lora_dropout = dropout
    return trial.tune(f"weight_decay-{decay}-{dropout}", lora=config, arguments={"weight_decay": decay})


def cda(trial: Trial) -> icp.Model:
    return trial.tune("cda", objective=baselines.CounterfactualAugmentation())


def consistency(trial: Trial, weight: float) -> icp.Model:
    return trial.tune(f"consistency-{weight}", objective=baselines.Consistency(weight))


def logit_pairing(trial: Trial, weight: float) -> icp.Model:
    return trial.tune(f"logit_pairing-{weight}", objective=baselines.LogitPairing(weight))


def adversarial(trial: Trial, alpha: float) -> icp.Model:
    return trial.tune(f"adversarial-{alpha}", objective=baselines.Adversarial(alpha))


def mmd(trial: Trial, weight: float) -> icp.Model:
    """The names are drawn given the labels, so that what a sentence says is independent of the name given the label."""
    return trial.tune(f"mmd-{weight}", objective=baselines.MMD("anti-causal", weight))


def ipw(trial: Trial) -> icp.Model:
    return trial.tune("ipw", objective=baselines.InversePropensity())


def group_dro(trial: Trial, step_size: float) -> icp.Model:
    return trial.tune(f"group_dro-{step_size}", objective=baselines.GroupDRO(step_size))


def jtt(trial: Trial, upweight: float) -> icp.Model:
    name = f"jtt-{upweight}"
    return trial.timed(name, lambda: baselines.just_train_twice(
        trial.base, trial.train, upweight=upweight, first={"num_train_epochs": 1}, progress=False, seed=trial.seed,
        arguments=dict(trial.arguments) | {"save_strategy": "no"}, folder=trial.folder / name,
    ))  # fmt: skip


def dfr(trial: Trial, strength: float) -> icp.Model:
    return baselines.last_layer_retraining(trial.erm, trial.rank, strength=strength, seed=trial.seed)


def influence(trial: Trial, share: float) -> icp.Model:
    name = f"influence-{share}"
    return trial.timed(name, lambda: baselines.without_harmful(
        trial.base, trial.train.probe, trial.rank, share=share, progress=False, seed=trial.seed,
        arguments=dict(trial.arguments) | {"save_strategy": "no"}, folder=trial.folder / name,
    ))  # fmt: skip


def icp_prune_only(trial: Trial, cut: list) -> icp.Model:
    return icp.prune(trial.erm, trial.cuts(*cut))


def icp_prune(trial: Trial, cut: list) -> icp.Model:
    """Cut in the base model what was found in the plainly fine-tuned one, then fine-tune."""
    pruned = icp.prune(trial.base, trial.cuts(*cut), weights="any")
    return trial.tune(f"icp_prune-{cut[0]}-{cut[1]}", model=pruned)


def icp_hybrid(trial: Trial, units: int, weight: float) -> icp.Model:
    """Regularise, and at the end erase what is left of the cue in the heads among the same units."""
    tuned = icp_reg(trial, units, weight)
    heads = [unit for unit in trial.chosen(units) if unit.kind == "head"]
    return icp.prune(tuned, icp.erasure(tuned, heads, trial.pairs))


def all_erased(trial: Trial, units: int, weight: float) -> icp.Model:
    """The same, in all heads."""
    tuned = icp_reg(trial, units, weight)
    return icp.prune(tuned, icp.erasure(tuned, trial.base.units("head"), trial.pairs))


def erased(trial: Trial, heads: int, pairs: int) -> icp.Model:
    """One direction of each head, in the plainly fine-tuned model, fitted on so many pairs."""
    return icp.prune(trial.erm, icp.erasure(trial.erm, trial.heads(heads), trial.pairs.take(pairs)))


def erased_at_random(trial: Trial, heads: int, pairs: int) -> icp.Model:
    drawn = random.Random(f"heads {trial.seed}").sample(trial.base.units("head"), heads)
    return icp.prune(trial.erm, icp.erasure(trial.erm, drawn, trial.pairs.take(pairs)))


def icp_reg(trial: Trial, units: int, weight: float) -> icp.Model:
    return trial.tune(f"icp_reg-{units}-{weight}", invariance=icp.Invariance(trial.chosen(units), weight))


def reranked(trial: Trial, units: int, weight: float) -> icp.Model:
    """The units of largest indirect effect in the model as it is while training, among all heads and neurons."""
    candidates = trial.base.units("head", "neuron")
    invariance = icp.Invariance(candidates, weight, rerank=icp.Rerank(every=15, top=units))
    return trial.tune(f"reranked-{units}-{weight}", invariance=invariance)


def redrawn(trial: Trial, units: int, weight: float) -> icp.Model:
    """Other units at each step, of the 2,000 of largest indirect effect."""
    invariance = icp.Invariance(trial.chosen(2000), weight, units_per_step=units)
    return trial.tune(f"redrawn-{units}-{weight}", invariance=invariance)


def random_reg(trial: Trial, units: int, weight: float) -> icp.Model:
    return trial.tune(f"random_reg-{units}-{weight}", invariance=icp.Invariance(trial.by_chance(units), weight))


def by_masks(trial: Trial, units: int, weight: float) -> icp.Model:
    """Mean masks in place of swaps: no pairs to train on."""
    invariance = icp.Invariance(trial.chosen(units), weight, icp.Mask("mean"))
    return trial.tune(f"by_masks-{units}-{weight}", invariance=invariance)


def of_a_third(trial: Trial, third: int, weight: float) -> icp.Model:
    """The 200 of largest indirect effect among the first, middle or last third of the blocks."""
    depth = len(trial.base.blocks)
    blocks = range(third * depth // 3, (third + 1) * depth // 3)
    units = [unit for unit in trial.ranking.units if unit.layer in blocks][:200]
    return trial.tune(f"of_a_third-{third}-{weight}", invariance=icp.Invariance(units, weight))


def reg_on_pairs(trial: Trial, pairs: int, weight: float) -> icp.Model:
    """Training rows without counterparts; 200 units are ranked and regularised on so many pairs of the rows to rank on.

    They are ranked in the plainly fine-tuned model, as everywhere.
    """
    few, name = trial.pairs.take(pairs), f"reg_on_pairs-{pairs}-{weight}"
    cue = trial.timed(f"cue-{pairs}", lambda: icp.measure(
        trial.erm, few, trial.base.units("head", "neuron"), icp.Swap("counterpart"), method="linear", progress=False
    ))  # fmt: skip
    penalty = icp.Invariance(icp.indirect_effect(cue).units[:200], weight)
    return trial.tune(name, train=trial.unpaired, invariance=icp.OnPairs(penalty, few, min(8, pairs)))


def consistency_on_pairs(trial: Trial, pairs: int, weight: float) -> icp.Model:
    """The same with label-preserving consistency."""
    penalty = icp.OnPairs(baselines.Consistency(weight), trial.pairs.take(pairs), min(8, pairs))
    return trial.tune(f"consistency_on_pairs-{pairs}-{weight}", train=trial.unpaired, objective=penalty)


def consistency_on_more(trial: Trial, pairs: int, weight: float) -> icp.Model:
    """Consistency on the training rows and on so many pairs of the rows to rank on, which `icp_reg` has seen too."""
    more = icp.OnPairs(baselines.Consistency(weight), trial.pairs.take(pairs), min(8, pairs))
    name = f"consistency_on_more-{pairs}-{weight}"
    return trial.tune(name, objective=baselines.Consistency(weight), invariance=more)


@dataclass(frozen=True)
class Method:
    """How a model is made, and the values that each setting may take; the first of each where nothing is tuned."""

    make: Callable[..., icp.Model]
    grid: Mapping[str, Sequence[Any]]

    @property
    def settings(self) -> list[dict[str, Any]]:
        return [dict(zip(self.grid, values)) for values in product(*self.grid.values())]


METHODS = {
    "base": Method(base, {}),
    "erm": Method(erm, {}),
    "icp_reg": Method(icp_reg, {"units": [200], "weight": [3.0, 1.0, 5.0, 10.0]}),
    "icp_hybrid": Method(icp_hybrid, {"units": [200], "weight": [3.0, 1.0, 5.0, 10.0]}),
    "random_reg": Method(random_reg, {"units": [200], "weight": [3.0, 1.0, 5.0, 10.0]}),
    "icp_prune_only": Method(
        icp_prune_only,
        {"cut": [["directions", 270], ["directions", 100], ["directions", 30], ["units", 30], ["units", 10]]},
    ),
    "icp_prune": Method(icp_prune, {"cut": [["directions", 270], ["units", 30]]}),
    "consistency": Method(consistency, {"weight": [1.0, 0.3, 3.0, 10.0]}),
    "cda": Method(cda, {}),
    "logit_pairing": Method(logit_pairing, {"weight": [0.3, 0.1, 1.0, 3.0]}),
    "ipw": Method(ipw, {}),
    "group_dro": Method(group_dro, {"step_size": [0.01, 0.1]}),
    "jtt": Method(jtt, {"upweight": [5.0, 20.0]}),
    "dfr": Method(dfr, {"strength": [1.0, 0.1, 0.01]}),
    "adversarial": Method(adversarial, {"alpha": [1.0, 0.3, 3.0]}),
    "mmd": Method(mmd, {"weight": [1.0, 10.0, 100.0]}),
    "weight_decay": Method(weight_decay, {"decay": [0.1, 1.0], "dropout": [0.1]}),
    "influence": Method(influence, {"share": [0.1, 0.2]}),
}


@dataclass(frozen=True)
class Curve:
    """A method at several values of one setting, the others as given, or the weight that `METHODS` settled on `of` one.

    What `more` has is run when ablations are asked for.
    """

    make: Callable[..., icp.Model]
    over: str
    values: tuple[int, ...]
    others: Mapping[str, Any] = field(default_factory=dict)
    of: str = "icp_reg"
    more: bool = False

    def settings(self, value: int, settled: Mapping[str, Any]) -> dict[str, Any]:
        return (dict(self.others) or {"weight": settled["weight"]}) | {self.over: value}


CURVES = {
    "chosen": Curve(icp_reg, "units", (10, 30, 100, 2000)),
    "random": Curve(random_reg, "units", (30, 2000), of="random_reg"),
    "reranked": Curve(reranked, "units", (30, 200)),
    "redrawn": Curve(redrawn, "units", (30,)),
    "regularised, all heads erased": Curve(all_erased, "units", (200,)),
    "erased": Curve(erased, "heads", (3, 10, 30, 100, 270), {"pairs": 200}),
    "erased at random": Curve(erased_at_random, "heads", (30, 100), {"pairs": 200}),
    "erased by pairs": Curve(erased, "pairs", (10, 50), {"heads": 270}),
    "consistency on more pairs": Curve(consistency_on_more, "pairs", (200,), of="consistency"),
    "regularised on few pairs": Curve(reg_on_pairs, "pairs", (10, 50), more=True),
    "consistency on few pairs": Curve(consistency_on_pairs, "pairs", (10, 50), of="consistency", more=True),
    "by mean masks": Curve(by_masks, "units", (200,), more=True),
    "units of a third of the blocks": Curve(of_a_third, "third", (0, 1, 2), more=True),
}


def figures(model: icp.Model, both: icp.Probe) -> dict[str, Any]:
    """What a model makes of sentences with either value of the cue, as `planted_cue.both` gives them.

    `aligned` and `inverted` have a digit a sentence: 1 where it is right. `gap` is the mean absolute difference of the
    logit difference between the two values.
    """
    values = clean_values(model, both, icp.LogitDifference())
    labels = [example.label for example in both.examples]
    right = ["1" if (value > 0) == (label == 0) else "0" for value, label in zip(values, labels)]
    agrees = range(0, len(labels), 2)
    pick = [start + labels[start] for start in agrees]
    other = [start + 1 - labels[start] for start in agrees]
    return {
        "aligned": "".join(right[place] for place in pick),
        "inverted": "".join(right[place] for place in other),
        "labels": "".join(str(labels[start]) for start in agrees),
        "gap": float(abs(values[::2] - values[1::2]).mean()),
    }
