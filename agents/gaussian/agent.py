"""An agent for worlds of continuous values, which learns their dynamics as it goes.

It stands on `ActiveInferenceAgent`: the engine draws the weights of the declared world from the
whole life at each step, and sequences of actions are searched by cross-entropy under these draws.
How smooth the world is (lengthscales) follows from the evidence, at growing intervals.
"""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from torch import Tensor

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gaussian import requirements
from aif_dcpc.agents.gaussian.hidden import SEEN, HiddenLinear, WholeState, declare_hidden
from aif_dcpc.agents.gaussian.judge import GaussianJudge, HiddenJudge
from aif_dcpc.agents.gaussian.learning_life import LearningLife
from aif_dcpc.agents.gaussian.model import World, declare
from aif_dcpc.agents.gaussian.preferences import find_wish
from aif_dcpc.agents.life import Reader, Streams
from aif_dcpc.agents.planners.cross_entropy import CrossEntropy
from aif_dcpc.agents.protocol import Observation
from aif_dcpc.agents.streams import as_streams, of_one_world, require_finite

LARGEST = 1e6  # width that is taken for a bound
TRY_WITH = {"num_waves": 16, "horizon": 5, "candidates": 8}  # quick to try


class GaussianAgent(ActiveInferenceAgent):
    """Learn what actions do to continuous values, and choose them by what is preferred or rewarded.

    Args:
        observation_space: of streams, all of which are joined to one state.
        action_space: Discrete or Box.
        seed: of every random choice.
        preference: name of a log preference (see `preferences`); None learns rewards and ends, and
            prefers reward.
        reward_scale: nats that a unit of learned reward is worth.
        num_waves: random features.
        draws: of the weights that a plan is judged under, the first of the particles.
        horizon, candidates, iterations, elites, correlation, discount: see `CrossEntropy`.
        novelty: whether what is learned about the world counts.
        resolution: how finely states are looked at for that, in units of their changes.
        growth: of the series, between looks at its scales and smoothness.
        hidden_velocities: whether only positions are seen, so that velocities must be inferred.
        blur: standard deviation with which positions are then seen, as a share of their range.
        common: of `ActiveInferenceAgent`.

    Raises:
        AgentError: for spaces that it cannot model.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        *,
        seed: int,
        preference: str | None,
        reward_scale: float,
        num_waves: int,
        draws: int,
        horizon: int,
        candidates: int,
        iterations: int,
        elites: int,
        correlation: float,
        discount: float,
        novelty: bool,
        resolution: float,
        growth: float,
        hidden_velocities: bool,
        blur: float,
        **common: Any,
    ) -> None:
        self.streams, num_states = requirements.joined_streams(observation_space)
        requirements.check_actions(action_space)
        number = getattr(action_space, "n", None)
        size = int(number or math.prod(action_space.shape or ()))
        wish = None if preference is None else find_wish(preference)
        self.world = declared_world(
            num_states=num_states,
            num_inputs=size,
            outcomes=wish is None,
            blur=blur * widths_of(observation_space) if hidden_velocities else None,
            num_actions=None if number is None else int(number),
            num_waves=num_waves,
            generator=torch.Generator().manual_seed(seed),
        )
        judged: dict[str, Any] = {
            "world": self.world,
            "wish": wish,
            "reward_scale": reward_scale,
            "draws": draws,
            "novelty": novelty,
            "resolution": resolution,
        }
        linear = self.world.learned["state"].linear
        if isinstance(linear, HiddenLinear):
            judge: GaussianJudge = HiddenJudge(whole=WholeState(linear), **judged)
        else:
            judge = GaussianJudge(**judged)
        search = CrossEntropy(
            horizon=horizon,
            candidates=candidates,
            iterations=iterations,
            elites=elites,
            correlation=correlation,
            discount=discount,
            judge=judge,
        )
        readers: dict[str, Reader] = {
            "state": self._state,
            SEEN: self._state,
            "ended": "terminated",
            "outcome": _outcome,
        }
        self.judge = judge
        super().__init__(
            self.world.model,
            action="action",
            action_space=action_space,
            observed={n: r for n, r in readers.items() if n in self.world.model.sites},
            preferences={},
            planner=search,
            seed=seed,
            **common,
        )
        self.life = LearningLife(self.world, growth, self.life)

    @classmethod
    def build(
        cls,
        observation_space: gymnasium.Space[Any],
        action_space: Any,
        metadata: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> "GaussianAgent":
        """Build the agent for spaces of numbers.

        Raises:
            AgentError: for spaces that it cannot model, or settings that do not fit.
        """
        return cls(observation_space, action_space, seed=seed, **requirements.read(settings))

    def _state(self, streams: Streams) -> Tensor:
        """Join the streams to one state, `(B, D)`.

        Raises:
            AgentError: one of them is not finite.
        """
        for name in self.streams:
            require_finite(f"agent 'gaussian': stream {name!r}", streams[name])
        parts = [streams[name].double() for name in self.streams]
        return torch.cat([part.reshape(len(part), -1) for part in parts], 1)

    def _observe(self, observations: Observation) -> None:
        """Take in what is seen, and how much it is preferred."""
        super()._observe(observations)
        if not self.frozen:
            assert self.life.state is not None
            self.judge.note(self.life.state, self.consequences["terminated"] > 0)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {**super().state_dict(), "attained": self.judge.attained.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        self.judge.attained.load_state_dict(state["attained"])

    def predict(self, observation: Observation, action: Any) -> tuple[Tensor, Tensor]:
        """Predict the state that an action leads to: mean and standard deviation, `(D,)` each.

        The noise counts as well as what is not known of the weights.

        Raises:
            AgentError: nothing was learned yet, or velocities are hidden.
        """
        learned = self.world.learned["state"]
        if isinstance(learned.linear, HiddenLinear):
            raise AgentError(
                "agent 'gaussian' predicts from one observation only where velocities are seen; "
                "engine.forecast(agent.life.state, ...) goes on from all that it has seen."
            )
        if learned.last is None:
            raise AgentError("agent 'gaussian' has seen nothing yet: let it act first.")
        state = self._state(as_streams(of_one_world(observation)))[0]
        return learned.predict(state, torch.as_tensor(action))


def _outcome(streams: Streams) -> Tensor:
    """Reward and end of the last step, `(B, 2)`.

    Raises:
        AgentError: a reward is not finite.
    """
    require_finite("agent 'gaussian': reward", streams["reward"])
    return torch.stack([streams["reward"].double(), streams["terminated"].double()], 1)


def declared_world(
    *, num_states: int, num_inputs: int, outcomes: bool, blur: Tensor | None, **common: Any
) -> World:
    """Declare a world whose state is seen, or one of hidden velocities.

    Args:
        num_states: numbers that are seen, D.
        num_inputs: numbers of an action, A.
        outcomes: whether rewards are to be learned, where the state is seen.
        blur: `(D,)` standard deviations with which positions are seen; None where all is seen.
        common: of either declaration.
    """
    if blur is None:
        inputs = num_states + num_inputs
        return declare(num_states=num_states, num_inputs=inputs, outcomes=outcomes, **common)
    return declare_hidden(blur=blur, num_inputs=2 * (num_states + num_inputs), **common)


def widths_of(space: gymnasium.Space[Any]) -> Tensor:
    """Width of each number of an observation space, all streams joined, `(D,)`; 1 where it has no bound."""
    streams = space.spaces.values() if isinstance(space, gymnasium.spaces.Dict) else [space]
    boxes = [stream for stream in streams if isinstance(stream, gymnasium.spaces.Box)]
    widths = torch.cat([torch.as_tensor(box.high - box.low).double().flatten() for box in boxes])
    return torch.where(widths.isfinite() & (widths < LARGEST), widths, 1.0)
