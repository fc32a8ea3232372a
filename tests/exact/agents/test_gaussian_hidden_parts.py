"""Parts of hidden velocities, each against its definition: where episodes begin, and new positions."""

import math

import numpy as np
import pytest
import torch

from aif_dcpc.agents.gaussian.features import Scales, Shape
from aif_dcpc.agents.gaussian.hidden import declare_hidden
from aif_dcpc.inference import DCPC

BLUR = torch.tensor([0.05, 0.2]).double()


def hidden(length, particles):
    """Two positions of which a few slices were seen, one episode; a cloud over them."""
    found = declare_hidden(
        blur=BLUR,
        num_inputs=6,
        num_actions=None,
        num_waves=4,
        generator=torch.Generator().manual_seed(0),
    )
    scales = Scales(
        centre=torch.linspace(-0.2, 0.3, 6).double(),
        spread=torch.linspace(0.5, 1.0, 6).double(),
        change=torch.tensor([0.3, 0.2]).double(),
    )
    found.features("state").set(scales, Shape.default(6))
    source = np.random.default_rng(0)
    data = {
        "seen": torch.tensor(source.normal(size=(1, length, 2))),
        "action": torch.tensor(source.normal(size=(1, length, 1))),
        "reset": (torch.arange(length) == 0).long()[None],
        "ended": torch.zeros(1, length),
    }
    engine = DCPC(found.model, num_particles=particles, seed=0)
    return found, engine.init(data, seed=0).natural


def told(seen, **flags):
    return {
        "seen": torch.tensor([seen]).double(),
        "action": torch.zeros(1, 1).double(),
        "reset": torch.tensor([flags.get("reset", 0)]),
        "ended": torch.tensor([float(flags.get("ended", 0))]),
    }


@pytest.mark.parametrize("begun", [False, True])
def test_the_second_position_of_an_episode_or_one_after_its_end_may_be_anywhere_near(begun):
    """Within three times the usual velocity of the position before, whatever the weights say."""
    found, values = hidden(4, 3)
    values["reset"][..., -1] = int(begun)
    observation = told([0.4, -0.3], ended=int(not begun))
    _, log_weights = found.model.slice_proposal(values, observation, torch.Generator())
    features = found.features("state")
    learned = found.learned["state"]
    for k in range(3):
        scale = (9 * features.spread[2:4].square() + BLUR.square()).sqrt()
        law = torch.distributions.Normal(values["x"][k, 0, -1], scale)
        expected = float(law.log_prob(observation["seen"][0]).sum())
        assert float(log_weights[k, 0]) == pytest.approx(expected)
    assert learned.first().mean.shape == (features.num_features, 2)


@pytest.mark.parametrize(("length", "reset"), [(4, 1), (1, 0)])
def test_an_episode_begins_where_positions_usually_are_and_so_does_the_second_slice_of_a_life(
    length, reset
):
    found, values = hidden(length, 2)
    observation = told([0.4, -0.3], reset=reset)
    _, log_weights = found.model.slice_proposal(values, observation, torch.Generator())
    features = found.features("state")
    scale = (4 * features.spread[:2].square() + BLUR.square()).sqrt()
    law = torch.distributions.Normal(features.centre[:2], scale)
    expected = float(law.log_prob(observation["seen"][0]).sum())
    assert float(log_weights[0, 0]) == pytest.approx(expected)


def test_new_positions_are_drawn_between_what_is_foretold_and_what_is_seen():
    """A Gaussian of both, by 4,000 draws of one particle's history: 5 standard errors."""
    found, values = hidden(4, 1)
    own = ("x", "x.weights", "x.noise")
    many = {n: v.expand(4000, *v.shape[1:]) if n in own else v for n, v in values.items()}
    observation = told([1.4, -2.3], ended=1)
    new, _ = found.model.slice_proposal(many, observation, torch.Generator().manual_seed(0))
    drawn = new["x"][:, 0, -1]
    assert torch.equal(new["x"][:, :, :4], many["x"])
    prior = 1 / (9 * found.features("state").spread[2:4].square())
    seen = 1 / BLUR.square()
    mean = (prior * many["x"][0, 0, -1] + seen * observation["seen"][0]) / (prior + seen)
    variance = 1 / (prior + seen)
    assert ((drawn.mean(0) - mean).abs() < 5 * (variance / 4000).sqrt()).all()
    assert ((drawn.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / 4000)).all()
