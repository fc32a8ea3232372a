"""A model whose states, actions and outcomes can all be listed: its tables, for exact planning.

    >>> import numpy as np
    >>> two_doors = FiniteModel(
    ...     initial=np.array([0.5, 0.5]),
    ...     transitions=np.eye(2)[None],  # one action, which changes nothing
    ...     likelihood={"sound": np.array([[0.9, 0.1], [0.1, 0.9]])},
    ... )
    >>> two_doors.filter(two_doors.initial, {"sound": 0}).round(2).tolist()
    [0.9, 0.1]

States are all combinations of a model's finite latents (`factors` names them and their sizes, the
last one fastest); modalities are independent of each other given the state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import dirichlet_information
from aif_dcpc.agents.kernel_tables import TableMemory
from aif_dcpc.agents.planners.filtered_belief import FilteredBelief
from aif_dcpc.agents.planners.finite_reading import Reading
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.agents.table_checks import check_chances, check_counts, check_log_preferences


@dataclass(frozen=True, kw_only=True)
class FiniteModel:
    """Tables of a finite model, S states and A actions.

    Attributes:
        initial: `(S,)` belief to begin with.
        transitions: `(A, S, S')` p(s' | s, a); their posterior mean if they are being learned.
        likelihood: modality -> `(S, O_m)` p(o_m | s); the same.
        log_preferences: modality -> `(O_m,)` nats up to a constant, -inf for what must not happen;
            a modality without any is indifferent.
        concentrations: modality -> `(S, O_m)` Dirichlet posterior of a likelihood that is being
            learned.
        transition_concentrations: `(A, S, S')`, the same of transitions.
        novelty: what else is being learned: name -> `(A, S)`, nats that taking an action in a state
            is expected to tell about parameters.
        actions: `(A, *event)` the value of each action; 0 .. A - 1 by default.
        factors: name -> number of values of each factor of the state.

    Raises:
        AgentError: for tables that do not fit each other, or are no distributions.
    """

    initial: Floats
    transitions: Floats
    likelihood: Mapping[str, Floats]
    log_preferences: Mapping[str, Floats] = field(default_factory=dict)
    concentrations: Mapping[str, Floats] = field(default_factory=dict)
    transition_concentrations: Floats | None = None
    novelty: Mapping[str, Floats] = field(default_factory=dict)
    actions: Tensor | None = None
    factors: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self.initial)
        check_chances("initial (S,)", self.initial, (None,))
        check_chances("transitions (A, S, S')", self.transitions, (None, size, size), axis=2)
        if not self.likelihood:
            raise AgentError("likelihood: expected at least one modality, found none.")
        for name, table in self.likelihood.items():
            check_chances(f"likelihood of {name!r} (S, O)", table, (size, None), axis=1)
        self._check_preferences()
        self._check_learning()
        if self.actions is not None and len(self.actions) != self.num_actions:
            raise AgentError(
                f"actions: expected {self.num_actions} values, one for each of the transitions, "
                f"found {len(self.actions)}."
            )

    def _check_preferences(self) -> None:
        for name, wanted in self.log_preferences.items():
            self._check_modality("log preferences", name)
            try:
                check_log_preferences(wanted, self.likelihood[name].shape[1])
            except AgentError as error:
                raise AgentError(f"modality {name!r}: {error}") from error

    def _check_learning(self) -> None:
        for name, counts in self.concentrations.items():
            self._check_modality("concentrations", name)
            shape = self.likelihood[name].shape
            check_counts(f"concentrations of {name!r} (S, O)", counts, shape, axis=1)
        if self.transition_concentrations is not None:
            counts = self.transition_concentrations
            check_counts("transition concentrations", counts, self.transitions.shape, axis=2)
        for name, table in self.novelty.items():
            if table.shape != self.transitions.shape[:2] or not (table >= 0).all():
                raise AgentError(
                    f"novelty of {name!r}: expected {self.transitions.shape[:2]} nats (A, S) of at "
                    f"least 0, found shape {table.shape}."
                )

    def _check_modality(self, what: str, name: str) -> None:
        if name not in self.likelihood:
            raise AgentError(
                f"{what}: there is no modality {name!r}; there are {list(self.likelihood)}."
            )

    # -- from a declared model ---------------------------------------------------------------------

    @staticmethod
    def read(
        situation: Situation, memory: TableMemory | None = None
    ) -> tuple["FiniteModel", Floats]:
        """Read tables off the declared kernels of a finite graph, and the belief off its cloud.

        Tables are averaged over the particles' parameters, whose spread is the novelty. Inputs
        other than the action are 0, as in `engine.imagine`.

        Args:
            situation: the cloud, the action and the preferences.
            memory: what was read before, of the same model.

        Returns:
            the model, whose `initial` is the belief over its present state `(S,)`; and that belief.

        Raises:
            AgentError: the model is not finite; names the site and what to plan with instead.
        """
        reading = Reading(situation.over_history(), memory or TableMemory())
        filtered = FilteredBelief(reading)
        weights = filtered.weights
        belief = filtered.belief()
        tables = filtered.tables_at({a: reading.zero(a) for a in reading.inputs})
        means = {name: table.mean(weights) for name, table in tables.items()}
        actions = reading.values[reading.action]
        transitions = reading.transitions(means)[0]
        transitions = np.broadcast_to(transitions, (len(actions), *transitions.shape[1:]))
        likelihood = {name: reading.likelihood(means[name])[0] for name in reading.leaves}
        likelihood |= {name: reading.identity(name) for name in reading.told}
        finite = FiniteModel(
            initial=belief,
            transitions=transitions,
            likelihood=likelihood,
            log_preferences=reading.log_preferences(),
            novelty=reading.novelty(tables, weights, transitions),
            actions=actions,
            factors=dict(zip(reading.factors, reading.sizes, strict=True)),
        )
        return finite, belief

    # -- sizes -------------------------------------------------------------------------------------

    @property
    def num_states(self) -> int:
        """The number of states, S."""
        return len(self.initial)

    @property
    def num_actions(self) -> int:
        """The number of actions, A."""
        return len(self.transitions)

    @property
    def action_values(self) -> Tensor:
        """What to hand to the world for each action, `(A, *event)`."""
        return torch.arange(self.num_actions) if self.actions is None else self.actions

    # -- tables that follow from these -------------------------------------------------------------

    def novelty_tables(self) -> dict[str, Floats]:
        """Tell how much an action in a state is expected to tell about tables, `(A, S)` nats each.

        Of a likelihood: E_p(s' | s, a) I(o; its row s'), had s' been seen. Of transitions: I(s';
        their row (a, s)), had s and s' been seen, under the name "transitions". Rows are
        independent, so that these add up.
        """
        found = dict(self.novelty)
        for name, counts in self.concentrations.items():
            found[name] = self.transitions @ dirichlet_information(counts.T)
        if self.transition_concentrations is not None:
            rows = self.transition_concentrations.reshape(-1, self.num_states).T
            told = dirichlet_information(rows).reshape(self.num_actions, self.num_states)
            found["transitions"] = told
        return found

    # -- inference ---------------------------------------------------------------------------------

    def filter(self, predicted: Floats, outcome: Mapping[str, int]) -> Floats:
        """Update a predicted belief `(S,)` by what is seen now, modality -> index of the outcome.

        Raises:
            AgentError: what is seen cannot occur.
        """
        weight = predicted
        for name, index in outcome.items():
            weight = weight * self.likelihood[name][:, index]
        total = weight.sum()
        if not total > 0:
            raise AgentError(
                f"outcome {dict(outcome)} has probability 0 under the belief; allow for it in a "
                "likelihood or in the transitions."
            )
        found: Floats = weight / total
        return found

    def predict(self, belief: Floats, action: int) -> Floats:
        """Predict the next state, `(S,)`, from a belief and the index of an action."""
        found: Floats = belief @ self.transitions[action]
        return found


def point(size: int, index: int) -> Floats:
    """Make a belief that is sure of one state."""
    found = np.zeros(size)
    found[index] = 1.0
    return found
