"""The same worlds in pymdp 1.0, compiled, and what its planning and filtering take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pymdp.agent import Agent
from pymdp.planning.si import si_policy_search

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.experiments.planning.measure import milliseconds
from aif_dcpc.experiments.planning.worlds import World

ROOMS = (100, 300, 1000)  # numbers of nodes that its search may have; 5,000 by default
SAME = 1e-3  # difference of the chances of actions below which two searches agree


def agent_of(world: World, **options: Any) -> Any:
    """Build pymdp's agent, with a batch of one."""

    def batched(table: Floats) -> Any:
        return jnp.asarray(table, jnp.float32)[None]

    wanted = world.log_preferences
    tables = world.likelihoods
    return Agent(
        [batched(table) for table in tables.values()],
        [batched(table) for table in world.transitions],
        [batched(wanted.get(name, np.zeros(len(table)))) for name, table in tables.items()],
        [batched(prior) for prior in world.initial],
        A_dependencies=[list(factors) for factors in world.depends.values()],
        B_dependencies=[[factor] for factor in range(len(world.transitions))],
        num_controls=[table.shape[2] for table in world.transitions],
        batch_size=1,
        **options,
    )


def planning(world: World, depth: int, repeats: int) -> tuple[float, int, float]:
    """Time its sophisticated search, and its open-loop judgement of all sequences.

    Returns:
        milliseconds of the search, the best first action by it, and milliseconds of the other.
    """
    single = agent_of(world, policy_len=1)
    beliefs = [prior[:, None] for prior in single.D]
    search, chances = _least_search(single, beliefs, depth)
    searching = milliseconds(
        lambda: jax.block_until_ready(search(single, beliefs)), max(3, repeats // 4)
    )
    agent = agent_of(world, policy_len=depth)
    judge = jax.jit(lambda own, states: own.infer_policies(states))
    judging = milliseconds(lambda: jax.block_until_ready(judge(agent, beliefs)), repeats)
    return searching, int(chances.argmax()), judging


def _least_search(agent: Any, beliefs: Any, depth: int) -> tuple[Any, Floats]:
    """Find its search with the least room for nodes that answers as with the most.

    What it takes grows with the room that it is given.
    """
    search = si_policy_search(horizon=depth)
    chances = np.asarray(search(agent, beliefs)[0])[0]
    for room in ROOMS:
        smaller = si_policy_search(horizon=depth, max_nodes=room)
        found = np.asarray(smaller(agent, beliefs)[0])[0]
        if np.abs(found - chances).max() < SAME:
            return smaller, chances
    return search, chances


def filtering(world: World, repeats: int) -> float:
    """Time one step of its filter, milliseconds."""
    agent = agent_of(world, policy_len=1)
    beliefs = [prior[:, None] for prior in agent.D]
    action = jnp.zeros((1, len(agent.D)), jnp.int32)

    def step(own: Any, states: Any, seen: Any) -> Any:
        prior = own.update_empirical_prior(action, states)
        prior = prior[0] if isinstance(prior, tuple) else prior
        return own.infer_states(seen, prior)

    finite = world.finite()
    predicted = finite.predict(finite.initial, 0)
    seen = [
        jnp.asarray([int((predicted @ table).argmax())]) for table in finite.likelihood.values()
    ]
    compiled = jax.jit(step)
    return milliseconds(lambda: jax.block_until_ready(compiled(agent, beliefs, seen)), repeats)


def one_step(world: World) -> Floats:
    """Return minus its expected free energy of each action, one step ahead, `(A,)` nats."""
    agent = agent_of(world, policy_len=1)
    _, found = agent.infer_policies([prior[:, None] for prior in agent.D])
    return np.asarray(found, np.float64)[0]
