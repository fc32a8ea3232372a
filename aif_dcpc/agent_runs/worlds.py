"""Worlds side by side: an environment each, with its running episode.

Every episode begins by a seed of its own, so that a world is rebuilt from the seed and the actions
of its episode alone, whatever happened in the others. What an episode ended with is handed over
before the next one begins, in the same step: there is no transition between two episodes.

An agent whose history is one series for each world needs a slice for what an episode ended with: a
world that *rests* shows its last observation once more while the others act, and is not stepped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aif_dcpc.agent_runs.actions import admitted, plain
from aif_dcpc.agent_runs.assembly import Env
from aif_dcpc.agent_runs.episode_statistics import RunningEpisode
from aif_dcpc.agents.protocol import Observation
from aif_dcpc.errors import RunFolderError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Outcome:
    """What one action led to; the observation is the last of its episode where that ended.

    Attributes:
        steps: of the environment that the action took.
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    steps: int

    @property
    def ended(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


@dataclass
class World:
    """An environment, its running episode and what is observed now.

    Attributes:
        rests: whether it shows the last observation of an episode once more before the next one.
        first: the first observation of an episode, while the last one of the episode before is
            shown.
    """

    env: Env
    rests: bool = False
    episode: RunningEpisode = field(default_factory=lambda: RunningEpisode(0))
    observation: Observation = field(default_factory=dict)
    first: Observation | None = None

    def begin(self, episode: RunningEpisode, seed: int) -> None:
        """Begin an episode by its seed."""
        self.episode = episode
        first, _ = self.env.reset(seed=seed)
        if self.rests and self.observation:
            self.first = first
        else:
            self.observation = first

    def step(self, action: Any) -> Outcome:
        """Act once; a world that rests goes on to its first observation, whatever the action.

        Raises:
            UserError: the environment has no such action.
        """
        if self.first is not None:
            self.observation = self.first
            self.first = None
            return Outcome(self.observation, 0.0, False, False, {}, 0)
        chosen = admitted(action, self.env.action_space)
        self.observation, reward, terminated, truncated, info = self.env.step(chosen)
        steps = int(info.get("env_steps", 1))
        self.episode.take(plain(chosen), float(reward), steps)
        return Outcome(
            self.observation, float(reward), bool(terminated), bool(truncated), info, steps
        )

    # -- stopping and going on ---------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The running episode as plain data, with what is observed, to recognise the environment by."""
        resting = {} if self.first is None else {"last": _plain(self.observation)}
        now = self.observation if self.first is None else self.first
        return {**asdict(self.episode), "observation": _plain(now), **resting}

    def restore(self, state: Mapping[str, Any], seed: int) -> None:
        """Rebuild the environment from the seed and the actions of its running episode.

        Raises:
            RunFolderError: the environment answers differently from before.
        """
        kept = {key: state[key] for key in state if key not in ("observation", "last")}
        past = RunningEpisode(**kept)
        self.observation = {}
        self.begin(past, seed)
        for action in past.actions:
            chosen = admitted(action, self.env.action_space)
            self.observation, *_ = self.env.step(chosen)
        self._recognise(state["observation"])
        if "last" in state:
            self.first = self.observation
            self.observation = {name: value.numpy() for name, value in state["last"].items()}

    def _recognise(self, expected: Mapping[str, Any]) -> None:
        for name, value in expected.items():
            found = np.asarray(self.observation[name])
            if not np.array_equal(found, value.numpy(), equal_nan=found.dtype.kind == "f"):
                raise RunFolderError(
                    f"the environment no longer answers as it did (stream {name!r} differs after replaying "
                    f"{len(self.episode.actions)} actions): was it changed or updated since?"
                )


def _plain(observation: Observation) -> "dict[str, torch.Tensor]":
    """Turn an observation into tensors, for a checkpoint."""
    import torch

    return {name: torch.as_tensor(value) for name, value in observation.items()}


def stacked(observations: Sequence[Observation]) -> dict[str, Any]:
    """Streams of several worlds with a leading axis, `(B, *event)`."""
    return {name: np.stack([seen[name] for seen in observations]) for name in observations[0]}


def split(outcomes: Sequence[Outcome]) -> Iterator[Any]:
    """Yield observations, rewards, terminations and truncations of worlds, `(B, *event)`."""
    yield stacked([outcome.observation for outcome in outcomes])
    yield np.array([outcome.reward for outcome in outcomes])
    yield np.array([outcome.terminated for outcome in outcomes])
    yield np.array([outcome.truncated for outcome in outcomes])
