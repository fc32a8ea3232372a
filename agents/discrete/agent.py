"""A discrete agent with the calls that users of pymdp know: infer_states, infer_policies, sample_action.

    agent = DiscreteAgent(DiscreteModel(A=A, B=B, C=C, D=D), horizon=3)
    agent = DiscreteAgent(from_pymdp(their_agent), horizon=3)

It is an `ActiveInferenceAgent` on the graph that the arrays declare: every observation is appended to
the history, which is swept in full, and plans are made on the exact belief graph.
"""

from typing import Any

import gymnasium
import numpy as np
import torch

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.filtered_belief import FilteredBelief
from aif_dcpc.agents.planners.finite_reading import Reading
from aif_dcpc.agents.planners.protocol import Plan
from aif_dcpc.agents.streams import of_one_world


class DiscreteAgent(ActiveInferenceAgent):
    """An agent from arrays A, B, C, D, E.

    Args:
        discrete: the arrays; tables with Dirichlet counts are learned.
        horizon: steps to look ahead.
        discount: weight of each step against the one before.
        novelty: whether learning about tables counts.
        precision: gamma, of the choice among policies.
        num_particles, num_sweeps: of the engine.
        seed: every random choice follows from it.
    """

    def __init__(
        self,
        discrete: DiscreteModel,
        *,
        horizon: int = 2,
        discount: float = 1.0,
        novelty: bool = True,
        precision: float = 16.0,
        num_particles: int = 16,
        num_sweeps: int = 2,
        seed: int = 0,
    ) -> None:
        self.discrete = discrete
        self.graph = BeliefGraph(horizon=horizon, discount=discount, novelty=novelty)
        super().__init__(
            discrete.graphical_model(),
            action="u",
            action_space=gymnasium.spaces.Discrete(discrete.num_actions),
            observed=[f"o_{m}" for m in range(len(discrete.A))],
            preferences=discrete.preferences,
            planner=self.graph,
            num_particles=num_particles,
            num_sweeps=num_sweeps,
            precision=precision,
            habit=torch.from_numpy(discrete.E),
            seed=seed,
        )
        self.latest: Plan | None = None
        self.gamma = precision
        self.chances = torch.from_numpy(discrete.E)
        self.begin(seed=0)

    def infer_states(self, observation: Any) -> list[Floats]:
        """Take in one outcome of each modality; return beliefs about the factors, `(S_f,)` each.

        They are exact given the particles' tables, so that of known tables they are the filter's.

        Raises:
            AgentError: there are not as many outcomes as modalities.
        """
        outcomes = [int(np.asarray(outcome)) for outcome in observation]
        if len(outcomes) != len(self.discrete.A):
            raise AgentError(
                f"observation: expected {len(self.discrete.A)} outcomes, one of each modality, "
                f"found {len(outcomes)}."
            )
        seen = {f"o_{m}": np.asarray(outcome) for m, outcome in enumerate(outcomes)}
        self._observe(of_one_world(seen))
        reading = Reading(self.situation().over_history(), self.graph.memory)
        joint = FilteredBelief(reading).belief().reshape(reading.sizes)
        axes = range(joint.ndim)
        places = [reading.factors.index(f"s_{f}") for f in axes]
        return [joint.sum(tuple(axis for axis in axes if axis != place)) for place in places]

    def infer_policies(self) -> tuple[Floats, Floats]:
        """Plan; return each action's probability and minus its expected free energy, `(U,)`."""
        self.latest = self.graph.plan(self.situation())
        value = -self.latest.expected_free_energy.double()
        log_habit = torch.from_numpy(self.discrete.E).clamp_min(1e-16).log()
        chances = (self.gamma * value + log_habit).softmax(0)
        self.chances = chances
        return chances.numpy(), value.numpy()

    def sample_action(self, *, greedy: bool = True) -> tuple[int, ...]:
        """Choose among policies and note the choice; returns the action of each factor."""
        chances = self.chances
        if greedy:
            chances = (chances >= chances.max() - 1e-9).double()
        chosen = int(torch.multinomial(chances, 1, generator=self.generator))
        self.life.act(torch.tensor([chosen]))
        return self.discrete.controls(chosen)
