"""`icp pairs make | check | show`: what they write and print, and how they fail."""

import json
import shutil

import pytest
from counterfactuals import SPEC, sentences
from helpers import BY_NAME
from test_cli import run  # noqa: F401  a fixture

from icp.counterfactual import LexiconSwap, MadePairs, check_pairs, lines_of, make_pairs
from icp.counterfactual.validators import EditDistance, SpansKept
from icp.errors import DataError, SpecError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    """A spec, sentences with a place that no lexicon finds, and one sentence that says nothing of the cue."""
    SPEC.save(tmp_path / "spec.toml")
    rows = [{"text": row.text, "label": SPEC.classes[row.label], "place": "Oslo"} for row in sentences(40)]
    write(tmp_path / "data.jsonl", [*rows, {"text": "a dull film", "label": 0}])
    write(tmp_path / "labels.jsonl", [{"text": row.text, "label": row.label} for row in sentences(300, seed=9)])
    return tmp_path


def make(run, folder, *more):  # noqa: F811
    return run(
        "pairs", "make", folder / "data.jsonl", "--spec", folder / "spec.toml", "--variable", "gender",
        "--out", folder / "pairs", "--quiet", *more,
    )  # fmt: skip


def test_pairs_are_made_checked_and_shown(run, folder):  # noqa: F811
    status, printed, _ = make(run, folder, "--validator", "changed")
    made = MadePairs.load(folder / "pairs")
    expected = make_pairs(lines_of(folder / "data.jsonl", SPEC), edit=LexiconSwap("gender"), spec=SPEC, progress=False)
    assert status == 0 and list(made) == list(expected) and len(made) == 40
    assert made[0][0].columns == {"place": "Oslo"}
    assert f"40 label-preserving pairs of 41 rows: {folder / 'pairs'}\n" in printed
    assert "no word of the variable" in printed and "97.6%" in printed

    more = ("--validator", "cue-flips", "--validator", "edit-distance:0.1", "--label-data", folder / "labels.jsonl")
    status, printed, _ = run("pairs", "check", folder / "pairs", *more, "--quiet")
    lines = {line.split("  ")[0]: line.split() for line in printed.splitlines()}
    assert status == 0 and lines["cue flips"][-3:] == ["40", "100.0%", "0"]
    assert lines["label agrees"][-3:] == ["40", "100.0%", "0"]
    assert int(lines["edit distance"][-1]) > 0 and lines["all"][-1] == lines["edit distance"][-1]
    assert "first rejected by edit distance: 0." in printed

    status, printed, _ = run("pairs", "show", folder / "pairs", "--title", "A title", "--count", 3)
    page = (folder / "pairs" / "pairs.html").read_text("utf-8")
    assert status == 0 and str(folder / "pairs" / "pairs.html") in printed
    assert "A title" in page and "3 of 40" in page and "no word of the variable" in page


def test_validators_filter_while_pairs_are_made(run, folder):  # noqa: F811
    status, printed, _ = make(run, folder, "--validator", "edit-distance:0.1", "--validator", "fixed-words:film,a")
    made = MadePairs.load(folder / "pairs")
    assert status == 0 and 0 < len(made) < 40 and "edit too large" in printed
    assert made.counts["accepted"] + made.counts["rejected"]["edit too large"] == 40


def test_any_word_to_a_value_by_a_seed(run, folder):  # noqa: F811
    texts = []
    for seed in (0, 1):
        shutil.rmtree(folder / "pairs", ignore_errors=True)
        assert make(run, folder, "--edit", "any-word", "--to", "male", "--seed", seed)[0] == 0
        made = MadePairs.load(folder / "pairs")
        assert {edit.after for _, edit in made} == {"male"}
        texts.append([edit.text for _, edit in made])
    assert texts[0] != texts[1]


def test_counterparts_that_are_given_become_flipping_pairs(run, folder):  # noqa: F811
    rows = [{"text": "a dull film", "label": 0, "counterpart": "a gripping film", "counterpart_label": 1}]
    write(folder / "data.jsonl", rows)
    call = ("pairs", "make", folder / "data.jsonl", "--spec", folder / "spec.toml", "--out", folder / "pairs")
    status, printed, _ = run(*call, "--variable", "verdict", "--edit", "given", "--quiet")
    [(_, edit)] = MadePairs.load(folder / "pairs")
    assert status == 0 and edit.label == 1 and "1 label-flipping pairs of 1 rows" in printed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--edit", "flip"), "there is no edit 'flip': use one of swap, any-word, given"),
        (("--edit", "given", "--seed", 1), "--to and --seed do not go with --edit given"),
        (("--to", "young"), "'gender' cannot become 'young'"),
        (("--validator", "spans"), "there is no validator 'spans': use one of spans-kept, "),
        (("--validator", "changed:1"), "there is no validator 'changed:1'"),
        (("--validator", "edit-distance:far"), "'edit-distance:far' has no number after the colon"),
        (("--validator", "fixed-words"), "there is no validator 'fixed-words'"),
        (("--label-data", "nowhere.jsonl"), "there is no file 'nowhere.jsonl'"),
        (("--variable", "age"), "there is no variable 'age' in the spec"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_one_sentence_and_leaves_nothing(run, folder, more, said):  # noqa: F811
    status, _, error = make(run, folder, *more)
    assert status == 1 and error.startswith("icp: ") and said in error and not (folder / "pairs").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a film", "label": "neutral"}', "line 2 has the label 'neutral': the classes are neg"),
        ('{"text": "a film"}', "line 2: row 0 ('a film') has the label None"),
        ('{"text": "", "label": 1}', "line 2: row 0 has the text ''"),
        ('{"text": ', "line 2 is not JSON"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_is_named(tmp_path, line, said):
    (tmp_path / "data.jsonl").write_text('{"text": "she sees", "label": 1}\n' + line)
    rows = lines_of(tmp_path / "data.jsonl", SPEC)
    assert next(rows).label == 1
    with pytest.raises(DataError) as raised:
        next(rows)
    assert said in str(raised.value)


def test_a_folder_that_holds_no_pairs(run, tmp_path):  # noqa: F811
    for command in ("check", "show"):
        status, _, error = run("pairs", command, tmp_path)
        assert status == 1 and "pairs.json" in error


@pytest.fixture(scope="module")
def made():
    return make_pairs(sentences(600), edit=LexiconSwap("gender"), spec=SPEC, progress=False)


def test_every_validator_judges_every_pair(made):
    table = check_pairs(made, [EditDistance(0.1), SpansKept()], progress=False)
    far = [EditDistance(0.1).reject(row, edit, SPEC) for row, edit in made]
    rejected = sum(why is not None for why in far)
    assert list(table["rejected"]) == [rejected, 0, rejected] and 0 < rejected < 600
    assert list(table["accepted"]) == [600 - rejected, 600, 600 - rejected]
    assert table["share accepted"]["all"] == pytest.approx(1 - rejected / 600)
    assert table["first"]["edit distance"] == next(why for why in far if why) and table["first"]["spans kept"] == ""


@pytest.mark.parametrize("validators", [[], [EditDistance(), EditDistance(0.1)]])
def test_validators_have_to_be_told_apart(made, validators):
    with pytest.raises(SpecError, match="give one or more, each once"):
        check_pairs(made, validators, progress=False)


def test_the_model_that_judges_fluency_is_loaded_by_name(run, folder):  # noqa: F811
    BY_NAME["llama"].model().save_pretrained(folder / "model")
    make(run, folder)
    status, printed, _ = run("pairs", "check", folder / "pairs", "--language-model", folder / "model", "--quiet")
    assert status == 0 and "perplexity ratio" in printed and "changed" not in printed
