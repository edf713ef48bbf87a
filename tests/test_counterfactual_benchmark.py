"""The benchmark of counterfactual pairs: what it trains on, what it counts, and that it goes on where it stopped."""

import json
from collections import Counter
from types import SimpleNamespace

import counterfactual
import numpy as np
import planted_cue
import pytest
import rewritten_reviews
import validated
from counterfactual import METHODS, PARTS, QUICK, Size, jobs, other_sentences, summary, table
from mitigations import Trial
from test_data import real

import icp
from icp.counterfactual import MEDICAL_NOTES, PRODUCT_COMPLAINTS, Row

SENTENCES = [(f"sentence number {n}", int(n % 3 == 0)) for n in range(30)]


def test_flipping_counterparts_have_another_label_and_the_same_name():
    splits = planted_cue.Splits(SENTENCES, [], [], [])
    trial = Trial(None, splits, 0, 0.9, "name", {}, None)
    pairs = other_sentences(trial)
    assert type(pairs) is icp.FlippingPairs
    of = dict(SENTENCES)
    used = Counter()
    for example, label in zip(pairs.probe.examples, pairs.flipped):
        (text,), (other,) = ([s for s, _ in SENTENCES if f": {s}\n" in t] for t in (example.text, example.counterpart))
        assert of[text] == example.label == 1 - label == 1 - of[other]
        assert example.text.replace(text, other) == example.counterpart, "the name stays"
        used[other] += 1
    assert Counter(used[sentence] for sentence in used if not of[sentence]) == {1: 10}, "each is used in turn"
    assert Counter(used[sentence] for sentence in used if of[sentence]) == {2: 10}
    again = other_sentences(Trial(None, splits, 1, 0.9, "name", {}, None))
    assert again.probe.examples[0].counterpart != pairs.probe.examples[0].counterpart


def reviews(name, seed, contrast, rewritten="1111"):
    right = {"contrast": contrast, "rewritten": rewritten}
    return {"part": "reviews", "name": name, "seed": seed, "right": right, "commit": "x"}


def test_measures_of_reviews_worked_by_hand():
    told = rewritten_reviews.measures({"contrast": "110" + "101", "rewritten": "10" + "11"})
    assert {name: list(values) for name, values in told.items()} == {
        "contrast": [100, 0, 100], "original": [100, 100, 0], "pairwise": [100, 0, 0],
        "sensitivity": [100, 0, 0], "rewritten": [100, 50], "rewritten_pairwise": [100, 0],
    }  # fmt: skip


def test_what_training_on_counterparts_adds_is_paired_by_seed():
    rounds = [
        reviews("base", 0, "11110000"), reviews("erm", 0, "11110001"), reviews("erm", 1, "11110011"),
        reviews("flipped_half", 0, "11110111"), reviews("flipped_half", 1, "11111111"),
    ]  # fmt: skip
    found = rewritten_reviews.summary(rounds)
    assert found["reviews"]["erm"]["contrast_seeds"] == [25, 50] and found["reviews"]["erm"]["contrast"] == 37.5
    low, high = found["reviews"]["erm"]["contrast_ci"]
    assert low < 37.5 < high and found["reviews"]["base"]["contrast_ci"] is None
    over = found["reviews_over_erm"]
    assert set(over) == {"flipped_half"} and over["flipped_half"]["contrast_seeds"] == [50, 50]
    assert over["flipped_half"]["pairs"] == {"contrast": 4, "rewritten": 2}


def planted(name, seed, aligned, inverted):
    found = {"aligned": aligned, "inverted": inverted, "labels": "0101", "gap": 1.0, "seconds": {name: 2.0}}
    return {"part": "methods", "name": name, "seed": seed, "settings": {}, "commit": "x"} | found


def test_the_summary_has_the_keys_that_the_issue_names():
    toy = {name: {"id": 1.0, "s_random": 2.0, "s_inverted": 3.0} for name in counterfactual.logistic_toy.PUBLISHED}
    rounds = [
        {"part": "validators", "name": "worlds", "seed": 0, "found": {"changed": {"accept": 1.0, "reject": 0.96}}},
        {"part": "validators", "name": "edit_distance", "seed": 0, "found": {"edit_distance": {"accept": 0.9}}},
        {"part": "toy", "name": "toy", "seed": 0, "found": toy},
        {"part": "coverage", "name": "coverage", "seed": 0, "found": {"reader": {"a": 95}, "label": {"b": 94}}},
        *(planted("erm", seed, "1111", "1000") for seed in (0, 1)),
        *(planted("swapped_consistency", seed, "1111", "0000") for seed in (0, 1)),
    ]
    found = summary([{"commit": "x"} | row for row in rounds])
    assert found["validators"]["changed"]["reject"] == 0.96 and found["validators"]["edit_distance"]["accept"] == 0.9
    assert found["toy"]["erm"]["s_inverted"] == 3.0 and found["toy_difference_from_published"]["erm"] > 90
    assert found["methods"]["erm"]["aligned"] == 100 and found["methods"]["erm"]["inverted"] == 25
    assert found["methods"]["swapped_consistency"]["inverted"] == 0 and found["coverage"]["reader"]["a"] == 95
    found["validators"] = {"changed": found["validators"]["changed"] | {"pairs": 10, "corrupted": 9}}
    shown = table(found)
    assert "swapped_consistency" in shown and "25.0" in shown and "reader, a" in shown and "speed" not in shown


def test_quick_has_every_part_and_every_method_once():
    done = jobs(QUICK, PARTS)
    assert {job["part"] for job in done} == set(PARTS)
    assert [job["name"] for job in done if job["part"] == "methods"] == list(METHODS)
    full = [(job["part"], job["name"], job["seed"]) for job in jobs(Size(), ("reviews", "methods"))]
    assert len(set(full)) == len(full) == 3 * 4 + 3 * 4 + 1, "the base model is the same for every seed"


def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    """Parts that are in the file are not run again."""
    ran = []
    told = {"pairs": 1, "seconds": 1.0, "seconds_of_processor": 1.0, "peak_mb": 1.0, "peak_mb_of_a_fifth": 1.0}
    monkeypatch.setattr(counterfactual, "speed", lambda rows: ran.append(rows) or {"found": told, "commit": "x"})
    for _ in (0, 1):
        counterfactual.main(tmp_path / "found.json", quick=True, only=["speed"])
        assert "lexicon pairs" in capsys.readouterr().out
    assert ran == [QUICK.rows]
    assert json.loads((tmp_path / "found.json").read_text())["speed"]["pairs"] == 1
    with pytest.raises(Exception, match="there is no part 'fast'"):
        counterfactual.main(tmp_path / "found.json", only=["fast"])


def test_words_that_have_to_stay_say_no_cue():
    words = validated.fixed_words(PRODUCT_COMPLAINTS)
    assert "kettle" in words and "that" in words and not {"by", "in", "a", "letter"} & set(words)


def test_a_label_that_few_texts_of_these_causes_have_is_unusual():
    usual = validated.usual(MEDICAL_NOTES, 400)
    for symptom, diagnosis in (("wheeze", "asthma"), ("fever", "pneumonia")):
        for label, name in enumerate(MEDICAL_NOTES.classes):
            assert usual((Row("x", label, {"symptom": symptom}), None)) == (name == diagnosis)


def test_shares_of_worlds_are_weighted_by_pairs():
    one = {"accept": 1.0, "reject": 1.0, "pairs": 30, "corrupted": 10}
    two = {"accept": 0.5, "reject": 0.0, "pairs": 10, "corrupted": 10}
    found = validated.pooled({"one": one, "two": two})
    assert (found["accept"], found["reject"], found["pairs"]) == (0.875, 0.5, 40) and "accept_all" not in found


def test_real_reviews_to_train_on_are_not_tested_on():
    folder = real("cad_imdb").parent
    sizes = rewritten_reviews.Reviews(words=60, tested_words=60)
    train = rewritten_reviews.trained_on(folder, sizes, 0)
    tests = rewritten_reviews.tested_on(folder, sizes)
    trained = {" ".join(text.split()) for e in train.probe.examples for text in (e.text, e.counterpart)}
    for pairs in tests.values():
        assert not trained & {" ".join(text.split()) for e in pairs.probe.examples for text in (e.text, e.counterpart)}
    assert len(train) == 96 and {name: len(pairs) for name, pairs in tests.items()} == {"contrast": 22, "rewritten": 22}
    labels = np.array([e.label for e in train.probe.examples])
    other = rewritten_reviews.trained_on(folder, sizes, 1)
    assert 0.3 < labels.mean() < 0.7 and other.probe.examples[0].text != other.probe.examples[0].counterpart
    assert [e.text for e in other.probe.examples] != [e.text for e in train.probe.examples], "the seed draws members"


def test_half_of_the_pairs_has_half_of_the_rows(monkeypatch):
    example = icp.Example("a", "b", (" no", " yes"), label=0)
    pairs = icp.FlippingPairs(icp.Probe((example,) * 9), (1,) * 9)
    monkeypatch.setattr(rewritten_reviews, "trained_on", lambda *asked: pairs)
    seen = {}
    monkeypatch.setattr(icp, "finetune", lambda base, train, objective, **more: seen.update({len(train): objective}))
    base = SimpleNamespace()
    for name in rewritten_reviews.METHODS[1:]:
        rewritten_reviews.trained(name, base, None, rewritten_reviews.Reviews(), 0)
    assert rewritten_reviews.trained("base", base, None, rewritten_reviews.Reviews(), 0) is base
    assert type(seen[4]).__name__ == "FlippedCrossEntropy" and type(seen[9]).__name__ == "FlippedMargin"
