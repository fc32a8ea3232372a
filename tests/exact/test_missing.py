"""Data that are partly missing, in all the places where they may be: posteriors by closed forms.

Monte Carlo checks allow 5 standard errors of independent particles at fixed seeds.
"""

import math

import pytest
import torch
from torch import distributions as d

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, lag

K = 1500
NAN = float("nan")


def close(draws, mean, variance):
    """Mean and variance of Gaussian draws within 5 standard errors."""
    draws, n = draws.double().flatten(), draws.numel()
    near = abs(draws.mean() - mean) < 5 * math.sqrt(variance / n)
    return bool(near and abs(draws.var() / variance - 1) < 5 * math.sqrt(2 / n))


def drift():
    """x' = x + z + noise of standard deviation .5, with an unknown drift z."""
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site(
        "x", lambda x, z: d.Normal(x + z, 0.5), [lag("x"), "z"], initial=lambda z: d.Normal(0 * z, 1.0), scope="slice"
    )
    return model


@pytest.mark.parametrize("hidden", [0.0, NAN])
def test_a_hidden_slice_of_an_observed_series_is_inferred(hidden):
    """x_2 given x_0 and z is Normal(x_0 + 2 z, variance .5): z has precision 1 + 4 / .5 and mean (2 * 4 / .5) / 9."""
    engine = DCPC(drift(), num_particles=K)
    shown = torch.tensor([[True, False, True]])
    state = engine.init({"x": torch.tensor([[0.0, hidden, 4.0]])}, masks={"x": shown}, seed=0)
    state, _ = engine.run(state, 60)
    assert close(state.particles["z"], 16 / 9, 1 / 9)
    assert (state.particles["x"][..., [0, 2]] == torch.tensor([0.0, 4.0])).all()
    assert close(state.particles["x"][..., 1], 2.0, 0.125)  # halfway, whatever the drift


def test_forecasts_start_from_what_is_inferred_at_a_hidden_end():
    model = GraphicalModel()
    model.add_site("x", lambda x: d.Normal(x, 0.5), [lag("x")], initial=lambda: d.Normal(0.0, 1.0), scope="slice")
    engine = DCPC(model, num_particles=K)
    shown = torch.tensor([[True, False, True, False]])
    state = engine.init({"x": torch.tensor([[0.0, 9.0, 4.0, 1.0]])}, masks={"x": shown}, seed=0)
    state, _ = engine.run(state, 60)
    assert close(engine.forecast(state, length=1)["x"], 4.0, 0.5)


def two_readings():
    model = GraphicalModel()
    model.add_site("z", lambda: d.Normal(0.0, 1.0))
    model.add_site("x", lambda z: d.Gamma(2.0 + 0 * z, z.exp()), ["z"])
    model.add_site("y", lambda z: d.Normal(z, 0.5), ["z"])
    return model


@pytest.mark.parametrize("hidden", [NAN, -1.0])
def test_a_site_that_is_hidden_everywhere_says_nothing(hidden):
    engine = DCPC(two_readings(), num_particles=K)
    data = {"x": torch.tensor([hidden]), "y": torch.tensor([2.0])}
    state, _ = engine.run(engine.init(data, masks={"x": torch.tensor([False])}, seed=0), 60)
    assert state.problem.latent == ("z",)
    assert close(state.particles["z"], 1.6, 0.2)


def test_a_mask_needs_data():
    engine = DCPC(two_readings())
    with pytest.raises(ClampError, match="'x': a mask needs data"):
        engine.init({"y": torch.zeros(2)}, masks={"x": torch.ones(2, dtype=torch.bool)})


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (1,)])
def test_masks_of_wrong_shapes_are_refused(shape):
    data = {"x": torch.ones(2), "y": torch.ones(2)}
    with pytest.raises(ClampError, match="mask of site 'x': expected one flag per value"):
        DCPC(two_readings()).init(data, masks={"x": torch.ones(shape, dtype=torch.bool)})
