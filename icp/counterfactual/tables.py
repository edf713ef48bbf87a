"""Variables as the tables of a TOML file."""

import json
from collections.abc import Mapping
from typing import Any

from icp.counterfactual.finders import Classifier, Column, Finder, Pattern
from icp.counterfactual.lexicon import Lexicon
from icp.errors import SpecError


def finder_of(told: Mapping[str, Any], where: str) -> Finder:
    """How a variable is found, from its table; raises `SpecError` naming what is missing or unknown."""
    if not isinstance(told, Mapping):
        raise SpecError(f"{where} is {told!r}: give a table with a name and a way to find it")
    forms = {
        "words": ("lexicon", "aligned", "plurals"),
        "patterns": (),
        "column": ("values",),
        "classifier": ("values",),
    }
    given = [form for form in forms if form in told]
    if len(given) != 1:
        raise SpecError(
            f"{where} ({told.get('name')!r}) has to be found in one way: give words, patterns, or a column or a "
            "classifier with its values"
        )
    form = given[0]
    require_keys(told, ("name", form), ("labels", *forms[form]), where)
    for part in ("words", "patterns", "labels"):
        if not isinstance(told.get(part, {}), Mapping):
            raise SpecError(f"{where} has {part} = {told[part]!r}: give a table with an entry a value")
    match form:
        case "words":
            how = {name: told[name] for name in ("aligned", "plurals") if name in told}
            for name, value in how.items():
                if not isinstance(value, bool):
                    raise SpecError(f"{where} has {name} = {value!r}: it is true or false")
            return Lexicon(told.get("lexicon", told["name"]), told["words"], **how)
        case "patterns":
            return Pattern(told["patterns"])
        case _:
            require_keys(told, ("values",), tuple(told), where)
            return {"column": Column, "classifier": Classifier}[form](told[form], told["values"])


def require_keys(told: Mapping[str, Any], needed: tuple[str, ...], more: tuple[str, ...], where: str) -> None:
    """Raise `SpecError` for what a table lacks, or has beside these."""
    for name in needed:
        if name not in told:
            raise SpecError(f"{where} has no {name!r}: it needs {', '.join(needed)} and may have {', '.join(more)}")
    for name in told:
        if name not in (*needed, *more):
            raise SpecError(f"{where} has {name!r}, which is unknown: it may have {', '.join((*needed, *more))}")


def toml(value: Any) -> str:
    """A text, a number, a truth value, or a list or table of these, as a TOML file has it."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml(name)} = {toml(one)}" for name, one in value.items())
        return f"{{ {inside} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which TOML wants escaped
