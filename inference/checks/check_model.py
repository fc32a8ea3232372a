"""`check_model`: is a declared model sound? One sentence for each fault, with the site it lies at.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(torch.zeros(3), 1.0))
    >>> def averaged(z):
    ...     return Normal(z.mean(0, keepdim=True).expand_as(z), 1.0)
    >>> model.add_site("x", averaged, parents=["z"])
    >>> for sentence in check_model(model):
    ...     print(sentence.split(" (")[0])
    site 'x': the log density of a datum changes with the other particles or data

What is checked, on a small cloud drawn from the model itself, data clamped where they are given:

1. every kernel gives a log density of shape `(K, B, [T])`, finite, whatever K, B and T are;
2. particle k of data point i at slice t has the same log density alone as in the cloud (batch
normalisation does not);
3. scores equal finite differences (a detached value, a number read from a tensor, a rounded value
are found);
4. Geweke's joint test: drawing (latents, data) from the model, and then alternating the engine's
   sweeps with fresh data, must leave their joint distribution as it is. It finds kernels whose
   draws and densities differ, wrong `conditional=...` draws, and unsound moves.

Reference: Geweke (2004), "Getting it right", JASA 99, section 2.
"""

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from aif_dcpc.inference.checks.geweke import SIZES, joint_test, observed_of
from aif_dcpc.inference.checks.joint_draws import JointDraws, cloud_at
from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.errors import cause
from aif_dcpc.inference.model.densities import (
    active_factors,
    evaluate,
    factor_slices,
    is_continuous,
    log_density,
)
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align
from aif_dcpc.inference.model.graph import GraphicalModel
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State

STEPS = ((1e-6, 1e-4), (1e-2, 5e-2))  # step and relative tolerance of finite differences


def check_model(
    model: GraphicalModel,
    data: Mapping[str, Tensor] | None = None,
    *,
    moves: Mapping[str, str] | None = None,
    replicates: int = 4000,
    num_sweeps: int = 5,
    seed: int = 0,
) -> tuple[str, ...]:
    """Look for faults in a model.

    Args:
        model: the model; its parameters are left as they are.
        data: site -> `(B, [T,] *event)`, inputs included; sites without data are drawn from the
            model.
        moves: as in `DCPC`, for the joint test.
        replicates: independent replicates of Geweke's test; 0 leaves it out.
        num_sweeps: rounds of sweep and fresh data in Geweke's test.
        seed: of all random draws.

    Returns:
        one sentence per fault; empty if none was found. A sound model gets a false alarm from
            Geweke's test with
        probability at most 1e-5.
    """
    try:
        state = _cloud(model, data, seed)
    except Exception as error:  # kernels may raise anything
        return (f"the model cannot be sampled from: {cause(error)}",)
    with no_validation():
        faults = [
            sentence
            for factor in active_factors(state)
            for sentence in _check_factor(state, factor)
        ]
        faults += [sentence for sentence in _check_scores(model, data, seed)] if not faults else []
    if not faults and replicates:
        try:
            faults += joint_test(
                model, data, moves=moves, replicates=replicates, num_sweeps=num_sweeps, seed=seed
            )
        except Exception as error:  # as above
            faults.append(f"the engine cannot sweep this model: {cause(error)}")
    return tuple(dict.fromkeys(faults))


def _cloud(model: GraphicalModel, data: Mapping[str, Tensor] | None, seed: int) -> State:
    """Draw a small cloud from the prior, of the sizes that the data do not tell.

    Where bounds of data depend on latents, data are drawn as well, for each particle its own: those
    that are given are impossible for some.
    """
    batch_size, length = _untold_sizes(model, data or {})
    engine = DCPC(model, num_particles=SIZES["num_particles"])
    observed = observed_of(model, data)
    generator = torch.Generator().manual_seed(seed)
    draws = JointDraws(
        engine.factor_graph,
        engine.num_particles,
        data or {},
        anew=observed,
        batch_size=batch_size,
        length=length,
        generator=generator,
    )
    if not draws.have_moving_bounds(observed):
        return engine.init(data, batch_size=batch_size, length=length, seed=seed)
    state = cloud_at(engine.factor_graph, draws.values, observed, generator)
    return state.with_values({name: draws.values[name] for name in observed})


def _untold_sizes(
    model: GraphicalModel, data: Mapping[str, Tensor]
) -> tuple[int | None, int | None]:
    """Choose B and T; None where the data tell them, or where there is no time."""
    given = [model.sites[name] for name in data if name in model.sites]
    batch_told = any(site.scope != "global" for site in given)
    timed = any(site.period is not None for site in model.sites.values())
    length_told = any(site.period == 1 for site in given)
    batch_size = None if batch_told else SIZES["batch_size"]
    length = SIZES["length"] if timed and not length_told else None
    return batch_size, length


# -- shapes and independence -----------------------------------------------------------------------


def _aligned(state: State, factor: Factor) -> tuple[dict[Argument, Tensor], int, int]:
    start, stop = factor_slices(state, factor)
    sites = {argument: state.conditioning.site(argument.site) for argument in factor.inputs}
    values = {
        argument: align(state.values[argument.site], site, argument, factor.site, start, stop)
        for argument, site in sites.items()
    }
    return values, start, stop


def _check_factor(state: State, factor: Factor) -> Iterator[str]:
    """Check shape, finiteness, and that no entry depends on other particles, data or slices."""
    where = f"site {factor.site.name!r}"
    aligned, start, stop = _aligned(state, factor)
    axes = factor.site.batch_ndim
    expected = tuple(torch.broadcast_shapes(*(v.shape[:axes] for v in aligned.values())))
    try:
        whole = log_density(state, factor, aligned, start, stop)
    except Exception as error:  # as above
        yield (
            f"{where}: its kernel fails on parents with leading axes {expected} (K, B, [T]): "
            f"{cause(error)}"
        )
        return
    if tuple(whole.shape) != expected:
        yield (
            f"{where}: its log density has shape {tuple(whole.shape)}, expected {expected} "
            "(K, B, [T]); the distribution's batch shape must start with the leading axes of the "
            "parents."
        )
    elif not bool(torch.isfinite(whole).all()):
        yield (
            f"{where}: its log density is not finite at draws from the model itself; check its "
            "scale parameters."
        )
    else:
        yield from _check_entries(state, factor, aligned, whole)


def _check_entries(
    state: State, factor: Factor, aligned: Mapping[Argument, Tensor], whole: Tensor
) -> Iterator[str]:
    where = f"site {factor.site.name!r}"
    worst = 0.0
    for place in (
        torch.cartesian_prod(*(torch.arange(n) for n in whole.shape))
        .reshape(-1, whole.ndim)
        .tolist()
    ):
        alone = {argument: _entry(value, place) for argument, value in aligned.items()}
        start = factor_slices(state, factor)[0] + (place[2] if len(place) > 2 else 0)
        unmasked = state.replace(masks={})
        try:
            value = log_density(unmasked, factor, alone, start, start + 1)
        except Exception as error:  # as above
            yield f"{where}: its kernel fails on one particle of one datum alone: {cause(error)}"
            return
        if value.numel() != 1:
            yield (
                f"{where}: given one particle of one datum, its log density has shape "
                f"{tuple(value.shape)}, expected {(1,) * whole.ndim}; its kernel holds values of "
                "all data: declare them with add_input, as a parent."
            )
            return
        expected = whole[tuple(place)]
        worst = max(
            worst,
            float(
                (value.detach().squeeze() - expected.detach()).abs() / (1 + expected.detach().abs())
            ),
        )
    if worst > 1e-3:
        yield (
            f"{where}: the log density of a datum changes with the other particles or data "
            f"(largest difference {worst:.2g} of 1 + its size); a kernel must treat its leading "
            "axes (K, B, [T]) apart: look for batch normalisation, or a reduction over a wrong axis."
        )


def _entry(value: Tensor, place: list[int]) -> Tensor:
    for axis, index in enumerate(place):
        value = value.narrow(axis, index if value.shape[axis] > 1 else 0, 1)
    return value


# -- scores ----------------------------------------------------------------------------------------


def _check_scores(
    model: GraphicalModel, data: Mapping[str, Tensor] | None, seed: int
) -> Iterator[str]:
    """Check directional derivatives against central differences, in float64 where kernels allow it."""
    state = _cloud(model, data, seed)
    try:
        fine = _doubled(_cloud(copy.deepcopy(model).double(), data, seed))
        for factor in active_factors(fine):
            evaluate(fine, factor)
        state = fine
    except Exception:  # constants in float32
        pass
    generator = torch.Generator().manual_seed(seed)
    for factor in active_factors(state):
        try:
            yield from _check_slopes(state, factor, generator)
        except Exception as error:  # as above
            yield (
                f"site {factor.site.name!r}: its log density cannot be differentiated: "
                f"{cause(error)}"
            )


def _check_slopes(state: State, factor: Factor, generator: torch.Generator) -> Iterator[str]:
    for argument in factor.inputs:
        if is_continuous(state.conditioning, argument.site):
            # some densities compute in float32 whatever they are given: a fault shows at both step
            # sizes
            wrong = min(
                _wrong_slopes(state, factor, argument, *sizes, generator) for sizes in STEPS
            )
            if wrong > 0.25:  # a kink between the two points is no fault
                yield (
                    f"site {factor.site.name!r}: the gradient of its log density towards {argument.site!r} is not its "
                    f"slope ({wrong:.0%} of the entries differ); look for .detach(), .item(), rounding or a wrong "
                    "backward."
                )


def _doubled(state: State) -> State:
    values = {n: v.double() if v.is_floating_point() else v for n, v in state.values.items()}
    return state.replace(values=values, log_weights=state.log_weights.double())


def _wrong_slopes(
    state: State,
    factor: Factor,
    argument: Argument,
    step: float,
    tolerance: float,
    generator: torch.Generator,
) -> float:
    """Return the fraction of entries whose slope along a random direction contradicts the score."""
    aligned, start, stop = _aligned(state, factor)
    value = aligned[argument]
    direction = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
    moved = [
        log_density(state, factor, {**aligned, argument: value + s * step * direction}, start, stop)
        for s in (1, -1)
    ]
    difference = (moved[0] - moved[1]).detach() / (2 * step)
    slope = evaluate(state, factor).scores[argument] * direction
    axes = difference.ndim
    slope = slope.flatten(axes).sum(-1) if slope.ndim > axes else slope
    for axis in range(axes):
        # a value shared by several rows (a global site) collects the slopes of all of them
        if slope.shape[axis] == 1 < difference.shape[axis]:
            difference = difference.sum(axis, keepdim=True)
    size = 1 + difference.abs().median()
    return float(
        ((slope - difference).abs() > tolerance * (size + difference.abs())).double().mean()
    )
