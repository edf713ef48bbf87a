"""The demo's sentences and splits, and the whole demo on a tiny model."""

from pathlib import Path

import pytest

import icp
from icp.demo import reviews, sentences


def test_a_pair_differs_in_the_occupation_only():
    for example in sentences.pairs().examples:
        hers, his = example.word.split("/")
        assert example.text.replace(hers, his) == example.counterpart
    words = [word for pair in sentences.OCCUPATIONS for word in pair]
    parts = [part for word in words for part in word.split()]
    assert len(set(parts)) == len(parts)


def test_name_sentences_mention_no_occupation_of_a_pair():
    words = {word for pair in sentences.OCCUPATIONS for word in pair}
    for template in sentences.NAME_TEMPLATES:
        assert not words & set(template.replace(",", "").split()), template


def test_no_sentence_stands_twice_and_a_name_never_comes_first():
    assert len(set(sentences.NEUTRAL)) == len(sentences.NEUTRAL)
    assert not any(template.startswith("{") for template in sentences.NAME_TEMPLATES)


@pytest.mark.parametrize("seed", range(3))
def test_splits_share_no_template_occupation_or_name(seed):
    for probe in (sentences.pairs(), sentences.names()):
        parts = probe.split(by=("template", "word"), seed=seed)
        for field in ("template", "word"):
            seen = [{getattr(example, field) for example in part.examples} for part in parts]
            assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_no_neutral_sentence_speaks_of_the_pronouns_or_the_occupations():
    words = {word for pair in sentences.OCCUPATIONS for word in pair} | {"she", "he", "her", "his"}
    for text in sentences.NEUTRAL:
        assert not words & set(text.lower().replace(".", "").replace(",", "").split()), text


def test_reviews_are_distinct_short_and_balanced_in_every_slice_of_four():
    texts = [text for text, _ in reviews.LABELLED]
    assert len({text.lower() for text in texts}) == len(texts) == 160
    assert [label for _, label in reviews.LABELLED] == [0, 1] * 80
    lengths = [[len(text.split()) for text in texts[label::2]] for label in (0, 1)]
    assert min(map(min, lengths)) >= 3 and max(map(max, lengths)) <= 18
    assert abs(sum(lengths[0]) - sum(lengths[1])) < 0.1 * sum(lengths[0])


@pytest.mark.smollm2
def test_every_pair_can_be_aligned_and_every_name_is_understood(smollm2):
    assert len(sentences.pairs().alignable(smollm2)) == len(sentences.pairs())
    right = icp.evaluate(smollm2, sentences.names().take(60), ["accuracy"]).values["smollm2"]["accuracy"]
    assert right.mean() > 0.95


def fewer(probe, templates, words=1):
    """The examples of so many templates and words, the first of each."""
    first = {field: list(dict.fromkeys(getattr(e, field) for e in probe.examples)) for field in ("template", "word")}
    kept = set(first["template"][:templates]), set(first["word"][:words])
    return icp.Probe(tuple(e for e in probe.examples if e.template in kept[0] and e.word in kept[1]))


@pytest.mark.smollm2
def test_the_demo_from_end_to_end_on_few_units(smollm2, tmp_path, monkeypatch):
    """The real model, some of the sentences, a handful of candidates: every artefact is there and says the same."""
    from icp.demo import run

    for name, taken in (("pairs", (6, 7)), ("names", (6, 6)), ("neutral", (12,))):
        some = fewer(getattr(sentences, name)(), *taken)
        monkeypatch.setattr(sentences, name, lambda some=some: some)

    def small(model, probe, costs, folder, **options):
        few = {name: (inputs.take(4), loss) for name, (inputs, loss) in costs.items()}
        return score(model, probe.take(6), few, folder, candidates=6, pairs=4, dosed=1, **options)

    def generous(*args, max_damage, **options):
        return cut(*args, max_damage=dict.fromkeys(max_damage, 99.0), **options)

    score, cut = run.score, run.cut
    monkeypatch.setattr(run, "score", small)
    monkeypatch.setattr(run, "cut", generous)
    monkeypatch.setattr(run, "RANDOM_CONTROLS", 1)
    monkeypatch.setattr(run, "load", lambda name: smollm2)
    done = run.run_demo(tmp_path / "out", progress=False)

    values = done.evaluation.values
    assert list(values) == ["before", "after", "random 1", "largest weights"]
    assert values["after"]["gap"].mean() < values["before"]["gap"].mean()
    pruned = icp.load(tmp_path / "out" / "pruned")
    selection = icp.Selection.load(tmp_path / "out" / "selection.safetensors")
    assert pruned.selection.units == selection.units
    held_out = sentences.pairs().split(by=("template", "word"), seed=0)[2]
    again = icp.evaluate(pruned, held_out, ["gap"]).values[pruned.name]["gap"]
    assert again == pytest.approx(values["after"]["gap"], abs=1e-3)
    turned = icp.ChangedAnswers.load(tmp_path / "out" / "changed-answers-names.json")
    assert turned.accuracy()["mean"] == pytest.approx(
        values["after"]["accuracy"].mean() - values["before"]["accuracy"].mean()
    )
    assert len(icp.ChangedAnswers.load(tmp_path / "out" / "changed-answers-pairs.json")) == len(held_out)
    page = (tmp_path / "out" / "report.html").read_text()
    assert str(selection.units[0]) in page and "dequantised" in page
    assert f"{values['before']['gap'].mean():.2f}" in page


def test_the_readme_names_files_that_exist():
    root = Path(__file__).parent.parent
    text = (root / "README.md").read_text()
    notebooks = ("01_explore.ipynb", "02_mitigate.ipynb", "03_counterfactual.ipynb", "04_capt.ipynb", "demo.png")
    for name in (*(f"notebooks/{name}" for name in notebooks), "icp/families.py"):
        assert name in text and (root / name).is_file()
