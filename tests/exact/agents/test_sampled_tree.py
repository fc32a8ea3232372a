"""The sampled tree against exact planning on finite models, closed forms, and what a budget promises.

Statistics are over independent seeds; the bounds are 5 standard errors of their mean (about twice in a million times
if Gaussian) plus what K particles bias: an entropy of O outcomes by about (O - 1) / 2K.
"""

import math

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.agents.planners.particle_beliefs import systematic_draws
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.agents.planners.tree import Level, SampledTree
from aif_dcpc.agents.sampled_free_energy import ResolutionWarning
from aif_dcpc.inference import DCPC, GraphicalModel, every, lag

CENTRE, LEFT, RIGHT, CUE = range(4)


def maze(number=256, trust=0.9):
    """A T-maze whose arms end it, before anything was seen; the bait is left or right, evenly."""
    model = GraphicalModel()
    model.add_site("side", lambda: Bernoulli(torch.tensor(0.5)), scope="episode")
    model.add_input("u")
    goes = torch.eye(5)[torch.tensor([[0, 1, 2, 3], [4] * 4, [4] * 4, [0, 1, 2, 3], [4] * 4])]
    model.add_site(
        "place",
        lambda place, u: Categorical(goes[place, u]),
        [lag("place"), lag("u")],
        initial=lambda: Categorical(torch.eye(5)[CENTRE]),
        scope="slice",
    )

    def seen(place, side):
        right = torch.where(side > 0, trust, 1 - trust)
        won = ((place == RIGHT) == (side > 0)).float()
        arm = torch.stack([0 * right, 0 * right, 0 * right, 1 - won, won], -1)
        cue = torch.stack([0 * right, 1 - right, right, 0 * right, 0 * right], -1)
        in_arm = ((place == LEFT) | (place == RIGHT))[..., None]
        return Categorical(
            torch.where(in_arm, arm, torch.where((place == CUE)[..., None], cue, torch.eye(5)[0]))
        )

    model.add_site("seen", seen, ["place", "side"], scope="slice")
    engine = DCPC(model, num_particles=number)
    zero = torch.zeros(1, 1).long()
    side = (torch.arange(number) % 2).float()[:, None]
    return engine, engine.init({"u": zero, "place": zero, "seen": zero}, particles={"side": side})


WISH = torch.tensor([0.0, 0.0, 0.0, -3.0, 3.0])


def situation(engine, state, seed=0, space=None, **preferences):
    return Situation(
        engine=engine,
        state=state,
        action="u",
        action_space=space or gymnasium.spaces.Discrete(4),
        preferences=preferences or {"seen": WISH},
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_it_agrees_with_exact_planning(horizon):
    engine, state = maze(100)
    exact = BeliefGraph(horizon=horizon, discount=0.9).plan(situation(engine, state))
    planner = SampledTree(horizon=horizon, discount=0.9, outcomes=4, particles=1)
    plans = [planner.plan(situation(engine, state, seed)) for seed in range(8)]
    for name in ("risk", "ambiguity", "information_gain", "neg_expected_log_preference"):
        found = torch.stack([plan.terms[name].double() for plan in plans])
        error = 5 * found.std(0) / math.sqrt(len(plans)) + 4 * horizon / (2 * 100)
        assert ((found.mean(0) - exact.terms[name]).abs() <= error).all(), name
    assert {plan.best for plan in plans} == {exact.best}
    for plan in plans:
        total = plan.terms["risk"] + plan.terms["ambiguity"] - plan.terms["novelty"]
        assert torch.allclose(total, plan.expected_free_energy, atol=1e-5)
        assert plan.complete and plan.depth == horizon


def test_it_goes_to_the_cue_before_an_arm():
    """Two steps ahead the detour wins .9 of the bets, an arm half of them."""
    engine, state = maze(100)
    plan = SampledTree(horizon=2).plan(situation(engine, state))
    assert plan.best == CUE


def test_a_hidden_gaussian_is_looked_at_first():
    """s hidden, wide; looking costs nothing and tells it; then it can be met: o = -(s - guess)^2 in effect.

    Action 0 looks (o ~ Normal(s, .1)); actions 1 and 2 bet on the sign and show +-1 of whether it was right.
    Without looking a bet wins half of the time: E[wish] = 0; after looking nearly always: 2 per bet.
    """
    model = GraphicalModel()
    model.add_site("s", lambda: Normal(torch.tensor(0.0), 2.0), scope="episode")
    model.add_input("u")

    def outcome(s, u):
        right = torch.where((s > 0) == (u == 2), 1.0, -1.0)
        return Normal(torch.where(u == 0, s, right), 0.1)

    model.add_site(
        "bet",
        lambda u: Bernoulli((u > 0).float()),
        [lag("u")],
        initial=lambda: Bernoulli(torch.tensor(0.0)),
        scope="slice",
    )
    model.add_site(
        "o", outcome, ["s", lag("u")], initial=lambda s: Normal(0 * s, 50.0), scope="slice"
    )
    engine = DCPC(model, num_particles=200)
    state = engine.init(
        {"u": torch.zeros(1, 1).long(), "bet": torch.zeros(1, 1), "o": torch.zeros(1, 1)}, seed=0
    )

    def wish(values):
        return 2.0 * values.clamp(-1, 1)

    told = situation(engine, state, 0, gymnasium.spaces.Discrete(3), o=wish)
    deep = SampledTree(horizon=2, outcomes=8).plan(told)
    expected = math.log(2.0 / 0.1)  # I(o; s) of looking: Gaussian, variance 4 under noise .01
    near = SampledTree(horizon=1).plan(told)
    assert near.terms["information_gain"][0] == pytest.approx(expected, abs=0.35)
    assert near.terms["information_gain"][1] == pytest.approx(math.log(2), abs=0.05)
    assert deep.best == 0


# -- budgets ---------------------------------------------------------------------------------------


def test_a_budget_of_nodes_answers_with_its_last_complete_depth():
    engine, state = maze(64)
    whole = SampledTree(horizon=3, outcomes=2).plan(situation(engine, state))
    cut = SampledTree(horizon=3, outcomes=2, max_nodes=whole.nodes - 1).plan(
        situation(engine, state)
    )
    assert (whole.depth, whole.complete) == (3, True)
    assert (cut.depth, cut.complete) == (2, False)
    two = SampledTree(horizon=2, outcomes=2).plan(situation(engine, state))
    assert torch.allclose(cut.expected_free_energy, two.expected_free_energy, atol=0.3)
    assert cut.nodes < whole.nodes


def test_no_time_is_one_step():
    engine, state = maze(64)
    plan = SampledTree(horizon=3, seconds=0.0).plan(situation(engine, state))
    assert plan.depth == 1 and not plan.complete
    one = SampledTree(horizon=1).plan(situation(engine, state))
    assert torch.allclose(plan.expected_free_energy, one.expected_free_energy)


def test_parts_of_a_level_are_the_level(monkeypatch):
    """Beliefs cut into parts of one give the same law of plans: here all but rounding, outcomes being sure."""
    engine, state = maze(64, trust=1.0)
    whole = SampledTree(horizon=3, outcomes=64, particles=1).plan(situation(engine, state))
    monkeypatch.setattr("aif_dcpc.agents.planners.tree.CHUNK", 1)
    parts = SampledTree(horizon=3, outcomes=64, particles=1).plan(situation(engine, state))
    assert parts.nodes == whole.nodes
    assert torch.allclose(parts.expected_free_energy, whole.expected_free_energy, atol=1e-4)


# -- parts -----------------------------------------------------------------------------------------


def test_draws_follow_the_weights():
    """Evenly spread: each particle as often as its share, up to one."""
    weights = torch.tensor([[0.5, 0.1], [0.3, 0.0], [0.2, 0.9]])
    drawn = systematic_draws(weights.log(), 20, torch.Generator().manual_seed(0))
    counts = torch.stack([(drawn == i).sum(0) for i in range(3)])
    assert ((counts - 20 * weights).abs() <= 1).all() and counts[1, 1] == 0


def test_few_particles_are_used_several_times():
    engine, state = maze(4)
    plan = SampledTree(horizon=1, particles=200).plan(situation(engine, state))
    told = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    assert plan.terms["information_gain"][CUE] == pytest.approx(told, abs=0.15)


def test_information_beyond_the_particles_is_said():
    engine, state = maze(4, trust=1.0)
    with pytest.warns(ResolutionWarning, match="raise particles"):
        SampledTree(horizon=1, particles=4).plan(situation(engine, state))


def test_what_cannot_be_planned_is_named():
    engine, state = maze(4)
    with pytest.raises(AgentError, match="cannot be listed"):
        SampledTree(horizon=1).plan(situation(engine, state, 0, gymnasium.spaces.Box(0.0, 1.0)))
    for settings, words in (
        ({"horizon": 0}, "horizon is at least 1"),
        ({"horizon": 1, "outcomes": 0}, "outcomes is at least 1"),
        ({"horizon": 1, "discount": 0.0}, "discount is above 0"),
        ({"horizon": 1, "particles": 0}, "particles is at least 1"),
    ):
        with pytest.raises(AgentError, match=words):
            SampledTree(**settings)
    slow = GraphicalModel()
    slow.add_input("u")
    slow.add_site("c", lambda: Bernoulli(torch.tensor(0.5)), scope=every(2))
    slow.add_site("o", lambda c: Bernoulli(0.2 + 0.5 * c), ["c"], scope="slice")
    other = DCPC(slow, num_particles=4)
    with pytest.raises(AgentError, match="site 'c' has no value of its own"):
        cloud = other.init({"u": torch.zeros(1, 1).long(), "o": torch.zeros(1, 1)})
        SampledTree(horizon=1).plan(situation(other, cloud, o=torch.zeros(2)))


def test_models_that_read_two_slices_back_are_followed():
    """o of slice t shows the action of two slices before: the first action pays at the second step alone."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "o",
        lambda u: Bernoulli(0.1 + 0.8 * u.float()),
        [lag("u", 2)],
        initial=lambda: Bernoulli(torch.tensor(0.1)),
        scope="slice",
    )
    engine = DCPC(model, num_particles=64)
    state = engine.init({"u": torch.tensor([[0, 0, 1, 0]]), "o": torch.zeros(1, 4)})
    told = situation(engine, state, 0, gymnasium.spaces.Discrete(2), o=torch.tensor([-2.0, 0.0]))
    planner = SampledTree(horizon=2, outcomes=8, particles=400)
    found = torch.stack([planner.plan(told).terms["neg_expected_log_preference"] for _ in range(4)])
    expected = torch.tensor([2 * 0.1 + 2 * 0.9, 2 * 0.1 + 2 * 0.1])
    assert torch.allclose(found.mean(0), expected, atol=0.2)


def test_finite_models_of_two_chains_agree_with_exact_planning():
    """Random tables, latent chains that start from particles; two seeds of the model."""
    for seed in range(2):
        source = np.random.default_rng(seed)
        moves = torch.tensor(source.dirichlet(np.ones(3), (3, 2)))
        shows = torch.tensor(source.dirichlet(np.ones(2), 3))
        model = GraphicalModel()
        model.add_input("u")
        model.add_site(
            "s",
            lambda s, u, moves=moves: Categorical(moves[s, u]),
            [lag("s"), lag("u")],
            initial=lambda: Categorical(torch.ones(3).double()),
            scope="slice",
        )
        model.add_site("o", lambda s, shows=shows: Categorical(shows[s]), ["s"], scope="slice")
        number = 150
        states = torch.arange(number) % 3
        engine = DCPC(model, num_particles=number)
        zero = torch.zeros(1, 1).long()
        state = engine.init({"u": zero, "o": zero}, particles={"s": states[:, None, None]})
        wanted = torch.tensor([0.0, 1.0], dtype=torch.float64)
        told = situation(engine, state, 1, gymnasium.spaces.Discrete(2), o=wanted)
        finite, _ = FiniteModel.read(told)
        exact = BeliefGraph(horizon=2).plan_tables(finite, np.full(3, 1 / 3))
        plans = [SampledTree(horizon=2, outcomes=8).plan(told) for _ in range(8)]
        found = torch.stack([plan.expected_free_energy for plan in plans])
        error = 5 * found.std(0) / math.sqrt(8) + 0.03
        assert ((found.mean(0) - exact.expected_free_energy).abs() <= error).all()


def test_what_a_step_costs_is_what_it_risks_and_does_not_tell_less_what_it_teaches():
    terms = {"risk": [[2.0, 0.5]], "ambiguity": [[0.25, 3.0]], "novelty": [[0.5, 1.0]]}
    level = Level({name: torch.tensor(value) for name, value in terms.items()}, None)
    assert level.cost.tolist() == [[1.75, 2.5]]
