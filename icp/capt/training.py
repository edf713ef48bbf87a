"""CAPT's training: rows whose events are renamed in each copy, through `icp.finetune`."""

from collections.abc import Mapping, Sequence
from typing import Any

from icp.capt.abstracted import Abstracted
from icp.capt.renaming import Null, Renaming, copies
from icp.capt.splits import require_apart
from icp.capt.training_rows import answer_probe, worked_probe
from icp.capt.validate import Validator
from icp.data.problems import Problem
from icp.errors import DataError
from icp.finetune import finetune
from icp.model import Model

USUAL = Validator()


def train(
    model: Model,
    rows: Sequence[Abstracted],
    renaming: Renaming,
    *,
    test: Sequence[Problem],
    epochs: int = 4,
    reasoning: bool = False,
    validator: Validator | None = USUAL,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Model:
    """A copy of `model`, fine-tuned on `epochs` copies of each row, every one of them renamed afresh.

    It learns to answer after `Answer:`, as a choice among the answers; or with `reasoning` to write the worked solution
    after `Reasoning:` and then the answer. `seed` is that of the draws, of the order and of the adapters; `options`
    are those of `icp.finetune`, such as `lora`, `folder` and `progress`.

    `test` are the problems that will be tested on. Raises `DataError` where the skeleton or the prompt of one is
    trained on, where a row has no reasoning to learn, and where an abstraction is not valid: `icp.capt.abstract_all`
    sorts these out. `validator=None` trains on whatever is given, as for a curve over the errors of an estimator; with
    `Null`, which leaves texts as they are, nothing is validated.
    """
    if not rows:
        raise DataError("there are no rows to train on: give some that were abstracted")
    if epochs < 1 or "num_train_epochs" in (arguments or {}):
        raise DataError(f"epochs={epochs}: give 1 or more, and num_train_epochs not among the arguments")
    require_apart([row.problem for row in rows], test, ["skeleton"])
    if validator is not None and not isinstance(renaming, Null):
        _require_valid(rows, validator)
    drawn = copies(rows, renaming, epochs, seed)
    probe = worked_probe(drawn) if reasoning else answer_probe(drawn)
    once = {**(arguments or {}), "num_train_epochs": 1}
    return finetune(model, probe, arguments=once, seed=seed, **options)


def _require_valid(rows: Sequence[Abstracted], validator: Validator) -> None:
    for number, row in enumerate(rows):
        if reasons := validator.reasons(row):
            raise DataError(
                f"the abstraction of row {number} ({row.problem.prompt[:60]!r}) is not valid: {', '.join(reasons)}; "
                "train on the rows of icp.capt.abstract_all, which leaves such out and counts them"
            )
