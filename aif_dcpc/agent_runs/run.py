"""One training run of an agent, with its run folder: create it, or go on with it, until a budget ends."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan

import yaml

from aif_dcpc.agent_runs.assembly import check_agent, make_agent, make_env
from aif_dcpc.agent_runs.episode_statistics import EpisodeStatistics, Times
from aif_dcpc.agent_runs.inhabitants import settle
from aif_dcpc.agent_runs.loop import AgentLoop
from aif_dcpc.agent_runs.recorder import Recorder
from aif_dcpc.agent_runs.sayings import doubts_of, knowledge_of
from aif_dcpc.agent_runs.worlds import Outcome as WorldOutcome
from aif_dcpc.devices import check_agent_device, resolved, set_up
from aif_dcpc.errors import ConfigError
from aif_dcpc.interruption import Interruption, interruptible
from aif_dcpc.learning_curve import save_learning_curve
from aif_dcpc.metrics import MetricsLog, logged_bytes
from aif_dcpc.notes import say
from aif_dcpc.progress import LiveProgress
from aif_dcpc.randomness import AGENT_SEED, derive, seed_everything, seed_host
from aif_dcpc.runs import Checkpoint, RunFolder, new_run, refuse_taken, writing
from aif_dcpc.schema import TrainConfig


@dataclass(frozen=True)
class Outcome:
    """How a run ended: why, where, with which numbers, and what its agent has not understood."""

    reason: str
    folder: RunFolder
    statistics: EpisodeStatistics
    times: Times
    seconds: float
    doubts: Sequence[str] = ()
    signal: int | None = None  # that interrupted it


def create_agent_run(config: TrainConfig) -> RunFolder:
    """Make a run folder with its configuration and the checkpoint of step 0; on any error there is no folder.

    Raises:
        UserError: the configuration cannot be met.
    """
    if config.epochs is not None:
        raise ConfigError("epochs is the budget of image models: an agent's is total_env_steps.")
    refuse_taken(config.run_dir)
    loop = _loop(config)
    config = replace(config, device=resolved(config.device))
    loop.begin()
    with new_run(config.run_dir, config.name) as folder:
        folder.save_config(config)
        folder.save_checkpoint(0, {**loop.state(), "metrics_length": 0})
    _close(loop)
    folder.save_config(replace(config, run_dir=str(folder)))
    return folder


def continue_agent_run(folder: RunFolder, config: TrainConfig) -> Outcome:
    """Go on from the newest checkpoint until a budget ends or a signal asks to stop; then save.

    Raises:
        UserError: the run folder is damaged or does not fit.
    """
    with writing(folder, config):
        loop = _loop(config)
        checkpoint = folder.load_checkpoint()
        loop.restore(checkpoint)
        folder.quarantine(loop.statistics.step)
        if loop.statistics.step >= config.total_env_steps:
            _close(loop)
            doubts = doubts_of(loop.inhabitants.agent)
            return Outcome("finished", folder, loop.statistics, loop.times, 0.0, doubts)
        length = logged_bytes(checkpoint)
        with MetricsLog(folder.path, length=length, step=loop.statistics.step) as log:
            if loop.statistics.step == 0:
                log.text("config", yaml.safe_dump(asdict(config), sort_keys=False))
                log.settings(asdict(config), kind="agent")
                _tell_knowledge(loop, log)
            run = AgentRun(config, folder, loop, log)
            run.restore(checkpoint)
            return run.run()


def _loop(config: TrainConfig) -> AgentLoop:
    """Make worlds and agent, seeded; what can be refused is refused before torch is imported."""
    check_agent_device(config.device)
    seed_host(config.seed)
    drawn = bool(config.picture_every or config.video_every)
    envs = [make_env(config.env, render=drawn and not i) for i in range(config.num_envs)]
    name = config.agent["name"]
    check_agent(name, config.agent_settings(), envs[0])
    set_up(config.device, config.threads)
    seed_everything(config.seed)
    agent = make_agent(name, config.agent_settings(), envs[0], derive(config.seed, AGENT_SEED))
    return AgentLoop(
        envs,
        settle(name, agent, config.num_envs),
        seed=config.seed,
        greedy=config.policy == "greedy",
        log_every=config.log_every,
    )


def _tell_knowledge(loop: AgentLoop, log: MetricsLog) -> None:
    """Print and log what the agent is given before it has seen anything, if it says so."""
    told = knowledge_of(loop.inhabitants.agent)
    if told:
        text = "\n".join(f"- {sentence}" for sentence in told)
        say(f"knowledge that the agent is given:\n{text}")
        log.text("knowledge", text)


def _close(loop: AgentLoop) -> None:
    for world in loop.worlds:
        world.env.close()


def _next_multiple(step: int, every: int) -> int:
    """The first multiple of `every` that is no less than `step`."""
    return -(-step // every) * every if every else 0


class AgentRun:
    """A loop together with its files.

    Args:
        config: of the run.
        folder: where checkpoints go.
        loop: restored from the newest checkpoint.
        log: where numbers go.
    """

    def __init__(
        self, config: TrainConfig, folder: RunFolder, loop: AgentLoop, log: MetricsLog
    ) -> None:
        self.config = config
        self.folder = folder
        self.loop = loop
        self.log = log
        self.shown = loop.worlds[0]
        self.recorder = Recorder(self.shown.env, loop.inhabitants.agent, folder.path, log)
        self.next_picture = _next_multiple(loop.statistics.step, config.picture_every)
        self.start = time.monotonic()
        self.free_energy = float("nan")
        loop.before_step = self._draw
        loop.after_step = self._draw_end

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on with the pictures that were due; a checkpoint of before does not tell which is next."""
        self.recorder.restore(checkpoint.get("recording", []))
        self.next_picture = checkpoint.get("next_picture", self.next_picture)

    def run(self) -> Outcome:
        """Step until something ends the run."""
        statistics = self.loop.statistics
        with (
            interruptible() as interruption,
            LiveProgress(self.config.total_env_steps, done=statistics.step) as progress,
        ):
            while (reason := self._reason_to_stop(interruption)) is None:
                self._step()
                progress.update(statistics.step, self._numbers())
        self._save()
        self.recorder.join("episode-*.gif", "learning")
        save_learning_curve(self.folder.path, "agent")
        _close(self.loop)
        return Outcome(
            reason,
            self.folder,
            statistics,
            self.loop.times,
            time.monotonic() - self.start,
            doubts_of(self.loop.inhabitants.agent),
            interruption.signal,
        )

    def _reason_to_stop(self, interruption: Interruption) -> str | None:
        statistics = self.loop.statistics
        config = self.config
        minutes = (time.monotonic() - self.start) / 60
        reasons: dict[str, bool] = {
            "interrupted": interruption.requested,
            "finished": statistics.step >= config.total_env_steps,
            "learned": 0 < (config.stop_after_successes_in_a_row or 0) <= statistics.in_a_row,
            "out of time": config.max_minutes is not None and minutes >= config.max_minutes,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _step(self) -> None:
        before = self.loop.statistics.step
        number = self.shown.episode.number
        records = self.loop.step()
        step = self.loop.statistics.step
        for record in records:
            self.log.scalars(step, record)
            self.free_energy = record.get("inference/free_energy", self.free_energy)
        if self.shown.episode.number > number and self.recorder.frames:
            self.recorder.finish(step, f"episode-{number:06d}", "episode/beside_truth")
        every = self.config.checkpoint_every
        if step // every > before // every:
            self._save()

    def _draw(self) -> None:
        """Take the pictures of the first world that are due, when the agent has chosen and no world has moved yet."""
        statistics = self.loop.statistics
        every = self.config.picture_every
        if every and statistics.step >= self.next_picture:
            self.next_picture = _next_multiple(statistics.step + 1, every)
            self.recorder.picture(statistics.step, self._words())
        number = self.shown.episode.number
        if self.config.video_every and number % self.config.video_every < len(self.loop.worlds):
            self.recorder.film(self._words())

    def _draw_end(self, outcomes: Sequence[WorldOutcome]) -> None:
        """Film what the last step of a recorded episode of the first world led to."""
        if outcomes[0].ended and self.recorder.frames:
            total = self.shown.episode.episode_return
            self.recorder.film(f"{self._words()}   the end: return {total:.2f}")

    def _words(self) -> str:
        statistics = self.loop.statistics
        return (
            f"episode {self.shown.episode.number + 1}   step {statistics.step}   "
            f"success rate {statistics.success_rate:.2f}"
        )

    def _save(self) -> None:
        content: Checkpoint = {
            **self.loop.state(),
            "recording": self.recorder.state(),
            "next_picture": self.next_picture,
            "metrics_length": self.log.length(),
        }
        self.folder.save_checkpoint(self.loop.statistics.step, content)

    def _numbers(self) -> dict[str, float]:
        statistics = self.loop.statistics
        known = {} if isnan(self.free_energy) else {"free energy": self.free_energy}
        return {"success": statistics.success_rate, "return": statistics.mean_return, **known}
