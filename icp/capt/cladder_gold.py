"""Gold abstractions of CLadder: what the generator knew, laid over the clauses of the prompt.

The worked solution writes each clause as a formula in the clauses' order (`P(Y=1 | V1=0, X=1) = 0.25`), so that a
phrase's variable and state are read off its place, and the figures say whether the right formula was found. The names
and states of the table of models stand verbatim elsewhere, and must agree. Nothing is guessed: a row on which these are
silent or at odds has no gold, and the reason is counted.

Where the generator's own sentence says the opposite of its formula, gold follows the formula, as the answer does:
"CEOs who fire employees" stands for both states of one variable, and an action undone may be told in the words of the
action done ("For vaccinated individuals, ... if the person had been vaccinated").
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from icp.capt.abstraction import Abstraction
from icp.capt.cladder_grammar import Clause, Phrase, clauses
from icp.capt.estimator import Failure
from icp.data.cladder import CausalQuestion

STATE = re.compile(r"(\w+) ?= ?([01])")
GIVEN = re.compile(r"P\((\w+)=1 \| ([^)]*)\) = ([\d.]+)")
OVERALL = re.compile(r"P\((\w+)=1(?:=1)?\) = ([\d.]+)")
JOINT = re.compile(r"P\(Y=1, X=([01])=1\) = ([\d.]+)")
ACTION = re.compile(r"Y_\{X=([01])\} = ([01]) \|(.*)")
COMPARED = re.compile(r"E\[Y_\{X = 1\} - Y_\{X = 0\} \| X = ([01])\]")
FIGURE = re.compile(r"(\d+)%")

State = tuple[str, bool]
"""A variable and whether it holds."""


class _Unknown(Exception):
    """The row has no gold: reason and sentence."""


@dataclass(frozen=True)
class Words:
    """The words of every variable of the generator's models, by story and over all: for rows that bring none."""

    of_story: Mapping[tuple[str, str], frozenset[tuple[str, bool]]]
    of_name: Mapping[str, frozenset[tuple[str, bool]]]

    @classmethod
    def of(cls, models: Iterable[Mapping]) -> "Words":
        """From the models of `cladder_models`."""
        story: dict[tuple[str, str], set] = {}
        name: dict[str, set] = {}
        for model in models:
            for _, named, states in _variables(model["mapping"]):
                story.setdefault((model["story_id"], named), set()).update(states)
                name.setdefault(named, set()).update(states)
        return cls({k: frozenset(v) for k, v in story.items()}, {k: frozenset(v) for k, v in name.items()})

    def states(self, story: str, name: str) -> frozenset[tuple[str, bool]]:
        return self.of_story.get((story, name)) or self.of_name.get(name, frozenset())


def _variables(mapping: Mapping[str, str]) -> Iterator[tuple[str, str, set[tuple[str, bool]]]]:
    for place, named in mapping.items():
        if place.endswith("name"):
            variable = place.removesuffix("name")
            yield variable, named.lower(), {(mapping[f"{variable}{value}"].lower(), value == 1) for value in (1, 0)}


def cladder_gold(question: CausalQuestion, words: Words) -> Abstraction | Failure:
    """The gold abstraction of a row, or why it has none."""
    found = clauses(question.prompt)
    if isinstance(found, str):
        return Failure(question.prompt, "no clause", f"{found!r} is no clause of CLadder's grammar")
    try:
        return Abstraction.of(question.prompt, [*_Row(question, words).mentions(found)])
    except _Unknown as error:
        reason, told = error.args
        return Failure(question.prompt, reason, told)


class _Row:
    def __init__(self, question: CausalQuestion, words: Words):
        self.formal = question.formal
        self.lines = (question.reasoning or "").splitlines()
        stated = [line for line in self.lines if line.startswith("Let ")]
        if question.mapping is not None:
            listed = [*_variables(question.mapping)]
        elif stated:
            pairs = [part.split(" = ", 1) for part in stated[0].removeprefix("Let ").removesuffix(".").split("; ")]
            listed = [(v, name.lower(), words.states(question.story, name.lower())) for v, name in pairs]
        else:
            listed = []
        self.named = {name: variable for variable, name, _ in listed}
        self.only_names = not listed
        self.nouns: dict[str, set[State]] = {}
        for variable, _, states in listed:
            for text, holds in states:
                self.nouns.setdefault(text, set()).add((variable, holds))

    def mentions(self, found: list[Clause]) -> Iterator[tuple[int, int, str, bool | None]]:
        formulas = {
            "conditional": iter([match for line in self.lines if (match := GIVEN.fullmatch(line))]),
            "overall": iter([match for line in self.lines if (match := OVERALL.fullmatch(line))]),
            "joint": iter([match for line in self.lines if (match := JOINT.fullmatch(line))]),
        }
        for clause in found:
            for phrase in clause.phrases:
                if phrase.place.startswith("name"):
                    yield phrase.start, phrase.stop, self._name(phrase), None
            states = [phrase for phrase in clause.phrases if not phrase.place.startswith("name")]
            formula = next(formulas[clause.kind], None) if clause.kind in formulas else None
            if clause.kind in formulas and (formula is None or not _same_figure(clause, formula)):
                raise _Unknown("no formula", f"no formula of the worked solution belongs to {clause.text!r}")
            placed = self._placed(clause.kind, formula)
            if placed is None:
                placed = [None] * len(states)
            if len(placed) != len(states):
                raise _Unknown("other phrases", f"{clause.text!r} has {len(states)} phrases, its formula {len(placed)}")
            for phrase, state in zip(states, placed):
                variable, holds = self._state(phrase, state)
                yield phrase.start, phrase.stop, variable, holds

    def _name(self, phrase: Phrase) -> str:
        name = phrase.text.lower()
        if self.only_names:
            return name
        if name not in self.named:
            raise _Unknown("unknown name", f"{phrase.text!r} is no variable of this row")
        return self.named[name]

    def _placed(self, kind: str, formula: re.Match | None) -> list[State] | None:
        """What the formula says of a clause's phrases, in order; None where none does, and words must."""
        match kind:
            case "conditional":
                return [*_states(formula.group(2)), (formula.group(1), True)]
            case "overall":
                return [(formula.group(1), True)]
            case "joint":
                return [("X", formula.group(1) == "1"), ("Y", True)]
            case "correlation" | "collider" | "explaining":
                conditioned = [state for state in _states(self.formal) if state[0] not in "XY"]
                order = [("X", True), ("Y", True)]
                return [conditioned[0], *(order if kind != "explaining" else order[::-1])]
            case "increase":
                return [("X", True), ("Y", True)]
            case "observing":
                return [("Y", True), ("X", True)]
            case "had_been":
                match = COMPARED.fullmatch(self.formal)
                treated = match is not None and match.group(1) == "1"
                return None if match is None else [("X", treated), ("Y", True), ("X", not treated)]
            case "instead":
                match = ACTION.fullmatch(self.formal)
                if match is None:
                    return None
                done = match.group(1) == "1"
                return [("Y", match.group(2) == "1"), ("X", done), ("X", not done)]
            case "observed":
                match = ACTION.fullmatch(self.formal)
                return None if match is None else _states(match.group(3))
        return None

    def _state(self, phrase: Phrase, placed: State | None) -> State:
        known = self.nouns.get(phrase.text.lower(), set())
        if placed is None:
            if len(known) != 1:
                raise _Unknown("unknown words", f"{phrase.text!r} is no state of a variable of this row, or of two")
            return next(iter(known))
        if known and placed not in known:
            raise _Unknown("at odds", f"{phrase.text!r} is said to be {placed} and {sorted(known)}")
        return placed


def _states(text: str) -> list[State]:
    return [(variable, value == "1") for variable, value in STATE.findall(text)]


def _same_figure(clause: Clause, formula: re.Match) -> bool:
    figure = FIGURE.search(clause.text)
    return figure is not None and abs(float(formula.groups()[-1]) * 100 - int(figure.group(1))) <= 1
