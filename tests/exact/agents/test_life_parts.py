"""Parts that every declared agent shares: what streams become, who chooses and how, windows, what is reported."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Beta, Categorical, Normal

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.belief_pictures import belief_pictures
from aif_dcpc.agents.deliberation import Deliberation, checked_habit
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.one_life import as_one_life
from aif_dcpc.agents.planners.protocol import Plan
from aif_dcpc.agents.streams import as_streams, of_one_world, placeholder
from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.moves.complete_conditional import log_conditionals
from aif_dcpc.inference.smc.recent import hold_timeless


def test_integers_stay_integers_and_all_else_becomes_floats():
    told = {
        "byte": np.array([[255]], np.uint8),
        "flag": np.array([True]),
        "float": np.array([0.5], np.float64),
        "half": np.array([0.5], np.float16),
    }
    found = as_streams(told)
    assert [found[n].dtype for n in told] == [torch.int64] * 2 + [torch.get_default_dtype()] * 2
    assert int(found["byte"]) == 255 and int(found["flag"]) == 1 and float(found["half"]) == 0.5
    assert of_one_world({"x": 3, "y": np.zeros(2)})["y"].shape == (1, 2)


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_streams_do_not_change_with_the_array_of_the_world(kind):
    shown = np.array([1.0, 2.0], kind)
    found = as_streams({"shown": shown})["shown"]
    shown[:] = 7
    assert found.tolist() == [1, 2]


def test_what_stands_for_an_action_has_its_shape():
    box = gymnasium.spaces.Box(-1, 1, (2, 3))
    found = placeholder(gymnasium.spaces.Discrete(4)), placeholder(box)
    assert [value.dtype for value in found] == [torch.int64, torch.get_default_dtype()]
    assert found[0].shape == () and found[1].shape == (2, 3) and not found[1].any()


# -- choices ---------------------------------------------------------------------------------------


def plan_of(*costs, **terms):
    """A plan of single actions 0, 1, ... that are expected to cost so much."""
    number = len(costs)
    terms = {name: torch.tensor(value) for name, value in terms.items()}
    policies = torch.arange(number)[:, None]
    return Plan(policies=policies, expected_free_energy=torch.tensor(costs), terms=terms)


@pytest.mark.parametrize("precision", [1.0, 16.0])
def test_policies_within_a_thousandth_of_a_nat_are_as_good(precision):
    deliberation = Deliberation(None, precision)
    generator = torch.Generator().manual_seed(0)
    plan = plan_of(0.0, 0.0009, 0.0012, 1.0)
    chosen = {deliberation.choose(plan, generator, greedy=True) for _ in range(60)}
    assert chosen == {0, 1}


@pytest.mark.parametrize(
    ("precision", "costs", "chances"),
    [
        (0.0, (0.0, 1.0), (0.5, 0.5)),
        (0.0, (0.0, math.inf), (1.0, 0.0)),
        (2.0, (math.inf, math.inf), (0.5, 0.5)),
        (2.0, (math.inf, 3.0), (0.0, 1.0)),
        (2.0, (-math.inf, 3.0), (1.0, 0.0)),
    ],
)
def test_choices_without_precision_or_of_infinite_costs(precision, costs, chances):
    """What is possible comes before what is not; among equals all are alike."""
    deliberation = Deliberation(None, precision)
    plan = plan_of(*costs)
    assert deliberation.score(plan).softmax(0).tolist() == pytest.approx(chances)
    generator = torch.Generator().manual_seed(0)
    for greedy in (True, False):
        chosen = {deliberation.choose(plan, generator, greedy=greedy) for _ in range(60)}
        assert chosen == {index for index, chance in enumerate(chances) if chance}


def test_a_habit_counts_beside_what_policies_cost():
    """p = E exp(-precision G), for actions counted from 2."""
    space = gymnasium.spaces.Discrete(3, start=2)
    habit = checked_habit(torch.tensor([2.0, 6.0, 0.0]), space)
    assert habit(torch.tensor([2, 3])).exp().tolist() == pytest.approx([0.25, 0.75])
    deliberation = Deliberation(None, 2.0, habit)
    plan = Plan(
        policies=torch.tensor([[2], [3], [4]]), expected_free_energy=torch.tensor([0.1, 0.5, 0.0])
    )
    weights = np.array([0.25 * math.exp(-0.2), 0.75 * math.exp(-1.0), 0.0])
    found = deliberation.score(plan).softmax(0).numpy()
    assert found == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize(
    "habit", [torch.ones(2), torch.tensor([1.0, -0.1, 1.0]), torch.zeros(3), torch.ones(3, 1)]
)
def test_habits_that_are_none_are_refused(habit):
    with pytest.raises(AgentError, match="a probability for each action"):
        checked_habit(habit, gymnasium.spaces.Discrete(3))
    with pytest.raises(AgentError, match="Discrete"):
        checked_habit(torch.ones(3), gymnasium.spaces.Box(-1, 1, (3,)))


class Remembers:
    """A planner that counts its plans since it forgot."""

    def __init__(self):
        self.made = 0

    def plan(self, situation):
        self.made += 1
        return plan_of(float(situation), 2.0 * situation, risk=[1.0 * situation, 0.0])

    def forget(self):
        self.made = 0

    def state_dict(self):
        return {"made": self.made}

    def load_state_dict(self, kept):
        self.made = kept["made"]


class Situated(float):
    """A situation that is a number, with a generator."""

    generator = torch.Generator().manual_seed(0)


def test_each_world_has_a_planner_of_its_own_that_forgets_with_its_episodes():
    deliberation = Deliberation(Remembers(), 1.0)
    deliberation.begin(torch.tensor([True, True, True]))
    situations = {row: Situated(row + 1.0) for row in range(3)}
    for _ in range(2):
        actions = deliberation.decide(situations, greedy=True)
    assert {row: int(action) for row, action in actions.items()} == {0: 0, 1: 0, 2: 0}
    deliberation.begin(torch.tensor([False, True, False]))
    assert [planner.made for planner in deliberation.planners] == [2, 0, 2]
    deliberation.decide({2: Situated(3.0)}, greedy=True)
    assert list(deliberation.plans) == list(deliberation.chosen) == [2]
    twin = Deliberation(Remembers(), 1.0)
    twin.load_state_dict(deliberation.state_dict())
    assert [planner.made for planner in twin.planners] == [2, 0, 3]


def test_what_policies_cost_is_reported_as_the_mean_of_worlds():
    deliberation = Deliberation(Remembers(), 1.0)
    deliberation.begin(torch.tensor([True, True]))
    deliberation.decide({0: Situated(1.0), 1: Situated(4.0)}, greedy=True)
    assert deliberation.scalars() == {"efe/total": 2.5, "efe/risk": 2.5}


def test_a_planner_that_remembers_nothing_is_stored_as_nothing():
    class Forgetful:
        """Plans, and that is all."""

    deliberation = Deliberation(Forgetful(), 1.0)
    deliberation.begin(torch.tensor([True, True]))
    assert deliberation.state_dict() == [None, None]
    deliberation.load_state_dict([None, None, None])
    assert len(deliberation.planners) == 3


# -- lives -----------------------------------------------------------------------------------------


class Still:
    """Plans to do nothing."""

    def plan(self, situation):
        return Plan(policies=torch.zeros(1, 1, 1), expected_free_energy=torch.zeros(1))


def agent_of(**settings):
    """A position with a drift, seen with noise; told when an episode has ended."""
    model = GraphicalModel()
    model.add_input("push")
    model.add_input("over")
    model.add_site("drift", lambda: Normal(torch.zeros(1), 1.0), scope="global")
    model.add_site(
        "x",
        lambda x, push, drift: Normal(x + push + drift, 0.4),
        [lag("x"), lag("push"), "drift"],
        initial=lambda drift: Normal(torch.zeros(1), 1.0),
        scope="slice",
    )
    model.add_site("seen", lambda x: Normal(x, 0.6), ["x"], scope="slice")
    observed = {
        "seen": lambda streams: 2 * streams["position"],
        "over": "terminated",
    }
    return declared(model, observed, **settings)


def declared(model, observed, **settings):
    """An agent that infers, and does nothing."""
    return ActiveInferenceAgent(
        model,
        action="push",
        action_space=gymnasium.spaces.Box(-1, 1, (1,)),
        observed=observed,
        preferences={},
        planner=Still(),
        num_particles=8,
        **settings,
    )


def seen(value):
    return {"position": np.array([value], np.float32)}


def test_what_worlds_tell_stands_in_the_slice_that_it_belongs_to():
    """Two episodes of three slices, the first of which ended: twice the position, ends, beginnings."""
    agent = agent_of()
    for number, ended in enumerate((True, False)):
        agent.begin(seed=number)
        for step in range(2):
            agent.act(seen(number + 0.1 * step))
            agent.feedback(seen(number + 0.1 * step + 0.1), 0.0, ended and step == 1, step == 1)
    values = agent.life.state.values
    assert values["reset"].flatten().tolist() == [1, 0, 0, 1, 0, 0]
    assert values["over"].flatten().tolist() == [0, 0, 1, 0, 0, 0]
    expected = [0.0, 0.2, 0.4, 2.0, 2.2, 2.4]
    assert values["seen"].flatten().tolist() == pytest.approx(expected)
    assert agent.life.episode_length == 3


def test_a_window_holds_what_lies_before_it():
    """Of seven slices the last two are drawn anew; nothing here is global."""
    model = GraphicalModel()
    model.add_input("push")
    model.add_site(
        "x",
        lambda x, push: Normal(x + push, 0.4),
        [lag("x"), lag("push")],
        initial=lambda: Normal(torch.zeros(1), 1.0),
        scope="slice",
    )
    model.add_site("seen", lambda x: Normal(x, 0.6), ["x"], scope="slice")
    agent = declared(model, {"seen": "position"}, window=2)
    agent.begin(seed=0)
    for step in range(6):
        agent.act(seen(0.1 * step))
    before = agent.life.state.values["x"][:, 0, :, 0]
    agent.life.observe({**as_streams(of_one_world(seen(0.6))), **agent.consequences})
    after = agent.life.state.values["x"][:, 0, :, 0]
    assert torch.equal(after[:, :5], before[:, :5]) and after.shape[1] == 7
    assert not (after[:, 5] == before[:, 5]).all()


def test_a_frozen_world_whose_neighbour_begins_goes_on_where_it_was():
    agent = agent_of()
    agent.begin_batch(seeds=[0, 1])
    both = {"position": np.zeros((2, 1), np.float32)}
    agent.act_batch(both)
    agent.freeze()
    agent.begin_batch(seeds=[2, 3])
    for _ in range(3):
        agent.act_batch(both)
    agent.feedback_batch(both, np.zeros(2), np.array([True, False]), np.zeros(2, bool))
    agent.begin_batch(seeds=[4, None])
    assert agent.life.state.length == 4  # its last observation is still to be seen
    agent.act_batch(both)
    assert agent.life.state.length == 5 and agent.life.lengths.tolist() == [0, 4]
    agent.begin_batch(seeds=[5, 6])
    assert agent.life.state.length == 1


def coins():
    """Coins of an unknown bias that all episodes share, each seen by a noisy look."""
    model = GraphicalModel()
    model.add_input("push")
    model.add_site("bias", lambda: Beta(2.0, 2.0), scope="global")
    model.add_site("coin", lambda bias: Bernoulli(bias), ["bias"], scope="slice")
    model.add_site("seen", lambda coin: Normal(coin, 1.0), ["coin"], scope="slice")
    return model


def test_a_finite_site_is_weighed_alike_whether_what_it_reads_is_held_or_not():
    """ln p(coin | bias) + ln p(seen | coin) of both sides, at each particle's own bias."""
    engine = DCPC(coins(), num_particles=5)
    told = {"push": torch.zeros(1, 3, 1), "seen": torch.tensor([[0.2, 0.9, -0.3]])}
    state = engine.init(told, seed=0)
    coin = state.conditioning.site("coin")
    tries = torch.stack([torch.zeros(5, 1, 3), torch.ones(5, 1, 3)])
    bias = state.particles["bias"][:, :, None]
    own = torch.stack([(1 - bias).log(), bias.log()])
    looks = Normal(tries, 1.0).log_prob(told["seen"])
    for cloud in (state, hold_timeless(state)):
        found = log_conditionals(cloud, coin, tries.to(state.values["coin"]))
        assert torch.allclose(found, own + looks, atol=1e-5)


@pytest.mark.parametrize("learned", [False, True])
def test_a_frozen_life_infers_finite_sites_by_what_is_held(learned):
    agent = declared(coins(), {"seen": lambda streams: streams["position"][:, 0]})
    if learned:
        agent.begin(seed=0)
        agent.act(seen(0.7))
        agent.feedback(seen(0.2), 0.0, False, True)
    agent.freeze()
    agent.begin(seed=1)
    agent.act(seen(0.3))
    before = set(agent.life.state.particles["bias"].flatten().tolist())
    agent.act(seen(0.9))
    assert set(agent.life.state.particles["bias"].flatten().tolist()) <= before


class Sixth:
    """Plans action 6."""

    def plan(self, situation):
        return Plan(policies=torch.tensor([[6]]), expected_free_energy=torch.zeros(1))


def test_actions_are_named_from_the_first_of_their_space_on():
    agent = ActiveInferenceAgent(
        coins(),
        action="push",
        action_space=gymnasium.spaces.Discrete(2, start=5),
        observed={"seen": lambda streams: streams["position"][:, 0]},
        preferences={},
        planner=Sixth(),
    )
    agent.begin(seed=0)
    assert agent.act(seen(0.3)) == 6
    assert agent.explanation(["left", "right"]).labels == ["right"]


def test_free_energy_is_that_of_the_running_episode():
    agent = agent_of()
    agent.begin(seed=0)
    agent.act(seen(0.3))
    first = float(agent.life.state.log_evidence.mean())
    assert agent.report().scalars["inference/free_energy"] == pytest.approx(-first)
    agent.feedback(seen(0.2), 0.0, False, True)
    before = float(agent.life.state.log_evidence.mean())
    agent.begin(seed=1)
    agent.act(seen(0.1))
    scalars = agent.report().scalars
    now = float(agent.life.state.log_evidence.mean())
    assert scalars["inference/free_energy"] == pytest.approx(before - now)
    assert "learning/log_joint" in scalars and 1 <= scalars["inference/ess"] <= 8.001
    assert scalars["speed/ms_per_sweep"] == pytest.approx(scalars["speed/ms_inference"] / 2)


def test_what_an_action_led_to_is_forgotten_where_an_episode_begins():
    agent = agent_of()
    agent.begin(seed=0)
    agent.act(seen(0.0))
    agent.feedback(seen(0.1), 2.5, True, False)
    assert agent.consequences["reward"].tolist() == [2.5]
    agent.begin(seed=1)
    assert agent.consequences["reward"].tolist() == agent.consequences["terminated"].tolist() == [0]


def test_sites_of_an_episode_may_depend_on_each_other_and_stay():
    """A light by a regime, both drawn at the first slice; a later one follows the first alone."""
    model = GraphicalModel()
    model.add_site("regime", lambda: Categorical(torch.tensor([0.2, 0.8])), scope="episode")
    told = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    model.add_site("light", lambda r: Categorical(told[r.long()]), ["regime"], scope="episode")
    site = as_one_life(model).sites["light"]
    before, regime = torch.tensor([2, 2, 0]), torch.tensor([1, 0, 1])
    law = site.kernel(before, regime, torch.tensor([0, 1, 0]))
    assert torch.allclose(law.probs[0], torch.tensor([0.0, 0.0, 1.0]))
    assert torch.allclose(law.probs[1], told[0])
    assert torch.allclose(law.probs[2], torch.tensor([1.0, 0.0, 0.0]))


def test_pictures_of_the_first_world_show_its_own_episode():
    """Two slices of it, beside seven of the other world."""
    agent = agent_of()
    agent.begin_batch(seeds=[0, 1])
    both = {"position": np.zeros((2, 1), np.float32)}
    for step in range(7):
        agent.act_batch(both)
        ends = np.array([step == 3, False])
        agent.feedback_batch(both, np.zeros(2), ends, np.zeros(2, bool))
        if step == 3:
            agent.begin_batch(seeds=[2, None])
    assert agent.life.lengths.tolist() == [2, 7]
    drawn = agent.report(pictures=True).pictures
    expected = belief_pictures(agent.life.state, 2)
    assert np.array_equal(drawn["belief/x"], expected["belief/x"])
