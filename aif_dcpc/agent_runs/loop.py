"""The loop of an agent in its worlds, one action each at a time, able to stop after any step and go on bit for bit.

It knows nothing of files. An environment is not stored: it is rebuilt from the seed of the running
episode and the actions taken since, so that any Gymnasium environment that is deterministic given
`reset(seed=...)` can be resumed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agent_runs.episode_statistics import EpisodeStatistics, Times
from aif_dcpc.agent_runs.inhabitants import Inhabitants
from aif_dcpc.agent_runs.worlds import Outcome, World
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
    """Worlds, who lives in them, and how far they are.

    Args:
        envs: the environment of each world.
        inhabitants: a life for each.
        seed: of the run; every episode derives its own from it.
        greedy: whether the best action is taken, or one is sampled.
        log_every: environment steps between records of the agent's diagnostics.
        before_step: called after every choice, before the environments hear of it.
        after_step: called with what came of it, before new episodes begin.
    """

    def __init__(
        self,
        envs: Sequence[Env],
        inhabitants: Inhabitants,
        *,
        seed: int,
        greedy: bool,
        log_every: int,
        before_step: Callable[[], None] = lambda: None,
        after_step: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
    ) -> None:
        self.worlds = [World(env, inhabitants.rests) for env in envs]
        self.inhabitants = inhabitants
        self.seed = seed
        self.greedy = greedy
        self.log_every = log_every
        self.before_step = before_step
        self.after_step = after_step
        self.statistics = EpisodeStatistics()
        self.averages = Averages()
        self.times = Times()
        self.clock = time.perf_counter()
        self.clocked = 0

    def begin(self) -> None:
        """Begin the first episode of every world."""
        self._begin_where([True] * len(self.worlds))

    def _begin_where(self, due: Sequence[bool]) -> None:
        """Begin an episode in the worlds where one is due."""
        pairs = zip(self.worlds, due, strict=True)
        self.inhabitants.begin([self._begin(world) if begins else None for world, begins in pairs])

    def _begin(self, world: World) -> int:
        """Begin an episode in one world; return the seed of its agent."""
        episode = self.statistics.begin_episode()
        world.begin(episode, self._env_seed(episode.number))
        return derive(self.seed, AGENT_EPISODE, episode.number)

    def _env_seed(self, episode: int) -> int:
        return derive(self.seed, ENVIRONMENT_EPISODE, episode)

    def step(self) -> list[StepMetrics]:
        """Act once in every world and learn from it; return the records of this step, often none."""
        start = time.perf_counter()
        observations = [world.observation for world in self.worlds]
        actions = self.inhabitants.act(observations, greedy=self.greedy)
        acted = time.perf_counter()
        self.before_step()
        asked = time.perf_counter()
        outcomes = [world.step(a) for world, a in zip(self.worlds, actions, strict=True)]
        answered = time.perf_counter()
        self.inhabitants.feedback(outcomes)
        learned = time.perf_counter()
        self._note(acting=acted - start, environment=answered - asked, learning=learned - answered)
        self.after_step(outcomes)
        return self._count(outcomes)

    def _count(self, outcomes: Sequence[Outcome]) -> list[StepMetrics]:
        """Count the steps and the episodes that ended, begin the next ones, and return what is to be recorded."""
        before = self.statistics.step
        self.statistics.step += sum(outcome.steps for outcome in outcomes)
        due = self.statistics.step // self.log_every > before // self.log_every
        ended = [outcome.ended for outcome in outcomes]
        pairs = zip(self.worlds, outcomes, strict=True)
        records = [
            self.statistics.end_episode(world.episode, outcome.info)
            for world, outcome in pairs
            if outcome.ended
        ]
        if due:
            first = records[0] if records else {}
            records = [self._diagnostics() | first, *records[1:]]
        if any(ended):
            self._begin_where(ended)
        return records

    def _note(self, *, acting: float, environment: float, learning: float) -> None:
        """Take in the agent's report and the times of one step, seconds; times are those of one world."""
        reported = self.inhabitants.scalars()
        inference = reported.get("speed/ms_inference", 1e3 * acting)
        planning = reported.get("speed/ms_planning", 0.0)
        times = self.times.add(
            inference=inference / len(self.worlds),
            planning=planning / len(self.worlds),
            learning=1e3 * learning / len(self.worlds),
            environment=1e3 * environment / len(self.worlds),
        )
        self.averages.add({**reported, **times})

    def _diagnostics(self) -> StepMetrics:
        now = time.perf_counter()
        speed = (self.statistics.step - self.clocked) / (now - self.clock)
        self.clock = now
        self.clocked = self.statistics.step
        return {**self.averages.take(), "speed/env_steps_per_second": speed}

    # -- stopping and going on ---------------------------------------------------------------------

    def state(self) -> Checkpoint:
        """Everything needed to go on bit for bit."""
        return {
            **self.inhabitants.state(),
            "tally": asdict(self.statistics),
            "averages": self.averages.sums,
            "random": random_states(),
            "worlds": [world.state() for world in self.worlds],
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to what `state` gave.

        Raises:
            RunFolderError: the checkpoint does not fit, or an environment answers differently from
                before.
        """
        try:
            self.inhabitants.restore(checkpoint)
            self.statistics = EpisodeStatistics.of(checkpoint)
            self.averages.restore(checkpoint["averages"])
            for world, state in zip(self.worlds, checkpoint["worlds"], strict=True):
                world.restore(state, self._env_seed(state["number"]))
            restore_random_states(checkpoint["random"])
        except RunFolderError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"the checkpoint is not one of an agent: {type(error).__name__}: {error}."
            ) from error
        self.clocked = self.statistics.step
