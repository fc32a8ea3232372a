"""The calls of a discrete agent and its learned tables, with several factors, against enumeration and counts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from discrete_models import columns, coupled, histories, pymdp_agent

from aif_dcpc.agents.discrete.agent import DiscreteAgent
from aif_dcpc.agents.discrete.from_pymdp import from_pymdp
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError


def test_beliefs_of_several_factors_are_those_of_all_histories():
    """In the order of the factors, whatever the order in which the graph holds them."""
    model = coupled(np.random.default_rng(0))
    agent = DiscreteAgent(model, horizon=1)
    agent.begin(seed=0)
    outcomes, actions = [], []
    for seen in ((0, 1, 1), (2, 0, 1), (1, 1, 0)):
        outcomes.append(seen)
        paths, chances = histories(model, outcomes, actions)
        beliefs = agent.infer_states(seen)
        for f, size in enumerate(model.num_states):
            exact = [np.average(paths[:, -1, f] == s, weights=chances) for s in range(size)]
            assert beliefs[f] == pytest.approx(exact, abs=1e-5)
        agent.infer_policies()
        controls = agent.sample_action()
        assert len(controls) == 2
        actions.append(controls[0] * 2 + controls[1])  # the last factor's runs fastest


def places(**arrays):
    """Three places; action i leads to place i, which is seen."""
    goes = np.zeros((3, 3, 3))
    for action in range(3):
        goes[action, :, action] = 1
    return DiscreteModel(**{"A": [np.eye(3)], "B": [goes], "D": [[1 / 3] * 3], **arrays})


def test_policies_are_weighed_by_habit_and_precision():
    """One step: G = -C of the place, so that p is E exp(16 C) by default, or with another precision."""
    wanted = np.array([0.0, 0.1, 0.05])
    habit = np.array([0.5, 0.2, 0.3])
    for precision in (16.0, 3.0):
        settings = {} if precision == 16.0 else {"precision": precision}
        agent = DiscreteAgent(places(C=[wanted], E=habit), horizon=1, **settings)
        agent.infer_states([0])
        chances, value = agent.infer_policies()
        weights = habit * np.exp(precision * wanted)
        assert chances == pytest.approx(weights / weights.sum(), abs=1e-5)
        assert value - value[0] == pytest.approx(wanted, abs=1e-5)
        assert agent.gamma == precision and agent.habit.tolist() == habit.tolist()


def test_actions_are_drawn_as_policies_are_weighed():
    """Before a plan by habit; greedily the best alone, and those that are as good alike."""
    agent = DiscreteAgent(places(C=[[0.0, 0.0, -9.0]], E=[0.1, 0.3, 0.6]), horizon=1)
    agent.infer_states([0])
    drawn = np.array([agent.sample_action(greedy=False)[0] for _ in range(600)])
    share = np.bincount(drawn, minlength=3) / 600
    assert (np.abs(share - [0.1, 0.3, 0.6]) < 5 * 0.5 / np.sqrt(600)).all()
    even = DiscreteAgent(places(C=[[0.0, 0.0, -9.0]]), horizon=1)
    even.infer_states([0])
    even.infer_policies()
    greedy = np.bincount([even.sample_action()[0] for _ in range(300)], minlength=3) / 300
    assert greedy[2] == 0 and abs(greedy[0] - 0.5) < 5 * 0.5 / np.sqrt(300)


def planned(**settings):
    """An agent that has seen a place and planned."""
    agent = DiscreteAgent(places(C=[[0.0, 0.1, 0.05]]), horizon=1, **settings)
    agent.infer_states([0])
    return agent, agent.infer_policies()[0].copy()


def test_what_was_planned_is_forgotten_where_an_episode_begins():
    agent, _ = planned()
    agent.begin(seed=1)
    assert agent.latest is None and agent.chances.tolist() == [1 / 3] * 3


def test_what_was_planned_is_kept_and_gone_on_with(tmp_path):
    """Choice and evidence of it follow from the kept plan; a state of before has none."""
    agent, chances = planned(precision_prior=(2.0, 1.0))
    torch.save(agent.state_dict(), tmp_path / "kept.pt")
    kept = torch.load(tmp_path / "kept.pt", weights_only=True)
    twin = DiscreteAgent(agent.discrete, horizon=1, precision_prior=(2.0, 1.0))
    twin.load_state_dict(kept)
    assert twin.chances.tolist() == chances.tolist()
    assert agent.sample_action(greedy=False) == twin.sample_action(greedy=False)
    assert twin.gamma == agent.gamma
    for name in ("latest", "chances"):
        del kept[name]
    twin.load_state_dict(kept)
    assert twin.latest is None and twin.chances.tolist() == [1 / 3] * 3


def test_what_is_handed_out_is_a_copy():
    agent, chances = planned()
    agent.infer_policies()[0][:] = 7.0
    agent.habit[:] = 7.0
    assert agent.chances.tolist() == chances.tolist()
    assert agent.habit.tolist() == [1 / 3] * 3


def test_a_frozen_agent_does_not_learn_what_to_want():
    agent = DiscreteAgent(places(pC=[[1.0, 1.0, 1.0]]), horizon=1)
    agent.freeze()
    agent.prefer([1])
    assert agent.wanted[0].tolist() == [1, 1, 1]
    agent.freeze(False)
    agent.prefer([1])
    assert agent.wanted[0].tolist() == [1, 2, 1]


def test_a_habit_is_learned_where_every_policy_costs_infinity():
    """Choice and evidence are then of the habit alone."""
    agent = DiscreteAgent(places(C=[[-np.inf] * 3], pE=[1.0, 1.0, 1.0]), horizon=1)
    agent.infer_states([0])
    chances, _ = agent.infer_policies()
    assert chances == pytest.approx([1 / 3] * 3, abs=0.1)
    agent.sample_action()
    assert np.isfinite(agent.habit).all()


def test_two_steps_ahead_count_alike_by_default():
    """A way of two steps: the first is neither better nor worse, the second is worth one nat."""
    goes = np.zeros((4, 4, 2))
    for state, (stays, on) in enumerate([(3, 1), (3, 2), (2, 2), (3, 3)]):
        goes[stays, state, 0] = goes[on, state, 1] = 1
    model = DiscreteModel(A=[np.eye(4)], B=[goes], C=[[0, 0, 1.0, 0]], D=[[1, 0, 0, 0]])
    for settings, worth in (({}, 1.0), ({"discount": 0.5}, 0.5), ({"horizon": 1}, 0.0)):
        agent = DiscreteAgent(model, **settings)
        agent.infer_states([0])
        _, value = agent.infer_policies()
        assert value[1] - value[0] == pytest.approx(worth, abs=1e-5)


def test_a_habit_that_is_given_counts_where_precision_is_learned():
    """Predicted choices average over precision alone, and the habit stays."""
    habit = [0.7, 0.2, 0.1]
    agent = DiscreteAgent(places(E=habit), horizon=1, precision_prior=(2.0, 1.0))
    agent.infer_states([0])
    chances, _ = agent.infer_policies()
    assert chances == pytest.approx(habit, abs=1e-5)
    agent.sample_action()
    assert agent.habit == pytest.approx(habit, abs=1e-6)


def test_what_was_learned_of_oneself_is_stored():
    agent = DiscreteAgent(places(pE=[1.0, 1.0, 1.0]), horizon=1, precision_prior=(2.0, 1.0))
    agent.infer_states([0])
    agent.infer_policies()
    agent.sample_action()
    twin = DiscreteAgent(places(pE=[1.0, 1.0, 1.0]), horizon=1, precision_prior=(2.0, 1.0), seed=3)
    assert twin.gamma != agent.gamma
    twin.load_state_dict(agent.state_dict())
    assert twin.gamma == agent.gamma and twin.habit.tolist() == agent.habit.tolist()


@pytest.mark.parametrize("call", ["infer_states", "prefer"])
def test_as_many_outcomes_as_modalities_are_asked_for(call):
    agent = DiscreteAgent(places(pC=[[1.0, 1.0, 1.0]]), horizon=1)
    with pytest.raises(AgentError, match="expected 1 outcomes, one of each modality, found 2"):
        getattr(agent, call)([0, 1])


def test_tables_of_coupled_factors_are_counted_under_their_own_actions():
    """States are told by modalities of their own: 5 standard errors of 60 numbers of conjugate posteriors."""
    rng = np.random.default_rng(4)
    sizes = (2, 3)
    identity = [np.eye(2), np.eye(3)]
    model = DiscreteModel(
        A=[*identity, columns(rng, 2, 2, 3)],
        B=[columns(rng, 2, 2, 2), columns(rng, 3, 2, 3, 2)],
        pA=[1e6 * identity[0] + 1e-3, 1e6 * identity[1] + 1e-3, np.ones((2, 2, 3))],
        pB=[np.full((2, 2, 2), 0.5), np.full((3, 2, 3, 2), 1.5)],
        A_dependencies=[[0], [1], [0, 1]],
        B_dependencies=[[0], [0, 1]],
    )
    agent = DiscreteAgent(model, num_particles=2000, num_sweeps=3, horizon=1)
    counts = {"A_2": np.ones((2, 2, 3)), "B_0": model.pB[0].copy(), "B_1": model.pB[1].copy()}
    for episode in range(2):
        agent.begin(seed=episode)
        before = None
        for _ in range(5):
            now = tuple(int(rng.integers(size)) for size in sizes)
            sound, action = int(rng.integers(2)), int(rng.integers(4))
            agent.infer_states([*now, sound])
            agent.life.act(torch.tensor([action]))
            counts["A_2"][(sound, *now)] += 1
            if before is not None:
                (s, t), (first, second) = before
                counts["B_0"][now[0], s, first] += 1
                counts["B_1"][now[1], s, t, second] += 1
            before = now, divmod(action, 2)
    particles = agent.life.state.particles
    for name, expected in counts.items():
        found = particles[name][:, 0].double()
        total = expected.sum(0)
        mean = np.moveaxis(expected / total, 0, -1)
        sd = np.sqrt(mean * (1 - mean) / (np.expand_dims(total, -1) + 1))
        error = np.abs(found.mean(0).numpy() - mean)
        assert (error < 5 * sd / np.sqrt(2000)).all(), name


def test_first_states_alone_may_be_learned():
    """Three episodes that begin in 1, 1, 0: Dirichlet(1 + 1, 1 + 2); known moves stay as they are."""
    moves = np.stack([np.eye(2), 1 - np.eye(2)], -1)
    model = DiscreteModel(A=[np.eye(2)], B=[moves], pD=[[1.0, 1.0]])
    agent = DiscreteAgent(model, num_particles=2000, num_sweeps=2, horizon=1)
    for episode, first in enumerate((1, 1, 0)):
        agent.begin(seed=episode)
        agent.infer_states([first])
        agent.life.act(torch.tensor([1]))
        (belief,) = agent.infer_states([1 - first])
        assert belief[1 - first] == pytest.approx(1)
    share = agent.life.state.particles["D_0"][:, 0, 1].double()
    assert abs(float(share.mean()) - 3 / 5) < 5 * np.sqrt(0.6 * 0.4 / 6 / 2000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"A": [np.array([[1.5, 0.0], [-0.5, 1.0]])]}, r"A\[0\]: columns are probabilities"),
        ({"pB": [np.stack([np.eye(2) - 0.1] * 2, -1)]}, r"pB\[0\]: Dirichlet counts"),
        ({"pD": [np.zeros(2)]}, r"pD\[0\]: Dirichlet counts"),
        ({"pA": [np.ones((2, 3))]}, r"pA\[0\]: expected shape \(2, 2\)"),
    ],
)
def test_numbers_that_are_no_probabilities_or_counts_are_refused(change, words):
    moves = np.stack([np.eye(2), 1 - np.eye(2)], -1)
    with pytest.raises(AgentError, match=words):
        DiscreteModel(**{"A": [np.eye(2)], "B": [moves], **change})


# -- arrays of pymdp -------------------------------------------------------------------------------


def test_one_agent_of_a_batch_is_read_with_its_habit_and_counts():
    rng = np.random.default_rng(1)
    both = [
        DiscreteModel(
            A=[columns(rng, 3, 2)],
            B=[columns(rng, 2, 2, 4)],
            E=rng.dirichlet(np.ones(4)),
            pA=[rng.random((3, 2))],
        )
        for _ in range(2)
    ]
    arrays = {
        letter: [np.stack([getattr(model, letter)[0] for model in both])]
        for letter in ("A", "B", "C", "D", "pA")
    }
    agent = SimpleNamespace(**arrays, E=np.stack([model.E for model in both]))
    for index, model in enumerate(both):
        found = from_pymdp(agent, index=index)
        assert np.array_equal(found.E, model.E) and np.array_equal(found.pA[0], model.pA[0])
        assert np.array_equal(found.B[0], model.B[0]) and found.pB is None
    assert np.array_equal(from_pymdp(agent).E, both[0].E)


def test_a_habit_of_single_actions_is_read_and_one_of_longer_policies_is_not():
    model = places(E=[0.5, 0.2, 0.3])
    agent = pymdp_agent(model, batched=False)
    agent.E = model.E
    assert np.array_equal(from_pymdp(agent).E, model.E)
    agent.E = np.full(9, 1 / 9)
    assert from_pymdp(agent).E == pytest.approx(np.full(3, 1 / 3))


@pytest.mark.parametrize("name", ["A", "B"])
def test_what_is_no_agent_is_said_to_be_none(name):
    agent = pymdp_agent(places(), batched=True)
    delattr(agent, name)
    with pytest.raises(AgentError, match=f"has no {name}"):
        from_pymdp(agent)
