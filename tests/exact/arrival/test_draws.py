"""What draws of `engine.sample` carry with them, and which models it refuses."""

import math

import pytest
import torch
from block_models import MODELS, data
from clouds import chains_agree
from models import wide_gaussian_pair
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, NonFiniteError
from aif_dcpc.inference.arrival.draws import element_names


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


def test_a_printed_summary_has_a_row_for_each_number_and_counts_all_draws():
    """Rows are recomputed from the draws; beyond forty the rest is counted."""
    model = GraphicalModel()
    model.add_site("mean", lambda: Normal(0.0, 1.0))
    model.add_site("many", lambda: Independent(Normal(torch.zeros(45), 1.0), 1))
    draws = DCPC(model).sample(batch_size=1, num_particles=16, seed=0)
    header, first, *others = str(draws).splitlines()
    assert header.split("  ")[-1].strip() == "tail ESS" and "50 %" in header
    label, *numbers = first.split()
    assert label == "mean"
    flat = draws["mean"].flatten().double()
    levels = torch.tensor([0.05, 0.5, 0.95]).double()
    expected = [flat.mean(), flat.std(), *torch.quantile(flat, levels)]
    assert [float(x) for x in numbers[:5]] == pytest.approx([float(x) for x in expected], rel=1e-3)
    assert float(numbers[6]) == round(float(draws.bulk_ess["mean"]))
    assert others[0].startswith("many[0] ") and others[38].startswith("many[38] ")
    assert others[39] == "... and 6 more rows: see .summary()"
    assert others[40].startswith(f"{draws['mean'].numel()} draws, ")
    assert [label for label, _ in draws.summary()][-1] == "many[44]"


def test_numbers_are_named_by_their_place():
    assert element_names("z", (1,)) == ["z"]
    assert element_names("z", (2,)) == ["z[0]", "z[1]"]
    assert element_names("z", (1, 2, 2)) == ["z[0, 0]", "z[0, 1]", "z[1, 0]", "z[1, 1]"]
    assert element_names("z", (2, 1)) == ["z[0, 0]", "z[1, 0]"]
    assert element_names("z", ()) == ["z"]


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
