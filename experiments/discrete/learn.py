"""Steps until an agent's policy is within 5 % of the best, every environment step counted from nothing.

    python -m aif_dcpc.experiments.discrete.learn FrozenLake-v1 3000 5
    python -m aif_dcpc.experiments.discrete.learn Taxi-v4 5000 5 novelty=false

Every few steps the policy that the agent would follow if it were frozen (no novelty) is valued
exactly, by dynamic programming on the world's own tables, which the agent never sees; the best is
found in the same way. Rewards and endings are learned.
"""

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError

NEAR = 0.05
EVERY = {"FrozenLake-v1": 50, "CliffWalking-v1": 10, "Taxi-v4": 250}
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


@dataclass
class Looks:
    """When an agent's policy was near the best.

    Attributes:
        best: value of the best policy.
        near: numbers of steps after which it was near.
        missed: the last one after which it was not.
        value: of the policy at the last look.
    """

    best: float
    near: list[int]
    missed: int = 0
    value: float = -np.inf

    def look(self, step: int, value: float) -> None:
        """Take note of the value of a policy after so many steps."""
        self.value = value
        if value >= self.best - NEAR * abs(self.best):
            self.near.append(step)
        else:
            self.missed = step

    def summary(self) -> dict[str, Any]:
        """First near, near for good, and the last value."""
        stays = [step for step in self.near if step > self.missed]
        return {
            "first": self.near[0] if self.near else None,
            "stays": stays[0] if stays else None,
            "value": round(self.value, 3),
            "best": round(self.best, 3),
        }


def world_of(id: str) -> gymnasium.Env[Any, Any]:
    """Make a world whose tables can be read.

    Raises:
        ConfigError: there is none of that id, or it has no tables.
    """
    try:
        env = gymnasium.make(id)
    except gymnasium.error.Error as error:
        raise ConfigError(" ".join(str(error).split())) from None
    if not hasattr(env.unwrapped, "P"):
        raise ConfigError(f"{id} has no tables to value policies by: try {', '.join(EVERY)}.")
    return env


def setting_of(word: str) -> tuple[str, Any]:
    """Read the name and the value of a setting of the agent.

    Raises:
        ConfigError: it is not KEY=VALUE, or the value is not JSON.
    """
    key, _, value = word.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        raise ConfigError(
            f"{word}: expected KEY=VALUE with a value in JSON, such as novelty=false or draws=2."
        ) from None


def learn(id: str, seed: int, steps: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Live for so many steps; say when the policy was near the best, first and for good."""
    env = world_of(id)
    tables = Tables.of(env)
    looks = Looks(tables.best(), [])
    actions = env.action_space
    assert isinstance(actions, gymnasium.spaces.Discrete)
    agent = ObservedAgent.build(env.observation_space, int(actions.n), {}, settings, seed)
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=0)
    episodes = 0
    times: list[float] = []
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
        if step % EVERY.get(id, 100) == 0:
            looks.look(step, tables.value(policy_of(agent)))
    return {
        "seed": seed,
        **looks.summary(),
        "kinds": agent.world.kinds.mean(0).round(2).tolist(),
        "ms": round(float(np.median(times)), 1),
        "ms_99": round(float(np.quantile(times, 0.99)), 1),
    }


def main() -> None:
    """Print one line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("id", help="a registered id")
    parser.add_argument("steps", type=int, help="of the environment")
    parser.add_argument("seeds", type=int, help="how many")
    parser.add_argument("settings", nargs="*", help="of the agent, KEY=VALUE")
    wanted = parser.parse_args()
    settings = dict(map(setting_of, wanted.settings))
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for seed in range(wanted.seeds):
        print(learn(wanted.id, seed, wanted.steps, settings), flush=True)


if __name__ == "__main__":
    run_script(main)
