"""Does the posterior lie where numbers cannot tell a value from the edge of its support?

What lies beyond the last number that can be told from the edge is cut off. How much that is shows in
front of it: towards an edge, densities of coordinates fall like exponentials, so that what two strips
in front of it hold tells, as a geometric series, what should lie behind.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Transform

from aif_dcpc.inference.model.bijections import at_edge, span
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.unrounded import is_unrounded
from aif_dcpc.inference.queries.law import factor_law

MAX_SHARE = 0.05
STRIP = 0.25  # width of a strip in front of an edge, in units of the edge's coordinate
ENOUGH = 1000  # coordinates, from which a series is read off
LEAST_IN_STRIP = 0.005


def cut_off(state: State, coordinates: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Say which sites have mass beyond what numbers can tell, one sentence each with its remedy.

    Args:
        state: the cloud, for what the coordinates are of.
        coordinates: by site, unconstrained, `(N, B or 1, [T,] *event)`: draws of one posterior.
    """
    said = []
    for name, bijection in state.conditioning.bijections.items():
        value = coordinates.get(name)
        if value is None or _is_harmless(state, name, bijection):
            continue
        share = float(mass_beyond(bijection, value).max())
        if share > MAX_SHARE:
            said.append(
                f"site {name!r}: {share:.0%} of its mass lies closer to the edge of its support "
                f"than {value.dtype} can tell, where the posterior is cut off; "
                "clamp torch.float64 data, or give it a prior with less mass at the edge."
            )
    return tuple(said)


def mass_beyond(bijection: Transform, coordinate: Tensor) -> Tensor:
    """Share of coordinates `(N, B, *rest)` that lie, or should lie, beyond the span, `(B, *rest)`."""
    beyond = at_edge(bijection, coordinate).double().mean(0)
    low, high = span(bijection, coordinate)
    if len(coordinate) < ENOUGH or high == float("inf"):
        return beyond
    return torch.maximum(beyond, _series(coordinate, high) + _series(-coordinate, -low))


def _series(coordinate: Tensor, edge: float) -> Tensor:
    """Share that two strips in front of the upper edge foretell beyond it; 1 where it does not fall."""
    width = STRIP * edge
    near = ((coordinate < edge) & (coordinate >= edge - width)).double().mean(0)
    before = ((coordinate < edge - width) & (coordinate >= edge - 2 * width)).double().mean(0)
    ratio = (near / before.clamp_min(1e-12)).clamp_max(0.99)
    foretold = (near * ratio / (1 - ratio)).clamp_max(1.0)
    return torch.where(near < LEAST_IN_STRIP, torch.zeros_like(near), foretold)


def _is_harmless(state: State, name: str, bijection: Transform) -> bool:
    """Whether a site's own density is told by coordinates alone, and nothing else reads its value."""
    conditioning = state.conditioning
    own = [f for f in conditioning.factors_of(name, state.length) if f.site.name == name]
    readers = len(conditioning.factors_of(name, state.length)) - len(own)
    if readers or any(argument.lag for f in own for argument in f.inputs):
        return False
    with no_validation(), torch.no_grad():
        return all(is_unrounded(factor_law(state, f, state.natural), bijection) for f in own)
