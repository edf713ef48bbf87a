"""Rows are validated together, which changes nothing: not what is kept, nor its order, nor the counts."""

from dataclasses import dataclass, field

import pytest
from counterfactuals import GENDER, SPEC, sentences

from icp.counterfactual import Edit, Editor, Rejection, Validator, make, make_pairs
from icp.counterfactual.rows import replaced


@dataclass(frozen=True)
class EveryWay(Editor):
    """Each word of the cue for each word of the other value; of texts of some lengths nothing, or a refusal."""

    @property
    def variables(self):
        return ("gender",)

    def edits(self, row, spec):
        if len(row.text) % 7 == 0:
            return
        for one in GENDER.entries(row.text)[:1]:
            if len(row.text) % 5 == 0:
                yield Rejection("skipped", "its length is a multiple of five")
            [other] = set(GENDER.values) - {one.value}
            for word in (row.text[slice(*one.span)], *GENDER.words[other]):
                text, spans, new_spans = replaced(row.text, [(one.span, word)])
                yield Edit(text, "gender", one.value, other, spans, new_spans)


@dataclass(frozen=True)
class Multiple(Validator):
    """Rejects counterparts whose length is a multiple of `of`; notes how many it saw at once."""

    of: int
    seen: list = field(default_factory=list)

    @property
    def reason(self):
        return f"a multiple of {self.of}"

    def reject_all(self, pairs, spec):
        self.seen.append(len(pairs))
        return ["it is" if len(edit.text) % self.of == 0 else None for _, edit in pairs]


def one_by_one(rows, validators, keep):
    """What is kept of each row, taking one proposal after the other, and how often each reason was given."""
    kept, reasons = [], {}
    for row in rows:
        of_row, why = [], None
        for proposal in EveryWay().edits(row, SPEC):
            if isinstance(proposal, Rejection):
                why = proposal.reason
            elif proposal.text == row.text:
                why = "unchanged"
            else:
                why = next((v.reason for v in validators if len(proposal.text) % v.of == 0), None)
                if why is None:
                    of_row.append(proposal.text)
                    if len(of_row) == keep:
                        break
                    continue
            reasons[why] = reasons.get(why, 0) + 1
        if why is None and not of_row:
            reasons["no proposal"] = reasons.get("no proposal", 0) + 1
        kept += [(row.text, text) for text in of_row]
    return kept, reasons


@pytest.mark.parametrize("keep", [1, 2, 9])
@pytest.mark.parametrize("together", [1, 3, 64])
def test_rows_that_are_validated_together_are_judged_as_one_by_one(keep, together, monkeypatch):
    monkeypatch.setattr(make, "TOGETHER", together)
    rows, validators = list(sentences(40, seed=7)), (Multiple(2), Multiple(3))
    made = make_pairs(rows, edit=EveryWay(), spec=SPEC, validators=validators, keep=keep, progress=False)
    kept, reasons = one_by_one(rows, validators, keep)
    assert [(row.text, edit.text) for row, edit in made] == kept and kept
    assert dict(made.counts["rejected"]) == reasons
    assert {"unchanged", "no proposal", "skipped", "a multiple of 2", "a multiple of 3"} <= set(reasons)
    assert list(made.table["row"]) == sorted(made.table["row"])
    assert max(validators[0].seen) <= together
    assert sum(validators[1].seen) == sum(validators[0].seen) - reasons["a multiple of 2"], "it sees survivors only"


def test_a_validator_that_judges_one_pair_at_a_time_may_write_reject_alone():
    @dataclass(frozen=True)
    class Short(Validator):
        name = "short"

        def reject(self, row, edit, spec):
            return "it is short" if len(edit.text) < 60 else None

    rows = list(sentences(20))
    made = make_pairs(rows, edit=EveryWay(), spec=SPEC, validators=[Short()], keep=9, progress=False)
    assert len(made) and all(len(edit.text) >= 60 for _, edit in made)
