"""The inputs that drive a unit: where in a probe's texts it is most active, token by token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icp.alignment import differing
from icp.errors import ArtefactError, IcpError, UnitError
from icp.files import read_json, write_json
from icp.images import Image, Patches, load_images, save_images
from icp.model import Model
from icp.probes import Probe
from icp.reading import PLACES, reading
from icp.sites import Site
from icp.sweep.donors import run_capturing
from icp.sweep.plan import require_finite
from icp.tokenizing import Input, encode
from icp.units import Unit

FORMAT, VERSION = "icp-drivers", 2
TOKENS_A_PASS = 1024


@dataclass(frozen=True)
class DrivingInput:
    """One text, or an image by its name, as the model's tokens, and the unit's activation at each of them.

    `cue` are the positions of tokens that the text's counterpart does not have (of several counterparts, any of them).
    Of an image, its pixels are there too, and the height and width of a patch.
    """

    text: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    cue: tuple[int, ...] = ()
    image: Image | None = None
    patch: tuple[int, int] | None = None

    @property
    def stored(self) -> dict[str, Any]:
        """As JSON keeps it, without the pixels."""
        told = {"text": self.text, "tokens": self.tokens, "activations": self.activations, "cue": self.cue}
        return told | ({} if self.patch is None else {"patch": self.patch})

    @property
    def peak(self) -> int:
        """The token at which the activation is largest in absolute value."""
        return int(np.abs(self.activations).argmax())


@dataclass(frozen=True)
class Drivers:
    """For each unit, by its address, the texts that drive it, strongest first.

    An activation is the unit's own signed value in the clean run; for a head, which has `d_head` values, it is the norm
    of what the head writes into the residual stream, and for a query or key the norm of the vector, so never negative.
    `header` holds the provenance. `reads` says of heads where the attention of a text's last token goes, as shares that
    sum to 1 (`icp.reading`), over the texts that have a cue.
    """

    inputs: dict[str, tuple[DrivingInput, ...]]
    header: dict[str, Any]
    reads: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def units(self) -> list[Unit]:
        return [Unit.parse(unit) for unit in self.inputs]

    def save(self, path: "str | Path") -> Path:
        """Write JSON, and pixels beside it as `Probe.save` does."""
        save_images(path, (driving.image for found in self.inputs.values() for driving in found))
        inputs = {unit: [driving.stored for driving in found] for unit, found in self.inputs.items()}
        return write_json(path, FORMAT, VERSION, {"header": self.header, "inputs": inputs, "reads": self.reads})

    @classmethod
    def load(cls, path: "str | Path") -> "Drivers":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        stored, read = read_json(path, FORMAT, VERSION), partial(_stored_input, load_images(path))
        try:
            inputs = {str(Unit.parse(u)): tuple(map(read, found)) for u, found in stored["inputs"].items()}
            reads = {str(Unit.parse(u)): {p: float(told[p]) for p in PLACES} for u, told in stored["reads"].items()}
            return cls(inputs, dict(stored["header"]), reads)
        except (KeyError, TypeError, ValueError, AttributeError, UnitError) as error:
            raise ArtefactError(f"{path} is damaged ({error}): write it again with Drivers.save") from error


def _stored_input(images: Mapping[str, Image], row: dict[str, Any]) -> DrivingInput:
    tokens, activations = tuple(row["tokens"]), tuple(float(a) for a in row["activations"])
    cue = tuple(int(position) for position in row["cue"])
    if len(tokens) != len(activations) or not tokens:
        raise ValueError(f"{len(tokens)} tokens but {len(activations)} activations")
    if any(not 0 <= position < len(tokens) for position in cue):
        raise ValueError(f"{len(tokens)} tokens but a cue at {cue}")
    image, patch = images.get(row["text"]), row.get("patch")
    if (image is None) != (patch is None):
        raise ValueError(f"of {row['text']!r} there are not both, the pixels and the size of a patch")
    if patch is not None:
        patch = tuple(int(side) for side in patch)
        if len(patch) != 2 or min(patch) < 1 or 1 + np.prod(np.floor_divide(image.shape[1:], patch)) != len(tokens):
            raise ValueError(f"{len(tokens)} tokens but patches of {patch} of {list(image.shape)} pixels")
    return DrivingInput(row["text"], tokens, activations, cue, image, patch)


def drivers(model: Model, probe: Probe, units: "Sequence[Unit | str]", top: int = 5) -> Drivers:
    """The `top` texts of the probe, x and x' alike, in which each unit is most active in absolute value.

    A causal model gives the same activation wherever the tokens up to there are the same. So of the texts that are
    strongest in one such context one is listed, and more of them only where too few others remain.

    Raises `UnitError` for units the model does not have, `NotFiniteError` where an activation is NaN or infinite.
    """
    units = list(dict.fromkeys(Unit.parse(unit) for unit in units))
    if not units:
        raise UnitError("no units were given: try the units of a ranking's head")
    if top < 1:
        raise IcpError(f"top={top} asks for no inputs: use 1 or more")
    if model.family.abreast:
        raise IcpError("the captions are the same for every image: load the text tower alone, and give it other texts")
    wanted = {model.site(unit).name for unit in units}
    sites = [site for name, site in model.sites.items() if name in wanted]
    both = (text for example in probe.examples for text in (example.text, example.counterpart))
    texts = list(dict.fromkeys(text for text in both if text is not None))
    rows = [encode(model.tokenizer, text, "") for text in texts]
    activations = _activations(model, rows, sites, units)
    contexts = _contexts(rows)
    cues = _cues(probe, dict(zip(texts, rows)))
    tokens = [_token_texts(model.tokenizer, row) for row in rows]
    patch = model.tokenizer.size if model.family.pixels else None
    inputs = {}
    for unit, values in zip(units, activations):
        found = ((texts[t], tokens[t], tuple(values[t].tolist())) for t in _strongest(values, contexts)[:top])
        inputs[str(unit)] = tuple(
            DrivingInput(str(x), names, each, cues[x], x if isinstance(x, Image) else None, patch)
            for x, names, each in found
        )
    header = {"model": model.name, "binding": model.binding, "texts": len(texts)}
    cued = [place for place, text in enumerate(texts) if cues[text]]
    heads = [unit for unit in units if unit.kind == "head"]
    reads = reading(model, [rows[i] for i in cued], [cues[texts[i]] for i in cued], heads)
    return Drivers(inputs, header, reads)


def _activations(model: Model, rows: list[list[int]], sites: list[Site], units: list[Unit]) -> list[list[np.ndarray]]:
    """For each unit and text, one number a token."""
    found: list[list[np.ndarray]] = [[] for _ in units]
    at_once = max(1, TOKENS_A_PASS // max(map(len, rows)))
    with model.frozen():
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            values = run_capturing(model, model.pad(some), sites)
            for unit, each in zip(units, found):
                activation = _activation(model.site(unit), unit, values[unit.site]).double().cpu()
                lengths = map(len, some)
                kept = [activation[row, :length] for row, length in enumerate(lengths)]
                require_finite(torch.cat(kept), lambda i, unit=unit: f"an activation of {unit}")
                each += [values.numpy() for values in kept]
    return found


def _activation(site: Site, unit: Unit, values: Float[Tensor, "row pos width"]) -> Float[Tensor, "row pos"]:
    columns = list(site.columns(unit))
    if unit.kind == "head":
        return (values[:, :, columns] @ site.outgoing[columns]).norm(dim=-1)
    if unit.kind in ("query", "key"):
        return values[:, :, columns].norm(dim=-1)
    return values[:, :, columns[0]]


def _cues(probe: Probe, rows: dict[Input, list[int]]) -> dict[Input, tuple[int, ...]]:
    """For each text, the positions of tokens that one of its counterparts does not have."""
    found: dict[Input, set[int]] = {text: set() for text in rows}
    for example in probe.examples:
        if example.counterpart is not None:
            for text, other in ((example.text, example.counterpart), (example.counterpart, example.text)):
                found[text].update(differing(rows[text], rows[other]))
    return {text: tuple(sorted(positions)) for text, positions in found.items()}


def _contexts(rows: list[list[int]]) -> list[list[int]]:
    """A number for every token of every row, the same for two tokens where everything up to them is the same."""
    numbers: dict[tuple[int, int], int] = {}
    found = []
    for row in rows:
        context = -1
        found.append([context := numbers.setdefault((context, token), len(numbers)) for token in row])
    return found


def _strongest(values: list[np.ndarray], contexts: list[list[int]]) -> list[int]:
    """Texts by their strongest token; those whose strongest token is in a context already taken come after the rest.

    The latter are ordered by their strongest token in a context that is still free.
    """
    places = [(text, position) for text, row in enumerate(values) for position in range(len(row))]
    order = np.argsort(-np.abs(np.concatenate(values)), kind="stable")
    found: dict[int, None] = {}
    taken: set[int] = set()
    for peaks_only in (True, False):
        seen: set[int] = set()
        for text, position in (places[i] for i in order):
            if text in found or (peaks_only and text in seen):
                continue
            seen.add(text)
            if contexts[text][position] not in taken:
                found[text] = None
                taken.add(contexts[text][position])
    return list(found)


def _token_texts(tokenizer: Any, row: list[int]) -> tuple[str, ...]:
    """Each token as readable text; SentencePiece's leading space, which decoding drops, is put back.

    Of an image, where each patch lies.
    """
    if isinstance(tokenizer, Patches):
        return tuple(tokenizer.place(position) for position in range(len(row)))
    found = []
    for token, piece in zip(row, tokenizer.convert_ids_to_tokens(row)):
        text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
        found.append(" " + text if piece.startswith("▁") and not text.startswith(" ") else text)
    return tuple(found)
