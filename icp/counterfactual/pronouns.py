"""Whether `her` is `him` or `his`, and `his` is `her` or `hers`, by the words around it, where these say.

The rule, for English: a possessive stands before its noun, so that `her` or `his` before a comma, a full stop, the end
of the text, or a word that cannot begin what is possessed (`her with`, `his and`) is no determiner. Before any other
word `his` is one. `her` is one there too where it begins a clause or follows a preposition (`with her sister`), or
where the word after it is of a kind that is always somebody's (`her mother`, `her own`). `saw her duck`, `made her
happy` and `loves her work` are left undecided, though most readers could tell: a rule on words cannot.
"""

import re

from icp.counterfactual.rows import Span
from icp.counterfactual.words import WORD, plain

NEVER_POSSESSED = frozenset(
    """
    a an the this that these those some any each every another with without in into on onto at by for from of off to
    towards toward through throughout during until till since while because although though unless if when whenever
    where whether who whom whose which what why how than as and or but nor so is are was were has had would could
    should must might will can cannot does did do and i you he she it we they again there here now then today tonight
    yesterday tomorrow about against among around behind beneath beside besides between beyond despite under upon
    within via
    """.split()  # noqa: SIM905
)
ALWAYS_POSSESSED = frozenset(
    """
    own mother father parents mom mum dad daddy mommy mummy sister sisters brother brothers husband wife son sons
    daughter daughters grandmother grandfather grandparents aunt uncle niece nephew cousin cousins family boyfriend
    girlfriend fiance fiancee face eyes hair voice hands lips career lifetime
    """.split()  # noqa: SIM905
)
BEFORE_A_NOUN = frozenset(
    """
    with without in into on onto at by for from of off to towards toward through throughout during until since about
    against among around behind beneath beside besides between beyond despite near over under upon within via both all
    half and or but because when while if although though as than
    """.split()  # noqa: SIM905
)
UNSURE = frozenset(
    """
    back home alone too also right left past all more most better well up down out over away near
    """.split()  # noqa: SIM905
)
CLOSES = re.compile(r"\s*(?:[.,;:!?)\]]|\Z)")
SPACES = re.compile(r"\s+\Z")

DETERMINER, OTHER = {"her": "his", "his": "her"}, {"her": "him", "his": "hers"}


def partner_of(text: str, span: Span) -> str | None:
    """The pronoun of the other gender for the `her` or `his` at these characters; None where the rule cannot tell."""
    word = plain(text[slice(*span)])
    if word not in DETERMINER:
        return None
    if CLOSES.match(text, span[1]):
        return OTHER[word]
    after = WORD.search(text, span[1])
    if after is None or text[span[1] : after.start()].strip() or after.start() == span[1]:
        return None
    follows = plain(after.group())
    hyphened = text[after.end() : after.end() + 1] == "-"
    if follows in UNSURE and not hyphened:
        return None
    if follows in NEVER_POSSESSED and not hyphened:
        return OTHER[word]
    if word == "his" or follows in ALWAYS_POSSESSED or _begins(text[: span[0]]):
        return DETERMINER[word]
    return None


def _begins(before: str) -> bool:
    """Whether nothing, a mark that ends a clause, or a word that a noun phrase follows stands before."""
    stripped = before.rstrip()
    if not stripped or stripped[-1] in ".,;:!?([":
        return True
    words = WORD.findall(stripped[-40:])
    return bool(words) and stripped[-1].isalnum() and plain(words[-1]) in BEFORE_A_NOUN
