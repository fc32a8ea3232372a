"""The loop of an agent in its environment, one step at a time, able to stop after any step and go on bit for bit.

It knows nothing of files. An environment is not stored: it is rebuilt from the seed of the running
episode and the actions taken since, so that any Gymnasium environment that is deterministic given
`reset(seed=...)` can be resumed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from aif_dcpc.agent_runs.assembly import Env, restore_agent
from aif_dcpc.agent_runs.episode_statistics import EpisodeStatistics, Times
from aif_dcpc.agents.protocol import Agent, Observation
from aif_dcpc.errors import RunFolderError
from aif_dcpc.metrics import Averages
from aif_dcpc.randomness import (
    AGENT_EPISODE,
    ENVIRONMENT_EPISODE,
    derive,
    random_states,
    restore_random_states,
)
from aif_dcpc.runs import Checkpoint

StepMetrics = dict[str, float]


class AgentLoop:
    """An agent, its environment, and how far they are.

    Args:
        env: the environment.
        agent: the agent.
        seed: of the run; every episode derives its own from it.
        greedy: whether the agent takes its best action, or samples.
        log_every: steps between records of the agent's diagnostics.
        before_step: called after every choice, before the environment hears of it.
    """

    def __init__(
        self,
        env: Env,
        agent: Agent,
        *,
        seed: int,
        greedy: bool,
        log_every: int,
        before_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.env = env
        self.agent = agent
        self.seed = seed
        self.greedy = greedy
        self.log_every = log_every
        self.before_step = before_step
        self.statistics = EpisodeStatistics()
        self.averages = Averages()
        self.times = Times()
        self.observation: Observation = {}
        self.clock = time.perf_counter()

    def start_episode(self) -> None:
        """Begin the episode that is next."""
        self.observation = self._reset()
        self.agent.begin(seed=derive(self.seed, AGENT_EPISODE, self.statistics.episode))

    def _reset(self) -> Observation:
        observation: Observation
        observation, _ = self.env.reset(
            seed=derive(self.seed, ENVIRONMENT_EPISODE, self.statistics.episode)
        )
        return observation

    def step(self) -> StepMetrics:
        """Act once and learn from it; return the numbers to record at this step, often none."""
        start = time.perf_counter()
        action = self.agent.act(self.observation, greedy=self.greedy)
        acted = time.perf_counter()
        self.before_step()
        asked = time.perf_counter()
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        answered = time.perf_counter()
        self.agent.feedback(self.observation, float(reward), terminated, truncated)
        learned = time.perf_counter()
        self.statistics.take_step(action, float(reward))
        self._note(acting=acted - start, environment=answered - asked, learning=learned - answered)
        record = self._diagnostics() if self.statistics.step % self.log_every == 0 else {}
        if terminated or truncated:
            record |= self.statistics.end_episode(info)
            self.start_episode()
        return record

    def _note(self, *, acting: float, environment: float, learning: float) -> None:
        """Take in the agent's report and the times of one step, seconds."""
        reported = self.agent.report().scalars
        inference = reported.get("speed/ms_inference", 1e3 * acting)
        planning = reported.get("speed/ms_planning", 0.0)
        times = self.times.add(
            inference=inference,
            planning=planning,
            learning=1e3 * learning,
            environment=1e3 * environment,
        )
        self.averages.add({**reported, **times})

    def _diagnostics(self) -> StepMetrics:
        now = time.perf_counter()
        speed = self.log_every / (now - self.clock)
        self.clock = now
        return {**self.averages.take(), "speed/env_steps_per_second": speed}

    # -- stopping and going on ---------------------------------------------------------------------

    def state(self) -> Checkpoint:
        """Everything needed to go on bit for bit."""
        return {
            "agent": self.agent.state_dict(),
            "tally": asdict(self.statistics),
            "averages": self.averages.sums,
            "random": random_states(),
            "environment": {
                "seed": derive(self.seed, ENVIRONMENT_EPISODE, self.statistics.episode),
                "actions": list(self.statistics.actions),
                "observation": {
                    key: torch.as_tensor(value) for key, value in self.observation.items()
                },
            },
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to what `state` gave.

        Raises:
            RunFolderError: the checkpoint does not fit, or the environment answers differently from
                before.
        """
        restore_agent(self.agent, checkpoint)
        try:
            self.statistics = EpisodeStatistics(**checkpoint["tally"])
            self.averages.sums = checkpoint["averages"]
            self._replay(checkpoint["environment"]["observation"])
            restore_random_states(checkpoint["random"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"the checkpoint is not one of an agent: {type(error).__name__}: {error}."
            ) from error

    def _replay(self, expected: Mapping[str, Any]) -> None:
        """Rebuild the environment from its seed and the actions of the running episode."""
        self.observation = self._reset()
        for action in self.statistics.actions:
            self.observation, *_ = self.env.step(action)
        for key, value in expected.items():
            if not np.array_equal(np.asarray(self.observation[key]), value.numpy()):
                raise RunFolderError(
                    f"the environment no longer answers as it did (stream {key!r} differs after replaying "
                    f"{len(self.statistics.actions)} actions): was it changed or updated since?"
                )
