"""Expected free energy against enumeration and quadrature, in both decompositions."""

import itertools
from collections.abc import Callable
from math import log

import numpy as np
import pytest
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import (
    DecompositionWarning,
    both_decompositions,
    branching_expected_free_energy,
    dirichlet_information,
    expected_free_energy,
    joint_expected_free_energy,
    joint_likelihood,
    policy_expected_free_energy,
    warn_unless_equal,
)
from aif_dcpc.agents.gridworld.planning.belief import cell_information
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior
from aif_dcpc.agents.gridworld.tables.summary import Summary


def random_model(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Beliefs `(S,)`, likelihood `(O, S)`, transitions `(S', S, A)` and log preferences `(O,)` of S, O, A = 3, 4, 2."""
    rng = np.random.default_rng(seed)
    states = rng.dirichlet(np.ones(3))
    likelihood = rng.dirichlet(np.ones(4), size=3).T
    transitions = rng.dirichlet(np.ones(3), size=(3, 2)).transpose(2, 0, 1)
    return states, likelihood, transitions, np.log(rng.dirichlet(np.ones(4)))


@pytest.mark.parametrize("seed", range(5))
def test_both_decompositions_agree_with_enumeration(seed: int) -> None:
    states, likelihood, _, preferences = random_model(seed)
    terms = expected_free_energy(states, likelihood, preferences)
    # -E[ln C(o)] - E_o KL[q(s | o) || q(s)] by enumeration of (s, o)
    expected = 0.0
    for s, o in itertools.product(range(3), range(4)):
        joint = states[s] * likelihood[o, s]
        posterior = joint / (likelihood[o] @ states)
        expected += joint * (-preferences[o] - log(posterior / states[s]))
    assert terms.total == pytest.approx(expected, abs=1e-12)
    assert terms.total_by_value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_policy_sums_its_steps(seed: int) -> None:
    states, likelihood, transitions, preferences = random_model(seed)
    for policy in itertools.product(range(2), repeat=3):
        expected = 0.0
        now = states
        for action in policy:
            now = transitions[:, :, action] @ now
            outcome = likelihood @ now
            risk = sum(p * (log(p) - c) for p, c in zip(outcome, preferences, strict=True))
            ambiguity = -sum(
                now[s] * likelihood[o, s] * log(likelihood[o, s])
                for s in range(3)
                for o in range(4)
            )
            expected += risk + ambiguity
        terms = policy_expected_free_energy(states, transitions, likelihood, preferences, policy)
        assert terms.total == pytest.approx(expected, abs=1e-10)
        assert terms.total_by_value == pytest.approx(expected, abs=1e-10)


def test_novelty_is_the_mutual_information_of_outcome_and_parameters() -> None:
    concentration = np.array([[0.7], [1.9]])
    grid = (np.arange(200_000) + 0.5) / 200_000
    weight = grid**-0.3 * (1 - grid) ** 0.9  # Beta(.7, 1.9)
    weight /= weight.sum()
    conditional = -(grid * np.log(grid) + (1 - grid) * np.log(1 - grid)) @ weight
    mean = grid @ weight
    expected = -(mean * log(mean) + (1 - mean) * log(1 - mean)) - conditional
    assert dirichlet_information(concentration)[0] == pytest.approx(expected, abs=1e-3)


def outcome_by_outcome(
    states: np.ndarray,
    likelihood: np.ndarray,
    transitions: np.ndarray,
    preferences: np.ndarray,
    plan: Callable[[tuple[int, ...]], int],
    horizon: int,
) -> float:
    """Expected free energy of a plan, a function from the outcomes seen so far to the next action.

    By enumeration of every path (s_0, s_1, o_1, s_2, o_2, ...): sum over steps of -E[ln C(o_t)] - I(s_t; o_t | o_1 ..
    o_{t-1}), where the information gained is ln p(o_t | s_t) - ln p(o_t | o_1 .. o_{t-1}).
    """
    paths = [((), {s: float(p) for s, p in enumerate(states)})]  # outcomes, p(outcomes, state)
    total = 0.0
    for _ in range(horizon):
        longer = []
        for seen, joint in paths:
            before = sum(joint.values())
            moved = transitions[:, :, plan(seen)] @ np.array(list(joint.values()))
            for outcome in range(len(likelihood)):
                weight = likelihood[outcome] * moved
                surprise = log(weight.sum() / before)
                gained = weight @ (np.log(likelihood[outcome]) - surprise)
                total += -weight.sum() * preferences[outcome] - gained
                longer.append(((*seen, outcome), dict(enumerate(weight))))
        paths = longer
    return total


@pytest.mark.parametrize("seed", range(6))
def test_branching_is_the_best_plan_of_all_that_look_at_the_outcomes(seed: int) -> None:
    """Two steps: every plan is a first action and, for each of four outcomes, a second one."""
    model = random_model(seed)
    states, likelihood, transitions, preferences = model
    found = branching_expected_free_energy(states, transitions, likelihood, preferences, 2)
    for first in range(2):
        values = []
        for later in itertools.product(range(2), repeat=4):
            plan = {(): first} | {(outcome,): second for outcome, second in enumerate(later)}
            value = outcome_by_outcome(*model, plan.__getitem__, 2)
            values.append(value)
        assert found[first] == pytest.approx(min(values), abs=1e-10)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("horizon", [2, 3])
def test_branching_is_never_worse_than_the_best_fixed_sequence(seed: int, horizon: int) -> None:
    """A fixed sequence is a plan that does not listen; its information is counted outcome by outcome as well."""
    model = random_model(seed)
    states, likelihood, transitions, preferences = model
    found = branching_expected_free_energy(states, transitions, likelihood, preferences, horizon)
    for actions in itertools.product(range(2), repeat=horizon):
        fixed = outcome_by_outcome(*model, lambda seen, a=actions: a[len(seen)], horizon)
        assert found[actions[0]] <= fixed + 1e-10


@pytest.mark.parametrize("seed", range(6))
def test_a_sequence_judged_by_its_own_predictions_counts_no_less_information(seed: int) -> None:
    """I(s_t; o_t) >= I(s_t; o_t | earlier outcomes): so the open-loop value may lie below the branching one.

    The inequality holds because (earlier outcomes, s_t, o_t) is a Markov chain.
    """
    model = random_model(seed)
    states, likelihood, transitions, preferences = model
    for actions in itertools.product(range(2), repeat=3):
        alone = policy_expected_free_energy(states, transitions, likelihood, preferences, actions)
        seen = outcome_by_outcome(*model, lambda seen, a=actions: a[len(seen)], 3)
        assert alone.total <= seen + 1e-10


def test_one_step_of_branching_is_one_step_of_a_policy() -> None:
    states, likelihood, transitions, preferences = random_model(7)
    one = branching_expected_free_energy(states, transitions, likelihood, preferences, 1)
    direct = [
        policy_expected_free_energy(states, transitions, likelihood, preferences, (a,)).total
        for a in range(2)
    ]
    assert one == pytest.approx(direct)


def test_information_about_a_cell_by_enumeration() -> None:
    belief = np.array([0.6, 0.3, 0.1])
    misread = 0.2
    alphabet = 5
    channel = np.full((alphabet, 3), misread / (alphabet - 1))
    channel[range(3), range(3)] = 1 - misread
    read = channel @ belief
    expected = sum(
        belief[z] * channel[o, z] * log(channel[o, z] / read[o])
        for z in range(3)
        for o in range(alphabet)
    )
    assert cell_information(belief, misread, alphabet) == pytest.approx(expected, abs=1e-12)


def test_novelty_of_a_structured_table_by_sampling() -> None:
    # one head, two contexts
    counts = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    base = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    table = PooledDirichletPrior.of((2,), ((0,), ()), (base, base), (0.5, 2.0), (0.5, 1.0))
    mean, novelty, _ = table.summary(counts, 0)
    source = np.random.default_rng(0)
    number = 40_000
    own = torch.zeros(number, *counts.shape[1:], dtype=torch.float64)
    head = torch.zeros(number, dtype=torch.long)
    draws = TablePosterior(table, counts).draw(own, head, source)[:, None]
    assert torch.allclose(draws.mean(0), mean, atol=0.01)
    sampled = torch.special.entr(mean).sum(-1) - torch.special.entr(draws).sum(-1).mean(0)
    assert torch.allclose(sampled, novelty, atol=0.01)


def test_a_summary_of_the_same_counts_is_the_same() -> None:
    """No head has changed: there is nothing to compute, and nothing to trip over."""
    base = torch.tensor([0.5, 0.25, 0.25])
    table = PooledDirichletPrior.of((2,), ((0,), ()), (base, base), (0.5, 2.0), (0.5, 1.0))
    counts = torch.ones(3, 2, 3)
    summary = Summary(0)
    first = summary.update(counts, table)
    assert all(
        torch.equal(old, new)
        for old, new in zip(first, summary.update(counts.clone(), table), strict=True)
    )


# -- several modalities ----------------------------------------------------------------------------


def two_modalities(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Beliefs `(S,)`, likelihoods `(O, S)` and log preferences of two modalities that differ in size."""
    rng = np.random.default_rng(seed)
    likelihoods = {"x": rng.dirichlet(np.ones(3), 4).T, "y": rng.dirichlet(np.ones(2), 4).T}
    wanted = {name: np.log(rng.dirichlet(np.ones(len(own)))) for name, own in likelihoods.items()}
    return rng.dirichlet(np.ones(4)), likelihoods, wanted


@pytest.mark.parametrize("seed", range(5))
def test_modalities_together_are_one_modality_of_all_pairs(seed: int) -> None:
    states, likelihoods, wanted = two_modalities(seed)
    found = joint_expected_free_energy(states, likelihoods, wanted)
    pairs = joint_likelihood(likelihoods)
    preference = (wanted["x"][:, None] + wanted["y"]).ravel()
    whole = expected_free_energy(states, pairs, preference)
    for term, value in vars(whole).items():
        assert getattr(found.together, term) == pytest.approx(value, abs=1e-12), term
    for x, y, s in itertools.product(range(3), range(2), range(4)):
        assert pairs[2 * x + y, s] == likelihoods["x"][x, s] * likelihoods["y"][y, s]
    for name, own in found.modalities.items():
        assert own == expected_free_energy(states, likelihoods[name], wanted[name])


def test_what_modalities_tell_twice_counts_once() -> None:
    """Two copies of one sure modality: each tells ln 2, together ln 2."""
    twice = joint_expected_free_energy(np.array([0.5, 0.5]), {"x": np.eye(2), "y": np.eye(2)}, {})
    assert twice.shared == pytest.approx(log(2))
    assert twice.together.information_gain == pytest.approx(log(2))
    assert twice.together.neg_expected_log_preference == 0.0


def test_a_modality_without_a_likelihood_is_named() -> None:
    states, likelihoods, _ = two_modalities(0)
    with pytest.raises(AgentError, match="modality 'z' has no likelihood"):
        joint_expected_free_energy(states, likelihoods, {"z": np.zeros(2)})
    with pytest.raises(AgentError, match="modality 'y': log preferences: expected shape"):
        joint_expected_free_energy(states, likelihoods, {"y": np.zeros(3)})
    with pytest.raises(AgentError, match="at least one modality"):
        joint_expected_free_energy(states, {}, {})


# -- both decompositions ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_both_definitions_agree_with_the_terms(seed: int) -> None:
    states, likelihood, _, preferences = random_model(seed)
    counts = 1 + 5 * likelihood
    by_risk, by_value = both_decompositions(states, likelihood, preferences, counts)
    terms = expected_free_energy(states, likelihood, preferences, counts)
    assert by_risk == pytest.approx(terms.total, abs=1e-12)
    assert by_value == pytest.approx(terms.total, abs=1e-12)
    assert terms.novelty > 0


def test_decompositions_that_differ_are_warned_of() -> None:
    with pytest.warns(DecompositionWarning, match="1 nats by risk and ambiguity, 1.1 by value"):
        warn_unless_equal(1.0, 1.1)
    warn_unless_equal(1.0, 1.0 + 1e-9)
    warn_unless_equal(np.inf, np.inf)


# -- zero probabilities ----------------------------------------------------------------------------


def test_what_cannot_occur_costs_nothing_and_what_must_not_costs_infinitely_much() -> None:
    likelihood = np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    never = np.array([-log(2), -log(2), -np.inf])
    safe = expected_free_energy(np.array([0.5, 0.5, 0.0]), likelihood, never)
    assert safe.neg_expected_log_preference == pytest.approx(log(2))
    assert np.isfinite(list(vars(safe).values())).all()
    unsafe = expected_free_energy(np.array([0.5, 0.4, 0.1]), likelihood, never)
    assert unsafe.risk == unsafe.total == unsafe.total_by_value == np.inf
    assert np.isfinite(unsafe.ambiguity) and np.isfinite(unsafe.information_gain)
    assert both_decompositions(np.array([0.5, 0.4, 0.1]), likelihood, never) == (np.inf, np.inf)
    assert both_decompositions(np.array([0.0, 1.0, 0.0]), likelihood, never)[1] == pytest.approx(
        log(2)  # an even outcome that is worth -ln 2 either way, and tells nothing
    )


def test_branching_avoids_what_must_not_happen() -> None:
    moves = np.stack([np.eye(2), np.array([[0.0, 0.0], [1.0, 1.0]])], -1)
    found = branching_expected_free_energy(
        np.array([1.0, 0.0]), moves, np.eye(2), np.array([-1.0, -np.inf]), 3
    )
    assert found.tolist() == [3.0, np.inf]


def test_branching_discounts_each_step_against_the_one_before() -> None:
    """One state: every step costs 2 nats."""
    alone = np.ones((1, 1))
    found = branching_expected_free_energy(
        np.ones(1), alone[..., None], alone, np.array([-2.0]), 3, discount=0.5
    )
    assert found == pytest.approx([2 * (1 + 0.5 + 0.25)])


# -- what is handed over ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"states": np.array([0.5, 0.6])}, "belief: expected sums of 1.*misses it by 0.1"),
        ({"states": np.array([np.nan, 0.5])}, "belief: expected probabilities.*NaN"),
        ({"states": np.ones((1, 2)) / 2}, "belief: expected shape"),
        (
            {"likelihood": np.eye(3)},
            r"likelihood \(O, S\): expected shape \(any, 2\), found \(3, 3\)",
        ),
        ({"likelihood": np.log(np.eye(2) + 0.1)}, "are these logarithms"),
        ({"log_preferences": np.zeros(3)}, "one for each outcome, found"),
        ({"log_preferences": np.array([0.0, np.nan])}, "expected numbers in nats"),
        (
            {"log_preferences": np.array([0.0, 3.0])},
            r"sum to 1, found a sum of exp\(3\.049\); from utilities",
        ),
        (
            {"log_preferences": np.array([-1.0, -9.0])},
            r"log preferences: .*found a sum of exp\(-0\.9997\)",
        ),
        ({"concentration": np.ones((3, 2))}, "concentration.*expected shape"),
        ({"concentration": np.zeros((2, 2))}, "no Dirichlet count above 0"),
        ({"concentration": -np.ones((2, 2))}, "counts of at least 0, found -1"),
    ],
)
@pytest.mark.parametrize("judge", [expected_free_energy, both_decompositions])
def test_what_does_not_fit_is_refused_in_one_sentence(judge, change, words) -> None:
    fits = {
        "states": np.array([0.5, 0.5]),
        "likelihood": np.eye(2),
        "log_preferences": np.full(2, -log(2)),
        "concentration": np.ones((2, 2)),
    }
    with pytest.raises(AgentError, match=words):
        judge(**{**fits, **change})


def test_totals_alone_take_preferences_up_to_a_constant() -> None:
    states, likelihood, transitions, preferences = random_model(3)
    model = states, transitions, likelihood
    found = branching_expected_free_energy(*model, preferences, 2)
    moved = branching_expected_free_energy(*model, preferences + 5, 2)
    assert moved == pytest.approx(found - 10)
    with pytest.raises(AgentError, match="log preferences: expected logarithms of probabilities"):
        policy_expected_free_energy(*model, preferences + 5, (0,))
    with pytest.raises(AgentError, match="modality 'x': log preferences: expected logarithms"):
        joint_expected_free_energy(states, {"x": likelihood}, {"x": preferences + 5})


def test_transitions_that_do_not_fit_are_refused() -> None:
    states, likelihood, transitions, preferences = random_model(0)
    with pytest.raises(AgentError, match=r"transitions \(S', S, A\): expected sums of 1"):
        policy_expected_free_energy(states, 2 * transitions, likelihood, preferences, (0,))
    with pytest.raises(AgentError, match=r"transitions \(S', S, A\): expected shape"):
        branching_expected_free_energy(states, transitions[:2], likelihood, preferences, 1)
