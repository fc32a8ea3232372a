"""Clamping data: which sites become observed, latent or severed, and a first cloud drawn from the prior."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints

from aif_dcpc.inference.errors import ClampError, unknown_name
from aif_dcpc.inference.graph import Site
from aif_dcpc.inference.lowering import LoweredModel, num_slices, widen
from aif_dcpc.inference.sampling import AncestorSampler, quiet_distributions, seeded
from aif_dcpc.inference.state import Problem, State

INTEGER_SUPPORTS = tuple(type(c) for c in (constraints.nonnegative_integer, constraints.integer_interval(0, 1)))


def build_state(
    lowered: LoweredModel,
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
    sites = lowered.model.sites
    for name in [*data, *masks, *do]:
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
    given = {**data, **do}
    for name, value in given.items():
        _check_tensor(name, value)
    batch, time = _sizes(sites, given, batch_size, length)
    values = {name: _lead_axes(sites[name], value, batch, time) for name, value in given.items()}
    shown = {name: _mask_axes(sites[name], mask, batch) for name, mask in masks.items()}
    values = {name: _fill(v, shown[name]) if name in shown else v for name, v in values.items()}
    _check_roles(lowered, values)

    latent_masked = {
        n for n in shown if len(lowered.touching[n]) > len([f for f in lowered.factors if f.site.name == n])
    }
    partly = {n: m for n, m in shown.items() if n in latent_masked}
    sampler = AncestorSampler(lowered, num_particles, batch, time, values, partly)
    with seeded(generator):
        drawn = sampler.sample()
    latent = tuple(n for n, s in sites.items() if s.kind == "stochastic" and (n not in values or n in latent_masked))
    problem = _problem(lowered, latent, sampler.distributions, drawn, frozenset(do))
    weights = torch.zeros(num_particles, batch, device=_device(drawn), dtype=_float_type(drawn))
    ancestors = torch.arange(num_particles, device=weights.device)[:, None].expand(num_particles, batch)
    return State(
        problem=problem,
        values={n: _materialise(v, num_particles, n in latent) for n, v in problem.unconstrain(drawn).items()},
        masks=shown,
        log_weights=weights,
        ancestors=ancestors,
        length=time,
        log_evidence=weights.new_zeros(batch),
    )


def small_cloud(lowered: LoweredModel) -> State | None:
    """One particle of everything from the prior, over a few slices; None where the model cannot be sampled unaided."""
    slices = 2 + max((f.start for f in lowered.factors), default=0)
    periods = [s.period for s in lowered.model.sites.values() if s.period is not None]
    length = slices * max(periods) if periods else None
    options: dict[str, Any] = {"masks": {}, "do": {}, "batch_size": 1, "length": length}
    try:
        with quiet_distributions(), torch.no_grad():
            return build_state(lowered, 1, {}, **options, generator=torch.Generator().manual_seed(0))
    except Exception:  # a kernel may fail in any way; `init` and `check_model` tell which
        return None


def started(state: State, particles: Mapping[str, Tensor]) -> State:
    """The cloud at given particles `(K, B, [T,] *event)`, in the sites' own supports.

    Raises:
        ClampError: for sites that are not latent, or shapes that do not fit.
    """
    for name, value in particles.items():
        if name not in state.problem.latent:
            raise ClampError(f"particles: {unknown_name('latent site', name, state.problem.latent)}")
        expected = state.constrained(name).shape
        if value.shape != expected:
            raise ClampError(f"particles of site {name!r}: expected {tuple(expected)}, found {tuple(value.shape)}.")
    natural = {n: v.to(state.values[n]) if n not in state.problem.discrete else v for n, v in particles.items()}
    return state.with_values(state.problem.unconstrain(natural)) if particles else state


def interventions(state: State, do: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check interventions and give them their leading axes, `(1, B, [T,] *event)`.

    Raises:
        ClampError: for unknown or deterministic sites, or shapes that do not fit.
    """
    sites, found = state.problem.lowered.model.sites, {}
    for name, value in do.items():
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
        if sites[name].kind == "deterministic":
            raise ClampError(f"deterministic site {name!r} cannot be set: set a stochastic site instead.")
        _check_tensor(name, value)
        found[name] = _lead_axes(sites[name], value, state.batch_size, state.length)
        event = state.constrained(name).shape[sites[name].num_lead :]
        if found[name].shape[sites[name].num_lead :] != event:
            raise ClampError(f"do: site {name!r} has events of shape {tuple(event)}, found {tuple(value.shape)}.")
    return found


def intervene(state: State, do: Mapping[str, Tensor]) -> State:
    """Set sites by hand: their own densities are cut, latent ones stop moving; weights become equal.

    The particles of the other sites stay where they are: sweep them towards the new posterior.
    """
    if not do:
        return state
    action, problem = interventions(state, do), state.problem
    inputs = {n for n in action if problem.site(n).kind == "input"}
    changed = replace(
        problem,
        latent=tuple(n for n in problem.latent if n not in action),
        bijections={n: b for n, b in problem.bijections.items() if n not in action},
        supports={n: s for n, s in problem.supports.items() if n not in action},
        discrete=problem.discrete - set(action),
        severed=problem.severed | (set(action) - inputs),
    )
    same = changed.latent == problem.latent and changed.severed == problem.severed
    masks = {n: m for n, m in state.masks.items() if n not in action}
    weights = torch.zeros_like(state.log_weights)
    moved = state.with_values(action)
    if same:
        return moved.replace(masks=masks, log_weights=weights)
    return moved.replace(problem=changed, masks=masks, log_weights=weights, adaptation=state.reopened_adaptation())


def _materialise(value: Tensor, num_particles: int, latent: bool) -> Tensor:
    return value.expand(num_particles, *value.shape[1:]).clone() if latent else value


def _problem(
    lowered: LoweredModel,
    latent: tuple[str, ...],
    distributions: dict[str, Distribution],
    drawn: dict[str, Tensor],
    severed: frozenset[str],
) -> Problem:
    bijections, supports, discrete, bounds = {}, {}, set(), {}
    for name in latent:
        distribution = distributions[name]
        support = distribution.support
        if support is not None and support.is_discrete:
            discrete.add(name)
            if (found := _integer_bounds(support)) is not None:
                bounds[name] = found
            if distribution.has_enumerate_support:
                supports[name] = _enumerate(distribution)
        elif support is not None and not _is_real(support):
            bijections[name] = biject_to(support)
    lead = {n: lowered.model.sites[n].num_lead for n in drawn}
    event_dims = {n: v.ndim - lead[n] for n, v in drawn.items()}
    return Problem(lowered, latent, bijections, supports, frozenset(discrete), bounds, event_dims, severed)


def _enumerate(distribution: Distribution) -> Tensor:
    """All values of one element `(M, *event_shape)`; further event axes are independent."""
    values: Tensor = distribution.enumerate_support(expand=False)
    return values.reshape(values.shape[0], *distribution.event_shape)


def _integer_bounds(support: constraints.Constraint) -> tuple[float, float] | None:
    """Least and greatest value of an ordered integer support; None for others (one-hot vectors, grids)."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.boolean:
        return 0.0, 1.0
    if not isinstance(support, INTEGER_SUPPORTS):
        return None
    lower, upper = getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)
    return float(torch.as_tensor(lower).min()), float(torch.as_tensor(upper).max())


def _is_real(support: constraints.Constraint) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support in (constraints.real, constraints.real_vector)


def _sizes(
    sites: dict[str, Site], given: dict[str, Tensor], batch_size: int | None, length: int | None
) -> tuple[int, int]:
    batches = {v.shape[0] for n, v in given.items() if sites[n].scope != "global"} | (
        {batch_size} if batch_size is not None else set()
    )
    lengths = {v.shape[1] for n, v in given.items() if sites[n].period == 1} | (
        {length} if length is not None else set()
    )
    if len(batches) > 1:
        raise ClampError(f"data differ in their number of data (first axis): {sorted(batches)}; expected one B.")
    if len(lengths) > 1:
        raise ClampError(
            f"data differ in their number of slices (second axis): {sorted(lengths)}; pad the shorter ones "
            "and pass masks=."
        )
    timed = any(s.period is not None for s in sites.values())
    if timed and not lengths:
        raise ClampError("the model has sites with time, but no data with time were clamped: pass length=.")
    return int(next(iter(batches), 1) or 1), int(next(iter(lengths), 0) or 0)


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ClampError(f"site {name!r}: expected a tensor, found {type(value).__name__}.")


def _lead_axes(site: Site, value: Tensor, batch: int, time: int) -> Tensor:
    if site.scope == "global":
        return value[None, None]
    expected = (batch,) if site.period is None else (batch, num_slices(site, time))
    if tuple(value.shape[: len(expected)]) != expected:
        raise ClampError(f"site {site.name!r}: expected data of shape {expected} + event, found {tuple(value.shape)}.")
    return value[None]


def _mask_axes(site: Site, mask: Tensor, batch: int) -> Tensor:
    if mask.dtype != torch.bool:
        raise ClampError(f"mask of site {site.name!r}: expected bool (True where observed), found {mask.dtype}.")
    return mask[None]


def _fill(value: Tensor, shown: Tensor) -> Tensor:
    """Replace what is not observed by an observed value, so that every density can be evaluated."""
    flags = widen(shown, value).expand_as(value)
    flat = value.flatten(0, shown.ndim - 1)
    first = flat[shown.flatten().int().argmax()]
    return torch.where(flags, value, first.expand_as(value))


def _check_roles(lowered: LoweredModel, values: dict[str, Tensor]) -> None:
    for name, site in lowered.model.sites.items():
        if site.kind == "input" and name not in values:
            raise ClampError(f"input {name!r} was not given: clamp it, for example init({{{name!r}: values, ...}}).")
        if site.kind == "deterministic" and name in values:
            raise ClampError(f"deterministic site {name!r} cannot be clamped: clamp a stochastic site instead.")


def _device(drawn: dict[str, Tensor]) -> torch.device:
    return next((v.device for v in drawn.values()), torch.device("cpu"))


def _float_type(drawn: dict[str, Tensor]) -> torch.dtype:
    return next((v.dtype for v in drawn.values() if v.is_floating_point()), torch.get_default_dtype())
