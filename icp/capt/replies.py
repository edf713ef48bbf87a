"""What a model answered to problems, right, wrong, or in no way that can be read; and what that adds up to."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from icp.data.problems import Problem
from icp.errors import ArtefactError, DataError
from icp.evaluation import Evaluation, Inputs
from icp.files import read_json, write_json
from icp.judged import Judged
from icp.predictions import Cases
from icp.seeds import over_seeds
from icp.statistics import clusters_of

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-capt-replies", 1
FIELDS = ("split", "query_type", "rung", "story", "skeleton")


@dataclass(frozen=True)
class Replies:
    """`said` is the answer that was read off each reply, None where there is none; `texts` are those of free decoding.

    `problems` are as they were before anything was renamed, so that renamings are compared on the same ones.
    """

    problems: tuple[Problem, ...]
    said: tuple[str | None, ...]
    texts: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.problems or len(self.said) != len(self.problems):
            raise DataError(f"there are {len(self.problems)} problems and {len(self.said)} answers: give one each")

    @cached_property
    def right(self) -> Float[np.ndarray, " problem"]:
        """1 where the right answer was given; a reply that cannot be read is not right."""
        return np.array([float(told == one.answer) for one, told in zip(self.problems, self.said)])

    @property
    def unparsed(self) -> Float[np.ndarray, " problem"]:
        """1 where no answer can be read off the reply."""
        return np.array([float(told is None) for told in self.said])

    def by(self, field: str) -> "dict[Any, Replies]":
        """Those to the problems of each split, query type, rung, story or skeleton; raises `DataError` for another."""
        if field not in FIELDS:
            raise DataError(f"there is no {field!r} to tell problems apart by: use one of {', '.join(FIELDS)}")
        places: dict[Any, list[int]] = {}
        for place, one in enumerate(self.problems):
            places.setdefault(getattr(one, field), []).append(place)
        return {value: self._at(some) for value, some in places.items()}

    def _at(self, places: Sequence[int]) -> "Replies":
        texts = [self.texts[place] for place in places] if self.texts else ()
        return Replies(tuple(self.problems[p] for p in places), tuple(self.said[p] for p in places), tuple(texts))

    def evaluation(self, name: str, positive: str | None = None) -> Evaluation:
        """`accuracy` and `unparsed`, and `f1` of the answer `positive` (default: the first one) where there are rows of
        every answer; by skeleton and story in clusters.

        It joins with those of other models by `|`, and gives tables and paired changes with intervals.
        """
        clusters = clusters_of(
            {"template": one.skeleton, "word": one.story, "text": one.prompt} for one in self.problems
        )
        told = hashlib.sha256("\n".join(one.prompt for one in self.problems).encode()).hexdigest()[:32]
        inputs = {metric: Inputs(f"{told} {metric}", clusters) for metric in ("accuracy", "unparsed")}
        answers = self._answers(positive)
        labels = np.array([answers.index(one.answer) for one in self.problems])
        judged = None
        if len(set(labels.tolist())) == len(answers):
            given = [np.eye(len(answers))[answers.index(one)] if one else 1 / len(answers) for one in self.said]
            chances = np.stack([np.broadcast_to(row, len(answers)) for row in given])
            groups = tuple(one.split for one in self.problems)
            judged = Judged(Cases(told, answers, labels, groups, clusters), {name: chances}, ("f1",))
        return Evaluation({name: {"accuracy": self.right, "unparsed": self.unparsed}}, inputs, {}, judged)

    def _answers(self, positive: str | None) -> tuple[str, ...]:
        """Those of all problems, with the positive class last, as `icp.metrics` has it."""
        first, *others = dict.fromkeys(one.answers for one in self.problems)
        if others:
            raise DataError(f"some problems have the answers {first} and some {others[0]}: judge them apart")
        positive = first[0] if positive is None else positive
        if positive not in first:
            raise DataError(f"{positive!r} is no answer: there are {', '.join(first)}")
        return tuple(sorted(first, key=lambda answer: answer == positive))

    def save(self, path: "str | Path") -> Path:
        """Write JSON."""
        content = {"problems": [asdict(one) for one in self.problems], "said": self.said, "texts": self.texts}
        return write_json(path, FORMAT, VERSION, content)

    @classmethod
    def load(cls, path: "str | Path") -> "Replies":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        stored = read_json(path, FORMAT, VERSION)
        try:
            problems = [Problem.of(one) for one in stored["problems"]]
            return cls(tuple(problems), tuple(stored["said"]), tuple(stored["texts"]))
        except (KeyError, TypeError, DataError) as error:
            raise ArtefactError(f"{path} is damaged ({error!r}): evaluate again, or delete it") from error


def parsed(text: str, answers: Sequence[str]) -> str | None:
    """The answer that the first line of a text gives; None where it names none, several, or denies one.

    Of a worked solution give what follows its last `Answer:`.
    """
    known = {answer.lower(): answer for answer in answers}
    either = "|".join(re.escape(answer) for answer in sorted(known, key=len, reverse=True))
    line = text.strip().partition("\n")[0].lower()
    found = re.findall(rf"(?<!\w)(not )?({either})(?!\w)", line)
    named = {known[word] for _, word in found}
    return named.pop() if len(named) == 1 and not any(denied for denied, _ in found) else None


def accuracies(
    replies: "Replies | Sequence[Replies]", by: str = "split", positive: str | None = None, level: float = 0.95
) -> "pandas.DataFrame":
    """One row a value of `by` and metric: `accuracy`, `unparsed`, and `f1` where it exists.

    Of several, each is of one seed, and all are of the same problems: the mean over seeds, with its interval over seeds
    and problems (`icp.over_seeds`); of one, with its interval over problems. `rows` is how many problems there are.
    """
    import pandas

    seeds = [replies] if isinstance(replies, Replies) else list(replies)
    if not seeds or any(one.problems != seeds[0].problems for one in seeds):
        raise DataError("these are no replies, or to other problems for some seeds: ask all the same")
    cells = [one.by(by) for one in seeds]
    tables = {}
    for value in cells[0]:
        some = [cell[value].evaluation("model", positive) for cell in cells]
        if len(some) == 1:
            table = some[0].table(level).droplevel("model")[["mean", "low", "high"]]
            table.insert(0, "seeds", 1)
            table["values"] = [(mean,) for mean in table["mean"]]
        else:
            table = over_seeds({"model": some}, level=level).droplevel("method")
        table.insert(0, "rows", len(cells[0][value].problems))
        tables[value] = table
    return pandas.concat(tables, names=[by])
