"""How far an output is from another: Kullback-Leibler, Jensen-Shannon, cosine, and InfoNCE."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from icp.errors import IcpError

OUTPUT = ("kl", "js")
REPRESENTATION = ("cosine", "contrastive")
DIVERGENCES = OUTPUT + REPRESENTATION


def require_divergence(name: str) -> None:
    """Raise `IcpError` for a divergence that there is not."""
    if name not in DIVERGENCES:
        raise IcpError(f"unknown divergence {name!r}: use one of {', '.join(DIVERGENCES)}")


def kl(target: Float[Tensor, "read token"], logits: Float[Tensor, "read token"]) -> Float[Tensor, " read"]:
    """KL(softmax(target) || softmax(logits)) in nats."""
    log_p, log_q = target.log_softmax(-1), logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def js(target: Float[Tensor, "read token"], logits: Float[Tensor, "read token"]) -> Float[Tensor, " read"]:
    """The Jensen-Shannon divergence of the two softmax distributions in nats, log 2 at most."""
    log_p, log_q = target.log_softmax(-1), logits.log_softmax(-1)
    log_middle = torch.logaddexp(log_p, log_q) - math.log(2)
    halves = log_p.exp() * (log_p - log_middle) + log_q.exp() * (log_q - log_middle)
    return halves.sum(-1) / 2


def cosine(target: Float[Tensor, "read d_model"], other: Float[Tensor, "read d_model"]) -> Float[Tensor, " read"]:
    """1 - the cosine of two representations."""
    return 1 - torch.nn.functional.cosine_similarity(target, other, dim=-1)


def contrastive(
    target: Float[Tensor, "read d_model"], other: Float[Tensor, "read d_model"], temperature: float
) -> Float[Tensor, " read"]:
    """InfoNCE (van den Oord et al. 2018) in nats: of all `target` rows, each row of `other` should be nearest its own.

    Rows are compared by their cosine over `temperature`; log(rows) is what chance gives.
    """
    normed = torch.nn.functional.normalize(target, dim=-1), torch.nn.functional.normalize(other, dim=-1)
    similarity = normed[1] @ normed[0].T / temperature
    return similarity.logsumexp(-1) - similarity.diagonal()
