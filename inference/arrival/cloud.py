"""A cloud that stands at the posterior, for runs whose sweeps from the prior did not arrive there.

What `sample` does, in the midst of `DCPC.run`: chains start elsewhere than at the prior, climb, warm up
and draw; each particle becomes one of their draws. Only where that takes seconds, not minutes.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.build import block_names, sampler_at
from aif_dcpc.inference.arrival.draws import Draws
from aif_dcpc.inference.arrival.sample import Attempt, attempts
from aif_dcpc.inference.arrival.size import (
    LEAST,
    MOST,
    NUMBERS,
    TRIED,
    few,
    fitting_num_particles,
    numbers_per_chain,
)
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import POSTERIOR, State
from aif_dcpc.inference.queries.looks import LEAST_SWEEPS, Looks
from aif_dcpc.inference.sweeping import Swept

MAX_SECONDS = 10.0  # of processor time; twice that where the block has to warm up again
MOST_OUTSIDE = 10_000  # numbers of a particle, its data together, that no block moves


@dataclass(frozen=True)
class Arrived:
    """A cloud of draws.

    Attributes:
        state: the cloud before its first sweep, known to stand at the posterior if nothing is said.
        warnings: what stands against the draws, one sentence each.
    """

    state: State
    warnings: tuple[str, ...]


def swept_from_draws(
    engine: Any,
    state: State,
    generator: torch.Generator | None,
    sweeps: Callable[[State, Looks], Swept],
    recorded: int,
) -> Swept | None:
    """Make the sweeps of a run from draws of the posterior; None where there are none to be had.

    Args:
        engine, state, generator: as in `arrived`.
        sweeps: makes them from a cloud, with looks at it.
        recorded: how many of them are recorded.
    """
    found = arrived(engine, state, generator)
    if found is None:
        return None
    made = sweeps(found.state, Looks.over(found.state, recorded, engine.warmup, least=LEAST_SWEEPS))
    return replace(made, doubts=found.warnings or made.doubts)


def arrived(engine: Any, state: State, generator: torch.Generator | None) -> Arrived | None:
    """Put a cloud of prior draws at draws from the posterior.

    Args:
        engine: whose moves visit what the block does not hold.
        state: the cloud; its roles, data and number of particles hold.
        generator: source of randomness.

    Returns:
        the cloud, and what is to be said of it; None where it would take too long, or cannot be done.
    """
    began = time.process_time()
    with no_validation(), torch.no_grad():
        try:
            found = _attempt(engine, state, generator, began)
        except Exception:  # whoever asks warns: a remedy that fails must not take his run away
            return None
        if found is None or not _is_finite(found.draws):
            return None
        values = state.conditioning.unconstrain(_one_each(found.draws.values, state.num_particles))
        moved = state.with_values({n: x.to(state.values[n]) for n, x in values.items()})
    return Arrived(moved if found.doubts else moved.replace(origin=POSTERIOR), found.doubts)


def _attempt(
    engine: Any, state: State, generator: torch.Generator | None, began: float
) -> Attempt | None:
    """Draws of the posterior; None where chains cost too much.

    Moves that the user has chosen are left aside: they are for the sweeps that follow.
    """
    chains = copy.copy(engine)
    chains.moves = {}
    chains._last = None  # a schedule of other moves
    chains.generator = generator
    number = _fitting_number(_resized(state, TRIED))
    if number is None:
        return None
    sampler = sampler_at(chains, _resized(state, number), compiles=False)
    return attempts(sampler, began, MAX_SECONDS)[1]


def _fitting_number(state: State) -> int | None:
    """How many chains `sample` would take; None where even the fewest cost too much."""
    block = Block.of(state, block_names(state, {}))
    if sum(state.values[n][0].numel() for n in block.outside) > MOST_OUTSIDE:
        return None
    if not block.names:
        return MOST
    example = few(state.log_weights, block)
    if LEAST * numbers_per_chain(block, example) > NUMBERS:
        return None
    return fitting_num_particles(block, example)


def _resized(state: State, number: int) -> State:
    """The cloud with so many particles, its own in turn."""
    index = torch.arange(number, device=state.log_weights.device) % state.num_particles
    latent = state.conditioning.latent
    values = {n: x[index] if n in latent else x for n, x in state.values.items()}
    return state.replace(
        values=values,
        log_weights=torch.zeros_like(state.log_weights[index]),
        ancestors=index[:, None].expand(number, state.batch_size),
        cache={},
        adaptation={},
    )


def _one_each(values: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """One draw for each of so many particles from draws `(S, K, ...)`, of all chains in turn, far apart in each."""
    found = {}
    for name, value in values.items():
        length, chains = value.shape[:2]
        turn = torch.arange(number, device=value.device) // chains
        rounds = -(-number // chains)
        found[name] = value[length - 1 - turn * length // rounds, torch.arange(number) % chains]
    return found


def _is_finite(draws: Draws) -> bool:
    return all(bool(torch.isfinite(x).all()) for x in draws.values.values())
