"""Small artefacts made by hand, of a model that does not exist: 2 blocks, 3 heads and 4 neurons each."""

from itertools import combinations

import numpy as np

import icp
from icp.drivers import DrivingInput

BINDING = {
    "architecture": "layers 2, d_model 6, heads 3x2, d_mlp 4, vocab 11",
    "tokenizer": "tokenizer-digest",
    "weights": "weights-digest",
}
UNITS = [f"blocks.{layer}.attn.hook_z[{head}]" for layer in range(2) for head in range(3)]
UNITS += [f"blocks.{layer}.mlp.hook_post[{neuron}]" for layer in range(2) for neuron in range(4)]
TOTAL = np.array([2.0, -1.0, 3.0, -2.0])
"""P(x') - P(x) of four pairs: the cue pushes P up in two of them and down in two."""


def effects(dP, units=UNITS, interventions=("swap:counterpart",), total=TOTAL, clean=None, examples=None, **header):
    """Effects around `dP` [unit, intervention, example]."""
    dP = np.asarray(dP, dtype=float)
    count = dP.shape[2]
    examples = list(range(count)) if examples is None else examples
    blank = {"counterpart": "y", "answers": [], "label": None, "template": None, "word": None, "group": None}
    about = {
        "units": [str(unit) for unit in units],
        "interventions": list(interventions),
        "examples": [{"text": f"text {i}", **blank} for i in examples],
        "property": "LogitDifference()",
        "unit_of_P": "logits",
        "method": "exact",
        "positions": "all",
        "reference": None,
        "dtype": "torch.float32",
        "model": "nowhere",
        "binding": BINDING,
        "versions": {"icp": icp.__version__},
    } | header
    clean = np.ones(count) if clean is None else np.asarray(clean, dtype=float)
    return icp.Effects(dP, clean, np.asarray(total, dtype=float), about)


def carrying(means, spread=0.1, **options):
    """Indirect effects whose means towards x' are `means` [unit]; around them the four examples differ by `spread`."""
    around = np.array([-1.5, -0.5, 0.5, 1.5]) * spread
    towards = np.asarray(means, dtype=float)[:, None] + around
    return effects((towards * np.sign(TOTAL))[:, None], **options)


MEANS = np.array([0.5, -0.25, 0.1, 1.5, 0.02, -0.04, *np.linspace(-0.3, 0.4, 8)])
"""The indirect effect of each of `UNITS`."""


def co_ablation(alone, both, examples=4, interventions=("mask:mean",)):
    """Effects of units alone [unit] and of pairs [unit, unit], the same in every example."""
    units = [f"blocks.0.mlp.hook_post[{i}]" for i in range(len(alone))]
    pairs = list(combinations(range(len(alone)), 2))
    dP = np.array([*alone, *(both[u][v] for u, v in pairs)], dtype=float)[:, None].repeat(examples, 1)
    sets = [*units, *(f"{units[u]} & {units[v]}" for u, v in pairs)]
    header = effects(dP[:, None], units=sets, interventions=interventions, total=np.full(examples, np.nan)).header
    return icp.CoAblation(icp.SetEffects(dP, np.ones(examples), header | {"method": "joint"}))


def backups():
    """Units 0 and 1 stand in for each other, unit 2 acts alone."""
    return co_ablation([0.0, 0.0, -1.0], [[0.0, -3.0, -1.0], [-3.0, 0.0, -1.0], [-1.0, -1.0, -1.0]])


def estimates():
    return carrying(MEANS * 1.1, method="linear")


def exact(rows=(3, 0, 2, 13, 12, 11)):
    rows = list(rows)
    return carrying(MEANS[rows], units=[UNITS[row] for row in rows])


def doses(alphas=(0.0, 0.5, 1.0, 2.0)):
    """The gap under Scale(alpha), of two units that close a share of it in proportion to 1 - alpha."""
    gap = np.array([2.0, -4.0, 3.0])
    closed = np.array([0.5, 0.1])
    dP = -closed[:, None, None] * (1 - np.array(alphas))[None, :, None] * gap
    labels = [icp.Scale(alpha).label for alpha in alphas]
    return effects(dP, UNITS[:2], labels, total=-2 * gap, clean=gap, property="PairGap(of_property=LogitDifference())")


def cost(scale=0.01):
    """The rise of a loss, one number a unit and example, first unit the dearest."""
    rise = scale * np.arange(len(UNITS), 0, -1)[:, None, None] + np.array([-0.001, 0.0, 0.001])
    about = {"property": "NextTokenLoss()", "unit_of_P": "nats per token"}
    return effects(rise, interventions=("mask:mean",), total=np.full(3, np.nan), **about)


def frontier():
    gap = np.array([[2.0, -4.0, 3.0], [1.5, -2.0, 2.5], [1.0, -1.0, 1.0], [0.1, 0.2, 0.3]])
    neutral = np.array([[3.0, 4.0], [3.01, 4.03], [3.1, 4.3], [4.0, 6.0]])
    choices = tuple(icp.Choice(icp.Unit.parse(unit), "prune", 0.0, (0.5,)) for unit in UNITS[6:10])
    origin = {"ranking": "indirect_effect", "intervention": "mask:mean", "property": "LogitDifference()", "pairs": 3}
    costs = {"neutral": neutral, "names": neutral[:, ::-1] / 10}
    return icp.Frontier((0, 1, 2, 4), gap, costs, choices, (4.0, 3.0, 2.0, 1.0), BINDING, origin)


def selection(budget=0.25):
    return frontier().select(max_damage=budget)


def evaluation():
    return icp.Evaluation(
        {
            "original": {"gap": np.array([3.0, 2.0, 4.0, 3.5]), "accuracy": np.array([1.0, 1.0, 0.0])},
            "pruned": {"gap": np.array([1.0, 1.5, 2.0, 0.5]), "accuracy": np.array([1.0, 0.0, 0.0])},
            "random units, seed 0": {"gap": np.array([3.1, 2.0, 3.9, 3.6]), "accuracy": np.array([1.0, 1.0, 0.0])},
        }
    )


def changed_answers():
    """Of five pairs whose answer is "yes" two are mended, one is broken, and two stay; of one the counterpart turns."""
    right = np.array([[0.2, 0.4, 0.9, 0.8, 0.1], [0.7, 0.9, 0.3, 0.9, 0.2]])
    theirs = np.array([[0.7, 0.4, 0.4, 0.8, 0.1], [0.7, 0.9, 0.3, 0.9, 0.2]])
    rows = (
        icp.Example(
            f"Anna said {i}:\n", f"Paul said {i}:\n", ("no", " yes"), label=1, group="Anna" if i % 2 else "Paul"
        )
        for i in range(5)
    )
    pair = (np.stack([1 - p, p], axis=-1) for p in (right, theirs))
    bindings = dict.fromkeys(("original", "pruned"), BINDING)
    return icp.ChangedAnswers(icp.Probe(tuple(rows)), ("original", "pruned"), *pair, bindings)


def drivers():
    inputs = {
        UNITS[3]: (DrivingInput("The nurse said", ("The", " nurse", " said"), (0.5, 4.0, 1.0), (1,)),),
        UNITS[6]: (
            DrivingInput("a\nb", ("a", "\n", "b"), (0.25, -2.0, 0.0)),
            DrivingInput("c", ("c",), (1.0,)),
        ),
    }
    reads = {UNITS[3]: {"cue": 0.5, "itself": 0.25, "first": 0.125, "elsewhere": 0.125}}
    return icp.Drivers(inputs, {"model": "nowhere", "binding": BINDING, "texts": 9}, reads)


def by_position():
    """Two units: one acts at the last token, the other at the cue."""
    means = {"cue": [0.0, 0.75], "last": [1.5, 0.25]}
    return {p: carrying(of, units=[UNITS[3], UNITS[0]], positions=p) for p, of in means.items()}


def everything():
    """Every argument of `icp.report` but the title."""
    return {
        "summary": ["All units were ranked."],
        "model_name": "nowhere-dequantised",
        "estimates": estimates(),
        "exact": exact(),
        "doses": doses(),
        "costs": {"neutral": cost()},
        "frontier": frontier(),
        "selection": selection(),
        "evaluations": {"held-out pairs": evaluation()},
        "drivers": drivers(),
        "co_ablation": backups(),
        "by_position": by_position(),
        "changed_answers": {"held-out pairs": changed_answers()},
        "notes": ["One seed."],
        "max_gap_left": 0.6,
    }
