"""A model whose posterior and evidence are known, and the two ways to know them: conditioning and mixing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from aif_dcpc.inference import GraphicalModel


@dataclass(frozen=True)
class Case:
    """One model, its data and what is exactly true of it.

    Attributes:
        name: for tables.
        model: the graph.
        data: one data point, B = 1.
        sites: latents, in the order in which their flattened values make up `mean`.
        mean, covariance: of the posterior, `(D,)` and `(D, D)`.
        log_evidence: nats.
        setup: `masks`, `do` for `engine.init`.
        moves: overrides of the engine's moves.
        temper: whether the posterior has modes far apart.
        counterfactual: where given, `mean` and `covariance` are those of the sites' values had
            these been set instead.
    """

    name: str
    model: GraphicalModel
    data: Mapping[str, Tensor]
    sites: tuple[str, ...]
    mean: Tensor
    covariance: Tensor
    log_evidence: float
    setup: Mapping[str, Any] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)
    temper: bool = False
    counterfactual: Mapping[str, Tensor] = field(default_factory=dict)


def condition(
    weights: Tensor, noise: Tensor, observed: Sequence[int], values: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Posterior of the unobserved part of x = weights x + Normal(0, diag(noise^2)), and log p(observed)."""
    inverse = torch.linalg.inv(torch.eye(len(noise)).double() - weights)
    joint = inverse @ torch.diag(noise.double().square()) @ inverse.mT
    seen = torch.tensor(list(observed), dtype=torch.long)
    hidden = torch.tensor(
        [i for i in range(len(noise)) if i not in set(observed)], dtype=torch.long
    )
    across = joint[hidden][:, seen]
    inner = joint[seen][:, seen]
    gain = torch.linalg.solve(inner, across.mT).mT
    covariance = joint[hidden][:, hidden] - gain @ across.mT
    evidence = (
        0.0
        if not len(seen)
        else float(
            MultivariateNormal(torch.zeros(len(seen)).double(), inner).log_prob(values.double())
        )
    )
    return gain @ values.double(), covariance, evidence


def mixture_moments(
    log_weights: Tensor, means: Tensor, covariances: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Mean and covariance of a mixture with unnormalised log weights `(N,)`, and the log normaliser."""
    share = log_weights.double().softmax(0)
    mean = share @ means
    spread = means - mean
    covariance = torch.einsum("n,nij->ij", share, covariances) + torch.einsum(
        "n,ni,nj->ij", share, spread, spread
    )
    return mean, covariance, float(torch.logsumexp(log_weights.double(), 0))
