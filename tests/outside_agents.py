"""Agents that stand outside the package, as a user's own would: `outside_agents:Stubborn`."""

import numpy as np
import torch

from aif_dcpc.agents import BaseAgent
from aif_dcpc.agents.protocol import StepReport


class Stubborn(BaseAgent):
    """Writes `act` alone: mostly the same action."""

    def __init__(self, num_actions: int, seed: int, *, favourite: int = 0) -> None:
        super().__init__(num_actions, seed)
        self.favourite = favourite

    def act(self, observation, *, greedy: bool = True) -> int:
        return self.favourite


def build_stubborn(observation_space, num_actions, metadata, settings, seed) -> Stubborn:
    """A builder as a function; it takes its settings as it likes."""
    return Stubborn(num_actions, seed, favourite=settings.get("often", num_actions - 1))


class ActsOnly:
    """Lacks the rest of the protocol."""

    @classmethod
    def build(cls, observation_space, num_actions, metadata, settings, seed) -> "ActsOnly":
        return cls()

    def act(self, observation, *, greedy: bool = True) -> int:
        return 0


def takes_too_little(observation_space):
    return ActsOnly()


NUMBER = 3


class Tracer(BaseAgent):
    """Box actions that depend on all it ever saw, and on its random numbers."""

    def __init__(self, action_space, seed: int) -> None:
        super().__init__(action_space, seed)
        self.memory = torch.zeros(2, dtype=torch.float64)

    def act(self, observation, *, greedy: bool = True):
        noise = torch.rand(2, generator=self.generator, dtype=torch.float64)
        return (noise + self.memory.sin()).clamp(-1, 1).numpy().astype(np.float32)

    def feedback(self, observation, reward, terminated, truncated) -> None:
        self.memory += torch.as_tensor(observation["state_0_place"]) + reward

    def report(self, *, pictures: bool = False) -> StepReport:
        return StepReport(scalars={"tracer/memory": float(self.memory.sum())})

    def state_dict(self):
        return {**super().state_dict(), "memory": self.memory.clone()}

    def load_state_dict(self, state) -> None:
        super().load_state_dict(state)
        self.memory.copy_(state["memory"])

    def companion(self, number: int) -> "Tracer":
        """Another, with the same memory."""
        other = Tracer(self.action_space, self.seed + number)
        other.memory = self.memory
        return other


class Crowd(BaseAgent):
    """Lives in several worlds at once: counts what it sees in each, and acts by its counts."""

    def __init__(self, action_space, seed: int) -> None:
        super().__init__(action_space, seed)
        self.seen = torch.zeros(1, dtype=torch.int64)
        self.last: list[int] = []  # length of each episode that ended
        self.begun: list[int] = []  # the worlds in which each began

    def begin_batch(self, *, seeds) -> None:
        if len(seeds) != len(self.seen):
            self.seen = torch.zeros(len(seeds), dtype=torch.int64)
        for world, seed in enumerate(seeds):
            if seed is not None:
                self.begun.append(world)
                self.seen[world] = 0
                self.generator.manual_seed(seed)

    def act(self, observation, *, greedy: bool = True) -> int:
        return 0

    def act_batch(self, observations, *, greedy: bool = True):
        drawn = torch.randint(self.num_actions, self.seen.shape, generator=self.generator)
        return ((self.seen + drawn) % self.num_actions).numpy()

    def feedback_batch(self, observations, rewards, terminated, truncated) -> None:
        assert all(len(stream) == len(self.seen) for stream in observations.values())
        self.seen += 1
        self.last += self.seen[torch.as_tensor(terminated | truncated)].tolist()

    def report(self, *, pictures: bool = False) -> StepReport:
        return StepReport(scalars={"crowd/seen": float(self.seen.double().mean())})

    def state_dict(self):
        own = {"seen": self.seen.clone(), "last": list(self.last), "begun": list(self.begun)}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state) -> None:
        super().load_state_dict(state)
        self.seen = state["seen"].clone()
        self.last, self.begun = list(state["last"]), list(state["begun"])
