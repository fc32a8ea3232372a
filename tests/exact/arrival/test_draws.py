"""What draws of `engine.sample` carry with them, and which models it refuses."""

import math

import pytest
import torch
from block_models import MODELS, data
from clouds import chains_agree
from models import wide_gaussian_pair
from torch.distributions import Normal

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, NonFiniteError


@pytest.mark.parametrize("name", ["one_slice", "shared", "switched", "path"])
def test_draws_carry_their_log_joint(name):
    """That of the last draw is the engine's; where data share a latent, it counts once for all of them."""
    model, observed = MODELS[name]()
    engine = DCPC(model)
    draws = engine.sample(observed, num_particles=32, seed=0)
    last = engine.log_joint(draws.state)
    if name == "shared":
        common = (
            sum(engine.law(draws.state, n).log_prob(draws[n][-1]) for n in ("mean", "spread"))
            + draws["spread"][-1].log()
        )
        last = last.sum(1, keepdim=True) - 2 * common
    assert torch.allclose(draws.log_joint[-1], last)
    for site, values in draws.values.items():
        assert torch.equal(values[-1], draws.state.particles[site])


def test_the_same_seed_gives_the_same_bits():
    engine = DCPC(wide_gaussian_pair(1.0, torch.float32))
    observed = {"x": torch.tensor([1.0])}
    first, second, other = (engine.sample(observed, num_particles=16, seed=s) for s in (3, 3, 4))
    assert torch.equal(first["z"], second["z"])
    assert torch.equal(first.log_joint, second.log_joint)
    assert not torch.equal(first["z"][:20], other["z"][:20])


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_few_particles_are_enough_for_a_gaussian(number):
    draws = DCPC(wide_gaussian_pair(1.0, torch.float64)).sample(
        {"x": torch.tensor([1.0]).double()}, num_particles=number, seed=0
    )
    z = draws["z"].flatten()
    error = math.sqrt(0.2 / float(draws.bulk_ess["z"]))
    assert abs(float(z.mean()) - 0.8) < 5 * error


def test_without_data_draws_are_those_of_the_prior():
    draws = DCPC(wide_gaussian_pair(2.0, torch.float64)).sample(batch_size=2, seed=0)
    assert chains_agree(draws["z"], torch.zeros(2), torch.full((2,), 4.0))
    assert chains_agree(draws["x"], torch.zeros(2), torch.full((2,), 4.25))


def test_a_move_of_the_users_takes_part():
    """u is visited by its own move, z moves in the block: z, u given x jointly Gaussian."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("u", lambda z: Normal(z, 1.0), ["z"])
    model.add_site("x", lambda u: Normal(u, 1.0), ["u"])
    draws = DCPC(model, moves={"u": "prior"}).sample({"x": torch.tensor([1.5])}, seed=0)
    assert chains_agree(draws["z"], 0.5, 2 / 3)
    assert chains_agree(draws["u"], 1.0, 2 / 3)


# -- what is refused -------------------------------------------------------------------------------


def test_a_model_of_which_all_is_given_is_refused():
    model = wide_gaussian_pair(1.0, torch.float32)
    with pytest.raises(ModelError, match="nothing is left to draw"):
        DCPC(model).sample({"x": torch.zeros(1), "z": torch.zeros(1)})


def test_a_posterior_without_density_is_refused_by_the_site_that_has_none():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z, torch.where(z > 50, 1.0, math.nan)), ["z"])
    with pytest.raises(NonFiniteError, match="site 'x'"):
        DCPC(model).sample({"x": data(2).float()}, seed=0)
