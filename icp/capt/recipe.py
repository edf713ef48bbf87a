"""How prompts are made for a training, kept beside the model so that what is asked afterwards is made alike."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from icp import data
from icp.capt.abstracted import Abstracted, untouched
from icp.capt.cladder_grammar import FRAME
from icp.capt.cladder_rules import CladderRules
from icp.capt.estimator import Estimator
from icp.capt.other_events import OtherEvents
from icp.capt.renaming import Fixed, Names, Null, Order, Random, Renaming
from icp.capt.syllogism_rules import SyllogismRules
from icp.capt.symbols import pool
from icp.capt.validate import Validator, abstract_all
from icp.capt.variable_rules import VariableRules
from icp.data.problems import Problem
from icp.errors import ArtefactError, DataError
from icp.files import read_json, write_json

FORMAT, VERSION = "icp-capt", 2
RENAMINGS = ("random", "order", "null", "names", "fixed")
RULES: dict[str, tuple[Estimator, Validator]] = {
    "prontoqa": (SyllogismRules(), Validator()), "cladder": (CladderRules(), Validator(FRAME)),
    "corr2cause": (VariableRules(), Validator()),
}  # fmt: skip
"""By data set what finds events in its prompts, and what is asked of an abstraction."""

REFUSED = ("error", "skip", "as-is")


def read_problems(
    data_set: str,
    source: str,
    split: str | None = None,
    models: str | None = None,
    unanswered: list[str] | None = None,
) -> list[Problem]:
    """The problems of a data set by its name; raises `DataError` for another, and for `models` that it has not got.

    Rows without an answer are left out where there is a list `unanswered`, to which the place of each is added.
    """
    match data_set:
        case "cladder":
            return [one.problem for one in data.cladder(source, split, models=models, unanswered=unanswered)]
        case "prontoqa" | "corr2cause" if models is not None:
            raise DataError(f"{data_set} has no file of models, as CLadder's nested form does: leave {models!r} out")
        case "prontoqa":
            return data.prontoqa(source, split, unanswered=unanswered)
        case "corr2cause":
            return data.corr2cause(source, split, unanswered=unanswered)
    raise DataError(f"there is no data set {data_set!r}: use one of {', '.join(RULES)}")


@dataclass(frozen=True)
class Recipe:
    """The data set, whose rules find events; what takes their place; and whether a worked solution is written first.

    `skeletons` are those that were trained on, and `table` has the symbols of fixed events.
    Raises `DataError` for a data set or a renaming that there is not.
    """

    data_set: str
    renaming: str = "random"
    pool: int = 26
    reasoning: bool = False
    skeletons: frozenset[str] = frozenset()
    table: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        for value, known in ((self.data_set, RULES), (self.renaming, RENAMINGS)):
            if value not in known:
                raise DataError(f"there is no {value!r}: use one of {', '.join(known)}")
        if (self.data_set, self.renaming) == ("corr2cause", "names"):
            raise DataError("the variables of corr2cause are letters, which have no other real names: take random")
        pool(self.pool)  # one that cannot be had is refused

    def fixed(self, problems: Sequence[Problem]) -> "Recipe":
        """The recipe with a symbol for good for each event of these problems.

        Raises `DataError` where there are too few symbols.
        """
        rows, _ = self.rows(problems, "skip")
        return replace(self, table=Fixed.of(rows, pool(self.pool)).table)

    def replacement(self, rows: Sequence[Abstracted]) -> Renaming:
        """What takes the place of events in training rows; CLadder's get those that other stories of `rows` tell."""
        if self.renaming == "names":
            return OtherEvents.of(rows) if self.data_set == "cladder" else Names()
        return self.asked

    @property
    def asked(self) -> Renaming:
        """What takes the place of events in test prompts: nothing where training rows were given other real ones.

        An event that the table of a fixed renaming has not got is given a symbol at random. Raises `DataError` where
        there is no table.
        """
        if self.renaming == "fixed" and not self.table:
            raise DataError("a fixed renaming has a table of symbols: make it of all problems, Recipe.fixed")
        symbols = pool(self.pool)
        made = {"random": Random(symbols), "order": Order(symbols), "null": Null(), "names": Null()}
        return (made | {"fixed": Fixed(self.table, symbols)})[self.renaming]

    @property
    def validator(self) -> Validator:
        return RULES[self.data_set][1]

    def rows(self, problems: Sequence[Problem], refused: str = "error") -> tuple[list[Abstracted], Counter[str]]:
        """The problems abstracted, and how many were refused for each reason.

        `refused` says what becomes of those: an `error` that counts them, `skip`, or `as-is`, with nothing renamed.
        Every renaming takes the same rows, so that they can be compared.
        """
        if refused not in REFUSED:
            raise DataError(f"refused={refused!r}: use one of {', '.join(REFUSED)}")
        found = abstract_all(problems, *RULES[self.data_set])
        if found.refused and refused == "error":
            told = ", ".join(f"{count} {reason}" for reason, count in found.reasons.most_common())
            raise DataError(
                f"{len(found.refused)} of {len(problems)} prompts have no valid abstraction ({told}), the first: "
                f"{found.refused[0].told}; say that they are to be left out (skip) or asked as they are (as-is)"
            )
        valid = {row.problem: row for row in found.rows}
        rows = [
            valid[one] if one in valid else untouched(one) for one in problems if one in valid or refused == "as-is"
        ]
        return rows, found.reasons

    def require_apart(self, problems: Sequence[Problem]) -> None:
        """Raise `DataError` naming a problem whose skeleton was trained on."""
        for number, one in enumerate(problems):
            if one.skeleton in self.skeletons:
                told = f"the skeleton {str(one.skeleton)[:60]!r} of problem {number} was trained on"
                raise DataError(f"{told}: ask others")

    def save(self, path: "str | Path", test: Sequence[Problem]) -> Path:
        """Write JSON, with the problems that were held out."""
        told: dict[str, Any] = asdict(self) | {"skeletons": sorted(self.skeletons)}
        return write_json(path, FORMAT, VERSION, told | {"test": [asdict(one) for one in test]})

    @classmethod
    def load(cls, path: "str | Path") -> "tuple[Recipe, list[Problem]]":
        """What `save` wrote: the recipe, and the problems that were held out."""
        told = read_json(path, FORMAT, VERSION)
        try:
            problems = [Problem.of(one) for one in told["test"]]
            options = {name: told[name] for name in ("data_set", "renaming", "pool", "reasoning")}
            table = tuple((str(event), str(symbol)) for event, symbol in told["table"])
            return cls(**options, skeletons=frozenset(told["skeletons"]), table=table), problems
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{path} is damaged ({error!r}): train again, or delete it") from error
