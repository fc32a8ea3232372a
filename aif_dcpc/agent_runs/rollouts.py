"""Episodes of a trained agent with frozen parameters, on seeds that it never saw, and what they amount to."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agent_runs.episode_statistics import succeeded
from aif_dcpc.agent_runs.loading import load_agent_and_env
from aif_dcpc.agent_runs.recorder import Recorder
from aif_dcpc.agents.protocol import Agent
from aif_dcpc.devices import set_up
from aif_dcpc.errors import RunFolderError
from aif_dcpc.metrics import MetricsLog
from aif_dcpc.progress import LiveProgress
from aif_dcpc.runs import open_run
from aif_dcpc.schema import RolloutConfig


@dataclass(frozen=True)
class Episode:
    """What one episode came to.

    Attributes:
        episode_return: sum of rewards.
        success: see `succeeded`.
        milliseconds: of every `act`.
        shortest_ratio: steps over the fewest possible, where the environment tells and the episode
            succeeded.
    """

    episode_return: float
    success: bool
    milliseconds: list[float]
    shortest_ratio: float | None

    @property
    def length(self) -> int:
        """The number of environment steps."""
        return len(self.milliseconds)


def play(
    env: Env,
    agent: Agent,
    *,
    seed: int,
    greedy: bool,
    before_step: Callable[[], None] = lambda: None,
) -> Episode:
    """Play one episode, from a seed to its end."""
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=seed)
    shortest = shortest_path(env)
    total = 0.0
    milliseconds = []
    over = False
    info: Mapping[str, Any] = {}
    while not over:
        start = time.perf_counter()
        action = agent.act(observation, greedy=greedy)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        before_step()
        observation, reward, terminated, truncated, info = env.step(action)
        agent.feedback(observation, float(reward), terminated, truncated)
        total += float(reward)
        over = terminated or truncated
    success = succeeded(info, total)
    ratio = len(milliseconds) / shortest if success and shortest else None
    return Episode(total, success, milliseconds, ratio)


def shortest_path(env: Env) -> int | None:
    """Return the fewest steps to the goal from here, where the environment can tell."""
    if not env.has_wrapper_attr("shortest_path"):
        return None
    steps: int | None = env.get_wrapper_attr("shortest_path")()
    return steps


def summarise(episodes: list[Episode]) -> dict[str, float]:
    """Means over episodes; `ms_per_step` is the median time of `act`: inference and planning."""
    ratios = [episode.shortest_ratio for episode in episodes if episode.shortest_ratio is not None]
    return {
        "success_rate": fmean(episode.success for episode in episodes),
        "mean_return": fmean(episode.episode_return for episode in episodes),
        "mean_length": fmean(episode.length for episode in episodes),
        "ms_per_step": median(time for episode in episodes for time in episode.milliseconds),
        **({"mean_shortest_ratio": fmean(ratios)} if ratios else {}),
    }


def rollout(config: RolloutConfig) -> dict[str, Any]:
    """Play the episodes that are asked for, write them to the run's board, and return the result.

    Raises:
        UserError: the run is missing, foreign or damaged, or the agent cannot model the
            environment.
    """
    if config.run is None:
        raise RunFolderError("which run? write run=RUN_DIR.")
    set_up(config.device, config.threads)
    folder = open_run(config.run)
    agent, env = load_agent_and_env(config.run, config.env, render=config.video, trust=config.trust)
    trained = folder.load_checkpoint()["tally"]["step"]
    with MetricsLog(folder.path, file="rollouts.jsonl") as log:
        recorder = Recorder(env, agent, folder.path, log) if config.video else None
        episodes = _play_all(config, env, agent, recorder, trained)
        result = summarise(episodes)
        tags = {
            "success_rate": "success_rate",
            "mean_return": "return",
            "mean_length": "episode_length",
        }
        log.scalars(
            trained, {f"eval/{tags.get(name, name)}": value for name, value in result.items()}
        )
    about = {
        "env": env_name(env),
        "episodes": len(episodes),
        "policy": config.policy,
        "seed": config.seed,
    }
    return {**about, "env_steps_trained": trained, **result}


def _play_all(
    config: RolloutConfig, env: Env, agent: Agent, recorder: Recorder | None, trained: int
) -> list[Episode]:
    episodes: list[Episode] = []
    with LiveProgress(config.episodes, unit="episodes") as progress:
        for index in range(config.episodes):
            filmed = recorder if index < config.video_episodes else None
            seed = config.seed + index
            before_step = (
                partial(filmed.film, f"seed {seed}") if filmed is not None else lambda: None
            )
            episodes.append(
                play(
                    env, agent, seed=seed, greedy=config.policy == "greedy", before_step=before_step
                )
            )
            if filmed is not None:
                filmed.finish(trained, f"rollout-{config.policy}-{seed}", "eval/episode")
            progress.update(index + 1, {"success": fmean(episode.success for episode in episodes)})
    return episodes


def env_name(env: Env) -> str:
    """Return the id under which the environment is registered, else its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
