"""Draws of all that is in a model, data included: what its checks begin with.

`DCPC.init` takes whatever is not given to be latent, and refuses latents with bounds that depend on
their parents. Those of data may.
"""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from aif_dcpc.inference.model.ancestral import AncestorSampler
from aif_dcpc.inference.model.clamping import add_particle_axis, check_names, sizes
from aif_dcpc.inference.model.conditioning import build_state
from aif_dcpc.inference.model.elements import gathered
from aif_dcpc.inference.model.factor_graph import FactorGraph
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.isolation import no_validation, rng_from
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.supports import fixed, has_bounds, support_of


class JointDraws:
    """One draw of every random site, site -> `values` `(K, B, [T,] *event)` in its own support.

    Args:
        factor_graph: the model.
        num_particles: K.
        data: site -> `(B, [T,] *event)`, inputs included, as `DCPC.init` takes them.
        anew: sites that are drawn although data are given.
        batch_size, length: B and T, where the data do not tell.
        generator: source of randomness.

    Raises:
        ClampError: for unknown sites, missing inputs and shapes that do not fit.
        ModelError: for a kernel that cannot be drawn from.
    """

    def __init__(
        self,
        factor_graph: FactorGraph,
        num_particles: int,
        data: Mapping[str, Tensor],
        *,
        anew: Collection[str] = (),
        batch_size: int | None,
        length: int | None,
        generator: torch.Generator | None,
    ) -> None:
        sites = factor_graph.model.sites
        given, _ = gathered(sites, dict(data), {})
        check_names(factor_graph, given, {}, {})
        size = sizes(sites, given, batch_size, length)
        told = {n: add_particle_axis(sites[n], x, *size) for n, x in given.items() if n not in anew}
        draws = rng_from(generator)
        self.sampler = AncestorSampler(factor_graph, num_particles, *size, told, draws=draws)
        with no_validation(), torch.no_grad():
            self.values = self.sampler.sample()

    def have_moving_bounds(self, names: Iterable[str]) -> bool:
        """Tell whether the bounds of any of these sites depend on its parents."""
        return any(self._has_moving_bounds(name) for name in names)

    def _has_moving_bounds(self, name: str) -> bool:
        """Tell whether a law of a site has bounds that differ between particles, data or slices."""
        for factor in self.sampler.drawn_factors(name):
            law = self.sampler.distributions[factor.key]
            if has_bounds(support_of(law)) and fixed(law, factor.site.batch_ndim) is None:
                return True
        return False


def cloud_at(
    factor_graph: FactorGraph,
    values: Mapping[str, Tensor],
    observed: Collection[str],
    generator: torch.Generator | None,
) -> State:
    """Make the cloud at given values of all sites, inputs and `observed` sites at the first particle's.

    Args:
        factor_graph: the model.
        values: site -> `(K or 1, B or 1, [T,] *event)`, in its own support.
        observed: names of random sites.
        generator: source of randomness.
    """
    sites = factor_graph.model.sites
    told = {n: x for n, x in values.items() if n in observed or sites[n].kind == "input"}
    latents = {name: value for name, value in values.items() if name not in told}
    with no_validation(), torch.no_grad():
        state = build_state(
            factor_graph,
            max(value.shape[0] for value in values.values()),
            {name: _datum(sites[name], value) for name, value in told.items()},
            masks={},
            do={},
            batch_size=max(value.shape[1] for value in values.values()),
            length=_length(sites, values),
            generator=generator,
            particles=latents,
        )
    return state.with_values(state.conditioning.unconstrain(latents))


def _length(sites: Mapping[str, Site], values: Mapping[str, Tensor]) -> int | None:
    """Return the number of slices that values cover; None without time."""
    slices = [x.shape[2] * p for n, x in values.items() if (p := sites[n].period) is not None]
    return min(slices, default=None)


def _datum(site: Site, value: Tensor) -> Tensor:
    """Return the first particle's value as data, `(B, [T,] *event)`; those of a global site `(*event)`."""
    return value[0, 0] if site.scope == "global" else value[0]
