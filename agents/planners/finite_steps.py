"""One step from many beliefs at once: predictions, outcomes, beliefs after them, and costs.

A *row* is a belief with an action. Its expected free energy is, per modality m,

    cost = sum_m -E[ln C_m(o_m)] - (H[q(o_1, o_2, ...)] - sum_m E_q(s) H[o_m | s]) - novelty

where all but the entropy of the outcomes together is linear in the predicted belief: four tables of
one number a state are all that is needed of a modality.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import xlogy
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import entropy, expectation
from aif_dcpc.agents.planners.finite_model import FiniteModel

MAX_OUTCOMES = 10**7  # entries of the table of all outcomes together
SPARSE = 0.1  # share of entries above 0 below which a large table is kept as a sparse one
LARGE = 4096  # entries


@dataclass(frozen=True)
class FiniteSteps:
    """A finite model, laid out for steps from many beliefs at once.

    Args:
        model: the tables.
        with_novelty: whether learning about parameters counts.
    """

    model: FiniteModel
    with_novelty: bool = True

    # -- tables ------------------------------------------------------------------------------------

    @cached_property
    def by_outcome(self) -> Floats:
        """All modalities as one, `(O, S)`: outcomes that can occur in some state.

        Raises:
            AgentError: there are too many combinations to list.
        """
        joint = np.ones((self.model.num_states, 1))
        for name, table in self.model.likelihood.items():
            if joint.size * table.shape[1] > MAX_OUTCOMES:
                raise AgentError(
                    f"modality {name!r}: there are more than {MAX_OUTCOMES:,} combinations of "
                    "states and outcomes of all modalities; plan with a sampled tree instead."
                )
            joint = (joint[:, :, None] * table[:, None]).reshape(len(joint), -1)
            joint = joint[:, joint.any(0)]
        return np.ascontiguousarray(joint.T)

    @cached_property
    def likelihood(self) -> Any:
        """All modalities as one, `(S, O)`, ready to multiply beliefs with."""
        return compact(self.by_outcome.T)

    @cached_property
    def likelihoods(self) -> Mapping[str, Any]:
        """Modality -> `(S, O_m)`, ready to multiply beliefs with."""
        return {name: compact(table) for name, table in self.model.likelihood.items()}

    @cached_property
    def transitions(self) -> Any:
        """Of all actions side by side, `(S, A * S')`, ready to multiply beliefs with."""
        size = self.model.num_states
        return compact(self.model.transitions.transpose(1, 0, 2).reshape(size, -1))

    @cached_property
    def novelty_tables(self) -> Mapping[str, Floats]:
        """What is learned about parameters, name -> `(A, S)` nats."""
        return self.model.novelty_tables() if self.with_novelty else {}

    @cached_property
    def novelty(self) -> Floats | None:
        """The sum of these; None where there is nothing to learn."""
        tables = list(self.novelty_tables.values())
        return np.sum(tables, 0) if tables else None

    @cached_property
    def entropies(self) -> Mapping[str, Floats]:
        """Modality -> H[o | s], `(S,)` nats."""
        return {name: entropy(table, 1) for name, table in self.model.likelihood.items()}

    @cached_property
    def log_preferences(self) -> Mapping[str, Floats]:
        """Modality -> E[ln C(o) | s], `(S,)` nats; -inf where one can occur that must not."""
        wanted = self.model.log_preferences
        return {
            name: expectation(table, wanted[name]) if name in wanted else np.zeros(len(table))
            for name, table in self.model.likelihood.items()
        }

    @cached_property
    def ambiguity(self) -> Floats:
        """Entropy of all outcomes together given the state, `(S,)` nats."""
        return np.sum(list(self.entropies.values()), 0)

    @cached_property
    def log_preference(self) -> Floats:
        """Expected log preference of all outcomes together given the state, `(S,)` nats."""
        return np.sum(list(self.log_preferences.values()), 0)

    @cached_property
    def worth(self) -> Floats:
        """Expected log preference less ambiguity, `(S,)` nats: all of a cost that is linear."""
        return self.log_preference - self.ambiguity

    @cached_property
    def worth_is_finite(self) -> bool:
        """Whether nothing can occur that must not."""
        return bool(np.isfinite(self.worth).all())

    @cached_property
    def policies(self) -> Tensor:
        """One action each, `(A, 1, *event)`."""
        return self.model.action_values[:, None]

    @cached_property
    def points(self) -> bool:
        """Whether whatever is seen identifies the state."""
        return bool((np.count_nonzero(self.by_outcome, 1) == 1).all())

    # -- steps -------------------------------------------------------------------------------------

    def predict(self, beliefs: Floats) -> Floats:
        """Predict the next state for beliefs `(n, S)` and actions, `(n * A, S')`, actions fastest."""
        return (beliefs @ self.transitions).reshape(-1, self.model.num_states)

    def predict_rows(self, beliefs: Floats, actions: Ints) -> Floats:
        """Predict the next state for beliefs `(rows, S)` with one action each, `(rows, S')`."""
        found = self.predict(beliefs).reshape(len(beliefs), self.model.num_actions, -1)
        return found[np.arange(len(beliefs)), actions]

    def outcomes(self, predicted: Floats) -> Floats:
        """Probabilities of all outcomes together, `(rows, O)`."""
        found: Floats = predicted @ self.likelihood
        return found

    def novelty_of(self, beliefs: Floats, table: Floats) -> Floats:
        """Expected information about parameters for each belief and action, `(n * A,)` nats."""
        found: Floats = (beliefs @ table.T).reshape(-1)
        return found

    def costs(self, beliefs: Floats, predicted: Floats, outcomes: Floats) -> Floats:
        """Expected free energy of one step, `(rows,)` nats.

        Args:
            beliefs: `(n, S)`.
            predicted: `(n * A, S')`, of the same beliefs.
            outcomes: `(n * A, O)`, of these.
        """
        worth = (
            predicted @ self.worth if self.worth_is_finite else expectation(predicted, self.worth)
        )
        cost: Floats = xlogy(outcomes, outcomes).sum(1) - worth
        if self.novelty is not None:
            cost -= self.novelty_of(beliefs, self.novelty)
        return cost

    def after(self, predicted: Floats, outcomes: Floats) -> tuple[Ints, Floats, Floats]:
        """Beliefs after every outcome that can occur.

        Returns:
            rows `(m,)`, chances of the outcomes `(m,)` and beliefs `(m, S)`, sorted by row.
        """
        rows, seen = outcomes.nonzero()
        chances = outcomes[rows, seen]
        beliefs = predicted[rows]
        beliefs *= self.by_outcome[seen]
        beliefs /= chances[:, None]
        return rows, chances, beliefs

    # -- terms -------------------------------------------------------------------------------------

    def terms(self, beliefs: Floats, actions: Ints, predicted: Floats) -> dict[str, Floats]:
        """Every term of one step, in total and by modality, `(rows,)` nats each.

        Args:
            beliefs: `(rows, S)`.
            actions: `(rows,)`.
            predicted: `(rows, S')`.
        """
        found: dict[str, Floats] = {}
        alone = np.zeros(len(predicted))
        for name, table in self.likelihoods.items():
            own = self._terms_of(name, entropy(predicted @ table, 1), predicted)
            alone += own.pop("entropy")
            found.update({f"{term}/{name}": value for term, value in own.items()})
        together = entropy(self.outcomes(predicted), 1)
        cross = -expectation(predicted, self.log_preference)
        ambiguity = predicted @ self.ambiguity
        total = {
            "risk": cross - together,
            "ambiguity": ambiguity,
            "information_gain": together - ambiguity,
            "neg_expected_log_preference": cross,
            **self._novelty_terms(beliefs, actions),
        }
        if len(self.model.likelihood) == 1:
            return total
        return {**total, "shared": alone - together, **found}

    def _novelty_terms(self, beliefs: Floats, actions: Ints) -> dict[str, Floats]:
        """Novelty in total, and by what is being learned."""
        own = {
            f"novelty/{name}": (beliefs * table[actions]).sum(1)
            for name, table in self.novelty_tables.items()
        }
        return {"novelty": sum(own.values(), np.zeros(len(beliefs))), **own}

    def _terms_of(
        self, name: str, predicted_entropy: Floats, predicted: Floats
    ) -> dict[str, Floats]:
        """The terms of one modality as if it were alone, and its predicted entropy."""
        cross = -expectation(predicted, self.log_preferences[name])
        ambiguity = predicted @ self.entropies[name]
        return {
            "risk": cross - predicted_entropy,
            "ambiguity": ambiguity,
            "information_gain": predicted_entropy - ambiguity,
            "entropy": predicted_entropy,
        }


def compact(table: Floats) -> Any:
    """Keep a large table of few entries above 0 as a sparse one."""
    if table.size > LARGE and np.count_nonzero(table) < SPARSE * table.size:
        return csr_array(table)
    return np.ascontiguousarray(table)


def information_by_posteriors(
    predicted: Floats, rows: Ints, chances: Floats, after: Floats
) -> Floats:
    """E_o KL[q(s | o) || q(s)] of each row, nats: by Bayes' rule, not by entropies.

    Args:
        predicted: `(rows, S)` q(s).
        rows: `(m,)` the row of each outcome.
        chances: `(m,)` q(o).
        after: `(m, S)` q(s | o).
    """
    before = predicted[rows]
    told = xlogy(after, after) - xlogy(after, np.where(before > 0, before, 1.0))
    found: Floats = np.bincount(rows, chances * told.sum(1), len(predicted)).astype(float)
    return found
