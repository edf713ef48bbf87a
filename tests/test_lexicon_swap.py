"""A swap changes the words that say the variable and nothing else, keeps their form, or says why it cannot."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp.counterfactual import Edit, Lexicon, LexiconSwap, Pattern, Row, Spec, Variable, lexicons, make_pairs
from icp.counterfactual.pronouns import partner_of
from icp.counterfactual.words import article_for, cased_like, plural
from icp.errors import SpecError

LEXICONS = [lexicons.PRONOUNS, lexicons.NOUNS, lexicons.FIRST_NAMES, lexicons.PLACES, lexicons.NATIONALITIES,
            lexicons.AGES]  # fmt: skip


def spec(finder):
    return Spec("rating", ("poor", "great"), (), (Variable("x", finder),))


def proposals(text, finder, **how):
    swap = LexiconSwap("x", **how)
    swap.begin(spec(finder))
    return list(swap.edits(Row(text, 0), spec(finder)))


def only(text, finder, **how):
    [one] = proposals(text, finder, **how)
    return one.text if isinstance(one, Edit) else one.reason


GENDER = lexicons.NOUNS | lexicons.PRONOUNS


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("The waiter said that he'll come.", "The waitress said that she'll come."),
        ("HE is the King's son, isn't he?", "SHE is the Queen's daughter, isn't she?"),
        ("he\u2019s late; the boys\u2019 room", "she\u2019s late; the girls\u2019 room"),
        ("a man-eating ex-wife", "two values"),
        ("an actor, a hero and A WIDOWER", "an actress, a heroine and A WIDOW"),
        ("a businessmen's lunch", "a businesswomen's lunch"),
        ("the ladies' room", "the lords' room"),
        ("what mankind wants", "inside another word"),
        ("the theme", "no word of the variable"),
        ("he and she", "two values"),
        ("I saw her duck", "ambiguous word"),
        ("he saw himself", "she saw herself"),
    ],
)
def test_swaps_by_partner(text, wanted):
    assert only(text, GENDER) == wanted


def test_a_rejection_names_the_words():
    [one] = proposals("She saw her duck", GENDER)
    assert one.told == "'her' at character 8 of 'She saw her duck' may be him or his"
    [one] = proposals("what mankind wants", GENDER)
    assert one.told.startswith("'mankind' holds a word for x as a part")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("an engineer", "a nurse"), ("An  ENGINEER", "A  NURSE"), ("the engineer", "the nurse"),
        ("can engineer", "can nurse"), ("a young engineer", "a young nurse"), ("a engineer", "a nurse"),
        ("two engineers", "two nurses"), ("AN ENGINEER'S hat", "A NURSE'S hat"),
    ],
)  # fmt: skip
def test_the_indefinite_article_follows_the_new_word(text, wanted):
    finder = Lexicon("jobs", {"tech": ("engineer",), "care": ("nurse",)}, plurals=True)
    [edit] = proposals(text, finder)
    assert edit.text == wanted
    [found] = finder.find(Row(text, 0))
    [span] = edit.spans
    assert found.span[0] <= span[0] and span[1] <= found.span[1], "what is edited was found to say the variable"


def test_a_possessive_that_would_be_spelt_otherwise_is_rejected():
    finder = Lexicon("x", {"a": ("ladies", "lady"), "b": ("gentlemen", "boss")})
    assert only("the ladies' room", finder) == only("the gentlemen's room", finder) == "possessive"
    assert only("the lady's room", finder) == "possessive", "bosses differ in how they write boss'"
    assert (
        only("the ladies and 'gentlemen", Lexicon("x", {"a": ("ladies",), "b": ("women",)}))
        == "the women and 'gentlemen"
    )


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("her sister is here", "his"), ("with her friend", "his"), ("it is her own", "his"),
        ("he met her mother", "his"),
        ("and her long day", "his"), ("he told her.", "him"), ("he met her", "him"), ("gave her the book", "him"),
        ("talked to her about it", "him"), ("he saw her leave", None), ("made her happy", None),
        ("brought her back", None),
        ("loves her work", None), ('called her "late"', None), ("her-", None), ("with her then-boss", "his"),
        ("her", "him"), ("'her house", None), ("his house", "her"), ("a friend of his.", "hers"),
        ("his is late", "hers"),
        ("his in-laws", "her"), ("his alone", None), ("HIS house", "her"), ("his own", "her"), ("their house", None),
    ],
)  # fmt: skip
def test_her_and_his_are_settled_by_the_words_around_them_or_not_at_all(text, wanted):
    match = re.search(r"\b(her|his|their)\b", text, re.IGNORECASE)
    assert partner_of(text, match.span()) == wanted


def test_more_than_two_values_are_all_proposed_in_an_order_drawn_from_the_text():
    texts = [f"flight {number} from Berlin" for number in range(40)]
    firsts = set()
    for text in texts:
        made = proposals(text, lexicons.PLACES)
        assert {edit.after for edit in made} == {"Africa", "Asia", "the Americas"}
        assert {edit.text.split(" from ")[1] for edit in made} == {"Nairobi", "Tokyo", "Toronto"}
        assert made == proposals(text, lexicons.PLACES)
        firsts.add(made[0].after)
    assert len(firsts) == 3
    assert [edit.after for edit in proposals(texts[0], lexicons.PLACES, to=("Asia",))] == ["Asia"]
    orders = {tuple(edit.after for edit in proposals(texts[0], lexicons.PLACES, seed=seed)) for seed in range(30)}
    assert len(orders) > 3, "another seed is another order"


def test_any_word_is_one_of_the_other_list_the_same_for_the_same():
    names = lexicons.FIRST_NAMES
    drawn = set()
    for number in range(60):
        text = f"{number}: John met Paul and john"
        [edit] = proposals(text, names, any_word=True)
        assert proposals(text, names, any_word=True) == [edit]
        first, second, third = re.fullmatch(r"\d+: (\w+) met (\w+) and (\w+)", edit.text).groups()
        assert first in names.words["female"] and second in names.words["female"] and first != second
        assert third == first.lower()
        drawn.add(first)
    assert len(drawn) > 10
    uneven = Lexicon("names", {"a": ("Ann", "Eve"), "b": ("Tom",)}, aligned=False)
    assert only("Ann and Eve", uneven) == "Tom and Tom"


def test_what_cannot_be_swapped_is_refused_at_once():
    with pytest.raises(SpecError, match="'x' is found by a Pattern, and a lexicon swap needs a Lexicon"):
        make_pairs([], edit=LexiconSwap("x"), spec=spec(Pattern({"a": "b", "c": "d"})))
    with pytest.raises(SpecError, match="'x' cannot become 'south': it is one of male, female"):
        make_pairs([], edit=LexiconSwap("x", ("south",)), spec=spec(GENDER))


@pytest.mark.parametrize("finder", LEXICONS, ids=lambda finder: finder.name)
def test_the_lexicons_say_what_they_list(finder):
    """Every listed word is found with its value, and swapped for its partner and back, but where it has two."""
    for value, words in finder.words.items():
        for place, word in enumerate(words):
            assert [one.value for one in finder.find(Row(word, 0))] == [value]
            for edit in proposals(f"the {word} of", finder):
                if words.count(word) == 1:
                    assert edit.text == f"the {finder.words[edit.after][place]} of"
                    back = [o.text for o in proposals(edit.text, finder) if isinstance(o, Edit) and o.after == value]
                    assert f"the {word} of" in back or finder is lexicons.PRONOUNS


PARTS = st.sampled_from(
    ["king", "Queen", "MEN", "women", "actor", "a waiter", "film", "the", "An", "x-ray", ",", "boy's", "\u00e9"]
)


@given(st.lists(PARTS, min_size=1, max_size=8))
def test_only_the_spans_change_and_a_swap_back_gives_the_text(words):
    text = " ".join(words)
    [one] = proposals(text, lexicons.NOUNS)
    if not isinstance(one, Edit):
        assert one.reason in ("two values", "no word of the variable", "inside another word")
        return
    bounds = [0, *(edge for span in one.spans for edge in span), len(text)]
    new = [0, *(edge for span in one.new_spans for edge in span), len(one.text)]
    for place in range(0, len(bounds), 2):
        assert text[bounds[place] : bounds[place + 1]] == one.text[new[place] : new[place + 1]]
    found = lexicons.NOUNS.find(Row(one.text, 0))
    assert {each.value for each in found} == {one.after} and len(found) == len(one.spans)
    [back] = proposals(one.text, lexicons.NOUNS)
    assert back.text == text


@pytest.mark.parametrize(
    "new, old, listed, wanted",
    [
        ("queen", "king", "king", "queen"), ("queen", "King", "king", "Queen"), ("queen", "KING", "king", "QUEEN"),
        ("queen", "kING", "king", "queen"), ("Mary", "john", "John", "mary"), ("Mary", "John", "John", "Mary"),
        ("New York", "Rome", "Rome", "New York"), ("he", "I", "i", "He"),
        ("old lady", "Young Man", "young man", "Old Lady"),
        ("old lady", "Young man", "young man", "Old lady"), ("old lady", "YOUNG MAN", "young man", "OLD LADY"),
    ],
)  # fmt: skip
def test_the_case_is_kept(new, old, listed, wanted):
    assert cased_like(new, old, listed) == wanted


def test_plurals_and_articles():
    words = [
        "man",
        "postman",
        "German",
        "woman",
        "wife",
        "boy",
        "lady",
        "waitress",
        "church",
        "box",
        "child",
        "salesperson",
        "hero",
        "thief",
    ]
    assert " ".join(map(plural, words)) == (
        "men postmen Germans women wives boys ladies waitresses churches boxes children salespeople heroes thieves"
    )
    an = "actor engineer hour honest heir uncle usher unusual Indian umbrella old"
    a = "nurse user university European Ugandan one uniform house Ukrainian"
    assert {article_for(word) for word in an.split()} == {"an"} and {article_for(word) for word in a.split()} == {"a"}
