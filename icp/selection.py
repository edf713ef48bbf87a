"""What was decided: units with a role and the constants the role needs, bound to an architecture and a tokenizer."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from icp.errors import ArtefactError, UnitError
from icp.files import writing_file
from icp.interventions import affine
from icp.model import Model
from icp.sweep.joint import require_disjoint, require_reached
from icp.units import Unit

FORMAT, VERSION = "icp-selection", 1
ROLES = ("prune", "scale", "erase", "regularise", "keep")
CONSTANTS = ("shift", "along", "read")
Vectors = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Choice:
    """One unit and its role.

    `prune` sets its values to `shift` (zeros, or a mean: one number a dimension of the unit); `scale` multiplies them
    by `alpha`; `erase` takes away what lies `along` some directions, as far as the values are `read` by as many others:
    a -> a - (a . read) along + shift (`icp.erasure`). `regularise` and `keep` change nothing here, they tell
    fine-tuning what to do.
    """

    unit: Unit
    role: str = "prune"
    alpha: float = 0.0
    shift: tuple[float, ...] = ()
    along: Vectors = ()
    read: Vectors = ()

    def __post_init__(self):
        if self.role not in ROLES:
            raise UnitError(f"unknown role {self.role!r} of {self.unit}: use one of {', '.join(ROLES)}")
        if self.alpha != 0 and self.role != "scale":
            raise UnitError(f"alpha={self.alpha} of {self.unit} goes with the role 'scale', not with {self.role!r}")
        if self.shift and self.role not in ("prune", "erase"):
            raise UnitError(f"a shift of {self.unit} goes with the role 'prune' or 'erase', not with {self.role!r}")
        if bool(self.along) != (self.role == "erase") or len(self.along) != len(self.read):
            raise UnitError(
                f"{self.unit} with the role {self.role!r} has {len(self.along)} directions read by {len(self.read)}: "
                "the role 'erase' has as many of both, no other role has any"
            )
        if self.role == "scale" and not math.isfinite(self.alpha):
            raise UnitError(f"{self.unit} cannot be scaled by {self.alpha}: give a finite alpha")
        if self.cuts and self.unit.kind in ("query", "key"):
            raise UnitError(
                f"{self.unit} cannot be cut from weights, since a {self.unit.kind} writes nothing into the residual "
                "stream: cut its head, blocks.L.attn.hook_z[head], or measure it with hooks"
            )

    @property
    def cuts(self) -> bool:
        return self.role in ("prune", "scale", "erase")

    @property
    def kept(self) -> Float[Tensor, "width width"]:
        """What erasing multiplies the values by, in float64: 1 - read^T along."""
        along, read = (torch.tensor(rows, dtype=torch.float64) for rows in (self.along, self.read))
        return torch.eye(along.shape[1], dtype=torch.float64) - read.T @ along


@dataclass(frozen=True)
class Selection:
    """Choices, and the binding (digests of architecture, tokenizer and weights) of the model they were made on."""

    choices: tuple[Choice, ...]
    binding: dict[str, str]
    origin: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def units(self) -> list[Unit]:
        return [choice.unit for choice in self.choices]

    def role(self, role: str) -> list[Unit]:
        """The units that have this role."""
        if role not in ROLES:
            raise UnitError(f"unknown role {role!r}: use one of {', '.join(ROLES)}")
        return [choice.unit for choice in self.choices if choice.role == role]

    @classmethod
    def of(
        cls, model: Model, units: "list[Unit | str]", role: str = "prune", alpha: float | None = None
    ) -> "Selection":
        """Units chosen by hand, all in one role; `prune` here means zero.

        Raises `UnitError` for a unit that is not there, and for two that cover the same values.
        """
        if (role == "scale") != (alpha is not None):
            raise UnitError(f"role {role!r} with alpha={alpha}: give an alpha with 'scale', and with no other role")
        choices = tuple(Choice(Unit.parse(unit), role, alpha or 0.0) for unit in units)
        require_disjoint(model, [choice.unit for choice in choices])
        return cls(choices, model.binding, {"made": "by hand"})

    def require_fit(self, model: Model, weights: str = "same") -> None:
        """Raise `ArtefactError` where the selection belongs to another model, naming both values.

        Architecture and tokenizer must be the same; the weights too, unless `weights="any"`. Raises `UnitError` where
        two of its cuts cover the same values.
        """
        if weights not in ("same", "any"):
            raise ArtefactError(f"unknown weights={weights!r}: use 'same' or 'any'")
        binding = model.binding
        keys = ("architecture", "tokenizer", "weights") if weights == "same" else ("architecture", "tokenizer")
        for key in keys:
            if self.binding.get(key) != binding[key]:
                hint = "; weights='any' uses it all the same" if key == "weights" else ""
                raise ArtefactError(
                    f"this selection was made on another {key} ({self.binding.get(key)}) "
                    f"than the model's ({binding[key]}){hint}"
                )
        for choice in self.choices:
            width = len(model.holding(choice.unit).site(choice.unit).columns(choice.unit))
            for values in filter(None, (choice.shift, *choice.along, *choice.read)):
                if len(values) != width:
                    raise ArtefactError(f"{choice.unit} has {width} values, the selection holds {len(values)} for it")
        require_disjoint(model, [choice.unit for choice in self.choices if choice.cuts])

    @contextmanager
    def applied(self, model: Model, weights: str = "same") -> Iterator[None]:
        """Hook every `prune` and `scale` choice into the running model, at all positions: what `icp.prune` cuts.

        What representations are compared with (`icp.Similarity`) is made without any hook. So of a tower alone, a
        selection with units of the other one raises `UnitError`: hooking them would change nothing.
        """
        self.require_fit(model, weights)
        for choice in self.choices:
            if choice.cuts:
                require_reached(model, choice.unit)
        with hooked(model, self.choices):
            yield

    def save(self, path: "str | Path") -> Path:
        """Write one safetensors file; its header says what it is."""
        about = {"binding": self.binding, "origin": self.origin}
        return write_choices(path, FORMAT, VERSION, self.choices, {}, about)

    @classmethod
    def load(cls, path: "str | Path") -> "Selection":
        """Read what `save` wrote; raises `ArtefactError` for a foreign, truncated or newer file."""
        choices, _, about = read_choices(path, FORMAT, VERSION)
        return cls(choices, about["binding"], about["origin"])


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


@contextmanager
def hooked(model: Model, choices: Sequence[Choice]) -> Iterator[None]:
    """Hook these choices' cuts into the running model, at all positions."""
    by_site: dict[str, list[Choice]] = {}
    for choice in choices:
        if choice.cuts:
            by_site.setdefault(choice.unit.site, []).append(choice)
    with ExitStack() as stack:
        for name, mine in by_site.items():
            columns, alpha, shift = constants(model, mine)
            kept = erased(model, mine)

            def edit(values, columns=columns, alpha=alpha, shift=shift, kept=kept):
                new = values.clone()
                for where, matrix in kept:
                    new[:, :, where] = values[:, :, where] @ matrix.to(values)
                new[:, :, columns] = affine(new[:, :, columns], alpha, shift)
                return new

            stack.callback(model.holding(mine[0].unit).sites[name].hook(edit).remove)
        yield


def constants(model: Model, choices: list[Choice]) -> tuple[Tensor, Tensor, Tensor]:
    """Columns, alpha and shift, one entry a column, for choices of one site."""
    columns, alphas, shifts = [], [], []
    for choice in choices:
        mine = model.holding(choice.unit).site(choice.unit).columns(choice.unit)
        columns += mine
        alphas += [1.0 if choice.role == "erase" else choice.alpha] * len(mine)
        shifts += choice.shift or [0.0] * len(mine)
    place = dict(device=model.device, dtype=model.dtype)
    return torch.tensor(columns, device=model.device), torch.tensor(alphas, **place), torch.tensor(shifts, **place)


def erased(model: Model, choices: list[Choice]) -> list[tuple[list[int], Tensor]]:
    """The columns of each choice that erases, and what their values are multiplied by."""
    each = ((choice, model.holding(choice.unit)) for choice in choices if choice.role == "erase")
    return [(list(one.site(c.unit).columns(c.unit)), c.kept.to(model.device)) for c, one in each]


def write_choices(
    path: "str | Path", kind: str, version: int, choices: tuple[Choice, ...], tensors: dict[str, Tensor], about: dict
) -> Path:
    """One safetensors file: the constants and other `tensors` as data, choices and `about` as JSON in its header."""
    from safetensors.torch import save_file

    constants = {
        f"{name}.{i}": torch.tensor(values, dtype=torch.float64)
        for i, choice in enumerate(choices)
        for name in CONSTANTS
        if (values := getattr(choice, name))
    }
    about = about | {"choices": [[str(c.unit), c.role, c.alpha] for c in choices]}
    with writing_file(path) as work:
        save_file(constants | tensors, work, {"format": kind, "version": str(version), "about": json.dumps(about)})
    return Path(path)


def read_choices(
    path: "str | Path", kind: str, version: int
) -> tuple[tuple[Choice, ...], dict[str, Tensor], dict[str, Any]]:
    """What `write_choices` wrote; raises `ArtefactError` saying what the file is instead."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"no file at {path}: give the path of a saved {kind.removeprefix('icp-')}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is truncated or not a safetensors file ({error}): write it again") from error
    if header.get("format") != kind:
        raise ArtefactError(f"{path} holds {header.get('format', 'something else')!r}, not {kind!r}")
    if header.get("version") != str(version):
        raise ArtefactError(f"{path} has version {header.get('version')}, this icp reads version {version}")
    choices = []
    try:
        about = json.loads(header["about"])
        for number, (unit, role, alpha) in enumerate(about["choices"]):
            found = [tensors.pop(f"{name}.{number}", None) for name in CONSTANTS]
            constants = [() if values is None else _tuples(values.tolist()) for values in found]
            choices.append(Choice(Unit.parse(unit), role, alpha, *constants))
        lacking = {"binding", "origin"} - set(about)
    except (KeyError, TypeError, ValueError, UnitError) as error:
        raise ArtefactError(f"{path} is damaged ({error!r}): write it again") from error
    if lacking:
        raise ArtefactError(f"{path} is damaged (it lacks its {', '.join(sorted(lacking))}): write it again")
    return tuple(choices), tensors, about
