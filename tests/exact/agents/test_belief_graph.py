"""Planning on a graph of beliefs against the plain recursion, enumeration of every plan, and dynamic programming."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import issparse
from scipy.special import xlogy

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import (
    DecompositionWarning,
    branching_expected_free_energy,
    dirichlet_information,
    joint_likelihood,
)
from aif_dcpc.agents.planners import belief_expansion
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.agents.planners.finite_steps import FiniteSteps, compact


def random_model(seed, *, learned=False, points=False):
    """A model of some states, actions and modalities; every third has zeros in its tables."""
    source = np.random.default_rng(seed)

    def table(*shape):
        found = source.dirichlet(np.ones(shape[-1]), shape[:-1])
        if seed % 3 == 0:
            found = np.where(found < 0.2, 0.0, found)
            found = np.where(found.sum(-1, keepdims=True) > 0, found, 1.0)
        return found / found.sum(-1, keepdims=True)

    states, actions = source.integers(2, 5, 2)
    sizes = source.integers(2, 4, source.integers(1, 4))
    likelihood = {f"o{number}": table(states, size) for number, size in enumerate(sizes)}
    if points:
        likelihood["place"] = np.eye(states)[source.permutation(states)]
    wanted = {name: np.log(table(1, own.shape[1])[0] + 1e-3) for name, own in likelihood.items()}
    model = {
        "initial": table(1, states)[0],
        "transitions": table(actions, states, states),
        "likelihood": likelihood,
        "log_preferences": wanted,
    }
    if learned:
        model["concentrations"] = {"o0": 3 * likelihood["o0"] + 0.1}
        model["transition_concentrations"] = 2 * model["transitions"] + 0.2
    branches = actions * np.prod([table.shape[1] for table in likelihood.values()])
    horizon = min(int(source.integers(1, 4)), int(math.log(6000, branches)))
    return FiniteModel(**model), max(horizon, 1), float(source.uniform(0.5, 1.0))


def recursion(model, horizon, discount):
    """The plain recursion over outcomes of all modalities together."""
    wanted = np.zeros(1)
    for name in model.likelihood:
        wanted = (wanted[:, None] + model.log_preferences[name]).ravel()
    return branching_expected_free_energy(
        model.initial,
        model.transitions.transpose(2, 1, 0),
        joint_likelihood({name: table.T for name, table in model.likelihood.items()}),
        wanted,
        horizon,
        discount=discount,
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("points", [False, True])
def test_it_is_the_plain_recursion(seed, points):
    model, horizon, discount = random_model(seed, points=points)
    plan = BeliefGraph(horizon=horizon, discount=discount).plan_tables(model, model.initial)
    expected = recursion(model, horizon, discount)
    assert np.abs(plan.expected_free_energy.numpy() - expected).max() < 1e-6
    assert plan.complete and plan.depth == horizon
    assert points <= FiniteSteps(model).points


# -- every plan, written out -----------------------------------------------------------------------


def outcomes_of(model, predicted):
    """Every outcome of all modalities: its log preference and the joint chances with the state."""
    for seen in itertools.product(*(range(t.shape[1]) for t in model.likelihood.values())):
        joint = np.array(predicted)
        wanted = 0.0
        for (name, table), o in zip(model.likelihood.items(), seen, strict=True):
            joint = joint * table[:, o]
            wanted += model.log_preferences[name][o]
        yield wanted, joint


def learned(model, belief, predicted, action):
    """Novelty: for each state, what one draw of a row with a Dirichlet posterior tells of the row."""
    total = 0.0
    for counts in model.concentrations.values():
        total += sum(
            p * dirichlet_information(row) for p, row in zip(predicted, counts, strict=True)
        )
    if model.transition_concentrations is not None:
        rows = model.transition_concentrations[action]
        total += sum(p * dirichlet_information(row) for p, row in zip(belief, rows, strict=True))
    return total


def one_step(model, belief, action, with_novelty):
    """Terms of one step, and the chance of every outcome with the belief after it."""
    states = range(len(belief))
    moves = model.transitions[action]
    predicted = [sum(belief[s] * moves[s, t] for s in states) for t in states]
    terms = {"risk": 0.0, "ambiguity": 0.0, "information_gain": 0.0, "novelty": 0.0}
    if with_novelty:
        terms["novelty"] = learned(model, belief, predicted, action)
    for table in model.likelihood.values():
        terms["ambiguity"] -= sum(predicted[s] * xlogy(table[s], table[s]).sum() for s in states)
    after = []
    for wanted, joint in outcomes_of(model, predicted):
        chance = joint.sum()
        if chance > 0:
            posterior = joint / chance
            after.append((chance, posterior))
            terms["risk"] += chance * (math.log(chance) - wanted)
            for s in np.flatnonzero(posterior):
                terms["information_gain"] += joint[s] * math.log(posterior[s] / predicted[s])
    return terms, after


def written_out(model, horizon, discount, with_novelty=True, belief=None):
    """Every first action's expected free energy and its terms, by listing paths; later actions are the best ones."""
    belief = model.initial if belief is None else belief
    found = []
    for action in range(model.num_actions):
        terms, after = one_step(model, belief, action, with_novelty)
        total = terms["risk"] + terms["ambiguity"] - terms["novelty"]
        for chance, posterior in after if horizon > 1 else ():
            later = written_out(model, horizon - 1, discount, with_novelty, posterior)
            best = min(later, key=lambda pair: pair[0])
            total += discount * chance * best[0]
            for name in terms:
                terms[name] += discount * chance * best[1][name]
        found.append((total, terms))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_every_term_is_that_of_all_paths_written_out(seed):
    model, horizon, discount = random_model(seed, learned=seed % 2 == 1, points=seed % 3 == 1)
    horizon = min(horizon, 2)
    plan = BeliefGraph(horizon=horizon, discount=discount).plan_tables(model, model.initial)
    for action, (total, terms) in enumerate(written_out(model, horizon, discount)):
        assert plan.expected_free_energy[action] == pytest.approx(total, abs=1e-6)
        for name, value in terms.items():
            assert plan.terms[name][action] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("seed", range(8))
def test_terms_sum_to_the_total_in_both_decompositions(seed):
    model, horizon, discount = random_model(seed, learned=True)
    plan = BeliefGraph(horizon=horizon, discount=discount).plan_tables(model, model.initial)
    terms = plan.terms
    total = terms["risk"] + terms["ambiguity"] - terms["novelty"]
    by_value = terms["neg_expected_log_preference"] - terms["information_gain"] - terms["novelty"]
    assert torch.allclose(total, plan.expected_free_energy, atol=1e-9)
    assert torch.allclose(by_value, plan.expected_free_energy, atol=1e-9)
    names = list(model.likelihood)
    if len(names) > 1:
        shared = terms["shared"]
        assert (shared > -1e-12).all()
        for term, sign in (("risk", 1), ("information_gain", -1), ("ambiguity", 0)):
            parts = sum(terms[f"{term}/{name}"] for name in names)
            assert torch.allclose(terms[term], parts + sign * shared, atol=1e-9)
    learned = terms["novelty/o0"] + terms["novelty/transitions"]
    assert torch.allclose(terms["novelty"], learned) and (learned > 0).all()


def test_novelty_can_be_left_out():
    model, horizon, discount = random_model(1, learned=True)
    planner = BeliefGraph(horizon=horizon, discount=discount, novelty=False)
    plan = planner.plan_tables(model, model.initial)
    expected = written_out(model, horizon, discount, with_novelty=False)
    assert (plan.terms["novelty"] == 0).all()
    assert plan.expected_free_energy.tolist() == pytest.approx([total for total, _ in expected])


# -- what a value at the horizon adds ----------------------------------------------------------------


@pytest.mark.parametrize("points", [False, True])
def test_a_value_at_the_horizon_is_worth_further_steps(points):
    """With the exact value of two further steps as a horizon's value, one step looks three ahead."""
    model, _, discount = random_model(4, points=points)
    further = BeliefGraph(horizon=2, discount=discount)

    def value(beliefs):
        plans = [further.plan_tables(model, belief) for belief in beliefs]
        return np.array([float(plan.expected_free_energy.min()) for plan in plans])

    near = BeliefGraph(horizon=1, discount=discount, horizon_value=value)
    plan = near.plan_tables(model, model.initial)
    whole = BeliefGraph(horizon=3, discount=discount).plan_tables(model, model.initial)
    assert torch.allclose(plan.expected_free_energy, whole.expected_free_energy, atol=1e-8)
    terms = plan.terms["risk"] + plan.terms["ambiguity"] + plan.terms["horizon_value"]
    assert torch.allclose(terms, plan.expected_free_energy)


# -- graphs ----------------------------------------------------------------------------------------


def door(rooms=4):
    """A hidden door among rooms that looking finds: many histories, few beliefs."""
    transitions = np.stack([np.eye(rooms * rooms)] * 2)
    here = np.arange(rooms * rooms) % rooms
    for state in range(rooms * rooms):
        transitions[0, state] = 0
        transitions[0, state, state - here[state] + (here[state] + 1) % rooms] = 1
    found = (np.arange(rooms * rooms) // rooms == here).astype(int)
    initial = np.zeros(rooms * rooms)
    initial[::rooms] = 1 / rooms
    return FiniteModel(
        initial=initial,
        transitions=transitions,
        likelihood={"door": np.eye(2)[found], "room": np.eye(rooms)[here]},
        log_preferences={"door": np.array([-1.0, 0.0])},
    )


def test_histories_that_lead_to_one_belief_are_one_node():
    """Rooms in a ring, each looked at or not: a belief is the room with what is ruled out, or the door."""
    model = door()
    plan = BeliefGraph(horizon=30).plan_tables(model, model.initial)
    assert plan.complete and plan.depth == 30
    assert plan.nodes <= 2 * (4 * 2**4)
    short = BeliefGraph(horizon=5).plan_tables(model, model.initial)
    assert np.abs(short.expected_free_energy.numpy() - recursion_of(model, 5)).max() < 1e-9


def recursion_of(model, horizon):
    wanted = {name: np.zeros(t.shape[1]) for name, t in model.likelihood.items()}
    whole = FiniteModel(
        initial=model.initial,
        transitions=model.transitions,
        likelihood=model.likelihood,
        log_preferences={**wanted, **model.log_preferences},
    )
    return recursion(whole, horizon, 1.0)


def test_beliefs_that_differ_little_stay_apart():
    keys = belief_expansion.keys_of(np.array([[0.5, 0.5], [0.5 + 1e-8, 0.5 - 1e-8], [0.5, 0.5]]))
    assert keys[0] == keys[2] != keys[1]


def test_a_budget_of_nodes_answers_with_its_last_complete_depth():
    model, _, discount = random_model(5)
    whole = BeliefGraph(horizon=2, discount=discount).plan_tables(model, model.initial)
    planner = BeliefGraph(horizon=6, discount=discount, max_nodes=whole.nodes)
    plan = planner.plan_tables(model, model.initial)
    assert (plan.depth, plan.complete) == (2, False)
    assert plan.nodes <= whole.nodes
    assert torch.allclose(plan.expected_free_energy, whole.expected_free_energy)
    for name, term in whole.terms.items():
        assert torch.allclose(plan.terms[name], term), name


@pytest.mark.parametrize("given", [1, 2, 3])
def test_a_budget_of_time_answers_with_its_last_complete_depth(given, monkeypatch):
    """A clock that strikes at the given look; beliefs are expanded one by one, so that it strikes within a level."""
    model, _, discount = random_model(5)
    looks = iter([0.0] * (2 + given) + [9.0] * 10_000)
    monkeypatch.setattr(belief_expansion, "CHUNK", 1)
    monkeypatch.setattr("time.monotonic", lambda: next(looks))
    planner = BeliefGraph(horizon=6, discount=discount, seconds=1.0)
    plan = planner.plan_tables(model, model.initial)
    monkeypatch.undo()
    assert not plan.complete
    whole = BeliefGraph(horizon=plan.depth, discount=discount).plan_tables(model, model.initial)
    assert torch.allclose(plan.expected_free_energy, whole.expected_free_energy)
    assert plan.depth < 4


def test_one_step_is_always_looked_ahead():
    model, _, _ = random_model(5)
    plan = BeliefGraph(horizon=3, max_nodes=1, seconds=0.0).plan_tables(model, model.initial)
    one = BeliefGraph(horizon=1).plan_tables(model, model.initial)
    assert plan.depth == 1 and torch.equal(plan.expected_free_energy, one.expected_free_energy)


# -- zero probabilities ----------------------------------------------------------------------------


def cliff(wanted):
    """Stay on firm ground, or leap into what is wanted as little as is said."""
    return FiniteModel(
        initial=np.array([1.0, 0.0, 0.0]),
        transitions=np.stack([np.eye(3), np.eye(3)[[1, 1, 2]]]),
        likelihood={"ground": np.eye(3)},
        log_preferences={"ground": np.array([0.0, wanted, -np.inf])},
    )


def test_what_must_not_happen_costs_infinitely_much_where_it_can():
    plan = BeliefGraph(horizon=3).plan_tables(cliff(-np.inf), np.array([1.0, 0.0, 0.0]))
    assert plan.expected_free_energy.tolist() == [0.0, np.inf] and plan.best == 0
    assert plan.terms["risk"].tolist() == [0.0, np.inf]
    assert not any(bool(term.isnan().any()) for term in plan.terms.values())


def test_what_cannot_happen_costs_nothing():
    plan = BeliefGraph(horizon=3).plan_tables(cliff(-1.0), np.array([1.0, 0.0, 0.0]))
    assert plan.expected_free_energy.tolist() == [0.0, 3.0]


# -- what is handed over ---------------------------------------------------------------------------


def test_a_belief_that_is_none_is_refused():
    model, _, _ = random_model(1)
    planner = BeliefGraph(horizon=1)
    with pytest.raises(AgentError, match=r"belief.*sums of 1"):
        planner.plan_tables(model, 2 * model.initial)
    with pytest.raises(AgentError, match=r"belief.*expected shape"):
        planner.plan_tables(model, np.ones(1))
    with pytest.raises(AgentError, match="NaN"):
        planner.plan_tables(model, model.initial * np.nan)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"horizon": 0}, "at least 1, found 0"),
        ({"horizon": 1, "discount": 1.5}, "at most 1, found 1.5"),
        ({"horizon": 1, "max_nodes": 0}, "max_nodes"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(AgentError, match=words):
        BeliefGraph(**settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transitions": np.ones((2, 3, 2)) / 2}, r"transitions \(A, S, S'\): expected shape"),
        ({"transitions": np.ones((2, 2, 2))}, "transitions.*sums of 1 along axis 2"),
        ({"likelihood": {"o": np.ones((2, 2))}}, "likelihood of 'o'.*misses it by 1"),
        ({"likelihood": {}}, "at least one modality"),
        ({"log_preferences": {"x": np.zeros(2)}}, "no modality 'x'"),
        ({"log_preferences": {"o": np.zeros(3)}}, "modality 'o': log preferences: expected shape"),
        ({"log_preferences": {"o": np.array([0, np.nan])}}, "expected numbers in nats"),
        ({"log_preferences": {"o": np.array([0, np.inf])}}, "expected numbers in nats"),
        ({"concentrations": {"o": np.zeros((2, 2))}}, "no Dirichlet count above 0"),
        ({"concentrations": {"o": -np.ones((2, 2))}}, "counts of at least 0"),
        ({"novelty": {"p": np.ones((1, 2))}}, "novelty of 'p'"),
        ({"actions": torch.arange(3)}, "expected 2 values"),
        ({"initial": np.log([0.5, 0.5])}, "are these logarithms"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change, words):
    tables = {
        "initial": np.array([0.5, 0.5]),
        "transitions": np.stack([np.eye(2)] * 2),
        "likelihood": {"o": np.eye(2)},
    }
    with pytest.raises(AgentError, match=words):
        FiniteModel(**{**tables, **change})


def test_decompositions_that_disagree_are_warned_of():
    """A table that was changed behind the back of what was laid out: entropies of one, posteriors of another."""
    model, _, _ = random_model(1)
    planner = BeliefGraph(horizon=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planner.plan_tables(model, model.initial)
    planner._steps(model).worth[:] -= 0.5
    with pytest.warns(DecompositionWarning, match="disagree"):
        planner.plan_tables(model, model.initial)


@pytest.mark.parametrize(
    ("size", "entries", "sparse"),
    [(100, 999, True), (100, 1000, False), (65, 65, True), (64, 64, False)],
)
def test_large_tables_of_few_entries_are_kept_as_sparse_ones(size, entries, sparse):
    """Less than a tenth of more than 4,096 entries; what they hold is the same."""
    table = np.zeros((size, size))
    table.flat[:entries] = 0.5
    found = compact(table)
    assert issparse(found) == sparse
    assert np.array_equal(found.toarray() if sparse else found, table)
