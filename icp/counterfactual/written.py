"""What language models are asked, and what is made of their answers: only the words of a span are theirs."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from icp.counterfactual.editors import Editor
from icp.counterfactual.finders import Found
from icp.counterfactual.rows import Edit, Rejection, Row, Span, replaced
from icp.counterfactual.spec import Spec
from icp.counterfactual.swap import draw
from icp.counterfactual.words import WORD, plain, with_its_article, without_article
from icp.errors import SpecError


class Shot(NamedTuple):
    """A worked example: in this text these words say the variable; with `after` for its value they are `answer`."""

    text: str
    words: str
    after: str
    answer: str


class Written(Editor):
    """Base of the editors that have a model write other words for those that say the variable.

    The spec has to find the variable at words of the text. The model is asked for the words of one value, each wording
    once a text and without an indefinite article, which follows the answer. Its answers are put in the place of the old
    words, and nothing else changes. An answer is taken up to the end of its line and has at most `most_words`; a text
    that does not say the new value then, as the spec finds it, is rejected (`answer without the value`), and so is an
    answer of no words (`no answer`).
    """

    variable: str
    shots: Sequence[Shot]
    to: Sequence[str]
    samples: int
    seed: int
    most_words: int

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)

    def write(self, prompts: Sequence[str]) -> list[list[str] | Rejection]:
        """Of each prompt the model's answers, the best first, or why there are none; the same prompt has the same."""
        raise NotImplementedError

    def begin(self, spec: Spec) -> None:
        values = spec.variable(self.variable).finder.values
        for value in (*self.to, *(shot.after for shot in self.shots)):
            if value not in values:
                raise SpecError(f"{self.variable!r} cannot become {value!r}: it is one of {', '.join(values)}")
        for shot in self.shots:
            if shot.words not in shot.text:
                raise SpecError(f"the words {shot.words!r} of a worked example are not in its text {shot.text!r}")
        if self.samples < 1 or self.most_words < 1:
            raise SpecError(f"samples={self.samples} and most_words={self.most_words}: both are at least 1")

    @cached_property
    def _answers(self) -> dict[str, list[str] | Rejection]:
        """By prompt, those to rows that came together, until others come."""
        return {}

    def edits_all(self, rows: Sequence[Row], spec: Spec) -> list[Iterator[Edit | Rejection]]:
        """What every row needs for its first value is asked for together."""
        self._answers.clear()
        plans = [(row, self._plan(row, spec)) for row in rows]
        self._ask([prompt for row, plan in plans if not isinstance(plan, Rejection) and plan[1]
                   for prompt in self._prompts(row, plan[0], plan[1][0]).values()])  # fmt: skip
        return super().edits_all(rows, spec)

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        plan = self._plan(row, spec)
        if isinstance(plan, Rejection):
            yield plan
            return
        found, values = plan
        for value in values:
            yield from self._written(row, spec, found, value)

    def _plan(self, row: Row, spec: Spec) -> tuple[list[Found], list[str]] | Rejection:
        """Where the text says the variable, and the values that it may get, in their order."""
        finder = spec.variable(self.variable).finder
        found = finder.find(row)
        said = list(dict.fromkeys(one.value for one in found))
        if not found:
            return Rejection("no word of the variable", f"no word of {row.text!r} says {self.variable}")
        if any(one.span is None for one in found):
            return Rejection(
                "no words to rewrite", f"the spec finds {self.variable} otherwise than by words: {row.text!r}"
            )
        if len(said) > 1:
            return Rejection("two values", f"{row.text!r} says {' and '.join(said)} for {self.variable}")
        others = [value for value in self.to or finder.values if value != said[0]]
        return found, sorted(others, key=lambda value: draw(self.seed, row.text, value))

    def _prompts(self, row: Row, found: list[Found], value: str) -> dict[str, str]:
        """By wording, in lower case, that of the text."""
        said = {plain(one): one for one in (row.text[slice(*place)] for place in _places(row, found))}
        return {word: self.prompt(row.text, one, value) for word, one in said.items()}

    def _ask(self, prompts: Sequence[str]) -> None:
        new = list(dict.fromkeys(prompt for prompt in prompts if prompt not in self._answers))
        if new:
            self._answers.update(zip(new, self.write(new), strict=True))

    def _written(self, row: Row, spec: Spec, found: list[Found], value: str) -> Iterator[Edit | Rejection]:
        prompts = self._prompts(row, found, value)
        self._ask(list(prompts.values()))
        answers = {word: self._answers[prompt] for word, prompt in prompts.items()}
        for written in answers.values():
            if isinstance(written, Rejection):
                yield written
                return
        places = _places(row, found)
        said = [row.text[slice(*place)] for place in places]
        for sample in range(min(map(len, answers.values()))):
            chosen = {word: trimmed(given[sample], self.most_words) for word, given in answers.items()}
            if not all(chosen.values()):
                yield Rejection("no answer", f"{said} of {row.text!r} got the answers {chosen}")
                continue
            changes = [with_its_article(row.text, at, old, chosen[plain(old)]) for at, old in zip(places, said)]
            text, spans, new_spans = replaced(row.text, changes)
            now = {one.value for one in spec.variable(self.variable).finder.find(Row(text, row.label, row.columns))}
            if now != {value}:
                told = f"{text!r} says {' and '.join(sorted(now)) or 'nothing'} for {self.variable}, not {value}"
                yield Rejection("answer without the value", told)
            else:
                yield Edit(text, self.variable, found[0].value, value, spans, new_spans)

    def prompt(self, text: str, words: str, value: str) -> str:
        """Worked examples, then the text with its words, up to where the answer begins."""
        asked = [f"Write other words in place of some words of a text, so that they say another {self.variable}.\n"]
        for shot in (*self.shots, Shot(text, words, value, "")):
            asked.append(
                f"Text: {shot.text}\nWords: {shot.words}\nNew {self.variable}: {shot.after}\nNew words: {shot.answer}\n"
            )
        return "\n".join(asked).rstrip()


def _places(row: Row, found: list[Found]) -> list[Span]:
    """The words that say the variable, each without its article."""
    return [without_article(row.text, one.span) for one in found if one.span is not None]


def trimmed(answer: str, most_words: int) -> str:
    """The first line of an answer without article, quotation marks and full stop; empty for no words or too many."""
    lines = answer.strip().splitlines()
    line = lines[0].strip(" \t.\"'`\u201c\u201d") if lines else ""
    line = line[slice(*without_article(line, (0, len(line))))]
    return line if 0 < len(WORD.findall(line)) <= most_words else ""
