"""Problems told in other words, splits without leaks, corrupted and cached estimators, and rows to train on."""

import json
import random
from dataclasses import dataclass, field, replace

import pytest
from test_data import real
from test_problems import entailed
from test_renaming import PROBLEM, row

from icp import data
from icp.capt import Abstraction, Estimator, Failure, worlds
from icp.capt.abstracted import abstract
from icp.capt.cache import Cached
from icp.capt.corruption import Corrupted
from icp.capt.held_out import shortened, told_otherwise
from icp.capt.quality import quality
from icp.capt.renaming import Fixed, Null, Random, copies
from icp.capt.splits import by_symbols, require_apart, split
from icp.capt.syllogism_rules import ClosedVocabulary, SyllogismRules
from icp.capt.symbols import pool
from icp.capt.training_rows import Redrawn, answer_probe, worked_probe
from icp.capt.worlds import PHRASINGS, QUESTIONS, Ontology, anti_sense, non_sense, retold, with_more_symbols
from icp.data.syllogisms import read_statements, skeleton_of
from icp.errors import ArtefactError, DataError

NUMBERS = replace(
    PROBLEM,
    prompt="All integers are real numbers. Real numbers are real. 7 is an integer.\nTrue or false: 7 is real.",
    answer="True",
    reasoning=None,
)


def skeleton(problem: data.Problem) -> str:
    *facts, asked = read_statements(problem.prompt)[0]
    return skeleton_of(facts, asked)


def words(problem: data.Problem) -> set[str]:
    found = SyllogismRules().estimate(problem.prompt)
    return {found.surface(mention).lower() for mention in found.mentions}


def test_what_follows_is_in_an_ontology():
    found = Ontology.of([PROBLEM, NUMBERS])
    assert ("sheep", "unicellular", False) in found.held and ("integer", "real", True) in found.held
    assert found.any_true("All sheep are animals. Rex is bony.") and not found.any_true("All animals are sheep.")


@pytest.mark.parametrize("problem", [PROBLEM, NUMBERS])
def test_problems_against_sense_and_without(problem):
    ontology = Ontology.of([PROBLEM, NUMBERS])
    for seed in range(10):
        anti, non = anti_sense(problem, ontology, seed), non_sense(problem, seed)
        assert (anti.split, non.split) == ("anti", "nonsense")
        assert not ontology.any_true(anti.prompt) and ontology.any_true(problem.prompt)
        for one in (anti, non):
            assert skeleton(one) == skeleton(problem) and entailed(one.prompt) == one.answer == problem.answer
            assert not words(one) & words(problem)
        assert isinstance(ClosedVocabulary().estimate(anti.prompt), Abstraction)
        assert isinstance(ClosedVocabulary().estimate(non.prompt), Failure), "invented words are in no vocabulary"
    assert anti_sense(problem, ontology, 3) == anti_sense(problem, ontology, 3)
    assert non_sense(problem, 3) == non_sense(problem, 3) != non_sense(problem, 4)


@pytest.mark.parametrize("phrasing", PHRASINGS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_retold_problems_say_the_same(phrasing, question):
    found = retold(PROBLEM, [phrasing], question=question, shuffled=True)
    assert skeleton(found) == skeleton(PROBLEM) and entailed(found.prompt) == PROBLEM.answer
    mine, theirs = SyllogismRules().estimate(found.prompt), ClosedVocabulary().estimate(found.prompt)
    assert mine == theirs and {m.holds for m in mine.mentions} == {None}
    first = retold(PROBLEM, ["plural"], question=QUESTIONS[0])
    assert retold(found, ["plural"], question=QUESTIONS[0]).reasoning == first.reasoning


def test_a_retold_problem_in_full():
    assert retold(PROBLEM, ["any"], question="Is it true or false that {}?").prompt == (
        "Any sheep is a feline. Any feline is an animal. Any animal is not unicellular. Rex is a sheep.\n"
        "Is it true or false that Rex is unicellular?"
    )
    with pytest.raises(DataError, match="there is no phrasing 'some': there are each, every"):
        retold(PROBLEM, ["some"])
    with pytest.raises(DataError, match="a question with one"):
        retold(PROBLEM, ["all"], question="Is it?")
    with pytest.raises(DataError, match=r"cannot be told otherwise: no rule reads 'Cats purr\.'"):
        retold(replace(PROBLEM, prompt="Cats purr."), ["all"])


def test_invented_words_do_not_deny(monkeypatch):
    letters = iter("nevernever" + "bedan" + "fidul" * 40)
    monkeypatch.setattr("icp.capt.worlds.random.Random.choice", lambda self, options: next(letters))
    assert worlds._invented(2, random.Random(0), "") == ["bedan", "fidul"]


@pytest.mark.parametrize("more", [1, 2, 9])
def test_more_symbols_leave_the_answer(more):
    have = row().abstraction.slots
    found = with_more_symbols(PROBLEM, have + more)
    assert SyllogismRules().estimate(found.prompt).slots == have + more
    assert entailed(found.prompt) == found.answer == PROBLEM.answer
    assert found.skeleton == skeleton(found) != skeleton(PROBLEM)
    with pytest.raises(DataError, match=f"says {have} variables already: ask for more than {have}"):
        with_more_symbols(PROBLEM, have)


LONG = replace(
    PROBLEM,
    prompt="Sheep are felines. Every tabby is a sheep. Each feline is an animal. Sheep are not bony. Every animal is "
    "not unicellular. Felines are furry. Snakes are unicellular. Snakes are small. Rex is a tabby.\n"
    "True or false: Rex is unicellular.",
    reasoning=f"Rex is a tabby. Every tabby is a sheep. {PROBLEM.reasoning}",
)


@pytest.mark.parametrize(
    ("hops", "prompt", "first"),
    [
        (1, "Every animal is not unicellular. Snakes are unicellular. Rex is an animal.", "Rex is an animal."),
        (
            2,
            "Each feline is an animal. Every animal is not unicellular. Felines are furry. Snakes are unicellular. Rex "
            "is a feline.",
            "Rex is a feline. Each",
        ),
    ],
)
def test_a_chain_cut_short_has_its_end_and_what_distracts(hops, prompt, first):
    found = shortened(LONG, hops)
    assert found.prompt == f"{prompt}\nTrue or false: Rex is unicellular."
    assert found.reasoning.startswith(first) and LONG.reasoning.endswith(found.reasoning)
    assert entailed(found.prompt) == found.answer == LONG.answer
    assert found.query_type == f"{hops} hop{'s' * (hops > 1)}" and found.skeleton == skeleton(found)


@pytest.mark.parametrize(("problem", "hops"), [(LONG, 5), (LONG, 0), (NUMBERS, 1)])
def test_a_chain_that_cannot_be_cut_so(problem, hops):
    with pytest.raises(DataError, match=rf"has \d hops: {hops} cannot be kept"):
        shortened(problem, hops)


def test_test_problems_are_told_in_every_way_that_was_not_trained_on():
    some = [replace(one, skeleton=skeleton(one), story="mammals", split="true") for one in (LONG, PROBLEM)]
    found = told_otherwise(some, Ontology.of(some), slots=12, seed=1)
    assert found == told_otherwise(some, Ontology.of(some), slots=12, seed=1)
    assert [one.split for one in found[::2]] == [
        "id",
        "anti",
        "nonsense",
        "paraphrased",
        "new question",
        "more symbols",
    ]
    assert [(one.answer, one.answers) for one in found] == [(one.answer, one.answers) for one in some] * 6
    assert all(entailed(one.prompt) == one.answer for one in found)
    same, (more, other) = found[:10], found[10:]
    assert [one.skeleton for one in same] == [one.skeleton for one in some] * 5
    assert SyllogismRules().estimate(more.prompt).slots == SyllogismRules().estimate(other.prompt).slots == 12
    by = {one.split: one for one in found[::2]}
    assert by["id"].prompt == LONG.prompt
    facts, question = by["paraphrased"].prompt.split("\n")
    assert question == "True or false: Rex is unicellular." and not {"Each", "Every", "Sheep"} & set(facts.split())
    facts, question = by["new question"].prompt.split("\n")
    assert question == "Is it true or false that Rex is unicellular?" and LONG.prompt.startswith(facts)
    assert {one.story for one in found if one.split in ("anti", "nonsense")} == {None}
    with pytest.raises(DataError, match="variables already: ask for more than"):
        told_otherwise(some, Ontology.of(some), slots=4)


def numbered(count: int) -> list[data.Problem]:
    return [
        replace(PROBLEM, prompt=f"{PROBLEM.prompt} {n}", skeleton=f"k{n % 10}", story=f"s{n % 4}") for n in range(count)
    ]


def test_a_split_shares_no_skeleton_and_no_story():
    problems = numbered(40)
    train, test = split(problems, seed=1)
    assert len(train) == 32 and len(test) == 8 and (train, test) == split(problems, seed=1)
    assert not {one.skeleton for one in train} & {one.skeleton for one in test}
    train, test = split(problems, ("skeleton", "story"), test=0.3)
    require_apart(train, test)
    assert train and test and len(train) + len(test) < 40
    with pytest.raises(DataError, match=r"the skeleton 'k0' of test problem 0 was trained on"):
        require_apart(problems[:4], problems[10:])
    with pytest.raises(DataError, match=r"the prompt .* of test problem 1 was trained on"):
        require_apart(problems[:4], [replace(problems[5], prompt="new"), replace(problems[0], skeleton="k7")], ())


@pytest.mark.parametrize(
    ("problems", "by", "test", "message"),
    [
        ([PROBLEM], "skeleton", 0.2, "cannot split by skeleton: some problems have none"),
        (numbered(1), "story", 0.2, "cannot split by story: all problems have the same one; take others too"),
        (numbered(9), "prompt", 0.2, "a split is by skeleton or story"),
        (numbered(9), "story", 1.0, "holds out a share above 0 and below 1"),
    ],
)
def test_splits_that_cannot_be_made(problems, by, test, message):
    with pytest.raises(DataError, match=message):
        split(problems, by, test)


def test_problems_of_more_symbols():
    problems = numbered(3)
    assert by_symbols(problems, [4, 9, 6], 6) == ([problems[0], problems[2]], [problems[1]])
    with pytest.raises(DataError, match="3 problems say at most 9 variables and 0 more"):
        by_symbols(problems, [4, 9, 6], 9)


def test_real_test_splits_keep_the_skeletons_of_the_test_part():
    problems = data.prontoqa(real("prontoqa") / "prontoqa.json")[::20]
    ontology = Ontology.of(problems)
    train, test = split(problems)
    for made in ([anti_sense(one, ontology) for one in test], [non_sense(one) for one in test]):
        require_apart(train, made, ["skeleton"])
        assert all(entailed(one.prompt) == one.answer for one in made)
    with pytest.raises(DataError, match="was trained on: split by it"):
        require_apart(train, [non_sense(one) for one in train], ["skeleton"])


def test_corruption_spoils_at_its_rate_and_more_at_a_higher_one():
    prompts = [f"{one.prompt}" for one in (PROBLEM, NUMBERS)] + [non_sense(PROBLEM, seed).prompt for seed in range(60)]
    gold = [SyllogismRules().estimate(prompt) for prompt in prompts]
    assert [Corrupted(SyllogismRules(), 0.0).estimate(prompt) for prompt in prompts] == gold
    figures = []
    for rate in (0.05, 0.2, 0.4):
        missed = [Corrupted(SyllogismRules(), rate, errors=("missed",)).estimate(prompt) for prompt in prompts]
        kept = sum(len(one.mentions) for one in missed) / sum(len(one.mentions) for one in gold)
        assert kept == pytest.approx(1 - rate, abs=0.05)
        found = [Corrupted(SyllogismRules(), rate, seed=1).estimate(prompt) for prompt in prompts]
        assert found == [Corrupted(SyllogismRules(), rate, seed=1).estimate(prompt) for prompt in prompts]
        made = quality(zip(found, gold))
        figures.append((made.b_cubed.f1, made.spans.f1))
    assert figures == sorted(figures, reverse=True) and figures[0][0] < 1
    split_up = Corrupted(SyllogismRules(), 1.0, errors=("split",)).estimate(PROBLEM.prompt)
    assert split_up.slots == len(split_up.mentions)
    merged = Corrupted(SyllogismRules(), 1.0, errors=("merged",)).estimate(PROBLEM.prompt)
    assert [m.start for m in merged.mentions] == [m.start for m in gold[0].mentions]
    assert quality([(merged, gold[0])]).b_cubed.f1 < 1
    lost = Corrupted(SyllogismRules(), 1.0, errors=("missed",)).estimate(PROBLEM.prompt)
    assert isinstance(lost, Failure) and lost.reason == "no events"


@pytest.mark.parametrize(
    ("rate", "errors"), [(1.5, ("missed",)), (float("nan"), ("missed",)), (0.1, ("lost",)), (0.1, ())]
)
def test_corruption_that_there_is_not(rate, errors):
    with pytest.raises(DataError, match=r"the rate of errors is|are not some of missed"):
        Corrupted(SyllogismRules(), rate, errors=errors)


@dataclass(frozen=True)
class Counting(Estimator):
    """The rules, counting what they are asked."""

    name: str = "rules"
    asked: list[str] = field(default_factory=list, repr=False)

    def estimate(self, prompt: str) -> Abstraction | Failure:
        self.asked.append(prompt)
        return SyllogismRules().estimate(prompt)


def test_a_cache_asks_once_for_an_estimator_and_a_prompt(tmp_path):
    strange = "Cats purr. \N{GREEK SMALL LETTER ALPHA}"
    first = Counting()
    found = [Cached(first, tmp_path).estimate(prompt) for prompt in (PROBLEM.prompt, strange, PROBLEM.prompt)]
    assert first.asked == [PROBLEM.prompt, strange]
    assert found == [SyllogismRules().estimate(prompt) for prompt in (PROBLEM.prompt, strange, PROBLEM.prompt)]
    again = Counting("others")
    assert Cached(again, tmp_path).estimate(PROBLEM.prompt) == found[0] and again.asked == [PROBLEM.prompt]
    retried = Counting()
    cached = Cached(retried, tmp_path, again=("a sentence that no rule reads",))
    assert cached.estimate(strange + " Dogs bark.") == cached.estimate(strange + " Dogs bark.")
    assert retried.asked == [strange + " Dogs bark."] * 2


def test_a_cache_that_was_cut_short_or_is_foreign(tmp_path):
    cached = Cached(Counting(), tmp_path)
    cached.estimate(PROBLEM.prompt), cached.estimate(NUMBERS.prompt)
    whole = cached.path.read_text()
    cached.path.write_text(whole[:-20])
    counting = Counting()
    resumed = Cached(counting, tmp_path)
    resumed.estimate(PROBLEM.prompt), resumed.estimate(NUMBERS.prompt)
    assert counting.asked == [NUMBERS.prompt] and cached.path.read_text() == whole
    for junk in ("junk\n", json.dumps({"key": "x"}) + "\n", json.dumps({"key": "x", "mentions": [[0]]}) + "\n", "[]\n"):
        cached.path.write_text(junk)
        with pytest.raises(ArtefactError, match=r"line 1 of .* is no abstraction"):
            Cached(Counting(), tmp_path)


def tokenizer_of(*texts: str):
    """A word with its space or line end before it is a token; capitals of one or two letters are all known."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    parts = Split(Regex(r"\n\n|\s?[^\s.?:]+|[.?:]"), "isolated")
    told = (*texts, "\n\n", *(f"{symbol} {symbol}" for symbol in pool(26)))
    said = {piece for text in told for piece, _ in parts.pre_tokenize_str(text)}
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", *sorted(said)])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = parts
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")


def test_probes_of_problems():
    [answered] = answer_probe([replace(PROBLEM, skeleton="k", story="s", split="true")]).examples
    assert answered.text == PROBLEM.prompt + "\nAnswer:" and answered.answers == (" True", " False")
    assert (answered.label, answered.template, answered.word, answered.group) == (1, "k", "s", "true")
    [worked] = worked_probe([PROBLEM]).examples
    assert worked.text + worked.answers[0] == f"{PROBLEM.prompt}\nReasoning: {PROBLEM.reasoning}\nAnswer: False\n\n"
    with pytest.raises(DataError, match="has no reasoning to train on"):
        worked_probe([NUMBERS])


@pytest.mark.parametrize("reasoning", [False, True])
def test_symbols_are_redrawn_each_epoch_and_again_with_the_same_seed(reasoning):
    rows = [row(), row(replace(PROBLEM, prompt=PROBLEM.prompt.replace("not ", "")))]
    mark = f"\nAnswer: {PROBLEM.answer}\nReasoning: {PROBLEM.reasoning}"
    tokenizer = tokenizer_of(
        PROBLEM.prompt + mark, *(one.prompt + (one.reasoning or "") for one in copies(rows, Random()))
    )
    found = Redrawn(rows, Random(), tokenizer, reasoning=reasoning, seed=5)
    epochs = []
    for epoch in (0, 1, 0):
        found.set_epoch(epoch)
        epochs.append([found[number] for number in range(len(found))])
    assert epochs[0] == epochs[2] != epochs[1]
    assert [found.problem(n) for n in range(2)] == copies(rows, Random(), seed=5)
    batch = found.collate(epochs[0])
    for item, ids, mask, labels in zip(
        epochs[0], *(batch[k].tolist() for k in ("input_ids", "attention_mask", "labels"))
    ):
        size = len(item["input_ids"])
        assert ids[:size] == item["input_ids"] and mask == [1] * size + [0] * (len(mask) - size)
        assert set(ids[size:]) <= {0} and set(labels[size:]) <= {-100}
        trained = [one for one in labels if one != -100]
        assert trained == ids[size - len(trained) : size] and tokenizer.decode(trained).split()[-1] == "False"
        assert (len(trained) == 1) != reasoning and len(trained) < size
    with pytest.raises(DataError, match="there are no rows to train on"):
        Redrawn([], Random(), tokenizer)


def test_fixed_and_null_rows_are_the_same_in_every_epoch():
    rows = [row()]
    for renaming in (Null(), Fixed.of(rows, pool(26))):
        found = Redrawn(rows, renaming, tokenizer_of(PROBLEM.prompt))
        first = found.problem(0)
        found.set_epoch(3)
        assert found.problem(0) == first
    assert abstract(PROBLEM, SyllogismRules()) == rows[0]
