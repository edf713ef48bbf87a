"""A spec refuses what contradicts itself, keeps its meaning in a file, and finds its variables in a text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp.counterfactual import Classifier, Column, Lexicon, Pattern, Row, Spec, Variable
from icp.errors import SpecError
from icp.pairs import FlippingPairs, PreservingPairs

SENTIMENT = Lexicon("sentiment", {"negative": ("bad", "dull"), "positive": ("good", "fine")})
GENDER = Lexicon("gender", {"male": ("he", "flight steward"), "female": ("she", "flight stewardess")})
LABELS = {"negative": "bad", "positive": "good"}


def spec(**changes):
    told = {
        "label": "rating", "classes": ("bad", "good"), "causes": (Variable("sentiment", SENTIMENT, LABELS),),
        "cues": (Variable("gender", GENDER),),
    }  # fmt: skip
    return Spec(**(told | changes))


def test_the_kind_follows_from_the_role():
    assert spec().kind_of("gender") is PreservingPairs
    assert spec().kind_of("sentiment") is FlippingPairs
    with pytest.raises(SpecError, match="no variable 'place' in the spec: there are sentiment, gender"):
        spec().kind_of("place")


@pytest.mark.parametrize(
    "changes, told",
    [
        (dict(direction="both"), "unknown direction 'both'"),
        (dict(classes=("good", "good")), "two or more different"),
        (dict(classes=("good",)), "two or more different"),
        (dict(classes="bad"), "the classes of the spec are 'bad': give a list"),
        (dict(cues=(Variable("sentiment", GENDER),)), "'sentiment' is named twice"),
        (dict(cues=(Variable("rating", GENDER),)), "'rating' is named twice"),
        (dict(cues=(Variable("gender", GENDER, {"male": "bad"}),)), "'gender' has labels: what settles the label is a"),
        (dict(causes=(Variable("sentiment", SENTIMENT, {"negative": "awful"}),)), "has the label 'awful'"),
        (
            dict(cues=(Variable("tone", Lexicon("tone", {"warm": ("Fine",), "cold": ("grim",)})),)),
            "'fine' is found by 'sentiment' and by 'tone'",
        ),
        (
            dict(
                cues=(
                    Variable("rank", Lexicon("rank", {"high": ("finest",), "low": ("boys",)})),
                    Variable("sex", Lexicon("sex", {"m": ("boy",), "f": ("girl",)}, plurals=True)),
                )
            ),
            "'boys' is found by 'rank' and by 'sex'",
        ),
        (
            dict(cues=(Variable("place", Column("town", ("a", "b"))), Variable("town", Column("town", ("a", "c"))))),
            "'town' is found by 'place' and by 'town'",
        ),
        (dict(classes=("bad", "")), r"the label 'rating' and the classes \('bad', ''\): give words"),
        (
            dict(causes=(Variable("sentiment", SENTIMENT, {"negative": "bad", "positive": "bad"}),)),
            "every value of the cause 'sentiment' has the label 'bad'",
        ),
        (dict(edges=(("gender", "rating"),)), "makes the cue 'gender' a cause or an effect of the label"),
        (dict(edges=(("place", "gender"),)), "names 'place'"),
        (dict(edges=(("gender", "sentiment"), ("sentiment", "gender"))), "cycle: .* -> "),
        (dict(edges=(("gender", "gender"),)), "cycle: gender -> gender"),
        (dict(edges=(("rating", "sentiment"),)), "cycle"),
        (dict(direction="anti-causal", edges=(("sentiment", "rating"),)), "cycle"),
        (dict(edges=(("gender",),)), "has to be two names"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, told):
    with pytest.raises(SpecError, match=told):
        spec(**changes)


def test_a_variable_needs_a_way_to_be_found():
    with pytest.raises(SpecError, match="'gender' cannot be found in the text by None"):
        Variable("gender", None)
    with pytest.raises(SpecError, match="a label for the value 'mixed': its values are negative, positive"):
        Variable("sentiment", SENTIMENT, {"mixed": "bad"})


@pytest.mark.parametrize(
    "direction, arrow", [("causal", ("sentiment", "rating")), ("anti-causal", ("rating", "sentiment"))]
)
def test_arrows_run_in_the_direction(direction, arrow):
    assert spec(direction=direction).arrows == (arrow,)
    assert spec(direction=direction, edges=(arrow, ("gender", "sentiment"))).arrows == (arrow, ("gender", "sentiment"))


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@st.composite
def specs(draw):
    """Any spec of one cause and two cues, with names and values of any characters."""
    names = draw(st.lists(WORDS, min_size=4, max_size=4, unique=True))
    values = [draw(st.lists(WORDS, min_size=2, max_size=3, unique=True)) for _ in range(3)]
    classes = tuple(draw(st.lists(WORDS, min_size=2, max_size=3, unique=True)))
    flags = draw(st.tuples(st.booleans(), st.booleans()))
    lexicon = Lexicon(names[3], {value: (f"w{number}x",) for number, value in enumerate(values[0])}, *flags)
    cause = Variable(names[1], lexicon, draw(st.just(None) | st.just({values[0][0]: classes[0]})))
    cues = (
        Variable(names[2], Pattern({v: f"p{n}+" for n, v in enumerate(values[1])})),
        Variable(names[3], Column(draw(WORDS), values[2])),
    )
    edges = draw(st.sampled_from([(), ((names[2], names[3]),), ((names[2], names[1]), (names[2], names[3]))]))
    return Spec(names[0], classes, (cause,), cues, draw(st.sampled_from(["causal", "anti-causal"])), edges)


@given(specs())
def test_a_file_keeps_the_whole_spec(tmp_path_factory, made):
    path = made.save(tmp_path_factory.mktemp("spec") / "spec.toml")
    assert Spec.load(path) == made


def test_a_classifier_is_kept_by_name_and_finds_nothing_then(tmp_path):
    made = spec(cues=(Variable("dialect", Classifier("dialects", ("a", "b"), lambda text: text[0])),))
    assert made.values_in(Row("bad", 0))["dialect"] == ("b",)
    with pytest.raises(SpecError, match="says 'x' of 'x-rated': the spec knows a, b"):
        made.values_in(Row("x-rated", 0))
    loaded = Spec.load(made.save(tmp_path / "spec.toml"))
    assert loaded.stored == made.stored
    with pytest.raises(SpecError, match="'dialects' is code, which a file does not hold"):
        loaded.values_in(Row("bad", 0))


TOML = 'label = "rating"\nclasses = ["bad", "good"]\n'


@pytest.mark.parametrize(
    "text, told",
    [
        ("label = ", "cannot be read as TOML"),
        ('label = "rating"\n', "has no 'classes'"),
        (TOML + "classes_of = 1\n", "has 'classes_of', which is unknown"),
        ('label = "rating"\nclasses = "good"\n', "has classes = 'good': give a list"),
        ('label = 3\nclasses = ["bad", "good"]\n', "has the label 3 and the classes .*: give words"),
        (TOML + 'edges = ["ab"]\n', "two names"),
        (TOML + '[[cue]]\nname = "g"\n', r"cue 1 \('g'\) has to be found in one way"),
        (TOML + '[[cue]]\nname = "g"\ncolumn = "g"\n', "cue 1 has no 'values'"),
        (TOML + '[[cue]]\nname = "g"\ncolumn = "g"\nvalues = "ab"\n', "'ab': give a list of words"),
        (TOML + '[[cue]]\nname = "g"\ncolumn = "g"\nvalues = ["a"]\n', "two different values"),
        (TOML + '[[cue]]\nname = "g"\nwords = { a = "he", b = ["she"] }\n', "has 'he' for 'a': give a list of words"),
        (TOML + '[[cue]]\nname = "g"\nwords = ["he"]\n', r"has words = \['he'\]: give a table"),
        (TOML + '[[cue]]\nname = "g"\npatterns = { a = "(" , b = "b" }\n', "cannot be read"),
        (TOML + '[[cue]]\nname = "g"\npatterns = { a = "x*" , b = "b" }\n', "matches where there are no characters"),
        (
            TOML + '[[cue]]\nname = "g"\nwords = { a = ["x"], b = ["y"] }\naligned = "false"\n',
            "aligned = 'false': it is true",
        ),
        (TOML + '[cue]\nname = "g"\n', "give a list"),
    ],
)
def test_a_file_that_says_something_else_is_named(tmp_path, text, told):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=told):
        Spec.load(path)
    with pytest.raises(SpecError, match="cannot be read as TOML"):
        Spec.load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "words, more, told",
    [
        ({"a": ("he",)}, {}, "two values at least"),
        ({"a": ("he",), "b": ()}, {}, "two values at least"),
        ({"a": ("Jos\u00e9",), "b": ("Jose\u0301",)}, {}, "for 'a' and for 'b'"),
        ({"a": ("he",), "b": ("He",)}, {}, "'He' for 'a' and for 'b'"),
        ({"a": ("flight  crew",), "b": ("flight crew",)}, {}, "'flight crew' for 'a' and for 'b'"),
        ({"a": ("man",), "b": ("men",)}, {"plurals": True}, "'men' for 'a' and for 'b'"),
        ({"a": ("he",), "b": ("...",)}, {}, "'...' for 'b', which is no word"),
        ({"a": ("he", "him"), "b": ("she",)}, {}, "cannot be matched one to one"),
    ],
)
def test_a_lexicon_that_contradicts_itself_is_refused(words, more, told):
    with pytest.raises(SpecError, match=told):
        Lexicon("x", words, **more)


@pytest.mark.parametrize(
    "text, found",
    [
        ("He said he was", ["He", "he"]),
        ("the theme of she-wolves", ["she"]),
        ("he's late, and she\u2019s not", ["he", "she"]),
        ("a flight steward and a FLIGHT stewardess", ["a flight steward", "a FLIGHT stewardess"]),
        ("the flight, steward, flight-steward", ["flight-steward"]),
        ("shell hero he2", []),
        ("flight", []),
        ("", []),
    ],
)
def test_whole_words_are_found_whatever_their_case(text, found):
    assert [text[slice(*one.span)] for one in GENDER.find(Row(text or " ", 0))] == found


def test_a_word_that_only_holds_an_entry_is_named():
    assert SENTIMENT.inside("of badly Good goodness") == "badly"
    assert SENTIMENT.inside("bad") is None
    assert GENDER.inside("theme") is None, "a word of two letters is inside too many others"


def test_plurals_are_found_where_asked():
    nouns = {"male": ("man", "waiter", "host"), "female": ("woman", "waitress", "hostess")}
    text = "The women and a postman met waitresses, hosts and the Men."
    assert Lexicon("x", nouns).entries(text) == []
    found = Lexicon("x", nouns, plurals=True).entries(text)
    assert [(one.value, one.places, one.plural, text[slice(*one.span)]) for one in found] == [
        ("female", (0,), True, "women"), ("female", (1,), True, "waitresses"), ("male", (2,), True, "hosts"),
        ("male", (0,), True, "Men"),
    ]  # fmt: skip


def test_lexicons_are_joined_value_by_value():
    more = Lexicon("nouns", {"female": ("queen",), "male": ("king",)})
    joined = GENDER | more
    assert joined.words == {"male": ("he", "flight steward", "king"), "female": ("she", "flight stewardess", "queen")}
    with pytest.raises(SpecError, match="both need the same"):
        GENDER | SENTIMENT
    with pytest.raises(SpecError, match="finds plurals: both need to or none"):
        GENDER | Lexicon("nouns", more.words, plurals=True)


@given(st.lists(st.sampled_from(["he", "she", "HE", "theme", "flight", "steward", "-", ",", "the"]), max_size=12))
def test_entries_are_exactly_the_words_and_phrases_of_the_text(words):
    text = " ".join(words)
    wanted = len(re.findall(r"\b(?:he|she|flight (?:- )*steward)\b", text.lower()))
    found = [text[slice(*one.span)].lower().replace("- ", "") for one in GENDER.entries(text)]
    assert len(found) == wanted and set(found) <= {"he", "she", "flight steward"}


def test_a_column_is_read_or_the_row_is_named():
    column = Column("place", ("north", "south"))
    assert [one.value for one in column.find(Row("x", 0, {"place": "north"}))] == ["north"]
    assert column.find(Row("x", 0, {"place": None})) == []
    with pytest.raises(SpecError, match="the row 'x' has no column 'place'"):
        column.find(Row("x", 0))
    with pytest.raises(SpecError, match="'place' has 'east' in the row 'x': the spec knows north, south"):
        column.find(Row("x", 0, {"place": "east"}))


def test_patterns_say_a_value_each():
    pattern = Pattern({"old": r"\b[5-9]\d years", "young": r"\b[12]\d years"})
    assert [(one.value, one.span) for one in pattern.find(Row("21 years, 70 years", 0))] == [
        ("young", (0, 8)), ("old", (10, 18)),
    ]  # fmt: skip
