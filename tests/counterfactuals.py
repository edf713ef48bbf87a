"""Sentences of our own with a cause and a cue, and an editor that swaps the cue, for tests of what judges pairs."""

from dataclasses import dataclass
from random import Random

from icp.counterfactual import Edit, Editor, Lexicon, Rejection, Row, Spec, Variable
from icp.counterfactual.rows import replaced

GENDER = Lexicon("pronouns", {"female": ("she", "herself", "actress"), "male": ("he", "himself", "actor")})
VERDICT = Lexicon(
    "verdicts",
    {
        "bad": ("awful", "dull", "tedious", "clumsy", "lifeless"),
        "good": ("great", "lively", "gripping", "graceful", "moving"),
    },
)
SPEC = Spec(
    "sentiment",
    ("negative", "positive"),
    (Variable("verdict", VERDICT, {"bad": "negative", "good": "positive"}),),
    (Variable("gender", GENDER),),
)
TEMPLATES = (
    "the film is {verdict} and the {actor} knows that {she} gave it everything on a small budget",
    "a {verdict} story , told by an {actor} who wrote it {herself} while the town slept",
    "{she} wrote a {verdict} script about trains , rivers and the long way home",
    "for two hours the {actor} keeps it {verdict} , and {she} never looks away from the camera",
    "whatever {she} does in the last scene , the picture stays {verdict} to the very end",
)


@dataclass(frozen=True)
class Swapping(Editor):
    """Every word of a variable for its partner."""

    variable: str = "gender"

    @property
    def variables(self):
        return (self.variable,)

    def edits(self, row, spec):
        lexicon = spec.variable(self.variable).finder
        found = lexicon.entries(row.text)
        if not found:
            yield Rejection("nothing found", f"the text says nothing of {self.variable}")
            return
        other = {before: after for before, after in zip(lexicon.values, lexicon.values[::-1])}
        changes = [(one.span, lexicon.words[other[one.value]][one.places[0]]) for one in found]
        text, spans, new_spans = replaced(row.text, changes)
        before = found[0].value
        yield Edit(text, self.variable, before, other[before], spans, new_spans)


def sentences(count, seed=0):
    """Rows of seeded draws; label 1 is positive, and the cue is independent of it."""
    random = Random(seed)
    for _ in range(count):
        label, gender = random.randrange(2), random.choice(GENDER.values)
        words = dict(zip(("she", "herself", "actor"), GENDER.words[gender]))
        verdict = random.choice(VERDICT.words[("bad", "good")[label]])
        yield Row(random.choice(TEMPLATES).format(verdict=verdict, **words), label)
