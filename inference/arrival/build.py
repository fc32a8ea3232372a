"""Building the sampler of a block: a cloud, densities recorded in its charts, scattered and climbed chains."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import BlockSampler, ChartMove, charts_of
from aif_dcpc.inference.arrival.start import arrive, scatter
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.joint import Chart, JointDensity
from aif_dcpc.inference.model.recording import flat_graph
from aif_dcpc.inference.moves.hamiltonian import Point

FIRST_LOG_STEP = -1.0


def build_sampler(
    engine: Any, data: Mapping[str, Tensor] | None, num_particles: int, **setup: Any
) -> BlockSampler:
    """Clamp the data and bring chains of the block of all continuous latents near the posterior."""
    engine = engine.with_num_particles(num_particles)
    state = engine.init(data, **setup)
    block = Block.of(state)
    like = state.log_weights
    start = scatter((num_particles, block.num_chains, block.dimension), like, engine.generator)
    charts = charts_of(block)
    densities = {c: JointDensity(block, c).recorded(start) for c in charts}
    first = densities["standardised"]
    found, metric = arrive(first, start, engine.generator)
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
    point = Point(found.place, found.log_prob, found.score)
    return BlockSampler(
        state, block, moves, _maps(block, start), point, "standardised", engine.generator
    )


def _maps(block: Block, example: Tensor) -> dict[Chart, Callable[[Tensor], Tensor]]:
    """How vectors change charts, by the chart arrived at."""
    to_declared = flat_graph(lambda w: (block.to_declared(w)[0],), example)
    to_standardised = flat_graph(lambda u: (block.to_standardised(u),), example)
    return {
        "declared": lambda w: to_declared(w)[0],
        "standardised": lambda u: to_standardised(u)[0],
    }
