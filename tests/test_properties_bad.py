"""What a property cannot read of an example is said in one sentence with the value and the way out."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import BY_NAME

import icp

ANSWERS = (" she", " he")
PAIR = ("The nurse said that", "The doctor said that")


@pytest.fixture(scope="module")
def model():
    return BY_NAME["gpt2"].model()


def measure(model, property, **fields):
    text = fields.pop("text", PAIR[0])
    probe = icp.Probe((icp.Example(text, **fields),))
    return icp.measure(model, probe, ["hook_embed[0]"], icp.Mask("zero"), property=property, progress=False)


LD, P, CP, LL, TL, NT = (
    icp.LogitDifference(), icp.Probability(), icp.ClassProbability(), icp.LogLikelihood(), icp.TaskLoss(),
    icp.NextTokenLoss(),
)  # fmt: skip
BAD = [
    (LD, {}, "'The nurse said that' has 0 answers, a logit difference needs 2: pass answers=(' yes', ' no')"),
    (LD, {"answers": (" she",)}, "has 1 answers, a logit difference needs 2"),
    (LD, {"answers": (" she", " he", " it")}, "has 3 answers, a logit difference needs 2"),
    (LD, {"answers": (" she", " he went home")}, "the answer ' he went home' is 3 tokens [' he', ' went', ' home']"),
    (LD, {"answers": (" she", " she")}, "two of the answers (' she', ' she') are the same token: P would always be 0"),
    (LD, {"answers": (" zebra", " lion")}, "are the same token"),
    (LD, {"answers": ("she", "he")}, "'she' does not begin a new token after 'The nurse said that'"),
    (LD, {"answers": (" she", "")}, "'' does not begin a new token"),
    (P, {}, "has no answer number 0: it has 0"),
    (icp.Probability(2), {"answers": ANSWERS}, "has no answer number 2: it has 2"),
    (P, {"answers": (" she went", " he")}, "the answer ' she went' is 2 tokens"),
    (CP, {}, "has no answer number 0: it has 0"),
    (icp.ClassProbability(2), {"answers": ANSWERS}, "has no answer number 2: it has 2"),
    (CP, {"answers": (" she", " he", " she")}, "are the same token"),
    (CP, {"answers": (" she", " he home")}, "use one token, or LogLikelihood"),
    (LL, {}, "'The nurse said that' has no answer number 0: it has 0"),
    (icp.LogLikelihood(1), {"answers": (" she",)}, "has no answer number 1: it has 1"),
    (LL, {"answers": ("she went",)}, "answers usually start with a space, and the text must not end with one"),
    (TL, {"answers": ANSWERS}, "needs the right answer of 'The nurse said that': give the example a label"),
    (TL, {"answers": (" she went", " he"), "label": 0}, "the answer ' she went' is 2 tokens"),
    (NT, {"text": "The"}, "'The' has one token: a next-token loss needs two"),
    (icp.PairGap(TL), {"answers": ANSWERS, "counterpart": PAIR[1]}, "needs the right answer of"),
    (icp.PairGap(), {"answers": ANSWERS}, "some examples have no counterpart"),
]


@pytest.mark.parametrize(("property", "fields", "words"), BAD)
def test_an_example_that_a_property_cannot_read_is_named(model, property, fields, words):
    with pytest.raises(icp.ProbeError) as error:
        measure(model, property, **fields)
    assert words in str(error.value)
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_a_text_that_ends_with_a_space_is_refused(model):
    """` she` after `that ` would be read as another token than after `that`."""
    with pytest.raises(icp.ProbeError, match="the text must not end with one"):
        measure(model, LD, text="The nurse said that ", answers=("she", "he"))


def test_a_text_without_tokens_is_refused(model):
    class Wordless:
        def __call__(self, text, **options):
            return {"input_ids": []}

    with pytest.raises(icp.ProbeError, match="'The' has no tokens under this tokenizer: give it some words"):
        icp.Probe.from_texts(["The"]).tokenize(Wordless())


def test_class_probabilities_need_equally_many_answers_everywhere(model):
    rows = [icp.Example("The nurse", answers=ANSWERS), icp.Example("The doctor", answers=(*ANSWERS, " it"))]
    with pytest.raises(icp.ProbeError, match="needs equally many answers in every example"):
        icp.measure(model, icp.Probe(tuple(rows)), ["hook_embed[0]"], icp.Mask("zero"), property=CP, progress=False)


def test_answers_of_several_tokens_are_what_log_likelihood_is_for(model):
    assert measure(model, LL, answers=(" she went home",)).clean.shape == (1,)


@pytest.mark.parametrize("positions", ["cue", "rest"])
@pytest.mark.parametrize(
    ("x", "other", "why"),
    [
        ("The nurse ran", None, "it has no counterpart"),
        ("The nurse ran", "The old nurse ran", "its counterpart only has tokens more"),
        ("The nurse ran", "The nurse ran", "the counterpart has the same tokens"),
    ],
)
def test_positions_of_a_cue_need_one_in_every_row(model, positions, x, other, why):
    rows = icp.Example("The doctor ran", "The nurse ran", ANSWERS), icp.Example(x, other, ANSWERS)
    with pytest.raises(icp.ProbeError) as error:
        icp.measure(model, icp.Probe(rows), ["hook_embed[0]"], icp.Mask("zero"), positions=positions, progress=False)
    assert f"row 1 ({x!r}) has no tokens that are its cue ({why}" in str(error.value)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ("first", "unknown positions 'first': use 'all', 'last', 'cue', 'rest', or a span (start, stop)"),
        ((2, 2), "the span (2, 2) does not fit 'The nurse said that', which has 4 tokens"),
        ((0, 5), "the span (0, 5) does not fit"),
        ((-5, 2), "the span (-5, 2) does not fit"),
        ((3, 1), "the span (3, 1) does not fit"),
    ],
)
def test_positions_that_do_not_fit_are_named(model, positions, words):
    probe = icp.Probe.from_pairs([PAIR], ANSWERS)
    for method in ("exact", "linear"):
        with pytest.raises(icp.ProbeError) as error:
            icp.measure(
                model, probe, ["hook_embed[0]"], icp.Mask("zero"), positions=positions, method=method, progress=False
            )
        assert words in str(error.value)


HEAD, DIM, EMBED = "blocks.0.attn.hook_z[0]", "blocks.0.attn.hook_z[0,3]", "hook_embed[0]"
ONE_SHORT = icp.Probe.from_texts(["It was late and the nurse said"])
CALLS = [
    (EMBED, icp.Mask(), {"method": "fast"}, "unknown method 'fast': use one of exact, linear"),
    (EMBED, (), {}, "no interventions were given: pass Mask"),
    (EMBED, (icp.Mask(), icp.Mask("zero")), {}, "two interventions are labelled 'mask:zero'"),
    ((), icp.Mask(), {}, "no units were given: try model.units('head', 'neuron')"),
    ((EMBED, EMBED), icp.Mask(), {}, "given twice, such as hook_embed[0]"),
    (EMBED, icp.Mask(), {"batch_size": -1}, "batch_size and unit_chunk are at least 1, got -1"),
    (EMBED, icp.Mask(), {"padding_side": "middle"}, "unknown padding side 'middle': use 'left' or 'right'"),
    (HEAD, icp.Swap(EMBED), {}, "cannot swap a unit of width 8 with hook_embed[0], which has width 1"),
    (EMBED, icp.Swap(example=2), {}, "there is no example 2: the probe has 2"),
    (EMBED, icp.Swap(example=-1), {}, "there is no example -1: the probe has 2"),
    (EMBED, icp.Swap(example=0), {}, "example 0 has 4 tokens and example 1 has 8"),
    (EMBED, icp.Mask("resample"), {}, "is the only one with 4 tokens: resampling needs another of the same length"),
    (EMBED, icp.Mask("mean", per_position=True), {"reference": ONE_SHORT},
     "a mean per position needs reference inputs as long as the probe's: they have 7 tokens, the probe has 8"),
    (EMBED, icp.Swap("blocks.7.mlp.hook_post[0]"), {}, "no site 'blocks.7.mlp.hook_post'"),
    (EMBED, icp.Swap("hook_embed[32]"), {}, "unit hook_embed[32] is out of range"),
]  # fmt: skip


@pytest.fixture
def probe():
    return icp.Probe.from_pairs([PAIR, ("It was late and the nurse said that",) * 2], ANSWERS)


class Custom(icp.Intervention):
    label = "custom"


@dataclass(frozen=True)
class Flat(icp.LogitDifference):
    def of(self, logits, targets):
        return super().of(logits, targets).detach()


LINEAR_CALLS = [
    (EMBED, Custom(), {"method": "linear"}, "custom is not affine, so it has no first-order estimate"),
    (EMBED, icp.Mask(), {"method": "linear", "property": Flat()}, "Flat() has no gradient"),
    (EMBED, icp.Mask(), {"method": icp.Linear(grad_drop=True), "property": icp.PairGap()}, "GradDrop gives magnitudes"),
]


@pytest.mark.parametrize(("units", "interventions", "options", "words"), [*CALLS, *LINEAR_CALLS])
def test_a_measurement_that_cannot_be_made_says_why_and_leaves_nothing(
    model, probe, units, interventions, options, words, tmp_path
):
    units = [units] if isinstance(units, str) else list(units)
    for method in [options["method"]] if "method" in options else ["exact", "linear"]:
        asked = dict(progress=False, store=tmp_path / "effects") | options | {"method": method}
        with pytest.raises(icp.IcpError) as error:
            icp.measure(model, probe, units, interventions, **asked)
        assert words in str(error.value)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("units", "intervention", "options", "words"), CALLS[-8:])
def test_sets_that_cannot_be_measured_leave_nothing(model, probe, units, intervention, options, words, tmp_path):
    with pytest.raises(icp.IcpError) as error:
        icp.measure_sets(model, probe, [[units]], intervention, progress=False, store=tmp_path / "effects", **options)
    assert words in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("members", [[HEAD, DIM], [DIM, HEAD], [EMBED, EMBED]])
def test_a_set_whose_units_overlap_names_both(model, probe, members):
    with pytest.raises(icp.UnitError) as error:
        icp.measure_sets(model, probe, [members], icp.Mask(), progress=False)
    assert f"{members[0]} and {members[1]} cover the same values" in str(error.value)


class Infinite(icp.Intervention):
    def replace(self, values, where):
        return values + float("inf")


def test_a_set_that_makes_the_model_return_nan_is_marked(model, probe):
    found = icp.measure_sets(model, probe, [[], ["blocks.0.mlp.hook_post[1]", EMBED]], Infinite(), progress=False)
    assert not found.dP[0].any() and np.isnan(found.dP[1]).all()


def test_an_empty_set_alone_does_nothing(model, probe):
    assert not icp.measure_sets(model, probe, [[]], icp.Mask("mean"), progress=False).dP.any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: icp.Mask("median"), "unknown mask 'median': use 'zero', 'mean' or 'resample'"),
        (lambda: icp.Mask("zero", per_position=True), "goes with Mask('mean'), not with Mask('zero')"),
        (lambda: icp.Swap(), "Swap takes one source: 'counterpart', a unit's address, or example=k"),
        (lambda: icp.Swap("counterpart", example=1), "Swap takes one source"),
        (lambda: icp.Swap("partner"), "cannot read the unit address 'partner'"),
    ],
)
def test_an_intervention_that_cannot_be_says_why(make, words):
    with pytest.raises(icp.IcpError) as error:
        make()
    assert words in str(error.value)


def test_an_intervention_of_ones_own_must_do_something(model):
    class Nothing(icp.Intervention):
        pass

    probe = icp.Probe.from_pairs([PAIR], ANSWERS)
    with pytest.raises(icp.IcpError, match="Nothing neither is affine nor overrides replace"):
        icp.measure(model, probe, ["hook_embed[0]"], Nothing(), progress=False)
    with pytest.raises(icp.IcpError, match="is not affine, so it has no first-order estimate: use method='exact'"):
        icp.measure(model, probe, ["hook_embed[0]"], Nothing(), method="linear", progress=False)


LONG = " ".join(["The", *["old"] * 70, "nurse"])  # the models of these tests read 64 tokens
QUIET = {"progress": False}


def of_long(model, call):
    pairs = icp.Probe.from_pairs([(LONG, LONG.replace("nurse", "doctor"))], ANSWERS)
    texts = icp.Probe.from_texts([LONG])
    counterpart = icp.Probe.from_pairs([(PAIR[0], f"{LONG} said that")], ANSWERS)
    short, units = icp.Probe.from_pairs([PAIR], ANSWERS), ["blocks.0.mlp.hook_post[5]"]
    mean, swap = icp.Mask("mean"), icp.Swap("counterpart")
    return {
        "measure": lambda: icp.measure(model, pairs, units, icp.Mask(), **QUIET),
        "measure linear": lambda: icp.measure(model, pairs, units, icp.Mask(), method="linear", **QUIET),
        "measure sets": lambda: icp.measure_sets(model, pairs, [units], icp.Mask(), **QUIET),
        "evaluate": lambda: icp.evaluate(model, pairs),
        "counterpart": lambda: icp.measure(model, counterpart, units, swap, **QUIET),
        "counterpart of a set": lambda: icp.measure_sets(model, counterpart, [units], swap, **QUIET),
        "reference": lambda: icp.measure(model, short, units, mean, reference=texts, **QUIET),
        "reference of a set": lambda: icp.measure_sets(model, short, [units], mean, reference=texts, **QUIET),
        "drivers": lambda: icp.drivers(model, texts, units),
    }[call]()


@pytest.mark.parametrize(
    "call",
    ["measure", "measure linear", "measure sets", "evaluate", "counterpart", "counterpart of a set", "reference",
     "reference of a set", "drivers"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_longer_than_the_context_is_refused(name, call):
    """GPT-2 has no position to look up there; Llama would go on, with positions it has never seen."""
    long = rf"'The old old old [old ]*' has 7\d tokens, {name} reads at most 64: shorten it$"
    with pytest.raises(icp.ProbeError, match=long):
        of_long(BY_NAME[name].model(), call)


def test_a_text_as_long_as_the_context_is_measured(model):
    probe = icp.Probe.from_texts([" ".join(["The", *["old"] * 63])], ANSWERS)
    assert icp.measure(model, probe, ["hook_embed[0]"], icp.Mask(), progress=False).dP.shape == (1, 1, 1)
