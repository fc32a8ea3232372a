"""Agents for torchrl: a policy for its collectors, a posterior as a world for its planners.

    env = lived_in(GymWrapper(envs.make("TMaze")), agent)     # tells the agent what it leads to
    Collector(env, AgentPolicy(agent, env), frames_per_batch=100, total_frames=1000)

    dreams = ImaginedEnv(agent, batch_size=64)                # what the agent believes would happen
    dreams.rollout(20, policy)                                # under any policy; PPO trains in it

Nothing else of the package imports this module, which imports torchrl.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.nn.probabilistic import InteractionType, interaction_type
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase, ModelBasedEnvBase, Transform, TransformedEnv
from torchrl.modules import WorldModelWrapper

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.imagined_steps import ImaginedSteps
from aif_dcpc.agents.protocol import Agent, Observation

WORLD = "world"  # under which an imagined world is carried along
STATE = "state"  # a stream that torchrl's wrapper of Gymnasium calls by another name
OBSERVATION = "observation"
SAMPLED = (InteractionType.RANDOM,)  # ways of interacting in which actions are sampled


# -- an agent as a policy --------------------------------------------------------------------------


class Listening(Transform):
    """Tells an agent where episodes begin, and what its actions lead to.

    Args:
        agent: whose `begin` and `feedback` are called.
        streams: key -> spec of what the agent reads; the environment may show more.
        names: key -> the stream's name, where that is another.
        seed: of the agent's first episode; the next ones count on.

    Attributes:
        moment: how many observations there have been.
    """

    def __init__(
        self,
        agent: Agent,
        streams: Mapping[str, TensorSpec],
        names: Mapping[str, str],
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.agent = agent
        self.streams = dict(streams)
        self.names = dict(names)
        self.next_seed = seed
        self.moment = 0

    def seen(self, tensordict: TensorDictBase) -> Observation:
        """What a tensordict shows, as the agent reads it: one-hot vectors are numbers again."""
        return {
            self.names.get(key, key): spec.to_numpy(tensordict[key])
            for key, spec in self.streams.items()
        }

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        self.agent.begin(seed=self.next_seed)
        self.next_seed += 1
        self.moment += 1
        return tensordict_reset

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        self.agent.feedback(
            self.seen(next_tensordict),
            float(next_tensordict["reward"]),
            bool(next_tensordict["terminated"]),
            bool(next_tensordict.get("truncated", torch.zeros(1, dtype=torch.bool))),
        )
        self.moment += 1
        return next_tensordict


def lived_in(env: EnvBase, agent: Agent, *, seed: int = 0) -> TransformedEnv:
    """Return the environment with an agent that hears of everything that happens in it.

    Transforms that end episodes, such as `StepCounter`, must have been added before.

    Args:
        env: a single environment whose observations are the agent's streams.
        agent: whose policy acts in it.
        seed: of the agent's first episode; the next ones count on.

    Raises:
        AgentError: the environment has a batch.
    """
    if env.batch_size:
        raise AgentError(
            f"an agent lives in one world at a time, not in a batch of {tuple(env.batch_size)}: "
            "give each worker of a collector an agent of its own."
        )
    transformed = env if isinstance(env, TransformedEnv) else TransformedEnv(env)
    base = transformed.base_env
    own = getattr(getattr(base, "observation_space", None), "spaces", {})
    names = {} if OBSERVATION in own else {OBSERVATION: STATE}
    streams = dict(base.observation_spec.items())
    transformed.append_transform(Listening(agent, streams, names, seed=seed))
    return transformed


class AgentPolicy(TensorDictModuleBase):
    """An agent that reads its streams from a tensordict and writes its action there.

    Actions are sampled where torchrl explores (`ExplorationType.RANDOM`, as in its collectors), else
    the best is taken. Asked twice about one moment, it answers the same.

    Args:
        agent: which has learned something, or is to learn.
        env: which tells the agent what its actions lead to, as `lived_in` returns it.

    Raises:
        AgentError: the environment does not tell the agent.
    """

    def __init__(self, agent: Agent, env: EnvBase) -> None:
        super().__init__()
        told = [m for m in env.modules() if isinstance(m, Listening) and m.agent is agent]
        if not told:
            raise AgentError(
                "nothing tells the agent what its actions lead to: env = lived_in(env, agent)."
            )
        self.agent = agent
        self.listening = told[0]
        self.actions = env.action_spec
        self.answered = 0
        self.action: Tensor | None = None
        self.in_keys = list(self.listening.streams)
        self.out_keys = [env.action_key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Choose an action, given what is observed now."""
        if self.action is None or self.answered != self.listening.moment:
            greedy = interaction_type() not in SAMPLED
            chosen = self.agent.act(self.listening.seen(tensordict), greedy=greedy)
            self.action = self.actions.encode(chosen)
            self.answered = self.listening.moment
        return tensordict.set(self.out_keys[0], self.action.clone())


# -- a posterior as a world ------------------------------------------------------------------------


class Transition(TensorDictModuleBase):
    """One imagined slice for every trajectory of a batch, in the agent's own model.

    Args:
        steps: the model.
        observed: site -> the key under which its value is shown.
    """

    def __init__(self, steps: ImaginedSteps, observed: Mapping[str, str]) -> None:
        super().__init__()
        self.steps = steps
        self.observed = dict(observed)
        self.carried = [(WORLD, name) for name in steps.carried]
        self.in_keys = [*self.carried, "action"]
        self.out_keys = [*self.carried, *self.observed.values()]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Draw what the actions lead to."""
        batch = tensordict.batch_size
        axes = len(batch)
        held = {name: _flat(tensordict[WORLD, name], axes) for name in self.steps.carried}
        held = self.steps.step(held, _flat(tensordict["action"], axes))
        for name, value in held.items():
            tensordict.set((WORLD, name), value.reshape(*batch, *value.shape[1:]))
        return self.show(tensordict)

    def show(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write what is observed in the last slice of the world that is carried."""
        axes = len(tensordict.batch_size)
        for name, key in self.observed.items():
            tensordict.set(key, tensordict[WORLD, name].select(axes, -1).clone())
        return tensordict


class Consequences(TensorDictModuleBase):
    """Reward and ending of an imagined slice: what the model observes, else its preference.

    Args:
        agent: whose preferences they are, nats.
        observed: site -> the key under which its value is shown.
    """

    def __init__(self, agent: ActiveInferenceAgent, observed: Mapping[str, str]) -> None:
        super().__init__()
        self.preferences = dict(agent.preferences)
        self.observed = dict(observed)
        readers = {
            reader: name for name, reader in agent.life.observed.items() if isinstance(reader, str)
        }
        self.rewarded = readers.get("reward")
        self.ending = readers.get("terminated")
        self.in_keys = [*self.observed.values(), *((WORLD, n) for n in self._told)]
        self.out_keys = ["reward", "terminated", "done"]

    @property
    def _told(self) -> list[str]:
        return [name for name in (self.rewarded, self.ending) if name is not None]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write reward, termination and ending, `(*batch, 1)`."""
        shape = (*tensordict.batch_size, 1)
        over = torch.zeros(shape, dtype=torch.bool)
        if self.ending is not None:
            over = self._last(tensordict, self.ending).reshape(shape) > 0.5
        tensordict.set("reward", self._reward(tensordict).float().reshape(shape))
        tensordict.set("terminated", over)
        return tensordict.set("done", over.clone())

    def _reward(self, tensordict: TensorDictBase) -> Tensor:
        if self.rewarded is not None:
            return self._last(tensordict, self.rewarded)
        total = torch.zeros(tensordict.batch_size)
        for name, preference in self.preferences.items():
            value = self._last(tensordict, name)
            known = preference(value) if callable(preference) else preference[value.long()]
            total = total + known.reshape(tensordict.batch_size)
        return total

    def _last(self, tensordict: TensorDictBase, name: str) -> Tensor:
        return tensordict[WORLD, name].select(len(tensordict.batch_size), -1)


class ImaginedEnv(ModelBasedEnvBase):
    """What an agent believes would happen: each trajectory lives on in a particle of its posterior.

    An episode begins where the agent stands now, in a draw of its cloud. Observed are the sites that
    the agent observes, under the names of their streams (`state` is "observation", as torchrl's
    wrapper of Gymnasium has it); the reward is the one that its model
    observes, else the log preference of what is observed, nats; an episode ends where the model
    observes that it does, and else goes on (limit it by `StepCounter`). What a trajectory needs to
    go on is carried along under "world".

    Args:
        agent: which has observed something.
        batch_size: how many trajectories.
        seed: of all draws.

    Attributes:
        world_model: transition and reward, a `WorldModelWrapper`.

    Raises:
        AgentError: nothing was observed yet, or the model has sites that do not have a value in
            every slice.
    """

    def __init__(self, agent: ActiveInferenceAgent, *, batch_size: int = 1, seed: int = 0) -> None:
        self.agent = agent
        self.generator = torch.Generator().manual_seed(seed)
        life = agent.life
        steps = ImaginedSteps(life, self.generator)
        readers = life.observed.items()
        shown = {n: r if isinstance(r, str) else n for n, r in readers}
        shown = {n: OBSERVATION if key == STATE else key for n, key in shown.items()}
        observed = {n: key for n, key in shown.items() if key not in ("reward", "terminated")}
        observed = {n: key for n, key in observed.items() if n in steps.carried}
        transition = Transition(steps, observed)
        model = WorldModelWrapper(transition, Consequences(agent, observed))
        super().__init__(model, batch_size=torch.Size([batch_size]))
        self.steps = steps
        self.transition = transition
        self._specify()

    def _specify(self) -> None:
        """Read the specs off a first slice."""
        first = self._begun()
        world = Composite(
            {n: _spec(first[WORLD, n]) for n in self.steps.carried}, shape=self.batch_size
        )
        streams = {key: _spec(first[key]) for key in self.transition.observed.values()}
        self.observation_spec = Composite({**streams, WORLD: world}, shape=self.batch_size)
        self.state_spec = Composite({WORLD: world.clone()}, shape=self.batch_size)
        one = action_spec(self.agent.action_space)
        self.action_spec = one.expand(*self.batch_size, *one.shape)
        self.reward_spec = Unbounded((*self.batch_size, 1))

    def _begun(self) -> TensorDictBase:
        """Begin every trajectory in a particle of the agent's cloud."""
        held = self.steps.begin(self.batch_size[0])
        found = TensorDict({WORLD: held}, batch_size=self.batch_size)
        return self.transition.show(found)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        found = self._begun()
        begins = None if tensordict is None else tensordict.get("_reset", None)
        if begins is None or begins.all():
            return found
        assert tensordict is not None
        old = tensordict.select(*found.keys())
        return torch.where(begins.reshape(self.batch_size), found, old)

    def _set_seed(self, seed: int | None) -> None:
        """Seed the draws of all trajectories."""
        self.generator.manual_seed(0 if seed is None else seed)


def action_spec(space: gymnasium.Space[Any]) -> TensorSpec:
    """The actions of an agent as torchrl has them.

    Raises:
        AgentError: they are neither Discrete, from 0 on, nor in a Box.
    """
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return Categorical(int(space.n))
    if isinstance(space, gymnasium.spaces.Box):
        kind = torch.from_numpy(np.zeros(0, space.dtype)).dtype
        low = torch.as_tensor(space.low)
        return Bounded(low, torch.as_tensor(space.high), shape=space.shape, dtype=kind)
    raise AgentError(f"actions in {space}: expected Discrete actions from 0 on, or a Box.")


def _spec(value: Tensor) -> TensorSpec:
    """What is known of a tensor: its shape and kind of number."""
    return Unbounded(value.shape, dtype=value.dtype)


def _flat(value: Tensor, axes: int) -> Tensor:
    """Join the leading axes, `(*batch, *rest)` to `(K, *rest)`."""
    return value.reshape(-1, *value.shape[axes:])


__all__ = ["AgentPolicy", "ImaginedEnv", "Listening", "lived_in"]
