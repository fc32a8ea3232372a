"""A discrete agent with the calls that users of pymdp know: infer_states, infer_policies, sample_action.

    agent = DiscreteAgent(DiscreteModel(A=A, B=B, C=C, D=D), horizon=3)
    agent = DiscreteAgent(from_pymdp(their_agent), horizon=3)

It is an `ActiveInferenceAgent` on the graph that the arrays declare: every observation is appended to
the history, which is swept in full, and plans are made on the exact belief graph. Where habit or
precision are learned (`pE`, `precision_prior`), every choice is evidence of both (see `own_choices`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.own_choices import OwnChoices
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
        precision_prior: shape and rate of a Gamma prior, where gamma is to be learned from what the
            agent chooses.
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
        precision_prior: tuple[float, float] | None = None,
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
        self.chances = torch.tensor(discrete.E)
        self.wanted = None if discrete.pC is None else [np.array(c) for c in discrete.pC]
        self.own: OwnChoices | None = None
        if discrete.pE is not None or precision_prior is not None:
            counts = None if discrete.pE is None else torch.from_numpy(discrete.pE)
            self.own = OwnChoices(
                torch.from_numpy(discrete.E),
                precision,
                counts=counts,
                precision_prior=precision_prior,
                seed=seed,
            )
            self.deliberation.score = self._own_score
        if self.wanted is not None:
            self.preferences = self._preferred()
        self.begin(seed=0)

    def begin_batch(self, *, seeds: Sequence[int | None]) -> None:
        """Begin episodes; what was planned in the first world is forgotten where one begins there."""
        super().begin_batch(seeds=seeds)
        if seeds[0] is not None:
            self.latest = None
            self.chances = torch.tensor(self.discrete.E)

    def infer_states(self, observation: Any) -> list[Floats]:
        """Take in one outcome of each modality; return beliefs about the factors, `(S_f,)` each.

        They are exact given the particles' tables, so that of known tables they are the filter's.

        Raises:
            AgentError: there are not as many outcomes as modalities.
        """
        outcomes = self._outcomes(observation)
        seen = {f"o_{m}": np.asarray(outcome) for m, outcome in enumerate(outcomes)}
        self._observe(of_one_world(seen))
        reading = Reading(self.situation().over_history(), self.graph.memory)
        joint = FilteredBelief(reading).belief().reshape(reading.sizes)
        axes = range(joint.ndim)
        places = [reading.factors.index(f"s_{f}") for f in axes]
        return [joint.sum(tuple(axis for axis in axes if axis != place)) for place in places]

    def _outcomes(self, observation: Any) -> list[int]:
        """Index of the outcome of each modality."""
        outcomes = [int(np.asarray(outcome)) for outcome in observation]
        if len(outcomes) != len(self.discrete.A):
            raise AgentError(
                f"observation: expected {len(self.discrete.A)} outcomes, one of each modality, "
                f"found {len(outcomes)}."
            )
        return outcomes

    def infer_policies(self) -> tuple[Floats, Floats]:
        """Plan; return each action's probability and minus its expected free energy, `(U,)`."""
        self.latest = self.graph.plan(self.situation())
        value = -self.latest.expected_free_energy.double()
        self.chances = self.deliberation.score(self.latest).double().softmax(0)
        return self.chances.numpy().copy(), value.numpy()

    def sample_action(self, *, greedy: bool = True) -> tuple[int, ...]:
        """Choose among policies and note the choice; returns the action of each factor."""
        chances = self.chances
        if greedy:
            chances = (chances >= chances.max() - 1e-9).double()
        chosen = int(torch.multinomial(chances, 1, generator=self.generator))
        if self.latest is not None:
            self._note(self.latest, chosen)
        self.life.act(torch.tensor([chosen]))
        return self.discrete.controls(chosen)

    # -- what it learns of itself ------------------------------------------------------------------

    @property
    def gamma(self) -> float:
        """Precision of the choice among policies, or its posterior mean."""
        if self.own is None:
            return self.deliberation.precision
        return float(self.own.draws("precision").mean())

    @property
    def habit(self) -> Floats:
        """Prior probability of each action, or its posterior mean, `(U,)`."""
        if self.own is None:
            return self.discrete.E.copy()
        found: Floats = self.own.draws("habit").double().mean(0).numpy()
        return found

    def prefer(self, observation: Any, times: float = 1.0) -> None:
        """Learn to want an observation: add it to the counts `pC` so many times, unless frozen.

        Told of what happens, the agent comes to prefer what it knows (Sajid et al. 2022, "Active
        inference, preference learning and adaptive behaviour"); told of what somebody else brings
        about, it comes to want the same. The log preference is E[ln p] under the Dirichlet.

        Raises:
            AgentError: preferences have no counts, or there is not one outcome of each modality.
        """
        if self.wanted is None:
            raise AgentError("prefer: preferences are learned where the model has counts pC.")
        outcomes = self._outcomes(observation)
        if self.frozen:
            return
        for m, outcome in enumerate(outcomes):
            self.wanted[m][outcome] += times
        self.preferences = self._preferred()

    def _preferred(self) -> dict[str, torch.Tensor]:
        """Expected log probabilities under the counts, of each modality `(O_m,)` nats."""
        assert self.wanted is not None
        counts = {f"o_{m}": torch.from_numpy(c) for m, c in enumerate(self.wanted)}
        return {name: c.digamma() - c.sum().digamma() for name, c in counts.items()}

    def _own_score(self, plan: Plan) -> torch.Tensor:
        """What own choices so far predict of this one, nats."""
        assert self.own is not None
        return self.own.log_prob(-plan.expected_free_energy)

    def _note(self, plan: Plan, chosen: int) -> None:
        """Take a choice as evidence of habit and precision, unless frozen."""
        if self.own is not None and not self.frozen:
            self.own.note(-plan.expected_free_energy, chosen)

    def _plan(self, greedy: bool) -> torch.Tensor:
        """Plan and choose in every world, and learn from the choices."""
        actions = super()._plan(greedy)
        for row, plan in self.deliberation.plans.items():
            self._note(plan, self.deliberation.chosen[row])
        return actions

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        own = None if self.own is None else self.own.state_dict()
        wanted = None if self.wanted is None else [torch.from_numpy(c.copy()) for c in self.wanted]
        latest: dict[str, Any] | None = None
        if self.latest is not None:
            latest = {**vars(self.latest), "terms": dict(self.latest.terms)}
        planned = {"latest": latest, "chances": self.chances.clone()}
        return {**super().state_dict(), "own": own, "wanted": wanted, **planned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        if self.own is not None:
            self.own.load_state_dict(state["own"])
        if self.wanted is not None:
            self.wanted = [np.array(c) for c in state["wanted"]]
            self.preferences = self._preferred()
        latest = state.get("latest")  # what was stored before plans were kept has none
        self.latest = None if latest is None else Plan(**latest)
        self.chances = torch.tensor(self.discrete.E)
        if "chances" in state:
            self.chances = state["chances"].clone()
