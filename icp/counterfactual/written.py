"""What language models are asked, and what is made of their answers: only the words of a span are theirs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from icp.counterfactual.editors import Editor
from icp.counterfactual.finders import Found
from icp.counterfactual.rows import Edit, Rejection, Row, replaced
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

    def write(self, prompt: str) -> list[str] | Rejection:
        """The model's answers, the best first, or why there are none; the same prompt has the same answers."""
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

    def edits(self, row: Row, spec: Spec) -> Iterator[Edit | Rejection]:
        finder = spec.variable(self.variable).finder
        found = finder.find(row)
        said = list(dict.fromkeys(one.value for one in found))
        if not found:
            yield Rejection("no word of the variable", f"no word of {row.text!r} says {self.variable}")
        elif any(one.span is None for one in found):
            yield Rejection("no words to rewrite", f"{self.variable} is no words of {row.text!r}, as the spec finds it")
        elif len(said) > 1:
            yield Rejection("two values", f"{row.text!r} says {' and '.join(said)} for {self.variable}")
        else:
            others = [value for value in self.to or finder.values if value != said[0]]
            for value in sorted(others, key=lambda value: draw(self.seed, row.text, value)):
                yield from self._written(row, spec, found, value)

    def _written(self, row: Row, spec: Spec, found: list[Found], value: str) -> Iterator[Edit | Rejection]:
        places = [without_article(row.text, one.span) for one in found if one.span is not None]
        said = [row.text[slice(*place)] for place in places]
        words = {plain(one): one for one in said}
        answers: dict[str, list[str]] = {}
        for word, one in words.items():
            written = self.write(self.prompt(row.text, one, value))
            if isinstance(written, Rejection):
                yield written
                return
            answers[word] = written
        for sample in range(min(map(len, answers.values()))):
            chosen = {word: trimmed(given[sample], self.most_words) for word, given in answers.items()}
            if not all(chosen.values()):
                yield Rejection("no answer", f"{words} of {row.text!r} got the answers {chosen}")
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


def trimmed(answer: str, most_words: int) -> str:
    """The first line of an answer without article, quotation marks and full stop; empty for no words or too many."""
    lines = answer.strip().splitlines()
    line = lines[0].strip(" \t.\"'`\u201c\u201d") if lines else ""
    line = line[slice(*without_article(line, (0, len(line))))]
    return line if 0 < len(WORD.findall(line)) <= most_words else ""
