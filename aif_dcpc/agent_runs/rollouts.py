"""Episodes of a trained agent with frozen parameters, on seeds that it never saw, and what they amount to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from statistics import fmean, median
from typing import Any

from aif_dcpc.agent_runs.actions import admitted
from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agent_runs.endless import CutOff, is_cut_off, limit_reached
from aif_dcpc.agent_runs.episode_statistics import EpisodeStatistics, RunningEpisode, succeeded
from aif_dcpc.agent_runs.explanations import Explainer
from aif_dcpc.agent_runs.inhabitants import AllAtOnce, Inhabitants, OneInEach
from aif_dcpc.agent_runs.loading import Life, load_life
from aif_dcpc.agent_runs.recorder import Recorder
from aif_dcpc.agent_runs.recordings import EpisodeRecording, require_rerun
from aif_dcpc.agent_runs.sayings import doubts_of
from aif_dcpc.agent_runs.worlds import World
from aif_dcpc.agents.protocol import Agent, BatchAgent
from aif_dcpc.best_effort import BestEffort
from aif_dcpc.devices import check_agent_device, set_up
from aif_dcpc.errors import RunFolderError
from aif_dcpc.metrics import MetricsLog
from aif_dcpc.notes import note
from aif_dcpc.progress import LiveProgress
from aif_dcpc.runs import Checkpoint, open_run
from aif_dcpc.schema import RolloutConfig

ONE_CLOUD = (
    "worlds side by side share one cloud of this agent: what one of them shows counts in the others "
    "until all begin together; num_envs=1 keeps episodes apart."
)
# number of the result -> its tag on the board, where that is another
TAGS = {"mean_return": "return", "mean_length": "episode_length"}


@dataclass(frozen=True)
class Episode:
    """What one episode came to.

    Attributes:
        episode_return: sum of rewards.
        success: see `succeeded`.
        milliseconds: of every `act`; of a batch, each world's share.
        length: environment steps, of which an action may take several.
        shortest_ratio: steps over the fewest possible, where the environment tells and the episode
            succeeded.
        cut_off: whether it was not over when it had taken as many steps as it may.
    """

    episode_return: float
    success: bool
    milliseconds: list[float]
    length: int
    shortest_ratio: float | None
    cut_off: bool


def play(
    env: Env,
    agent: Agent,
    *,
    seed: int,
    greedy: bool,
    before_step: Callable[[], None] = lambda: None,
    at_end: Callable[[float], None] = lambda total: None,
) -> Episode:
    """Play one episode, from a seed to its end; `at_end` hears of its return before anything goes on."""
    observation, _ = env.reset(seed=seed)
    agent.begin(seed=seed)
    shortest = shortest_path(env)
    total = 0.0
    steps = 0
    milliseconds = []
    over = False
    info: Mapping[str, Any] = {}
    while not over:
        start = time.perf_counter()
        action = admitted(agent.act(observation, greedy=greedy), env.action_space)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        before_step()
        observation, reward, terminated, truncated, info = env.step(action)
        agent.feedback(observation, float(reward), bool(terminated), bool(truncated))
        total += float(reward)
        steps += int(info.get("env_steps", 1))
        over = bool(terminated or truncated)
    at_end(total)
    return _episode(total, steps, milliseconds, shortest, info)


def _episode(
    total: float,
    steps: int,
    milliseconds: list[float],
    shortest: int | None,
    info: Mapping[str, Any],
) -> Episode:
    success = succeeded(info, total)
    ratio = steps / shortest if success and shortest else None
    return Episode(total, success, milliseconds, steps, ratio, is_cut_off(info))


class SideBySide:
    """Episodes of several worlds at a time: a world whose episode ends begins the next seed.

    Args:
        envs: the environment of each world.
        inhabitants: a life for each, frozen.
        seeds: an episode for each. A world that finds none left plays on, uncounted, until the
            others are done.
        greedy: whether the best action is taken, or one is sampled.
    """

    def __init__(
        self, envs: Sequence[Env], inhabitants: Inhabitants, seeds: Sequence[int], *, greedy: bool
    ) -> None:
        self.worlds = [World(env, inhabitants.rests) for env in envs]
        self.inhabitants = inhabitants
        self.seeds = seeds
        self.greedy = greedy
        self.numbers = count()
        self.milliseconds: list[list[float]] = [[] for _ in envs]
        self.shortest: list[int | None] = [None for _ in envs]
        self.found: dict[int, Episode] = {}

    def play(self, ended: Callable[[Sequence[Episode]], None]) -> list[Episode]:
        """Play all episodes, and return them in the order of their seeds.

        Args:
            ended: called with those that are done whenever one is.
        """
        self.inhabitants.begin([self._begin(index) for index in range(len(self.worlds))])
        while len(self.found) < len(self.seeds):
            if self._step():
                ended(list(self.found.values()))
        return [self.found[number] for number in range(len(self.seeds))]

    def _begin(self, index: int) -> int:
        """Begin the next episode in one world; return its seed."""
        number = next(self.numbers)
        spare = number - len(self.seeds) + 1
        seed = self.seeds[number] if spare <= 0 else self.seeds[-1] + spare
        self.worlds[index].begin(RunningEpisode(number), seed)
        self.shortest[index] = shortest_path(self.worlds[index].env)
        self.milliseconds[index] = []
        return seed

    def _step(self) -> bool:
        """Act once in every world; whether an episode ended."""
        start = time.perf_counter()
        observations = [world.observation for world in self.worlds]
        actions = self.inhabitants.act(observations, greedy=self.greedy)
        share = 1e3 * (time.perf_counter() - start) / len(self.worlds)
        outcomes = [world.step(a) for world, a in zip(self.worlds, actions, strict=True)]
        self.inhabitants.feedback(outcomes)
        seeds: list[int | None] = []
        for index, outcome in enumerate(outcomes):
            self.milliseconds[index].append(share)
            seeds.append(self._end(index, outcome.info) if outcome.ended else None)
        over = any(seed is not None for seed in seeds)
        if over:
            self.inhabitants.begin(seeds)
        return over

    def _end(self, index: int, info: Mapping[str, Any]) -> int:
        """Note the episode that ended in one world, and begin the next; return its seed."""
        running = self.worlds[index].episode
        if running.number < len(self.seeds):
            self.found[running.number] = _episode(
                running.episode_return,
                running.steps,
                self.milliseconds[index],
                self.shortest[index],
                info,
            )
        return self._begin(index)


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
    """Play the episodes that are asked for, write them to a board of their own in the run folder, and return the result.

    Raises:
        UserError: the run is missing, foreign or damaged, or the agent cannot model the
            environment.
    """
    if config.run is None:
        raise RunFolderError("which run? write run=RUN_DIR.")
    check_agent_device(config.device)
    if config.rerun:
        require_rerun()
    start = time.monotonic()
    folder = open_run(config.run)
    drawn = config.video or config.rerun
    life = _life(config, render=drawn)
    agent = life.agent
    env = life.env
    set_up(config.device, config.threads)
    trained = EpisodeStatistics.of(life.checkpoint).step
    beside = BestEffort(folder)
    log = beside.log(file="rollouts.jsonl", board="rollouts")
    watchers = Watchers(config, env, agent, beside, log, trained)
    episodes = _play_all(config, life, watchers)
    result = summarise(episodes)
    reached = limit_reached((e.cut_off for e in episodes), config.max_episode_steps)
    if reached is not None:
        note(reached)
    for doubt in doubts_of(agent):
        note(doubt)
    if log is not None:
        with beside.attempt(), log:
            log.scalars(trained, {f"eval/{TAGS.get(key, key)}": v for key, v in result.items()})
    about = {
        "env": env_name(env),
        "episodes": len(episodes),
        "policy": config.policy,
        "seed": config.seed,
    }
    seconds = round(time.monotonic() - start, 1)
    return {**about, "env_steps_trained": trained, **result, "seconds": seconds}


class Watchers:
    """Whoever looks on while the first episodes are played: a film, reasons, a recording, as asked for.

    Args:
        config: of the rollout.
        env, agent: that play.
        beside: writes as far as it can.
        log: where films are shown; None where nothing can be written.
        trained: environment steps that the agent learned for.
    """

    def __init__(
        self,
        config: RolloutConfig,
        env: Env,
        agent: Agent,
        beside: BestEffort,
        log: MetricsLog | None,
        trained: int,
    ) -> None:
        self.beside = beside
        self.policy = config.policy
        self.trained = trained
        folder = beside.folder.path
        writes = log is not None
        self.film = Recorder(env, agent, folder, log) if config.video and log is not None else None
        self.reasons = Explainer(env, agent, folder) if config.explain and writes else None
        self.recording = EpisodeRecording(env, agent, folder) if config.rerun and writes else None
        present = (self.film, self.reasons, self.recording)
        anybody = any(watcher is not None for watcher in present)
        self.episodes = min(config.video_episodes, config.episodes) if anybody else 0

    def before_step(self, seed: int) -> None:
        """Look at a choice before it is done."""
        if self.film is not None:
            self.film.film(f"seed {seed}")
        for watcher in (self.reasons, self.recording):
            if watcher is not None:
                watcher.note()

    def at_end(self, seed: int, total: float) -> None:
        """Look at what the last step led to, and write what was seen."""
        name = f"rollout-{self.policy}-{seed}"
        if self.film is not None:
            self.film.film(f"seed {seed}   the end: return {total:.2f}")
            with self.beside.attempt():
                self.film.finish(self.trained, name, "eval/episode")
        if self.recording is not None:
            self.recording.note()
        for watcher in (self.reasons, self.recording):
            if watcher is not None:
                with self.beside.attempt():
                    watcher.finish(name)


def _play_all(config: RolloutConfig, life: Life, watchers: Watchers) -> list[Episode]:
    """Play the watched episodes one by one, and the others as many at a time as is asked for."""
    greedy = config.policy == "greedy"
    seeds = range(config.seed, config.seed + config.episodes)
    singly = config.episodes if config.num_envs == 1 else 0
    episodes: list[Episode] = []
    with LiveProgress(config.episodes, unit="episodes") as progress:

        def show(done: Sequence[Episode]) -> None:
            progress.update(len(done), {"success": fmean(episode.success for episode in done)})

        for index, seed in enumerate(seeds[: max(singly, watchers.episodes)]):
            looked_at: dict[str, Any] = {}
            if index < watchers.episodes:
                looked_at["before_step"] = partial(watchers.before_step, seed)
                looked_at["at_end"] = partial(watchers.at_end, seed)
            episodes.append(play(life.env, life.agent, seed=seed, greedy=greedy, **looked_at))
            show(episodes)
        rest = seeds[len(episodes) :]
        if rest:
            envs, inhabitants = _lives(config, life)
            others = SideBySide(envs, inhabitants, rest, greedy=greedy)
            episodes += others.play(lambda done: show([*episodes, *done]))
    return episodes


def _life(
    config: RolloutConfig, *, render: bool = False, checkpoint: Checkpoint | None = None
) -> Life:
    """Load the agent, and a world in which every episode ends."""
    found = load_life(
        str(config.run), config.env, render=render, trust=config.trust, checkpoint=checkpoint
    )
    return replace(found, env=CutOff(found.env, config.max_episode_steps))


def _lives(config: RolloutConfig, life: Life) -> tuple[list[Env], Inhabitants]:
    """Load worlds beside the first; where the agent cannot live in all, one more for each: frozen, they are all alike.

    All come from the checkpoint of the first: a run that goes on meanwhile writes others.
    """
    others = [_life(config, checkpoint=life.checkpoint) for _ in range(config.num_envs - 1)]
    envs = [life.env, *(other.env for other in others)]
    if isinstance(life.agent, BatchAgent):
        if getattr(life.agent, "rests", False):
            note(ONE_CLOUD)
        return envs, AllAtOnce(life.agent)
    return envs, OneInEach([life.agent, *(other.agent for other in others)])


def env_name(env: Env) -> str:
    """Return the id under which the environment is registered, else its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
