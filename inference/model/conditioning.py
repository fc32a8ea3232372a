"""Clamping data: which sites become observed, latent or intervened, and a first cloud drawn from the prior."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to

from aif_dcpc.inference.errors import ClampError, ModelError
from aif_dcpc.inference.model.ancestral import AncestorSampler, no_validation, rng_from
from aif_dcpc.inference.model.clamping import (
    by_element,
    check_names,
    check_values,
    impute_placeholder,
    lead_axes,
    mask_axes,
    sizes,
)
from aif_dcpc.inference.model.densities import SPLIT
from aif_dcpc.inference.model.factor_graph import FactorGraph
from aif_dcpc.inference.model.state import Conditioning, State
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
) -> State:
    """Check the data, sort the sites into roles and draw the latents from the prior."""
    sites = factor_graph.model.sites
    check_names(factor_graph, data, masks, do)
    given = {**data, **do}
    batch, time = sizes(sites, given, batch_size, length)
    values = {name: lead_axes(sites[name], value, batch, time) for name, value in given.items()}
    shown = {name: mask_axes(sites[name], mask, values[name]) for name, mask in masks.items()}
    values = {
        name: impute_placeholder(v, shown[name]) if name in shown else v
        for name, v in values.items()
    }

    partly_latent = {n for n in shown if n in do or has_readers(factor_graph, n)}
    partly = {
        n: m
        for n, m in shown.items()
        if n in partly_latent or by_element(sites[n], m) or not bool(m.any())
    }
    values = check_values(factor_graph, values, shown, do=do)
    sampler = AncestorSampler(factor_graph, num_particles, batch, time, values, partly)
    with rng_from(generator):
        drawn = sampler.sample()
    values = check_values(factor_graph, values, shown, drawn, do=do)
    drawn = {**drawn, **{n: v for n, v in values.items() if n not in partly}}
    drawn = {**drawn, **{n: drawn[n][:1] for n in partly if n not in partly_latent}}
    latent = tuple(
        n
        for n, s in sites.items()
        if s.kind == "stochastic" and (n not in values or n in partly_latent)
    )
    conditioning = _problem(
        factor_graph, latent, sampler, drawn, frozenset(do) - set(shown), frozenset(do) & set(shown)
    )
    for name in partly:
        if by_element(sites[name], shown[name]):
            _check_elements(conditioning, sampler, name, shown[name].ndim)
    weights = torch.zeros(num_particles, batch, device=_device(drawn), dtype=_float_type(drawn))
    ancestors = torch.arange(num_particles, device=weights.device)[:, None].expand(
        num_particles, batch
    )
    return State(
        conditioning=conditioning,
        values={
            n: _materialise(v, num_particles, n in latent)
            for n, v in conditioning.unconstrain(drawn).items()
        },
        masks=shown,
        log_weights=weights,
        ancestors=ancestors,
        length=time,
        log_evidence=weights.new_zeros(batch),
    )


def small_cloud(factor_graph: FactorGraph) -> State | None:
    """One particle of everything from the prior, over a few slices; None where the model cannot be sampled unaided."""
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
    """The cloud at given particles `(K, B, [T,] *event)`, in the sites' own supports.

    Raises:
        ClampError: for sites that are not latent, or shapes that do not fit.
    """
    for name, value in particles.items():
        if name not in state.conditioning.latent:
            raise ClampError(
                f"particles: {unknown_name('latent site', name, state.conditioning.latent)}"
            )
        expected = state.constrained(name).shape
        if value.shape != expected:
            raise ClampError(
                f"particles of site {name!r}: expected {tuple(expected)}, found {tuple(value.shape)}."
            )
    natural = {
        n: v.to(state.values[n]) if n not in state.conditioning.discrete else v
        for n, v in particles.items()
    }
    return state.with_values(state.conditioning.unconstrain(natural)) if particles else state


def has_readers(factor_graph: FactorGraph, name: str) -> bool:
    """Whether a site's value is read beyond its own density: by other sites, or by itself at later slices."""
    return any(f.site.name != name or len(f.lags(name)) > 1 for f in factor_graph.factors_of[name])


def interventions(state: State, do: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check interventions and give them their leading axes, `(1, B, [T,] *event)`.

    Raises:
        ClampError: for unknown or deterministic sites, or shapes that do not fit.
    """
    sites, found = state.conditioning.factor_graph.model.sites, {}
    for name, value in do.items():
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
        if sites[name].kind == "deterministic":
            raise ClampError(
                f"deterministic site {name!r} cannot be set: set a stochastic site instead."
            )
        _check_tensor(name, value)
        found[name] = lead_axes(sites[name], value, state.batch_size, state.length)
        event = state.constrained(name).shape[sites[name].batch_ndim :]
        if found[name].shape[sites[name].batch_ndim :] != event:
            raise ClampError(
                f"do: site {name!r} has events of shape {tuple(event)}, found {tuple(value.shape)}."
            )
    return found


def intervene(state: State, do: Mapping[str, Tensor]) -> State:
    """Set sites by hand: their own densities are cut, latent ones stop moving; weights become equal.

    The particles of the other sites stay where they are: sweep them towards the new posterior.
    """
    if not do:
        return state
    action, conditioning = interventions(state, do), state.conditioning
    inputs = {n for n in action if conditioning.site(n).kind == "input"}
    changed = replace(
        conditioning,
        latent=tuple(n for n in conditioning.latent if n not in action),
        bijections={n: b for n, b in conditioning.bijections.items() if n not in action},
        domains={n: d for n, d in conditioning.domains.items() if n not in action},
        supports={n: s for n, s in conditioning.supports.items() if n not in action},
        discrete=conditioning.discrete - set(action),
        intervened=conditioning.intervened | (set(action) - inputs),
        partly_intervened=conditioning.partly_intervened - set(action),
    )
    same = changed.latent == conditioning.latent and changed.intervened == conditioning.intervened
    masks = {n: m for n, m in state.masks.items() if n not in action}
    weights = torch.zeros_like(state.log_weights)
    moved = state.with_values(action)
    if same:
        return moved.replace(masks=masks, log_weights=weights)
    return moved.replace(
        conditioning=changed,
        masks=masks,
        log_weights=weights,
        adaptation=state.reopened_adaptation(),
    )


def _materialise(value: Tensor, num_particles: int, latent: bool) -> Tensor:
    return value.expand(num_particles, *value.shape[1:]).clone() if latent else value


def _problem(
    factor_graph: FactorGraph,
    latent: tuple[str, ...],
    sampler: AncestorSampler,
    drawn: dict[str, Tensor],
    intervened: frozenset[str],
    partly_intervened: frozenset[str],
) -> Conditioning:
    bijections, supports, discrete, bounds, domains = {}, {}, set(), {}, {}
    lead = {n: factor_graph.model.sites[n].batch_ndim for n in drawn}
    for name, laws in _laws(factor_graph, latent, sampler).items():
        kept = [fixed(law, lead[name]) for law in laws]
        support = support_of(laws[0])
        if support is None:
            continue
        if support.is_discrete:
            discrete.add(name)
            if (found := integer_bounds([support_of(law) for law in laws], kept)) is not None:
                bounds[name] = found
            if same(kept) and (values := _enumerate(base_law(laws[0]))) is not None:
                supports[name] = values
        if not same(kept) and not (support.is_discrete and has_bounds(support)):
            raise ModelError(unlike_supports(name, support, laws[-1]))
        if kept[0] is not None:
            domains[name] = kept[0]
            if not support.is_discrete and not is_real(support):
                bijections[name] = biject_to(kept[0])
    event_dims = {n: v.ndim - lead[n] for n, v in drawn.items()}
    return Conditioning(
        factor_graph,
        latent,
        bijections,
        supports,
        frozenset(discrete),
        bounds,
        event_dims,
        intervened,
        partly_intervened,
        domains,
    )


def _check_elements(
    conditioning: Conditioning, sampler: AncestorSampler, name: str, axes: int
) -> None:
    """Refuse a mask of so many axes where a kernel, or a bijection, does not treat its elements one by one."""
    latent, domain = name in conditioning.latent, conditioning.domains.get(name)
    whole = domain is not None and domain.event_dim > 0 and not is_real(domain)
    apart = min(
        len(base_law(sampler.distributions[f.key]).batch_shape) for f in sampler.drawn_factors(name)
    )
    if whole or (
        axes > apart
        and (not latent or name in conditioning.discrete or name in conditioning.partly_intervened)
    ):
        raise ClampError(
            f"mask of site {name!r}: its kernel does not score the elements of an event one by one; mask whole events, "
            f"or {SPLIT}"
        )


def _laws(
    factor_graph: FactorGraph, latent: tuple[str, ...], sampler: AncestorSampler
) -> dict[str, list[Distribution]]:
    """The distributions from which each latent was drawn, by initial and usual kernel; bounded ones for other draws too."""
    found = {n: [sampler.distributions[f.key] for f in sampler.drawn_factors(n)] for n in latent}
    if any(has_bounds(support_of(law)) for laws in found.values() for law in laws):
        again = AncestorSampler(factor_graph, 4, *sampler.sizes, sampler.given, sampler.shown)
        with torch.random.fork_rng(devices=[]):
            again.sample()
        for name, laws in found.items():
            laws += [again.distributions[f.key] for f in again.drawn_factors(name)]
    return found


def _enumerate(distribution: Distribution) -> Tensor | None:
    """All values of one element `(M, *event_shape)`; further event axes are independent. None where elements differ."""
    if not distribution.has_enumerate_support:
        return None
    try:
        values: Tensor = distribution.enumerate_support(expand=False)
    except NotImplementedError:  # elements with different supports
        return None
    return values.reshape(values.shape[0], *distribution.event_shape)


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ClampError(f"site {name!r}: expected a tensor, found {type(value).__name__}.")


def _device(drawn: dict[str, Tensor]) -> torch.device:
    return next((v.device for v in drawn.values()), torch.device("cpu"))


def _float_type(drawn: dict[str, Tensor]) -> torch.dtype:
    return next(
        (v.dtype for v in drawn.values() if v.is_floating_point()), torch.get_default_dtype()
    )
