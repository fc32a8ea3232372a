"""Agents that stand outside the package, as a user's own would: `outside_agents:Stubborn`."""

from aif_dcpc.agents import BaseAgent


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
