"""CLadder's questions as problems: abstracted, checked, split and told with symbols like any others."""

from collections import Counter
from dataclasses import replace

import pytest
from test_cladder_rules import PROMPTS, QUESTION, real_rows

from icp import capt
from icp.errors import DataError


def test_a_question_is_a_problem_to_answer():
    problem = QUESTION.problem
    assert (problem.prompt, problem.reasoning, problem.story) == (QUESTION.prompt, QUESTION.reasoning, QUESTION.story)
    assert (problem.query_type, problem.rung) == (QUESTION.query_type, QUESTION.rung)
    assert problem.answers == ("Yes", "No") and problem.answer == ("Yes" if QUESTION.answer else "No")
    assert replace(QUESTION, answer=not QUESTION.answer).problem.answer != problem.answer
    assert problem.skeleton == replace(QUESTION, story="rain", split="anti").problem.skeleton
    for changed in ({"graph": "other"}, {"query_type": "other"}, {"formal": "other"}):
        assert replace(QUESTION, **changed).problem.skeleton != problem.skeleton


def test_symbols_take_the_place_of_events_in_prompt_and_reasoning():
    found = capt.abstract_all([QUESTION.problem], capt.CladderRules(), capt.Validator(capt.FRAME))
    assert not found.refused
    [row] = found.rows
    for renaming in (capt.Random(), capt.Order(), capt.Fixed.of([row], capt.pool(26))):
        one, two = capt.copies([row], renaming, count=2)
        for made in (one, two):
            assert not {"tea", "sleep", "calm"} & set(f"{made.prompt} {made.reasoning}".lower().split())
            assert (made.answer, made.skeleton, made.story) == (row.problem.answer, row.problem.skeleton, "tea")
        assert (one == two) != isinstance(renaming, capt.Random)
    assert capt.copies([row], capt.Null()) == [row.problem]
    assert [line for line in row.worked.text.splitlines() if "P(" in line] == [
        line for line in QUESTION.reasoning.splitlines() if "P(" in line
    ]


def test_words_of_the_frame_are_let_stand_where_asked():
    opening = "Imagine a world with only the following conditions: "
    prompt = QUESTION.prompt.replace("Imagine a world: ", opening).replace("Tea", "Tea condition", 1)
    problem = replace(QUESTION, prompt=prompt.replace("tea", "tea condition"), reasoning=None).problem
    assert prompt.startswith(opening) and "Tea condition" in prompt
    assert capt.abstract_all([problem], capt.CladderRules()).reasons == {"event word left": 1}
    assert not capt.abstract_all([problem], capt.CladderRules(), capt.Validator(capt.FRAME)).refused


def test_splits_by_story_and_by_skeleton():
    problems = [
        replace(QUESTION, prompt=f"{QUESTION.prompt} {n}", story=f"s{n % 5}", graph=f"g{n % 4}").problem
        for n in range(20)
    ]
    for by in ("story", "skeleton", ("story", "skeleton")):
        train, test = capt.split(problems, by=by)
        assert train and test
    with pytest.raises(DataError, match="was trained on"):
        capt.require_apart(problems[:5], problems[5:], ["story"])


def test_real_rows_are_abstracted_and_split():
    rows = real_rows()[0][::40]
    problems = [row.problem for row in rows]
    found = capt.abstract_all(problems, capt.CladderRules(), capt.Validator(capt.FRAME))
    assert len(found.rows) >= 0.97 * len(problems), Counter(found.reasons)
    for row, made in zip(found.rows, capt.copies(found.rows, capt.Random())):
        symbols = {word for word in made.prompt.split() if word not in row.problem.prompt.split()}
        assert symbols and made.prompt != row.problem.prompt and made.answer == row.problem.answer
    train, test = capt.split([row.problem for row in found.rows], by="story")
    assert not {one.story for one in train} & {one.story for one in test}


@pytest.mark.parametrize("ways", [{}, {"facts": False, "question": True}, {"question": True}], ids=str)
@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_told_otherwise_is_read_as_the_prompt_is(name, ways):
    prompt, abstract = (replace(QUESTION, prompt=text).problem for text in PROMPTS[name])
    told = capt.reworded(prompt, **ways)
    assert told == replace(prompt, prompt=told.prompt) != prompt
    assert capt.CladderRules().estimate(told.prompt).filled("ABC") == capt.reworded(abstract, **ways).prompt


def test_what_is_told_otherwise_and_what_cannot_be():
    problem = replace(QUESTION, prompt=PROMPTS["increase"][0]).problem
    assert capt.reworded(problem, question=True).prompt == (
        "Suppose that only what follows holds, and that nothing else has any effect: Tea directly affects calm and "
        "sleep. Calm directly affects sleep. The probability of deep sleep is 20% for people who drink no tea. The "
        "probability of deep sleep is 30% for people who drink tea. Is the chance of deep sleep increased by drinking "
        "tea?"
    )
    kinds = capt.cladder_told_otherwise([replace(problem, split="easy")])
    assert [one.split for one in kinds] == ["easy", "easy, paraphrased", "easy, new question"]
    assert {(one.answer, one.skeleton, one.story) for one in kinds} == {
        (problem.answer, problem.skeleton, problem.story)
    }
    with pytest.raises(DataError, match=r"cannot be told otherwise: 'Cats purr\.' is no clause of CLadder's"):
        capt.reworded(replace(problem, prompt="Cats purr."))
    with pytest.raises(DataError, match="has nothing that can be told otherwise"):
        capt.reworded(replace(problem, prompt="Tea is unobserved. The probability of not tea and calm is 3%."))
    with pytest.raises(DataError, match="does not end in a question that can be asked otherwise"):
        capt.reworded(replace(problem, prompt="Tea has a direct effect on calm."), question=True)


def test_real_rows_told_otherwise_are_read_as_they_are():
    for row in real_rows()[0][::40]:
        found = [capt.CladderRules().estimate(one.prompt) for one in capt.cladder_told_otherwise([row.problem])]
        said = [
            {(one.surface(mention), mention.slot, mention.holds) for mention in one.mentions} for one in found
        ]  # fmt: skip
        assert said[0] == said[1] == said[2], row.prompt
