"""What action sequences are worth: risk, ambiguity and novelty of their imagined futures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gaussian.features import Features
from aif_dcpc.agents.gaussian.hidden import HiddenWeights, WholeState
from aif_dcpc.agents.gaussian.imagination import DTYPE, Futures, imagine, novelty, outcomes
from aif_dcpc.agents.gaussian.model import World
from aif_dcpc.agents.gaussian.preferences import Wish
from aif_dcpc.agents.gaussian.regression import Regression
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.inference import State


@dataclass(frozen=True, kw_only=True)
class GaussianJudge:
    """Judge sequences in a learned world, for `CrossEntropy`.

    Attributes:
        world: the declared world; its weights' posterior is that of the last sweep.
        wish: log preference of states and actions; None where rewards are learned and preferred.
        reward_scale: nats a unit of reward is worth.
        draws: how many particles' weights are looked at.
        novelty: whether what is learned about the weights counts.
        resolution: how finely states are looked at for that, in units of their changes.
    """

    world: World
    wish: Wish | None
    reward_scale: float = 1.0
    draws: int = 4
    novelty: bool = True
    resolution: float = 0.03

    def __call__(self, situation: Situation, policies: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of each step, `(N, H)` nats."""
        particles = situation.state.particles
        linear = self.world.learned["state"].linear
        weights, noise = (particles[name][: self.draws, 0] for name in linear.block)
        number = linear.num_actions
        actions = policies.to(DTYPE) if number is None else one_hot(policies, number).to(DTYPE)
        features, state, all_weights, all_noise = self._whole(situation.state, weights, noise)
        futures = imagine(features, state, actions, all_weights, all_noise, situation.generator)
        preferred = self._log_preference(situation, futures, actions).mean(0)
        ambiguity = _entropy(noise, linear.features.change).expand(policies.shape[:2])
        return {
            "risk": -preferred - ambiguity,
            "ambiguity": ambiguity,
            "information_gain": torch.zeros_like(preferred),
            "novelty": self._novelty(futures),
            "neg_expected_log_preference": -preferred,
        }

    def _whole(
        self, state: State, weights: Tensor, noise: Tensor
    ) -> tuple[Features, Tensor, Tensor, Tensor]:
        """Features, present state, weights and noise of the whole state, `(K, ...)`."""
        features = self.world.features("state")
        now = state.value("state")[:, 0, -1].expand(len(weights), -1)
        return features, now, weights, noise

    def _posterior(self) -> Regression | None:
        """The posterior of weights; None before anything was learned."""
        summed = self.world.learned["state"].last
        return None if summed is None else summed.regression

    def _novelty(self, futures: Futures) -> Tensor:
        """What the states tell about the weights that they follow from, `(N, H)` nats."""
        posterior = self._posterior()
        if not self.novelty or posterior is None:
            return torch.zeros(futures.features.shape[:2])
        return novelty(posterior, futures.features, self.resolution)

    def _log_preference(self, situation: Situation, futures: Futures, actions: Tensor) -> Tensor:
        """Log preference under each draw, `(K, N, H)` nats."""
        if self.wish is not None:
            return _wished(self.wish, futures.states, actions)
        linear = self.world.learned["outcome"].linear
        weights = situation.state.particles[linear.block[0]][: self.draws, 0]
        reward, ended = outcomes(linear.features, futures, actions, weights).unbind(-1)
        goes_on = (1 - ended.clamp(0, 1)).cumprod(-1)
        before = torch.cat([torch.ones_like(goes_on[..., :1]), goes_on[..., :-1]], -1)
        return self.reward_scale * before * reward


def _entropy(noise: Tensor, change: Tensor) -> Tensor:
    """Entropy of a state given the one before and the weights, mean over draws, nats."""
    variance = 2 * math.pi * math.e * noise * change.square()
    return 0.5 * variance.log().sum(-1).mean(0).to(DTYPE)


def _wished(wish: Wish, states: Tensor, actions: Tensor) -> Tensor:
    """Ask a preference what it says of states and actions.

    Raises:
        AgentError: it reads what the agent does not see.
    """
    try:
        return wish(states, actions)
    except IndexError as error:
        raise AgentError(
            f"the preference reads more than the {states.shape[-1]} numbers that the agent is told "
            f"of a state ({error}): name one for this world with agent.preference."
        ) from error


@dataclass(frozen=True, kw_only=True)
class HiddenJudge(GaussianJudge):
    """Judge sequences in a world whose velocities are hidden, each draw from where it believes to be.

    Attributes:
        whole: positions, velocities and the action before as one state.
    """

    whole: WholeState

    def _whole(
        self, state: State, weights: Tensor, noise: Tensor
    ) -> tuple[Features, Tensor, Tensor, Tensor]:
        now = self.whole.state(state.natural)[: len(weights)]
        return self.whole.laid_out(), now, self.whole.weights(weights), self.whole.noise(noise)

    def _posterior(self) -> Regression | None:
        learned = self.world.learned["state"]
        assert isinstance(learned, HiddenWeights)
        return None if learned.last is None else learned.first()
