"""Expected free energy where outcomes cannot be listed: closed forms, else nested Monte Carlo.

What K particles predict is the mixture of their laws. With o_i drawn from p_i, the law of particle
i:

    ambiguity        = -mean_i ln p_i(o_i)
    information gain = mean_i [ln p_i(o_i) - ln mean_j p_j(o_i)]
    risk             = -mean_i ln C(o_i) - information gain - ambiguity

A mean of logarithms of means is biased by 1/K; the jackknife takes that out and gives the standard
error, of draws and of particles together. No estimate of information from K particles exceeds ln K:
where it comes close, `resolved` is False, and more particles are the remedy.

    >>> _ = torch.manual_seed(0)
    >>> law = torch.distributions.Normal(torch.randn(2000), 1.0)  # I(o; state) = ln(2) / 2
    >>> outcomes = law.sample()
    >>> found = sampled_terms(law.log_prob(outcomes[:, None]), torch.zeros(2000))
    >>> error = found.terms["information_gain"] - 0.5 * math.log(2)
    >>> bool(error.abs() < 4 * found.standard_errors["information_gain"])
    True

References: Rainforth et al. (2018), "On nesting Monte Carlo estimators"; Efron and Stein (1981) for
    the jackknife; Da Costa et al. (2020), equations 6 to 9.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError

UNRESOLVED = 1.0  # nats below ln K from which on an estimate of information is not to be trusted


class ResolutionWarning(UserWarning):
    """Particles are too few for the information that outcomes are expected to give."""


@dataclass(frozen=True)
class SampledTerms:
    """Terms of expected free energy with their Monte Carlo errors.

    Attributes:
        terms: "risk", "ambiguity", "information_gain", "novelty", "neg_expected_log_preference" and
            "total", `(*batch)` nats each; total = risk + ambiguity - novelty.
        standard_errors: the same names, `(*batch)` nats.
        resolved: `(*batch)` whether there are particles enough for the information.
    """

    terms: Mapping[str, Tensor]
    standard_errors: Mapping[str, Tensor]
    resolved: Tensor


def sampled_terms(
    crossed: Tensor, log_preference: Tensor, given_states: Tensor | None = None
) -> SampledTerms:
    """Estimate the terms of one step from K particles, for any kind of outcome.

    Args:
        crossed: `(K, K, *batch)` nats: entry (i, j) is the log density of particle i's outcome
            under particle j's law, as `engine.imagine(..., cross_log_prob=...)` gives it; summed over
            modalities that are independent given the particle.
        log_preference: `(K, *batch)` of the outcomes, nats.
        given_states: `(K, K, *batch)`, the same under particle i's states with particle j's
            parameters. With these information is told apart: about parameters it is novelty.
            Without, all that is told counts as information gain.

    Raises:
        AgentError: for shapes that do not fit, or fewer than 3 particles.

    Warns:
        ResolutionWarning: particles are too few for the information that is expected.
    """
    number = crossed.shape[0]
    if crossed.ndim < 2 or crossed.shape[1] != number or number < 3:
        raise AgentError(
            f"crossed log densities: expected (K, K, *batch) of at least 3 particles, found "
            f"{tuple(crossed.shape)}."
        )
    if log_preference.shape != crossed.shape[1:]:
        raise AgentError(
            f"log preferences of outcomes: expected {tuple(crossed.shape[1:])}, found "
            f"{tuple(log_preference.shape)}."
        )
    crossed = crossed.double()
    own = crossed.diagonal(dim1=0, dim2=1).movedim(-1, 0)
    whole = mixture_surprise(crossed)
    given = None if given_states is None else mixture_surprise(given_states.double())
    draws = _draws(own, log_preference.double(), whole, given)
    found = {name: jackknifed(*pair) for name, pair in draws.items()}
    told = found["information_gain"][0] + found["novelty"][0]
    resolved = told < math.log(number) - UNRESOLVED
    if not bool(resolved.all()):
        warnings.warn(
            f"outcomes are expected to tell {float(told.max()):.2f} nats, of which {number} "
            f"particles resolve {math.log(number):.2f}: use more particles.",
            ResolutionWarning,
            stacklevel=2,
        )
    return SampledTerms(
        {name: value for name, (value, _) in found.items()},
        {name: error for name, (_, error) in found.items()},
        resolved,
    )


Statistic = tuple[Tensor, Tensor]  # of all particles `(*batch)`, and without each `(K, *batch)`


def _draws(
    own: Tensor, log_preference: Tensor, whole: Statistic, given: Statistic | None
) -> dict[str, Statistic]:
    """Every term of all particles, and of all but each."""
    ambiguity = scaled(average(own), -1.0)
    cross = scaled(average(log_preference), -1.0)
    parts = whole if given is None else given
    novelty = minus(parts, ambiguity) if given is not None else scaled(ambiguity, 0.0)
    gain = minus(whole, ambiguity if given is None else parts)
    risk = minus(minus(cross, gain), ambiguity)
    return {
        "risk": risk,
        "ambiguity": ambiguity,
        "information_gain": gain,
        "novelty": novelty,
        "neg_expected_log_preference": cross,
        "total": minus(minus(cross, gain), novelty),
    }


def average(values: Tensor) -> Statistic:
    """Average values `(K, *batch)` over all particles, and over all but each."""
    total = values.sum(0)
    return total / len(values), (total - values) / (len(values) - 1)


def scaled(statistic: Statistic, factor: float) -> Statistic:
    """Multiply a statistic by a number; infinities times 0 are 0."""
    if factor == 0:
        return torch.zeros_like(statistic[0]), torch.zeros_like(statistic[1])
    return factor * statistic[0], factor * statistic[1]


def minus(first: Statistic, second: Statistic) -> Statistic:
    """Subtract one statistic from another."""
    return first[0] - second[0], first[1] - second[1]


def mixture_surprise(crossed: Tensor) -> Statistic:
    """-mean_i ln mean_j p_j(o_i) over all particles, and without each of them, nats."""
    number = len(crossed)
    own = crossed.diagonal(dim1=0, dim2=1).movedim(-1, 0)
    total = crossed.logsumexp(1)
    share = torch.exp(crossed - total.unsqueeze(1))
    # the mixture at i without j; i's own law is always part of it
    rest = total.unsqueeze(1) + torch.log1p(-share.clamp(max=1 - 1e-15))
    rest = torch.maximum(rest, own.unsqueeze(1))
    others = 1.0 - torch.eye(number, dtype=crossed.dtype, device=crossed.device)
    others = others.reshape(number, number, *[1] * (crossed.ndim - 2))
    without = -(others * rest).sum(0) / (number - 1) + math.log(number - 1)
    return -total.mean(0) + math.log(number), without


def jackknifed(whole: Tensor, without: Tensor) -> Statistic:
    """Take the bias of order 1/K out of a statistic, and find its standard error."""
    number = len(without)
    mean = without.mean(0)
    value = number * whole - (number - 1) * mean
    spread = (without - mean).square().sum(0)
    error = ((number - 1) / number * spread).sqrt()
    infinite = whole.isinf()
    return torch.where(infinite, whole, value), torch.where(infinite, 0.0, error)


# -- Gaussian outcomes -----------------------------------------------------------------------------


def gaussian_terms(
    covariance: Tensor,
    mean: Tensor,
    noise: Tensor,
    preferred_mean: Tensor,
    preferred_covariance: Tensor,
) -> dict[str, Tensor]:
    """Return the terms of one step exactly, where outcome and preference are Gaussian.

    o = state + noise, both Gaussian; for o = H s + noise give H P H' as covariance of the state.

    Args:
        covariance: `(*batch, D, D)` of the state as the outcome shows it.
        mean: `(*batch, D)` of the outcome.
        noise: `(*batch, D, D)` covariance of the outcome given the state.
        preferred_mean, preferred_covariance: `(D,)` and `(D, D)` of the preference.

    Returns:
        "risk", "ambiguity", "information_gain", "neg_expected_log_preference" and "total",
            `(*batch)` nats.

    Raises:
        AgentError: a covariance is not positive definite.
    """
    dimension = mean.shape[-1]
    outcome = covariance + noise
    wanted = _factor("preferred covariance", preferred_covariance)
    half_log_noise = _half_log_det(_factor("noise", noise))
    half_log_outcome = _half_log_det(_factor("covariance + noise", outcome))
    constant = 0.5 * dimension * math.log(2 * math.pi)
    away = mean - preferred_mean
    second = outcome + away.unsqueeze(-1) * away.unsqueeze(-2)
    trace = torch.cholesky_solve(second, wanted).diagonal(dim1=-2, dim2=-1).sum(-1)
    cross = constant + _half_log_det(wanted) + 0.5 * trace
    ambiguity = constant + 0.5 * dimension + half_log_noise
    gain = half_log_outcome - half_log_noise
    risk = cross - constant - 0.5 * dimension - half_log_outcome
    return {
        "risk": risk,
        "ambiguity": ambiguity,
        "information_gain": gain,
        "neg_expected_log_preference": cross,
        "total": risk + ambiguity,
    }


def _factor(what: str, covariance: Tensor) -> Tensor:
    """Return the lower Cholesky factor of a covariance."""
    factor, wrong = torch.linalg.cholesky_ex(covariance)
    if bool(wrong.any()):
        raise AgentError(f"{what}: expected a positive definite covariance; add to its diagonal.")
    return factor


def _half_log_det(factor: Tensor) -> Tensor:
    """Return half the log determinant of what a Cholesky factor is of."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
