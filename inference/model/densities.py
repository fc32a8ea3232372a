"""Evaluating factors: log densities, their scores, and how both are laid onto the sites they read.

One autograd call gives a factor's log density and its score towards *every* continuous latent that
it reads; values are detached at each site, so that nothing propagates further than one edge (the
locality of predictive coding).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import pad

from aif_dcpc.inference.errors import ModelError, NonFiniteError
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align, expand_trailing
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.state import Conditioning, FactorValue, State
from aif_dcpc.inference.model.supports import base_law
from aif_dcpc.inference.model.supports import log_prob as log_prob_of
from aif_dcpc.inference.model.unrounded import log_prob_at

SPLIT = "give what is observed and what is not sites of their own."


def evaluate(
    state: State, factor: Factor, values: Mapping[str, Tensor] | None = None, *, scores: bool = True
) -> FactorValue:
    """Log density of one factor on all its slices, with its scores (see `evaluate_all`)."""
    return evaluate_all(state, (factor,), values, scores=scores)[factor.key]


def evaluate_all(
    state: State,
    factors: Sequence[Factor],
    values: Mapping[str, Tensor] | None = None,
    *,
    scores: bool = True,
    rows: Mapping[str, Tensor] | None = None,
) -> dict[str, FactorValue]:
    """Log densities of some factors, with their scores by one autograd call.

    Args:
        state: conditioning, masks and the values not overridden.
        factors: which factors.
        values: overriding values, unconstrained coordinates.
        scores: whether to differentiate.
        rows: by factor key, the slices `(R,)` on which to evaluate a factor; all of them by
            default.

    Returns:
        by factor key, log density `(K, B, [T or R])` and, for each continuous latent argument, the
            score in the aligned argument's shape.
    """
    current = state.values if values is None else {**state.values, **values}
    wanted = {factor.key: _scored_arguments(state, factor) if scores else () for factor in factors}
    inputs: dict[str, dict[Argument, Tensor]] = {}
    log_prob: dict[str, Tensor] = {}
    with torch.enable_grad() if any(wanted.values()) else torch.no_grad():
        for factor in factors:
            here = None if rows is None else rows[factor.key]
            given = aligned_inputs(state, factor, current, here)
            for argument in wanted[factor.key]:
                given[argument] = given[argument].detach().requires_grad_()
            slices = factor_slices(state, factor)
            log_prob[factor.key] = log_density(state, factor, given, *slices, here)
            inputs[factor.key] = given
    found = _scores(log_prob, inputs, wanted)
    return {key: FactorValue(p.detach(), found[key]) for key, p in log_prob.items()}


def _scored_arguments(state: State, factor: Factor) -> tuple[Argument, ...]:
    """Name the arguments of a factor towards which it has a score."""
    return tuple(a for a in factor.inputs if is_continuous(state.conditioning, a.site))


def _scores(
    log_prob: Mapping[str, Tensor],
    inputs: Mapping[str, Mapping[Argument, Tensor]],
    wanted: Mapping[str, tuple[Argument, ...]],
) -> dict[str, dict[Argument, Tensor]]:
    """Differentiate all log densities in one call; what one does not depend on has score 0."""
    pairs = [(key, argument) for key, arguments in wanted.items() for argument in arguments]
    places = [inputs[key][argument] for key, argument in pairs]
    gradients = _gradients(list(log_prob.values()), places)
    found: dict[str, dict[Argument, Tensor]] = {key: {} for key in log_prob}
    for (key, argument), gradient in zip(pairs, gradients, strict=True):
        found[key][argument] = gradient
    return found


def _gradients(log_probs: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of the sum of all log densities at every place, in its shape."""
    outputs = [p for p in log_probs if p.requires_grad]
    if not outputs:
        return [torch.zeros_like(place) for place in places]
    ones = [torch.ones_like(p) for p in outputs]
    found = torch.autograd.grad(outputs, places, ones, allow_unused=True)
    return [
        torch.zeros_like(place) if gradient is None else gradient
        for place, gradient in zip(places, found, strict=True)
    ]


def aligned_inputs(
    state: State,
    factor: Factor,
    values: Mapping[str, Tensor] | None = None,
    rows: Tensor | None = None,
) -> dict[Argument, Tensor]:
    """Lay every argument that a factor reads along its slices, or along some `rows` of them.

    The values are the state's, or those given: unconstrained or not, as they are.
    """
    current = state.values if values is None else values
    start, stop = factor_slices(state, factor)
    return {
        argument: align(
            current[argument.site],
            state.conditioning.site(argument.site),
            argument,
            factor.site,
            start,
            stop,
            rows,
        )
        for argument in factor.inputs
    }


def is_continuous(conditioning: Conditioning, name: str) -> bool:
    """Tell whether a site is latent and has a score."""
    return name in conditioning.latent and name not in conditioning.discrete


def factor_slices(state: State, factor: Factor) -> tuple[int, int]:
    """Return the slices that a factor covers in its own scope, (0, 0) without time."""
    if factor.site.period is None:
        return 0, 0
    return factor.slices(state.values[factor.site.name].shape[2])


def log_density(
    state: State,
    factor: Factor,
    aligned: Mapping[Argument, Tensor],
    start: int,
    stop: int,
    rows: Tensor | None = None,
    *,
    density: Callable[[Distribution, Tensor], Tensor] = log_prob_of,
) -> Tensor:
    """Return log p at aligned inputs in unconstrained coordinates, `(K, B, [T])` nats.

    Gradients flow to inputs and parameters.

    The inputs are those of the slices `start .. stop - 1`, or of `rows` `(R,)` where these are
    given; `density` may replace the distribution's own.
    """
    bijections = state.conditioning.bijections
    own = Argument(factor.site.name)
    batch_ndim = factor.site.batch_ndim
    natural = dict(aligned)
    for argument, value in aligned.items():
        if argument.site in bijections:
            natural[argument] = bijections[argument.site](value)
    law = factor.distribution(natural)
    counted = counted_elements(state, factor, start, stop, rows)
    if counted is not None and counted.ndim > batch_ndim:
        law = base_law(law)
    bijection = bijections.get(own.site)
    if bijection is None:
        log_prob = density(law, natural[own])
    else:
        log_prob = log_prob_at(law, bijection, natural[own], aligned[own])
    if counted is not None:
        flags = expand_trailing(counted, log_prob)
        log_prob = torch.where(flags, log_prob, torch.zeros_like(log_prob))
    log_prob = _sum_event(log_prob, batch_ndim)
    if bijection is not None:
        jacobian = bijection.log_abs_det_jacobian(aligned[own], natural[own])
        log_prob = log_prob + _sum_event(jacobian, batch_ndim)
    power = likelihood_power(state, factor, start, stop, rows)
    return log_prob if power is None else log_prob * power


def _sum_event(values: Tensor, batch_ndim: int) -> Tensor:
    """Sum over whatever follows the leading axes."""
    if values.ndim > batch_ndim:
        return values.flatten(batch_ndim).sum(-1)
    return values


def counted_elements(
    state: State, factor: Factor, start: int, stop: int, rows: Tensor | None = None
) -> Tensor | None:
    """Return the mask of elements whose log density is counted; None for all.

    Its shape is `(1, B, [T,] *elements)`. Missing elements of an observed site are not counted, nor
    elements that are fixed by `do`.
    """
    name = factor.site.name
    mask = state.masks.get(name)
    fixed = name in state.conditioning.partly_intervened
    if mask is None or (name in state.conditioning.latent and not fixed):
        return None
    here = _on_slices(mask, factor, start, stop, rows)
    return ~here if fixed else here


def _on_slices(mask: Tensor, factor: Factor, start: int, stop: int, rows: Tensor | None) -> Tensor:
    """Take a mask of a factor's site on some of its slices."""
    if factor.site.period is None:
        return mask
    return mask[:, :, start:stop] if rows is None else mask.index_select(2, rows)


def likelihood_power(
    state: State, factor: Factor, start: int, stop: int, rows: Tensor | None = None
) -> Tensor | None:
    """Return the power to which a tempered state raises a factor's density; None for 1.

    Its shape is `(1, B or 1, [1 or T])`.
    """
    site = factor.site
    power = state.inverse_temperature
    mask = state.masks.get(site.name)
    latent = site.name in state.conditioning.latent
    if power is None or (latent and mask is None):
        return None
    power = power[:1] if site.scope == "global" else power
    wide = power[None] if site.period is None else power[None, :, None]
    if not latent or mask is None:
        return wide
    refuse_masked_elements(site, mask)
    return torch.where(_on_slices(mask, factor, start, stop, rows), wide, torch.ones_like(wide))


def refuse_masked_elements(site: Site, mask: Tensor) -> None:
    """Refuse a mask that tells the elements of a latent's event apart, where only whole ones have a power.

    Raises:
        ModelError: for such a mask.
    """
    if mask.ndim > site.batch_ndim:
        raise ModelError(
            f"site {site.name!r}: tempering cannot tell elements of a latent's event apart; {SPLIT}"
        )


def active_factors(state: State) -> tuple[Factor, ...]:
    """List all factors that are not cut by `do` and cover at least one slice."""
    return tuple(
        f
        for f in state.conditioning.factor_graph.factors
        if state.conditioning.is_active(f, state.length)
    )


def factors_of(state: State, name: str) -> tuple[Factor, ...]:
    """List the active factors that read a site: its own and its children's."""
    return state.conditioning.factors_of(name, state.length)


def log_joint(state: State) -> Tensor:
    """Return log p(data, particles), `(K, B)` nats, in unconstrained coordinates.

    Global factors count in the row of every data point.
    """
    total = torch.zeros_like(state.log_weights)
    for factor in active_factors(state):
        log_prob = (state.cache.get(factor.key) or evaluate(state, factor, scores=False)).log_prob
        total = total + (log_prob if log_prob.ndim == 2 else log_prob.sum(2))
    return total


def not_finite(state: State) -> NonFiniteError:
    """Make the error of a cloud whose log joint is not finite; it names the site where one is found.

    Reads from the device.
    """
    for factor in active_factors(state):
        value = state.cache.get(factor.key) or evaluate(state, factor, scores=False)
        if not bool(torch.isfinite(value.log_prob).all()):
            return NonFiniteError(
                f"site {factor.site.name!r}, by sweep {state.sweeps}: its log density is not "
                "finite; check the kernel's scale parameters and the data's range, or start from "
                "more plausible particles."
            )
    return NonFiniteError(
        f"sweep {state.sweeps}: the log joint is not finite; run `check_model` to find the site."
    )


def accumulate(
    total: Tensor,
    state: State,
    site: Site,
    factor: Factor,
    argument: Argument,
    part: Tensor,
    *,
    shift: int = 0,
) -> None:
    """Add a factor's quantity, in place, to the values of the site behind an argument.

    Args:
        total: `(K, B, length, *rest)`, with one slice for a site without time.
        state: gives the factor's slices.
        site: the site behind `argument`.
        factor: the factor that reads it.
        argument: one of the factor's.
        part: `(K, B, [T_factor,] *rest)`, summed where the site is slower than the factor.
        shift: slice 0 of the site stands at this place of `total`.
    """
    if site.period is None:
        total.add_(collapse(site, factor, part).unsqueeze(2))
        return
    start, stop = factor_slices(state, factor)
    if site.period != factor.site.period:
        ratio = site.period // (factor.site.period or 1)
        after = -stop % ratio
        part = pad(part, (*(0, 0) * (part.ndim - 3), start, after)).unflatten(2, (-1, ratio)).sum(3)
        start = 0
        stop = (stop + after) // ratio
    if total.shape[2] != stop - start:
        total = total.narrow(2, shift + start - argument.lag, stop - start)
    total.add_(part)


def collapse(site: Site, factor: Factor, part: Tensor) -> Tensor:
    """Sum a factor's quantity `(K, B, [T,] *rest)` onto a site without time, `(K, B or 1, *rest)`."""
    if factor.site.period is not None:
        part = part.sum(2)
    return part.sum(1, keepdim=True) if site.scope == "global" and part.shape[1] > 1 else part


def first_lag(factor: Factor, name: str) -> int:
    """Return the smallest lag at which a factor reads a site.

    The factor's change is attributed to that slice, so that every factor belongs to exactly one
    chunk.
    """
    return min(factor.lags(name))


def fill_cache(state: State, names: tuple[str, ...]) -> State:
    """Evaluate the factors around `names` that are not cached."""
    missing = {f.key: f for n in names for f in factors_of(state, n) if f.key not in state.cache}
    if not missing:
        return state
    return state.replace(cache={**state.cache, **evaluate_all(state, tuple(missing.values()))})


def keeps_scores(state: State, site: Site, factor: Factor) -> bool:
    """Tell whether a cached score can be kept slice by slice, row by row, when other sites move."""
    same_time = site.period == factor.site.period
    same_batch = (site.scope == "global") == (factor.site.scope == "global")
    return same_time and same_batch


def merge(
    state: State, factor: Factor, accepted: Tensor, new: FactorValue, old: FactorValue
) -> FactorValue:
    """Keep `new` where `accepted` `(K, B, [T])`, else `old`; drop scores that cannot be merged."""
    log_prob = torch.where(accepted, new.log_prob, old.log_prob)
    scores = {}
    for argument, score in new.scores.items():
        if (
            keeps_scores(state, state.conditioning.site(argument.site), factor)
            and argument in old.scores
        ):
            scores[argument] = torch.where(
                expand_trailing(accepted, score), score, old.scores[argument]
            )
    return FactorValue(log_prob, scores)


def prediction_error(state: State, name: str, current: Mapping[str, FactorValue]) -> Tensor:
    """Sum the scores of the factors around a site, `(K, B, [T,] *event)` (paper, equation 6)."""
    site = state.conditioning.site(name)
    value = state.values[name]
    if site.period is not None:
        total = torch.zeros_like(value)
        add_scores(total, state, site, current)
        return total
    total = torch.zeros_like(value.unsqueeze(2))
    add_scores(total, state, site, current)
    return total.squeeze(2)


def add_scores(
    total: Tensor, state: State, site: Site, current: Mapping[str, FactorValue], *, shift: int = 0
) -> None:
    """Add the scores of all factors around a site to `total` `(K, B, length, *event)`, in place."""
    for factor in factors_of(state, site.name):
        scores = current[factor.key].scores
        for lag in factor.lags(site.name):
            argument = Argument(site.name, lag)
            accumulate(total, state, site, factor, argument, scores[argument], shift=shift)
