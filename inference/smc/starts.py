"""A start that can move: prior draws at the edge of a support, or where data are impossible, are replaced.

Any start is sound for moves that keep the posterior; one where a density is infinite, or zero, is
never left. A draw at the edge (float32 draws of Gamma(.001, .001) are almost all zero) is drawn
anew within (-2, 2) of its unconstrained coordinates, and so is one that lies far out where the
prior of a root has no scale of its own (Beta(.01, .01)); a lineage of probability zero (a bound that
depends on a latent) becomes a copy of one that is possible.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.distributions import Transform

from aif_dcpc.inference.model.bijections import at_edge
from aif_dcpc.inference.model.conditioning import with_particles
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.resampling import is_coupled
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.trial import scored
from aif_dcpc.inference.smc.annealing import select

WIDTH = 2.0
WIDE = 5.0  # of coordinates, in which a support's ordinary values have about unit size
NEAR = 0.75


def started_at(
    state: State, particles: Mapping[str, Tensor], generator: torch.Generator | None
) -> State:
    """Put a cloud of prior draws at given particles, as they are; of other sites none lies at an edge.

    Args:
        state: the cloud.
        particles: latent site -> `(K, B, [T,] *event)` in its own support; nothing is drawn anew
            where there are none.
        generator: source of randomness.

    Raises:
        ClampError: for sites that are not latent, or shapes that do not fit.
    """
    moved = with_particles(state, particles)
    if not particles:
        return moved
    left = {name for name, value in state.values.items() if moved.values[name] is value}
    return _off_the_edge(moved, left, generator)


def with_possible_start(
    state: State, generator: torch.Generator | None, *, is_drawn: bool
) -> State:
    """Return a cloud whose particles can all move (reads from the device: call it before sweeps).

    One that has been swept, or is tempered and stands for the prior, is returned as it is.

    Args:
        state: the cloud.
        generator: source of randomness.
        is_drawn: whether its particles are draws from the prior; those that somebody chose stay where
            they are, at an edge too, if they are possible.

    Raises:
        ModelError: for a kernel that cannot score a value.
    """
    if state.sweeps or state.inverse_temperature is not None:
        return state
    with no_validation(), torch.no_grad():
        names: Collection[str] = state.values if is_drawn else ()
        return _possible(scored(_off_the_edge(state, names, generator)))


def _off_the_edge(state: State, names: Collection[str], generator: torch.Generator | None) -> State:
    """Draw anew the coordinates of some sites that lie at an edge."""
    changes = {}
    bijections = state.conditioning.bijections
    for name in filter(names.__contains__, bijections):
        bijection = bijections[name]
        value = state.values[name]
        stuck = _near_edge(bijection, value)
        if not state.conditioning.site(name).parents:
            stuck = stuck | _astray(value)
        if name in state.masks:  # what is observed stays
            stuck = stuck & ~expand_trailing(state.masks[name], value)
        if bool(stuck.any()):
            noise = torch.rand(
                value.shape, dtype=value.dtype, device=value.device, generator=generator
            )
            changes[name] = torch.where(stuck, (2 * noise - 1) * WIDTH, value)
    return state.with_values(changes) if changes else state


def _near_edge(bijection: Transform, value: Tensor) -> Tensor:
    """Tell which coordinates lie in the last quarter of the span: samplers stop short of the edge too."""
    return at_edge(bijection, value / NEAR)


def _astray(value: Tensor) -> Tensor:
    """Tell which coordinates lie far out where a prior is nearly flat in its coordinates over a wide range.

    A likelihood pulls them back by a constant slope, on which curvatures say nothing.
    """
    spread = value.double().flatten(0, 1).std(0, correction=0)
    return (spread > WIDE) & (value.abs() > WIDE)


def _possible(state: State) -> State:
    """Replace lineages of probability zero by copies of others, where there are any others."""
    height = log_joint(state)
    if is_coupled(state):
        height = height.sum(1, keepdim=True)
    possible = torch.isfinite(height)
    if bool(possible.all()):
        return state
    return select(state, _sources(possible))


def _sources(possible: Tensor) -> Tensor:
    """Give every particle itself if it is possible `(K, B)`, else one of those that are, in turn."""
    own = torch.arange(len(possible), device=possible.device)[:, None].expand_as(possible)
    first = possible.int().argsort(dim=0, descending=True, stable=True)
    number = possible.sum(0).clamp_min(1)
    return torch.where(possible | ~possible.any(0), own, first.gather(0, own % number))
