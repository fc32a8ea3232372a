"""The declared world, its exact draw of weights, and its fast imagination, against the engine's own general ways."""

import math
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from clouds import close

from aif_dcpc.agents.gaussian.features import Scales, Shape
from aif_dcpc.agents.gaussian.imagination import imagine, novelty, outcomes
from aif_dcpc.agents.gaussian.judge import GaussianJudge
from aif_dcpc.agents.gaussian.linear import Linear
from aif_dcpc.agents.gaussian.model import declare
from aif_dcpc.agents.gaussian.regression import Regression, Sums
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.inference import DCPC, check_model

STATES, ACTIONS, LENGTH = 2, 3, 9


def world(outcomes=False, num_actions=ACTIONS, waves=5):
    found = declare(
        num_states=STATES,
        num_inputs=STATES + ACTIONS,
        num_actions=num_actions,
        num_waves=waves,
        outcomes=outcomes,
        generator=torch.Generator().manual_seed(0),
    )
    for conditional in found.learned.values():
        features = conditional.linear.features
        one = torch.ones(STATES + ACTIONS, dtype=torch.double)
        features.set(
            Scales(centre=0.1 * one, spread=1.5 * one, change=0.7 * one[: len(features.change)]),
            Shape(lengthscales=2 * one, linear=0.4 * one[0], waves=0.6 * one[0]),
        )
    return found


def series(length=LENGTH, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    reset = torch.zeros(batch, length, dtype=torch.long)
    reset[:, [0, 5]] = 1
    ended = torch.zeros_like(reset)
    ended[:, 4] = 1
    return {
        "state": torch.randn(batch, length, STATES, generator=generator, dtype=torch.double),
        "action": torch.randint(ACTIONS, (batch, length), generator=generator),
        "reset": reset,
        "ended": ended,
    }


def with_outcome(data):
    outcome = torch.stack([data["state"][..., 0].cos(), data["ended"].double()], -1)
    return {**data, "outcome": outcome}


def test_the_draw_of_weights_leaves_the_joint_as_it_is():
    """Geweke's test: drawn from the model, or swept given fresh data in turn; false alarm at most 1e-5."""
    inputs = {name: value[:, :4] for name, value in series().items() if name != "state"}
    assert check_model(world(waves=2).model, inputs, replicates=1000) == ()


def test_only_steps_that_follow_teach():
    """Slices 1, 2, 3, 6, 7, 8 follow; 4 ended, perhaps half way, and 5 is another episode's first."""
    told = world()
    data = series()
    values = {n: v[None] for n, v in data.items()}
    linear = told.learned["state"].linear
    found = told.learned["state"].posterior(values)
    rows = torch.tensor([1, 2, 3, 6, 7, 8])
    phi = linear.phi(data["state"][0, rows - 1], data["action"][0, rows - 1])
    changes = (data["state"][0, rows] - data["state"][0, rows - 1]) / 0.7
    expected = Regression.given(Sums.of(phi, changes), linear.features.prior_scale)
    assert torch.allclose(found.mean, expected.mean)
    assert torch.allclose(found.rate, expected.rate)


def test_outcomes_are_learned_of_steps_that_end():
    told = world(outcomes=True)
    data = with_outcome(series())
    linear = told.learned["outcome"].linear
    found = told.learned["outcome"].posterior({n: v[None] for n, v in data.items()})
    rows = torch.tensor([1, 2, 3, 4, 6, 7, 8])
    phi = linear.phi(data["state"][0, rows - 1], data["action"][0, rows - 1])
    expected = Regression.given(
        Sums.of(phi, data["outcome"][0, rows] / 0.7), linear.features.prior_scale
    )
    assert torch.allclose(found.mean, expected.mean)


def grown(told, data):
    """The posterior after every length, one conditional all along."""
    conditional = told.learned["state"]
    for length in range(2, LENGTH + 1):
        yield conditional.posterior({n: v[None, :, :length] for n, v in data.items()})


def test_a_series_that_grows_is_summed_as_at_once():
    data = series()
    for length, found in enumerate(grown(world(), data), 2):
        whole = (
            world().learned["state"].posterior({n: v[None, :, :length] for n, v in data.items()})
        )
        assert torch.allclose(found.mean, whole.mean, atol=1e-9)
        assert float(found.shape) == float(whole.shape)


def test_the_last_action_may_be_set_later():
    data = series()
    told = world().learned["state"]
    untold = data["action"].clone()
    untold[:, 4] = 0
    data["reset"][:, 5] = data["ended"][:, 4] = 0
    early = {n: v[None, :, :5] for n, v in {**data, "action": untold}.items()}
    told.posterior(early)
    found = told.posterior({n: v[None, :, :7] for n, v in data.items()})
    fresh = world().learned["state"].posterior({n: v[None, :, :7] for n, v in data.items()})
    assert torch.allclose(found.mean, fresh.mean, atol=1e-9)


@pytest.mark.parametrize("name", ["state", "action", "reset"])
def test_another_past_is_summed_anew(name):
    data = series()
    told = world().learned["state"]
    told.posterior({n: v[None] for n, v in data.items()})
    other = data[name].clone()
    other[:, 1:3] = other[:, 1:3].eq(0).to(other) if name != "state" else 0.5
    changed = {n: v[None] for n, v in {**data, name: other}.items()}
    fresh = world().learned["state"].posterior(changed)
    assert torch.allclose(told.posterior(changed).mean, fresh.mean, atol=1e-9)


def test_other_features_are_summed_anew():
    told = world()
    values = {n: v[None] for n, v in series().items()}
    conditional = told.learned["state"]
    conditional.posterior(values)
    features = conditional.linear.features
    shape = Shape(
        lengthscales=0.5 * features.shape.lengthscales,
        linear=features.shape.linear,
        waves=features.shape.waves,
    )
    features.set(features.scales, shape)
    again = conditional.posterior(values)
    conditional.last = None
    assert torch.allclose(again.mean, conditional.posterior(values).mean)


def test_series_of_particles_have_a_posterior_each():
    told = world()
    one = {n: v[None] for n, v in series().items()}
    other = {n: v[None] for n, v in series(seed=1).items()}
    both = {**one, "state": torch.cat([one["state"], other["state"]])}
    found = told.learned["state"].posterior(both)
    for particle, state in enumerate((one["state"], other["state"])):
        alone = world().learned["state"].posterior({**one, "state": state})
        assert torch.allclose(found.mean[particle, 0], alone.mean)
        assert torch.allclose(found.rate[particle, 0], alone.rate)


def test_several_lives_are_summed_together():
    data = series(batch=2)
    found = world().learned["state"].posterior({n: v[None] for n, v in data.items()})
    linear = world().learned["state"].linear
    parts = [
        world().learned["state"]._sums({n: v[None, b : b + 1] for n, v in data.items()}, 0, True)
        for b in range(2)
    ]
    expected = Regression.given(parts[0] + parts[1], linear.features.prior_scale)
    assert torch.allclose(found.mean, expected.mean)


def test_a_slice_is_appended_with_the_weight_of_its_density():
    """The model's own proposal weighs particles as the engine's general one does."""
    data = with_outcome(series())
    told = world(outcomes=True)
    engine = DCPC(told.model, num_particles=6, seed=0)
    state = engine.init({n: v[:, :7] for n, v in data.items()})
    new = {n: v[:, 7] for n, v in data.items()}
    own = engine.append(state, new, torch.Generator().manual_seed(0))
    told.model.slice_proposal = None
    general = engine.append(state, new, torch.Generator().manual_seed(0))
    assert torch.allclose(own.log_evidence.double(), general.log_evidence.double())
    assert own.length == general.length == 8


# -- imagination -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived():
    """A world, its engine and a cloud after some steps."""
    told = world(outcomes=True)
    engine = DCPC(told.model, num_particles=4, seed=0)
    state = engine.init(with_outcome(series()))
    state, _ = engine.sweep(state)
    return told, engine, state


def quiet(state, block):
    """The same cloud with next to no noise."""
    noise = block[1]
    unconstrained = state.conditioning.unconstrain({noise: state.constrained(noise) * 1e-20})
    return state.with_values(unconstrained)


def imagined(told, state, actions, seed=0):
    linear = told.learned["state"].linear
    weights, noise = (state.particles[name][:, 0] for name in linear.block)
    now = state.value("state")[:, 0, -1].expand(len(weights), -1)
    one_hot = torch.nn.functional.one_hot(actions, ACTIONS)
    futures = imagine(
        linear.features, now, one_hot, weights, noise, torch.Generator().manual_seed(seed)
    )
    return futures, one_hot


def test_imagination_follows_the_declared_kernel(lived):
    told, engine, state = lived
    block = told.learned["state"].linear.block
    state = quiet(state, block)
    actions = torch.randint(ACTIONS, (5, 6), generator=torch.Generator().manual_seed(1))
    futures, _ = imagined(told, state, actions)
    found = engine.imagine(state, {"action": actions}, ["state"])["state"]
    assert torch.allclose(futures.states.double(), found, atol=1e-4)
    linear = told.learned["state"].linear
    phi = linear.phi(futures.before[0].double(), actions)
    assert torch.allclose(futures.features.double(), phi, atol=1e-5)
    assert torch.equal(futures.before[:, :, 1:], futures.states[:, :, :-1])


def test_imagined_outcomes_are_the_declared_means(lived):
    told, engine, state = lived
    for name in ("state", "outcome"):
        state = quiet(state, told.learned[name].linear.block)
    actions = torch.randint(ACTIONS, (5, 6), generator=torch.Generator().manual_seed(1))
    futures, one_hot = imagined(told, state, actions)
    linear = told.learned["outcome"].linear
    weights = state.particles[linear.block[0]][:, 0]
    found = outcomes(linear.features, futures, one_hot, weights)
    expected = engine.imagine(state, {"action": actions}, ["outcome"])["outcome"]
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_imagined_noise_has_the_declared_variance(lived):
    """One step: Gaussian about the mean with variance change^2 noise, shared by all candidates."""
    told, _, state = lived
    linear = told.learned["state"].linear
    noise = state.particles[linear.block[1]][:1, 0]
    weights = state.particles[linear.block[0]][:1, 0]
    now = state.value("state")[0, 0, -1:]
    one_hot = torch.eye(ACTIONS)[:, None]
    draws = 3000
    wide = imagine(
        linear.features,
        now.expand(draws, -1),
        one_hot,
        weights.expand(draws, -1, -1),
        noise.expand(draws, -1),
        torch.Generator().manual_seed(0),
    ).states[:, :, 0]
    still = imagine(linear.features, now, one_hot, weights, 0 * noise, torch.Generator()).states[
        :, :, 0
    ]
    deviations = (wide - still).double()
    assert torch.allclose(deviations[:, 0], deviations[:, 2], atol=1e-4)
    for output in range(STATES):
        variance = float(0.7**2 * noise[0, output])
        assert close(deviations[:, 0, output], 0.0, variance)


# -- what futures are worth -------------------------------------------------------------------------


def judged(lived, policies, *, wish=None, quietly=False, frozen=False, **settings):
    told, engine, state = lived
    for name in ("state", "outcome") if quietly else ():
        state = quiet(state, told.learned[name].linear.block)
    situation = Situation(
        engine=engine,
        state=state,
        action="action",
        action_space=gymnasium.spaces.Discrete(ACTIONS),
        preferences={},
        generator=torch.Generator().manual_seed(0),
        frozen=frozen,
    )
    return GaussianJudge(world=told, wish=wish, **settings)(situation, policies), state


def test_terms_add_up_to_preference_and_novelty(lived):
    """Risk is the cross entropy less the entropy of the noise; novelty that of the last posterior."""
    policies = torch.randint(ACTIONS, (5, 6), generator=torch.Generator().manual_seed(1))
    terms, state = judged(lived, policies, wish=lambda s, a: -s.square().sum(-1) + a[..., 0])
    told, _, _ = lived
    futures, one_hot = imagined(told, state, policies)
    expected = futures.states.square().sum(-1).mean(0) - one_hot[..., 0]
    assert torch.allclose(terms["neg_expected_log_preference"], expected, atol=1e-5)
    noise = state.particles["state.noise"][:, 0]
    variance = 2 * np.pi * np.e * noise * 0.7**2
    entropy = (0.5 * variance.log().sum(-1)).mean()
    assert torch.allclose(terms["ambiguity"].double(), entropy.expand(5, 6), atol=1e-5)
    assert torch.allclose(terms["risk"] + terms["ambiguity"], expected, atol=1e-4)
    told_by = novelty(told.learned["state"].last.regression, futures.features, 0.03)
    remain = torch.arange(told_by.shape[1], 0, -1)  # steps in which it can be used
    told_by = told_by * remain / (0.5 * (told_by.shape[1] + 1))
    assert torch.allclose(terms["novelty"], told_by) and float(told_by.min()) > 0
    blind, _ = judged(lived, policies, wish=lambda s, a: s[..., 0], novelty=False)
    assert not blind["novelty"].any()
    frozen, _ = judged(lived, policies, wish=lambda s, a: s[..., 0], frozen=True)
    assert not frozen["novelty"].any()


def test_reward_counts_until_the_end(lived):
    """Each step's mean reward times the chance that no step before it has ended, both clipped to what is possible."""
    policies = torch.randint(ACTIONS, (5, 6), generator=torch.Generator().manual_seed(1))
    terms, state = judged(lived, policies, quietly=True, reward_scale=3.0, draws=4)
    _, engine, _ = lived
    found = engine.imagine(state, {"action": policies}, ["outcome"])["outcome"]
    reward, ended = found.unbind(-1)
    expected = torch.zeros(5, 6, dtype=torch.double)
    for step in range(6):
        goes_on = (1 - ended[..., :step].clamp(0, 1)).prod(-1)
        expected[:, step] = 3 * (goes_on * reward[..., step]).mean(0)
    assert torch.allclose(-terms["neg_expected_log_preference"].double(), expected, atol=1e-4)


def test_linear_names_its_sites():
    linear = world().learned["state"].linear
    assert isinstance(linear, Linear) and linear.block == ("state.weights", "state.noise")


def test_what_is_next_to_unknown_is_told_in_double_precision():
    """Three steps at one place: ln det(I + 1e12 everywhere) / 2, where single precision has no root."""
    nearly_nothing = SimpleNamespace(
        noise=torch.ones(1).double(), whitening=1e6 * torch.eye(2).double()
    )
    places = torch.tensor([0.6, 0.8]).expand(1, 3, 2)
    found = novelty(nearly_nothing, places)
    assert found.dtype == torch.float32
    assert float(found.sum()) == pytest.approx(0.5 * math.log(1 + 3e12), abs=0.01)
