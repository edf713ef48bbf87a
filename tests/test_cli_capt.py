"""`icp capt train | evaluate`: what they write and print, and how they fail."""

import json
import random

import pytest
from reasoner import puzzle, reasoner
from test_cli import run  # noqa: F401  a fixture

import icp
from icp import capt, data
from icp.capt.renaming import renamed
from icp.errors import ArtefactError, DataError

MANNER = ("--rows", 6, "--epochs", 1, "--held-out", 0.4, "--tested", 2, "--batch-size", 4, "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, puzzles, causal questions, and two seeds that were trained."""
    from icp import cli

    folder, draw = tmp_path_factory.mktemp("capt"), random.Random(0)
    reasoner().save_pretrained(folder / "model")
    (folder / "puzzles.json").write_text(json.dumps({"next_steps": [puzzle(draw) for _ in range(80)]}))
    premise = "Premise: Suppose there is a closed system of 2 variables, A and B. A correlates with B in {} samples."
    rows = [f'"{premise.format(n)} Hypothesis: A directly causes B.",{n % 2}' for n in range(6)]
    (folder / "causal.csv").write_text("\n".join(["input,label", *rows]))
    for seed in (0, 1):
        given = ("capt", "train", folder / "model", folder / "puzzles.json", "--out", folder / f"seed-{seed}", *MANNER)
        cli.app([str(part) for part in (*given, "--hops", 2, "--seed", seed)], standalone_mode=False)
    return folder


def test_what_training_leaves(folder):
    recipe, held = capt.Recipe.load(folder / "seed-0" / "capt.json")
    assert (recipe.data_set, recipe.renaming, recipe.pool, recipe.reasoning) == ("prontoqa", "random", 26, False)
    kinds = {"id", "anti", "nonsense", "paraphrased", "new question", "more symbols"}
    assert {one.split for one in held} == kinds and len(held) == 12
    assert recipe.skeletons and not recipe.skeletons & {one.skeleton for one in held}
    _, again = capt.Recipe.load(folder / "seed-1" / "capt.json")
    assert again == held, "what is tested on is the same for every seed"
    assert {one.query_type for one in held} == {"2 hops"}
    first, second = ((folder / f"seed-{n}" / "model" / "model.safetensors").read_bytes() for n in (0, 1))
    assert first != second != (folder / "model" / "model.safetensors").read_bytes()


def test_seeds_are_evaluated_together(run, folder):  # noqa: F811
    status, printed, _ = run("capt", "evaluate", folder / "seed-0", folder / "seed-1", "--quiet", "--by", "query_type")
    found = [capt.Replies.load(folder / f"seed-{seed}" / "replies.json") for seed in (0, 1)]
    table = capt.accuracies(found, "query_type")
    assert status == 0 and f"{table['mean']['2 hops', 'accuracy']:.4f}" in printed
    assert table["seeds"]["2 hops", "accuracy"] == 2 and table["rows"]["2 hops", "accuracy"] == 12
    rows, _ = capt.Recipe("prontoqa").rows(capt.Recipe.load(folder / "seed-0" / "capt.json")[1])
    model = icp.load(str(folder / "seed-0" / "model"))
    assert capt.ask(model, rows, capt.Random(capt.pool(26)), progress=False) == found[0]


def test_f1_on_causal_questions_before_and_after(run, folder):  # noqa: F811
    data_of = ("--data", folder / "causal.csv", "--data-set", "corr2cause", "--limit", 6)
    status, printed, _ = run(
        "capt", "evaluate", folder / "seed-0", *data_of, "--before", folder / "model", "--quiet"
    )  # fmt: skip
    assert status == 0 and "before, and" in printed and "change" in printed
    assert [printed.count(metric) for metric in ("accuracy", "unparsed", "f1")] == [3, 3, 3], "in each table"


def test_free_decoding_counts_what_cannot_be_read(run, folder):  # noqa: F811
    status, _, _ = run("capt", "evaluate", folder / "seed-0", "--decoding", "free", "--max-tokens", 2, "--quiet")
    found = capt.Replies.load(folder / "seed-0" / "replies.json")
    assert status == 0 and len(found.texts) == 12
    for text, told in zip(found.texts, found.said):
        assert told == capt.parsed(text, ("True", "False"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--renaming", "letters"), "there is no 'letters': use one of random, order, null, names, fixed"),
        (("--data-set", "squad"), "there is no 'squad': use one of prontoqa, cladder, corr2cause"),
        (("--data-set", "corr2cause", "--renaming", "names"), "letters, which have no other real names: take random"),
        (("--data-set", "corr2cause", "--hops", 1), "--hops cuts the chains of PrOntoQA"),
        (("--models", "x.json"), "prontoqa has no file of models"),
        (("--rows", 5000), "5000 rows to train on were asked for, and there are"),
        (("--hops", 9), "has 3 hops: 9 cannot be kept"),
        (("--train-on", "anti"), "no problem to train on is of the split 'anti': there are true"),
        (("--pool", 3), "take a larger pool"),
        (("--renaming", "fixed", "--pool", 3), "events, and 3 symbols are none of their words: take a larger pool"),
        (("--pool", 0), "a pool of 0 symbols cannot be had"),
        (("--refused", "as-is"), "is not trained on as it is"),
        (("--refused", "never"), "refused='never': use one of error, skip, as-is"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_sentence_and_leaves_nothing(run, folder, tmp_path, more, said):  # noqa: F811
    source = folder / ("causal.csv" if "--hops" in more and "corr2cause" in more else "puzzles.json")
    status, _, error = run(
        "capt", "train", folder / "model", source, "--out", tmp_path / "out", "--quiet", *more
    )  # fmt: skip
    assert status == 1 and error.startswith("icp: ") and said in error and not (tmp_path / "out").exists()


def test_what_cannot_be_evaluated(run, folder):  # noqa: F811
    for more, said in (
        (("--limit", 3), "--skip-unanswered and --limit go with --data"),
        (("--decoding", "loud"), "decoding='loud'"),
        (("--by", "graph"), "--by 'graph': use one of split, query_type, rung"),
    ):
        status, _, error = run("capt", "evaluate", folder / "seed-0", "--quiet", *more)
        assert status == 1 and said in error
    recipe, held = capt.Recipe.load(folder / "seed-0" / "capt.json")
    recipe.require_apart(held)
    cut = [capt.shortened(one, 2) for one in data.prontoqa(folder / "puzzles.json")]
    with pytest.raises(DataError, match=r"of problem \d+ was trained on: ask others"):
        recipe.require_apart(cut)
    status, _, error = run("capt", "evaluate", folder)
    assert status == 1 and "capt.json" in error


def test_prompts_that_are_refused_are_an_error_left_out_or_as_they_are(run, folder):  # noqa: F811
    recipe, held = capt.Recipe.load(folder / "seed-0" / "capt.json")
    strange = data.Problem("Cats purr.", "True", ("True", "False"))
    with pytest.raises(DataError, match=r"1 of 13 prompts have no valid abstraction \(1 a sentence that no rule reads"):
        recipe.rows([*held, strange])
    rows, reasons = recipe.rows([strange, *held], "skip")
    assert len(rows) == 12 and reasons == {"a sentence that no rule reads": 1}
    rows, _ = recipe.rows([strange, *held], "as-is")
    assert capt.copies(rows, recipe.asked)[0] == strange and [row.problem for row in rows[1:]] == held


def test_a_recipe_that_is_damaged(folder, tmp_path):
    whole = (folder / "seed-0" / "capt.json").read_text()
    for broken in (whole.replace('"pool"', '"pond"'), whole.replace('"answers"', '"replies"'), whole[:-5]):
        (tmp_path / "capt.json").write_text(broken)
        with pytest.raises(ArtefactError):
            capt.Recipe.load(tmp_path / "capt.json")
    assert capt.Recipe("prontoqa", "names").asked == capt.Null()


def test_each_data_set_has_its_own_other_names():
    from test_other_events import SMELLS, TEA

    rows = [TEA, *SMELLS]
    assert capt.Recipe("prontoqa", "names").replacement(rows) == capt.Names()
    assert capt.Recipe("cladder", "names").replacement(rows) == capt.OtherEvents.of(rows)
    assert capt.Recipe("corr2cause", "random").replacement(rows) == capt.Random(capt.pool(26))
    assert capt.Recipe("cladder").validator == capt.Validator(capt.FRAME)


def test_a_fixed_symbol_an_event_is_the_same_for_every_seed_and_kept(run, folder, tmp_path):  # noqa: F811
    given = ("capt", "train", folder / "model", folder / "puzzles.json", *MANNER, "--hops", 2)
    runs = [tmp_path / str(seed) for seed in (0, 1)]
    for seed, out in enumerate(runs):
        status, _, error = run(*given, "--out", out, "--renaming", "fixed", "--pool", 100, "--seed", seed)
        assert status == 0, error
    (recipe, held), (other, _) = (capt.Recipe.load(out / "capt.json") for out in runs)
    assert recipe.asked == other.asked and len(recipe.table) == len(dict(recipe.table)) > 6
    assert recipe.asked == capt.Fixed(recipe.table, capt.pool(100))
    status, printed, error = run("capt", "evaluate", *runs, "--quiet")
    assert status == 0 and "accuracy" in printed, error
    rows, _ = recipe.rows([one for one in held if one.split in ("id", "anti")])
    known = dict(recipe.table)
    for row in rows:
        told = renamed(row, recipe.asked, random.Random(0)).prompt
        assert told == renamed(row, recipe.asked, random.Random(1)).prompt, "nothing is drawn"
        assert any(f" {symbol}" in told for symbol in known.values())


def test_rows_without_an_answer_are_left_out_where_that_is_said(run, folder, tmp_path):  # noqa: F811
    lines = (folder / "causal.csv").read_text().splitlines()
    source = tmp_path / "causal.csv"
    source.write_text("\n".join([*lines, lines[1][:-1], lines[2][:-1]]))
    given = ("capt", "abstract", source, "--data-set", "corr2cause", "--out", tmp_path / "found.json", "--quiet")
    status, _, error = run(*given)
    assert status == 1 and "line 8: the field 'label' is ''" in error and not (tmp_path / "found.json").exists()
    status, printed, error = run(*given, "--skip-unanswered")
    assert status == 0, error
    assert f"left out: 2 rows without an answer, the first: {source}, line 8" in printed and "6 of 6" in printed
