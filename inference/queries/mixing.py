"""How well chains agree, and how fast they forget: split R-hat and effective sample size, without ranks.

Reference: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021 (arXiv 1903.08008).
"""

import math

import torch
from torch import Tensor


def _split(trace: Tensor) -> Tensor:
    """Halves of every particle's trace as chains of their own, `(S // 2, 2 K, B, *event)`."""
    half = len(trace) // 2
    return torch.cat([trace[:half], trace[-half:]], 1)


def _moments(chains: Tensor) -> tuple[Tensor, Tensor]:
    """Mean variance within chains, and the pooled estimate of the posterior variance."""
    within = chains.var(0).mean(0)
    return within, within * (len(chains) - 1) / len(chains) + chains.mean(0).var(0)


def split_r_hat(trace: Tensor) -> Tensor:
    """Square root of pooled over within-chain variance, halves of particles as chains, `(B, *event)`."""
    within, pooled = _moments(_split(trace))
    ratio = (pooled / within.clamp_min(1e-300)).sqrt()
    return torch.where(_is_constant(trace, pooled), torch.ones_like(pooled), ratio)


def _is_constant(trace: Tensor, variance: Tensor) -> Tensor:
    """Whether a coordinate has the same value throughout, but for rounding."""
    return variance <= 1e-12 * trace.square().mean((0, 1)).clamp_min(1e-300)


def autocovariance(chains: Tensor) -> Tensor:
    """Biased autocovariances at all lags `(S, ...)` of chains `(S, C, ...)`, their mean over chains."""
    centred = chains - chains.mean(0)
    length = len(chains)
    spectrum = torch.view_as_real(torch.fft.rfft(centred, n=2 * length, dim=0))
    power = spectrum.square().mean(1).sum(-1)  # the inverse is linear: once for all chains
    return torch.fft.irfft(power, n=2 * length, dim=0)[:length] / length


def effective_sample_size(trace: Tensor) -> Tensor:
    """Independent draws that would give the same error of the mean, `(B, *event)`, all particles together.

    Geyer's initial monotone sequence on the autocorrelation of all chains (Vehtari et al. 2021,
    equations 10 to 13). What never moves has few: it may be stuck.
    """
    chains = _split(trace)
    within, pooled = _moments(chains)
    covariances = autocovariance(chains) * len(chains) / (len(chains) - 1)
    correlation = 1 - (within - covariances) / pooled.clamp_min(1e-300)
    correlation[0] = 1
    even = len(chains) // 2 * 2
    pairs = correlation[0:even:2] + correlation[1:even:2]
    positive = (pairs > 0).to(pairs.dtype).cumprod(0)
    time = -1 + 2 * (pairs.cummin(0).values * positive).sum(0)
    total = math.prod(chains.shape[:2])
    return total / time.clamp_min(1 / math.log10(max(total, 10)))
