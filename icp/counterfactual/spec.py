"""What causes the label and what only goes with it, declared, checked, and kept with the pairs that follow from it."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.counterfactual.finders import Finder
from icp.counterfactual.rows import Row
from icp.counterfactual.tables import finder_of, require_keys, toml
from icp.errors import SpecError
from icp.files import writing_file
from icp.pairs import FlippingPairs, Pairs, PreservingPairs

DIRECTIONS = ("causal", "anti-causal")


@dataclass(frozen=True)
class Variable:
    """Something that a text says, and how to find it there.

    `labels` says which class each value goes with, for a cause that settles the label.
    """

    name: str
    finder: Finder | None
    labels: Mapping[str, str] | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name:
            raise SpecError(f"a variable has the name {self.name!r}: give it a word")
        if not isinstance(self.finder, Finder):
            raise SpecError(
                f"{self.name!r} cannot be found in the text by {self.finder!r}: give a Lexicon, a Pattern, a Column or "
                "a Classifier"
            )
        for value in self.labels or {}:
            if value not in self.finder.values:
                raise SpecError(
                    f"{self.name!r} has a label for the value {value!r}: its values are {', '.join(self.finder.values)}"
                )


@dataclass(frozen=True)
class Spec:
    """`causes` settle the `label`, one of `classes`; `cues` only accompany it.

    `direction` is `causal` where the text causes the label (a rating given to a review), `anti-causal` where the label
    causes the text (a diagnosis that a note was written from). Between the label and each cause there is an arrow in
    that direction; a cue goes with the label without one. `edges` are further arrows between variables, by name, such
    as between a cue and a cause: edits of either hold the other.

    Raises `SpecError` for a name that is used twice, a word that two variables are found by, an arrow between the label
    and a cue, a cycle, a label that is no class, or a cause whose values all have one label.
    """

    label: str
    classes: Sequence[str]
    causes: Sequence[Variable]
    cues: Sequence[Variable]
    direction: str = "causal"
    edges: Sequence[Sequence[str]] = ()

    def __post_init__(self):
        for name in ("classes", "causes", "cues"):
            if isinstance(getattr(self, name), str):
                raise SpecError(f"the {name} of the spec are {getattr(self, name)!r}: give a list")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "edges", tuple(tuple(edge) for edge in self.edges))
        if self.direction not in DIRECTIONS:
            raise SpecError(
                f"unknown direction {self.direction!r}: the text is {' or '.join(DIRECTIONS)} for the label"
            )
        _require_words(self.label, self.classes, "the spec")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise SpecError(f"the classes {self.classes} have to be two or more different ones")
        names = [self.label, *(variable.name for variable in self.variables)]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"{name!r} is named twice: a variable is the label, a cause or a cue, and one of them")
        for variable in self.causes:
            for value, label in (variable.labels or {}).items():
                if label not in self.classes:
                    raise SpecError(
                        f"the cause {variable.name!r} has the label {label!r} for {value!r}: the classes are "
                        f"{', '.join(self.classes)}"
                    )
            labels = tuple((variable.labels or {}).values())
            if len(labels) == len(variable.finder.values) and len(set(labels)) == 1:
                raise SpecError(
                    f"every value of the cause {variable.name!r} has the label {labels[0]!r}: then it settles none"
                )
        for cue in self.cues:
            if cue.labels:
                raise SpecError(f"the cue {cue.name!r} has labels: what settles the label is a cause")
        self._require_apart()
        self._require_acyclic()

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (*self.causes, *self.cues)

    def variable(self, name: str) -> Variable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise SpecError(f"there is no variable {name!r} in the spec: there are {self._named}")

    def kind_of(self, name: str) -> type[Pairs]:
        """The kind of pair that editing this variable makes: label-preserving of a cue, label-flipping of a cause."""
        self.variable(name)
        return PreservingPairs if any(cue.name == name for cue in self.cues) else FlippingPairs

    def values_in(self, row: Row) -> dict[str, tuple[str, ...]]:
        """The values found of each variable, in the order in which the text says them."""
        return {variable.name: tuple(one.value for one in variable.finder.find(row)) for variable in self.variables}

    @property
    def arrows(self) -> tuple[tuple[str, str], ...]:
        """Every arrow of the graph: between causes and the label, and the `edges`."""
        if self.direction == "causal":
            own = tuple((cause.name, self.label) for cause in self.causes)
        else:
            own = tuple((self.label, cause.name) for cause in self.causes)
        return (*own, *(edge for edge in self.edges if edge not in own))

    @property
    def _named(self) -> str:
        return ", ".join(variable.name for variable in self.variables) or "none"

    def _require_apart(self) -> None:
        """Raise `SpecError` for a word, pattern, column or classifier by which two variables are found."""
        owner: dict[tuple[type[Finder], str], str] = {}
        for variable in self.variables:
            for mark in variable.finder.marks:
                first = owner.setdefault((type(variable.finder), mark), variable.name)
                if first != variable.name:
                    raise SpecError(
                        f"{mark!r} is found by {first!r} and by {variable.name!r}: an edit of one would be one of the "
                        "other too"
                    )

    def _require_acyclic(self) -> None:
        import networkx

        names = {self.label, *(variable.name for variable in self.variables)}
        cues = {cue.name for cue in self.cues}
        for edge in self.edges:
            if len(edge) != 2:
                raise SpecError(f"the edge {edge} has to be two names: from a cause to what it causes")
            for name in edge:
                if name not in names:
                    raise SpecError(
                        f"the edge {' -> '.join(edge)} names {name!r}: there are {self.label}, {self._named}"
                    )
            if self.label in edge and cues & set(edge):
                cue = (cues & set(edge)).pop()
                raise SpecError(
                    f"the edge {' -> '.join(edge)} makes the cue {cue!r} a cause or an effect of the label: declare it "
                    "as a cause, or leave the edge out"
                )
        graph = networkx.DiGraph(self.arrows)
        if not networkx.is_directed_acyclic_graph(graph):
            cycle = [edge[0] for edge in networkx.find_cycle(graph)]
            raise SpecError(f"the spec has a cycle: {' -> '.join([*cycle, cycle[0]])}")

    @classmethod
    def load(cls, path: "str | Path") -> "Spec":
        """From a TOML file; `spec.to_toml()` shows the form. Raises `SpecError` naming what is missing or unknown."""
        try:
            told = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SpecError(f"{path} cannot be read as TOML: {error}") from error
        return cls.of(told, str(path))

    @classmethod
    def of(cls, told: Mapping[str, Any], where: str = "the spec") -> "Spec":
        """From what a file has."""
        require_keys(told, ("label", "classes"), ("direction", "edges", "cause", "cue"), where)
        for name in ("classes", "edges", "cause", "cue"):
            if not isinstance(told.get(name, []), list | tuple):
                raise SpecError(f"{where} has {name} = {told[name]!r}: give a list, of [[{name}]] tables for variables")
        causes, cues = (
            tuple(_variable(one, f"{where}, {role} {place + 1}") for place, one in enumerate(told.get(role, ())))
            for role in ("cause", "cue")
        )
        _require_words(told["label"], told["classes"], where)
        edges = tuple(tuple(edge) if isinstance(edge, list | tuple) else (edge,) for edge in told.get("edges", ()))
        return cls(told["label"], tuple(told["classes"]), causes, cues, told.get("direction", DIRECTIONS[0]), edges)

    def save(self, path: "str | Path") -> Path:
        """To a TOML file, which `Spec.load` reads; of a classifier it has the name alone."""
        with writing_file(path) as work:
            work.write_text(self.to_toml(), "utf-8")
        return Path(path)

    @property
    def stored(self) -> dict[str, Any]:
        """What a file has of it."""
        told: dict[str, Any] = {"label": self.label, "classes": list(self.classes), "direction": self.direction}
        if self.edges:
            told["edges"] = [list(edge) for edge in self.edges]
        for role, variables in (("cause", self.causes), ("cue", self.cues)):
            told[role] = [
                {"name": one.name} | one.finder.stored | ({"labels": dict(one.labels)} if one.labels else {})
                for one in variables
            ]
        return told

    def to_toml(self) -> str:
        told = self.stored
        lines = [f"{name} = {toml(value)}" for name, value in told.items() if name not in ("cause", "cue")]
        for role in ("cause", "cue"):
            for variable in told[role]:
                lines += ["", f"[[{role}]]", *(f"{name} = {toml(value)}" for name, value in variable.items())]
        return "\n".join(lines) + "\n"


def _require_words(label: Any, classes: Sequence[Any], where: str) -> None:
    if not all(isinstance(one, str) and one for one in (label, *classes)):
        raise SpecError(f"{where} has the label {label!r} and the classes {classes}: give words")


def _variable(told: Mapping[str, Any], where: str) -> Variable:
    finder = finder_of(told, where)
    return Variable(told["name"], finder, told.get("labels"))
