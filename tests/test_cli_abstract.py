"""`icp capt abstract | show`, and the prompts that cannot be abstracted: named, counted, and left out if said so."""

import json
from dataclasses import replace

import pytest
from test_cli import run  # noqa: F401  a fixture
from test_editors import chat, served
from test_other_events import LETTERS
from test_problems import FICTIONAL
from test_renaming import PROBLEM

from icp import capt, data
from icp.errors import ArtefactError, DataError

MANY = " ".join(f"Each {a}us is a {b}us." for a, b in zip("bcdfghjklm", "cdfghjklmn"))
MAX = "Max is a bus.\nIs the following statement true or false? Max is a nus."


@pytest.fixture
def rows(tmp_path):
    """A file of so many rows; `changed` fields make one more."""

    def written(count=3, **changed):
        told = [FICTIONAL] * count + ([FICTIONAL | changed] if changed else [])
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(told), encoding="utf-8")
        return path

    return written


def test_abstractions_are_written_and_shown(run, rows, tmp_path):  # noqa: F811
    out = tmp_path / "found.json"
    long = MANY + " Max is a bus."
    path = rows(context=long, question="Is the following statement true or false? Max is a nus.")
    status, printed, _ = run("capt", "abstract", path, "--out", out, "--most", 5, "--skip", "--quiet")
    assert status == 0 and printed == f"refused: 1 more events than symbols\n3 of 4 prompts: {out}\n"
    found, about = capt.load_abstractions(out)
    problems = data.prontoqa(path)
    assert found == capt.abstract_all(problems, capt.SyllogismRules(), capt.Validator(most=5))
    assert about == {"data set": "prontoqa", "estimator": "rules", "model": "none"} and found.rows[0].worked is not None
    assert capt.copies(found.rows, capt.Random(), count=2)

    status, printed, _ = run("capt", "show", out, "--title", "A title", "--count", 2)
    page = (tmp_path / "found.html").read_text("utf-8")
    assert status == 0 and printed == f"page: {tmp_path / 'found.html'}\n"
    assert "A title" in page and "<mark>wumpus<sub>1</sub></mark>" in page and "Each {symbol_1} is a {symbol_2}" in page
    assert page.count("<hr>") == 2 and "more events than symbols" in page and "75.0%" in page


def test_what_is_denied_is_struck_through():
    found = capt.Abstraction.of("nonsmokers <b>", [(0, 10, "smoking", False)])
    page = capt.show(capt.Abstractions((capt.Abstracted(PROBLEM, found),), ()), {}).html
    assert "<mark><s>nonsmokers</s><sub>1</sub></mark> &lt;b&gt;" in page


def test_a_limit_draws_the_same_rows_and_letters_are_read(run, tmp_path):  # noqa: F811
    path = tmp_path / "causal.csv"
    lines = [f'"{LETTERS.replace("confounder", f"confounder {n}")}",{n % 2}' for n in range(9)]
    path.write_text("\n".join(["input,label", *lines]))
    for out in ("a.json", "b.json"):
        status, _, _ = run(
            "capt", "abstract", path, "--data-set", "corr2cause", "--out", tmp_path / out, "--limit", 4, "--quiet"
        )
        assert status == 0
    found, _ = capt.load_abstractions(tmp_path / "a.json")
    assert len(found.rows) == 4 and found == capt.load_abstractions(tmp_path / "b.json")[0]
    assert found.rows[0].abstraction.slots == 3


def test_an_event_that_is_an_answer_too_is_left_out_only_where_said(run, rows, tmp_path):  # noqa: F811
    path = rows(question="Is the following statement true or false? Max is false.")
    out = tmp_path / "out.json"
    status, printed, error = run("capt", "abstract", path, "--out", out, "--quiet")
    assert status == 1 and "refused: 1 an event is an answer\n" in printed and not out.exists()
    assert "1 of 4 prompts have no valid abstraction" in error and "say --skip to leave them out" in error
    assert run("capt", "abstract", path, "--out", out, "--quiet", "--skip")[0] == 0 and out.exists()


BAD = {
    "no events": "True or false?",
    "more events than symbols": f"{MANY} {MAX}",
    "not English": "Jede Katze ist ein Tier. Alle Tiere sind klein. Rex ist eine Katze. Wahr: Rex ist klein.",
    "a sentence that no rule reads": "Cats purr. True or false: Rex is furry.",
}


@pytest.mark.parametrize("reason", BAD)
def test_a_prompt_that_cannot_be_abstracted_is_named_and_counted(reason):
    bad = replace(PROBLEM, prompt=BAD[reason], reasoning=None)
    found = capt.abstract_all([PROBLEM, bad, bad], capt.SyllogismRules(), capt.Validator(most=9))
    assert found.reasons == {reason: 2} and len(found.rows) == 1
    assert all(one.prompt == BAD[reason] and one.told for one in found.refused)


@pytest.mark.parametrize("text", ["每只猫都是动物。雷克斯是一只猫。", "Каждая кошка — животное. Рекс — кошка."])
def test_other_scripts_are_not_english(text):
    found = capt.abstract_all([replace(PROBLEM, prompt=text, reasoning=None)], capt.SyllogismRules())
    assert found.reasons == {"not English": 1}


def test_events_that_overlap_are_refused():
    with pytest.raises(DataError, match=r"the event 'cat is' of 'A cat is furry.' overlaps another"):
        capt.Abstraction("A cat is furry.", (capt.Mention(2, 5, 0), capt.Mention(2, 8, 1)))


def test_a_row_without_an_answer_is_named(run, rows, tmp_path):  # noqa: F811
    for answer in (None, "", "C"):
        status, _, error = run("capt", "abstract", rows(answer=answer), "--out", tmp_path / "out.json", "--quiet")
        assert status == 1 and "rows.json, row 3: the field 'answer' is" in error
    with pytest.raises(DataError, match="the answer '' of 'Sheep are"):
        replace(PROBLEM, answer="")


def test_a_served_model_finds_events_and_its_junk_is_counted(run, rows, tmp_path):  # noqa: F811
    out, path = tmp_path / "out.json", rows(1)
    with served(chat("no idea")) as (url, seen):
        more = ("--estimator", "endpoint", "--base-url", url, "--model", "m", "--cache", tmp_path / "cache")
        for _ in range(2):
            status, printed, error = run("capt", "abstract", path, "--out", out, "--quiet", *more)
            assert status == 1 and printed == "refused: 1 no list of events\n" and "has no JSON list" in error
        assert len(seen) == 3, "tried three times, and then known"
    told = json.dumps([{"yes": words} for words in (["wumpus"], ["impus", "Impuses"], ["luminous"], ["Max"])])
    with served(chat(told)) as (url, seen):
        status, printed, _ = run("capt", "abstract", path, "--out", out, "--quiet", *more[:3], url, *more[4:])
    assert status == 0 and capt.load_abstractions(out)[0].rows[0].abstraction.slots == 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--estimator", "magic"), "there is no estimator 'magic': use one of rules, language-model, endpoint"),
        (("--model", "smollm2"), "do not go with rules"),
        (("--estimator", "endpoint", "--model", "m"), "is asked by --base-url and --model: give both"),
        (("--estimator", "language-model", "--base-url", "http://x"), "--base-url goes with --estimator endpoint"),
        (("--data-set", "squad"), "there is no data set 'squad'"),
    ],
)
def test_options_that_do_not_go_together(run, rows, tmp_path, more, said):  # noqa: F811
    status, _, error = run("capt", "abstract", rows(), "--out", tmp_path / "out.json", "--quiet", *more)
    assert status == 1 and error.startswith("icp: ") and said in error and not (tmp_path / "out.json").exists()


def test_a_file_that_is_damaged(run, rows, tmp_path):  # noqa: F811
    out = tmp_path / "found.json"
    assert run("capt", "abstract", rows(), "--out", out, "--quiet")[0] == 0
    whole = out.read_text("utf-8")
    for broken in (whole[:-9], whole.replace('"mentions"', '"places"'), whole.replace("[[5,", "[[9999,")):
        assert broken != whole
        out.write_text(broken, "utf-8")
        with pytest.raises(ArtefactError):
            capt.load_abstractions(out)
    status, _, error = run("capt", "show", out)
    assert status == 1 and "is damaged" in error
