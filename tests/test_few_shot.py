"""Estimators that ask a language model: how answers are read, and what becomes of junk, failures and time-outs."""

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from helpers import BY_NAME
from test_editors import chat, served
from test_renaming import PROBLEM

from icp import Chat, capt
from icp.capt.few_shot import SHOTS, FewShot, events_in
from icp.errors import DataError, EndpointError

TEXT = "For nonsmokers, the chance of cancer is 3%. For smokers it is 7%. Does smoking cause lung cancer or Cancer?"
ANSWER = '[{"yes": ["smokers", "smoking"], "no": ["nonsmokers"]}, {"yes": ["cancer", "lung cancer"]}]'
CATS = "Each cat is a feline. Rex is a cat. True or false: Rex is a feline."
OF_CATS = '[{"yes": ["cat"]}, {"yes": ["feline"]}, {"yes": ["Rex"]}]'


@dataclass(frozen=True, kw_only=True)
class Told(FewShot):
    """Says what it is told to, and keeps what it was asked."""

    answers: Sequence[str | capt.Failure]
    seen: list[str] = field(default_factory=list, repr=False)

    def answer(self, asked, number):
        self.seen.append(asked)
        return self.answers[number]


def test_an_answer_becomes_mentions_by_its_words():
    found = events_in(TEXT, f"Sure: {ANSWER}\nText: more")
    assert found.filled("BC") == (
        "For not B, the chance of C is 3%. For B it is 7%. Does B cause C or C?"
    )  # fmt: skip
    assert [mention.holds for mention in found.mentions] == [False, None, None, None, None, None]


@pytest.mark.parametrize("shot", SHOTS)
def test_worked_examples_are_right_and_valid(shot):
    found = events_in(shot.text, shot.told)
    rules = capt.CladderRules() if "effect" in shot.text else capt.SyllogismRules()
    theirs = rules.estimate(shot.text)
    assert [(m.start, m.stop, m.slot, m.holds is False) for m in found.mentions] == [
        (m.start, m.stop, m.slot, m.holds is False) for m in theirs.mentions
    ]


@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        ("I think that smoking is bad.", "no list of events", "'I think that smoking is bad.' has no JSON list"),
        ('[{"yes": ["smokers"', "no list of events", "has no JSON list"),
        ('{"yes": ["smokers"]}', "no list of events", ""),
        ('[["smokers"]]', "no list of events", ""),
        ('[{"yes": [3]}]', "no list of events", ""),
        ('[{"maybe": ["smokers"]}]', "no list of events", ""),
        ('[{"yes": []}]', "no list of events", ""),
        ("[]", "no events", "lists no event of 'For nonsmokers"),
        ('[{"yes": ["smokers", "cigars"]}]', "words that are not there", "has the words 'cigars'"),
        ('[{"yes": ["cancer"]}, {"yes": ["cancer"]}]', "overlapping events", "claim words of 'cancer'"),
        ('[{"yes": ["cancer"], "no": ["cancer"]}]', "overlapping events", "claim words of 'cancer'"),
        ('[{"yes": ["Does smoking"]}, {"yes": ["smoking cause"]}]', "overlapping events", "'Does smoking'"),
    ],
)
def test_what_no_events_can_be_made_of_is_named(answer, reason, told):
    found = events_in(TEXT, answer)
    assert isinstance(found, capt.Failure) and found.reason == reason and told in found.told


def test_junk_is_asked_for_again_and_then_counted():
    model = Told(answers=("junk", "[]", OF_CATS))
    assert model.estimate(CATS) == capt.SyllogismRules().estimate(CATS) and len(model.seen) == 3
    assert model.seen[0].endswith(f"Text: {CATS}\nEvents:") and model.seen[0].count("Text:") == len(SHOTS) + 1
    assert CATS not in model.seen[0].rpartition("Text:")[0]
    for retries, reason in ((0, "no list of events"), (1, "no events")):
        problem = capt_problem(CATS)
        found = capt.abstract_all([problem, problem], Told(answers=("junk", "[]"), retries=retries))
        assert found.reasons == {reason: 2} and not found.rows


def capt_problem(prompt):
    from icp.data import Problem

    return Problem(prompt, "True", ("True", "False"))


def test_a_prompt_of_several_lines_is_asked_on_one_and_found_in_its_own():
    prompt = CATS.replace("Rex is a cat.", "Rex\n  is a cat.\n").replace("a feline. Rex", "a feline. Old  Rex")
    model = Told(answers=('[{"yes": ["cat"]}, {"yes": ["feline"]}, {"yes": ["Old Rex", "Rex"]}]',))
    found = model.estimate(prompt)
    assert "Old  Rex" in {found.surface(mention) for mention in found.mentions} and "\n  " in found.text
    assert "Old Rex is a cat. True" in model.seen[0]


@pytest.mark.parametrize("how", [{"retries": -1}, {"max_tokens": 0}, {"temperature": 0.0}])
def test_settings_that_there_are_not(how):
    with pytest.raises(DataError, match="give at least 0, at least 1, and more than 0"):
        Told(answers=(), **how)


def test_a_local_model_is_asked_greedily_and_then_for_draws():
    model = BY_NAME["llama"].model()
    asked = capt.LanguageModel(model=model, retries=1, max_tokens=3, temperature=5.0)
    best, drawn, other = (asked.answer("The nurse said", number) for number in (0, 1, 2))
    assert best == asked.answer("The nurse said", 0) and drawn == asked.answer("The nurse said", 1)
    assert len({best, drawn, other}) == 3
    found = asked.estimate(CATS)
    assert (found.reason, found.prompt) == ("prompt too long", CATS) and "tokens" in found.told


def test_a_label_follows_the_weights_and_the_settings():
    case = BY_NAME["llama"]
    one, same, other = case.model(), case.model(), case.model(seed=1)
    label = capt.LanguageModel(model=one).label
    assert label == capt.LanguageModel(model=same).label != capt.LanguageModel(model=other).label
    assert (
        len({label, *(capt.LanguageModel(model=one, **{k: 7}).label for k in ("seed", "retries", "max_tokens"))}) == 4
    )
    assert capt.LanguageModel(model=one, shots=SHOTS[:1]).label != label


def endpoint(url, seed=0, **how):
    return capt.Endpoint(chat=Chat(url, "m", pause=0.0, **how), seed=seed)


def test_an_endpoint_is_asked_and_its_events_are_kept(tmp_path):
    with served(chat("no"), chat(OF_CATS), (401, "out of money")) as (url, seen):
        asked = endpoint(url, api_key="secret", seed=3)
        for _ in range(2):
            assert capt.Cached(asked, tmp_path).estimate(CATS) == capt.SyllogismRules().estimate(CATS)
        assert len(seen) == 2 and seen[0][1]["Authorization"] == "Bearer secret"
        assert "secret" not in asked.label + repr(asked)
        assert [(body["temperature"], body["seed"]) for _, _, body in seen] == [(0.0, 3), (0.7, 4)]
        with pytest.raises(EndpointError, match="status 401: out of money"):
            capt.Cached(asked, tmp_path).estimate(PROBLEM.prompt)


def test_a_prompt_without_an_answer_is_counted_and_asked_again_next_time(tmp_path):
    problems = [capt_problem(CATS), capt_problem(CATS.replace("Rex", "Max"))]
    with served((500, "broken"), chat(OF_CATS.replace("Rex", "Max")), chat(OF_CATS)) as (url, seen):
        cached = capt.Cached(endpoint(url, retries=0), tmp_path, again=capt.LATER)
        found = capt.abstract_all(problems, cached)
        assert found.reasons == {"request failed": 1} and len(found.rows) == 1
        assert len(capt.abstract_all(problems, cached).rows) == 2 and len(seen) == 3


def test_a_server_that_takes_too_long_is_named():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        found = capt.abstract_all([capt_problem(CATS)], endpoint(url, timeout=0.05, retries=1))
    assert found.reasons == {"timed out": 1} and "after 2 tries (timed out)" in found.refused[0].told


def test_an_address_that_is_none_is_refused_at_once():
    with pytest.raises(EndpointError, match="base_url is 'localhost'"):
        endpoint("localhost")


@pytest.mark.smollm2
def test_smollm2_answers_with_a_list(smollm2):
    asked = capt.LanguageModel(model=smollm2, max_tokens=64)
    listed, _ = json.JSONDecoder().raw_decode(asked.answer(asked.asked(CATS), 0).strip())
    assert isinstance(listed, list) and all(set(one) <= {"yes", "no"} for one in listed)
