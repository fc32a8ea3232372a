"""Parts of the agent of continuous worlds, each against its definition: priors, waves, looks, predictions, first steps."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gaussian import learning_life, requirements
from aif_dcpc.agents.gaussian.agent import GaussianAgent
from aif_dcpc.agents.gaussian.evidence import STILL, log_prior, scales_of
from aif_dcpc.agents.gaussian.features import REACH, Features, Scales, Shape, orthogonal_frequencies
from aif_dcpc.agents.gaussian.imagination import imagine
from aif_dcpc.agents.gaussian.linear import Linear, WeightsGivenSeries
from aif_dcpc.agents.gaussian.preferences import WISHES
from aif_dcpc.agents.settings import COMMON
from aif_dcpc.configuration import load_config

SMALL = {"num_waves": 6, "horizon": 3, "candidates": 8, "inference": {"num_particles": 2}}


class Line(gymnasium.Env):
    """A point on a line that is pushed; reward is where it is; done beyond 1."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal(0, 0.1, 1)
        return {"state": self.place.copy()}, {}

    def step(self, action):
        self.place = self.place + 0.1 * float(action[0]) + 0.01 * self.np_random.normal()
        return (
            {"state": self.place.copy()},
            float(self.place[0]),
            bool(self.place[0] > 1),
            False,
            {},
        )


def agent_of_line(**settings):
    space = gymnasium.spaces.Dict(state=Line.observation_space)
    return GaussianAgent.build(space, Line.action_space, {}, {**SMALL, **settings}, 0)


def live(agent, steps, env=None):
    """Act so many times; yields each reward and whether the episode ended with it."""
    env = env or Line()
    observation, _ = env.reset(seed=0)
    agent.begin(seed=0)
    for number in range(steps):
        action = agent.act(observation)
        observation, reward, over, _, _ = env.step(action)
        agent.feedback(observation, reward, over, False)
        yield reward, over
        if over:
            observation, _ = env.reset(seed=number)
            agent.begin(seed=number)


# -- features and their priors ---------------------------------------------------------------------


def test_lengthscales_are_about_three_and_scales_about_ten():
    """Log-normal, by a factor of e^1 and e^2.5: differences of log densities, which have no constant."""
    first = torch.tensor([0.1, 2.0, -1.0, 4.0]).double()
    second = torch.tensor([1.0, 0.5, 3.0, 2.0]).double()

    def density(logs):
        lengths = norm(math.log(3), 1.0).logpdf(logs[:2].numpy()).sum()
        return lengths + norm(math.log(10), 2.5).logpdf(logs[2:].numpy()).sum()

    found = float(log_prior(first) - log_prior(second))
    assert found == pytest.approx(density(first) - density(second))


def test_waves_stand_at_right_angles_in_blocks_and_are_as_long_as_gaussian_ones():
    """Squared lengths are chi squared with as many degrees of freedom as inputs: 5 standard errors."""
    found = orthogonal_frequencies(3, 3001, torch.Generator().manual_seed(0))
    assert found.shape == (3, 3001)
    for block in found[:, :3000].split(3, 1):
        products = block.T @ block
        assert torch.allclose(products, products.diag().diag(), atol=1e-9)
    squares = found.square().sum(0).numpy()
    law = chi2(3)
    assert abs(squares.mean() - 3) < 5 * law.std() / math.sqrt(3001)
    for share in (0.1, 0.5, 0.9):
        below = (squares < law.ppf(share)).mean()
        assert abs(below - share) < 5 * math.sqrt(share * (1 - share) / 3001)
    assert bool((found.square().mean(1) - 1).abs().max() < 5 * math.sqrt(2 / 3001))


def test_what_never_moves_has_a_scale_all_the_same():
    found = scales_of(torch.zeros(4, 2).double(), torch.zeros(4, 3).double())
    assert found.change.tolist() == [STILL] * 3 and found.centre.tolist() == [0, 0]


def two_state_linear(num_actions=2):
    """A site of two numbers, two actions, features of odd scales."""
    features = Features(4, 2, 5, torch.Generator().manual_seed(1))
    features.set(
        Scales(
            centre=torch.tensor([0.3, -0.2, 0.5, 0.5]).double(),
            spread=torch.tensor([1.5, 0.7, 0.5, 0.5]).double(),
            change=torch.tensor([0.4, 0.9]).double(),
        ),
        Shape.default(4),
    )
    return Linear(
        site="state",
        features=features,
        num_actions=num_actions,
        breaks=("reset", "ended"),
        changes=True,
    )


def two_state_series(length=7):
    generator = torch.Generator().manual_seed(2)
    flags = torch.zeros(1, 1, length).long()
    return {
        "state": torch.randn(1, 1, length, 2, generator=generator).double(),
        "action": torch.randint(2, (1, 1, length), generator=generator),
        "reset": flags,
        "ended": flags,
    }


def test_predictions_have_the_mean_and_spread_of_the_regression():
    """By the normal equations, noise and what is not known of the weights together."""
    linear = two_state_linear()
    learned = WeightsGivenSeries(linear)
    values = two_state_series()
    learned.posterior(values)
    state, action = torch.tensor([0.2, 0.9]).double(), torch.tensor(1)
    mean, spread = learned.predict(state, action)
    rows = linear.phi(values["state"][0, 0, :-1], values["action"][0, 0, :-1])
    change = linear.features.change
    moved = values["state"][0, 0].diff(dim=0) / change
    precision = rows.T @ rows + torch.diag(linear.features.prior_scale**-2)
    weights = torch.linalg.solve(precision, rows.T @ moved)
    phi = linear.phi(state, action)
    rate = 1e-4 + 0.5 * (moved.square().sum(0) - ((rows.T @ moved) * weights).sum(0))
    noise = rate / (2.0 + 6 / 2 - 1)
    unknown = phi @ torch.linalg.solve(precision, phi)
    assert torch.allclose(mean, state + change * (phi @ weights))
    assert torch.allclose(spread, change * (noise * (1 + unknown)).sqrt())


def test_beyond_its_reach_the_linear_part_of_what_is_imagined_goes_on_level():
    """Thirty standard deviations away: one step without noise is the mean of the declared law."""
    linear = two_state_linear()
    features = linear.features
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(2, features.num_features, 2, generator=generator).double()
    far = torch.tensor([[45.0, -21.0], [-45.0, 21.0]]).double()
    actions = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    found = imagine(features, far, actions, weights, torch.zeros(2, 2).double(), generator)
    for k in range(2):
        for n, action in enumerate((1, 0)):
            phi = linear.phi(far[k], torch.tensor(action))
            assert phi[1:3].abs().max() == REACH
            expected = far[k] + features.change * (phi @ weights[k])
            assert torch.allclose(found.states[k, n, 0].double(), expected, atol=1e-3)


# -- a life ----------------------------------------------------------------------------------------


def test_features_are_looked_at_as_the_life_grows_and_fitted_from_ten_slices_on(monkeypatch):
    """At slice 2, then whenever the life has grown by three tenths; a frozen one looks no more."""
    looks = []

    def look(linear, values, *, fit):
        looks.append((values["state"].shape[2], fit))

    monkeypatch.setattr(learning_life, "fit_features", look)
    agent = agent_of_line(preference="mountain_car_continuous")
    list(live(agent, 30))
    expected = [2]
    while math.ceil(1.3 * expected[-1]) <= agent.life.state.length:
        expected.append(math.ceil(1.3 * expected[-1]))
    assert looks == [(length, length >= 10) for length in expected]
    agent.freeze()
    list(live(agent, 20))
    assert len(looks) == len(expected)


def test_one_step_has_no_scale():
    linear = two_state_linear()
    before = linear.features.scales
    learning_life.fit_features(linear, two_state_series(2), fit=False)
    assert linear.features.scales is before
    learning_life.fit_features(linear, two_state_series(3), fit=False)
    assert linear.features.scales is not before


def test_rewards_and_ends_stand_in_the_slice_that_they_led_to():
    agent = agent_of_line()
    told = list(live(agent, 8))
    outcome = agent.life.state.values["outcome"][0, 0]
    begun = agent.life.state.values["reset"].flatten().tolist()
    seen = [row for row, first in zip(outcome.tolist(), begun, strict=True) if not first]
    assert len(seen) == 7  # the last is still to be seen
    assert np.allclose(seen, [[reward, float(over)] for reward, over in told][:7])
    agent.life.observe({"state": torch.zeros(1, 1).double(), **agent.consequences})
    last = agent.life.state.values["outcome"][0, 0, -1].tolist()
    assert last == pytest.approx([told[-1][0], 0.0])


def test_nothing_is_noted_of_a_preference_that_there_is_not():
    agent = agent_of_line()
    list(live(agent, 5))
    assert agent.judge.attained.best == -math.inf and not agent.judge.attained.ended


def test_as_many_draws_are_looked_at_as_are_asked_for(monkeypatch):
    """With one draw sequences cost what they cost under the first particle's weights, without noise."""
    monkeypatch.setitem(WISHES, "far", lambda s, a: -(s[..., 0] - 3).square())
    agent = agent_of_line(preference="far", draws=1, novelty=False)
    list(live(agent, 12))
    state = agent.life.state
    quiet = state.conditioning.unconstrain(
        {"state.noise": state.constrained("state.noise") * 1e-20}
    )
    state = state.with_values(quiet)
    agent.life.state = state
    policies = torch.rand(4, 3, 1)
    found = agent.judge(agent.situation(), policies)["neg_expected_log_preference"]
    linear = agent.world.learned["state"].linear
    weights = agent.situation().state.particles["state.weights"][0, 0]
    for n in range(4):
        now = state.value("state")[0, 0, -1]
        for h in range(3):
            now = now + linear.features.change * (linear.phi(now, policies[n, h]) @ weights)
            assert float(found[n, h]) == pytest.approx(float((now - 3) ** 2), rel=1e-3)


def test_what_is_asked_too_early_or_out_of_range_is_told():
    agent = agent_of_line()
    with pytest.raises(AgentError, match="has seen nothing yet"):
        agent.predict({"state": np.zeros(1)}, np.zeros(1))
    for blur in (0.0, -1.0):
        with pytest.raises(AgentError, match=r"blur=.*more than 0"):
            requirements.read({"blur": blur})
    box = gymnasium.spaces.Box
    space = gymnasium.spaces.Dict(b=box(-1, 1, (2, 3)), a=box(-1, 1, ()))
    assert requirements.joined_streams(space) == (tuple(space.spaces), 7)


# -- worlds that are unlike others -----------------------------------------------------------------


def test_a_scalar_beside_others_is_one_number_of_the_state():
    box = gymnasium.spaces.Box
    space = gymnasium.spaces.Dict(a=box(-1, 1, ()), b=box(-1, 1, (2,)))
    agent = GaussianAgent.build(space, Line.action_space, {}, SMALL, 0)
    agent.begin(seed=0)
    for step in range(4):
        seen = {"a": np.float32(0.1 * step), "b": np.full(2, 0.5, np.float32)}
        assert agent.act(seen).shape == (1,)
        agent.feedback(seen, 0.0, False, False)
    assert agent.life.state.values["state"][0, 0, 3].tolist() == pytest.approx([0.3, 0.5, 0.5])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_numbers_that_are_none_are_told(wrong):
    agent = agent_of_line()
    agent.begin(seed=0)
    with pytest.raises(AgentError, match=r"stream 'state' is .*expected finite"):
        agent.act({"state": np.array([wrong])})
    agent = agent_of_line()
    agent.begin(seed=0)
    agent.act({"state": np.zeros(1)})
    agent.feedback({"state": np.zeros(1)}, wrong, False, False)
    with pytest.raises(AgentError, match=r"reward is .*expected finite"):
        agent.act({"state": np.zeros(1)})


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(3, start=1),
        gymnasium.spaces.MultiDiscrete([2, 2]),
        gymnasium.spaces.Box(-1, 1, ()),
        gymnasium.spaces.Box(-1, 1, (2, 2)),
    ],
)
def test_actions_that_cannot_be_searched_are_refused(space):
    seen = gymnasium.spaces.Dict(state=Line.observation_space)
    with pytest.raises(AgentError, match="Box of one axis"):
        requirements.check(seen, space, {}, {})
    with pytest.raises(AgentError, match="Box of one axis"):
        GaussianAgent.build(seen, space, {}, SMALL, 0)
    requirements.check(seen, gymnasium.spaces.Discrete(3), {}, {})


def test_defaults_are_said_once_for_all():
    """Of what its builder takes, and of its settings file."""
    words = ("agent=gaussian", "env=Gymnasium", "env.id=Pendulum-v1")
    settings = load_config("train", *words)["agent"]
    assert {name: settings[name] for name in requirements.DEFAULTS} == dict(requirements.DEFAULTS)
    assert settings["precision"] == COMMON["precision"]


def test_pictures_are_not_taken_for_a_state():
    picture = gymnasium.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    with pytest.raises(AgentError, match=r"at most 1,000 numbers, here 27,648"):
        requirements.joined_streams(picture)
    assert requirements.joined_streams(gymnasium.spaces.Box(0, 1, (1000,)))[1] == 1000


# -- an agent of hidden velocities -----------------------------------------------------------------


class Seen(gymnasium.Env):
    """The place of a pushed point alone, whose speed lasts."""

    observation_space = gymnasium.spaces.Dict(state=gymnasium.spaces.Box(-5, 5, (1,)))
    action_space = Line.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.speed = 0.0
        return {"state": np.array([self.place])}, {}

    def step(self, action):
        self.speed = 0.9 * self.speed + 0.1 * float(action[0])
        self.place += self.speed
        return {"state": np.array([self.place])}, 0.0, False, False, {}


def test_hidden_velocities_are_planned_on_from_where_all_particles_are(monkeypatch):
    """What is noted is of their mean, what is new by the first one's posterior; nothing is foretold from one place."""
    monkeypatch.setitem(WISHES, "one", lambda s, a: -(s[..., 0] - 1).square() - s[..., 1].square())
    settings = {**SMALL, "hidden_velocities": True, "preference": "one", "blur": 0.01}
    agent = GaussianAgent.build(Seen.observation_space, Seen.action_space, {}, settings, 0)
    list(live(agent, 9, Seen()))
    state = agent.life.state
    x = state.natural["x"][:, 0, :, 0]
    assert not torch.equal(x[0], x[1])
    place, gained = x[:, -1].mean(), (x[:, -1] - x[:, -2]).mean()
    expected = torch.stack([place, gained])
    assert torch.allclose(agent.judge._present(state)[0, :2], expected)
    learned = agent.world.learned["state"]
    posterior = agent.judge._posterior()
    assert torch.equal(posterior.mean, learned.last.regression.mean[0, 0])
    assert torch.equal(posterior.rate, learned.last.regression.rate[0, 0])
    assert agent.world.learned["state"].linear.blur.tolist() == pytest.approx(
        [0.1]
    )  # of a width of 10
    with pytest.raises(AgentError, match="only where velocities are seen"):
        agent.predict({"state": np.zeros(1)}, np.zeros(1))


def test_positions_begin_where_they_are_seen():
    settings = {**SMALL, "hidden_velocities": True, "preference": "cart_pole_positions"}
    agent = GaussianAgent.build(Seen.observation_space, Seen.action_space, {}, settings, 0)
    agent.begin(seed=0)
    told = {"state": torch.tensor([[0.7]]).double(), **agent.consequences}
    begun = agent.life._begun(agent.life._slice(told))
    assert begun.natural["x"][:, 0, 0].tolist() == [[pytest.approx(0.7)]] * 2
