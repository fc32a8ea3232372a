"""Models in arrays, against enumeration of all their histories and the conjugate posterior of their tables."""

import numpy as np
import pytest
import torch
from discrete_models import columns, coupled, histories, pymdp_agent

from aif_dcpc.agents.discrete.agent import DiscreteAgent
from aif_dcpc.agents.discrete.from_pymdp import from_pymdp
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.one_life import as_one_life
from aif_dcpc.inference import DCPC

ACTIONS = (1, 3, 0, 2)


def clamped(outcomes, actions):
    data = {f"o_{m}": torch.tensor(o)[None] for m, o in enumerate(zip(*outcomes, strict=True))}
    return {**data, "u": torch.tensor([*actions, 0])[None]}


def test_evidence_of_coupled_factors_is_that_of_all_histories():
    rng = np.random.default_rng(0)
    for _ in range(3):
        model = coupled(rng)
        outcomes = [tuple(int(rng.integers(len(a))) for a in model.A) for _ in range(4)]
        _, chances = histories(model, outcomes, ACTIONS)
        engine = DCPC(model.graphical_model())
        found = engine.log_evidence(clamped(outcomes, ACTIONS[:3]), seed=0)
        assert float(found) == pytest.approx(np.log(chances.sum()), abs=1e-5)


def test_sweeps_draw_coupled_factors_from_all_histories():
    """Independent draws: 4 standard errors of 11 numbers, false alarm below 1 in 1,000."""
    rng = np.random.default_rng(1)
    model = coupled(rng)
    outcomes = [tuple(int(rng.integers(len(a))) for a in model.A) for _ in range(4)]
    paths, chances = histories(model, outcomes, ACTIONS)
    engine = DCPC(model.graphical_model(), num_particles=4000)
    state = engine.init(clamped(outcomes, ACTIONS[:3]), seed=0)
    state, _ = engine.run(state, 30)
    for f in range(2):
        for t in range(4):
            exact = np.average(paths[:, t, f] == 1, weights=chances)
            found = float((state.particles[f"s_{f}"][:, 0, t] == 1).double().mean())
            assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)


def test_one_factor_is_exact():
    rng = np.random.default_rng(2)
    model = DiscreteModel(A=[columns(rng, 3, 4)], B=[columns(rng, 4, 4, 4)], D=[columns(rng, 4)])
    outcomes = [(0,), (2,), (1,), (1,)]
    paths, chances = histories(model, outcomes, ACTIONS)
    engine = DCPC(model.graphical_model())
    state = engine.init(clamped(outcomes, ACTIONS[:3]), seed=0)
    exact = [[np.average(paths[:, t, 0] == s, weights=chances) for s in range(4)] for t in range(4)]
    found = engine.marginals(state, "s_0")[0, 0]
    assert np.allclose(found, exact, atol=1e-6)


def test_an_agent_infers_as_the_filter_does_and_forgets_what_an_ended_episode_hid():
    rng = np.random.default_rng(3)
    model = DiscreteModel(A=[columns(rng, 3, 2)], B=[columns(rng, 2, 2, 2)], D=[[0.3, 0.7]])
    agent = DiscreteAgent(model, horizon=1)
    for episode in range(2):
        agent.begin(seed=episode)
        outcomes = []
        actions = []
        for seen in (0, 2, 1):
            outcomes.append((seen,))
            paths, chances = histories(model, outcomes, actions)
            exact = np.average(paths[:, -1, 0] == 1, weights=chances)
            (belief,) = agent.infer_states([seen])
            assert belief[1] == pytest.approx(exact, abs=1e-5)
            agent.infer_policies()
            (action,) = agent.sample_action()
            actions.append(action)


def test_tables_are_drawn_from_their_conjugate_posterior():
    """States are told by the first modality, so that counts are known; 5 standard errors, 9 numbers."""
    rng = np.random.default_rng(4)
    sure = np.eye(2)
    even = np.full((2, 2), 0.5)
    moves = columns(rng, 2, 2, 2)
    first = np.array([1.0, 3.0])
    model = DiscreteModel(
        A=[sure, even],
        B=[moves],
        pA=[1e6 * sure + 1e-3, np.ones((2, 2))],
        pB=[np.full((2, 2, 2), 0.5)],
        pD=[first],
    )
    agent = DiscreteAgent(model, num_particles=2000, num_sweeps=3, horizon=1)
    states = ([0, 1, 1, 0], [1, 1, 0, 0])
    sounds = ([1, 0, 1, 1], [0, 0, 1, 1])
    actions = ([0, 1, 1, 0], [1, 0, 0, 1])
    for episode in range(2):
        agent.begin(seed=episode)
        for s, o, u in zip(states[episode], sounds[episode], actions[episode], strict=True):
            agent.infer_states([s, o])
            agent.life.act(torch.tensor([u]))
    counts_b = np.full((2, 2, 2), 0.5)
    counts_a = np.ones((2, 2))
    for s, o, u in zip(states, sounds, actions, strict=True):
        for t in range(4):
            counts_a[o[t], s[t]] += 1
            if t:
                counts_b[s[t], s[t - 1], u[t - 1]] += 1
    first = first + np.bincount([s[0] for s in states], minlength=2)
    particles = agent.life.state.particles
    for name, counts in (("B_0", counts_b), ("A_1", counts_a), ("D_0", first)):
        found = particles[name][:, 0].double()
        total = counts.sum(0)
        mean = np.moveaxis(counts / total, 0, -1)
        sd = np.sqrt(mean * (1 - mean) / (np.expand_dims(total, -1) + 1))
        error = np.abs(found.mean(0).numpy() - mean)
        assert (error < 5 * sd / np.sqrt(2000)).all(), name


def test_several_controls_are_one_number():
    rng = np.random.default_rng(5)
    model = coupled(rng)
    assert model.num_actions == 4
    assert [model.controls(u) for u in range(4)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("batched", [False, True])
def test_arrays_of_pymdp_agents_are_read(batched):
    rng = np.random.default_rng(6)
    model = DiscreteModel(
        A=[columns(rng, 3, 2, 3)], B=[columns(rng, 2, 2, 2), columns(rng, 3, 3, 1)]
    )
    found = from_pymdp(pymdp_agent(model, batched=batched))
    for letter in "ABCD":
        for mine, theirs in zip(getattr(found, letter), getattr(model, letter), strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"A": [np.eye(3)]}, r"A\[0\]: expected shape \(3, 2\)"),
        ({"A": [np.ones((2, 2))]}, r"A\[0\]: columns are probabilities"),
        ({"C": [np.zeros(3)]}, r"C\[0\]: expected shape \(2,\)"),
        ({"D": [[0.5, 0.6]]}, r"D\[0\]: columns"),
        ({"E": [1.0]}, r"E: expected shape \(2,\)"),
        ({"pB": [np.zeros((2, 2, 2))]}, r"pB\[0\]: Dirichlet counts"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, words):
    moves = np.stack([np.eye(2), 1 - np.eye(2)], -1)
    with pytest.raises(AgentError, match=words):
        DiscreteModel(**{"A": [np.eye(2)], "B": [moves], **change})


TWO = {"A": [np.eye(2)] * 2, "A_dependencies": [[0], [0]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({**TWO, "C": [np.zeros(2)]}, "C: expected 2 entries, as many as A has, found 1"),
        ({"C": [np.zeros(2)] * 2}, "C: expected 1 entries"),
        ({"D": []}, "D: expected 1 entries, as many as B has, found 0"),
        ({"pA": [np.ones((2, 2))] * 2}, "pA: expected 1 entries"),
        ({**TWO, "pA": [np.ones((2, 2))]}, "pA: expected 2 entries"),
        ({"pB": [np.ones((2, 2, 2))] * 2}, "pB: expected 1 entries"),
        ({**TWO, "pC": [np.ones(2)]}, "pC: expected 2 entries"),
        ({"pD": [np.ones(2)] * 2}, "pD: expected 1 entries"),
        ({**TWO, "A_dependencies": [[0]]}, "A_dependencies: expected 2 entries"),
        ({"A_dependencies": [[3]]}, r"A_dependencies\[0\]: expected factors from 0 to 0"),
        ({"A_dependencies": [[-1]]}, r"A_dependencies\[0\]: expected factors from 0 to 0"),
        ({"B_dependencies": [[1]]}, r"B_dependencies\[0\]: expected factors from 0 to 0"),
    ],
)
def test_other_numbers_of_arrays_than_modalities_or_factors_are_refused(change, words):
    moves = np.stack([np.eye(2), 1 - np.eye(2)], -1)
    with pytest.raises(AgentError, match=words):
        DiscreteModel(**{"A": [np.eye(2)], "B": [moves], **change})


def test_a_model_keeps_arrays_of_its_own():
    seen, habit = np.eye(2), np.array([0.5, 0.5])
    model = DiscreteModel(A=[seen], B=[np.stack([np.eye(2)] * 2, -1)], E=habit)
    seen[:] = habit[:] = 7.0
    assert np.array_equal(model.A[0], np.eye(2)) and model.E.tolist() == [0.5, 0.5]


def test_first_states_are_counted_where_an_input_of_any_name_says_so():
    """Two episodes that begin in state 1: Dirichlet(1, 1 + 2), 5 standard errors of 4,000 draws."""
    moves = np.stack([np.eye(2), 1 - np.eye(2)], -1)
    model = DiscreteModel(A=[np.eye(2)], B=[moves], pD=[[1.0, 1.0]])
    life = as_one_life(model.graphical_model("begins"), "begins")
    values = {
        "D_0": torch.zeros(4000, 1, 2),
        "s_0": torch.tensor([[[1, 0, 1, 0]]]),
        "begins": torch.tensor([[[1, 0, 1, 0]]]),
    }
    drawn = life.conditionals["D_0",](values, torch.Generator().manual_seed(0))["D_0"]
    error = np.sqrt(0.75 * 0.25 / 5 / 4000)
    assert abs(float(drawn[..., 1].mean()) - 0.75) < 5 * error
    with pytest.raises(AgentError, match="conditional of D_0"):
        as_one_life(model.graphical_model(), "begins")
