"""Steps until an agent's policy is within 5 % of the best, every environment step counted from nothing.

    python -m aif_dcpc.experiments.discrete.learn FrozenLake-v1 3000 5
    python -m aif_dcpc.experiments.discrete.learn Taxi-v4 5000 5 novelty=false

Every few steps the policy that the agent would follow if it were frozen (no novelty) is valued
exactly, by dynamic programming on the world's own tables, which the agent never sees; the best is
found in the same way. Rewards and endings are learned.
"""

import json
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent

NEAR = 0.05
LOOKS = {"FrozenLake-v1": 50, "CliffWalking-v1": 10, "Taxi-v4": 250}
LIMIT = 200  # steps of an episode where the world has no limit


@dataclass(frozen=True)
class Tables:
    """A world's own tables.

    Attributes:
        moves: `(S, A, S)` probability that a state follows and the episode goes on.
        rewards: `(S, A)` expected.
        first: `(S,)` where episodes begin.
        limit: steps of an episode.
    """

    moves: Floats
    rewards: Floats
    first: Floats
    limit: int

    @classmethod
    def of(cls, env: gymnasium.Env[Any, Any]) -> "Tables":
        """Read them off a toy-text environment."""
        world: Any = env.unwrapped
        states = len(world.P)
        actions = len(world.P[0])
        moves = np.zeros((states, actions, states))
        rewards = np.zeros((states, actions))
        for state, choices in world.P.items():
            for action, results in choices.items():
                for chance, following, reward, ended in results:
                    rewards[state, action] += chance * reward
                    moves[state, action, following] += 0.0 if ended else chance
        first = getattr(world, "initial_state_distrib", np.eye(states)[env.reset(seed=0)[0]])
        limit = env.spec.max_episode_steps if env.spec else None
        return cls(moves, rewards, np.asarray(first), limit or LIMIT)

    def best(self) -> float:
        """Expected sum of rewards of an episode under the best policy, which may count steps."""
        values = np.zeros(len(self.first))
        for _ in range(self.limit):
            values = (self.rewards + self.moves @ values).max(1)
        return float(self.first @ values)

    def value(self, policy: Ints) -> float:
        """Expected sum of rewards of an episode under a policy, `(S,)` actions."""
        states = np.arange(len(policy))
        values = np.zeros(len(policy))
        for _ in range(self.limit):
            values = self.rewards[states, policy] + self.moves[states, policy] @ values
        return float(self.first @ values)


def policy_of(agent: ObservedAgent) -> Ints:
    """What a frozen agent would do in every state."""
    kept = (agent.max_iterations, agent.tolerance)
    agent.freeze()
    agent.max_iterations = 2000
    agent.tolerance = 1e-6
    found: Ints = agent.expected_free_energy().argmin(1)
    agent.freeze(False)
    agent.max_iterations, agent.tolerance = kept
    return found


def learn(id: str, seed: int, steps: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Live for so many steps; say when the policy was near the best, first and for good."""
    env = gymnasium.make(id)
    tables = Tables.of(env)
    best = tables.best()
    agent = ObservedAgent.build(env.observation_space, env.action_space.n, {}, settings, seed)
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=0)
    episodes = 0
    near: list[int] = []
    missed = 0
    times: list[float] = []
    value = -np.inf
    for step in range(1, steps + 1):
        began = time.process_time()
        action = agent.act({"state": observation})
        observation, reward, terminated, truncated, _ = env.step(action)
        agent.feedback({"state": observation}, float(reward), terminated, truncated)
        times.append(1e3 * (time.process_time() - began))
        if terminated or truncated:
            episodes += 1
            observation, _ = env.reset()
            agent.begin(seed=episodes)
        if step % LOOKS.get(id, 100) == 0:
            value = tables.value(policy_of(agent))
            if value >= best - NEAR * abs(best):
                near.append(step)
            else:
                missed = step
    stays = [step for step in near if step > missed]
    return {
        "seed": seed,
        "first": near[0] if near else None,
        "stays": stays[0] if stays else None,
        "value": round(value, 3),
        "best": round(best, 3),
        "kinds": agent.world.kinds.mean(0).round(2).tolist(),
        "ms": round(float(np.median(times)), 1),
        "ms_99": round(float(np.quantile(times, 0.99)), 1),
    }


def main() -> None:
    """Print one line for each seed."""
    id, steps, seeds, *rest = sys.argv[1:]
    settings = {key: json.loads(value) for key, value in (item.split("=") for item in rest)}
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for seed in range(int(seeds)):
        print(learn(id, seed, int(steps), settings), flush=True)


if __name__ == "__main__":
    main()
