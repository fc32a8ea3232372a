"""Preferences of known worlds against those worlds' own formulas, and the units that a world counts in."""

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gaussian.agent import widths_of
from aif_dcpc.agents.gaussian.evidence import scales_of
from aif_dcpc.agents.gaussian.features import Features, Scales, Shape
from aif_dcpc.agents.gaussian.learning_life import fit_features, latest_and_some
from aif_dcpc.agents.gaussian.model import declare
from aif_dcpc.agents.gaussian.preferences import WISHES, find_wish

NOTHING = torch.zeros(1)
SOURCE = np.random.default_rng(0)


def wished(name, state, action=NOTHING):
    return float(WISHES[name](torch.as_tensor(state), torch.as_tensor(action)))


@pytest.mark.parametrize("seed", range(4))
def test_a_pendulum_is_wished_for_what_its_world_pays(seed):
    """The reward of Pendulum-v1, at the state before the step."""
    env = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=seed)
    force = SOURCE.uniform(-2, 2, 1).astype(np.float32)
    _, reward, *_ = env.step(force)
    assert wished("pendulum", observation, force) == pytest.approx(reward, abs=1e-5)


def test_what_positions_gain_tells_the_speed():
    """Cosine and sine that turn by .1 in a twentieth second: 2 rad/s; their gains tell it to 1 %."""
    angle, turn = 0.4, 0.1
    now = np.array([np.cos(angle), np.sin(angle)])
    gained = now - [np.cos(angle - turn), np.sin(angle - turn)]
    found = wished("pendulum_positions", [*now, *gained], [1.5])
    expected = wished("pendulum", [*now, 2.0], [1.5])
    assert found == pytest.approx(expected, abs=0.01) and expected < -0.5


def test_carts_and_poles_are_wished_upright_and_in_the_middle():
    assert wished("cart_pole", [0.6, 9.0, -0.2, 9.0]) == pytest.approx(-0.5 * (4 + 0.36))
    assert wished("cart_pole_positions", [0.6, -0.2, 9.0, 9.0]) == pytest.approx(-0.5 * (4 + 0.36))
    for name, still in (("cart_pole", [0.0] * 4), ("cart_pole_positions", [0.0] * 4)):
        assert wished(name, still) == 0


def test_cars_are_wished_at_the_flag():
    assert wished("mountain_car", [-0.5, 0.0]) == -1 and wished("mountain_car", [0.6, 0.0]) == 0
    assert wished("mountain_car_continuous", [-0.5, 0.0], [0.5]) == pytest.approx(-4 - 0.025)
    assert wished("mountain_car_continuous", [0.5, 0.0]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_acrobot_is_wished_as_high_as_its_world_ends(seed):
    """The free end stands at -cos a - cos(a + b) above the bar; the line is at 1."""
    a, b = np.random.default_rng(seed).uniform(-np.pi, np.pi, 2)
    below = max(0.0, 1 + np.cos(a) + np.cos(a + b))
    state = [np.cos(a), np.sin(a), np.cos(b), np.sin(b), 0.0, 0.0]
    assert wished("acrobot", state) == pytest.approx(-0.5 * (below / 0.5) ** 2)


def test_a_body_is_wished_within_its_range():
    inside = [0.0, 0.0, 0.39, 9.0, 9.0, -0.4]
    assert wished("allostasis", inside) == 0
    assert wished("allostasis", [0.0, 0.0, 0.9, 0.0, 0.0, -0.6]) == pytest.approx(
        -4 * (0.25 + 0.04)
    )


def test_a_preference_is_found_by_its_name_or_told_what_there_is():
    assert find_wish("acrobot") is WISHES["acrobot"] and find_wish("math:sqrt")(4) == 2
    for name, words in (
        ("acrobat", "acrobot"),
        ("math:squirt", "squirt"),
        ("math:pi", "expected a function"),
    ):
        with pytest.raises(AgentError, match=words):
            find_wish(name)


# -- units -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-7, 1.0, 1e7])
def test_a_world_counts_in_whatever_unit_it_likes(unit):
    """Scales go with the unit, as do offsets; constants have a spread of 1."""
    inputs = torch.from_numpy(SOURCE.normal(3.0, 2.0, (50, 3)))
    inputs[:, 2] = 0.7
    changes = torch.from_numpy(SOURCE.normal(size=(50, 2)))
    one = scales_of(inputs, changes)
    other = scales_of(unit * inputs, unit * changes)
    assert one.spread[:2].allclose(inputs[:, :2].std(0, correction=0)) and one.spread[2] == 1
    assert one.change.allclose(changes.square().mean(0).sqrt())
    assert torch.allclose(other.centre, unit * one.centre, rtol=1e-9)
    assert torch.allclose(other.change, unit * one.change, rtol=1e-9)
    assert torch.allclose(other.spread[:2], unit * one.spread[:2], rtol=1e-6)
    assert other.spread[2] == 1
    assert scales_of(0 * inputs, 0 * changes).spread.tolist() == [1, 1, 1]


def test_features_are_fitted_in_the_units_of_the_world():
    """What is predicted counts in its own root mean square, whatever unit it had before."""
    series = SOURCE.normal(size=(1, 1, 30, 2)).cumsum(2)
    values = {
        "state": torch.from_numpy(series),
        "action": torch.zeros(1, 1, 30, 1).double(),
        "reset": torch.zeros(1, 30).long(),
        "ended": torch.zeros(1, 30),
    }
    world = declare(
        num_states=2,
        num_inputs=3,
        num_actions=None,
        num_waves=4,
        outcomes=False,
        generator=torch.Generator().manual_seed(0),
    )
    linear = world.learned["state"].linear
    values = {name: value if value.ndim > 2 else value[None] for name, value in values.items()}
    moved = np.diff(series[0, 0], axis=0)
    for _ in range(2):
        fit_features(linear, values, fit=False)
        found = linear.features.scales.change.numpy()
        assert np.allclose(found, np.sqrt((moved**2).mean(0)))


def test_the_latest_rows_and_some_earlier_ones_are_fitted_to(monkeypatch):
    monkeypatch.setattr("aif_dcpc.agents.gaussian.learning_life.ROWS", 6)
    assert latest_and_some(6).tolist() == list(range(6))
    assert latest_and_some(23).tolist() == [0, 9, 19, 20, 21, 22]


def test_widths_are_those_of_the_bounds_and_1_without():
    box = gymnasium.spaces.Box
    low, high = np.array([[-1, -np.inf], [3, 0]], np.float32)
    space = gymnasium.spaces.Dict(a=box(low, high), b=box(-1e9, 1e9, (2, 1)), c=box(2.0, 2.5, (1,)))
    assert widths_of(space).tolist() == [4.0, 1.0, 1.0, 1.0, 0.5]
    assert widths_of(box(low, high)).tolist() == [4.0, 1.0]


def test_features_are_a_constant_the_values_and_waves():
    """With two waves of known direction: written out, beyond the reach of the linear part as well."""
    features = Features(1, 1, 2, torch.Generator().manual_seed(0))
    features.set(
        Scales(
            centre=torch.tensor([2.0]).double(),
            spread=torch.tensor([0.5]).double(),
            change=torch.ones(1).double(),
        ),
        Shape.default(1),
    )
    for value in (2.5, 100.0):
        z = (value - 2) / 0.5
        waves = torch.cos(z * features.base[0] / 3 + features.phases)
        found = features(torch.tensor([value]).double())
        assert torch.allclose(found, torch.cat([torch.tensor([1.0, min(z, 10.0)]).double(), waves]))
