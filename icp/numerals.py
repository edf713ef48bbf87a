"""Numbers as a reader wants them: as many digits as mean something, and a proper minus sign."""

import math


def number(value: float) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return "n/a"
    return _minus(f"{value:#.3g}".rstrip(".")) if value else "0"


def fixed(value: float, places: int, sign: str = "") -> str:
    """So many decimals, with `sign="+"` a plus too; what rounds to zero has no sign."""
    if not math.isfinite(value):
        return "n/a"
    text = f"{value:{sign}.{places}f}"
    return text.lstrip("+-") if float(text) == 0 else _minus(text)


def percent(share: float) -> str:
    """A change, given as a share, in percent with its sign."""
    return f"{fixed(100 * share, 1, '+')}%" if math.isfinite(share) else "n/a"


def places(width: float) -> int:
    """Decimals that show two digits of half an interval this wide; three where it has no width."""
    return max(0, 1 - math.floor(math.log10(width / 2))) if math.isfinite(width) and width > 0 else 3


def interval(low: float, high: float, decimals: int, sign: str = "") -> str:
    """`[low, high]`, or nothing where one example gave none."""
    return f"[{fixed(low, decimals, sign)}, {fixed(high, decimals, sign)}]" if math.isfinite(low) else ""


def with_error(value: float, error: float) -> str:
    """A value with as many decimals as its standard error has meaning for."""
    if not math.isfinite(error) or error <= 0:
        return number(value)
    decimals = places(2 * error)
    return f"{fixed(value, decimals)} ± {fixed(error, decimals)}"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
