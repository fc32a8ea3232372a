"""One more slice: lineages are weighed by how well they predicted the new data, and resampled where that is due."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ClampError, ModelError, MoveError
from aif_dcpc.inference.model.ancestral import AncestorSampler, rng_from
from aif_dcpc.inference.model.conditioning import has_readers
from aif_dcpc.inference.model.densities import active_factors, evaluate
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.resampling import is_coupled, resample_lineages
from aif_dcpc.inference.model.state import Conditioning, State
from aif_dcpc.inference.model.supports import fixed, same, unlike_supports
from aif_dcpc.misspelt import unknown_name


def append(
    state: State,
    observation: Mapping[str, Tensor],
    generator: torch.Generator | None,
    masks: Mapping[str, Tensor] | None = None,
) -> State:
    """Extend every site with time by one slice.

    Args:
        state: the cloud over T slices.
        observation: site -> `(B, *event)` of the new slice, for every observed site and input with time; a site that is
            partly observed in this cloud may be left out, and is then hidden.
        generator: source of randomness.
        masks: site -> `(B,)` True where the new value is observed (everywhere by default); hidden values may be NaN.

    Returns:
        the cloud over T + 1 slices, weighted, resampled where the ESS fell below K/2;
            `log_evidence` grows by the log
        mean incremental weight. With global latents all data share their weights, and their
            evidence is that of all
        data together.

    Raises:
        ClampError: for unknown, missing or latent sites, or shapes that do not fit.
        ModelError: for a site whose kernel has another support than its initial kernel.
    """
    arrived = _arrived(state, observation, masks or {})
    model = state.conditioning.factor_graph.model
    if model.slice_proposal is not None:
        if masks:
            raise ClampError(
                "append: this model extends its clouds itself and takes whole observations; leave masks out."
            )
        longer, increments = _supplied(state, arrived, observation, generator)
    else:
        longer, increments = _from_prior(state, arrived, generator)
    if is_coupled(state):
        increments = increments.sum(1, keepdim=True).expand_as(state.log_weights)
    weights = state.log_weights + increments
    gain = torch.logsumexp(weights, 0) - torch.logsumexp(state.log_weights, 0)
    longer = longer.replace(log_weights=weights, log_evidence=state.log_evidence + gain)
    longer = longer.replace(adaptation=state.reopened_adaptation())
    return resample_lineages(longer, generator)


@dataclass(frozen=True)
class Arrived:
    """The data of one more slice.

    Attributes:
        data: observed site or input -> all its values, `(1, B, T + 1, *event)`.
        shown: partly observed latent site that was seen -> its values, `(K, B, T + 1, *event)`, the
            new ones as data.
        masks: all masks, those of sites with a new value extended by it.
    """

    data: dict[str, Tensor]
    shown: dict[str, Tensor]
    masks: dict[str, Tensor]


def _grows(site: Site, length: int) -> bool:
    return site.period is not None and length % site.period == 0


def _arrived(
    state: State, observation: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> Arrived:
    _check_arrival(state, observation, masks)
    found = Arrived({}, {}, dict(state.masks))
    for name, site in state.conditioning.factor_graph.model.sites.items():
        if site.kind == "deterministic" or not _grows(site, state.length):
            continue
        latent, value = name in state.conditioning.latent, observation.get(name)
        if value is None and not latent:
            raise ClampError(
                f"site {name!r} is observed: its value in the new slice is missing; pass {name!r} as well."
            )
        if value is None:
            if name in state.masks:
                found.masks[name] = _longer_mask(
                    state, name, torch.zeros(state.batch_size, dtype=torch.bool)
                )
            continue
        if name in masks or name in state.masks:
            seen = masks.get(
                name, torch.ones(state.batch_size, dtype=torch.bool, device=value.device)
            )
            found.masks[name] = _longer_mask(state, name, seen)
        (found.shown if latent else found.data)[name] = _longer(
            state, name, value, found.masks.get(name)
        )
    return found


def _check_arrival(
    state: State, observation: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    conditioning = state.conditioning
    for name in [*observation, *masks]:
        if name not in conditioning.factor_graph.model.sites:
            raise ClampError(unknown_name("site", name, conditioning.factor_graph.model.sites))
    for name in observation:
        if name in conditioning.latent and (
            name not in state.masks or name in conditioning.partly_intervened
        ):
            raise ClampError(
                f"site {name!r} is latent in this cloud: it cannot be observed in a new slice."
            )
    for name, mask in masks.items():
        if name not in observation:
            raise ClampError(
                f"site {name!r}: a mask needs data; pass its value in the new slice as well."
            )
        if conditioning.site(name).kind == "input":
            raise ClampError(
                f"input {name!r} cannot be masked: only random sites can be partly observed."
            )
        if mask.dtype != torch.bool or tuple(mask.shape[:1]) != (state.batch_size,):
            raise ClampError(
                f"mask of site {name!r}: expected bool of shape {(state.batch_size,)}, found {mask.dtype} "
                f"{tuple(mask.shape)}."
            )
        if name not in state.masks and has_readers(conditioning.factor_graph, name):
            raise ClampError(
                f"site {name!r} is read by other values, so what is hidden of it must be inferred: begin with "
                f"init(..., masks={{{name!r}: all True}})."
            )


def _longer_mask(state: State, name: str, new: Tensor) -> Tensor:
    """The site's mask with that of one more slice, by element of the event where either is."""
    values = state.constrained(name)
    old = state.masks.get(name)
    if old is None:
        old = torch.ones(1, *values.shape[1:3], dtype=torch.bool, device=values.device)
    new = new.to(old.device)[None, :, None]
    axes = max(old.ndim, new.ndim)
    wide = [
        x.reshape(*x.shape, *[1] * (axes - x.ndim)).expand(*x.shape[:3], *values.shape[3:axes])
        for x in (old, new)
    ]
    return torch.cat(wide, 2)


def _longer(state: State, name: str, value: Tensor, mask: Tensor | None) -> Tensor:
    """The site's values with those of one more slice; hidden ones repeat the slice before, so that they are possible."""
    old = state.constrained(name)
    if tuple(value.shape) != (state.batch_size, *old.shape[3:]):
        expected = (state.batch_size, *old.shape[3:])
        raise ClampError(
            f"site {name!r}: expected one slice {expected}, found {tuple(value.shape)}."
        )
    new = value[None, :, None].expand(old.shape[0], *value.shape[:1], 1, *value.shape[1:])
    if mask is not None:
        new = torch.where(expand_trailing(mask[:, :, -1:], new), new, old[:, :, -1:])
    return torch.cat([old, new], 2)


def _from_prior(
    state: State, arrived: Arrived, generator: torch.Generator | None
) -> tuple[State, Tensor]:
    """Draw the new latents from their kernels; the weight is the likelihood of the new data."""
    conditioning = state.conditioning
    given = (
        {n: v for n, v in state.values.items() if n not in conditioning.latent}
        | arrived.data
        | arrived.shown
    )
    sizes = (state.num_particles, state.batch_size, state.length + 1)
    sampler = AncestorSampler(
        conditioning.factor_graph, *sizes, given, {n: arrived.masks[n] for n in arrived.shown}
    )
    with rng_from(generator):
        drawn = sampler.sample(state.length, state.natural)
    _check_domains(conditioning, sampler)
    values = {**state.values, **conditioning.unconstrain(drawn), **arrived.data}
    longer = state.replace(values=values, masks=arrived.masks, length=state.length + 1, cache={})
    increments = torch.zeros_like(state.log_weights)
    for factor in active_factors(longer):
        if factor.site.name in arrived.data and (factor.stop is None or state.length < factor.stop):
            increments = increments + evaluate(longer, factor, scores=False).log_prob[:, :, -1]
    for name in arrived.shown:
        law = sampler.distributions[sampler.drawn_factors(name)[0].key]
        log_prob = law.log_prob(drawn[name][:, :, -1:]).flatten(2).sum(2)
        increments = increments + torch.where(
            arrived.masks[name][:, :, -1], log_prob, torch.zeros_like(log_prob)
        )
    return longer, increments


def _check_domains(conditioning: Conditioning, sampler: AncestorSampler) -> None:
    for name, domain in conditioning.domains.items():
        for factor in sampler.drawn_factors(name):
            law = sampler.distributions[factor.key]
            if not same([domain, fixed(law, factor.site.batch_ndim)]):
                raise ModelError(unlike_supports(name, domain, law))


def _supplied(
    state: State,
    arrived: Arrived,
    observation: Mapping[str, Tensor],
    generator: torch.Generator | None,
) -> tuple[State, Tensor]:
    """Let the model's own proposal extend the cloud."""
    propose = state.conditioning.factor_graph.model.slice_proposal
    if propose is None or generator is None:
        raise MoveError(
            "slice proposal: a proposal and a generator are needed; call engine.init first."
        )
    changes, increments = propose(state.natural, observation, generator)
    values = {**state.values, **arrived.data, **state.conditioning.unconstrain(changes)}
    return state.replace(
        values=values, masks=arrived.masks, length=state.length + 1, cache={}
    ), increments
