"""Answers against plain greedy decoding and the softmax; metrics on answers made by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BY_NAME, CASES, HOOKED, bridged, hooked_transformer, make_tokenizer
from scipy import stats

import icp
from icp import data
from icp.data import Question
from icp.errors import ArtefactError, DataError, IcpError, ModelError, NotFiniteError, ProbeError
from icp.generation import generate
from icp.qa import abstains, judged, normalised

PROMPTS = ["The nurse said that", "It was late and the old nurse", "she"]


def plain(model, prompt, tokens):
    """The greedy continuation of one prompt alone, the whole text run again for every token."""
    ids = model.tokenizer(prompt)["input_ids"]
    for _ in range(tokens):
        with torch.no_grad():
            ids = [*ids, int(model.module(torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == model.tokenizer.eos_token_id:
            break
    begun = len(model.tokenizer(prompt)["input_ids"])
    return model.tokenizer.decode(ids[begun:], skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_greedy_answers_are_those_of_each_prompt_alone(case, batch_size):
    model = case.model()
    found = generate(model, PROMPTS, max_tokens=6, stops=(), batch_size=batch_size)
    assert found == [[plain(model, prompt, 6)] for prompt in PROMPTS]
    assert len({text for [text] in found}) == 3 or case.name == "qwen2", "prompts that differ are answered differently"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_bridge_answers_as_the_module_under_it(name):
    case = BY_NAME[name]
    bridge = icp.load(bridged(case.module(), make_tokenizer()))
    assert generate(bridge, PROMPTS, max_tokens=5) == generate(case.model(), PROMPTS, max_tokens=5)


def test_a_hooked_transformer_is_refused():
    model = icp.load(hooked_transformer(HOOKED[0]))
    with pytest.raises(ModelError, match="load the same model by its hub id"):
        generate(model, PROMPTS)


@pytest.fixture(scope="module")
def model():
    return BY_NAME["llama"].model()


def test_drawn_answers_depend_on_seed_prompt_and_number_alone(model):
    options = dict(samples=4, max_tokens=5, seed=3)
    found = generate(model, PROMPTS, **options)
    assert (
        found == generate(model, PROMPTS, batch_size=1, **options) == generate(model, PROMPTS, batch_size=5, **options)
    )
    assert found[:1] == generate(model, PROMPTS[:1], **options), "other prompts do not count"
    assert [one[:2] for one in found] == generate(model, PROMPTS, **options | {"samples": 2}), "nor do further samples"
    assert found != generate(model, PROMPTS, **options | {"seed": 4})
    assert len(set(found[0])) > 1


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_drawn_tokens_follow_the_softmax(model, temperature):
    ids = model.tokenizer(PROMPTS[0])["input_ids"]
    with torch.no_grad():
        p = (model.module(torch.tensor([ids])).logits[0, -1] / temperature).softmax(-1).numpy()
    [drawn] = generate(model, PROMPTS[:1], samples=1500, max_tokens=1, temperature=temperature, batch_size=500)
    special = set(model.tokenizer.all_special_ids)
    words = {model.tokenizer.decode([i]).strip(): 0.0 for i in range(len(p)) if i not in special} | {"": 0.0}
    for token, share in enumerate(p):
        words["" if token in special else model.tokenizer.decode([token]).strip()] += float(share)
    often = [word for word, share in words.items() if share * 1500 > 10]
    counts = [drawn.count(word) for word in often]
    expected = [words[word] * 1500 for word in often]
    rest = [1500 - sum(counts)], [1500 - sum(expected)]
    assert len(often) > 3
    assert stats.chisquare(counts + rest[0], expected + rest[1]).pvalue > 1e-3


def test_nothing_is_left_changed(model):
    settings, state = model.module.generation_config, torch.get_rng_state()
    before = settings.to_dict()
    settings.repetition_penalty = 5.0
    try:
        assert generate(model, PROMPTS[:1], max_tokens=6, stops=()) == [[plain(model, PROMPTS[0], 6)]]
        generate(model, PROMPTS, samples=2, max_tokens=2)
        assert model.module.generation_config is settings and settings.repetition_penalty == 5.0
        handle = model.module.register_forward_hook(lambda m, a, out: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate(model, PROMPTS)
        handle.remove()
        assert model.module.generation_config is settings
    finally:
        settings.repetition_penalty = before["repetition_penalty"]
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are not touched"


def test_a_hook_that_is_installed_counts(model):
    clean = generate(model, PROMPTS, max_tokens=4)
    handle = model.blocks[0].mlp.register_forward_hook(lambda m, a, out: 0 * out)
    cut = generate(model, PROMPTS, max_tokens=4)
    handle.remove()
    assert cut != clean == generate(model, PROMPTS, max_tokens=4)


def test_an_answer_ends_at_a_stop(model):
    [[whole]] = generate(model, PROMPTS[:1], max_tokens=6)
    words = whole.split()
    assert len(words) == 6
    [[cut]] = generate(model, PROMPTS[:1], max_tokens=6, stops=(words[3], "never"))
    assert cut.split() == words[:3]


def test_what_cannot_be_generated_is_refused(model):
    with pytest.raises(ProbeError, match=r"has 61 tokens: 4 more do not fit into the 64 that llama reads"):
        generate(model, ["she", "The" + " nurse" * 60], max_tokens=4)
    for wrong in (dict(max_tokens=0), dict(samples=-1), dict(temperature=0.0), dict(batch_size=0)):
        with pytest.raises(IcpError, match="temperature above 0"):
            generate(model, PROMPTS, **wrong)
    handle = model.blocks[0].mlp.register_forward_hook(lambda m, a, out: out * float("nan"))
    with pytest.raises(NotFiniteError, match="returns nan for 'she'"):
        generate(model, PROMPTS[2:])
    handle.remove()


@pytest.mark.parametrize(
    ("text", "plain", "bare"),
    [
        ("The  Beatles!", "the beatles", "beatles"),
        ("an A.B.C. of it", "an abc of it", "abc of it"),
        ("  O'Hara, Theodore ", "ohara theodore", "ohara theodore"),
        ("The The", "the the", "the the"),
        ("!!!", "!!!", "!!!"),
        ("", "", ""),
    ],
)
def test_normalisation(text, plain, bare):
    assert normalised(text, articles=False) == plain
    assert normalised(text) == bare


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", True),
        (" . ", False),
        ("I don't know", True),
        ("I don\N{RIGHT SINGLE QUOTATION MARK}t KNOW that", True),
        ("Sorry", True),
        ("Sorry!", True),
        ("Sorryville", False),
        ("no idea at all", True),
        ("Mark Twain", False),
        ("He said I don't know", False),
    ],
)
def test_abstention(answer, expected):
    assert abstains(answer) is expected
    assert not abstains("I don't know", abstentions=("pass",)) and abstains("Pass", abstentions=("pass",))


QUESTIONS = [
    Question("Who wrote it?", ("Mark Twain", "Samuel Clemens")),
    Question("Where is it?", ("the River", "Riverside")),
    Question("When was it?", ("1901",)),
    Question("What is it?", ("Sorry",)),
    Question("Why?", (), "It does not say."),
    Question("How?", (), "It does not say."),
]
ANSWERS = ["mark twain.", "a river bank", "I don't know", "Sorry", "no answer", "By train"]


def test_metrics_of_answers_made_by_hand():
    found = judged(QUESTIONS, ANSWERS)
    assert found.exact.tolist() == [1, 0, 0, 1, 1, 0]
    assert found.abstained.tolist() == [0, 0, 1, 0, 1, 0], "an alias that reads like an abstention is an answer"
    assert found.right.tolist() == found.exact.tolist() and found.consistency is None
    table = found.table()
    assert table["mean"].to_dict() == pytest.approx(
        {"exact_match": 3 / 6, "accuracy": 3 / 6, "hallucination_rate": 2 / 4, "abstention_rate": 2 / 6}
    )
    assert table["n"].to_dict() == {"exact_match": 6, "accuracy": 6, "hallucination_rate": 4, "abstention_rate": 6}
    wilson = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert table.loc["hallucination_rate", ["low", "high"]].tolist() == pytest.approx([wilson.low, wilson.high])


def test_a_check_may_accept_what_is_no_alias_but_no_abstention():
    asked = []

    def entails(answer, alias):
        asked.append((answer, alias))
        return alias == "Riverside"

    found = judged(QUESTIONS, ANSWERS, entails=entails)
    assert found.right.tolist() == [1, 1, 0, 1, 1, 0] and found.exact.tolist() == [1, 0, 0, 1, 1, 0]
    assert asked == [("a river bank", "the River"), ("a river bank", "Riverside")]
    table = found.table()["mean"]
    assert table["accuracy"] == pytest.approx(4 / 6) and table["hallucination_rate"] == pytest.approx(1 / 4)


def test_articles_may_count():
    questions = [Question("Who?", ("The Beatles",))]
    assert judged(questions, ["Beatles"]).exact[0] == 1
    assert judged(questions, ["Beatles"], normalise=lambda text: normalised(text, articles=False)).exact[0] == 0


def test_self_consistency_is_the_share_of_the_modal_answer():
    samples = [["Twain", "the Twain!", "Clemens", "twain"], ["a", "b", "c", "d"], ["x"] * 4]
    found = judged(QUESTIONS[:3], ANSWERS[:3], samples)
    assert found.consistency.tolist() == [0.75, 0.25, 1.0]
    row = found.table().loc["self_consistency"]
    half = stats.t.ppf(0.975, 2) * stats.sem([0.75, 0.25, 1.0])
    assert (row["mean"], row["high"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3 + half))


def test_change_is_paired_by_question():
    before = judged(QUESTIONS[:4], ["mark twain", "bank", "1900", "sorry"])
    after = judged(QUESTIONS[:4], ["I don't know", "river", "1902", "sorry"])
    change = before.change(after)
    assert change.loc["exact_match", "mean"] == 0 and change.loc["abstention_rate", "mean"] == 0.25
    assert change.loc["exact_match", "low"] < 0 < change.loc["exact_match", "high"]
    assert change.loc["hallucination_rate", "mean"] == pytest.approx(1 / 3 - 2 / 4)
    # By hand: wrong (0, 1, 1, 0) of given (1, 1, 1, 1), rate 1/2; wrong (0, 0, 1, 0) of given (0, 1, 1, 1), rate 1/3.
    first = np.array([-1, 1, 1, -1]) / 2
    second = np.array([0, -1, 2, -1]) / 3 / 0.75
    half = stats.t.ppf(0.975, 3) * stats.sem(second - first)
    assert change.loc["hallucination_rate", "high"] == pytest.approx(1 / 3 - 2 / 4 + half)
    with pytest.raises(ArtefactError, match=r"other questions \(4 and 6\)"):
        before.change(judged(QUESTIONS, ANSWERS))


def test_where_nothing_is_answered_there_is_no_rate_of_hallucination():
    silent = judged(QUESTIONS[:3], ["", "sorry", "no idea"])
    row = silent.table().loc["hallucination_rate"]
    assert np.isnan(row["mean"]) and row["n"] == 0
    assert np.isnan(silent.change(judged(QUESTIONS[:3], ANSWERS[:3])).loc["hallucination_rate", "mean"])


def test_answers_that_are_not_one_a_question_are_refused():
    for given in ((ANSWERS[:5],), (ANSWERS, [["a", "b"]])):
        with pytest.raises(DataError, match="for 6 questions: give one of each"):
            judged(QUESTIONS, *given)


def test_open_qa_asks_and_judges(model):
    template = "The nurse said that {text}"
    texts = ["she ran", "he was late", "it was"]
    answers = [plain(model, template.format(text=text), 4) for text in texts]
    questions = [Question(texts[0], (answers[0],)), Question(texts[1], ("x",)), Question(texts[2], (answers[2], "y"))]
    options = dict(template=template, max_tokens=4, samples=3, progress=False)
    found = icp.open_qa(model, questions, **options)
    assert found.answers == tuple(answers) and found.exact.tolist() == [1, 0, 1]
    assert all(len(drawn) == 3 for drawn in found.samples) and found.consistency.shape == (3,)
    assert found.samples == icp.open_qa(model, questions, batch_size=2, **options).samples
    assert found.samples != icp.open_qa(model, questions, seed=1, **options).samples
    assert "self_consistency" not in icp.open_qa(model, questions, **options | {"samples": 0}).table().index


def test_the_prompt_holds_the_context_where_questions_have_one(model, monkeypatch):
    asked = []

    def noted(model, prompts, **_):
        asked.append(prompts)
        return [["x"] for _ in prompts]

    monkeypatch.setattr("icp.qa.generate", noted)
    icp.open_qa(model, QUESTIONS[:1])
    icp.open_qa(model, QUESTIONS[4:5])
    assert asked == [["Question: Who wrote it?\nAnswer:"], ["It does not say.\nQuestion: Why?\nAnswer:"]]
    for template, message in (
        (None, "row 0 has no context"), ("{aliases} {text}", "names 'aliases': the rows have text, context"),
        ("{context}:", "does not ask the question"), ("Answer:", "names no field"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            icp.open_qa(model, QUESTIONS[4:] if template == "{context}:" else QUESTIONS, template=template)
    with pytest.raises(DataError, match="no Questions, or none at all"):
        icp.open_qa(model, [])
    with pytest.raises(IcpError, match="one sample always agrees with itself"):
        icp.open_qa(model, QUESTIONS[:1], samples=1)


@pytest.mark.smollm2
def test_smollm2_knows_some_answers(smollm2):
    folder = Path(os.environ.get("ICP_DATA") or "-") / "triviaqa"
    if not folder.is_dir():
        pytest.skip("ICP_DATA names no folder with triviaqa")
    questions = data.triviaqa(folder, "test")[:8]
    found = icp.open_qa(smollm2, questions, max_tokens=8, progress=False)
    assert sum(map(bool, found.answers)) >= 2 and not any(set("\n.,") & set(answer) for answer in found.answers)
    assert found.answers[:2] == icp.open_qa(smollm2, questions[:2], max_tokens=8, batch_size=1, progress=False).answers
    easy = [Question("What is the capital of France?", ("Paris",))]
    assert icp.open_qa(smollm2, easy, template="{text} The capital of France is", progress=False).right.tolist() == [1]
