"""Particles that live on in a model, one slice at a time, each by actions of its own.

`engine.imagine` follows sequences of actions that are known beforehand. Here every action may
depend on what was imagined before it. All trajectories lie on the particle axis, so that each has its own
parameters; what the next slice reads is carried along, and nothing else.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.life import Life
from aif_dcpc.inference import State
from aif_dcpc.inference.model.ancestral import AncestorSampler
from aif_dcpc.inference.model.isolation import rng_from

Held = dict[str, Tensor]


class ImaginedSteps:
    """A model that goes on from a life's present.

    Args:
        life: in which something was observed.
        generator: source of all draws.

    Attributes:
        carried: names of the sites and inputs that are carried along.
        depth: slices of them that a new one reads, at least 1.

    Raises:
        AgentError: nothing was observed, or the model has sites that change less often than every
            slice.
    """

    def __init__(self, life: Life, generator: torch.Generator) -> None:
        if life.state is None:
            raise AgentError(
                "there is nothing to imagine from: let the agent act on an observation first."
            )
        self.life = life
        self.generator = generator
        self.factor_graph = life.state.conditioning.factor_graph
        self.sites = self.factor_graph.model.sites
        slow = [n for n, site in self.sites.items() if site.period not in (None, 1)]
        if slow:
            raise AgentError(
                f"site {slow[0]!r} does not have a value in every slice: imagined one slice at a "
                "time are models of sites with scope 'slice', 'episode' or 'global'."
            )
        self.depth = max([1, *(factor.start for factor in self.factor_graph.factors)])
        self.carried = list(life.state.values)

    def begin(self, number: int) -> Held:
        """Begin so many trajectories, each in a particle of the present cloud drawn by its weight.

        Returns:
            site -> `(number, depth, *event)`; without time `(number, *event)`.

        Raises:
            AgentError: the history is shorter than what a new slice reads.
        """
        state = self.life.state
        assert state is not None
        if state.length < self.depth:
            raise AgentError(
                f"a new slice reads {self.depth} slices before it, the history has {state.length}: "
                "let the agent act some steps first."
            )
        weights = state.weights()[:, 0]
        chosen = torch.multinomial(weights, number, replacement=True, generator=self.generator)
        return {name: self._present(state, name, chosen) for name in self.carried}

    def _present(self, state: State, name: str, chosen: Tensor) -> Tensor:
        """The last slices of a site at some particles."""
        value = state.constrained(name)[:, 0]
        value = value.expand(state.num_particles, *value.shape[1:])[chosen]
        return value if self.sites[name].period is None else value[:, -self.depth :]

    def step(self, held: Mapping[str, Tensor], action: Tensor) -> Held:
        """Draw the next slice of every trajectory.

        Args:
            held: as `begin` returns it, for K trajectories.
            action: `(K, *event)` chosen after the last slice.
        """
        number = len(action)
        past = {name: value.unsqueeze(1) for name, value in held.items()}
        now = past[self.life.action]
        chosen = action.reshape(number, 1, 1, *now.shape[3:]).to(now)
        past[self.life.action] = torch.cat([now[:, :, :-1], chosen], 2)
        given = {n: self._longer(past[n]) for n in held if self._is_told(n)}
        sampler = AncestorSampler(
            self.factor_graph, number, 1, self.depth + 1, given, draws=rng_from(self.generator)
        )
        found = sampler.sample(self.depth, {**past, **given})
        return {name: self._carried(name, found[name], number) for name in held}

    def _is_told(self, name: str) -> bool:
        """Whether a site is an input that has a value in every slice."""
        return self.sites[name].kind == "input" and self.sites[name].period is not None

    def _longer(self, past: Tensor) -> Tensor:
        """An input with nothing in the new slice: the episode goes on, no action is chosen yet."""
        return torch.cat([past, torch.zeros_like(past[:, :, :1])], 2)

    def _carried(self, name: str, value: Tensor, number: int) -> Tensor:
        value = value[:, 0].expand(number, *value.shape[2:])
        return value if self.sites[name].period is None else value[:, -self.depth :]
