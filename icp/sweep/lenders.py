"""Who lends the values that interventions put in, and whether they can: found out before anything is written."""

import random

from icp.errors import ProbeError, UnitError
from icp.interventions import CounterpartDonor, Donor, ExampleDonor, MeanDonor, UnitDonor
from icp.model import Model
from icp.probes import Probe, Tokens
from icp.properties import PairGap
from icp.tokenizing import encode
from icp.units import Unit


def require_lenders(model: Model, tokens: Tokens, reference: Probe, donors: list[Donor], units: list[Unit]) -> None:
    """Raise where a donor cannot lend what these units take, in the inputs `tokens`.

    `UnitError` for another unit that is not there or has another width, `ProbeError` for another example that is not
    there or has another length, and for a reference too short for a mean at each position.
    """
    for donor in donors:
        if model.family.abreast and isinstance(donor, CounterpartDonor | ExampleDonor):
            raise ProbeError(
                "the captions are the same for every image and its counterpart, so that swapping them changes nothing: "
                "mask or scale the text tower's units, or swap in the vision tower (model.other)"
            )
        if model.family.abreast and isinstance(donor, MeanDonor) and donor.per_position:
            raise ProbeError(
                "the captions are the same for every image, so that a mean at each of their positions is the value "
                "that is there: use Mask('mean')"
            )
        match donor:
            case UnitDonor(unit=lender):
                width = len(model.site(lender).columns(lender))
                for unit in units:
                    if len(model.site(unit).columns(unit)) != width:
                        raise UnitError(
                            f"cannot swap a unit of width {len(model.site(unit).columns(unit))} with {lender}, which "
                            f"has width {width}"
                        )
            case ExampleDonor() if tokens.example:
                raise ProbeError(
                    "a text whose tokens are masked in turn is several inputs, which no other example lends its values "
                    "to: swap with the counterpart or another unit, or use another property"
                )
            case ExampleDonor():
                drawn(tokens, donor)
            case MeanDonor(per_position=True):
                there = max(len(encode(model.tokenizer, example.text, "")) for example in reference.examples)
                needed = max(map(len, tokens.inputs))
                if there < needed:
                    raise ProbeError(
                        f"a mean per position needs reference inputs as long as the probe's: they have {there} "
                        f"tokens, the probe has {needed}"
                    )


def drawn(tokens: Tokens, donor: ExampleDonor) -> list[int]:
    """For each example, the other example of the same length whose values it takes.

    The two halves of a pair gap, x and x', each draw among themselves.
    """
    count = len(tokens.inputs)
    half = count // 2 if isinstance(tokens.property, PairGap) else count
    return [other for start in range(0, count, half) for other in _among(tokens, range(start, start + half), donor)]


def _among(tokens: Tokens, rows: range, donor: ExampleDonor) -> list[int]:
    lengths = {row: len(tokens.inputs[row]) for row in rows}
    if donor.index is not None:
        if not 0 <= donor.index < len(rows):
            raise ProbeError(f"there is no example {donor.index}: the probe has {len(rows)}")
        lender = rows[donor.index]
        odd = next((row for row in rows if lengths[row] != lengths[lender]), None)
        if odd is not None:
            raise ProbeError(
                f"example {donor.index} has {lengths[lender]} tokens and example {odd - rows.start} has "
                f"{lengths[odd]}: a swap with another example needs equal lengths"
            )
        return [lender] * len(rows)
    rng = random.Random(donor.seed)
    drawn = []
    for row in rows:
        others = [other for other in rows if other != row and lengths[other] == lengths[row]]
        if not others:
            raise ProbeError(
                f"example {row - rows.start} ({tokens.probe.examples[row].text!r}) is the only one with {lengths[row]} "
                "tokens: resampling needs another of the same length"
            )
        drawn.append(rng.choice(others))
    return drawn
