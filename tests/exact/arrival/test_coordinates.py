"""Charts of a block: there and back, determinants against automatic differentiation, what stays where it is."""

import pytest
import torch
from block_models import MODELS, data, number, path, schools, shared, switched
from torch.autograd.functional import jacobian
from torch.distributions import (
    Categorical,
    HalfNormal,
    Independent,
    MultivariateNormal,
    Normal,
)

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.model.coordinates import Block

K = 2


def block_of(model, observed, names=None, **setup):
    """The block of a cloud of two particles."""
    state = DCPC(model, num_particles=K).init(observed, seed=0, **setup)
    return Block.of(state, names)


def vectors(block, seed=1):
    """Standard normal vectors of a block's shape."""
    return data(K, block.num_chains, block.dimension, seed=seed)


def log_determinants(block, standardised):
    """log |det| of the map to declared coordinates chain by chain, `(K, G)`; chains do not mix."""
    whole = jacobian(lambda w: block.to_declared(w)[0], standardised)
    found = torch.zeros(whole.shape[:2], dtype=torch.float64)
    for k, g in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        found[k, g] = torch.linalg.slogdet(whole[k, g, :, k, g])[1]
        whole[k, g, :, k, g] = 0
    assert not whole.any()
    return found


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_charts_lead_there_and_back(build):
    block = block_of(*build())
    w = vectors(block)
    there, _ = block.to_declared(w)
    assert torch.allclose(block.to_standardised(there), w, atol=1e-10)
    back, _ = block.to_declared(block.to_standardised(w))
    assert torch.allclose(back, w, atol=1e-10)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_determinants_are_those_of_the_map(build):
    block = block_of(*build())
    w = vectors(block)
    assert torch.allclose(block.to_declared(w)[1], log_determinants(block, w), atol=1e-10)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_values_and_vectors_hold_the_same_numbers(build):
    block = block_of(*build())
    flat = vectors(block)
    values = block.unflatten(flat)
    assert torch.equal(block.flatten(values), flat)
    held = block.state.values
    assert {n: v.shape for n, v in values.items()} == {n: held[n].shape for n in block.names}
    assert torch.equal(block.unflatten(block.flatten(held))[block.names[-1]], held[block.names[-1]])


# -- the standardised coordinate, by hand ----------------------------------------------------------


def test_effects_are_standardised_by_mean_and_spread():
    """mean = 5 w0, spread = 5 e^w1 (a half-Cauchy on the logarithm), effect = mean + spread w."""
    block = block_of(*schools())
    w = vectors(block)
    mean = 5 * w[..., :1]
    spread = 5 * w[..., 1:2].exp()
    effect = mean + spread * w[..., 2:]
    assert block.names == ("mean", "spread", "effect")
    declared = torch.cat([mean, spread.log(), effect], -1)
    found, log_det = block.to_declared(w)
    assert torch.allclose(found, declared)
    assert torch.allclose(log_det, torch.log(number(5.0)) + 8 * spread.log().squeeze(-1))


def test_a_path_is_standardised_as_a_whole():
    """From where it starts (0), in units of one transition, without a recursion through time."""
    block = block_of(*path())
    w = vectors(block)
    log_step = w[..., :1]
    declared = torch.cat([log_step, log_step.exp() * w[..., 1:]], -1)
    assert torch.allclose(block.to_declared(w)[0], declared)


def test_data_that_share_a_latent_make_one_chain():
    block = block_of(*shared())
    assert (block.is_coupled, block.num_chains, block.dimension) == (True, 1, 2 + 3 + 3)
    assert block_of(*path()).num_chains == 2


def test_charts_differ_where_a_place_depends_on_the_block():
    for build in MODELS.values():
        assert block_of(*build()).has_two_charts
    alone = GraphicalModel()
    alone.add_site("z", lambda: Normal(number(3.0), number(0.1)))
    alone.add_site("which", lambda: Categorical(number([0.4, 0.6])))
    alone.add_site("u", lambda which: HalfNormal(number(1.0) + which), ["which"])
    alone.add_site("y", lambda z, u: Normal(z, u), ["z", "u"])
    block = block_of(alone, {"y": data(2)})
    assert not block.has_two_charts
    w = vectors(block)
    scale = 1.0 + block.state.values["which"]
    declared = torch.stack([3 + 0.1 * w[..., 0], scale.log() + w[..., 1]], -1)
    assert torch.allclose(block.to_declared(w)[0], declared)


# -- what the block does not hold, and what does not move ------------------------------------------


def test_a_site_outside_the_block_keeps_its_value():
    """The scale of the effects is a site outside: the cloud's own."""
    block = block_of(*schools(), names=("mean", "effect"))
    assert (block.names, block.dimension) == (("mean", "effect"), 9)
    w = vectors(block)
    found, log_det = block.to_declared(w)
    spread = block.state.particles["spread"].unsqueeze(-1)
    assert torch.allclose(found[..., 1:], 5 * w[..., :1] + spread * w[..., 1:])
    assert torch.allclose(log_det, log_determinants(block, w))
    assert torch.allclose(block.to_standardised(found), w)


def test_a_discrete_parent_sets_the_scale():
    block = block_of(*switched())
    w = vectors(block)
    scale = number([0.3, 2.0])[block.state.values["which"]]
    found = block.unflatten(block.to_declared(w)[0])
    assert torch.allclose(found["z"], 2 * w[..., 0] + scale * w[..., 1])


def test_a_set_site_is_no_part_of_the_block():
    block = block_of(*schools(), do={"spread": number([2.0])})
    assert block.names == ("mean", "effect")
    w = vectors(block)
    assert torch.allclose(block.to_declared(w)[0][..., 1:], 5 * w[..., :1] + 2 * w[..., 1:])


def partly_observed():
    """A walk whose third slice is known for the first series, and its fourth for the second."""
    model, observed = path()
    mask = torch.tensor([[False, False, True, False], [False, False, False, True]])
    known = torch.full((2, 4), torch.nan, dtype=torch.float64).masked_fill(mask, 1.5)
    return model, {**observed, "s": known}, {"s": mask}


def test_an_observed_element_stays_where_it_is():
    model, observed, masks = partly_observed()
    block = block_of(model, observed, masks=masks)
    free = block.free()
    assert torch.equal(free[:, 1:], ~masks["s"])
    assert free[:, 0].all()
    with torch.device("meta"):  # what is made is made where the cloud lies
        assert torch.equal(block.free(), free)
    w = vectors(block)
    declared, log_det = block.to_declared(w)
    values = block.unflatten(declared)["s"]
    assert (values[:, masks["s"]] == 1.5).all()
    assert torch.equal(values[:, ~masks["s"]], w[..., 1:][:, ~masks["s"]])
    assert torch.allclose(block.to_standardised(declared), w)
    assert torch.allclose(log_det, log_determinants(block, w))


def test_children_of_an_observed_element_are_standardised_by_it():
    """Four centres, of which the second is known; values scatter around each."""
    model = GraphicalModel()
    model.add_site("centre", lambda: Normal(torch.zeros(4, dtype=torch.float64), number(2.0)))
    model.add_site("z", lambda centre: Independent(Normal(centre, number(0.5)), 1), ["centre"])
    model.add_site("y", lambda z: Independent(Normal(z, number(1.0)), 1), ["z"])
    mask = torch.tensor([[False, True, False, False]])
    known = torch.full((1, 4), 7.0, dtype=torch.float64)
    block = block_of(model, {"y": data(1, 4), "centre": known}, masks={"centre": mask})
    w = vectors(block)
    values = block.unflatten(block.to_declared(w)[0])
    centre = torch.where(mask, known, w[..., :4])
    assert torch.allclose(values["centre"], centre)
    assert torch.allclose(values["z"], centre + 0.5 * w[..., 4:])


def test_all_moves_where_nothing_is_observed():
    assert block_of(*path()).free() is None
    gap = torch.tensor([[True, False, True, True]] * 2)
    assert block_of(*path(), masks={"y": gap}).free() is None


def test_a_path_of_vectors_with_a_matrix_is_left_as_declared():
    """A matrix that mixes coordinates has no place along a path."""
    factor = number([[1.0, 0.0], [0.5, 2.0]])
    model = GraphicalModel()
    model.add_site("step", lambda: HalfNormal(number(1.0)))
    model.add_site(
        "s",
        lambda s, step: MultivariateNormal(s, scale_tril=step[..., None, None] * factor),
        [lag("s"), "step"],
        initial=lambda step: MultivariateNormal(
            torch.zeros(*step.shape, 2, dtype=torch.float64), scale_tril=factor
        ),
        scope="slice",
    )
    model.add_site("y", lambda s: Normal(s.sum(-1), number(1.0)), ["s"], scope="slice")
    block = block_of(model, {"y": data(1, 3)})
    w = vectors(block)
    assert torch.equal(block.to_declared(w)[0][..., 1:], w[..., 1:])
