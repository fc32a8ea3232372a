"""What a training run counts: steps, episodes, successes, times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Self

from aif_dcpc.agent_runs.actions import Plain
from aif_dcpc.errors import RunFolderError, told
from aif_dcpc.schema import bounded, build, typed

WINDOW = 20  # episodes in the running success rate
STREAK = 10  # successes in a row that count as having learned the task


@dataclass
class RunningEpisode:
    """An episode that has not ended; a checkpoint carries it.

    Attributes:
        number: of all episodes of the run, in the order in which they began.
        actions: as `actions.plain` writes them; with the episode's seed they rebuild the
            environment.
        steps: of the environment, of which an action may take several.
        episode_return: sum of rewards so far.
    """

    number: int
    actions: list[Plain] = field(default_factory=list)
    steps: int = 0
    episode_return: float = 0.0

    def take(self, action: Plain, reward: float, steps: int) -> None:
        """Count one action and its reward."""
        self.actions.append(action)
        self.steps += steps
        self.episode_return += reward


@dataclass
class EpisodeStatistics:
    """Counts of a run, over all its worlds; a checkpoint carries them.

    Attributes:
        step: environment steps so far.
        episode, begun: finished episodes, and those that have begun.
        returns, successes: of the last `WINDOW` episodes.
        in_a_row: successes in a row up to now.
        steps_to_streak: steps at the end of the first `STREAK` successes in a row.
    """

    step: int = bounded(at_least=0, default=0)
    episode: int = bounded(at_least=0, default=0)
    begun: int = bounded(at_least=0, default=0)
    returns: list[float] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)
    in_a_row: int = bounded(at_least=0, default=0)
    steps_to_streak: int | None = bounded(at_least=0, default=None)

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Self:
        """Take the counts from a checkpoint.

        Raises:
            RunFolderError: they are none.
        """
        try:
            counts = typed("tally", checkpoint.get("tally"), dict)
            found = build(cls, {"step": None, **counts}, "tally.")
            _ = [float(value) for value in (*found.returns, *found.successes)]
        except (TypeError, ValueError) as error:
            raise RunFolderError(f"the checkpoint is not one of an agent: {told(error)}.") from None
        return found

    def begin_episode(self) -> RunningEpisode:
        """Count the beginning of an episode."""
        self.begun += 1
        return RunningEpisode(self.begun - 1)

    def end_episode(self, ended: RunningEpisode, info: Mapping[str, Any]) -> dict[str, float]:
        """Count the end of an episode, and return the numbers to record."""
        success = succeeded(info, ended.episode_return)
        numbers: dict[str, float] = {
            "train/episode": self.episode,
            "train/return": ended.episode_return,
            "train/episode_length": ended.steps,
            "train/success": float(success),
        }
        self.returns = [*self.returns, ended.episode_return][-WINDOW:]
        self.successes = [*self.successes, success][-WINDOW:]
        self.in_a_row = self.in_a_row + 1 if success else 0
        numbers["train/success_rate"] = self.success_rate
        if self.in_a_row == STREAK and self.steps_to_streak is None:
            self.steps_to_streak = self.step
            numbers[f"train/env_steps_to_{STREAK}_successes"] = self.step
        self.episode += 1
        return numbers

    @property
    def success_rate(self) -> float:
        """Share of successes in the last `WINDOW` episodes."""
        return fmean(self.successes) if self.successes else 0.0

    @property
    def mean_return(self) -> float:
        """Mean return of the last `WINDOW` episodes."""
        return fmean(self.returns) if self.returns else 0.0


def succeeded(info: Mapping[str, Any], episode_return: float) -> bool:
    """Tell whether an episode succeeded: what the environment says, else a positive return."""
    return bool(info.get("success", episode_return > 0))


class Times:
    """Milliseconds of every step, by what they were spent on."""

    PARTS = ("inference", "planning", "learning", "environment")

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {part: [] for part in self.PARTS}

    def add(self, **milliseconds: float) -> dict[str, float]:
        """Take in one step and return it as records."""
        for part, value in milliseconds.items():
            self.parts[part].append(value)
        return {f"speed/ms_{part}": value for part, value in milliseconds.items()}

    def summary(self) -> dict[str, str]:
        """Medians of what every step does, the mean of learning, which comes in bursts."""
        if not self.parts["environment"]:
            return {}
        inference = self.parts["inference"]
        planning = self.parts["planning"]
        acting = [sum(pair) for pair in zip(inference, planning, strict=True)]
        return {
            "inference + planning": _median(acting),
            "inference": _median(inference),
            "planning": _median(planning),
            "learning": f"{fmean(self.parts['learning']):.1f} ms a step (mean)",
            "environment": _median(self.parts["environment"]),
        }


def _median(milliseconds: Sequence[float]) -> str:
    return f"{median(milliseconds):.1f} ms a step (median)"
