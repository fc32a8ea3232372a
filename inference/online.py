"""One more slice: lineages are weighed by how well they predicted the new data, and resampled where that is due."""

from collections.abc import Mapping

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ClampError, MoveError, unknown_name
from aif_dcpc.inference.factors import active_factors, evaluate
from aif_dcpc.inference.graph import Site
from aif_dcpc.inference.resampling import resample_lineages
from aif_dcpc.inference.sampling import AncestorSampler, seeded
from aif_dcpc.inference.state import State


def append(state: State, observation: Mapping[str, Tensor], generator: torch.Generator | None) -> State:
    """Extend every site with time by one slice.

    Args:
        state: the cloud over T slices.
        observation: site -> `(B, *event)` of the new slice, for every observed site and input with time.
        generator: source of randomness.

    Returns:
        the cloud over T + 1 slices, weighted, resampled where the ESS fell below K/2; `log_evidence` grows by the log
        mean incremental weight.

    Raises:
        ClampError: for unknown, missing or latent sites, or shapes that do not fit.
    """
    data = _extended_data(state, observation)
    model = state.problem.lowered.model
    if model.arrival is not None:
        longer, increments = _supplied(state, data, observation, generator)
    else:
        longer, increments = _from_prior(state, data, generator)
    weights = state.log_weights + increments
    gain = torch.logsumexp(weights, 0) - torch.logsumexp(state.log_weights, 0)
    longer = longer.replace(log_weights=weights, log_evidence=state.log_evidence + gain)
    longer = longer.replace(adaptation=state.reopened_adaptation())
    return resample_lineages(longer, generator)


def _grows(site: Site, length: int) -> bool:
    return site.period is not None and length % site.period == 0


def _extended_data(state: State, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sites = state.problem.lowered.model.sites
    for name in observation:
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
        if name in state.problem.latent:
            raise ClampError(f"site {name!r} is latent in this cloud: it cannot be observed in a new slice.")
    data = {}
    for name, site in sites.items():
        if site.kind == "deterministic" or name in state.problem.latent or not _grows(site, state.length):
            continue
        if name not in observation:
            raise ClampError(
                f"site {name!r} is observed: its value in the new slice is missing; pass {name!r} as well."
            )
        value, old = observation[name], state.values[name]
        if tuple(value.shape) != (state.batch_size, *old.shape[3:]):
            expected = (state.batch_size, *old.shape[3:])
            raise ClampError(f"site {name!r}: expected one slice {expected}, found {tuple(value.shape)}.")
        data[name] = torch.cat(
            [old, value[None, :, None].expand(old.shape[0], *value.shape[:1], 1, *value.shape[1:])], 2
        )
    return data


def _from_prior(state: State, data: dict[str, Tensor], generator: torch.Generator | None) -> tuple[State, Tensor]:
    """Draw the new latents from their kernels; the weight is the likelihood of the new data."""
    fixed = {n: v for n, v in state.values.items() if n not in state.problem.latent}
    sampler = AncestorSampler(
        state.problem.lowered, state.num_particles, state.batch_size, state.length + 1, {**fixed, **data}
    )
    with seeded(generator):
        drawn = sampler.sample(state.length, state.natural)
    values = state.problem.unconstrain(drawn)
    longer = state.replace(values={**state.values, **values, **data}, length=state.length + 1, cache={})
    increments = torch.zeros_like(state.log_weights)
    for factor in active_factors(longer):
        if factor.site.name in data and (factor.stop is None or state.length < factor.stop):
            increments = increments + evaluate(longer, factor, scores=False).log_prob[:, :, -1]
    return longer, increments


def _supplied(
    state: State, data: dict[str, Tensor], observation: Mapping[str, Tensor], generator: torch.Generator | None
) -> tuple[State, Tensor]:
    """Let the model's own proposal extend the cloud."""
    propose = state.problem.lowered.model.arrival
    if propose is None or generator is None:
        raise MoveError("arrival: a proposal and a generator are needed; call engine.init first.")
    changes, increments = propose(state.natural, observation, generator)
    values = {**state.values, **data, **state.problem.unconstrain(changes)}
    return state.replace(values=values, length=state.length + 1, cache={}), increments
