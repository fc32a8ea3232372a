"""Searching action sequences: laws against closed forms, plans against known best ones, terms against Gaussian ones."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.cross_entropy import (
    BoxLaw,
    CrossEntropy,
    DiscreteLaw,
    autoregressive,
    law_over,
)
from aif_dcpc.agents.planners.imagined import imagined_terms
from aif_dcpc.agents.planners.protocol import Plan, Planner, Situation
from aif_dcpc.inference import DCPC, GraphicalModel, lag

LINE = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- laws ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_noise_is_autoregressive(correlation):
    """Covariance c^|i - j|; each estimate within 5 standard errors, sd of a product at most sqrt(2)."""
    num = 40_000
    noise = autoregressive((num, 5, 2), correlation, generator())
    lags = (torch.arange(5)[:, None] - torch.arange(5)).abs()
    for event in range(2):
        found = noise[..., event].T @ noise[..., event] / num
        expected = torch.where(lags == 0, 1.0, correlation**lags)
        assert float((found - expected).abs().max()) < 5 * math.sqrt(2 / num)
    assert abs(float((noise[:, :, 0] * noise[:, :, 1]).mean())) < 5 / math.sqrt(num)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_discrete_sequences_have_their_probabilities_and_their_memory(correlation):
    num = 40_000
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    drawn = DiscreteLaw(probs, first=4).draw(num, correlation, generator()) - 4
    counts = torch.stack([(drawn == action).float().mean(0) for action in range(3)], 1)
    assert float((counts - probs).abs().max()) < 5 * 0.5 / math.sqrt(num)
    same = float((drawn[:, 0] == drawn[:, 1]).float().mean())
    alone = float((probs[0] * probs[1]).sum())
    error = 5 * 0.5 / math.sqrt(num)
    assert abs(same - alone) < error if correlation == 0 else same > alone + 10 * error


def test_one_step_on_the_second_action_is_the_first_and_the_last_stays():
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0]])
    shifted = DiscreteLaw(probs, first=4).shifted()
    expected = 0.5 * probs[[1, 2, 2]] + 0.5 / 3  # half of it uniform
    torch.testing.assert_close(shifted.probs, expected)
    assert shifted.first == 4
    box = BoxLaw.over(LINE, 3)
    mean = torch.tensor([[0.1], [0.2], [0.3]])
    moved = BoxLaw(box.low, box.high, mean, 0.01 * box.scale, box.start).shifted()
    torch.testing.assert_close(moved.mean, mean[[1, 2, 2]])
    torch.testing.assert_close(moved.scale, torch.ones(3, 1))


def test_a_plan_names_what_each_policy_does_first_and_which_is_best():
    policies = torch.tensor([[3, 1], [0, 2]])
    plan = Plan(policies=policies, expected_free_energy=torch.tensor([0.5, 0.25]))
    assert plan.first_actions.tolist() == [3, 0] and plan.best == 1


def test_boxes_begin_in_the_middle_and_keep_inside():
    space = gymnasium.spaces.Box(np.array([-1, 2], np.float32), np.array([3, np.inf], np.float32))
    law = law_over(space, 4)
    assert isinstance(law, BoxLaw)
    assert law.mean.tolist() == [[1.0, 2.0]] * 4 and law.start.tolist() == [2.0, 1.0]
    drawn = law.draw(500, 0.5, generator())
    assert float(drawn[..., 0].min()) == -1 and float(drawn[..., 0].max()) == 3
    assert float(drawn[..., 1].min()) == 2


def test_laws_are_fitted_and_shifted():
    law = BoxLaw.over(LINE, 3)
    elites = torch.tensor([[[0.1], [0.2], [0.3]], [[0.3], [0.2], [0.5]]])
    fitted = law.fitted(elites)
    assert torch.allclose(fitted.mean, torch.tensor([[0.2], [0.2], [0.4]]))
    assert torch.allclose(fitted.scale, torch.tensor([[0.1], [0.01], [0.1]]))
    shifted = fitted.shifted()
    assert torch.allclose(shifted.mean, torch.tensor([[0.2], [0.4], [0.4]]))
    assert torch.equal(shifted.scale, torch.ones(3, 1))
    choice = DiscreteLaw.over(gymnasium.spaces.Discrete(2, start=5), 2)
    fitted = choice.fitted(torch.tensor([[5, 6], [5, 6], [5, 5], [6, 6]]))
    assert torch.allclose(fitted.probs, torch.tensor([[0.725, 0.275], [0.275, 0.725]]))
    assert torch.allclose(fitted.shifted().probs, torch.tensor([[0.3875, 0.6125]] * 2))


def test_other_spaces_are_refused():
    with pytest.raises(AgentError, match="Box or Discrete"):
        law_over(gymnasium.spaces.MultiBinary(2), 3)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"elites": 65}, "candidates, 64"),
        ({"horizon": 0}, "horizon=0"),
        ({"correlation": 1.0}, "less than 1"),
        ({"discount": 1.5}, "at most 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, words):
    with pytest.raises(AgentError, match=words):
        CrossEntropy(**setting)


# -- plans -----------------------------------------------------------------------------------------


def integrator():
    """x[t + 1] = x[t] + u[t], almost exactly."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "x",
        lambda x, u: Normal(x + u[..., 0], 1e-3),
        [lag("x"), lag("u")],
        initial=lambda: Normal(0.0, 5.0),
        scope="slice",
    )
    return model


def situation(model, data, space, preferences, action="u", particles=4, seed=0):
    engine = DCPC(model, num_particles=particles, seed=seed)
    return Situation(
        engine=engine,
        state=engine.init(data),
        action=action,
        action_space=space,
        preferences=preferences,
        generator=generator(seed + 1000),  # not the noise that the particles were drawn from
    )


def prefer_zero(x):
    return -x.square()


def test_it_drives_an_integrator_home():
    """From 1.3, with steps of at most 1, the places 0.3, 0, 0, 0 are best; they cost 0.09."""
    here = {"x": torch.tensor([[1.3]]), "u": torch.zeros(1, 1, 1)}
    planner = CrossEntropy(horizon=4, iterations=10, correlation=0.0)
    assert isinstance(planner, Planner)
    plan = planner.plan(situation(integrator(), here, LINE, {"x": prefer_zero}))
    places = 1.3 + plan.policies[plan.best, :, 0].cumsum(0)
    assert 0.09 < float(places.square().sum()) < 0.15
    assert float(plan.terms["neg_expected_log_preference"][plan.best]) == pytest.approx(
        float(places.square().sum()), abs=0.01
    )
    assert plan.depth == 4 and plan.nodes == 64 * 4


def test_there_is_nothing_to_imagine_where_nothing_is_preferred():
    here = {"x": torch.tensor([[1.3]]), "u": torch.zeros(1, 1, 1)}
    with pytest.raises(AgentError, match="there is none: name one with preferences"):
        CrossEntropy(horizon=2).plan(situation(integrator(), here, LINE, {}))


def test_it_finds_the_one_good_sequence_of_discrete_actions():
    wanted = torch.tensor([2, 0, 1, 1, 2])

    def judge(_, policies):
        cost = (policies != wanted).float()
        return {"risk": cost, "ambiguity": 0 * cost, "novelty": 0 * cost}

    class Nowhere:
        action_space = gymnasium.spaces.Discrete(3)
        generator = generator()

    planner = CrossEntropy(horizon=5, iterations=6, correlation=0.3, judge=judge)
    plan = planner.plan(Nowhere)
    assert plan.policies[plan.best].tolist() == wanted.tolist()
    assert float(plan.expected_free_energy.min()) == 0


def test_terms_are_discounted_and_summed():
    def judge(_, policies):
        ones = torch.ones(policies.shape[:2])
        return {"risk": ones, "ambiguity": 2 * ones, "novelty": 4 * ones, "information_gain": ones}

    class Nowhere:
        action_space = LINE
        generator = generator()

    plan = CrossEntropy(horizon=3, discount=0.5, judge=judge).plan(Nowhere)
    steps = 1 + 0.5 + 0.25
    assert torch.allclose(plan.terms["risk"], torch.full((64,), steps))
    assert torch.allclose(plan.expected_free_energy, torch.full((64,), (1 + 2 - 4) * steps))


def test_the_best_sequence_is_never_lost():
    """From one iteration, and from one plan, to the next, with a judge that does not change."""
    seen = []

    def judge(_, policies):
        cost = (policies[..., 0] - 0.3).square()
        seen.append(float(cost.sum(1).min()))
        return {"risk": cost, "ambiguity": 0 * cost, "novelty": 0 * cost}

    class Nowhere:
        action_space = LINE
        generator = generator()

    planner = CrossEntropy(horizon=1, candidates=5, elites=2, iterations=4, judge=judge)
    for _ in range(3):
        planner.plan(Nowhere)
    assert all(later <= before for before, later in itertools.pairwise(seen))
    planner.forget()
    planner.plan(Nowhere)
    assert planner.state_dict()["law"] is not None


def test_the_next_search_tries_what_was_planned_one_step_on():
    seen = []

    def judge(_, policies):
        seen.append(policies.clone())
        cost = (policies[..., 0] - torch.tensor([0.9, 0.1, -0.5])).square()
        return {"risk": cost, "ambiguity": 0 * cost, "novelty": 0 * cost}

    class Nowhere:
        action_space = LINE
        generator = generator()

    planner = CrossEntropy(horizon=3, iterations=2, judge=judge)
    plan = planner.plan(Nowhere)
    planner.plan(Nowhere)
    best = plan.policies[plan.best]
    assert torch.equal(seen[2][0], best[[1, 2, 2]])


def test_a_search_goes_on_from_what_was_kept():
    here = {"x": torch.tensor([[1.3]]), "u": torch.zeros(1, 1, 1)}
    one, other = CrossEntropy(horizon=4), CrossEntropy(horizon=4)
    one.plan(situation(integrator(), here, LINE, {"x": prefer_zero}))
    other.load_state_dict(one.state_dict())
    plans = [p.plan(situation(integrator(), here, LINE, {"x": prefer_zero})) for p in (one, other)]
    assert torch.equal(plans[0].policies, plans[1].policies)


# -- terms of any model ----------------------------------------------------------------------------


def test_terms_of_a_gaussian_are_those_of_its_closed_forms():
    """o ~ N(m + u, s), m ~ N(0, 1) hidden: I(o; m) = ln(1 + 1 / s^2) / 2; within 5 standard errors of 16 clouds."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("m", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site(
        "o",
        lambda u, m: Normal(m + u, 0.5),
        [lag("u"), "m"],
        initial=lambda m: Normal(m, 100.0),
        scope="slice",
    )
    data = {"o": torch.zeros(1, 1), "u": torch.zeros(1, 1)}
    policies = torch.tensor([[0.0], [2.0]])
    runs = []
    for seed in range(16):
        now = situation(
            model, data, LINE, {"o": lambda o: -0.5 * o.square()}, particles=400, seed=seed
        )
        runs.append({n: v.double() for n, v in imagined_terms(now, policies).items()})
    entropy = 0.5 * math.log(2 * math.pi * math.e * 1.25)
    given = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    cross = torch.tensor([[0.5 * 1.25], [0.5 * (1.25 + 4)]]).double()
    expected = {
        "neg_expected_log_preference": cross,
        "risk": cross - entropy,
        "ambiguity": torch.full((2, 1), given).double(),
        "information_gain": torch.full((2, 1), entropy - given).double(),
        "novelty": torch.zeros(2, 1).double(),
    }
    for name, value in expected.items():
        found = torch.stack([run[name] for run in runs])
        error = found.std(0) / 4 + 5e-3  # nested Monte Carlo is off by at most about 1 / K
        assert bool(((found.mean(0) - value).abs() < 5 * error).all()), name
    terms = runs[0]
    assert torch.allclose(
        terms["risk"] + terms["ambiguity"],
        terms["neg_expected_log_preference"] - terms["information_gain"],
        atol=1e-5,
    )


def test_finite_outcomes_are_preferred_by_table():
    model = GraphicalModel()
    model.add_input("u")
    table = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    model.add_site(
        "o",
        lambda u: Categorical(table[u]),
        [lag("u")],
        initial=lambda: Categorical(torch.tensor([0.5, 0.5])),
        scope="slice",
    )
    space = gymnasium.spaces.Discrete(2)
    data = {"o": torch.zeros(1, 1), "u": torch.zeros(1, 1, dtype=torch.long)}
    wish = {"o": torch.tensor([0.0, -3.0])}
    now = situation(model, data, space, wish, particles=500)
    terms = imagined_terms(now, torch.tensor([[0], [1]]))
    expected = 3 * table[:, 1]
    found = terms["neg_expected_log_preference"][:, 0]
    assert float((found - expected).abs().max()) < 5 * 3 * 0.5 / math.sqrt(500)
    assert float(terms["information_gain"].abs().max()) < 1e-5
    plan = CrossEntropy(horizon=2, candidates=16).plan(
        situation(model, data, space, wish, particles=60)
    )
    assert plan.policies[plan.best].tolist() == [0, 0]
