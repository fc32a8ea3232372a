"""Means and covariances of a sampler, their errors, and how large Monte Carlo lets those be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.experiments.exactness.case import Case
from aif_dcpc.inference.queries.mixing import effective_sample_size

MAX_ALL_PAIRS = (
    100  # above this many coordinates only covariances up to one slice apart are compared
)
NONE = (math.nan, math.nan)


@dataclass(frozen=True)
class Row:
    """One method on one case; `nan` where it does not apply.

    Attributes:
        case, method: names.
        mean_error, mean_se: largest error and largest standard error of a mean, posterior sd.
        covariance_error, covariance_se: the same of a variance or cross-covariance, products of two
            posterior sd.
        variance_ratio: mean of found over exact variances.
        z: largest error in its own Monte Carlo standard errors, over all means, variances and
            covariances.
        evidence_error, evidence_se: of the mean over several estimates, nats, and its standard
            error.
        evidence_worst: largest error of a single estimate, nats.
        seconds: processor time for the posterior.
    """

    case: str
    method: str
    mean_error: float = math.nan
    mean_se: float = math.nan
    covariance_error: float = math.nan
    covariance_se: float = math.nan
    variance_ratio: float = math.nan
    z: float = math.nan
    evidence_error: float = math.nan
    evidence_se: float = math.nan
    evidence_worst: float = math.nan
    seconds: float = math.nan


def pairs_of(case: Case) -> tuple[Tensor, Tensor]:
    """Indices of the covariances that are compared: all, or in a long series those up to one slice apart."""
    size = len(case.mean)
    rows, columns = torch.triu_indices(size, size)
    if size > MAX_ALL_PAIRS:
        width = size // next(iter(case.data.values())).shape[1]
        near = rows // width + 1 >= columns // width
        rows = rows[near]
        columns = columns[near]
    return rows, columns


def flatten(case: Case, particles: Mapping[str, Tensor]) -> Tensor:
    """Latents side by side, `(S, K, B, D)`, from `(S, K, B, [T,] *event)` with S the sweeps."""
    parts = [particles[n].double() for n in case.sites]
    return torch.cat([x.reshape(*x.shape[:3], -1) for x in parts], -1)


class Moments:
    """Running means of every chain: of deviations from the exact mean, and of their products."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.pairs = pairs_of(case)
        self.deviation = case.covariance.diagonal().clamp_min(1e-300).sqrt()
        self.exact = case.covariance[self.pairs]
        self.scale = self.deviation[self.pairs[0]] * self.deviation[self.pairs[1]]
        self.count = 0.0
        self.first = torch.zeros(())
        self.second = torch.zeros(())

    def add(self, draws: Tensor, weights: Tensor | None = None) -> None:
        """Take in `(S, chains, D)`, weighted by `(S, chains)` where draws are not equally good."""
        deviations = draws - self.case.mean
        weighted = deviations if weights is None else deviations * weights.unsqueeze(-1)
        self.first = self.first + weighted.sum(0)
        self.second = self.second + self._products(weighted, deviations)
        self.count += len(draws) if weights is None else float(weights[:, 0].sum())

    def _products(self, left: Tensor, right: Tensor) -> Tensor:
        """Products of the compared pairs summed over draws, `(chains, pairs)`."""
        rows, columns = self.pairs
        if left.shape[-1] > MAX_ALL_PAIRS:
            total = torch.zeros(left.shape[1], len(rows)).double()
            for a, b in zip(left, right, strict=True):
                total += a[:, rows] * b[:, columns]
            return total
        return (left.permute(1, 2, 0) @ right.transpose(0, 1))[:, rows, columns]

    def errors(self) -> tuple[Tensor, Tensor]:
        """Relative errors of means and covariances over chains, and standard errors, `(D + pairs,)`."""
        means = self.first / self.count / self.deviation
        products = (self.second / self.count - self.exact) / self.scale
        both = torch.cat([means, products], -1)
        return both.mean(0), both.std(0) / math.sqrt(len(both))

    def errors_of_trace(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The same from few long chains `(S, chains, D)`: standard errors by their autocorrelation."""
        deviations = (draws - self.case.mean) / self.deviation
        products = (
            deviations[..., self.pairs[0]] * deviations[..., self.pairs[1]]
            - self.exact / self.scale
        )
        both = torch.cat([deviations, products], -1)
        spread = both.flatten(0, 1).std(0)
        return both.mean((0, 1)), spread / effective_sample_size(both.unsqueeze(2))[0].sqrt()

    def row(
        self,
        method: str,
        found: tuple[Tensor, Tensor],
        seconds: float,
        evidences: list[float] | None = None,
    ) -> Row:
        """Sum up errors and standard errors `(D + pairs,)`."""
        error, spread = found
        size = len(self.deviation)
        own = error[size:][self.pairs[0] == self.pairs[1]]
        missed = torch.tensor(evidences or NONE).double() - self.case.log_evidence
        return Row(
            case=self.case.name,
            method=method,
            mean_error=float(error[:size].abs().max()),
            mean_se=float(spread[:size].max()),
            covariance_error=float(error[size:].abs().max()),
            covariance_se=float(spread[size:].max()),
            variance_ratio=float((1 + own - error[:size].square()).mean()),
            z=float((error.abs() / spread.clamp_min(1e-12)).max()),
            evidence_error=float(missed.mean()),
            evidence_se=float(missed.std() / math.sqrt(len(missed))),
            evidence_worst=float(missed.abs().max()),
            seconds=seconds,
        )
