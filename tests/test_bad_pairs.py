"""What the data, the spec, an editor or a hand may get wrong: each is named, valid rows are kept, and counts add up."""

import shutil
from dataclasses import replace

import pytest

from icp.counterfactual import (
    Column,
    EditDistance,
    Function,
    Given,
    Lexicon,
    LexiconSwap,
    MadePairs,
    Spec,
    Variable,
    make_pairs,
    pairs_again,
)
from icp.errors import ArtefactError, SpecError
from icp.pairs import FlippingPairs, PreservingPairs

GENDER = Variable("gender", Lexicon("gender", {"male": ("king", "actor"), "female": ("queen", "actress")}))
TASTE = Variable(
    "taste", Lexicon("taste", {"bad": ("dull",), "good": ("lively",)}), {"bad": "negative", "good": "positive"}
)
SPEC = Spec("sentiment", ("negative", "positive"), (TASTE,), (GENDER,))
SWAP = LexiconSwap("gender")
GOOD = {"text": "the king is dull", "label": 0}


def made(rows, edit=SWAP, spec=SPEC, **how):
    """The pairs, of which the first row makes one; every row and every proposal has to be accounted for."""
    found = make_pairs([GOOD, *rows], edit=edit, spec=spec, progress=False, **how)
    counts = found.counts
    assert counts["rows"] == 1 + len(rows)
    assert counts["accepted"] + sum(counts["rejected"].values()) == counts["proposed"] + counts["without"]
    assert (len(found), len(found.rejected)) == (counts["accepted"], sum(counts["rejected"].values()))
    assert found[0][0].text == GOOD["text"], "the valid row is kept"
    return found


def only(found):
    [row] = found.rejected
    return row["reason"], row["told"]


def test_a_spec_that_contradicts_itself():
    with pytest.raises(SpecError, match="'gender' is named twice: a variable is the label, a cause or a cue, and one"):
        replace(SPEC, causes=(*SPEC.causes, GENDER))
    with pytest.raises(SpecError, match="'king' is found by 'gender' and by 'rank'"):
        replace(SPEC, cues=(GENDER, Variable("rank", Lexicon("rank", {"high": ("king",), "low": ("page",)}))))


def test_a_spec_that_contradicts_the_data():
    place = Variable("place", Column("place", ("north", "south")))
    rows = [GOOD | {"place": "east"}, GOOD, GOOD | {"label": 2, "place": "north"}, GOOD | {"place": "south"}]
    spec = replace(SPEC, cues=(GENDER, place))
    found = make_pairs(rows, edit=LexiconSwap("gender"), spec=spec, progress=False)
    assert len(found) == 1 and found.counts["rejected"] == {"contradicts the spec": 3}
    told = [row["told"] for row in found.rejected]
    assert "'place' has 'east' in the row 'the king is dull': the spec knows north, south" in told[0]
    assert "has no column 'place'" in told[1] and "has the label 2: the spec has 2 classes" in told[2]


def test_a_lexicon_with_one_word_on_both_sides():
    with pytest.raises(SpecError, match=r"'gender' has 'King' for 'male' and for 'female': a word can stand for one"):
        Lexicon("gender", {"male": ("king", "King"), "female": ("queen", "King")})


def test_a_text_where_the_cue_occurs_twice():
    found = made([{"text": "The King met a king and an actor", "label": 0}])
    assert found[1][1].text == "The Queen met a queen and an actress" and not found.counts["rejected"]
    reason, told = only(made([{"text": "a king and a queen", "label": 0}]))
    assert reason == "two values" and "'a king and a queen' says male and female for gender" in told
    half = Function("gender", lambda text: text.replace("king", "queen", 1))
    reason, told = only(made([{"text": "a king and a king", "label": 0}], half))
    assert reason == "value not found" and "says queen" not in told and "says female and male for gender" in told


def test_a_text_where_the_cue_is_inside_another_word():
    reason, told = only(made([{"text": "the kingdom is dull", "label": 0}]))
    assert reason == "inside another word" and "'kingdom' holds a word for gender as a part" in told
    found = made([{"text": "the kingdom of a king", "label": 0}])
    assert found[1][1].text == "the kingdom of a queen", "the whole word is swapped, and the other left"
    reason, _ = only(made([{"text": "the king\u0301 is dull", "label": 0}]))
    assert reason == "no word of the variable", "an accent that is a character of its own makes another word"


def test_an_edit_that_leaves_the_text_unchanged():
    keeping = Function("gender", lambda text: text if "lively" in text else text.replace("king", "queen"))
    reason, told = only(made([{"text": "the king is lively", "label": 1}], keeping))
    assert reason == "unchanged" and told == "the edit leaves the text as it is"


def test_labels_that_disagree_with_the_kind():
    flipping = LexiconSwap("taste")
    reason, told = only(made([{"text": "so dull", "label": 1}], flipping))
    assert reason == "label disagrees" and told == "taste = 'bad' goes with 'negative', and the row has 'positive'"
    given = [{"text": "a king", "label": 0, "counterpart": "a queen", "counterpart_label": 1}]
    first = GOOD | {"counterpart": "the queen is dull"}
    found = make_pairs([first, *given], edit=Given("gender"), spec=SPEC, progress=False)
    assert len(found) == 1 and only(found) == ("label disagrees", "gender is a cue, and the label changes with it")


BY_HAND = {
    "label": (dict(label=7), "contradicts the spec", "has the label 7"),
    "no label": (dict(label=None), "no text or label", "has the label None"),
    "the label of the counterpart": (dict(counterpart_label=1), "label disagrees", "the label changes with it"),
    "no text": (dict(text=" "), "no text or label", "has the text ' '"),
    "no counterpart": (dict(counterpart=None), "no counterpart", "has the counterpart None"),
    "unchanged": (dict(counterpart="the king is dull 1"), "unchanged", "as it is"),
    "mixed": (dict(counterpart="the queen is lively 1"), "mixed edit", "changes taste too"),
    "stranger": (dict(counterpart="one lone queen who is dull"), "edit too large", "of the tokens change"),
    "columns": (dict(columns="{"), "no text or label", "give mappings"),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_pair_file_edited_by_hand(case, tmp_path):
    changes, reason, told = BY_HAND[case]
    rows = [{"text": f"the king is dull {number}", "label": 0, "source": number} for number in range(3)]
    pairs = make_pairs(rows, edit=LexiconSwap("gender"), spec=SPEC, folder=tmp_path / "pairs", progress=False)
    edited = [row | changes if row["row"] == 1 else row for row in pairs.table]
    write(tmp_path / "edited.arrow", edited, pairs.table.features)
    shutil.move(tmp_path / "edited.arrow", tmp_path / "pairs" / "pairs.arrow")  # what is open stays as it was
    with pytest.raises(ArtefactError, match=r"pairs\.arrow was changed since .*: make the pairs again, or check these"):
        MadePairs.load(tmp_path / "pairs")
    again = pairs_again(tmp_path / "pairs", "gender", spec=SPEC, validators=[EditDistance(0.5)], progress=False)
    wanted = [(replace(row, columns=row.columns | {"group": "male"}), edit) for row, edit in pairs]
    assert list(again) == [wanted[0], wanted[2]], "with columns, spans and values"
    assert again.counts["rows"] == 3 and again.counts["rejected"] == {reason: 1} and told in only(again)[1]
    assert again.kind is PreservingPairs


def write(path, rows, features):
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(path), features=features) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()


def test_a_file_that_holds_no_pairs_is_named(tmp_path):
    for content in (None, b"", b"text,label"):
        if content is not None:
            (tmp_path / "pairs.arrow").write_bytes(content)
        with pytest.raises(ArtefactError, match=r"pairs\.arrow cannot be read as pairs"):
            pairs_again(tmp_path, "gender", spec=SPEC)


@pytest.mark.parametrize("direction", ["causal", "anti-causal"])
def test_the_kind_follows_from_the_role_of_what_is_edited(direction):
    """Contract: of one spec, edits of its cue make pairs to agree on, edits of its cause pairs to differ on."""
    spec = replace(SPEC, direction=direction)
    answers = (" bad", " good")
    found = {name: made([], LexiconSwap(name), spec).to_pairs("{text} It was", answers) for name in ("gender", "taste")}
    assert type(found["gender"]) is PreservingPairs and type(found["taste"]) is FlippingPairs
    turned = replace(spec, causes=(replace(GENDER, labels={"male": "negative", "female": "positive"}),), cues=(
        replace(TASTE, labels=None),))  # fmt: skip
    for name, other in (("gender", FlippingPairs), ("taste", PreservingPairs)):
        assert type(made([], LexiconSwap(name), turned).to_pairs("{text} It was", answers)) is other


def test_several_pairs_of_a_row_are_one_cluster():
    many = Function("gender", lambda text: [text.replace("king", "queen"), text.replace("king", "actress")])
    rows = [{"text": f"a king {number}", "label": 0} for number in range(3)]
    probe = made(rows, many, keep=2).to_pairs("{text}", (" bad", " good")).probe
    assert probe.clusters[:, 1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(made(rows, many).to_pairs("{text}", (" bad", " good")).probe.clusters[:, 1])) == 4
