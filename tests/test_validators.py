"""Each validator rejects pairs that were made bad in its way, and accepts those that were not."""

from dataclasses import replace
from random import Random

import corruptions
import numpy as np
import pytest
from counterfactuals import GENDER, SPEC, Swapping, sentences
from helpers import BY_NAME
from test_data import real

from icp import data
from icp.counterfactual import (
    Changed,
    Column,
    CueFlips,
    EditDistance,
    FixedWords,
    LabelAgrees,
    PerplexityRatio,
    Row,
    SpansKept,
    Spec,
    Variable,
    edit_distance,
    label_classifier,
    make_pairs,
)
from icp.errors import DataError, SpecError


@pytest.fixture(scope="module")
def clean():
    made = make_pairs(sentences(400, seed=1), edit=Swapping(), spec=SPEC, progress=False)
    pairs = list(made)
    assert len(pairs) == 400
    return pairs


@pytest.fixture(scope="module")
def labels():
    rows = list(sentences(1000, seed=2))
    words = [word for of in GENDER.words.values() for word in of]
    return label_classifier([row.text for row in rows], [row.label for row in rows], without=words)


def by_words(texts):
    """A cue classifier that is no lexicon."""
    return ["female" if {"she", "herself", "actress"} & set(text.split()) else "male" for text in texts]


CASES = {
    "spans kept": (lambda labels: SpansKept(), corruptions.edited_outside),
    "spans kept, of the variable": (lambda labels: SpansKept(), corruptions.cue_untouched),
    "fixed words": (
        lambda labels: FixedWords(("the", "a", "an", "in", "who")),
        corruptions.word_left_out(("the", "a")),
    ),
    "cue flips": (lambda labels: CueFlips(), corruptions.cue_untouched),
    "cue flips, by a classifier": (lambda labels: CueFlips(by_words), corruptions.cue_untouched),
    "label agrees": (lambda labels: LabelAgrees(labels), corruptions.cause_flipped),
    "changed": (lambda labels: Changed(), corruptions.text_unchanged),
    "changed, the cue": (lambda labels: Changed(), corruptions.cue_untouched),
}


@pytest.mark.parametrize("case", CASES)
def test_at_least_19_in_20_are_judged_rightly(case, clean, labels):
    make, corrupt = CASES[case]
    validator = make(labels)
    found = corruptions.rates(validator, clean, SPEC, corrupt)
    assert found["accept"] >= 0.95 and found["reject"] >= 0.95
    assert found["corrupted"] >= 0.9 * found["pairs"], "most pairs can be made bad in this way"
    assert validator.name == case.split(",")[0]


def test_edit_distance_tells_pairs_from_strangers(clean):
    others = corruptions.other_counterpart([edit for _, edit in clean])
    kinds = {row.text.split()[0] for row, _ in clean}
    assert len(kinds) > 3
    tight = corruptions.rates(EditDistance(0.3), clean, SPEC, others)
    assert tight["accept"] == 1.0 and 0.7 < tight["reject"] < 1.0, "strangers of one template are near each other"


@pytest.mark.parametrize("corrupt", [c for _, c in CASES.values()], ids=list(CASES))
def test_corruption_keeps_the_row_and_says_where_it_changed_the_text(clean, corrupt):
    random = Random(3)
    for row, edit in clean[:50]:
        found = corrupt(row, edit, SPEC, random)
        if found is None:
            continue
        assert found[0] is row and found[1].variable == edit.variable
        assert found[1] != edit and len(found[1].spans) == len(found[1].new_spans)


def pair(text, counterpart, **more):
    from icp.counterfactual import Edit, edited_spans

    told = {"variable": "gender", "before": "female", "after": "male", "label": 1}
    spans = dict(zip(("spans", "new_spans"), edited_spans(text, counterpart)))
    return Row(text, 1), Edit(counterpart, **(told | spans | more))


GOOD = pair("she says the film is great", "he says the film is great")


@pytest.mark.parametrize(
    ("validator", "bad", "message"),
    [
        (SpansKept(), replace(GOOD[1], text="he says a film is great"), r"outside the spans: '.*the film.* becomes"),
        (SpansKept(), replace(GOOD[1], new_spans=()), "names 1 spans of the text and 0 of the counterpart"),
        (SpansKept(), replace(GOOD[1], new_spans=((0, 99),)), "not in order within the 25 characters"),
        (
            SpansKept(),
            pair(GOOD[0].text, "she says the play is great")[1],
            "'film' is edited, which says nothing of gender",
        ),
        (FixedWords(("film", "the")), replace(GOOD[1], text="he says the play is great"), "'film' has to stay: "),
        (Changed(), replace(GOOD[1], text="she says  the film is great "), "the same but for spaces"),
        (Changed(), replace(GOOD[1], after="female"), "gender is 'female' before and after"),
        (Changed(), replace(GOOD[1], text="she says a film is great"), "words that say gender are the same: she"),
        (CueFlips(), replace(GOOD[1], text="he and she say it is great"), "the counterpart says female, male"),
        (CueFlips(), replace(GOOD[1], text="they say it is great"), "the counterpart says nothing of it"),
        (CueFlips(lambda texts: ["male"] * len(texts)), GOOD[1], "in the counterpart alone: the text says it already"),
        (EditDistance(0.2), replace(GOOD[1], text="he says a play is great"), "0.50 of the tokens change, "),
        (
            LabelAgrees(lambda texts: [[0.3, 0.7], [0.9, 0.1]]),
            GOOD[1],
            "gives the counterpart 'positive' with probability 0.10, less than 0.5, and 'negative' with 0.90",
        ),
    ],
)  # fmt: skip
def test_a_rejection_says_what_is_wrong(validator, bad, message):
    import re

    told = validator.reject(GOOD[0], bad, SPEC)
    assert told is not None and re.search(message, told), told
    if not isinstance(validator, LabelAgrees) and getattr(validator, "classifier", None) is None:
        assert validator.reject(*GOOD, SPEC) is None


def test_label_classifier_with_a_threshold():
    unsure = LabelAgrees(lambda texts: [[0.4, 0.6]] * len(texts), least=0.8)
    assert "probability 0.60, less than 0.8" in unsure.reject(*GOOD, SPEC)
    assert LabelAgrees(unsure.classifier, least=0.1).reject(*GOOD, SPEC) is None


def test_the_label_classifier_is_never_the_model_that_is_trained():
    model = BY_NAME["gpt2"].model()
    for refused in (model, model.logits, model.module):
        with pytest.raises(SpecError, match="may be the model that these pairs are to train"):
            LabelAgrees(refused)
    with pytest.raises(SpecError, match="is no classifier"):
        LabelAgrees("bert")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EditDistance(1.5), "the bound 1.5 on the edit distance"),
        (lambda: FixedWords("the"), "the fixed words 'the' have to be a list"),
        (lambda: FixedWords(()), "have to be a list of one word or more"),
        (lambda: LabelAgrees(len, least=1.0), "least=1.0 has to be a probability"),
        (lambda: LabelAgrees(lambda texts: [[1.0]] * len(texts)).reject(*GOOD, SPEC), r"gives \(2, 1\) numbers for 2"),
        (lambda: LabelAgrees(lambda texts: [[0.5, 0.5]]).reject(*GOOD, SPEC), "gives 1 answers for 2 texts"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_a_label_classifier_of_other_classes_is_refused():
    other = label_classifier(["a fine day", "an awful day"], [1, 2])
    with pytest.raises(SpecError, match=r"knows the classes 1, 2: train it on the labels 0 to 1, for negative"):
        LabelAgrees(other).begin(SPEC)
    with pytest.raises(DataError, match="2 texts with 2 labels of 1 classes"):
        label_classifier(["a", "b"], [1, 1])


def test_a_label_classifier_does_not_see_what_it_is_told_not_to():
    texts = ["she is tall", "he is tall", "he is small", "she is small"] * 5
    seeing = label_classifier(texts, [0, 1, 1, 0] * 5)
    assert np.abs(np.diff(seeing.predict_proba(["she is tall", "he is tall"])[:, 0])) > 0.5
    blind = label_classifier(texts, [0, 1, 1, 0] * 5, without=("she", "He"))
    assert np.diff(blind.predict_proba(["she is tall", "he is tall"])[:, 0]) == 0


def test_a_column_does_not_say_whether_a_text_flips():
    spec = Spec("sentiment", SPEC.classes, SPEC.causes, (Variable("gender", Column("gender", ("male", "female"))),))
    with pytest.raises(SpecError, match="found by the column 'gender', which an edit of the text does not change"):
        CueFlips().reject(*GOOD, spec)
    assert CueFlips(by_words).reject(*GOOD, spec) is None


def test_pairs_whose_label_classifier_learnt_the_cue_would_be_rejected(clean, labels):
    """What hides the cue's words from the classifier is for."""
    biased = [row for row in sentences(2000, seed=5) if (GENDER.find(row)[0].value == "male") == (row.label == 1)]
    seeing = label_classifier([row.text for row in biased], [row.label for row in biased])
    sure = LabelAgrees(seeing, least=0.9)
    assert sum(why is None for why in sure.reject_all(clean, SPEC)) < 0.5 * len(clean)
    assert sum(why is None for why in LabelAgrees(labels, least=0.9).reject_all(clean, SPEC)) > 0.95 * len(clean)


def test_perplexity_is_the_exponential_of_mean_log_likelihood(tokenizer):
    from icp.sentences import sentence_log_likelihoods

    model = BY_NAME["gpt2"].model()
    made = pair("she said that the nurse was late", "it said that the nurse was late because she ran")
    sums, counts = sentence_log_likelihoods(model, [made[0].text, made[1].text])
    ratio = float(np.exp(sums[0] / counts[0] - sums[1] / counts[1]))
    assert PerplexityRatio(model, bound=ratio * 1.001).reject(*made, SPEC) is None
    told = PerplexityRatio(model, bound=ratio * 0.999).reject(*made, SPEC)
    assert told.startswith(f"the perplexity is {ratio:.2f} times that of the text")
    assert PerplexityRatio(model, bound=ratio * 1.001).reject_all([made, made], SPEC) == [None, None]


def test_perplexity_of_a_text_too_long_to_read_is_a_rejection():
    model = BY_NAME["gpt2"].model()
    long = " ".join(["nurse"] * (model.context + 1))
    made, fine = pair("she said", long), pair("she said it", "he said it")
    told = PerplexityRatio(model, bound=1e9).reject_all([made, fine], SPEC)
    assert f"the counterpart has {model.context + 2} tokens" in told[0] and told[1] is None
    with pytest.raises(SpecError, match=r"bound 0.0 on the ratio"):
        PerplexityRatio(model, bound=0.0)


@pytest.mark.smollm2
def test_a_language_model_tells_sentences_from_shuffled_words(smollm2, clean):
    found = corruptions.rates(PerplexityRatio(smollm2), clean[:40], SPEC, corruptions.words_shuffled)
    assert found["accept"] >= 0.95 and found["reject"] >= 0.95


def test_one_bound_fits_what_people_wrote_and_not_strangers():
    folder = real("cad_imdb")
    pairs = [two for split in ("train", "validation", "test") for two in data.cad_imdb(folder, split)]
    random, bound = Random(0), EditDistance().bound
    near = [edit_distance(one.text, other.text) <= bound for one, other in pairs]
    strangers = [(one, random.choice(pairs)[1]) for one, _ in pairs]
    far = [edit_distance(one.text, other.text) > bound for one, other in strangers if one.word != other.word]
    assert len(near) == 2440 and np.mean(near) >= 0.95 and np.mean(far) >= 0.95


def test_none_to_corrupt_is_said(clean):
    with pytest.raises(SpecError, match="none of the 400 pairs can be made bad"):
        corruptions.rates(FixedWords(("zebra",)), clean, SPEC, corruptions.word_left_out(("zebra",)))
