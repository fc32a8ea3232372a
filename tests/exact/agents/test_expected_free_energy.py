"""Expected free energy against enumeration and quadrature, in both decompositions."""

import itertools
from collections.abc import Callable
from math import log

import numpy as np
import pytest
import torch

from aif_dcpc.agents.expected_free_energy import (
    branching_expected_free_energy,
    dirichlet_information,
    expected_free_energy,
    policy_expected_free_energy,
)
from aif_dcpc.agents.gridworld.planning.belief import cell_information
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior, Summary


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
