"""A rule estimator for CLadder: it reads a prompt by its closed grammar, and sees nothing else.

1. The clauses about direct effects name the variables and draw the graph.
2. Phrases that must tell one variable are joined: equal words, the two sides of "instead of", the conditions of clauses
   in a row. Phrases that must tell different ones are kept apart: a condition and its outcome, two causes of one law.
3. Each group of phrases goes to a variable: the assignment that the graph allows (causes are the effect's parents, an
   outcome lies downstream of its conditions where it can) and whose words are most alike.
4. Polarity follows the place: a probability, a chance, and a cause are told of the event that holds; of conditions in a
   row the first are those where it does not ("For nonsmokers ... For smokers ..."). Where place says nothing, words do:
   a denial, or the lesser of two opposites.

All prompts of the data were material to develop the rules on (the grammar is closed and public), and the words of
`icp.capt.lexicon` were chosen with the stories in view. What the rules do for a story that they have no words for is
measured with `CladderRules(Lexicon().without(phrases of the story))`.
"""

from dataclasses import dataclass

from icp.capt.abstraction import Abstraction
from icp.capt.cladder_grammar import Clause, Phrase, clauses
from icp.capt.cladder_groups import Graph, Groups, blocks
from icp.capt.estimator import Estimator, Failure
from icp.capt.lexicon import ENGLISH, Lexicon, denies, likeness, opposed

MARGIN = 1e-6
"""Two assignments whose likeness differs by less are equally good, and the prompt is refused."""

STEPS = 20_000
"""Partial assignments after which the search ends undecided. CLadder's own prompts take far fewer."""

UNLIKELY = 0.3
"""What it costs in likeness that an outcome is not downstream of its condition (two causes of one effect are compared
so too), or that a probability is given of what is said to be unobserved."""

Assignment = dict[int, int]
"""Groups of phrases with their variables."""


@dataclass(frozen=True)
class CladderRules(Estimator):
    """Finds the events of CLadder's prompts by its grammar (this module says how); `lexicon` holds our own words."""

    lexicon: Lexicon = ENGLISH

    @property
    def label(self) -> str:
        return f"CladderRules(lexicon={self.lexicon.digest})"

    def estimate(self, prompt: str) -> Abstraction | Failure:
        found = clauses(prompt)
        if isinstance(found, str):
            return Failure(prompt, "no clause", f"{found!r} is no clause of CLadder's grammar")
        graph = Graph.of(found)
        if not graph.names:
            return Failure(prompt, "no events", f"{prompt[:60]!r} says of nothing that it has a direct effect")
        groups = Groups(found)
        assigned = _assigned(graph, groups, self.lexicon)
        if isinstance(assigned, str):
            return Failure(prompt, assigned, f"the phrases of {prompt[-60:]!r} fit the graph in no way or in two")
        holds = _polarity(found, groups, assigned, self.lexicon)
        mentions = [
            (phrase.start, phrase.stop, graph.names[assigned[groups.of(phrase)]], holds[phrase.start])
            for phrase in groups.phrases
        ]
        for clause in found:
            for phrase in clause.phrases:
                if phrase.place.startswith("name"):
                    if phrase.text.lower() not in graph.names:
                        return Failure(prompt, "unknown name", f"{phrase.text!r} is no variable of the graph")
                    mentions.append((phrase.start, phrase.stop, phrase.text.lower(), None))
        return Abstraction.of(prompt, mentions)


def _assigned(graph: Graph, groups: Groups, lexicon: Lexicon) -> Assignment | str:
    """The best assignment that the graph allows, "no assignment" where there is none, "undecided" where two are."""
    alike = {
        group: [sum(likeness(text, name, lexicon) for text in texts) / len(texts) for name in graph.names]
        for group, texts in groups.texts.items()
    }
    above = [graph.above(variable) for variable in range(len(graph.names))]
    order = sorted(alike, key=lambda group: -max(alike[group]))
    best: list[tuple[float, Assignment]] = []

    steps = 0

    def search(at: int, assigned: Assignment, likely: float):
        nonlocal best, steps
        steps += 1
        net = likely - _cost(above, graph, groups, assigned)
        if steps > STEPS or (len(best) == 2 and net + sum(max(alike[group]) for group in order[at:]) <= best[1][0]):
            return
        if at == len(order):
            if _weighted(groups, assigned):
                best = sorted([*best, (net, dict(assigned))], key=lambda one: -one[0])[:2]
            return
        group = order[at]
        for variable in sorted(range(len(graph.names)), key=lambda one: -alike[group][one]):
            assigned[group] = variable
            if _consistent(graph, groups, assigned):
                search(at + 1, assigned, likely + alike[group][variable])
            del assigned[group]

    search(0, {}, 0.0)
    if steps > STEPS:
        return "undecided"
    if not best:
        return "no assignment"
    if len(best) > 1 and best[0][0] - best[1][0] < MARGIN:
        return "undecided"
    return best[0][1]


def _weighted(groups: Groups, assigned: Assignment) -> bool:
    """Whether every overall probability is of a variable that something is conditioned on."""
    return {assigned[group] for group in groups.weighted} <= {assigned[group] for group in groups.weights}


def _cost(above: list[set[int]], graph: Graph, groups: Groups, assigned: Assignment) -> float:
    """What is unlikely about the groups that have a variable so far."""
    pairs = [(assigned[one], assigned[other]) for one, other in groups.after if one in assigned and other in assigned]
    hidden = sum(assigned[group] in graph.hidden for group in groups.measured if group in assigned)
    return UNLIKELY * (sum(one not in above[other] for one, other in pairs) + hidden)


def _consistent(graph: Graph, groups: Groups, assigned: Assignment) -> bool:
    """Whether nothing that the grammar says is broken so far; what has no variable yet breaks nothing."""
    for one, other in groups.apart:
        if one in assigned and other in assigned and assigned[one] == assigned[other]:
            return False
    for causes, effects in groups.laws:
        there = {assigned[cause] for cause in causes if cause in assigned}
        whole = len(there) == len(causes)
        for effect in effects:
            parents = graph.parents.get(assigned[effect], set()) if effect in assigned else None
            if parents is not None and (not there <= parents or (whole and there != parents)):
                return False
    for given, *events in groups.colliding:
        parents = graph.parents.get(assigned[given], set()) if given in assigned else None
        if parents is not None and any(event in assigned and assigned[event] not in parents for event in events):
            return False
    return True


def _polarity(found: list[Clause], groups: Groups, assigned: Assignment, lexicon: Lexicon) -> dict[int, bool]:
    """Whether each phrase, by its start, says that its variable holds."""
    holds: dict[int, bool] = {}
    for clause in found:
        for place in ("event", "event_2", "causes", "causes_2"):
            if clause.kind != "instead":
                holds.update((phrase.start, True) for phrase in clause.of(place))
        if clause.kind in ("correlation", "collider", "explaining", "had_been"):
            holds.update((phrase.start, True) for phrase in clause.of("given"))
        holds.update((phrase.start, False) for phrase in clause.of("contrary"))
        if clause.kind == "marginal":
            holds.update((phrase.start, False) for phrase in clause.of("opposite"))
    _of_rows(found, holds)
    joints = [clause.of("events") for clause in found if clause.kind == "joint"]
    for index, events in enumerate(joints):
        holds[events[0].start] = index > 0
        holds.update((phrase.start, True) for phrase in events[1:])
    told: dict[int, tuple[Phrase, bool]] = {}
    for phrase in groups.phrases:
        if holds.get(phrase.start):
            told.setdefault(assigned[groups.of(phrase)], (phrase, True))
    for phrase in groups.phrases:
        if phrase.start not in holds:
            first = (phrase, not denies(phrase.text, lexicon))
            said, so = told.setdefault(assigned[groups.of(phrase)], first)
            if phrase.place in ("effects", "effects_2", "event_2", "opposite"):
                holds[phrase.start] = (phrase.text == said.text) == so
            else:
                holds[phrase.start] = opposed(phrase.text, said.text, lexicon) != so
    return holds


def _of_rows(found: list[Clause], holds: dict[int, bool]):
    """Conditions count up: of two clauses in a row the first is where it does not hold, of four 00, 01, 10, 11.

    A row that is not whole says nothing.
    """
    for row in blocks(found):
        if len(row) != 2 ** len(row[0].of("given")):
            continue
        for index, clause in enumerate(row):
            given = clause.of("given")
            for place, phrase in enumerate(given):
                holds[phrase.start] = bool(index >> (len(given) - 1 - place) & 1)
