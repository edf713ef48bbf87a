"""What the grammar of a CLadder prompt says of its phrases: which tell one variable, which several, and the graph."""

from dataclasses import dataclass, field
from itertools import combinations, product

from icp.capt.cladder_grammar import Clause, Phrase

OUTCOME = {"increase": "event_2", "observing": "event", "had_been": "event", "marginal": "event", "instead": "event"}
TREATMENT = {"increase": "event", "observing": "event_2", "had_been": "given", "instead": "event_2"}
"""The place of what is asked about, and of what it is asked to follow from, in each question."""

OPPOSED = {
    "marginal": [("event", "opposite")], "instead": [("event_2", "opposite")], "had_been": [("given", "contrary")]
}  # fmt: skip
"""The places of two phrases that tell one variable, that it holds and that it does not."""


@dataclass
class Graph:
    """Variables by name in lower case, in order; who has a direct effect on whom; what is not observed."""

    names: list[str] = field(default_factory=list)
    parents: dict[int, set[int]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, found: list[Clause]) -> "Graph":
        graph = cls()
        for clause in found:
            if clause.kind == "effect":
                cause = graph.index(clause.of("name")[0].text)
                for phrase in clause.of("names"):
                    graph.parents.setdefault(graph.index(phrase.text), set()).add(cause)
            elif clause.kind == "unobserved":
                graph.hidden.add(graph.index(clause.of("name")[0].text))
        return graph

    def index(self, name: str) -> int:
        if name.lower() not in self.names:
            self.names.append(name.lower())
        return self.names.index(name.lower())

    def above(self, variable: int) -> set[int]:
        """The variables that have an effect on one, directly or not; itself too where the graph has a cycle."""
        found: set[int] = set()
        waiting = [variable]
        while waiting:
            new = self.parents.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found


class Groups:
    """Phrases joined into groups, numbered by their first phrase, and what holds between the groups.

    `texts` are the different wordings of each group; `apart` pairs of groups that are different variables; `after`
    pairs of which the second lies downstream of the first; `laws` the groups of the causes and of the effects;
    `weighted` are the groups with an overall probability, each of which is one of `weights`, the conditions;
    `colliding` a group and two that both have a direct effect on it; `measured` the groups that are observed.
    """

    def __init__(self, found: list[Clause]):
        self.phrases = [p for clause in found for p in clause.phrases if not p.place.startswith("name")]
        self._first = {p.start: p.start for p in self.phrases}
        by_text: dict[str, Phrase] = {}
        for phrase in self.phrases:
            self._join(phrase, by_text.setdefault(phrase.text.lower(), phrase))
        for clause in found:
            for one, other in OPPOSED.get(clause.kind, ()):
                for pair in zip(clause.of(one), clause.of(other)):
                    self._join(*pair)
        joints = [clause.of("events") for clause in found if clause.kind == "joint"]
        for block in [*([clause.of("given") for clause in row] for row in blocks(found)), joints]:
            for phrases in block[1:]:
                for pair in zip(block[0], phrases):
                    self._join(*pair)
        self._say(found)

    def _root(self, start: int) -> int:
        while self._first[start] != start:
            start = self._first[start]
        return start

    def of(self, phrase: Phrase) -> int:
        return self._root(phrase.start)

    def _join(self, one: Phrase, other: Phrase):
        first, second = sorted((self.of(one), self.of(other)))
        self._first[second] = first

    def _say(self, found: list[Clause]):
        self.texts: dict[int, list[str]] = {}
        for phrase in self.phrases:
            texts = self.texts.setdefault(self.of(phrase), [])
            if phrase.text not in texts:
                texts.append(phrase.text)
        self.apart: set[tuple[int, int]] = set()
        self.after: set[tuple[int, int]] = set()
        self.laws: list[tuple[list[int], list[int]]] = []
        self.colliding: list[tuple[int, int, int]] = []
        self.measured: set[int] = set()
        self.weighted = {self.of(clause.of("event")[0]) for clause in found if clause.kind == "overall"}
        self.weights = {self.of(p) for clause in found for p in clause.of("given")}
        self.weights |= {self.of(clause.of("events")[0]) for clause in found if clause.kind == "joint"}
        selected = any(clause.kind in ("correlation", "collider", "explaining") for clause in found)
        for clause in found:
            groups = {
                place: [self.of(p) for p in clause.of(place)]
                for place in {p.place for p in clause.phrases if p.start in self._first}
            }
            if clause.kind not in ("law", "observed"):
                self.measured.update(self.of(p) for p in clause.phrases if not p.place.startswith("name"))
            if clause.kind in OUTCOME and clause.kind in TREATMENT:
                self._order(groups[TREATMENT[clause.kind]][:1], groups[OUTCOME[clause.kind]])
            elif clause.kind == "conditional":
                self.apart.update(combinations(groups["given"], 2))
                self.apart.update(product(groups["given"], groups["event"]))
                if not selected:
                    self._order(groups["given"], groups["event"])
            elif clause.kind == "joint":
                self.apart.update(combinations(groups["events"], 2))
            elif clause.kind == "observed":
                self.apart.update(combinations(groups["facts"], 2))
                asked = [self.of(p) for c in found if c.kind == "instead" for p in c.of("event", "event_2")]
                self.apart.update(product(groups["facts"], asked))
            elif clause.kind in ("correlation", "collider", "explaining"):
                self.colliding.append((groups["given"][0], groups["event"][0], groups["event_2"][0]))
                self.apart.add((groups["event"][0], groups["event_2"][0]))
            elif clause.kind == "law":
                for causes, effects in (("causes", "effects"), ("causes_2", "effects_2")):
                    if causes in groups:
                        self.laws.append((groups[causes], groups[effects]))
                        self.apart.update(combinations(groups[causes], 2))
                        self.apart.update(combinations(groups[effects], 2))

    def _order(self, before: list[int], behind: list[int]):
        self.after.update(product(before, behind))
        self.apart.update(product(before, behind))


def blocks(found: list[Clause]) -> list[list[Clause]]:
    """Conditional clauses in a row with one outcome and equally many conditions: two for one, four for two."""
    rows: list[list[Clause]] = []
    before = None
    for clause in found:
        if clause.kind == "conditional":
            key = (clause.of("event")[0].text, len(clause.of("given")))
            if before != key or len(rows[-1]) == 2 ** key[1]:
                rows.append([])
            rows[-1].append(clause)
            before = key
        else:
            before = None
    return rows
