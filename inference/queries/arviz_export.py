"""Draws as ArviZ's data object, with all that its plots and comparisons ask for.

Particles are chains. Groups: `posterior` (deterministic sites as well), `posterior_predictive`,
`log_likelihood` (one number for each data point, so that `arviz.loo` works), `observed_data`,
`constant_data` (inputs) and `sample_stats` (`lp`, the log joint in nats; `acceptance_rate`).
Axes are named: `data` (B, left out where it is 1), `time`, and `<site>_axis_0` and so on for events.

Where a site is observed in part, its log likelihood has one axis, `<site>_observed`, for what is
observed, and its `observed_data` are NaN where nothing was seen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from aif_dcpc.inference.errors import InferenceError
from aif_dcpc.inference.model.densities import active_factors, factor_slices
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.model.supports import base_law
from aif_dcpc.inference.queries.law import factor_law
from aif_dcpc.inference.queries.predictions import predict

MOST_AT_ONCE = 4096  # particles of one evaluation


class KeptDraws(Protocol):
    """What is exported: `Draws`, or anything else with these.

    Attributes:
        values: latent site -> `(S, K, B, [T,] *event)` in its own support (B is 1 for global sites).
        log_joint: `(S, K, B or 1)` nats.
        acceptance: `(K, B or 1)` mean probability of each chain.
        state: the cloud: model, data and masks.
    """

    @property
    def values(self) -> Mapping[str, Tensor]:
        """Draws of every latent, by site."""
        ...

    @property
    def log_joint(self) -> Tensor:
        """The log joint of every draw."""
        ...

    @property
    def acceptance(self) -> Tensor:
        """Mean acceptance of every chain."""
        ...

    @property
    def state(self) -> State:
        """The cloud with model and data."""
        ...


def inference_data(draws: KeptDraws, *, seed: int = 0) -> Any:
    """Return an `arviz.InferenceData` (before ArviZ 1) or an `xarray.DataTree` of draws.

    Args:
        draws: what `engine.sample` returns.
        seed: of the posterior predictive draws.

    Raises:
        InferenceError: if ArviZ is not installed.
    """
    arviz = _arviz()
    groups = {name: _dataset(arrays) for name, arrays in _groups(draws, seed).items() if arrays}
    if hasattr(arviz, "InferenceData"):
        return arviz.InferenceData(**groups)
    from xarray import DataTree

    return DataTree.from_dict(groups)


def _arviz() -> Any:
    """Import ArviZ, which is an extra."""
    try:
        import arviz
    except ImportError as error:
        raise InferenceError(
            "to_arviz needs ArviZ: pip install 'aif_dcpc[diagnostics]'."
        ) from error
    return arviz


Named = tuple[tuple[str, ...], Tensor]  # names of the axes, values
Query = Callable[[State], Mapping[str, Tensor]]


def _groups(draws: KeptDraws, seed: int) -> dict[str, dict[str, Named]]:
    """Collect every group, variable by variable."""
    state = draws.state
    sites = state.conditioning.factor_graph.model.sites
    generator = torch.Generator(device=state.log_weights.device).manual_seed(seed)
    inputs = [n for n, s in sites.items() if s.kind == "input"]
    with no_validation(), torch.no_grad():
        return {
            "posterior": {**_latents(draws), **_chained(draws, _deterministic)},
            "posterior_predictive": _chained(draws, lambda s: predict(s, generator)),
            "log_likelihood": _log_likelihood(draws),
            "observed_data": {n: _observed(state, n) for n in _observed_names(state)},
            "constant_data": {n: _named(sites[n], state.constrained(n)[0]) for n in inputs},
            "sample_stats": _sample_stats(draws),
        }


def _dataset(arrays: Mapping[str, Named]) -> Any:
    """Make a dataset with a coordinate for every axis."""
    from xarray import Dataset

    data = {name: (axes, value.detach().cpu().numpy()) for name, (axes, value) in arrays.items()}
    sizes = {
        axis: n for axes, value in data.values() for axis, n in zip(axes, value.shape, strict=True)
    }
    return Dataset(data, coords={axis: range(n) for axis, n in sizes.items()})


# -- names of axes ---------------------------------------------------------------------------------


def _named(site: Site, value: Tensor) -> Named:
    """Name the axes of a value `(B, [T,] *event)`; an axis of one data point is left out."""
    axes = ["data"]
    if site.period is not None:
        axes.append("time" if site.period == 1 else f"time_by_{site.period}")
    axes += [f"{site.name}_axis_{i}" for i in range(value.ndim - len(axes))]
    if value.shape[0] == 1:
        return tuple(axes[1:]), value[0]
    return tuple(axes), value


def _by_chain(axes: tuple[str, ...], value: Tensor) -> Named:
    """Name the axes of draws `(S, K, *rest)`, chains first."""
    return ("chain", "draw", *axes), value.transpose(0, 1)


def _drawn(site: Site, value: Tensor) -> Named:
    """Name the axes of draws `(S, K, B, [T,] *event)`."""
    axes, _ = _named(site, value[0, 0])
    return _by_chain(axes, value[:, :, 0] if value.shape[2] == 1 else value)


# -- groups ----------------------------------------------------------------------------------------


def _latents(draws: KeptDraws) -> dict[str, Named]:
    site = draws.state.conditioning.site
    return {name: _drawn(site(name), value) for name, value in draws.values.items()}


def _chained(draws: KeptDraws, query: Query) -> dict[str, Named]:
    """Ask every draw for values `(K, B, [T,] *event)`, and name their axes."""
    site = draws.state.conditioning.site
    return {name: _drawn(site(name), value) for name, value in _asked(draws, query).items()}


def _asked(draws: KeptDraws, query: Query) -> dict[str, Tensor]:
    """Ask every draw for values `(K, *rest)`; they come back as `(S, K, *rest)`, in parts that fit."""
    found: dict[str, list[Tensor]] = {}
    for state in _clouds(draws):
        for name, value in query(state).items():
            wide = value.expand(state.num_particles, *value.shape[1:])
            found.setdefault(name, []).append(wide)
    chains = draws.state.num_particles
    return {name: torch.cat(parts).unflatten(0, (-1, chains)) for name, parts in found.items()}


def _clouds(draws: KeptDraws) -> Iterator[State]:
    """Make clouds whose particles are the draws of some sweeps, one after the other."""
    state = draws.state
    together = max(1, MOST_AT_ONCE // state.num_particles)
    for start in range(0, len(draws.log_joint), together):
        part = {n: x[start : start + together].flatten(0, 1) for n, x in draws.values.items()}
        number = min(together, len(draws.log_joint) - start) * state.num_particles
        weights = state.log_weights.new_zeros(number, state.batch_size)
        ancestors = torch.arange(number, device=weights.device)[:, None].expand_as(weights)
        cloud = state.replace(log_weights=weights, ancestors=ancestors, cache={})
        yield cloud.with_values(state.conditioning.unconstrain(part))


def _deterministic(state: State) -> dict[str, Tensor]:
    """Compute the deterministic sites that depend on particles."""
    sites = state.conditioning.factor_graph.model.sites.values()
    found = {s.name: state.value(s.name) for s in sites if s.kind == "deterministic"}
    return {name: x for name, x in found.items() if x.shape[0] == state.num_particles}


def _observed_names(state: State) -> list[str]:
    """Name the random sites with data, of which some may be missing."""
    latent = state.conditioning.latent
    partly = state.conditioning.partly_intervened
    return list(
        dict.fromkeys(
            f.site.name
            for f in active_factors(state)
            if f.site.name not in partly
            and (f.site.name not in latent or f.site.name in state.masks)
        )
    )


def _observed(state: State, name: str) -> Named:
    """The data of a site, NaN where they are missing."""
    value = state.constrained(name)[0]
    mask = state.masks.get(name)
    if mask is not None:
        seen = expand_trailing(mask[0], value)
        value = torch.where(seen, value.to(state.log_weights), torch.nan)
    return _named(state.conditioning.site(name), value)


def _log_likelihood(draws: KeptDraws) -> dict[str, Named]:
    """The log density of each data point, `(chain, draw, ...)` nats."""
    names = _observed_names(draws.state)
    found = _asked(draws, lambda state: _pointwise(state, names))
    return {name: _counted(draws.state, name, value) for name, value in found.items()}


def _pointwise(state: State, names: Iterable[str]) -> dict[str, Tensor]:
    """Score the data of some sites, `(K, B, [T,] *elements)`: elements that are scored one by one."""
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    natural = state.natural
    for factor in active_factors(state):
        name = factor.site.name
        if name in parts:
            value = natural[name]
            if factor.site.period is not None:
                value = value[:, :, slice(*factor_slices(state, factor))]
            parts[name].append(base_law(factor_law(state, factor, natural)).log_prob(value))
    return {n: x[0] if len(x) == 1 else torch.cat(x, 2) for n, x in parts.items()}


def _counted(state: State, name: str, value: Tensor) -> Named:
    """Keep what is observed of log densities `(S, K, B, [T,] *elements)`."""
    mask = state.masks.get(name)
    if mask is None:
        return _drawn(state.conditioning.site(name), value)
    flags = mask[0]
    while flags.ndim > value.ndim - 2:  # a mask of elements that are scored together
        flags = flags.all(-1)
    seen = expand_trailing(flags, value[0, 0]).expand_as(value[0, 0])
    return _by_chain((f"{name}_observed",), value[:, :, seen])


def _sample_stats(draws: KeptDraws) -> dict[str, Named]:
    """The log joint and the acceptance of every draw."""
    log_joint = draws.log_joint
    rate = draws.acceptance.expand(len(log_joint), *draws.acceptance.shape)
    return {"lp": _by_datum(log_joint), "acceptance_rate": _by_datum(rate)}


def _by_datum(value: Tensor) -> Named:
    """Name the axes of numbers `(S, K, B or 1)`."""
    if value.shape[2] == 1:
        return _by_chain((), value[:, :, 0])
    return _by_chain(("data",), value)
