"""Random draws that torch lacks, or makes less safely: indices by Gumbel noise, Dirichlet vectors of tiny counts."""

import torch
from torch import Tensor

TINY = 1e-30


def gumbel_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard Gumbel noise of a shape, in the dtype and on the device of `like`."""
    uniform = torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)
    return -torch.log(-torch.log(uniform.clamp_min(torch.finfo(like.dtype).tiny)))


def gumbel_argmax(logits: Tensor, generator: torch.Generator | None, dim: int = -1) -> Tensor:
    """Draw an index along `dim` with probability proportional to exp(logits), without normalising them.

    Reference: Maddison, Tarlow, Minka 2014 (arXiv 1411.0030).

    Args:
        logits: unnormalised log probabilities; minus infinity is never drawn.
        generator: source of randomness.
        dim: the axis of the values to choose from.

    Returns:
        indices, in the shape of `logits` without the axis `dim`.
    """
    return (logits + gumbel_noise(tuple(logits.shape), logits, generator)).argmax(dim)


def dirichlet(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from Dirichlet distributions along the last axis, safe for tiny concentrations.

    Gamma(a) = Gamma(a + 1) U^(1/a) in log space, so that a draw never underflows to a row of zeros.
    """
    gamma = torch._standard_gamma(concentration + 1, generator=generator)
    uniform = torch.rand(
        concentration.shape,
        dtype=concentration.dtype,
        device=concentration.device,
        generator=generator,
    )
    log_gamma = gamma.clamp_min(TINY).log()
    log_power = uniform.clamp_min(TINY).log() / concentration
    return torch.softmax(log_gamma + log_power, -1)
