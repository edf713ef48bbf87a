"""Texts of one form, with a slot for each variable: made from a lexicon's words, and edited in a slot."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from string import Formatter

from icp.counterfactual.editors import Editor
from icp.counterfactual.rows import Edit, Rejection, Row
from icp.counterfactual.spec import Spec
from icp.counterfactual.swap import LexiconSwap, lexicon_of
from icp.errors import SpecError


@dataclass(frozen=True)
class Template(Editor):
    """Texts such as `The {job} of {place} was late`, where `{job}` and `{place}` are variables found by lexicons.

    `rows(spec)` are all the texts that the words of the lexicons make of them; as an editor it swaps the words of
    `variable` in texts of these forms, as `LexiconSwap` does, and rejects any other text (`no template`).
    """

    variable: str
    templates: Sequence[str]
    to: Sequence[str] = ()
    seed: int = 0

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)

    def begin(self, spec: Spec) -> None:
        for template in self.templates:
            slots = _slots(template)
            if self.variable not in slots:
                raise SpecError(f"the template {template!r} has no slot {{{self.variable}}}")
            for slot in slots:
                lexicon_of(slot, spec, "a template's slot")
        self._swap.begin(spec)

    def rows(self, spec: Spec, label: int | None = None) -> Iterator[Row]:
        """Every text, with its `template` and the word of each slot as columns.

        Its label is `label`, or the one that the spec gives to the causes in it; raises `SpecError` where there is
        neither, or where they differ.
        """
        self.begin(spec)
        for template in self.templates:
            slots = _slots(template)
            lists = [[(value, word) for value, words in lexicon_of(slot, spec, "a template's slot").words.items()
                      for word in words] for slot in slots]  # fmt: skip
            for chosen in product(*lists):
                words = {slot: word for slot, (_, word) in zip(slots, chosen)}
                values = {slot: value for slot, (value, _) in zip(slots, chosen)}
                text = template.format_map(words)
                columns = {"template": template, "word": words[self.variable]} | words
                yield Row(text[:1].upper() + text[1:], _label(spec, values, label, template), columns)

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        if not any(_pattern(template).fullmatch(row.text) for template in self.templates):
            yield Rejection("no template", f"{row.text!r} has the form of none of the {len(self.templates)} templates")
            return
        yield from self._swap.edits(row, spec)

    @property
    def _swap(self) -> LexiconSwap:
        return LexiconSwap(self.variable, self.to, seed=self.seed)


def _slots(template: str) -> list[str]:
    return list(dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name is not None))


def _pattern(template: str) -> re.Pattern[str]:
    parts = Formatter().parse(template)
    forms = (re.escape(before) + (".+?" if slot is not None else "") for before, slot, _, _ in parts)
    return re.compile("".join(forms), re.IGNORECASE | re.DOTALL)


def _label(spec: Spec, values: Mapping[str, str], label: int | None, template: str) -> int:
    causes = {cause.name: (cause.labels or {}) for cause in spec.causes}
    said = {causes[slot][value] for slot, value in values.items() if slot in causes and value in causes[slot]}
    found = {spec.classes.index(one) for one in said} | ({label} if label is not None else set())
    if len(found) != 1:
        raise SpecError(f"{template!r} with {dict(values)} has the labels {sorted(found)}: give it one")
    return found.pop()
