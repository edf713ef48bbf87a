"""The rule estimator and the gold of CLadder, on prompts of our own in its grammar, and on the real rows."""

import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from icp import data
from icp.capt import Abstraction, CladderRules, Failure, Lexicon, Words, cladder_gold, quality
from icp.capt.lexicon import ENGLISH, likeness, opposed
from icp.data import CausalQuestion

REAL = os.environ.get("ICP_DATA")
GRAPH = "Imagine a world: Tea has a direct effect on calm and sleep. Calm has a direct effect on sleep. "
ABSTRACT = "Imagine a world: A has a direct effect on B and C. B has a direct effect on C. "
FORK = "Garlic has a direct effect on smell. Rain has a direct effect on smell. "
ABSTRACT_FORK = "A has a direct effect on B. C has a direct effect on B. "
PROMPTS = {
    "increase": (
        GRAPH + "For people who drink no tea, the probability of deep sleep is 20%. For people who drink tea, the "
        "probability of deep sleep is 30%. Will drinking tea increase the chance of deep sleep?",
        ABSTRACT + "For not A, the probability of C is 20%. For A, the probability of C is 30%. "
        "Will A increase the chance of C?",
    ),
    "two conditions": (
        GRAPH + "For tea haters and restless people, the probability of deep sleep is 1%. For tea haters and calm "
        "people, the probability of deep sleep is 2%. For tea drinkers and restless people, the probability of deep "
        "sleep is 3%. For tea drinkers and calm people, the probability of deep sleep is 4%. The overall probability "
        "of tea drinking is 5%. If we disregard the mediation effect through calm, would tea negatively affect sleep?",
        ABSTRACT + "For not A and not B, the probability of C is 1%. For not A and B, the probability of C is 2%. "
        "For A and not B, the probability of C is 3%. For A and B, the probability of C is 4%. The overall probability "
        "of A is 5%. If we disregard the mediation effect through B, would A negatively affect C?",
    ),
    "joint": (
        GRAPH + "The overall probability of tea at night is 50%. The probability of milk at night and deep sleep is 7%."
        " The probability of tea at night and deep sleep is 8%. Is the chance of deep sleep smaller when observing tea "
        "at night?",
        ABSTRACT + "The overall probability of A is 50%. The probability of not A and C is 7%. The probability of A "
        "and C is 8%. Is the chance of C smaller when observing A?",
    ),
    "marginal": (
        GRAPH + "The overall probability of tea is 50%. For abstainers, the probability of deep sleep is 7%. For "
        "drinkers of tea, the probability of deep sleep is 8%. Is deep sleep less likely than light sleep overall?",
        ABSTRACT + "The overall probability of A is 50%. For not A, the probability of C is 7%. For A, the probability "
        "of C is 8%. Is C less likely than not C overall?",
    ),
    "had been": (
        GRAPH + "For abstainers, the probability of deep sleep is 7%. For tea drinkers, the probability of deep sleep "
        "is 8%. For tea drinkers, would it be more likely to see deep sleep if the person had drunk nothing?",
        ABSTRACT + "For not A, the probability of C is 7%. For A, the probability of C is 8%. For A, would it be more "
        "likely to see C if not A?",
    ),
    "laws": (
        GRAPH + "We know that tea drinking causes lack of calm. tea drinking or calm causes no sleep. Would the person "
        "sleeps if tea drinking instead of water drinking?",
        ABSTRACT + "We know that A causes not B. A or B causes not C. Would C if A instead of not A?",
    ),
    "two laws and a degree of two words": (
        "Schooling has a direct effect on skill. Skill has a direct effect on income. We know that school degree or "
        "higher causes low skill, and we know that high skill causes high income. Would the employee has a low income "
        "if no school at all instead of school degree or higher?",
        "A has a direct effect on B. B has a direct effect on C. We know that A causes not B, and we know that B "
        "causes C. Would not C if not A instead of A?",
    ),
    "evidence": (
        FORK + "We know that garlic or rain causes smell. We observed it does not rain. Would the house smells if "
        "garlic instead of no garlic?",
        ABSTRACT_FORK + "We know that A or C causes B. We observed not C. Would B if A instead of not A?",
    ),
    "collider": (
        FORK + "For smelly houses, the correlation between garlic and rain is -0.12. If we look at smelly houses, does "
        "it mean that garlic does not affect rain?",
        ABSTRACT_FORK + "For B, the correlation between A and C is -0.12. If we look at B, does it mean that A does "
        "not affect C?",
    ),
    "explaining away": (
        FORK + "The overall probability of garlic is 4%. For no garlic and no smell, the probability of rain is 1%. For"
        " no garlic and smell, the probability of rain is 2%. For garlic and no smell, the probability of rain is 3%. "
        "For garlic and smell, the probability of rain is 4%. If we look at smelly houses, does the chance of rain "
        "decrease when garlic?",
        ABSTRACT_FORK + "The overall probability of A is 4%. For not A and not B, the probability of C is 1%. For not "
        "A and B, the probability of C is 2%. For A and not B, the probability of C is 3%. For A and B, the "
        "probability of C is 4%. If we look at B, does the chance of C decrease when A?",
    ),
    "methods": (
        FORK + "Rain is unobserved. Method 1: We look directly at how garlic correlates with smell in general. Method "
        "2: We look at this correlation case by case according to rain. To understand how garlic affects smell, is it "
        "more correct to use the Method 1 than Method 2?",
        ABSTRACT_FORK + "C is unobserved. Method 1: We look directly at how A correlates with B in general. Method 2: "
        "We look at this correlation case by case according to C. To understand how A affects B, is it more correct to "
        "use the Method 1 than Method 2?",
    ),
    "two conditions of one outcome, one after the other": (
        FORK + "For no garlic, the probability of smell is 1%. For garlic, the probability of smell is 2%. For dry "
        "days, the probability of smell is 3%. For days of rain, the probability of smell is 4%. Is smell more likely "
        "than no smell overall?",
        ABSTRACT_FORK + "For not A, the probability of B is 1%. For A, the probability of B is 2%. For not C, the "
        "probability of B is 3%. For C, the probability of B is 4%. Is B more likely than not B overall?",
    ),
    "a condition without its opposite": (
        FORK + "For days of rain, the probability of smell is 4%. Is smell more likely than no smell overall?",
        ABSTRACT_FORK + "For C, the probability of B is 4%. Is B more likely than not B overall?",
    ),
    "the words of nobody": (
        "Zorb has a direct effect on quint. For those who are not zorb, the probability of quint is 7%. For those who "
        "are zorb, the probability of quint is 8%. Does zorb positively affect quint through quint?",
        "A has a direct effect on B. For not A, the probability of B is 7%. For A, the probability of B is 8%. Does A "
        "positively affect B through B?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_becomes_its_structure(name):
    prompt, abstract = PROMPTS[name]
    found = CladderRules().estimate(prompt)
    assert isinstance(found, Abstraction), found
    assert found.filled("ABC") == abstract


@pytest.mark.parametrize(
    ("prompt", "reason", "told"),
    [
        (GRAPH + "Tell me a joke.", "no clause", "'Tell me a joke.' is no clause"),
        (GRAPH + "Answer yes or no", "no clause", "'Answer yes or no' is no clause"),
        ("Imagine a world:", "no events", "says of nothing that it has a direct effect"),
        ("Does tea positively affect sleep through calm?", "no events", "says of nothing"),
        (GRAPH + "Does milk positively affect sleep through calm?", "unknown name", "'milk' is no variable"),
        (FORK + "The overall probability of thunder is 4%.", "no assignment", "in no way or in two"),
        (
            FORK + "For people abroad, the probability of smell is 1%. For people at home, the probability of smell is "
            "2%. Will staying at home increase the chance of smell?",
            "undecided",
            "in no way or in two",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(prompt, reason, told):
    found = CladderRules().estimate(prompt)
    assert isinstance(found, Failure) and found.reason == reason and told in found.told


def test_a_graph_too_large_for_words_that_say_nothing_is_refused():
    names = [f"z{letter}rb" for letter in "abcdefghijklmn"]
    prompt = " ".join(f"{one} has a direct effect on {other}." for one, other in pairwise(names))
    for letter in "abcdefghijkl":
        prompt += f" For v{letter}st, the probability of something is 7%."
    found = CladderRules().estimate(prompt + " Is something more likely than nothing overall?")
    assert isinstance(found, Failure) and found.reason == "undecided"


def test_spaces_and_lines_between_the_sentences_stay():
    prompt, abstract = PROMPTS["increase"]
    found = CladderRules().estimate(prompt.replace(". ", ".\n\n  "))
    assert found.filled("ABC") == abstract.replace(". ", ".\n\n  ")


def test_words_share_a_root_tell_a_topic_and_deny():
    assert likeness("nonsmokers", "smoking", ENGLISH) > 1 > likeness("smoking mother", "smoking", ENGLISH) > 0
    assert likeness("women", "gender", ENGLISH) > 0 == likeness("women", "season", ENGLISH)
    assert likeness("women", "gender", ENGLISH.without(["two women"])) == 0
    assert opposed("the patient recovers from gout", "gout", ENGLISH)
    assert not opposed("the patient recovers from the disease", "recovering from the disease", ENGLISH)
    assert opposed("the person doesn't smoke", "smoking", ENGLISH) and not opposed("unhappy", "not happy", ENGLISH)
    assert opposed("low fares", "high fares", ENGLISH)
    blind = ENGLISH.without(["low fares"])
    assert not opposed("low fares", "high fares", blind) and opposed("no fares", "fares", blind)
    assert CladderRules(blind).label != CladderRules().label == CladderRules(Lexicon()).label


MAPPING = {
    "Xname": "tea", "X1": "drinking tea", "X0": "drinking water", "V2name": "calm", "V21": "calm", "V20": "no calm",
    "Yname": "sleep", "Y1": "deep sleep", "Y0": "light sleep",
}  # fmt: skip
QUESTION = CausalQuestion(
    "1", PROMPTS["increase"][0], True, "easy", "ate", 2, "tea", "mediation", "E[Y | do(X = 1)]",
    "Let X = tea; V2 = calm; Y = sleep.\nX->V2,X->Y,V2->Y\nP(Y=1 | X=0) = 0.20\nP(Y=1 | X=1) = 0.30\n0.10 > 0", MAPPING,
)  # fmt: skip
WORDS = Words.of([{"story_id": "tea", "mapping": MAPPING}])


def test_gold_follows_the_formulas_of_the_worked_solution():
    gold = cladder_gold(QUESTION, Words.of([]))
    assert gold.filled("ABC") == PROMPTS["increase"][1]
    assert [mention.holds for mention in gold.mentions] == [None] * 5 + [False, True, True, True, True, True]


def test_gold_takes_the_words_of_the_table_of_models_where_no_formula_stands():
    prompt = GRAPH + "We know that drinking tea causes no calm. drinking tea and calm causes light sleep. "
    asked = "Would the sleep is deep if drinking water instead of drinking tea?"
    question = replace(QUESTION, prompt=prompt + asked, formal="Y_{X=0} = 1 | ", mapping=None)
    gold = cladder_gold(question, WORDS)
    assert gold.filled("ABC") == (
        ABSTRACT + "We know that A causes not B. A and B causes not C. Would C if not A instead of A?"
    )
    assert cladder_gold(question, Words.of([])).reason == "unknown words"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prompt": "Tell me a joke."}, "no clause"),
        ({"reasoning": QUESTION.reasoning.replace("0.30", "0.40")}, "no formula"),
        ({"reasoning": QUESTION.reasoning.replace("X=1) =", "X=1, V2=1) =")}, "other phrases"),
        ({"mapping": MAPPING | {"Y1": "light sleep", "Y0": "deep sleep"}}, "at odds"),
        ({"mapping": MAPPING | {"V2name": "mood"}}, "unknown name"),
    ],
)
def test_gold_is_not_guessed(changed, reason):
    gold = cladder_gold(replace(QUESTION, **changed), WORDS)
    assert isinstance(gold, Failure) and gold.reason == reason


def real_rows():
    folder = Path(REAL or "-") / "cladder"
    if not folder.is_dir():
        pytest.skip("ICP_DATA names no folder with cladder: the real files are not copied into this project")
    models = folder / "test-model-meta.json"
    rows = data.cladder(folder / "cladder.csv")
    rows += data.cladder(folder / "processed_o1_preview_results_top1000_rand.csv")
    for name in ("easy", "anti"):
        rows += data.cladder(folder / f"test-generate-{name}.json", models=models)
    return rows, Words.of(data.cladder_models(models).values())


def test_real_rows_reach_what_is_asked_in_every_split():
    """Every fourth row; all of them are for the benchmark."""
    rows, words = real_rows()
    rows = rows[::4]
    wanted = {"commonsense": 0.95, "easy": 0.95, "hard": 0.95, "anti": 0.90, "nonsense": 0.95}
    counts = {"commonsense": (85, 0), "easy": (254, 0), "hard": (42, 0), "anti": (390, 3), "nonsense": (218, 0)}
    for split, share in wanted.items():
        found = quality(
            (CladderRules().estimate(row.prompt), cladder_gold(row, words)) for row in rows if row.split == split
        )
        assert found.agrees >= share and found.consistent >= found.agrees, split
        assert (found.rows, sum(found.without_gold.values())) == counts[split]
        assert found.spans.f1 >= 0.99 and found.b_cubed.f1 >= 0.99 and found.polarity >= 0.99


def test_real_rows_of_stories_that_no_word_was_chosen_for():
    """The rules with the words of each row's story taken out of the lexicon, shared words too: a harsher test."""
    rows, words = real_rows()
    said = {}
    for row in rows:
        said.setdefault(row.story, []).extend(re.split(r"[.:?]", row.prompt))
    rules = {story: CladderRules(ENGLISH.without(phrases)) for story, phrases in said.items()}
    rows = rows[::8]
    for split, share in {"commonsense": 0.75, "easy": 0.75, "hard": 0.75, "anti": 0.80, "nonsense": 0.99}.items():
        pairs = [
            (rules[row.story].estimate(row.prompt), cladder_gold(row, words)) for row in rows if row.split == split
        ]
        assert quality(pairs).agrees >= share, split
