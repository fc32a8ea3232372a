"""What an agent is, to the training loop, to a rollout and to a user.

The loop of every command is::

    agent.begin(seed=0)
    action = agent.act(observation)              # infer the whole history, plan, choose
    observation, reward, terminated, truncated, _ = env.step(action)
    agent.feedback(observation, reward, terminated, truncated)

`act` re-infers the *full latent history* of the running episode before it plans. `feedback` hands
over the consequences of the chosen action; at the end of an episode it stores the episode with its
particles and learns. Agents know environments only through their Gymnasium spaces and the view
geometry named in `EgocentricView`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.misspelt import unknown_name

Observation = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class EgocentricView:
    """How a symbolic view lies around the agent: all the prior knowledge that a grid agent is given.

    The view is `(rows, columns)` of integer tokens, drawn as the agent sees it: row 0 farthest
    ahead, the agent in cell `own_cell = (row, column)` looking towards row 0, column 0 to its left.
    Heading h in 0..3 turns clockwise.

    Attributes:
        rows, columns: size of the view, cells.
        own_cell: the agent's cell, (row, column).
        num_tokens: tokens are 0 .. num_tokens - 1.
        unseen_token: the token that says "nothing is known of this cell" (out of sight).
        empty_hand_token: the value of the stream `carried` when nothing is carried.
    """

    rows: int
    columns: int
    own_cell: tuple[int, int]
    num_tokens: int
    unseen_token: int
    empty_hand_token: int


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What the last `act` found; every number becomes a TensorBoard scalar under its tag.

    Attributes:
        scalars: tag -> value, e.g. `efe/risk`, `inference/free_energy` (nats),
            `speed/ms_inference`.
        pictures: tag -> `(H, W, 3)` uint8, made only when asked for.
        legend: raw token -> its colour in the pictures.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    legend: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)


@runtime_checkable
class Agent(Protocol):
    """An active-inference agent, one running episode at a time."""

    def begin(self, *, seed: int) -> None:
        """Forget the running episode, keep everything learned, seed every random choice of the new episode."""

    def act(self, observation: Observation, *, greedy: bool = True) -> int:
        """Append the observation, re-infer the full latent history by sweeps, plan, and return an action index."""

    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Take in what the last action led to; at an episode's end store it, and learn unless frozen."""

    def report(self, *, pictures: bool = False) -> StepReport:
        """Diagnostics of the last step."""

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or resume) learning across episodes."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: tensors, numbers, strings, lists and dicts only."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""


class BaseAgent:
    """An agent with a default for everything but `act`, to derive one's own from.

    By default it learns nothing and reports nothing, and its state is that of its generator. An
    agent that learns stores what it has learned: it extends `state_dict` and `load_state_dict`.

    >>> class Stubborn(BaseAgent):
    ...     def __init__(self, num_actions: int, seed: int, *, favourite: int = 0) -> None:
    ...         super().__init__(num_actions, seed)
    ...         self.favourite = favourite
    ...
    ...     def act(self, observation: Observation, *, greedy: bool = True) -> int:
    ...         return self.favourite
    >>> agent = Stubborn.build(gymnasium.spaces.Discrete(2), 3, {}, {"favourite": 2}, 0)
    >>> agent.act({}), isinstance(agent, Agent)
    (2, True)

    Args:
        num_actions: actions are 0 .. num_actions - 1.
        seed: every random choice follows from it and from the seeds of `begin`.

    Attributes:
        generator: source of all randomness, seeded afresh at the beginning of every episode.
        frozen: whether it must not learn across episodes.
    """

    def __init__(self, num_actions: int, seed: int) -> None:
        self.num_actions = num_actions
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.frozen = False

    @classmethod
    def build(
        cls,
        observation_space: gymnasium.Space[Any],
        num_actions: int,
        metadata: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> Self:
        """Build the agent: its settings are the keywords of its constructor, whatever it observes.

        Commands hand the engine's settings over under "inference"; an agent that does not take them
        does not get them.

        Raises:
            AgentError: for a setting that the constructor does not take.
        """
        takes = [name for name in inspect.signature(cls).parameters if name not in _GIVEN]
        wanted = {key: value for key, value in settings.items() if key in takes}
        for key in settings:
            if key not in takes and key != "inference":
                raise AgentError(unknown_name("agent setting", key, takes))
        return cls(num_actions=num_actions, seed=seed, **wanted)

    def begin(self, *, seed: int) -> None:
        """Seed the random choices of the new episode."""
        self.generator.manual_seed(1_000_003 * self.seed + seed)

    def act(self, observation: Observation, *, greedy: bool = True) -> int:
        """Choose an action, given what is observed now: the one method that has no default."""
        raise NotImplementedError(f"{type(self).__name__} has no act of its own.")

    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Learn nothing from what the last action led to."""

    def report(self, *, pictures: bool = False) -> StepReport:
        """Report nothing about the last step."""
        return StepReport()

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or resume) learning across episodes."""
        self.frozen = frozen

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: by default the state of the generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.set_state(state["generator"])


_GIVEN = ("num_actions", "seed")  # what every constructor is given besides its settings
