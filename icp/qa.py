"""Open questions: exact match, hallucination, abstention and self-consistency, before and after."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from icp.data.labelled import require_fields
from icp.data.questions import Question
from icp.errors import ArtefactError, DataError, IcpError
from icp.generation import generate
from icp.model import Model
from icp.statistics import mean_interval, share_change, share_interval

if TYPE_CHECKING:
    import pandas

CLOSED = "Question: {text}\nAnswer:"
OPEN = "{context}\nQuestion: {text}\nAnswer:"
STOPS = ("\n", ".", ",")
ABSTENTIONS = (
    "I don't know", "I do not know", "I'm not sure", "I am not sure", "not sure", "I have no idea", "no idea",
    "I cannot", "I can't", "I can not", "I'm unable", "I am unable", "I'm sorry", "I am sorry", "sorry", "no answer",
    "unanswerable", "there is no answer", "it is not known", "I have no comment", "as an AI",
)  # fmt: skip
"""An answer that begins so is none."""

Check = Callable[[str, str], bool]


def normalised(text: str, articles: bool = True) -> str:
    """Lower case, without ASCII punctuation, without a, an and the, and with single spaces.

    This is the normalisation of the evaluation of SQuAD (Rajpurkar et al. 2016); that of TriviaQA (Joshi et al. 2017)
    differs in that punctuation becomes a space. lm-evaluation-harness leaves articles alone in `triviaqa`:
    `articles=False`. A text of nothing else is kept, so that "The The" is not an empty answer.
    """
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    plain = plain if plain.strip() else text.lower()
    bare = re.sub(r"\b(a|an|the)\b", " ", plain) if articles else plain
    return " ".join((bare if bare.strip() else plain).split())


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answered to each question, greedily and in `samples`, and what that was found to be.

    Each array [question] holds zeros and ones: `exact` where the answer is an alias, `right` where it is one or a check
    accepts it, `abstained` where it is empty or says that none is given (which is right where a question has no alias).
    `consistency` is the share of the most frequent of the samples, None where none were drawn.
    """

    questions: tuple[Question, ...]
    answers: tuple[str, ...]
    samples: tuple[tuple[str, ...], ...]
    exact: Float[np.ndarray, " question"]
    right: Float[np.ndarray, " question"]
    abstained: Float[np.ndarray, " question"]
    consistency: Float[np.ndarray, " question"] | None

    def table(self, level: float = 0.95) -> "pandas.DataFrame":
        """One row a metric: its mean, its interval (Wilson's for shares) and the count.

        `hallucination_rate` is the share of wrong answers among those given, `n` how many these are.
        """
        import pandas

        wrong = 1 - self.right[self.abstained == 0]
        shares = {"exact_match": self.exact, "accuracy": self.right, "hallucination_rate": wrong,
                  "abstention_rate": self.abstained}  # fmt: skip
        rows = {name: share_interval(v, level=level) if len(v) else _nothing(0) for name, v in shares.items()}
        if self.consistency is not None:
            rows["self_consistency"] = mean_interval(self.consistency, level=level)
        return pandas.DataFrame(rows).T.rename_axis("metric")

    def change(self, after: "Answers", level: float = 0.95) -> "pandas.DataFrame":
        """The same rows for another model's answers to the same questions less these, paired.

        The questions that are answered differ, so that the interval of the hallucination rate is that of a difference
        of ratios, linearised (the delta method).
        """
        import pandas

        if self.questions != after.questions:
            raise ArtefactError(
                f"the two results are of other questions ({len(self.questions)} and {len(after.questions)}): ask both "
                "models the same"
            )
        rows = {
            "exact_match": share_change(after.exact - self.exact, level=level),
            "accuracy": share_change(after.right - self.right, level=level),
            "hallucination_rate": _ratio_change(self, after, level),
            "abstention_rate": share_change(after.abstained - self.abstained, level=level),
        }
        if self.consistency is not None and after.consistency is not None:
            rows["self_consistency"] = mean_interval(after.consistency - self.consistency, level=level)
        return pandas.DataFrame(rows).T.rename_axis("metric")


def judged(
    questions: Sequence[Question],
    answers: Sequence[str],
    samples: Sequence[Sequence[str]] = (),
    *,
    entails: Check | None = None,
    abstentions: Sequence[str] = ABSTENTIONS,
    normalise: Callable[[str], str] = normalised,
) -> Answers:
    """Answers that are there already, judged; `samples` holds those drawn for each question, if any were.

    `entails(answer, alias)` may accept an answer that is no alias, such as a model of natural language inference.
    Raises `DataError` where answers or samples are not one for each question.
    """
    if len(answers) != len(questions) or (samples and len(samples) != len(questions)):
        raise DataError(
            f"{len(answers)} answers and samples for {len(samples)} were given for {len(questions)} questions: give "
            "one of each a question, or no samples"
        )
    exact, right, abstained = np.zeros((3, len(questions)))
    for index, (question, answer) in enumerate(zip(questions, answers)):
        exact[index] = bool(answer) and normalise(answer) in {normalise(alias) for alias in question.aliases}
        abstained[index] = not exact[index] and abstains(answer, abstentions)
        if not question.aliases:
            exact[index] = abstained[index]
        right[index] = exact[index]
        if entails is not None and not exact[index] and not abstained[index]:
            right[index] = any(entails(answer, alias) for alias in question.aliases)
    shares = [Counter(map(normalise, drawn)).most_common(1)[0][1] / len(drawn) for drawn in samples]
    consistency = np.array(shares) if samples else None
    return Answers(tuple(questions), tuple(answers), tuple(map(tuple, samples)), exact, right, abstained, consistency)


def abstains(answer: str, abstentions: Sequence[str] = ABSTENTIONS) -> bool:
    """Whether an answer is empty or begins with one of the phrases, whatever its case and punctuation."""
    said = normalised(answer.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"), articles=False)
    return not said or any(f"{said} ".startswith(f"{normalised(phrase, articles=False)} ") for phrase in abstentions)


def open_qa(
    model: Model,
    questions: Sequence[Question],
    *,
    template: str | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    seed: int = 0,
    max_tokens: int = 16,
    stops: Sequence[str] = STOPS,
    entails: Check | None = None,
    abstentions: Sequence[str] = ABSTENTIONS,
    normalise: Callable[[str], str] = normalised,
    batch_size: int | None = None,
    progress: bool = True,
) -> Answers:
    """Ask a model questions, under whatever hooks are installed, and judge what it answers.

    `template` makes the prompt of `{text}` and, where questions have one, `{context}`; by default "Question: ...
    Answer:", after the context. The answer is greedy, of at most `max_tokens`, and ends at the first of `stops` (those
    of lm-evaluation-harness in `triviaqa`). With `samples=k`, k more are drawn at `temperature` for self-consistency;
    they depend on the seed and the prompt, and not on the batch. `entails`, `abstentions` and `normalise` are as in
    `judged`.

    Raises `DataError` where there is no question, or the template does not fit; `ModelError` and `ProbeError` as
    `icp.generation.generate` does.
    """
    if not questions or not all(isinstance(question, Question) for question in questions):
        raise DataError("these are no Questions, or none at all: make them, or read them with icp.data.triviaqa(...)")
    if samples == 1:
        raise IcpError("one sample always agrees with itself: draw samples=2 or more, or none")
    template = template or (CLOSED if all(question.context is None for question in questions) else OPEN)
    require_fields(template, questions, known=("text", "context"))
    if "{text" not in template:
        raise DataError(f"the template {template!r} does not ask the question: name {{text}} in it")
    prompts = [template.format(text=question.text, context=question.context) for question in questions]
    shared = dict(max_tokens=max_tokens, stops=stops, batch_size=batch_size, progress=progress)
    greedy = [texts[0] for texts in generate(model, prompts, **shared)]
    drawn = generate(model, prompts, samples=samples, temperature=temperature, seed=seed, **shared) if samples else []
    return judged(questions, greedy, drawn, entails=entails, abstentions=abstentions, normalise=normalise)


def _ratio_change(before: Answers, after: Answers, level: float) -> dict[str, float]:
    """The change of wrong answers among those given."""
    rates, parts = [], []
    for one in (before, after):
        given = 1 - one.abstained
        if not given.any():
            return _nothing(len(given))
        wrong = given * (1 - one.right)
        rates.append(wrong.sum() / given.sum())
        parts.append((wrong - rates[-1] * given) / given.mean())
    return mean_interval(rates[1] - rates[0] + parts[1] - parts[0], level=level)


def _nothing(count: int) -> dict[str, float]:
    return dict.fromkeys(("mean", "low", "high"), float("nan")) | {"n": count}
