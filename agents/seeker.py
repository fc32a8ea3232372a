"""Agents of finite models that seek an outcome: a model, what it observes, and how far it looks ahead."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.settings import read_settings, require_streams
from aif_dcpc.inference import GraphicalModel


@dataclass(frozen=True)
class Seeker:
    """The builder of an agent whose `outcome` is nothing, 1 for no reward, or 2 for reward.

    Reward is wished for, its absence at an end is not, and soon is better.

    Attributes:
        name: of the agent, for messages.
        model: declares what is known, by those settings that are not `horizon`, `discount` or `wish`.
        streams: that the model observes.
        settings: all of them with their defaults.
    """

    name: str
    model: Callable[..., GraphicalModel]
    streams: Sequence[str]
    settings: Mapping[str, Any]

    def __call__(
        self,
        observation_space: gymnasium.Space[Any],
        num_actions: int,
        metadata: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> ActiveInferenceAgent:
        """Build the agent for the spaces of its world.

        Raises:
            AgentError: for another world, or settings that do not fit.
        """
        require_streams(self.name, observation_space, self.streams)
        common, own = read_settings(settings, **self.settings)
        graph = BeliefGraph(horizon=own.pop("horizon"), discount=own.pop("discount"))
        preference = own.pop("wish") * torch.tensor([0.0, -1.0, 1.0])
        return ActiveInferenceAgent(
            self.model(**own),
            action="action",
            action_space=gymnasium.spaces.Discrete(num_actions),
            observed=self.streams,
            preferences={"outcome": preference.log_softmax(0)},
            planner=graph,
            seed=seed,
            **common,
        )
