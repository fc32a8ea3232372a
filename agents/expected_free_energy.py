"""Expected free energy of a policy in a discrete model, in nats, in both of its decompositions.

For one time step with predicted states q(s), likelihood A[o, s] = p(o | s), log preferences ln
C(o), and a Dirichlet posterior over A's columns:

    expected free energy = risk + ambiguity - novelty
                         = -E[ln C(o)] - information gain - novelty

    risk             = KL[q(o) || C],  q(o) = sum_s A[o, s] q(s)
    ambiguity        = E_q(s) H[A[:, s]]          (A at its posterior mean)
    information gain = I(o; s) = H[q(o)] - ambiguity
    novelty          = E_q(s) I(o; A[:, s])       (how much o would tell about the parameters)

Both sides agree if C is normalised; `Planner` uses the second form, with log preferences up to a
constant.

References: Friston et al. (2015), "Active inference and epistemic value"; Da Costa et al. (2020),
    equations 6 to 9.

>>> import numpy as np
>>> even, sure = np.array([0.5, 0.5]), np.array([0.0, 1.0])
>>> terms = expected_free_energy(even, np.eye(2), np.log([0.2, 0.8]))
>>> round(terms.information_gain, 4), round(terms.ambiguity, 4)
(0.6931, 0.0)
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, xlogy

from aif_dcpc.agents.arrays import Floats


@dataclass(frozen=True)
class Terms:
    """The terms of an expected free energy, nats.

    Attributes:
        risk: divergence of predicted from preferred outcomes.
        ambiguity: expected entropy of outcomes given states.
        information_gain: about states.
        novelty: information gain about parameters.
        neg_expected_log_preference: cross entropy of predicted and preferred outcomes.
    """

    risk: float
    ambiguity: float
    information_gain: float
    novelty: float
    neg_expected_log_preference: float

    @property
    def total(self) -> float:
        """risk + ambiguity - novelty."""
        return self.risk + self.ambiguity - self.novelty

    @property
    def total_by_value(self) -> float:
        """-E[ln C] - information gain - novelty."""
        return self.neg_expected_log_preference - self.information_gain - self.novelty

    def __add__(self, other: "Terms") -> "Terms":
        return Terms(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


def expected_free_energy(
    states: Floats, likelihood: Floats, log_preferences: Floats, concentration: Floats | None = None
) -> Terms:
    """Terms of one time step.

    Args:
        states: `(S,)` predicted q(s).
        likelihood: `(O, S)` p(o | s); its posterior mean if it is being learned.
        log_preferences: `(O,)` ln C(o), normalised.
        concentration: `(O, S)` Dirichlet parameters of the columns of the likelihood, if it is
            being learned.
    """
    outcomes = likelihood @ states
    ambiguity = float(states @ entropy(likelihood, 0))
    predicted = float(entropy(outcomes, 0))
    cross = -float(outcomes @ log_preferences)
    novelty = 0.0 if concentration is None else float(states @ dirichlet_information(concentration))
    return Terms(cross - predicted, ambiguity, predicted - ambiguity, novelty, cross)


def policy_expected_free_energy(
    states: Floats,
    transitions: Floats,
    likelihood: Floats,
    log_preferences: Floats,
    policy: tuple[int, ...],
    concentration: Floats | None = None,
) -> Terms:
    """Terms of an action sequence, summed over its steps; each step is judged by its own prediction.

    Args:
        states: `(S,)` present belief.
        transitions: `(S', S, A)` p(s' | s, a).
        likelihood, log_preferences, concentration: see `expected_free_energy`.
        policy: actions.
    """
    total = Terms(0.0, 0.0, 0.0, 0.0, 0.0)
    for action in policy:
        states = transitions[:, :, action] @ states
        total = total + expected_free_energy(states, likelihood, log_preferences, concentration)
    return total


def branching_expected_free_energy(
    states: Floats, transitions: Floats, likelihood: Floats, log_preferences: Floats, horizon: int
) -> Floats:
    """Expected free energy of each first action if every later action is chosen with the outcomes seen so far.

    G(b, a) = expected free energy of one step + sum_o q(o | b, a) min_a' G(b after o, a').

    Args:
        states: `(S,)` present belief b.
        transitions: `(S', S, A)`.
        likelihood, log_preferences: see `expected_free_energy`.
        horizon: steps to look ahead; the cost grows as (A O)^horizon.

    Returns:
        `(A,)` nats.
    """
    values = np.zeros(transitions.shape[2])
    for action in range(len(values)):
        predicted = transitions[:, :, action] @ states
        values[action] = expected_free_energy(predicted, likelihood, log_preferences).total
        if horizon > 1:
            joint = likelihood * predicted
            for outcome in np.flatnonzero(joint.sum(1) > 0):
                chance = joint[outcome].sum()
                after = joint[outcome] / chance
                later = branching_expected_free_energy(
                    after, transitions, likelihood, log_preferences, horizon - 1
                )
                values[action] += chance * later.min()
    return values


def entropy(chances: Floats, axis: int) -> Floats:
    """Entropy along an axis, nats."""
    result: Floats = -xlogy(chances, chances).sum(axis)
    return result


def dirichlet_information(concentration: Floats) -> Floats:
    """I(o; column) in nats of one draw o from each column of Dirichlet parameters `(O, S)`.

    H[mean] - E[H], with E[H] = digamma(a0 + 1) - sum_o (a_o / a0) digamma(a_o + 1).
    """
    total = concentration.sum(0)
    mean = concentration / total
    expected = digamma(total + 1) - (mean * digamma(concentration + 1)).sum(0)
    result: Floats = entropy(mean, 0) - expected
    return result
