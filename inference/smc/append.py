"""One more slice: lineages are weighed by how well they predicted the new data, and resampled where that is due.

Only the last slices are looked at, those that the new one reads: what is computed does not grow
with the series. What is moved in memory does (each lineage that is resampled is copied whole).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ClampError, ModelError, MoveError
from aif_dcpc.inference.model.ancestral import AncestorSampler
from aif_dcpc.inference.model.clamping import check_tensor, check_values
from aif_dcpc.inference.model.conditioning import has_readers
from aif_dcpc.inference.model.densities import SPLIT, active_factors, evaluate
from aif_dcpc.inference.model.factor_graph import expand_trailing, num_slices
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.isolation import rng_from
from aif_dcpc.inference.model.resampling import is_coupled, resample_lineages
from aif_dcpc.inference.model.state import Conditioning, State, without_past
from aif_dcpc.inference.model.supports import base_law, fixed, same, unlike_supports
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
        observation: site -> `(B, *event)` of the new slice, for every observed site and input with
            time; a site that is partly observed in this cloud may be left out, and is then missing.
        generator: source of randomness.
        masks: site -> `(B,)` True where the new value is observed (everywhere by default); missing
            values may be NaN.

    Returns:
        the cloud over T + 1 slices, weighted, resampled where the ESS fell below K/2;
            `log_evidence` grows by the log mean incremental weight. With global latents all data
            share their weights, and their evidence is that of all data together.

    Raises:
        ClampError: for unknown, missing or latent sites, shapes that do not fit, values outside a
            kernel's support, or values that are impossible at every particle.
        ModelError: for a site whose kernel has another support than its initial kernel.
    """
    new = _new_slice(state, observation, masks or {})
    if state.conditioning.factor_graph.model.slice_proposal is None:
        longer, increments = _from_prior(state, new, generator)
    elif masks:
        raise ClampError(
            "append: this model extends its clouds itself and takes whole observations; leave "
            "masks out."
        )
    else:
        longer, increments = _from_user_proposal(state, new, observation, generator)
    if is_coupled(state):
        increments = increments.sum(1, keepdim=True).expand_as(state.log_weights)
    _check_explained(increments, new)
    weights = state.log_weights + increments
    gain = torch.logsumexp(weights, 0) - torch.logsumexp(state.log_weights, 0)
    longer = longer.replace(log_weights=weights, log_evidence=state.log_evidence + gain)
    return resample_lineages(longer.followed(), generator)


def _check_explained(increments: Tensor, new: "NewSlice") -> None:
    """Refuse data that have density zero at every particle, or none at all (reads from the device)."""
    possible = torch.isfinite(increments).any(0)
    if not bool(possible.all()):
        names = " and ".join(map(repr, {**new.data, **new.observed}))
        raise ClampError(
            f"append: datum {int(possible.int().argmin())}: no particle explains the new slice of "
            f"{names} (log density not finite at all {len(increments)}); check the value, mark it "
            "as missing with masks=, or use more particles."
        )


# -- the new data ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewSlice:
    """The data of one more slice, missing ones in the place of the slice before.

    Attributes:
        data: observed site or input -> its new value, `(1, B, 1, *event)`.
        observed: partly observed latent site that was observed -> its new value, in its own
            support, `(K, B, 1, *event)`.
        masks: all masks `(1, B, T + 1, *elements)`, those of sites with a new value extended by it.
    """

    data: dict[str, Tensor]
    observed: dict[str, Tensor]
    masks: dict[str, Tensor]


def _new_slice(
    state: State, observation: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> NewSlice:
    """Check names and shapes of the new slice and give it the axes of the cloud."""
    _check_names(state, observation, masks)
    for name, mask in masks.items():
        _check_mask(state, observation, name, mask)
    new = NewSlice({}, {}, dict(state.masks))
    for name in _growing(state):
        latent = name in state.conditioning.latent
        value = observation.get(name)
        if value is None and not latent:
            raise ClampError(
                f"site {name!r} is observed: its value in the new slice is missing; pass "
                f"{name!r} as well."
            )
        if name in masks or name in state.masks:
            new.masks[name] = _longer_mask(state, name, _new_mask(state, value, masks.get(name)))
        if value is not None:
            values = new.observed if latent else new.data
            values[name] = _wide(state, name, value, new.masks.get(name))
    return new


def _growing(state: State) -> list[str]:
    """Random sites and inputs of which a value begins in the new slice."""
    sites = state.conditioning.factor_graph.model.sites.values()
    return [site.name for site in sites if site.kind != "deterministic" and _grows(site, state)]


def _grows(site: Site, state: State) -> bool:
    """Whether a value of a site begins in the new slice."""
    return site.period is not None and state.length % site.period == 0


def _new_mask(state: State, value: Tensor | None, mask: Tensor | None) -> Tensor:
    """True where a partly observed site is observed in the new slice, `(B, *elements)`."""
    if value is None:
        return torch.zeros(state.batch_size, dtype=torch.bool)
    if mask is None:
        return torch.ones(state.batch_size, dtype=torch.bool, device=value.device)
    return mask


def _check_names(
    state: State, observation: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    """Refuse unknown sites, and observations of sites that are wholly latent in this cloud."""
    conditioning = state.conditioning
    sites = conditioning.factor_graph.model.sites
    for name, value in [*observation.items(), *masks.items()]:
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
        check_tensor(name, value)
    for name in observation:
        if sites[name].period is None or sites[name].kind == "deterministic":
            what = "deterministic" if sites[name].kind == "deterministic" else "a site without time"
            raise ClampError(
                f"append: site {name!r} is {what}, and has no value in a new slice; give its data "
                "to init."
            )
        observable = name in state.masks and name not in conditioning.partly_intervened
        if name in conditioning.latent and not observable:
            raise ClampError(
                f"site {name!r} is latent in this cloud: it cannot be observed in a new slice."
            )


def _check_mask(state: State, observation: Mapping[str, Tensor], name: str, mask: Tensor) -> None:
    """Refuse a mask of the new slice that has no data, no random site or another shape, or that comes too late."""
    if name not in observation:
        raise ClampError(
            f"site {name!r}: a mask needs data; pass its value in the new slice as well."
        )
    if state.conditioning.site(name).kind == "input":
        raise ClampError(
            f"input {name!r} cannot be masked: only random sites can be partly observed."
        )
    if mask.dtype != torch.bool or tuple(mask.shape[:1]) != (state.batch_size,):
        raise ClampError(
            f"mask of site {name!r}: expected bool of shape {(state.batch_size,)}, found "
            f"{mask.dtype} {tuple(mask.shape)}."
        )
    if name not in state.masks and has_readers(state.conditioning.factor_graph, name):
        raise ClampError(
            f"site {name!r} is read by other values, so what is hidden of it must be inferred: "
            f"begin with init(..., masks={{{name!r}: all True}})."
        )


def _longer_mask(state: State, name: str, new: Tensor) -> Tensor:
    """Extend a site's mask by that of one more slice, by element of the event where either is."""
    values = state.values[name]
    event = _last_value(state, name).shape[3:]
    old = state.masks.get(name)
    if old is None:
        old = torch.ones(1, *values.shape[1:3], dtype=torch.bool, device=values.device)
    new = new.to(old.device)[None, :, None]
    axes = max(old.ndim, new.ndim)
    wide = []
    for mask in (old, new):
        mask = mask.reshape(*mask.shape, *[1] * (axes - mask.ndim))
        wide.append(mask.expand(*mask.shape[:3], *event[: axes - 3]))
    return torch.cat(wide, 2)


def _last_value(state: State, name: str) -> Tensor:
    """Return a site's value in the last slice of its scope, in its own support, `(K or 1, B, 1, *event)`."""
    value = state.values[name][:, :, -1:]
    bijection = state.conditioning.bijections.get(name)
    return value if bijection is None else bijection(value)


def _wide(state: State, name: str, value: Tensor, mask: Tensor | None) -> Tensor:
    """Give a new value `(B, *event)` the axes of the cloud; where it is missing the last one stands."""
    last = _last_value(state, name)
    expected = (state.batch_size, *last.shape[3:])
    if tuple(value.shape) != expected:
        raise ClampError(
            f"site {name!r}: expected one slice {expected}, found {tuple(value.shape)}."
        )
    new = value[None, :, None].expand(last.shape[0], *value.shape[:1], 1, *value.shape[1:])
    if mask is None:
        return new
    return torch.where(expand_trailing(mask[:, :, -1:], new), new, last)


# -- extending the cloud ---------------------------------------------------------------------------


def _from_prior(
    state: State, new: NewSlice, generator: torch.Generator | None
) -> tuple[State, Tensor]:
    """Draw the new latents from their kernels; the weight is the likelihood of the new data."""
    conditioning = state.conditioning
    tail = state.last()
    masks = _without_cut(new.masks, state, tail)
    given = {n: v for n, v in tail.values.items() if n not in conditioning.latent}
    for name, value in {**new.data, **new.observed}.items():
        given[name] = torch.cat([tail.constrained(name), value], 2)
    _check_alone(tail, new, given, masks)
    sampler = AncestorSampler(
        conditioning.factor_graph,
        state.num_particles,
        state.batch_size,
        tail.length + 1,
        given,
        {name: masks[name] for name in new.observed},
        rng_from(generator),
    )
    drawn = sampler.sample(tail.length, tail.natural)
    _check_domains(conditioning, sampler)
    checked = check_values(
        conditioning.factor_graph, _told(new, given), masks, drawn, do=conditioning.intervened
    )
    drawn.update({n: v.to(tail.values[n].dtype) for n, v in checked.items() if n in new.data})
    values = {n: v for n, v in drawn.items() if conditioning.site(n).period is not None}
    extended = tail.replace(
        values={**tail.values, **conditioning.unconstrain(values)},
        masks=masks,
        length=tail.length + 1,
        cache={},
    )
    increments = _log_likelihood_of_data(extended, new)
    for name in new.observed:
        increments = increments + _log_likelihood_of_latent(sampler, extended, drawn, name)
    return _joined(state, tail, extended, new), increments


def _without_cut(masks: Mapping[str, Tensor], state: State, tail: State) -> dict[str, Tensor]:
    """Cut longer masks as `tail` has been cut."""
    timed = [n for n in masks if state.conditioning.site(n).period is not None]
    past = {n: state.values[n].shape[2] - tail.values[n].shape[2] for n in timed}
    return without_past(masks, past)


def _told(new: NewSlice, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the sites that have a new value from what is given."""
    return {name: given[name] for name in {**new.data, **new.observed}}


def _check_alone(
    tail: State, new: NewSlice, given: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    """Check new data that depend on data alone, before anything is drawn from them."""
    data = {n: v for n, v in given.items() if n in new.data or n not in tail.conditioning.latent}
    do = tail.conditioning.intervened
    check_values(tail.conditioning.factor_graph, data, masks, do=do)


def _joined(state: State, tail: State, extended: State, new: NewSlice) -> State:
    """Lay the new slice of the extended tail after all slices of the cloud."""
    values = dict(state.values)
    for name, before in tail.values.items():
        if tail.conditioning.site(name).period is not None:
            last = extended.values[name][:, :, before.shape[2] :]
            values[name] = torch.cat([values[name], last], 2) if last.shape[2] else values[name]
    return state.replace(values=values, masks=new.masks, length=state.length + 1, cache={})


def _log_likelihood_of_data(longer: State, new: NewSlice) -> Tensor:
    """Sum the log densities of the new data given the particles, `(K, B)` nats."""
    total = torch.zeros_like(longer.log_weights)
    for factor in active_factors(longer):
        length = num_slices(factor.site, longer.length)
        covers_last = factor.stop is None or length <= factor.stop
        if factor.site.name in new.data and covers_last:
            total = total + evaluate(longer, factor, scores=False).log_prob[:, :, -1]
    return total


def _log_likelihood_of_latent(
    sampler: AncestorSampler, longer: State, drawn: Mapping[str, Tensor], name: str
) -> Tensor:
    """Return the log density of what was observed of a latent site in the new slice, `(K, B)` nats.

    It is 0 where the value is missing.
    """
    law = sampler.distributions[sampler.drawn_factors(name)[0].key]
    mask = longer.masks[name][:, :, -1:]
    law = base_law(law) if mask.ndim > 3 else law
    log_prob = law.log_prob(drawn[name][:, :, -1:])
    mask = _of_whole_events(mask, log_prob.ndim, name) if mask.ndim > log_prob.ndim else mask
    seen = torch.where(expand_trailing(mask, log_prob), log_prob, torch.zeros_like(log_prob))
    return seen.flatten(2).sum(2)


def _of_whole_events(mask: Tensor, axes: int, name: str) -> Tensor:
    """Take a mask by element of events that are scored as a whole to so many axes (reads from the device).

    Raises:
        ClampError: where an event is observed in part.
    """
    elements = mask.flatten(axes)
    if not torch.equal(elements.all(-1), elements.any(-1)):
        raise ClampError(
            f"mask of site {name!r}: its kernel does not score the elements of an event one by one; "
            f"mask whole events of a new slice, or {SPLIT}"
        )
    return elements.all(-1)


def _check_domains(conditioning: Conditioning, sampler: AncestorSampler) -> None:
    """Refuse kernels with another support than that of the first slices."""
    for name, domain in conditioning.domains.items():
        for factor in sampler.drawn_factors(name):
            law = sampler.distributions[factor.key]
            if not same([domain, fixed(law, factor.site.batch_ndim)]):
                raise ModelError(unlike_supports(name, domain, law))


def _from_user_proposal(
    state: State,
    new: NewSlice,
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
    values = {**state.values, **state.conditioning.unconstrain(changes)}
    for name, value in new.data.items():
        values[name] = torch.cat([state.values[name], value], 2)
    length = state.length + 1
    return state.replace(values=values, masks=new.masks, length=length, cache={}), increments
