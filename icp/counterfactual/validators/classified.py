"""Checks by a classifier that is not the model to be trained: of the cue, and of the label."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from icp.counterfactual.finders import Column
from icp.counterfactual.rows import Edit, Row
from icp.counterfactual.spec import Spec
from icp.counterfactual.validator import Validator
from icp.errors import DataError, SpecError
from icp.model import Model

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

TOKEN = r"\b\w+\b"


@dataclass(frozen=True)
class CueFlips(Validator):
    """The edited variable has the new value in the counterpart, and had another one in the text.

    `classifier` is a function from texts to values, or has a `predict` that is one, such as a scikit-learn pipeline.
    Without one the values are those that the spec's finder finds, of which the counterpart may say the new one only.
    """

    reason: ClassVar[str] = "value does not flip"
    classifier: Any = None

    def __post_init__(self):
        if self.classifier is not None:
            _function(self.classifier, "predict")

    def reject_all(self, pairs: Sequence[tuple[Row, Edit]], spec: Spec) -> list[str | None]:
        if self.classifier is None:
            said = [tuple(_found(spec, edit.variable, one) for one in _rows(row, edit)) for row, edit in pairs]
        else:
            values = [str(value) for value in _of_both(_function(self.classifier, "predict"), pairs)]
            said = [({before}, {after}) for before, after in zip(values[: len(pairs)], values[len(pairs) :])]
        return [_unflipped(edit, before, after) for (_, edit), (before, after) in zip(pairs, said)]


@dataclass(frozen=True)
class LabelAgrees(Validator):
    """The classifier gives at least the probability `least` to the label of the text and to that of the counterpart.

    `classifier` is a function from texts to probabilities, one row a text and one column a class in the order of the
    spec, or has a `predict_proba` that is one. With a small `least` only what it is sure is another class is rejected;
    with a large one only what it is sure of is accepted. It must not be the model that the pairs are to train: that one
    would pass what it believes already. An `icp.Model` is refused for that reason.
    """

    reason: ClassVar[str] = "label classifier disagrees"
    classifier: Any
    least: float = 0.5

    def __post_init__(self):
        _function(self.classifier, "predict_proba")
        if not 0 < self.least < 1:
            raise SpecError(f"least={self.least} has to be a probability between 0 and 1")

    def begin(self, spec: Spec) -> None:
        known = getattr(self.classifier, "classes_", None)
        if known is not None and [*map(str, known)] not in ([*map(str, range(len(spec.classes)))], [*spec.classes]):
            raise SpecError(
                f"the label classifier knows the classes {', '.join(map(str, known))}: train it on the labels 0 to "
                f"{len(spec.classes) - 1}, for {', '.join(spec.classes)}"
            )

    def reject_all(self, pairs: Sequence[tuple[Row, Edit]], spec: Spec) -> list[str | None]:
        found = np.asarray(_of_both(_function(self.classifier, "predict_proba"), pairs), dtype=np.float64)
        if found.shape != (2 * len(pairs), len(spec.classes)):
            raise SpecError(
                f"the label classifier gives {found.shape} numbers for {2 * len(pairs)} texts: give one row a text and "
                f"one column a class, of {', '.join(spec.classes)}"
            )
        return [
            self._disagrees(row, edit, before, after, spec)
            for (row, edit), before, after in zip(pairs, found[: len(pairs)], found[len(pairs) :])
        ]

    def _disagrees(
        self,
        row: Row,
        edit: Edit,
        before: Float[np.ndarray, " label"],
        after: Float[np.ndarray, " label"],
        spec: Spec,
    ) -> str | None:
        label = row.label if edit.label is None else edit.label
        for what, said, has in (("text", before, row.label), ("counterpart", after, label)):
            if not said[has] >= self.least:
                best = int(said.argmax())
                return (
                    f"the label classifier gives the {what} {spec.classes[has]!r} with probability {said[has]:.2f}, "
                    f"less than {self.least:g}, and {spec.classes[best]!r} with {said[best]:.2f}"
                )
        return None


def label_classifier(texts: Sequence[str], labels: Sequence[int], without: Sequence[str] = ()) -> "Pipeline":
    """A logistic regression on the TF-IDF of words and word pairs, by scikit-learn: seconds for thousands of texts.

    `without` are words that it is not to see, such as those of a cue: where a cue goes with the label in these texts,
    a classifier that sees it would reject good pairs. Raises `DataError` for one class or another number of labels.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(texts) != len(labels) or len(set(labels)) < 2:
        raise DataError(f"{len(texts)} texts with {len(labels)} labels of {len(set(labels))} classes: give one a text")
    hidden = sorted({part for word in without for part in re.findall(TOKEN, word.lower())})
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKEN, stop_words=hidden or None)
    return make_pipeline(words, LogisticRegression(C=30.0, max_iter=1000)).fit(list(texts), list(labels))


def _function(classifier: Any, method: str) -> Callable[[list[str]], Any]:
    """The classifier's method of that name, or itself; raises `SpecError` for a model of ours and for what is none."""
    import torch

    for one in (classifier, getattr(classifier, "__self__", None)):
        if isinstance(one, Model | torch.nn.Module):
            raise SpecError(
                f"{type(one).__name__} may be the model that these pairs are to train, which must not check them: give "
                "label_classifier(texts, labels), or a function that calls another model"
            )
    found = getattr(classifier, method, classifier)
    if not callable(found):
        raise SpecError(f"{classifier!r} is no classifier: give a function of texts, or something with {method}")
    return found


def _of_both(function: Callable[[list[str]], Any], pairs: Sequence[tuple[Row, Edit]]) -> Any:
    """Of all texts, and then of all counterparts."""
    texts = [row.text for row, _ in pairs] + [edit.text for _, edit in pairs]
    found = function(texts)
    if len(found) != len(texts):
        raise SpecError(f"the classifier gives {len(found)} answers for {len(texts)} texts: it has to give one a text")
    return found


def _rows(row: Row, edit: Edit) -> tuple[Row, Row]:
    return row, Row(edit.text, row.label, row.columns)


def _found(spec: Spec, name: str, row: Row) -> set[str]:
    finder = spec.variable(name).finder
    if isinstance(finder, Column):
        raise SpecError(
            f"{name!r} is found by the column {finder.name!r}, which an edit of the text does not change: give "
            "CueFlips(classifier) one that reads the text"
        )
    return {one.value for one in finder.find(row)}


def _unflipped(edit: Edit, before: set[str], after: set[str]) -> str | None:
    told = f"{edit.variable} should be {edit.after!r} in the counterpart alone"
    if after != {edit.after}:
        return f"{told}: the counterpart says {', '.join(sorted(after)) or 'nothing of it'}"
    return f"{told}: the text says it already" if edit.after in before else None
