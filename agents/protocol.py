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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Observation = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class EgocentricView:
    """How a symbolic view lies around the agent: the one piece of prior knowledge that a grid agent is given.

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
