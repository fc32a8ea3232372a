"""What action sequences are worth: risk, ambiguity and novelty of their imagined futures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gaussian.attained import Attained, by_use
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
        novelty: whether what is learned about the weights counts, where the agent is not frozen.
        resolution: how finely states are looked at for that, in units of their changes.
        attained: of the preference, which bounds what knowledge is worth.
    """

    world: World
    wish: Wish | None
    reward_scale: float = 1.0
    draws: int = 4
    novelty: bool = True
    resolution: float = 0.03
    attained: Attained = field(default_factory=Attained)

    def __call__(self, situation: Situation, policies: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of each step, `(N, H)` nats."""
        particles = situation.state.particles
        linear = self.world.learned["state"].linear
        weights, noise = (particles[name][: self.draws, 0] for name in linear.block)
        number = linear.num_actions
        actions = policies.to(DTYPE) if number is None else one_hot(policies, number).to(DTYPE)
        features, state, all_weights, all_noise = self._whole(situation.state, weights, noise)
        futures = imagine(features, state, actions, all_weights, all_noise, situation.generator)
        each = self._log_preference(situation, futures, actions)
        found = self._novelty(futures, learns=self.novelty and not situation.frozen)
        if self.wish is not None:
            beyond = self.attained.beyond(_at_rest(self.wish, futures.states, actions.shape[-1]))
            each = torch.where(beyond, self.attained.final, each)
            found = self.attained.bounded(found * (~beyond).to(found).mean(0))
        preferred = each.mean(0)
        ambiguity = _entropy(noise, linear.features.change).expand(policies.shape[:2])
        return {
            "risk": -preferred - ambiguity,
            "ambiguity": ambiguity,
            "information_gain": torch.zeros_like(preferred),
            "novelty": found,
            "neg_expected_log_preference": -preferred,
        }

    def note(self, state: State, ended: Tensor) -> None:
        """Take note of how much the present states are preferred, and which worlds have ended `(B,)`."""
        if self.wish is None:
            return
        linear = self.world.learned["state"].linear
        present = self._present(state)
        number = linear.features.num_inputs - present.shape[-1]
        for value, over in zip(_at_rest(self.wish, present, number), ended, strict=True):
            self.attained.note(float(value), ended=bool(over))

    def _present(self, state: State) -> Tensor:
        """Present state of every world, `(B, D)`."""
        return state.value("state")[0, :, -1]

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

    def _novelty(self, futures: Futures, *, learns: bool) -> Tensor:
        """What the states tell about the weights that they follow from, by its use, `(N, H)` nats."""
        posterior = self._posterior()
        if not learns or posterior is None:
            return torch.zeros(futures.features.shape[:2])
        return by_use(novelty(posterior, futures.features, self.resolution))

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


def _at_rest(wish: Wish, states: Tensor, number: int) -> Tensor:
    """Ask a preference what it says of states `(..., D)` whatever is done there, `(...)`."""
    return _wished(wish, states, states.new_zeros(*states.shape[:-1], number))


@dataclass(frozen=True, kw_only=True)
class HiddenJudge(GaussianJudge):
    """Judge sequences in a world whose velocities are hidden, each draw from where it believes to be.

    Attributes:
        whole: positions, velocities and the action before as one state.
    """

    whole: WholeState

    def _present(self, state: State) -> Tensor:
        return self.whole.states(state.natural).mean(0)

    def _whole(
        self, state: State, weights: Tensor, noise: Tensor
    ) -> tuple[Features, Tensor, Tensor, Tensor]:
        now = self.whole.state(state.natural)[: len(weights)]
        return self.whole.laid_out(), now, self.whole.weights(weights), self.whole.noise(noise)

    def _posterior(self) -> Regression | None:
        learned = self.world.learned["state"]
        assert isinstance(learned, HiddenWeights)
        return None if learned.last is None else learned.first()
