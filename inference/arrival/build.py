"""Building the sampler: a cloud, densities recorded in a block's charts, chains scattered and climbed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import (
    BlockSampler,
    ChartMove,
    charts_of,
    partial_density,
)
from aif_dcpc.inference.arrival.climb import Climb
from aif_dcpc.inference.arrival.rest import RestMoves
from aif_dcpc.inference.arrival.size import MOST, TRIED, few, fitting_num_particles
from aif_dcpc.inference.arrival.start import arrive, scatter
from aif_dcpc.inference.errors import ClampError, ModelError
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.densities import log_joint, not_finite
from aif_dcpc.inference.model.joint import Chart, JointDensity, recorded_map
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.elimination import JointDiscreteDraw, coupled_groups
from aif_dcpc.inference.moves.hamiltonian import Point

FIRST_LOG_STEP = -1.0


def build_sampler(
    engine: Any, data: Mapping[str, Tensor] | None, num_particles: int | None, **setup: Any
) -> BlockSampler:
    """Clamp the data and bring chains of the block of all continuous latents near the posterior.

    The engine's generator is that of the chains from then on.

    Raises:
        ModelError: where nothing is latent.
        NonFiniteError: where no chain finds a finite density.
    """
    if num_particles is None:
        num_particles = _choose_num_particles(engine, data, **setup)
    chains = engine.with_num_particles(num_particles)
    state = chains.init(data, **setup)
    engine.generator = chains.generator
    compiles = engine.compiled is not None and engine.compiled.always
    return sampler_at(chains, state, compiles=compiles)


def sampler_at(engine: Any, state: State, *, compiles: bool) -> BlockSampler:
    """Bring chains of the block of all continuous latents near the posterior.

    Args:
        engine: its moves visit what the block does not hold; its generator is that of the chains.
        state: data, roles, and where the latents outside the block begin.
        compiles: whether recorded densities are compiled.

    Raises:
        ModelError: where nothing is latent.
        NonFiniteError: where no chain finds a finite density.
    """
    if not state.conditioning.latent:
        raise ModelError(
            "sample: every site is given, nothing is left to draw; leave out the data of one."
        )
    block = Block.of(state, block_names(state, engine.moves))
    outside = frozenset(block.outside)
    rest = _rest_moves(engine, state, outside) if outside else None
    if not block.names:
        return _without_block(state, block, rest, engine)
    like = state.log_weights
    num_particles = state.num_particles
    start = scatter((num_particles, block.num_chains, block.dimension), like, engine.generator)
    charts = charts_of(block)
    densities = {c: JointDensity(block, c).recorded(start, compiles=compiles) for c in charts}
    first = partial_density(densities["standardised"], block.others())
    found, metric = arrive(first, start, engine.generator)
    _check_arrived(state, block, found)
    moves = tuple(
        ChartMove(
            chart,
            densities[chart],
            metric,
            like.new_full((block.num_chains,), FIRST_LOG_STEP),
            like.new_ones((num_particles, block.num_chains)),
        )
        for chart in charts
    )
    goes_back = len(charts) > 1 or rest is not None
    needed: tuple[Chart, ...] = ("declared", "standardised") if goes_back else ("declared",)
    maps = {chart: recorded_map(block, chart, start) for chart in needed}
    point = Point(found.place, found.log_prob, found.score)
    return BlockSampler(state, block, moves, maps, rest, point, "standardised", engine.generator)


def _check_arrived(state: State, block: Block, found: Climb) -> None:
    """Refuse to go on where no chain of a datum has a finite density (reads a number)."""
    if not bool(torch.isfinite(found.log_prob).any(0).all()):
        declared, _ = block.to_declared(found.place)
        raise not_finite(state.with_values(block.unflatten(declared)))


def _rest_moves(engine: Any, state: State, outside: frozenset[str]) -> RestMoves:
    given = _given_moves(state, engine.moves)
    groups = coupled_groups(state, [n for n in state.conditioning.latent if n in outside - given])
    return RestMoves(engine.schedule, outside, tuple(JointDiscreteDraw(g) for g in groups))


def _given_moves(state: State, overrides: Mapping[str, Any]) -> set[str]:
    """Sites that have a move of the user's, or a conditional of the model's."""
    conditionals = state.conditioning.factor_graph.model.conditionals
    return {n for sites in conditionals for n in sites} | set(overrides)


def _choose_num_particles(engine: Any, data: Mapping[str, Tensor] | None, **setup: Any) -> int:
    try:
        state = engine.with_num_particles(TRIED).init(data, **setup)
    except ClampError:  # of more draws from the prior, some may allow the data
        return MOST
    block = Block.of(state, block_names(state, engine.moves))
    return fitting_num_particles(block, few(state.log_weights, block)) if block.names else MOST


def block_names(state: State, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Continuous latents but angles that have neither a user's move nor a conditional of the model's."""
    conditioning = state.conditioning
    given = _given_moves(state, overrides)
    apart = given | conditioning.discrete | conditioning.circular
    return tuple(n for n in conditioning.latent if n not in apart)


def _without_block(state: State, block: Block, rest: RestMoves | None, engine: Any) -> BlockSampler:
    height = log_joint(state)
    empty = height.new_zeros(*height.shape, 0)
    point = Point(empty, height, empty)
    return BlockSampler(state, block, (), {}, rest, point, "declared", engine.generator)
