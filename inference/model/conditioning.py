"""Clamping data: which sites are observed, latent or set, and a first cloud from the prior."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform
from torch.distributions.constraints import Constraint

from aif_dcpc.inference.errors import ClampError, ModelError
from aif_dcpc.inference.model.ancestral import AncestorSampler
from aif_dcpc.inference.model.bijections import bijection_for
from aif_dcpc.inference.model.clamping import (
    add_particle_axis,
    by_element,
    check_names,
    check_tensor,
    check_values,
    device_of,
    impute_placeholder,
    mask_with_particle_axis,
    sizes,
)
from aif_dcpc.inference.model.densities import SPLIT
from aif_dcpc.inference.model.elements import gathered, gathered_whole, refilled
from aif_dcpc.inference.model.factor_graph import FactorGraph
from aif_dcpc.inference.model.isolation import DrawsFrom, no_validation, rng_from
from aif_dcpc.inference.model.state import PRIOR, Conditioning, State
from aif_dcpc.inference.model.supports import (
    base_law,
    fixed,
    has_bounds,
    integer_bounds,
    is_real,
    same,
    support_of,
    unlike_supports,
)
from aif_dcpc.misspelt import unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Clamped:
    """What is given of a model, every value and mask with an axis for particles in front.

    Attributes:
        values: site -> `(1, B, [T,] *event)`, placeholders where nothing is observed.
        observed: for partly given sites, `(1, B, [T,] *elements)` True where `values` hold.
        inferred: partly given sites that are latent elsewhere, since others read them.
        drawn: partly given sites that a first cloud draws where they are not observed.
        do: sites that are set by hand.
    """

    values: Mapping[str, Tensor]
    observed: Mapping[str, Tensor]
    inferred: frozenset[str]
    drawn: frozenset[str]
    do: frozenset[str]


def build_state(
    factor_graph: FactorGraph,
    num_particles: int,
    data: dict[str, Tensor],
    *,
    masks: dict[str, Tensor],
    do: dict[str, Tensor],
    batch_size: int | None,
    length: int | None,
    generator: torch.Generator | None,
    particles: Mapping[str, Tensor] | None = None,
) -> State:
    """Check the data, sort the sites into roles and draw the latents from the prior, but for `particles`."""
    data, masks = gathered(factor_graph.model.sites, data, masks)
    do, masks = gathered(factor_graph.model.sites, do, masks)
    check_names(factor_graph, data, masks, do)
    batch, time = sizes(factor_graph.model.sites, {**data, **do}, batch_size, length)
    clamped = _clamp(factor_graph, data, masks, do, (batch, time))
    values = check_values(factor_graph, clamped.values, clamped.observed, do=clamped.do)
    observed = {n: m for n, m in clamped.observed.items() if n in clamped.drawn}
    draws = rng_from(generator)
    sampler = AncestorSampler(factor_graph, num_particles, batch, time, values, observed, draws)
    drawn = {**sampler.sample(), **(particles or {})}
    values = check_values(factor_graph, values, clamped.observed, drawn, do=clamped.do)
    natural = {**drawn, **{n: v for n, v in values.items() if n not in clamped.drawn}}
    for name in clamped.drawn - clamped.inferred:
        natural[name] = drawn[name][:1]
    conditioning = _condition(factor_graph, clamped, sampler, natural)
    for name, mask in observed.items():
        _check_elements(conditioning, sampler, name, mask)
    return _first_cloud(conditioning, clamped.observed, natural, (num_particles, batch, time))


def _clamp(
    factor_graph: FactorGraph,
    data: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    do: Mapping[str, Tensor],
    sizes: tuple[int, int],
) -> Clamped:
    """Give data and masks an axis for particles, and see what of partly given sites is inferred."""
    sites = factor_graph.model.sites
    values = {n: add_particle_axis(sites[n], v, *sizes) for n, v in {**data, **do}.items()}
    observed = {n: mask_with_particle_axis(sites[n], m, values[n]) for n, m in masks.items()}
    for name, mask in observed.items():
        values[name] = impute_placeholder(values[name], mask)
    inferred = {n for n in observed if n in do or has_readers(factor_graph, n)}
    drawn = inferred | {
        n for n, mask in observed.items() if by_element(sites[n], mask) or not bool(mask.any())
    }
    return Clamped(values, observed, frozenset(inferred), frozenset(drawn), frozenset(do))


def _first_cloud(
    conditioning: Conditioning,
    masks: Mapping[str, Tensor],
    natural: dict[str, Tensor],
    sizes: tuple[int, int, int],
) -> State:
    """Make the cloud at values `(K or 1, B, [T,] *event)` in the sites' own supports."""
    num_particles, batch, time = sizes
    values = conditioning.unconstrain(natural)
    for name in conditioning.latent:
        value = values[name]
        values[name] = value.expand(num_particles, *value.shape[1:]).clone()
    weights = torch.zeros(
        num_particles, batch, device=device_of(natural), dtype=_float_type(natural)
    )
    ancestors = torch.arange(num_particles, device=weights.device)[:, None]
    return State(
        conditioning=conditioning,
        values=values,
        masks=masks,
        log_weights=weights,
        ancestors=ancestors.expand(num_particles, batch),
        length=time,
        log_evidence=weights.new_zeros(batch),
        opened_length=time,
        doubled_length=time,
        origin=PRIOR,
    )


def small_cloud(factor_graph: FactorGraph) -> State | None:
    """Draw one particle over a few slices; None where that needs more than the model."""
    slices = 2 + max((f.start for f in factor_graph.factors), default=0)
    periods = [s.period for s in factor_graph.model.sites.values() if s.period is not None]
    length = slices * max(periods) if periods else None
    options: dict[str, Any] = {"masks": {}, "do": {}, "batch_size": 1, "length": length}
    try:
        with no_validation(), torch.no_grad():
            return build_state(
                factor_graph, 1, {}, **options, generator=torch.Generator().manual_seed(0)
            )
    except Exception:  # a kernel may fail in any way; `init` and `check_model` tell which
        return None


def with_particles(state: State, particles: Mapping[str, Tensor]) -> State:
    """Put a cloud at given particles `(K, B, [T,] *event)`, in the sites' own supports.

    Raises:
        ClampError: for sites that are not latent, or shapes that do not fit.
    """
    if not particles:
        return state
    latent = state.conditioning.latent
    natural = {}
    sites = state.conditioning.factor_graph.model.sites
    for name, value in refilled(sites, particles, state.constrained).items():
        if name not in latent:
            raise ClampError(f"particles: {unknown_name('latent site', name, latent)}")
        expected = state.constrained(name).shape
        if value.shape != expected:
            raise ClampError(
                f"particles of site {name!r}: expected {tuple(expected)}, "
                f"found {tuple(value.shape)}."
            )
        integer = name in state.conditioning.discrete
        natural[name] = value if integer else value.to(state.values[name])
    return state.with_values(state.conditioning.unconstrain(natural))


def has_readers(factor_graph: FactorGraph, name: str) -> bool:
    """Tell whether a site is read by others, or by itself at later slices."""
    reads_itself = getattr(factor_graph.model.sites[name].kernel, "is_chain", False)
    around = factor_graph.factors_of[name]
    return reads_itself or any(f.site.name != name or len(f.lags(name)) > 1 for f in around)


def interventions(state: State, do: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check interventions and give them their leading axes, `(1, B, [T,] *event)`.

    Raises:
        ClampError: for unknown or deterministic sites, or shapes that do not fit.
    """
    sites = state.conditioning.factor_graph.model.sites
    found = {}
    for name, value in gathered_whole(sites, do).items():
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
        site = sites[name]
        if site.kind == "deterministic":
            raise ClampError(
                f"deterministic site {name!r} cannot be set: set a stochastic site instead."
            )
        check_tensor(name, value)
        found[name] = add_particle_axis(site, value, state.batch_size, state.length)
        event = state.constrained(name).shape[site.batch_ndim :]
        if found[name].shape[site.batch_ndim :] != event:
            raise ClampError(
                f"do: site {name!r} has events of shape {tuple(event)}, found {tuple(value.shape)}."
            )
    return found


def intervene(state: State, do: Mapping[str, Tensor]) -> State:
    """Set sites by hand: their own densities are cut, and latent ones stop moving.

    Weights become equal. The particles of the other sites stay where they are: sweep them towards
    the new posterior.
    """
    if not do:
        return state
    action = interventions(state, do)
    before = state.conditioning
    after = _without(before, set(action))
    masks = {n: m for n, m in state.masks.items() if n not in action}
    weights = torch.zeros_like(state.log_weights)
    moved = state.with_values(action).replace(masks=masks, log_weights=weights)
    if after.latent == before.latent and after.intervened == before.intervened:
        return moved
    return moved.replace(conditioning=after).reopened()


def _without(conditioning: Conditioning, action: set[str]) -> Conditioning:
    """Take sites that are set by hand out of the latents, and cut their densities."""

    def others(by_site: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in by_site.items() if name not in action}

    inputs = {name for name in action if conditioning.site(name).kind == "input"}
    return replace(
        conditioning,
        latent=tuple(name for name in conditioning.latent if name not in action),
        bijections=others(conditioning.bijections),
        domains=others(conditioning.domains),
        supports=others(conditioning.supports),
        discrete=conditioning.discrete - action,
        intervened=conditioning.intervened | (action - inputs),
        partly_intervened=conditioning.partly_intervened - action,
    )


# -- what is known of each latent ------------------------------------------------------------------


@dataclass(frozen=True)
class LatentSupport:
    """What the distributions of one latent site say of its values; see `Conditioning`."""

    discrete: bool
    bounds: tuple[float, float] | None
    values: Tensor | None
    domain: Constraint | None
    bijection: Transform | None


def _condition(
    factor_graph: FactorGraph,
    clamped: Clamped,
    sampler: AncestorSampler,
    natural: Mapping[str, Tensor],
) -> Conditioning:
    """Say which sites are latent and what values they can take."""
    sites = factor_graph.model.sites
    latent = _latents(factor_graph, clamped)
    known = {
        name: support
        for name, laws in _laws(factor_graph, latent, sampler).items()
        if (support := _support(name, laws, sites[name].batch_ndim)) is not None
    }
    return Conditioning(
        factor_graph=factor_graph,
        latent=latent,
        bijections=_told({n: s.bijection for n, s in known.items()}),
        supports=_told({n: s.values for n, s in known.items()}),
        discrete=frozenset(n for n, s in known.items() if s.discrete),
        bounds=_told({n: s.bounds for n, s in known.items()}),
        event_dims={n: v.ndim - sites[n].batch_ndim for n, v in natural.items()},
        intervened=clamped.do - frozenset(clamped.observed),
        partly_intervened=clamped.do & frozenset(clamped.observed),
        domains=_told({n: s.domain for n, s in known.items()}),
    )


def _latents(factor_graph: FactorGraph, clamped: Clamped) -> tuple[str, ...]:
    """Name the random sites that are not given, or only in part."""
    given = clamped.values.keys() - clamped.inferred
    sites = factor_graph.model.sites.values()
    return tuple(s.name for s in sites if s.kind == "stochastic" and s.name not in given)


def _told(by_site: Mapping[str, T | None]) -> dict[str, T]:
    """Leave out the sites of which nothing is known."""
    return {name: value for name, value in by_site.items() if value is not None}


def _support(name: str, laws: list[Distribution], batch_ndim: int) -> LatentSupport | None:
    """Put together what a site's distributions say; None where they tell no support.

    Raises:
        ModelError: if the support of a continuous site, or the kind of support, differs from one
            distribution to another.
    """
    support = support_of(laws[0])
    if support is None:
        return None
    kept = [fixed(law, batch_ndim) for law in laws]
    alike = same(kept)
    discrete = bool(support.is_discrete)
    if not alike and not (discrete and has_bounds(support)):
        raise ModelError(unlike_supports(name, support, laws[-1]))
    bounds = integer_bounds([support_of(law) for law in laws], kept) if discrete else None
    values = _enumerate(base_law(laws[0])) if discrete and alike else None
    bijection = None if discrete else bijection_for(name, laws, kept[0])
    return LatentSupport(discrete, bounds, values, kept[0], bijection)


def _check_elements(
    conditioning: Conditioning, sampler: AncestorSampler, name: str, mask: Tensor
) -> None:
    """Refuse a mask of elements where a kernel, or a bijection, does not treat them one by one."""
    if not by_element(conditioning.site(name), mask):
        return
    domain = conditioning.domains.get(name)
    coupled = domain is not None and domain.event_dim > 0 and not is_real(domain)
    apart = _independent_axes(sampler, name)
    continuous = name in conditioning.latent and name not in conditioning.discrete
    scored = not continuous or name in conditioning.partly_intervened
    if coupled or (scored and mask.ndim > apart):
        raise ClampError(
            f"mask of site {name!r}: its kernel does not score the elements of an event one "
            f"by one; mask whole events, or {SPLIT}"
        )


def _independent_axes(sampler: AncestorSampler, name: str) -> int:
    """Count the axes of a site along which its kernels score elements one by one."""
    laws = [sampler.distributions[factor.key] for factor in sampler.drawn_factors(name)]
    return min(len(base_law(law).batch_shape) for law in laws)


def _laws(
    factor_graph: FactorGraph, latent: tuple[str, ...], sampler: AncestorSampler
) -> dict[str, list[Distribution]]:
    """Collect the distributions from which each latent was drawn, by initial and usual kernel.

    Where a support has bounds, also those of other draws: the bounds may depend on parents.
    """
    found = {n: [sampler.distributions[f.key] for f in sampler.drawn_factors(n)] for n in latent}
    if any(has_bounds(support_of(law)) for laws in found.values() for law in laws):
        again = AncestorSampler(factor_graph, 4, *sampler.sizes, sampler.given, sampler.observed)
        with DrawsFrom(0):
            again.sample()
        for name, laws in found.items():
            laws += [again.distributions[f.key] for f in again.drawn_factors(name)]
    return found


def _enumerate(distribution: Distribution) -> Tensor | None:
    """List all values of one element, `(M, *event_shape)`; None where elements differ.

    Further event axes are independent.
    """
    if not distribution.has_enumerate_support:
        return None
    try:
        values: Tensor = distribution.enumerate_support(expand=False)
    except NotImplementedError:  # elements with different supports
        return None
    return values.reshape(values.shape[0], *distribution.event_shape)


def _float_type(drawn: dict[str, Tensor]) -> torch.dtype:
    """Return double precision where any value has it, else the precision that reals have."""
    found = {value.dtype for value in drawn.values() if value.is_floating_point()}
    if torch.float64 in found:
        return torch.float64
    return found.pop() if found else torch.get_default_dtype()
