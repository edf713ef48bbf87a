"""Templates make every text of their slots' words, and are edited in one slot."""

import pytest

from icp.counterfactual import Column, Lexicon, Spec, Variable, make_pairs
from icp.counterfactual.template import Template
from icp.errors import SpecError

MOOD = Variable("mood", Lexicon("mood", {"bad": ("awful",), "good": ("fine",)}), {"bad": "poor", "good": "great"})
WHO = Variable("who", Lexicon("who", {"male": ("actor", "king"), "female": ("actress", "queen")}))
SPEC = Spec("rating", ("poor", "great"), (MOOD,), (WHO, Variable("place", Column("place", ("a", "b")))))
FORM = Template("who", ("an {who} in a film that is {mood}", "{who}: {mood}"))
BARE = Spec("rating", ("poor", "great"), (MOOD,), (WHO,))


def test_rows_are_all_the_texts_with_the_label_of_their_cause():
    rows = list(FORM.rows(BARE))
    assert len(rows) == 2 * 4 * 2 and len({row.text for row in rows}) == 16
    assert rows[-1].text == "Queen: fine" and rows[-1].label == 1 and rows[-1].columns["word"] == "queen"
    assert all(row.label == ("fine" in row.text) for row in rows)
    made = make_pairs(rows, edit=FORM, spec=BARE, progress=False)
    assert len(made) == 16 and made.kind.kind == "label-preserving"
    assert ("Actress: fine", 1) in {(edit.text, edit.label) for _, edit in made}
    flipped = make_pairs(rows, edit=Template("mood", FORM.templates), spec=BARE, progress=False)
    assert len(flipped) == 16 and all(edit.label != row.label for row, edit in flipped)


def test_other_texts_and_slots_are_named():
    made = make_pairs([{"text": "the king was fine", "label": 1}], edit=FORM, spec=BARE, progress=False)
    assert dict(made.counts["rejected"]) == {"no template": 1}
    with pytest.raises(SpecError, match=r"has no slot \{place\}"):
        Template("place", ("{who}",)).begin(SPEC)
    with pytest.raises(SpecError, match="'place' is found by a Column, and a template's slot needs a Lexicon"):
        Template("who", ("{who} {place}",)).begin(SPEC)
    with pytest.raises(SpecError, match=r"has the labels \[\]: give it one"):
        list(Template("who", ("{who}",)).rows(SPEC))
    assert {row.label for row in Template("who", ("{who}",)).rows(SPEC, label=1)} == {1}
