"""What a property is: the number P that is read off a model's output, and which positions and tokens it reads.

Every P here is a weighted sum, over the logits it reads, of one small function of them; nothing else is computed.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icp.errors import ProbeError

if TYPE_CHECKING:
    from icp.examples import Example
    from icp.probes import Tokens


@dataclass(frozen=True, eq=False)
class Bound:
    """A property bound to tokens, with `read` running over everything that is read of all examples.

    `positions[read]` counts tokens of the example from its first attended one; `targets[read]` are columns of the
    logits, that is, indices into `tokens`, or token ids where `tokens` is None and the whole vocabulary is read. Of a
    model without a head they are vectors, which its output is compared with.
    """

    example: Int[Tensor, " read"]
    positions: Int[Tensor, " read"]
    targets: Int[Tensor, "read target"] | Float[Tensor, "read d_model"]
    weights: Float[Tensor, " read"]
    tokens: Int[Tensor, " token"] | None


class Property(ABC):
    """Base class. `unit` is what P is measured in; a larger P is more of what the name says.

    A subclass is a frozen dataclass, so that its label tells it from another.
    """

    unit: str

    @property
    def label(self) -> str:
        return repr(self)

    def continuation(self, example: "Example") -> str:
        """Text that is appended to the input, so that its tokens can be scored."""
        return ""

    @abstractmethod
    def targets(self, tokens: "Tokens", example: int, tokenizer: Any) -> list[tuple[int, float, list[int]]]:
        """What is read of one example: (position, weight, token ids) each."""

    @abstractmethod
    def of(
        self,
        logits: Float[Tensor, "read token"],
        targets: Int[Tensor, "read target"] | Float[Tensor, "read token"],
    ) -> Float[Tensor, " read"]:
        """The contribution of each read, from its logits."""

    reads_whole_vocabulary = True

    def bind(self, tokens: "Tokens", tokenizer: Any, device: torch.device) -> Bound:
        """Find what to read; raises `ProbeError` where an example lacks an answer or a label that P needs."""
        example, positions, weights, targets = [], [], [], []
        for index in range(len(tokens.inputs)):
            for position, weight, ids in self.targets(tokens, index, tokenizer):
                example.append(index)
                positions.append(position)
                weights.append(weight)
                targets.append(ids)
        if len({len(ids) for ids in targets}) != 1:
            raise ProbeError(f"{self.label} needs equally many answers in every example")
        columns = torch.tensor(targets)
        read = None
        if not self.reads_whole_vocabulary:
            read, columns = columns.unique(return_inverse=True)
        return Bound(
            torch.tensor(example, device=device), torch.tensor(positions, device=device), columns.to(device),
            torch.tensor(weights, dtype=torch.float64, device=device), None if read is None else read.to(device),
        )  # fmt: skip
