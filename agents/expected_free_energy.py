"""Expected free energy of a policy in a discrete model, in nats, in both of its decompositions.

For one time step with predicted states q(s), likelihood A[o, s] = p(o | s), log preferences ln
C(o), and a Dirichlet posterior over A's columns:

    expected free energy = risk + ambiguity - novelty
                         = -E[ln C(o)] - information gain - novelty

    risk             = KL[q(o) || C],  q(o) = sum_s A[o, s] q(s)
    ambiguity        = E_q(s) H[A[:, s]]          (A at its posterior mean)
    information gain = I(o; s) = H[q(o)] - ambiguity
    novelty          = E_q(s) I(o; A[:, s])       (how much o would tell about the parameters)

Both sides agree if C is normalised, and only then is risk a divergence: what reports terms asks for
it. Planners, and totals alone, use log preferences up to a constant, which moves all policies
alike. What cannot occur costs nothing, however little it is wanted; what can occur and has log
preference minus infinity costs infinitely much.

Several modalities that are independent given the state tell of it together, some of it twice:
`joint_expected_free_energy`. For outcomes that are not finite see `sampled_free_energy`.

    >>> import numpy as np
    >>> even, sure = np.array([0.5, 0.5]), np.array([0.0, 1.0])
    >>> terms = expected_free_energy(even, np.eye(2), np.log([0.2, 0.8]))
    >>> round(terms.information_gain, 4), round(terms.ambiguity, 4)
    (0.6931, 0.0)

References: Friston et al. (2015), "Active inference and epistemic value"; Da Costa et al. (2020),
    equations 6 to 9.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, xlogy

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.table_checks import (
    ROUNDING,
    check_chances,
    check_counts,
    check_log_preferences,
    check_normalised,
)


class DecompositionWarning(UserWarning):
    """The two decompositions of an expected free energy disagree: one of them is wrong."""


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
        """Sum term by term."""
        return Terms(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


NOTHING = Terms(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class JointTerms:
    """The terms of several modalities that are independent given the state.

    Attributes:
        modalities: name -> its own terms, as if it were alone.
        shared: sum of the modalities' predicted entropies less that of all outcomes together, nats:
            what they tell twice, at least 0.
    """

    modalities: Mapping[str, Terms]
    shared: float

    @property
    def together(self) -> Terms:
        """All outcomes as one: what is told twice is a risk, and no information."""
        alone = sum(self.modalities.values(), NOTHING)
        return alone + Terms(self.shared, 0.0, -self.shared, 0.0, 0.0)


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

    Raises:
        AgentError: for shapes that do not fit, what is no distribution, and preferences that are
            no log probabilities.
    """
    check_step(states, likelihood, log_preferences, concentration)
    check_normalised(log_preferences)
    return _terms(states, likelihood, log_preferences, concentration)


def _terms(
    states: Floats, likelihood: Floats, log_preferences: Floats, concentration: Floats | None = None
) -> Terms:
    """Terms of one time step, of inputs that have been checked."""
    outcomes = likelihood @ states
    ambiguity = float(states @ entropy(likelihood, 0))
    predicted = float(entropy(outcomes, 0))
    cross = -float(expectation(outcomes, log_preferences))
    novelty = 0.0 if concentration is None else float(states @ dirichlet_information(concentration))
    return Terms(cross - predicted, ambiguity, predicted - ambiguity, novelty, cross)


def joint_expected_free_energy(
    states: Floats,
    likelihoods: Mapping[str, Floats],
    log_preferences: Mapping[str, Floats],
    concentrations: Mapping[str, Floats] | None = None,
) -> JointTerms:
    """Terms of one time step with several modalities, independent given the state.

    Args:
        states: `(S,)` predicted q(s).
        likelihoods: modality -> `(O_m, S)`.
        log_preferences: modality -> `(O_m,)`, normalised; a modality without any is indifferent,
            and its outcomes cost nothing.
        concentrations: modality -> `(O_m, S)`, of those that are being learned.

    Raises:
        AgentError: as `expected_free_energy`; also for a modality that has no likelihood, or where
            there is no modality.
    """
    if not likelihoods:
        raise AgentError("likelihoods: expected at least one modality, found none.")
    for name in [*log_preferences, *(concentrations or {})]:
        if name not in likelihoods:
            raise AgentError(f"modality {name!r} has no likelihood; there are {list(likelihoods)}.")
    found = {}
    for name, likelihood in likelihoods.items():
        wanted = log_preferences.get(name, np.zeros(len(likelihood)))
        counts = (concentrations or {}).get(name)
        try:
            check_step(states, likelihood, wanted, counts)
            if name in log_preferences:
                check_normalised(wanted)
            found[name] = _terms(states, likelihood, wanted, counts)
        except AgentError as error:
            raise AgentError(f"modality {name!r}: {error}") from error
    alone = sum(float(entropy(table @ states, 0)) for table in likelihoods.values())
    together = float(entropy(joint_likelihood(likelihoods) @ states, 0))
    return JointTerms(found, alone - together)


def joint_likelihood(likelihoods: Mapping[str, Floats]) -> Floats:
    """Make one modality of several, `(O_1 * O_2 * ..., S)`, the last one's outcomes fastest."""
    joint = np.ones((1, next(iter(likelihoods.values())).shape[1]))
    for table in likelihoods.values():
        joint = (joint[:, None] * table).reshape(-1, table.shape[1])
    return joint


def both_decompositions(
    states: Floats, likelihood: Floats, log_preferences: Floats, concentration: Floats | None = None
) -> tuple[float, float]:
    """Compute the expected free energy of one step twice, each time from its definition.

    The first is KL[q(o) || C] + E H[o | s] - novelty; the second -E[ln C(o)] - E_o KL[q(s | o) ||
    q(s)] - novelty, by Bayes' rule for each outcome. They share no intermediate result.

    Raises:
        AgentError: as `expected_free_energy`.

    Warns:
        DecompositionWarning: they disagree by more than rounding.
    """
    check_step(states, likelihood, log_preferences, concentration)
    check_normalised(log_preferences)
    novelty = 0.0 if concentration is None else float(states @ dirichlet_information(concentration))
    outcomes = likelihood @ states
    risk = -float(entropy(outcomes, 0)) - float(expectation(outcomes, log_preferences))
    first = risk + float(states @ entropy(likelihood, 0)) - novelty
    joint = likelihood * states
    chances = joint.sum(1)
    possible = chances > 0
    after = joint[possible] / chances[possible, None]
    surprise = xlogy(after, after) - xlogy(after, np.where(states > 0, states, 1.0))
    gained = float(chances[possible] @ surprise.sum(1))
    second = -float(expectation(chances, log_preferences)) - gained - novelty
    warn_unless_equal(first, second)
    return first, second


def warn_unless_equal(first: float, second: float) -> None:
    """Warn where two decompositions of one expected free energy, nats, are not the same number."""
    if first == second or abs(first - second) <= ROUNDING * max(1.0, abs(first)):
        return
    warnings.warn(
        f"the decompositions of an expected free energy disagree: {first:.8g} nats by risk and "
        f"ambiguity, {second:.8g} by value and information; check that belief and likelihoods are "
        "distributions.",
        DecompositionWarning,
        stacklevel=3,
    )


def policy_expected_free_energy(
    states: Floats,
    transitions: Floats,
    likelihood: Floats,
    log_preferences: Floats,
    policy: tuple[int, ...],
    concentration: Floats | None = None,
) -> Terms:
    """Terms of an action sequence, summed over steps that are judged by their own predictions.

    Args:
        states: `(S,)` present belief.
        transitions: `(S', S, A)` p(s' | s, a).
        likelihood, log_preferences, concentration: see `expected_free_energy`.
        policy: actions.
    """
    check_step(states, likelihood, log_preferences, concentration)
    check_normalised(log_preferences)
    check_transitions(transitions, len(states))
    total = NOTHING
    for action in policy:
        states = transitions[:, :, action] @ states
        total = total + _terms(states, likelihood, log_preferences, concentration)
    return total


def branching_expected_free_energy(
    states: Floats,
    transitions: Floats,
    likelihood: Floats,
    log_preferences: Floats,
    horizon: int,
    *,
    discount: float = 1.0,
) -> Floats:
    """Expected free energy of each first action if later ones are chosen by the outcomes until then.

    G(b, a) = expected free energy of one step + discount sum_o q(o | b, a) min_a' G(b after o, a').

    The plain recursion, for small models and as a standard to hold planners to;
    `planners.belief_graph` finds the same, thousands of times faster.

    Args:
        states: `(S,)` present belief b.
        transitions: `(S', S, A)`.
        likelihood: see `expected_free_energy`.
        log_preferences: `(O,)` ln C(o), up to a constant.
        horizon: steps to look ahead; the cost grows as (A O)^horizon.
        discount: weight of each step against the one before.

    Returns:
        `(A,)` nats.
    """
    check_step(states, likelihood, log_preferences)
    check_transitions(transitions, len(states))
    return _branch(states, transitions, likelihood, log_preferences, horizon, discount)


def _branch(
    states: Floats,
    transitions: Floats,
    likelihood: Floats,
    log_preferences: Floats,
    horizon: int,
    discount: float,
) -> Floats:
    """Recur over outcomes and actions, with inputs that have been checked."""
    values = np.zeros(transitions.shape[2])
    for action in range(len(values)):
        predicted = transitions[:, :, action] @ states
        values[action] = _terms(predicted, likelihood, log_preferences).total
        if horizon > 1:
            joint = likelihood * predicted
            for outcome in np.flatnonzero(joint.sum(1) > 0):
                chance = joint[outcome].sum()
                after = joint[outcome] / chance
                later = _branch(
                    after, transitions, likelihood, log_preferences, horizon - 1, discount
                )
                values[action] += discount * chance * later.min()
    return values


# -- arithmetic ------------------------------------------------------------------------------------


def entropy(chances: Floats, axis: int) -> Floats:
    """Entropy along an axis, nats."""
    result: Floats = -xlogy(chances, chances).sum(axis)
    return result


def expectation(chances: Floats, values: Floats) -> Floats:
    """Expectation over the last axis of values, infinite or not: 0 times infinity is 0."""
    finite = np.isfinite(values)
    if finite.all():
        return np.asarray(chances @ values)
    found = chances[..., finite] @ values[finite]
    return np.where((chances[..., ~finite] > 0).any(-1), -np.inf, found)


def dirichlet_information(concentration: Floats) -> Floats:
    """I(o; column) in nats of one draw o from each column of Dirichlet parameters `(O, S)`.

    H[mean] - E[H], with E[H] = digamma(a0 + 1) - sum_o (a_o / a0) digamma(a_o + 1).
    """
    total = concentration.sum(0)
    mean = concentration / total
    expected = digamma(total + 1) - (mean * digamma(concentration + 1)).sum(0)
    result: Floats = entropy(mean, 0) - expected
    return result


# -- what is handed over ---------------------------------------------------------------------------


def check_step(
    states: Floats, likelihood: Floats, log_preferences: Floats, concentration: Floats | None = None
) -> None:
    """Refuse what `expected_free_energy` cannot judge."""
    check_chances("belief", states, (None,))
    check_chances("likelihood (O, S)", likelihood, (None, len(states)))
    check_log_preferences(log_preferences, len(likelihood))
    if concentration is not None:
        check_counts("concentration (O, S)", concentration, likelihood.shape)


def check_transitions(transitions: Floats, num_states: int) -> None:
    """Refuse transitions `(S', S, A)` that do not fit, or are no distributions over S'."""
    check_chances("transitions (S', S, A)", transitions, (num_states, num_states, None))
