"""What planners are told of hidden states: the exact filter of the whole episode, however few the particles."""

from itertools import pairwise

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Beta, Categorical

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.discrete.agent import DiscreteAgent
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.kernel_tables import TableMemory
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.filtered_belief import FilteredBelief
from aif_dcpc.agents.planners.finite_reading import Reading
from aif_dcpc.agents.planners.protocol import Plan, Situation
from aif_dcpc.inference import DCPC, GraphicalModel, lag

HABIT = np.array([0.1, 0.2, 0.3, 0.4])


def columns(source, *shape):
    """Random distributions along the first axis."""
    return np.moveaxis(source.dirichlet(np.full(shape[0], 0.7), shape[1:]), -1, 0)


def two_factors(source):
    """Two factors with actions of their own, and two modalities."""
    return DiscreteModel(
        A=[columns(source, 3, 3, 2), columns(source, 2, 2)],
        B=[columns(source, 3, 3, 2), columns(source, 2, 2, 2)],
        D=[columns(source, 3), columns(source, 2)],
        A_dependencies=[[0, 1], [1]],
        E=HABIT,
    )


def agent_of(discrete, seed=0, **settings):
    return DiscreteAgent(discrete, horizon=1, num_particles=3, num_sweeps=1, seed=seed, **settings)


class Forward:
    """The forward recursion on the arrays, written out."""

    def __init__(self, discrete):
        self.discrete = discrete
        self.belief = np.outer(*discrete.D)

    def see(self, first, second):
        likelihood = self.discrete.A[0][first] * self.discrete.A[1][second]
        self.belief = self.belief * likelihood
        self.belief = self.belief / self.belief.sum()

    def move(self, controls):
        first, second = (b[..., u] for b, u in zip(self.discrete.B, controls, strict=True))
        self.belief = first @ self.belief @ second.T


@pytest.mark.parametrize("seed", range(4))
def test_beliefs_are_those_of_the_forward_recursion_in_every_episode(seed):
    source = np.random.default_rng(seed)
    discrete = two_factors(source)
    agent = agent_of(discrete, seed)
    for episode in range(2):
        agent.begin(seed=episode)
        forward = Forward(discrete)
        for _ in range(8):
            seen = (int(source.integers(3)), int(source.integers(2)))
            found = agent.infer_states(seen)
            forward.see(*seen)
            for axis, belief in enumerate(found):
                assert np.abs(belief - forward.belief.sum(1 - axis)).max() < 1e-6
            agent.infer_policies()
            forward.move(agent.sample_action(greedy=False))


def test_a_carried_belief_is_the_one_computed_from_the_beginning():
    """In episodes that look alike, but for what was done."""
    agent = agent_of(two_factors(np.random.default_rng(5)))
    for action in range(3):
        agent.begin(seed=action)
        for _ in range(4):
            agent.infer_states((1, 0))
            agent.life.act(torch.tensor([action]))
            told = agent.situation().over_history()
            carried = FilteredBelief(Reading(told, agent.graph.memory)).belief()
            assert agent.graph.memory.carried
            assert np.array_equal(carried, FilteredBelief(Reading(told, TableMemory())).belief())


class Still:
    """Goes nowhere, and keeps what it was told."""

    def plan(self, told):
        self.told = told
        return Plan(policies=torch.zeros(1, 1).long(), expected_free_energy=torch.zeros(1))


def test_episodes_begin_where_an_input_of_another_name_says_so():
    """Beliefs in the second episode are those of the forward recursion from its own beginning."""
    source = np.random.default_rng(3)
    discrete = two_factors(source)
    planner = Still()
    agent = ActiveInferenceAgent(
        discrete.graphical_model(),
        action="u",
        action_space=gymnasium.spaces.Discrete(discrete.num_actions),
        observed=["o_0", "o_1"],
        preferences={},
        planner=planner,
        reset="begins",
        num_particles=3,
        num_sweeps=1,
    )
    for episode in range(2):
        agent.begin(seed=episode)
        forward = Forward(discrete)
        for _ in range(3):
            seen = (int(source.integers(3)), int(source.integers(2)))
            agent.act({"o_0": np.array(seen[0]), "o_1": np.array(seen[1])})
            forward.see(*seen)
            reading = Reading(planner.told.over_history())
            joint = FilteredBelief(reading).belief().reshape(reading.sizes)
            order = [reading.factors.index(f"s_{f}") for f in range(2)]
            assert np.abs(joint.transpose(order) - forward.belief).max() < 1e-6
            forward.move(discrete.controls(0))


def noisy_side():
    """A side that holds for an episode, shown in each slice with a reliability to be learned."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("reliability", lambda: Beta(2.0, 1.0), scope="global")
    model.add_site("side", lambda: Bernoulli(0.3), scope="episode")
    model.add_site(
        "shown",
        lambda side, reliability: Bernoulli(torch.where(side > 0, reliability, 1 - reliability)),
        ["side", "reliability"],
        scope="slice",
    )
    model.add_site(
        "place",
        lambda place, u: Categorical(torch.eye(2)[u]),
        [lag("place"), lag("u")],
        initial=lambda: Categorical(torch.eye(2)[0]),
        scope="slice",
    )
    return model


def test_what_is_learned_is_averaged_over_particles_and_the_rest_is_exact():
    """Bayes' rule at each particle's reliability, by the readings of the running episode alone."""
    agent = ActiveInferenceAgent(
        noisy_side(),
        action="u",
        action_space=gymnasium.spaces.Discrete(2),
        observed=["shown", "place"],
        preferences={},
        planner=Still(),
        num_particles=5,
        num_sweeps=1,
    )
    for episode, readings in enumerate([[1, 0, 1], [1, 1, 0, 1, 1]]):
        agent.begin(seed=episode)
        for reading in readings:
            agent.act({"shown": np.array(float(reading)), "place": np.array(0)})
    told = agent.deliberation.planners[0].told
    belief = FilteredBelief(Reading(told.over_history())).belief().reshape(2, 2)
    state = agent.life.state
    r = state.particles["reliability"][:, 0].double()
    right = 0.3 * r**4 * (1 - r)
    left = 0.7 * (1 - r) ** 4 * r
    expected = (state.weights()[:, 0].double() * right / (right + left)).sum()
    assert r.std() > 0.01
    assert abs(belief[1].sum() - float(expected)) < 1e-6


def test_a_long_episode_does_not_run_out_of_numbers():
    """Two thousand readings, each of probability .05 or less."""
    source = np.random.default_rng(1)
    discrete = DiscreteModel(
        A=[columns(source, 40, 2)], B=[np.array([[[0.9], [0.2]], [[0.1], [0.8]]])]
    )
    agent = agent_of(discrete)
    length = 2000
    seen = source.integers(40, size=length)
    belief = discrete.D[0]
    for t, outcome in enumerate(seen):
        belief = belief if t == 0 else discrete.B[0][..., 0] @ belief
        belief = belief * discrete.A[0][outcome]
        belief = belief / belief.sum()
    zero = torch.zeros(1, length).long()
    reset = zero.clone()
    reset[:, 0] = 1
    data = {"o_0": torch.from_numpy(seen)[None], "u": zero, "reset": reset}
    state = agent.life.engine.init(data, seed=0)
    told = Situation(
        engine=agent.life.engine,
        state=state,
        action="u",
        action_space=gymnasium.spaces.Discrete(1),
        preferences={},
        generator=torch.Generator().manual_seed(0),
    )
    assert np.abs(FilteredBelief(Reading(told)).belief() - belief).max() < 1e-6


# -- habits ----------------------------------------------------------------------------------------


def indifferent(habit):
    """One state that nothing changes, and four actions that all do the same."""
    return DiscreteModel(A=[np.ones((1, 1))], B=[np.ones((1, 1, 4))], E=habit)


def test_an_agent_without_wishes_acts_by_habit():
    """All actions are as good: greedy takes the most usual one, and sampling all as often as usual."""
    agent = agent_of(indifferent(HABIT))
    agent.begin(seed=0)
    assert [agent.act({"o_0": np.array(0)}) for _ in range(3)] == [3, 3, 3]
    plan = next(iter(agent.deliberation.plans.values()))
    drawn = [agent.deliberation.choose(plan, agent.generator, greedy=False) for _ in range(4000)]
    shares = np.bincount(drawn, minlength=4) / 4000
    assert np.abs(shares - HABIT).max() < 5 * 0.5 / np.sqrt(4000)


def test_what_is_no_habit_is_refused():
    with pytest.raises(AgentError, match="habit: expected a probability for each action"):
        ActiveInferenceAgent(
            noisy_side(),
            action="u",
            action_space=gymnasium.spaces.Discrete(2),
            observed=["shown", "place"],
            preferences={},
            planner=Still(),
            habit=torch.ones(3),
        )


def test_tables_too_large_for_every_particle_are_averaged(monkeypatch):
    """Each particle has transitions of its own, filtered with; or, from one number on, with their mean."""
    source = np.random.default_rng(6)
    seen = columns(source, 4, 3)
    goes = columns(source, 3, 3, 2)
    first = columns(source, 3)
    agent = DiscreteAgent(
        DiscreteModel(A=[seen], B=[goes], D=[first], pB=[2 * goes]), horizon=1, num_particles=5
    )
    outcomes = (0, 3, 1)
    actions = (1, 0)
    for outcome, action in zip(outcomes, (*actions, 0), strict=True):
        agent.infer_states([outcome])
        agent.life.act(torch.tensor([action]))
    told = agent.situation().over_history()
    own = told.state.particles["B_0"][:, 0].double().numpy()  # (K, S before, A, S)
    weights = told.state.weights()[:, 0].double().numpy()

    def filtered(tables):
        belief = first * seen[outcomes[0]]
        for outcome, action in zip(outcomes[1:], actions, strict=True):
            belief = (belief @ tables[:, action]) * seen[outcome]
        return belief / belief.sum()

    def found():
        return FilteredBelief(Reading(told, TableMemory())).belief()

    each = weights @ np.stack([filtered(tables) for tables in own])
    mean = filtered(np.tensordot(weights, own, 1))
    assert np.abs(each - mean).max() > 1e-3
    monkeypatch.setattr("aif_dcpc.agents.planners.filtered_belief.MAX_ENTRIES", 9 * 5)
    assert np.abs(found() - each).max() < 1e-6
    monkeypatch.setattr("aif_dcpc.agents.planners.filtered_belief.MAX_ENTRIES", 9 * 5 - 1)
    assert np.abs(found() - mean).max() < 1e-6


@pytest.mark.parametrize("length", [2, 3, 6])
def test_a_cloud_that_was_cut_begins_at_its_particles(length):
    """A series without resets: one of as many slices as `last` leaves goes on from the particles' states."""
    source = np.random.default_rng(7)
    discrete = DiscreteModel(
        A=[columns(source, 4, 3)], B=[columns(source, 3, 3, 2)], D=[columns(source, 3)]
    )
    engine = DCPC(discrete.graphical_model(), num_particles=6)
    outcomes = torch.from_numpy(source.integers(4, size=(1, length)))
    actions = torch.from_numpy(source.integers(2, size=(1, length)))
    state = engine.init({"o_0": outcomes, "u": actions}, seed=0)
    state, _ = engine.run(state, 3)
    state = state.last()
    cut = state.length == 3
    told = Situation(
        engine=engine,
        state=state,
        action="u",
        action_space=gymnasium.spaces.Discrete(2),
        preferences={},
        generator=torch.Generator().manual_seed(0),
    )
    left = list(range(length))[-state.length :]
    first = np.eye(3)[state.particles["s_0"][:, 0, 0].long().numpy()]
    if not cut:
        first = (discrete.D[0] * discrete.A[0][int(outcomes[0, left[0]])])[None]
    belief = first / first.sum(1, keepdims=True)
    for before, now in pairwise(left):
        belief = belief @ discrete.B[0][..., int(actions[0, before])].T
        belief = belief * discrete.A[0][int(outcomes[0, now])]
        belief = belief / belief.sum(1, keepdims=True)
    found = FilteredBelief(Reading(told)).belief()
    assert np.abs(found - belief.mean(0)).max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"discount": 0.0}, "above 0 and at most 1, found 0.0"),
        ({"discount": 1.01}, "above 0 and at most 1, found 1.01"),
        ({"horizon": 0}, "at least 1, found 0"),
        ({"max_nodes": 0}, "at least 1, found 2 and 0"),
    ],
)
def test_settings_that_plan_nothing_are_refused(settings, words):
    with pytest.raises(AgentError, match=words):
        BeliefGraph(**{"horizon": 2, **settings})
    BeliefGraph(horizon=1, discount=1.0, max_nodes=1)
