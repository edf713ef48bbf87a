"""Whether a probe shares texts with what was trained on."""

from collections.abc import Iterable

from icp.errors import ProbeError
from icp.pairs import Pairs
from icp.probes import Probe


def texts_of(given: "Probe | Pairs") -> set[str]:
    """Every text, and every counterpart."""
    examples = (given.probe if isinstance(given, Pairs) else given).examples
    return {text for example in examples for text in (example.text, example.counterpart) if text is not None}


def require_apart(given: "Probe | Pairs", others: Iterable["Probe | Pairs"], what: str) -> None:
    """Raise `ProbeError` where a text or counterpart is among the others', to the letter; `what` says who asks."""
    taken = set().union(*(texts_of(other) for other in others))
    shared = sorted(texts_of(given) & taken)
    if shared:
        more = " is" if len(shared) == 1 else f" and {len(shared) - 1} more are"
        raise ProbeError(f"{what}: {shared[0]!r}{more} in both; split before, such as by probe.split(by='text')")
