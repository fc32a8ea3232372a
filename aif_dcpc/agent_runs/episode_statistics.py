"""What a training run counts: steps, episodes, successes, times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

WINDOW = 20  # episodes in the running success rate
STREAK = 10  # successes in a row that count as having learned the task


@dataclass
class EpisodeStatistics:
    """Counts of a run; a checkpoint carries them.

    Attributes:
        step, episode: environment steps and finished episodes so far.
        actions: of the running episode: with its seed they rebuild the environment.
        episode_return: of the running episode so far.
        returns, successes: of the last `WINDOW` episodes.
        in_a_row: successes in a row up to now.
        steps_to_streak: steps at the end of the first `STREAK` successes in a row.
    """

    step: int = 0
    episode: int = 0
    actions: list[int] = field(default_factory=list)
    episode_return: float = 0.0
    returns: list[float] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)
    in_a_row: int = 0
    steps_to_streak: int | None = None

    def take_step(self, action: int, reward: float) -> None:
        """Count one step of the running episode."""
        self.step += 1
        self.actions.append(action)
        self.episode_return += reward

    def end_episode(self, info: Mapping[str, Any]) -> dict[str, float]:
        """Count an episode, start the next, and return the numbers to record."""
        success = succeeded(info, self.episode_return)
        numbers: dict[str, float] = {
            "train/episode": self.episode,
            "train/return": self.episode_return,
            "train/episode_length": len(self.actions),
            "train/success": float(success),
        }
        self.returns = [*self.returns, self.episode_return][-WINDOW:]
        self.successes = [*self.successes, success][-WINDOW:]
        self.in_a_row = self.in_a_row + 1 if success else 0
        numbers["train/success_rate"] = self.success_rate
        if self.in_a_row == STREAK and self.steps_to_streak is None:
            self.steps_to_streak = self.step
            numbers[f"train/env_steps_to_{STREAK}_successes"] = self.step
        self.episode += 1
        self.actions = []
        self.episode_return = 0.0
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
