"""Predictions of a cloud: the future, replicated data, and what would have been under another choice.

All draws come back in their own support, one per particle, so they carry the cloud's weights
(`state.log_weights`).

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("dose", lambda: Normal(0.0, 1.0))
    >>> model.add_site("effect", lambda dose: Normal(2 * dose, 1.0), parents=["dose"])
    >>> engine = DCPC(model, num_particles=4)
    >>> state = engine.init({"dose": torch.tensor([1.0]), "effect": torch.tensor([2.5])})
    >>> engine.counterfactual(state, do={"dose": torch.tensor([0.0])})["effect"].unique().tolist()
    [0.5]
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.ancestral import AncestorSampler, drawing
from aif_dcpc.inference.model.conditioning import interventions
from aif_dcpc.inference.model.densities import active_factors, factor_slices
from aif_dcpc.inference.model.elements import ByName
from aif_dcpc.inference.model.factor_graph import expand_trailing, num_slices
from aif_dcpc.inference.model.graph import Site, parent_name
from aif_dcpc.inference.model.isolation import rng_from
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.exogenous import from_noise, to_noise
from aif_dcpc.inference.queries.law import factor_law
from aif_dcpc.inference.settings import check_integer
from aif_dcpc.misspelt import unknown_name

# -- the future ------------------------------------------------------------------------------------


def forecast(
    state: State,
    inputs: Mapping[str, Tensor] | None = None,
    *,
    length: int | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Draw the slices after the last by ancestor sampling from every particle.

    Args:
        state: the cloud over T slices.
        inputs: future values of inputs (such as actions) and of sites set by `do`, `(B, H,
            *event)`.
        length: H, where no input tells.
        generator: source of randomness.

    Returns:
        site -> `(K, B, H, *event)` for every random site and input with time, observed ones
            included.

    Raises:
        ClampError: for missing or unknown inputs, lengths that differ, or a model without time.
    """
    inputs = dict(inputs or {})
    horizon = _horizon(state, inputs, length)
    sampler = AncestorSampler(
        state.conditioning.factor_graph,
        state.num_particles,
        state.batch_size,
        state.length + horizon,
        _future_inputs(state, inputs, horizon),
        draws=rng_from(generator),
    )
    drawn = sampler.sample(state.length, state.natural)
    found = {}
    for name, value in drawn.items():
        site = state.conditioning.site(name)
        if site.period is not None:
            future = value[:, :, num_slices(site, state.length) :]
            found[name] = future.expand(state.num_particles, state.batch_size, *future.shape[2:])
    return found


def told_sites(state: State) -> list[str]:
    """Sites with time whose future must be told: inputs, and what an intervention has cut from its parents."""
    sites = state.conditioning.factor_graph.model.sites.values()
    return [
        s.name
        for s in sites
        if s.period is not None and (s.kind == "input" or s.name in state.conditioning.intervened)
    ]


def _horizon(state: State, inputs: Mapping[str, Tensor], length: int | None) -> int:
    """Number of future slices that inputs or `length` tell.

    Refuse what is unknown, missing or contradictory.
    """
    needed = told_sites(state)
    for name in inputs:
        if name not in needed:
            raise ClampError(f"forecast: {unknown_name('input', name, needed)}")
    lengths = _told_lengths(state, inputs, length)
    least = min(lengths, default=1)
    missing = sorted(n for n in set(needed) - set(inputs) if _num_new(state, n, least))
    if missing:
        raise ClampError(
            f"forecast: the future of {missing[0]!r} is needed; pass "
            f"inputs={{{missing[0]!r}: values}}."
        )
    if len(lengths) != 1 or state.length == 0:
        raise ClampError(
            "forecast: expected one number of future slices for a model with time, found "
            f"{sorted(lengths)} and {state.length} past slices; pass length= or inputs of one "
            "length."
        )
    return int(lengths.pop())


def _told_lengths(state: State, inputs: Mapping[str, Tensor], length: int | None) -> set[int]:
    """Numbers of future slices: of every input with a value a slice, and the one asked for."""
    lengths = set() if length is None else {check_integer("forecast: length", length, 1)}
    for name, value in inputs.items():
        if state.conditioning.site(name).period == 1:
            lengths.add(value.shape[1])
    return lengths


def _num_new(state: State, name: str, horizon: int) -> int:
    """How many values of a site begin within so many future slices."""
    site = state.conditioning.site(name)
    return num_slices(site, state.length + horizon) - num_slices(site, state.length)


def _future_inputs(state: State, inputs: Mapping[str, Tensor], horizon: int) -> dict[str, Tensor]:
    fixed = {}
    for name, value in inputs.items():
        past = state.values[name]
        expected = (state.batch_size, _num_new(state, name, horizon), *past.shape[3:])
        if tuple(value.shape) != expected:
            raise ClampError(
                f"forecast: {name!r} should have shape {expected}, found {tuple(value.shape)}."
            )
        fixed[name] = torch.cat([past, value[None]], 2)
    return fixed


# -- replicated data -------------------------------------------------------------------------------


def predict(state: State, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Draw every observed site anew from its kernel at the particles (posterior-predictive replicates).

    Observed parents keep their observed values, so in an autoregressive model these are one-step
    predictions.

    Returns:
        site -> `(K, B, [T,] *event)`.
    """
    parts: dict[str, list[Tensor]] = {}
    with rng_from(generator):
        for factor in active_factors(state):
            if factor.site.name not in state.conditioning.latent:
                with drawing(factor.site):
                    drawn = factor_law(state, factor, state.natural).sample()
                parts.setdefault(factor.site.name, []).append(drawn)
    found = {name: x[0] if len(x) == 1 else torch.cat(x, 2) for name, x in parts.items()}
    return ByName(found, state.conditioning.factor_graph.model.sites, 2)


# -- what would have been --------------------------------------------------------------------------


def counterfactual(
    state: State, do: Mapping[str, Tensor], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Replay the same world under an intervention (Pearl 2009, section 7.1: abduction, action, prediction).

    Abduction: each particle is a draw of the latents given what happened, and fixes the exogenous
    noise of every site (see `exogenous`). Action: the sites in `do` are set, their own laws cut.
    Prediction: what depends on them is computed again from the same noise; all else keeps its
    value.

    Assumes that a kernel's noise enters as its distribution is usually written: location plus scale
    times noise for location-scale families, the quantile function of a uniform otherwise.
    Counterfactuals depend on this choice; the posterior and interventions do not.

    Args:
        state: a cloud that has converged.
        do: site or input -> `(B, [T,] *event)`, as `engine.init`.
        generator: draws what was missing in the data.

    Returns:
        site -> `(K, B, [T,] *event)`, every random site and input.

    Raises:
        ClampError: for sites or shapes that do not fit.
        ModelError: where a site downstream is discrete, or its distribution has no inverse of its
            noise.
    """
    action = interventions(state, do)
    values = _factual(state, generator)
    changed = _downstream(state, set(action))
    noise = {name: _abduct(state, values, name) for name in changed}
    set_before = {n: state.masks[n] for n in state.conditioning.partly_intervened & set(changed)}
    fixed = {n: action.get(n, v) for n, v in values.items() if n not in changed or n in set_before}
    replay = Replay(
        state.conditioning.factor_graph,
        state.num_particles,
        state.batch_size,
        state.length,
        fixed,
        set_before,
    )
    replay.noise = noise
    found = {n: v.expand(state.num_particles, *v.shape[1:]) for n, v in replay.sample().items()}
    return ByName(found, state.conditioning.factor_graph.model.sites, 2)


class Replay(AncestorSampler):
    """Ancestor sampling with given exogenous noise instead of fresh draws."""

    noise: Mapping[str, Tensor]

    def draw(self, site: Site, index: int | None, distribution: Distribution) -> Tensor:
        """The value that this site's noise gives under its distribution."""
        noise = self.noise[site.name]
        return from_noise(
            distribution, noise if index is None else noise[:, :, index : index + 1], site.name
        )


def _factual(state: State, generator: torch.Generator | None) -> dict[str, Tensor]:
    """Natural values of every site; what was not observed of a partly observed outcome is drawn."""
    values = dict(state.natural)
    missing = [n for n in state.masks if n not in state.conditioning.latent]
    drawn = predict(state, generator) if missing else {}
    for name in missing:
        values[name] = torch.where(
            expand_trailing(state.masks[name], values[name]), values[name], drawn[name]
        )
    return values


def _downstream(state: State, roots: set[str]) -> list[str]:
    """Random sites that a change of `roots` can reach, those in `roots` and those already cut aside."""
    sites = state.conditioning.factor_graph.model.sites
    reached = set(roots)
    for _ in sites:
        reached |= {
            s.name
            for s in sites.values()
            if reached & set(map(parent_name, s.parents))
            and s.name not in state.conditioning.intervened
        }
    return [n for n in sites if n in reached - roots and sites[n].kind == "stochastic"]


def _abduct(state: State, values: Mapping[str, Tensor], name: str) -> Tensor:
    """The exogenous noise of one site on all its slices, `(K, B, [T,] *noise)`."""
    parts = []
    for factor in active_factors(state):
        if factor.site.name == name:
            start, stop = factor_slices(state, factor)
            value = values[name] if factor.site.period is None else values[name][:, :, start:stop]
            distribution = factor_law(state, factor, values)
            parts.append(
                to_noise(distribution, value.expand(state.num_particles, *value.shape[1:]), name)
            )
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)
