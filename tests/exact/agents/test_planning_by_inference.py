"""Planning as inference against enumeration of every action sequence and every path that may follow."""

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Beta, Categorical, Normal

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.by_inference import PlanningAsInference
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.inference import DCPC, GraphicalModel, lag

STATES, ACTIONS, OUTCOMES = 3, 2, 3


class World:
    """A hidden chain that the action moves, and an outcome; a global reliability blurs the outcome."""

    def __init__(self, seed):
        source = np.random.default_rng(seed)
        self.moves = torch.tensor(source.dirichlet(np.ones(STATES), (STATES, ACTIONS)))
        self.shows = torch.tensor(source.dirichlet(np.ones(OUTCOMES), STATES))
        self.wanted = torch.tensor(source.normal(size=OUTCOMES))
        self.habit = torch.tensor(source.dirichlet(np.ones(ACTIONS), STATES))

    def outcome(self, s, clear):
        return Categorical(clear[..., None] * self.shows[s] + (1 - clear[..., None]) / OUTCOMES)

    def cloud(self, states, clear):
        """Particles with a state and a reliability each."""
        model = GraphicalModel()
        model.add_input("u")
        model.add_input("reset")
        model.add_site("clear", lambda: Beta(2.0, 2.0), scope="global")
        model.add_site(
            "s",
            lambda s, u, reset: Categorical(
                torch.where(
                    reset[..., None] > 0, torch.ones(STATES).double() / STATES, self.moves[s, u]
                )
            ),
            [lag("s"), lag("u"), "reset"],
            initial=lambda reset: Categorical(torch.ones(STATES).double()),
            scope="slice",
        )
        model.add_site("o", self.outcome, ["s", "clear"], scope="slice")
        engine = DCPC(model, num_particles=len(states))
        particles = {
            "s": torch.tensor(states)[:, None, None],
            "clear": torch.tensor(clear, dtype=torch.float64)[:, None],
        }
        zero = torch.zeros(1, 1).long()
        data = {"u": zero, "reset": zero + 1, "o": zero}
        return engine, engine.init(data, particles=particles)

    def posterior(self, states, clear, horizon, habit=None):
        """p(first action | wishes) by listing particles, action sequences, paths and outcomes."""
        found = np.zeros(ACTIONS)
        likes = self.wanted.exp().numpy()
        for s0, c in zip(states, clear, strict=True):
            blurred = c * self.shows.numpy() + (1 - c) / OUTCOMES
            worth = blurred @ likes
            for actions in itertools.product(range(ACTIONS), repeat=horizon):
                for path in itertools.product(range(STATES), repeat=horizon):
                    p = 1.0
                    before = s0
                    for u, s in zip(actions, path, strict=True):
                        p *= 1 / ACTIONS if habit is None else habit[before, u]
                        p *= float(self.moves[before, u, s]) * worth[s]
                        before = s
                    found[actions[0]] += p
        return found / found.sum()


def situation(engine, state, wanted, space=None):
    return Situation(
        engine=engine,
        state=state,
        action="u",
        action_space=space or gymnasium.spaces.Discrete(ACTIONS),
        preferences={"o": wanted},
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("horizon", [1, 3])
def test_the_posterior_of_the_first_action_is_that_of_all_futures(seed, horizon):
    world = World(seed)
    states, clear = [0, 2, 1, 1], [0.9, 0.4, 0.7, 0.2]
    engine, state = world.cloud(states, clear)
    plan = PlanningAsInference(horizon=horizon).plan(situation(engine, state, world.wanted))
    expected = world.posterior(states, clear, horizon)
    assert (-plan.expected_free_energy).exp().numpy() == pytest.approx(expected, abs=1e-6)
    assert plan.policies.tolist() == [[0], [1]] and plan.depth == horizon


@pytest.mark.parametrize("seed", range(3))
def test_a_policy_prior_may_read_the_state(seed):
    world = World(seed)
    states, clear = [0, 2, 1], [0.9, 0.4, 0.7]
    engine, state = world.cloud(states, clear)
    planner = PlanningAsInference(
        horizon=2, policy_prior=lambda s: Categorical(world.habit[s]), reads=["s"]
    )
    plan = planner.plan(situation(engine, state, world.wanted))
    expected = world.posterior(states, clear, 2, world.habit.numpy())
    assert (-plan.expected_free_energy).exp().numpy() == pytest.approx(expected, abs=1e-6)


def test_actions_may_begin_with_another_number_and_wishes_be_functions():
    world = World(1)
    world.moves = world.moves[:, [1, 0]]  # the kernel reads u - 5
    states, clear = [0, 2, 1], [0.9, 0.4, 0.7]
    moves = world.moves
    expected = world.posterior(states, clear, 2)
    world.moves = torch.cat([moves.new_zeros(STATES, 5, STATES), moves], 1)
    engine, state = world.cloud(states, clear)
    space = gymnasium.spaces.Discrete(ACTIONS, start=5)
    told = situation(engine, state, lambda o: world.wanted[o.long()], space)
    plan = PlanningAsInference(horizon=2).plan(told)
    assert plan.policies.tolist() == [[5], [6]]
    assert (-plan.expected_free_energy).exp().numpy() == pytest.approx(expected, abs=1e-6)


def test_what_must_not_happen_is_not_chosen():
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "o",
        lambda u: Bernoulli(u.double()),
        [lag("u")],
        initial=lambda: Bernoulli(torch.tensor(0.0)),
        scope="slice",
    )
    engine = DCPC(model, num_particles=2)
    state = engine.init({"u": torch.zeros(1, 1).long(), "o": torch.zeros(1, 1)})
    plan = PlanningAsInference(horizon=2).plan(
        situation(engine, state, torch.tensor([0.0, -torch.inf]))
    )
    assert plan.expected_free_energy.tolist() == [0.0, torch.inf]


def test_a_gaussian_future_agrees_with_its_closed_form():
    """o = s' ~ Normal(s + 2u - 1, 1), wish -(o - 1)^2 / 2: E exp(wish) is Normal(m; 1, sqrt 2) up to a constant."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "o",
        lambda o, u: Normal(o + 2.0 * u - 1.0, 1.0),
        [lag("o"), lag("u")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    engine = DCPC(model, num_particles=4)
    state = engine.init({"u": torch.zeros(1, 1).long(), "o": torch.full((1, 1), 0.3)})
    plan = PlanningAsInference(horizon=1).plan(
        situation(engine, state, lambda o: -0.5 * (o - 1).square())
    )
    means = 0.3 + torch.tensor([-1.0, 1.0])
    expected = (-(means - 1).square() / 4).softmax(0)
    assert torch.allclose((-plan.expected_free_energy).exp().float(), expected, atol=0.03)


def test_what_cannot_be_planned_is_named():
    world = World(0)
    engine, state = world.cloud([0, 1], [0.5, 0.5])
    with pytest.raises(AgentError, match="Discrete actions apart, found Box"):
        PlanningAsInference(horizon=1).plan(
            situation(engine, state, world.wanted, gymnasium.spaces.Box(0.0, 1.0))
        )
    with pytest.raises(AgentError, match="horizon is at least 1, found 0"):
        PlanningAsInference(horizon=0)
