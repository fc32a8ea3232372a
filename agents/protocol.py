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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import gymnasium
import numpy as np
import numpy.typing as npt

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.misspelt import unknown_name

if TYPE_CHECKING:
    import torch

    from aif_dcpc.agents.explain import Explanation

Observation = Mapping[str, npt.NDArray[Any]]
Action = int | npt.NDArray[Any]  # a number for Discrete actions, else an array of the space's shape


@dataclass(frozen=True, kw_only=True, eq=False)
class EgocentricView:
    """How a symbolic view lies around the agent. What else a grid agent is given, its `knowledge` tells.

    The view is `(rows, columns)` of integer tokens, drawn as the agent sees it: row 0 farthest
    ahead, the agent in cell `own_cell = (row, column)` looking towards row 0, column 0 to its left.
    Heading h in 0..3 turns clockwise.

    Attributes:
        rows, columns: size of the view, cells.
        own_cell: the agent's cell, (row, column).
        num_tokens: tokens are 0 .. num_tokens - 1.
        unseen_token: the token that says "nothing is known of this cell" (out of sight).
        empty_hand_token: the value of the stream `carried` when nothing is carried.
        looks: `(3, num_tokens)` kind, colour and state of every token, as numbers without a
            meaning; None where tokens have nothing in common.
    """

    rows: int
    columns: int
    own_cell: tuple[int, int]
    num_tokens: int
    unseen_token: int
    empty_hand_token: int
    looks: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What the last `act` found; every number becomes a TensorBoard scalar under its tag.

    Attributes:
        scalars: tag -> value, e.g. `efe/risk`, `inference/free_energy` (nats),
            `speed/ms_inference`.
        pictures: tag -> `(H, W, 3)` uint8, made only when asked for.
        particles: site -> `(K, n)` values of its particles now, made only when pictures are asked for.
        legend: raw token -> how it looks in the pictures, a small picture of one size.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    particles: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    legend: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)


@runtime_checkable
class Agent(Protocol):
    """An active-inference agent, one running episode at a time."""

    def begin(self, *, seed: int) -> None:
        """Forget the running episode, keep everything learned, seed every random choice of the new episode."""

    def act(self, observation: Observation, *, greedy: bool = True) -> Action:
        """Append the observation, re-infer the full latent history by sweeps, plan, and return an action."""

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


@runtime_checkable
class BatchAgent(Protocol):
    """What an agent has besides if it can live in B worlds at once, in all of which it learns the same.

    Whatever `act` and `feedback` take and give for one world has a leading axis here. `begin` puts
    the agent back into one world; `report` gives means over worlds, and pictures of the first;
    `state_dict` holds the running episodes of all.

    An agent that cannot, may have a method `companion(number: int)` instead, which returns another
    agent, for a world of its own: what one of them learns, all know, at once, and
    `load_state_dict` restores in place what they share.

    An agent with an attribute `rests` that is True is shown the last observation of an episode once
    more, by `act_batch` after `begin_batch`, before the first one of the next: what it chooses for
    that world then is not done.
    """

    def begin_batch(self, *, seeds: Sequence[int | None]) -> None:
        """Live in as many worlds as there are seeds: begin an episode in those that have one, go on in the others."""

    def act_batch(self, observations: Observation, *, greedy: bool = True) -> npt.NDArray[Any]:
        """Choose an action for each world, `(B, *event)`, given streams `(B, *event)`."""

    def feedback_batch(
        self,
        observations: Observation,
        rewards: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
    ) -> None:
        """Take in what the actions led to, `(B, ...)`: where an episode ended, its last observation."""


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
        actions: their space, or a number n of discrete ones, 0 .. n - 1. An heir whose constructor
            takes `num_actions` is for discrete actions alone; one that takes `action_space` is
            handed the space.
        seed: every random choice follows from it and from the seeds of `begin`.

    Attributes:
        action_space: the space of actions.
        num_actions: how many discrete ones there are; 0 where they are of another kind.
        generator: source of all randomness, seeded afresh at the beginning of every episode.
        frozen: whether it must not learn across episodes.
    """

    def __init__(self, actions: int | gymnasium.Space[Any], seed: int) -> None:
        if isinstance(actions, int | np.integer):
            actions = gymnasium.spaces.Discrete(int(actions))
        space: Any = actions
        self.action_space: gymnasium.Space[Any] = space
        self.num_actions = int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else 0
        self.seed = seed
        self.generator = _generator(seed)
        self.frozen = False

    @classmethod
    def build(
        cls,
        observation_space: gymnasium.Space[Any],
        action_space: Any,
        metadata: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> Self:
        """Build the agent: its settings are the keywords of its constructor, whatever it observes.

        Commands hand the engine's settings over under "inference"; an agent that does not take them
        does not get them. The actions may be given as their space or as a number of discrete ones.

        Raises:
            AgentError: for a setting that the constructor does not take, or actions that it cannot
                choose.
        """
        takes = [name for name in inspect.signature(cls).parameters if name not in _GIVEN]
        wanted = {key: value for key, value in settings.items() if key in takes}
        for key in settings:
            if key not in takes and key != "inference":
                raise AgentError(unknown_name("agent setting", key, takes))
        takes_space = "action_space" in inspect.signature(cls).parameters
        name = "action_space" if takes_space else "num_actions"
        wanted[name] = action_space if takes_space else number_of(action_space, cls.__name__)
        return cls(seed=seed, **wanted)

    def begin(self, *, seed: int) -> None:
        """Seed the random choices of the new episode."""
        self.generator.manual_seed(1_000_003 * self.seed + seed)

    def act(self, observation: Observation, *, greedy: bool = True) -> Action:
        """Choose an action, given what is observed now: the one method that has no default."""
        raise NotImplementedError(f"{type(self).__name__} has no act of its own.")

    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Learn nothing from what the last action led to."""

    def report(self, *, pictures: bool = False) -> StepReport:
        """Report nothing about the last step."""
        return StepReport()

    def explanation(self, names: Sequence[str] | None = None) -> "Explanation | None":
        """What the last choice was among and what each alternative was expected to cost; None where nothing is known.

        Args:
            names: of Discrete actions.
        """
        return None

    def explain(self, names: Sequence[str] | None = None) -> str:
        """Say why the last action was chosen, in words and numbers."""
        found = self.explanation(names)
        return f"{type(self).__name__} has not said why" if found is None else found.text()

    @property
    def doubts(self) -> Sequence[str]:
        """What it has not understood of its world, in sentences, which a run ends with; by default none."""
        return ()

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or resume) learning across episodes."""
        self.frozen = frozen

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: by default the state of the generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.set_state(state["generator"])


def _generator(seed: int) -> "torch.Generator":
    """Make a source of randomness; torch is imported by the first agent that is made."""
    import torch

    return torch.Generator().manual_seed(seed)


# what every constructor is given besides its settings
_GIVEN = ("num_actions", "action_space", "seed")


def number_of(actions: Any, agent: str) -> int:
    """Return how many discrete actions there are, for an agent that can choose no others.

    Raises:
        AgentError: the actions are of another kind, or do not count from 0.
    """
    if isinstance(actions, int | np.integer):
        return int(actions)
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise AgentError(
            f"agent {agent!r} chooses among discrete actions, the environment has {actions}: choose "
            "an agent for such actions, or wrap the environment with a discretisation of them."
        )
    if actions.start != 0:
        raise AgentError(
            f"agent {agent!r} chooses among actions from 0 on, the environment has {actions}: wrap it "
            "with gymnasium.wrappers.TransformAction, to add the start."
        )
    return int(actions.n)
