"""Which answers changed from one model to another: mended, broken, or changed otherwise, row by row."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from icp.errors import ArtefactError, IcpError, ProbeError
from icp.examples import Example
from icp.files import read_json, write_json
from icp.model import Model
from icp.predictions import Predictions, answered, probabilities_of
from icp.probes import Probe
from icp.statistics import share_change, share_interval

if TYPE_CHECKING:
    import pandas

FORMAT, VERSION = "icp-changed-answers", 1
KINDS = ("mended", "broken", "other")


@dataclass(frozen=True, eq=False)
class ChangedAnswers:
    """What two models, `names`, answer to a probe: `probabilities` [model, example, answer], each summing to 1.

    `counterparts` is the same of x' in place of x, where that is known. An answer is the likeliest one; of equally
    likely ones none is. It is *mended* where it was wrong and is right, *broken* where it was right and is wrong;
    *other* is from wrong to wrong, or where no right answer is known.
    """

    probe: Probe
    names: tuple[str, str]
    probabilities: np.ndarray
    counterparts: np.ndarray | None = None
    bindings: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        if len(set(self.names)) != 2:
            raise IcpError(f"both models are called {self.names[0]!r}: give them two names")
        for row, example in enumerate(self.probe.examples):
            if len(example.answers) < 2:
                raise ProbeError(f"row {row} ({example.text!r}) has {len(example.answers)} answer(s): give two or more")
        shape = (2, len(self.probe), len(self.probe.examples[0].answers))
        for what, found in (("probabilities", self.probabilities), ("counterparts", self.counterparts)):
            if found is None:
                continue
            if found.shape != shape:
                raise ArtefactError(f"{what} are {found.shape}, and two models' answers to this probe are {shape}")
            if not (np.isfinite(found).all() and (found >= 0).all() and (np.abs(found.sum(-1) - 1) < 1e-6).all()):
                raise ArtefactError(f"some {what} are negative or do not sum to 1")

    def __len__(self) -> int:
        return len(self.probe)

    @property
    def labels(self) -> Int[np.ndarray, " example"]:
        """The right answers; -1 where none is known."""
        return np.array([-1 if example.label is None else example.label for example in self.probe.examples])

    @property
    def changed(self) -> Bool[np.ndarray, " example"]:
        return np.not_equal(*map(answered, self.probabilities))

    def is_kind(self, kind: str) -> Bool[np.ndarray, " example"]:
        """Which answers are `mended`, `broken`, or changed otherwise (`other`)."""
        before, after = (answered(found) == self.labels for found in self.probabilities)
        known = self.labels >= 0
        return self.changed & {
            "mended": known & after, "broken": known & before, "other": ~(known & (before | after))
        }[kind]  # fmt: skip

    def table(self) -> "pandas.DataFrame":
        """One row for each answer that changed, by its place in the probe, largest change first.

        `p_before` and `p_after` are the probability of the right answer among the answers (of the new one, where no
        right one is known), `logit_before` and `logit_after` its log odds (of two answers that is their logit
        difference), and `change` the difference of these, by whose size rows are sorted. `before` and `after` are the
        answers, None for a tie; where counterparts are known, `counterpart_before` and `counterpart_after` are theirs.
        """
        import pandas

        rows = np.flatnonzero(self.changed)
        examples = [self.probe.examples[row] for row in rows]
        given = [answered(found)[rows] for found in self.probabilities]
        asked = np.where(self.labels[rows] >= 0, self.labels[rows], np.where(given[1] >= 0, given[1], given[0]))
        p = [found[rows, asked] for found in self.probabilities]
        odds = [_log_odds(found[rows], asked) for found in self.probabilities]
        kinds = np.select([self.is_kind(kind)[rows] for kind in KINDS], KINDS, "")
        columns: dict[str, Any] = {
            "kind": kinds.tolist(),
            "text": [example.text for example in examples],
            "counterpart": [example.counterpart for example in examples],
            "group": [example.group for example in examples],
            "right": _named(examples, self.labels[rows]), "before": _named(examples, given[0]),
            "after": _named(examples, given[1]),
            "p_before": p[0], "p_after": p[1],
            "logit_before": odds[0], "logit_after": odds[1], "change": odds[1] - odds[0],
        }  # fmt: skip
        if self.counterparts is not None:
            theirs = [answered(found)[rows] for found in self.counterparts]
            columns["counterpart_before"], columns["counterpart_after"] = (_named(examples, each) for each in theirs)
            columns["counterpart_changed"] = theirs[0] != theirs[1]
        as_they_are = {k: pandas.Series(v, dtype=object) if isinstance(v, list) else v for k, v in columns.items()}
        frame = pandas.DataFrame(as_they_are).set_index(pandas.Index(rows, name="example"))
        return frame.sort_values("change", key=np.abs, ascending=False, kind="stable")

    def counts(self, level: float = 0.95) -> "pandas.DataFrame":
        """One row a kind, and one for `any`: how many answers, and which share of all, with its Wilson interval.

        Where counterparts are known: of how many the counterpart's answer changed too, and in how many x and x' were
        answered differently before and after (`split_before`, `split_after`), so that what x' differs in decided.
        Intervals are clustered by template and word (`icp.statistics`).
        """
        import pandas

        rows = {}
        for kind, chosen in {"any": self.changed, **{kind: self.is_kind(kind) for kind in KINDS}}.items():
            interval = share_interval(chosen.astype(float), self.probe.clusters, level)
            rows[kind] = {
                "n": int(chosen.sum()),
                "share": interval["mean"],
                **{k: interval[k] for k in ("low", "high")},
            }
            if self.counterparts is not None:
                theirs, mine = map(list, (map(answered, self.counterparts), map(answered, self.probabilities)))
                rows[kind]["counterpart_changed"] = int((chosen & (theirs[0] != theirs[1])).sum())
                for name, x, other in zip(("split_before", "split_after"), mine, theirs):
                    rows[kind][name] = int((chosen & (x != other)).sum())
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("kind")

    def groups(self) -> "pandas.DataFrame":
        """One row a (right answer, group): how many examples, and how many of them are of each kind."""
        import pandas

        examples = self.probe.examples
        cells = {
            "right": ["" if e.label is None else e.answers[e.label] for e in examples],
            "group": ["" if e.group is None else e.group for e in examples],
            "n": 1,
        }
        frame = pandas.DataFrame(cells | {kind: self.is_kind(kind).astype(int) for kind in KINDS})
        return frame.groupby(["right", "group"]).sum()

    def accuracy(self, level: float = 0.95) -> dict[str, float]:
        """The change of accuracy, (mended - broken) / n, with its paired interval as in `Evaluation.change`, and `p`.

        `p` is McNemar's, two-sided and exact (binomial): how likely mended and broken are this far apart, or further,
        where either is as likely. It takes examples for independent, so it is NaN where any share a template or a
        word. Raises `ProbeError` where an example has no right answer.
        """
        from scipy.stats import binomtest

        if (unlabelled := np.flatnonzero(self.labels < 0)).size:
            text = self.probe.examples[unlabelled[0]].text
            raise ProbeError(f"row {unlabelled[0]} ({text!r}) has no label: give the index of its right answer")
        mended, broken = (self.is_kind(kind).astype(float) for kind in ("mended", "broken"))
        clusters = self.probe.clusters
        alone = all(len(np.unique(codes)) == len(self) for codes in clusters.T)
        n = int(mended.sum() + broken.sum())
        p = (binomtest(int(mended.sum()), n).pvalue if n else 1.0) if alone else float("nan")
        return share_change(mended - broken, clusters, level) | {"p": float(p)}

    def save(self, path: "str | Path") -> Path:
        """Write JSON: every example, and every probability."""
        return write_json(
            path, FORMAT, VERSION,
            {
                "names": self.names,
                "bindings": self.bindings,
                "examples": [example.stored for example in self.probe.examples],
                "probabilities": self.probabilities.tolist(),
                "counterparts": None if self.counterparts is None else self.counterparts.tolist(),
            },
        )  # fmt: skip

    @classmethod
    def load(cls, path: "str | Path") -> "ChangedAnswers":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        stored = read_json(path, FORMAT, VERSION)
        try:
            examples = tuple(Example(**row | {"answers": tuple(row["answers"])}) for row in stored["examples"])
            found = [stored[key] for key in ("probabilities", "counterparts")]
            before, after = stored["names"]
            return cls(
                Probe(examples),
                (before, after),
                *(None if each is None else np.array(each, dtype=float) for each in found),
                dict(stored["bindings"]),
            )
        except (KeyError, AttributeError, TypeError, ValueError, IcpError) as error:
            raise ArtefactError(f"{path} is damaged ({error!r}): compare the models again, or delete it") from error


def changed_answers(
    before: Model | Predictions,
    after: Model | Predictions,
    probe: Probe,
    *,
    counterparts: tuple[Predictions, Predictions] | None = None,
    names: tuple[str, str] = ("before", "after"),
) -> ChangedAnswers:
    """Which answers to the probe differ between two models, given as such or by their stored answers.

    Stored answers are those of an evaluation, `evaluation.answers.predictions(name)`. Of two models the answers to the
    counterparts are found out too, where every example has one; of stored ones they are given, as those of an
    evaluation on `probe.swapped()`.

    Raises `ProbeError` where an example has fewer than two answers or not as many as the others, `ArtefactError` for
    answers to another probe.
    """
    both = before, after
    probabilities = np.stack([_probabilities(of, probe, "the probe given") for of in both])
    paired = all(example.counterpart is not None for example in probe.examples)
    if counterparts is None and paired and all(isinstance(of, Model) for of in both):
        counterparts = both
    theirs = None
    if counterparts is not None:
        theirs = np.stack([_probabilities(of, probe.swapped(), "its counterparts") for of in counterparts])
    bindings = {name: of.binding for name, of in zip(names, both) if isinstance(of, Model)}
    return ChangedAnswers(probe, names, probabilities, theirs, bindings)


def _probabilities(of: Model | Predictions, probe: Probe, what: str) -> Float[np.ndarray, "example answer"]:
    if isinstance(of, Model):
        return probabilities_of(of, probe)
    if of.cases.digest != probe.digest:
        raise ArtefactError(f"the stored answers are to another probe ({of.cases.digest}) than {what} ({probe.digest})")
    return of.probabilities


def _log_odds(
    probabilities: Float[np.ndarray, "example answer"], of: Int[np.ndarray, " example"]
) -> Float[np.ndarray, " example"]:
    """log p - log of the other answers' p together, which keeps its precision where p is nearly 1."""
    asked = np.arange(probabilities.shape[1]) == of[:, None]
    with np.errstate(divide="ignore"):
        return np.log(probabilities[asked]) - np.log(np.where(asked, 0, probabilities).sum(1))


def _named(examples: list[Example], given: Int[np.ndarray, " example"]) -> list[str | None]:
    return [example.answers[answer] if answer >= 0 else None for example, answer in zip(examples, given)]
