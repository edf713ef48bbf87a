"""What each validator says of pairs that are there already."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from tqdm import tqdm

from icp.counterfactual.made import MadePairs
from icp.counterfactual.validator import Validator
from icp.errors import SpecError

if TYPE_CHECKING:
    import pandas

TOGETHER = 256
"""Pairs that are validated together."""


def check_pairs(made: MadePairs, validators: Sequence[Validator], *, progress: bool = True) -> "pandas.DataFrame":
    """A line a validator, each of which judges every pair: how many it accepts and rejects, the share that it accepts,
    and what it says of the first that it rejects. The last line is of all together.

    Pairs without the rejected ones are made by `make_pairs(..., validators=...)`. Raises `SpecError` for no validator,
    for two of one name, and what a validator raises that cannot check pairs of this spec.
    """
    import pandas

    names = [validator.name for validator in validators]
    if not names or len(set(names)) < len(names):
        raise SpecError(f"the validators are {', '.join(names) or 'none'}: give one or more, each once")
    for validator in validators:
        validator.begin(made.spec)
    rejected, first = dict.fromkeys([*names, "all"], 0), dict.fromkeys([*names, "all"], "")
    with tqdm(total=len(made), unit="pair", disable=not progress) as bar:
        pairs = iter(made)
        while some := list(islice(pairs, TOGETHER)):
            told = [validator.reject_all(some, made.spec) for validator in validators]
            told.append([next((why for why in whys if why is not None), None) for whys in zip(*told, strict=True)])
            for name, whys in zip(rejected, told):
                said = [why for why in whys if why is not None]
                rejected[name] += len(said)
                first[name] = first[name] or next(iter(said), "")
            bar.update(len(some))
    table = pandas.DataFrame({"rejected": rejected, "first": first})
    table.index.name = "validator"
    table.insert(0, "accepted", len(made) - table["rejected"])
    table.insert(1, "share accepted", table["accepted"] / max(1, len(made)))
    return table
