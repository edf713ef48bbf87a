"""Worlds whose causal graph is known, told in sentences: texts, exact counterfactuals, and true effects."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import fsum, prod
from random import Random
from string import Formatter

from icp.counterfactual.editors import Editor
from icp.counterfactual.equations import Equations, Noise, Values
from icp.counterfactual.lexicon import Lexicon
from icp.counterfactual.rows import Edit, Rejection, Row, replaced
from icp.counterfactual.spec import Spec, Variable
from icp.errors import DataError, SpecError


@dataclass(frozen=True, slots=True)
class Draw:
    """All that is drawn of a text: noise by variable, which template, and which of a value's words, by variable."""

    noise: Noise
    template: int
    picks: Mapping[str, int]


@dataclass(frozen=True)
class World:
    """Structural equations, and sentences that say the values of some of their variables.

    `causes` and `cues` are what the text says, each once in every one of the `templates` as `{name}`, by one of its
    value's `words`; a counterfactual keeps the place in that list. `label` is another of the variables. Whatever is
    left is hidden: it may cause both a cue and the label, which is how a cue comes to go with it.

    Raises `SpecError` where a template does not say each of them once, or says a word of theirs by itself; where a cue
    has an arrow to or from the label, however long; or where the causes are not on the side that `direction` says.
    """

    name: str
    equations: Equations
    label: str
    causes: tuple[str, ...]
    cues: tuple[str, ...]
    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    templates: tuple[str, ...]
    direction: str = "causal"

    def __post_init__(self):
        above = self.equations.ancestors(self.label)
        for name in self.said:
            if tuple(self.words.get(name, ())) != self.equations[name].values:
                raise SpecError(f"the world {self.name!r} needs words for {name!r}: {self.equations[name].values}")
            below = self.label in self.equations.ancestors(name)
            if name in self.cues and (below or name in above):
                raise SpecError(f"the cue {name!r} of the world {self.name!r} is a cause or an effect of the label")
            if name in self.causes and (below, name in above) != (
                self.direction != "causal",
                self.direction == "causal",
            ):
                raise SpecError(f"the cause {name!r} of the world {self.name!r} is not {self.direction} for the label")
        for template in self.templates:
            slots = [slot for _, slot, _, _ in Formatter().parse(template) if slot is not None]
            if sorted(slots) != sorted(self.said):
                raise SpecError(f"the template {template!r} should have each of {', '.join(self.said)} in braces once")
            plain = template.format(**dict.fromkeys(slots, "."))
            for name, lexicon in self._lexicons.items():
                if found := lexicon.entries(plain):
                    start, stop = found[0].span
                    raise SpecError(f"the template {template!r} has {plain[start:stop]!r}, a word of {name!r}")

    @property
    def said(self) -> tuple[str, ...]:
        """What the text says."""
        return (*self.causes, *self.cues)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.equations[self.label].values

    @cached_property
    def _lexicons(self) -> dict[str, Lexicon]:
        return {name: Lexicon(name, self.words[name]) for name in self.said}

    @cached_property
    def spec(self) -> Spec:
        """Causes and cues as a user would declare them, who knows no hidden variable. A sole cause has labels."""
        causes = tuple(Variable(name, self._lexicons[name], self._labels(name)) for name in self.causes)
        cues = tuple(Variable(name, self._lexicons[name]) for name in self.cues)
        edges = tuple((p, name) for name in self.said for p in self.equations[name].parents if p in self.said)
        return Spec(self.label, self.classes, causes, cues, self.direction, edges)

    def _labels(self, cause: str) -> dict[str, str] | None:
        """The class that goes with most texts of each value; none where there are more causes."""
        if len(self.causes) > 1:
            return None
        chance = self.equations.probability
        return {
            value: max(self.classes, key=lambda label: chance({self.label: label, cause: value}))
            for value in self.equations[cause].values
        }

    def sample(self, count: int, seed: int = 0) -> list[Row]:
        """Texts with their labels, drawn independently. Columns have every other variable, and what was drawn."""
        rng = Random(f"{self.name} {seed}")
        return [self.row(self._draw(rng)) for _ in range(count)]

    def _draw(self, rng: Random) -> Draw:
        noise, template = self.equations.draw(rng), rng.randrange(len(self.templates))
        return Draw(noise, template, {name: rng.randrange(self._choices(name)) for name in self.said})

    def _choices(self, name: str) -> int:
        return len(next(iter(self.words[name].values())))

    def draws(self) -> Iterator[tuple[float, Draw]]:
        """Every draw that makes a difference, with its probability: the whole population."""
        drawn = [range(len(self.templates)), *(range(self._choices(name)) for name in self.said)]
        share = 1 / prod(len(one) for one in drawn)
        for chance, noise in self.equations.cells():
            for template, *picks in product(*drawn):
                yield chance * share, Draw(noise, template, dict(zip(self.said, picks)))

    def row(self, draw: Draw, do: Values | None = None) -> Row:
        """The text of a draw, the variables in `do` held at these values, and others following from them."""
        values = self.equations.values(draw.noise, do)
        text = self._told(draw, values)
        drawn = {"noise": dict(draw.noise), "template": draw.template, "picks": dict(draw.picks)}
        others = {name: value for name, value in values.items() if name != self.label}
        return Row(text, self.classes.index(values[self.label]), {"world": self.name, **others, "drawn": drawn})

    def _told(self, draw: Draw, values: Values) -> str:
        text = self.templates[draw.template].format(
            **{name: self.words[name][values[name]][draw.picks[name]] for name in self.said}
        )
        return text[0].upper() + text[1:]

    def draw_of(self, row: Row) -> Draw:
        """What was drawn of a row of this world; raises `DataError` for a row of something else."""
        if row.columns.get("world") != self.name:
            raise DataError(f"{row.text!r} was not drawn from the world {self.name!r}: its noise is not known")
        return Draw(**row.columns["drawn"])

    def counterfactual(self, row: Row, do: Values) -> Row:
        """The row as it would have been under `do`: same noise, same template, same places in the lists of words."""
        return self.row(self.draw_of(row), do)

    def total_effect(self, reader: Callable[[str], float], variable: str, before: str, after: str) -> float:
        """The population mean of reader(x') - reader(x), x saying `before` of a variable and x' saying `after`.

        It is exact, over all texts that say one of the two, what else they say held: what pairs made from these texts
        estimate, each read from `before` to `after`.
        """
        known: dict[str, float] = {}
        weights, weighted = [], []
        for chance, draw in self.draws():
            values = self.equations.values(draw.noise)
            if values[variable] in (before, after):
                texts = [self._told(draw, values | {variable: value}) for value in (before, after)]
                low, high = (known[text] if text in known else known.setdefault(text, reader(text)) for text in texts)
                weights.append(chance)
                weighted.append(chance * (high - low))
        return fsum(weighted) / fsum(weights)


@dataclass(frozen=True)
class WorldEditor(Editor):
    """The exact counterfactuals of a world's own rows in one variable, what else the text says held.

    The label of an edit of a cause is the world's: in a causal world what the label's equation says of the new text at
    the row's own noise, which may be the old label; in an anti-causal one that of the label under which the noise gives
    the new value, where there is one.
    """

    world: World
    variable: str

    @property
    def variables(self):
        return (self.variable,)

    def begin(self, spec):
        if self.variable not in self.world.said:
            raise SpecError(
                f"the texts of the world {self.world.name!r} do not say {self.variable!r}: they say "
                f"{', '.join(self.world.said)}"
            )

    def edits(self, row, spec):
        world, name = self.world, self.variable
        draw = world.draw_of(row)
        said = {other: row.columns[other] for other in world.said}
        (said_here,) = world._lexicons[name].entries(row.text)
        span = said_here.span
        for value in world.equations[name].values:
            if value == said[name]:
                continue
            label = self._label(draw, said | {name: value}, row.label)
            if label is None:
                yield Rejection("no counterfactual", f"no {world.label} gives {name} = {value!r} at this row's noise")
                continue
            word = world.words[name][value][draw.picks[name]]
            text, spans, new = replaced(row.text, [(span, word if span[0] else word[0].upper() + word[1:])])
            yield Edit(text, name, said[name], value, spans, new, label)

    def _label(self, draw: Draw, said: Values, label: int) -> int | None:
        """The label of the text that says this."""
        world = self.world
        if self.variable in world.cues:
            return label
        if world.direction == "causal":
            return world.classes.index(world.equations.values(draw.noise, said)[world.label])
        for place, one in enumerate(world.classes):
            if world.equations.values(draw.noise, {world.label: one})[self.variable] == said[self.variable]:
                return place
        return None
