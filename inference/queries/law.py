"""The distribution of a site given its parents, at the particles of a cloud."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.ancestral import expand_to
from aif_dcpc.inference.model.densities import aligned_inputs, factor_slices
from aif_dcpc.inference.model.elements import Element, element_at
from aif_dcpc.inference.model.factor_graph import Factor
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.supports import base_law


def law(state: State, site: str) -> Distribution:
    """Return p(site | parents) at the particles, whether the site is latent or observed.

    Args:
        state: the cloud.
        site: a stochastic site.

    Returns:
        a distribution of batch shape `(K, B)`, or `(K, B, T)` with time, followed by what the
        kernel's own batch shape adds; B is 1 for a global site. Slices that belong to the site's
        `initial` kernel are left out.

    Raises:
        ModelError: for an unknown site, or one without a distribution.
    """
    place = element_at(state.conditioning.factor_graph.model.sites, site)
    if place is not None:
        return _law_of_element(state, place)
    kind = state.conditioning.site(site).kind
    if kind != "stochastic":
        raise ModelError(f"{kind} site {site!r} has no distribution: ask for a stochastic site.")
    usual = state.conditioning.factor_graph.factors_by_key[site]
    with no_validation(), torch.no_grad():
        return factor_law(state, usual, state.natural)


def _law_of_element(state: State, place: Element) -> Distribution:
    """The law of one element of a site given what it reads.

    Raises:
        ModelError: where the site's law has none for single elements.
    """
    whole: Any = base_law(law(state, place.site))
    if not hasattr(whole, "statement"):
        raise ModelError(
            f"site {place.site!r} has one law for all its elements: ask for that of "
            f"{place.site!r}, and take element {place.index} of its draws."
        )
    values = state.constrained(place.site).unbind(2)
    with no_validation(), torch.no_grad():
        found: Distribution = whole.statement(place.index, values)
    return found


def factor_law(state: State, factor: Factor, natural: Mapping[str, Tensor]) -> Distribution:
    """Return a factor's distribution on all its slices.

    Args:
        state: gives the sizes of the cloud.
        factor: the factor.
        natural: site -> values in its own support, `(K or 1, B or 1, [T,] *event)`.

    Returns:
        a distribution of batch shape `(K, B, [T])`; B is 1 for a global site.
    """
    start, stop = factor_slices(state, factor)
    batch_size = 1 if factor.site.scope == "global" else state.batch_size
    time = () if factor.site.period is None else (stop - start,)
    distribution = factor.distribution(aligned_inputs(state, factor, natural))
    batch_shape = (state.num_particles, batch_size, *time)
    return expand_to(distribution, batch_shape, root=not factor.args)
