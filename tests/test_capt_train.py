"""Training on renamed events and asking afterwards: what is refused, what is read off replies, and what it adds to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reasoner import problems, reasoner

from icp import data
from icp.capt import (
    Abstracted,
    Abstraction,
    Corrupted,
    Null,
    Random,
    Redrawn,
    Replies,
    SyllogismRules,
    Validator,
    abstract,
    abstract_all,
    accuracies,
    ask,
    copies,
    parsed,
    train,
)
from icp.errors import ArtefactError, DataError
from icp.generation import generate

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def rows():
    found = abstract_all(problems(), SyllogismRules())
    assert not found.refused
    return found.rows


def test_a_model_learns_its_rows_and_is_asked_them(rows):
    few, test = rows[:4], [replace(rows[4].problem, skeleton="other")]
    arguments = {"learning_rate": 2e-2, "per_device_train_batch_size": 4}
    tuned = train(reasoner(), few, Null(), test=test, epochs=60, arguments=arguments, **QUIET)
    assert tuned.tuning.history[-1]["step"] == 60
    assert ask(tuned, few, Null(), **QUIET).right.mean() == 1
    again = train(reasoner(), few, Null(), test=test, epochs=60, arguments=arguments, **QUIET)
    assert all(torch.equal(tuned.tuning.weights[name], value) for name, value in again.tuning.weights.items())


def test_what_is_trained_on_are_copies_renamed_afresh(rows, monkeypatch):
    seen = {}

    def kept(model, probe, **options):
        seen.update(options, probe=probe)
        return model

    monkeypatch.setattr("icp.capt.training.finetune", kept)
    few = rows[:3]
    train(reasoner(), few, Random(), test=[], epochs=5, seed=2, arguments={"learning_rate": 1.0}, **QUIET)
    texts = [one.text for one in seen["probe"].examples]
    assert texts == [f"{one.prompt}\nAnswer:" for one in copies(few, Random(), 5, seed=2)] and len(set(texts)) == 15
    assert seen["arguments"] == {"learning_rate": 1.0, "num_train_epochs": 1} and seen["seed"] == 2
    train(reasoner(), few, Null(), test=[], epochs=1, reasoning=True, **QUIET)
    assert seen["probe"].examples[0].text.endswith("\nReasoning:")
    assert seen["probe"].examples[0].answers[0].endswith(f"\nAnswer: {few[0].problem.answer}\n\n")


def test_what_is_not_trained_on(rows):
    model = reasoner()
    with pytest.raises(DataError, match="the skeleton 'k0' of test problem 0 was trained on"):
        train(model, rows[:3], Random(), test=[problems()[3]], **QUIET)
    spoilt = [abstract(one.problem, Corrupted(SyllogismRules(), 0.4, errors=("missed",))) for one in rows]
    with pytest.raises(DataError, match=r"the abstraction of row \d+ .* is not valid: .*event word left"):
        train(model, spoilt, Random(), test=[], **QUIET)
    without = [Abstracted(rows[0].problem, Abstraction(rows[0].problem.prompt, ()))]
    with pytest.raises(DataError, match="is not valid: no events"):
        train(model, without, Random(), test=[], **QUIET)
    with pytest.raises(DataError, match="has no reasoning to train on"):
        train(model, [replace(without[0], problem=replace(rows[0].problem, reasoning=None))], Null(), test=[],
              reasoning=True, **QUIET)  # fmt: skip
    with pytest.raises(DataError, match="there are no rows to train on"):
        train(model, [], Null(), test=[], **QUIET)
    for bad in ({"epochs": 0}, {"arguments": {"num_train_epochs": 2}}):
        with pytest.raises(DataError, match=r"epochs=\d: give 1 or more"):
            train(model, without, Null(), test=[], **bad, **QUIET)


def test_invalid_rows_are_trained_on_where_that_is_asked_for(rows, monkeypatch):
    seen = []
    monkeypatch.setattr("icp.capt.training.finetune", lambda model, probe, **options: seen.append(probe) or model)
    spoilt = [abstract(one.problem, Corrupted(SyllogismRules(), 0.4)) for one in rows]
    assert any(Validator().reasons(one) for one in spoilt)
    train(reasoner(), spoilt, Random(), test=[], epochs=1, validator=None, **QUIET)
    assert len(seen[0]) == len(rows)


@pytest.mark.parametrize("decoding", ["constrained", "free"])
@pytest.mark.parametrize("reasoning", [False, True])
def test_asking_in_every_way(rows, decoding, reasoning):
    model, some = reasoner(), rows[:3]
    options = dict(decoding=decoding, reasoning=reasoning, max_tokens=6, **QUIET)
    found = ask(model, some, Random(), **options, seed=1)
    assert found == ask(model, some, Random(), **options, seed=1, batch_size=1)
    assert found.problems == tuple(row.problem for row in some)
    assert bool(found.texts) == (reasoning or decoding == "free")
    assert all(told in ("True", "False", None) for told in found.said)
    if decoding == "constrained":
        assert None not in found.said
    elif reasoning:
        assert found.said == (None,) * 3, "6 tokens are too few to come to an answer"


def test_constrained_decoding_is_the_likelier_answer_after_what_was_written(rows):
    model, [one] = reasoner(), copies(rows[:1], Random(), seed=1)
    found = ask(model, rows[:1], Random(), reasoning=True, seed=1, max_tokens=6, **QUIET)
    [[text]] = generate(model, [one.prompt + "\nReasoning:"], max_tokens=6, stops=("\n\n", "\nAnswer:"))
    ids = model.tokenizer([f"{one.prompt}\nReasoning: {text}\nAnswer:"], return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model.module(ids).logits[0, -1]
    true, false = (model.tokenizer(answer)["input_ids"][0] for answer in (" True", " False"))
    assert found.texts == (text,) and found.said == ("True" if logits[true] > logits[false] else "False",)


def test_free_decoding_reads_what_was_written(rows, monkeypatch):
    texts = [" True.", "maybe", "False\nTrue"]
    monkeypatch.setattr("icp.capt.answering.generate", lambda model, prompts, **_: [[text] for text in texts])
    found = ask(reasoner(), rows[:3], Null(), decoding="free", **QUIET)
    assert found.said == ("True", None, "False") and found.unparsed.tolist() == [0, 1, 0]
    texts = ["Rex is furry.\nAnswer: False", "Answer: True", "True"]
    found = ask(reasoner(), rows[:3], Null(), decoding="free", reasoning=True, **QUIET)
    assert found.said == ("False", "True", None)


def test_asking_what_cannot_be_asked(rows):
    with pytest.raises(DataError, match="decoding='greedy' of 1 rows: use one of constrained, free"):
        ask(reasoner(), rows[:1], Null(), decoding="greedy")
    with pytest.raises(DataError, match="give rows"):
        ask(reasoner(), [], Null())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("True", "True"), (" false.", "False"), ("The answer is True, that is certain.", "True"), ("true true", "True"),
        ("True\nFalse", "True"), ("", None), ("Truely", None), ("True or False", None), ("It is not true.", None),
        ("Rex", None), ("un-true", "True"),
    ],
)  # fmt: skip
def test_answers_are_read_or_are_not(text, answer):
    assert parsed(text, ("True", "False")) == answer


def replies(*said: str | None) -> Replies:
    """To problems that ask True, False, True, False ... of two splits and rungs."""
    asked = [
        data.Problem(f"p{n}", ("True", "False")[n % 2], ("True", "False"), split="id" if n < 4 else "anti", rung=n % 2,
                     skeleton=f"k{n}")
        for n in range(len(said))
    ]  # fmt: skip
    return Replies(tuple(asked), said)


def test_accuracies_of_a_case_worked_by_hand():
    first = replies("True", "False", "False", None, "True", "False", "True", "True")
    assert first.right.tolist() == [1, 1, 0, 0, 1, 1, 1, 0]
    table = accuracies(first)
    assert table["mean"]["id", "accuracy"] == 0.5 and table["mean"]["id", "unparsed"] == 0.25
    assert table["mean"]["anti", "accuracy"] == 0.75 and table["rows"]["anti", "accuracy"] == 4
    assert table["mean"]["id", "f1"] == pytest.approx(2 / 3), "1 of 1 given, 1 of 2 there"
    assert table["mean"]["anti", "f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert table["low"]["anti", "accuracy"] < 0.75 < table["high"]["anti", "accuracy"]
    by_rung = accuracies(first, "rung")
    assert by_rung["mean"][0, "accuracy"] == 0.75 and ("f1" not in by_rung.loc[0].index)
    second = replies("True", "False", "True", "False", "True", "False", "True", "True")
    both = accuracies([first, second])
    assert both["values"]["id", "accuracy"] == (0.5, 1.0) and both["mean"]["id", "accuracy"] == 0.75
    assert both["low"]["id", "accuracy"] < 0.75 and both["seeds"]["id", "accuracy"] == 2
    assert accuracies(first, positive="False")["mean"]["anti", "f1"] == pytest.approx(2 / 3)


def test_f1_before_and_after():
    before, after = replies("True", "True", "False", None), replies("True", "False", "True", "False")
    both = before.evaluation("before") | after.evaluation("after")
    change = both.change("before", "after")
    assert change["mean"]["accuracy"] == 0.75 and change["mean"]["f1"] == pytest.approx(1 - 0.5)
    assert both.table().loc["unparsed", "before"]["mean"] == 0.25


def test_replies_that_do_not_go_together():
    one = replies("True", "False")
    with pytest.raises(DataError, match="to other problems for some seeds"):
        accuracies([one, replies("True", "False", "True")])
    with pytest.raises(DataError, match="there is no 'graph' to tell problems apart by: use one of split"):
        one.by("graph")
    with pytest.raises(DataError, match="'Yes' is no answer: there are True, False"):
        one.evaluation("m", positive="Yes")
    mixed = Replies((*one.problems, data.Problem("p", "Yes", ("Yes", "No"))), (*one.said, "Yes"))
    with pytest.raises(DataError, match="judge them apart"):
        mixed.evaluation("m")
    with pytest.raises(DataError, match="there are 2 problems and 1 answers"):
        Replies(one.problems, ("True",))


def test_replies_are_saved_and_loaded(tmp_path):
    one = replies("True", None)
    one = replace(one, texts=("True", "who knows"))
    assert Replies.load(one.save(tmp_path / "replies.json")) == one
    whole = (tmp_path / "replies.json").read_text()
    answer = whole.replace('"answer": "True"', '"answer": 1')
    for broken in (whole[:-9], "{}", whole.replace('"said"', '"told"'), answer):
        (tmp_path / "replies.json").write_text(broken)
        with pytest.raises(ArtefactError):
            Replies.load(tmp_path / "replies.json")


def test_a_trainer_of_ones_own_draws_anew_each_epoch(rows, tmp_path):
    """`transformers.Trainer` tells the data set which epoch it is, through accelerate's data loader."""
    from transformers import Trainer, TrainingArguments

    model, drawn = reasoner(), Redrawn(rows[:4], Random(), reasoner().tokenizer, seed=3)
    seen, collate = [], drawn.collate

    def watched(items):
        seen.append((drawn.epoch, sorted(tuple(item["input_ids"]) for item in items)))
        return collate(items)

    arguments = TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        save_strategy="no", remove_unused_columns=False, disable_tqdm=True, learning_rate=1e-3, seed=0,
    )  # fmt: skip
    Trainer(model.module, arguments, train_dataset=drawn, data_collator=watched).train()
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    for epoch, items in seen:
        drawn.set_epoch(epoch)
        assert items == sorted(tuple(drawn[number]["input_ids"]) for number in range(4))
    assert len({str(items) for _, items in seen}) == 3
    assert np.isfinite([value.detach().numpy().sum() for value in model.module.parameters()]).all()
