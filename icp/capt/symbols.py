"""The symbols that events are replaced by."""

import re
from itertools import product
from string import ascii_uppercase

from icp.errors import DataError

RESERVED = ("A", "I", "X", "Y", "Z")
"""English words, and the names of variables in CLadder's reasoning, which also has V1, V2 and V3."""
CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"
ABBREVIATIONS = {
    "BC", "CD", "CV", "DC", "DJ", "DR", "FM", "HR", "JR", "KG", "KM", "MD", "MR", "MS", "NB", "PC", "PH", "PM", "PR",
    "PS", "SR", "ST", "TV", "VS", "WC",
}  # fmt: skip


def pool(size: int = 26, exclude: tuple[str, ...] = RESERVED) -> tuple[str, ...]:
    """So many symbols: the capitals from A on, then pairs of different consonants that abbreviate nothing.

    `exclude` leaves symbols out, and as many more pairs come in their place. Raises `DataError` for a size below 1, or
    above the number of symbols there are.
    """
    pairs = [one + other for one, other in product(CONSONANTS, repeat=2) if one != other]
    symbols = [one for one in (*ascii_uppercase, *pairs) if one not in ABBREVIATIONS and one not in exclude]
    if not 1 <= size <= len(symbols):
        raise DataError(f"a pool of {size} symbols cannot be had: there are 1 to {len(symbols)} of them")
    return tuple(symbols[:size])


def without_those_in(symbols: tuple[str, ...], text: str) -> list[str]:
    """The symbols that are no word of a text."""
    words = set(re.findall(r"\w+", text))
    return [one for one in symbols if one not in words]
