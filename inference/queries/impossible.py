"""Data of probability zero: refused by name, where sweeps would go on at a probability of about 1e-7.

Torch's `Bernoulli` and `Categorical` clamp their probabilities, so that a chain always has a finite
density and somewhere to go. Where no particle is possible after sweeping, and none can be whatever
the discrete latents are, the data have no posterior.
"""

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.densities import (
    active_factors,
    aligned_inputs,
    factor_slices,
    is_continuous,
    log_density,
)
from aif_dcpc.inference.model.elimination import eliminate, obstacle
from aif_dcpc.inference.model.factor_graph import Factor
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.resampling import is_coupled
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.supports import exact_log_prob


def refuse_impossible(state: State) -> None:
    """Refuse a swept cloud in which the data have probability zero (reads from the device).

    Raises:
        ClampError: names the site, the slice and the datum.
    """
    if state.inverse_temperature is not None:
        return
    with no_validation(), torch.no_grad():
        ruled_out = {f: x for f in _clamped_factors(state) if (x := _is_impossible(state, f)).any()}
        if not ruled_out:
            return
        lost = _lost_data(state, list(ruled_out.values()))
        if bool(lost.any()) and _cannot_be_helped(state, lost):
            raise ClampError(_sentence(state, ruled_out, lost))


def _clamped_factors(state: State) -> list[Factor]:
    """Factors of sites that are discrete or observed, given nothing continuous that is latent.

    A probability that is computed from continuous latents is zero by rounding more often than by rule.
    """
    conditioning = state.conditioning
    return [
        f
        for f in active_factors(state)
        if not any(is_continuous(conditioning, a.site) for a in f.inputs)
    ]


def _is_impossible(state: State, factor: Factor) -> Tensor:
    """Where a factor's density is zero, `(K, B or 1, [T])`."""
    inputs = aligned_inputs(state, factor)
    slices = factor_slices(state, factor)
    return log_density(state, factor, inputs, *slices, density=exact_log_prob) == -torch.inf


def _lost_data(state: State, ruled_out: list[Tensor]) -> Tensor:
    """Data of which no particle is possible, `(B or 1,)`."""
    parts = [x.flatten(2).any(2) if x.ndim > 2 else x for x in ruled_out]
    shape = torch.broadcast_shapes(*(x.shape for x in parts))
    any_part = torch.stack([x.expand(shape) for x in parts]).any(0)
    if is_coupled(state):
        any_part = any_part.any(1, keepdim=True)
    return any_part.all(0)


def _cannot_be_helped(state: State, lost: Tensor) -> bool:
    """Whether no values of the discrete latents are possible either, where these can be summed out."""
    discrete = [n for n in state.conditioning.latent if n in state.conditioning.discrete]
    if not discrete:
        return True
    if obstacle(state, discrete):
        return False
    own, shared = eliminate(state, discrete).log_normaliser()
    total = own.sum(1, keepdim=True) + shared if is_coupled(state) else own + shared
    return bool(((total == -torch.inf).all(0) & lost).any())


def _sentence(state: State, ruled_out: dict[Factor, Tensor], lost: Tensor) -> str:
    """Name the factor, slice and datum at which most particles fail."""
    datum = int(lost.int().argmax())
    counts = {}
    for factor, x in ruled_out.items():
        mine = x if len(lost) == 1 or x.shape[1] == 1 else x[:, datum : datum + 1]
        counts[factor] = mine.double().mean((0, 1))
    factor = max(counts, key=lambda f: float(counts[f].max()))
    where = ""
    if factor.site.period is not None:
        first, _ = factor_slices(state, factor)
        where = f", slice {first + int(counts[factor].argmax())}"
    return (
        f"site {factor.site.name!r}{where}: the data have probability zero whatever the latents are; change "
        "the value or the kernel, mark it as missing with masks=, or give every value a small probability."
    )
