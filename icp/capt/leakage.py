"""Whether an abstract text still gives its story away: how well a classifier tells the story from it."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from icp.errors import DataError

FIGURE = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Leakage:
    """The share of texts whose story is found, on texts held out, and the share that the commonest story alone gives.

    What the structure gives away (a story comes with few graphs) is in it too: compare with the same figure for gold
    abstractions, or for the texts themselves.
    """

    accuracy: float
    commonest: float
    texts: int


def leakage(texts: Sequence[str], stories: Sequence[str], folds: int = 5, seed: int = 0) -> Leakage:
    """Cross-validated accuracy of logistic regression on TF-IDF of single words and pairs of words.

    Figures of the prompts are hidden first, for they are the row's and not the words'. Raises `DataError` where the two
    differ in length, there is one story, or one of them has fewer texts than there are folds.
    """
    if len(texts) != len(stories):
        raise DataError(f"there are {len(texts)} texts and {len(stories)} stories: give one story for each text")
    counts = Counter(stories)
    rare = [story for story, count in counts.items() if count < folds]
    if len(counts) < 2 or rare:
        told = f"only {counts[rare[0]]} of {rare[0]!r}" if rare else f"{len(counts)} story"
        raise DataError(f"leakage needs two stories or more, each with at least {folds} texts, and there is {told}")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    plain = [FIGURE.sub("0", text) for text in texts]
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"[^\s.,?:%]+", sublinear_tf=True)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    found = cross_val_score(make_pipeline(words, LogisticRegression(C=10.0, max_iter=300)), plain, stories, cv=splits)
    return Leakage(float(found.mean()), max(counts.values()) / len(stories), len(stories))
