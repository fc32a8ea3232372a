"""Spikes that chains step over, of a mass that is known."""

import math
import re

import pytest
import torch
from clouds import chains_agree, off
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import unseen
from aif_dcpc.inference.arrival.build import build_sampler
from aif_dcpc.inference.errors import ConvergenceWarning

# -- parts, of Gaussians ---------------------------------------------------------------------------


PRECISION = torch.tensor([[4.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 2.0]]).double()
TOP = torch.tensor([0.5, -1.0, 2.0]).double()


def hill(unit, height=-3.0):
    """A Gaussian of this precision in these units, not normalised, for `(K, G, D)`."""

    def density(place):
        x = (place - TOP) / unit
        pull = x @ PRECISION
        return height - 0.5 * (x * pull).sum(-1), -pull / unit

    return density


@pytest.mark.parametrize("unit", [1.0, 1e-4, 300.0])
def test_second_derivatives_of_a_gaussian_are_minus_its_precision(unit):
    like = torch.zeros(4, 1, 3).double()
    density = hill(unit)
    found = unseen._second_derivatives(
        lambda places: unseen._in_batches(density, places, like, 0), TOP
    )
    assert torch.allclose(found * unit**2, -PRECISION, atol=1e-6)


@pytest.mark.parametrize("unit", [1.0, 1e-4])
def test_the_mass_of_a_gaussian_spike_is_its_integral(unit):
    """exp(height) (2 pi)^(3/2) unit^3 / |P|^(1/2); at a saddle there is no spike."""
    like = torch.zeros(5, 2, 3).double()
    spike = unseen._Spike.at(hill(unit), TOP, like, 1)
    log_volume = 1.5 * math.log(2 * math.pi) + 3 * math.log(unit)
    expected = -3.0 + log_volume - 0.5 * float(torch.logdet(PRECISION))
    assert spike.log_mass == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(spike.root @ spike.root.mT * unit**2, PRECISION, atol=1e-5)

    def saddle(place):
        x = place - TOP
        sign = torch.tensor([1.0, 1.0, -1.0]).double()
        return -0.5 * (sign * x.square()).sum(-1), -sign * x

    assert unseen._Spike.at(saddle, TOP, like, 0) is None


def test_the_share_of_a_spike_is_of_its_mass_beside_that_of_the_draws():
    """Draws of a Gaussian of mass 1 and a spike of mass 3; none of that where enough draws stand in it."""
    generator = torch.Generator().manual_seed(0)
    draws = 2 * torch.randn(400, 50, 3, generator=generator).double() + TOP
    log_prob = Independent(Normal(TOP, 2.0), 1).log_prob(draws)
    spike = unseen._Spike(TOP, 1e4 * torch.linalg.cholesky(PRECISION), math.log(3.0))
    assert spike.share(draws, log_prob) == pytest.approx(0.75, abs=0.01)
    few = draws.clone()
    few[:60] = TOP  # .15 of the draws, which shrinks the width of all by .85
    assert spike.share(few, log_prob) == pytest.approx(3 / (3 + 0.85**1.5), abs=0.01)
    many = draws.clone()
    many[:100] = TOP
    assert spike.share(many, log_prob) == 0.0


@pytest.mark.parametrize("factor, is_inside", [(0.0, True), (0.98, True), (1.02, False)])
def test_draws_stand_in_a_spike_within_five_deviations_of_its_chi_square(factor, is_inside):
    """In three dimensions squared distances from its top have mean 3 and variance 6."""
    spike = unseen._Spike(TOP, torch.linalg.cholesky(PRECISION), math.log(3.0))
    offset = torch.tensor([1.0, 0.0, 0.0]).double()
    scale = ((3 + 5 * math.sqrt(6)) * factor / PRECISION[0, 0]).sqrt()
    draws = (TOP + scale * offset).expand(50, 8, 3)
    share = spike.share(draws, torch.zeros(50, 8).double())
    assert share == (0.0 if is_inside else 1.0)


def test_the_highest_point_of_each_chain_is_kept_and_the_density_is_put_back():
    sampler = build_sampler(spiked(0.3, 0.1), None, 6, batch_size=1, seed=0)
    move = sampler.moves[0]
    density = move.density
    seen = []
    with torch.no_grad(), unseen.watched(sampler) as highest:
        watched = move.density
        move.density = lambda place, *others: seen.append(watched(place, *others)) or seen[-1]
        for _ in range(4):
            sampler.sweep(adapt=False)
    assert move.density is density
    heights = torch.stack([found[0] for found in seen])
    assert torch.equal(highest.log_prob, heights.amax(0))
    assert torch.allclose(density(highest.place)[0], highest.log_prob)


# -- the whole way ---------------------------------------------------------------------------------

SPIKE = r"about (\d+)% of the mass lies in a spike .* engine.temper\(data\)"


def spiked(share, width, others=0, broad=1.0):
    """A wide and a narrow component of `z`, beside other latents that lean on it."""
    chances = torch.tensor([1 - share, share])
    where = torch.tensor([0.0, 0.5 * broad])
    wide = torch.tensor([broad, width])
    model = GraphicalModel()
    model.add_site("z", lambda: MixtureSameFamily(Categorical(chances), Normal(where, wide)))
    if others:
        model.add_site(
            "u",
            lambda z: Independent(Normal(z.unsqueeze(-1).expand(*z.shape, others), 2.0), 1),
            ["z"],
        )
    return DCPC(model)


@pytest.mark.parametrize("share, others, broad", [(0.58, 0, 1.0), (0.3, 0, 0.2), (0.58, 4, 1.0)])
def test_a_spike_is_reported_with_its_share_and_its_remedy(share, others, broad):
    with pytest.warns(ConvergenceWarning, match=SPIKE) as said:
        draws = spiked(share, 1e-4, others, broad).sample(batch_size=1, seed=0)
    (sentence,) = draws.warnings
    assert sentence == str(said[0].message)
    found = re.search(SPIKE, sentence)
    assert abs(int(found.group(1)) / 100 - share) < 0.1


def test_a_spike_of_little_mass_is_not_worth_a_word():
    assert spiked(0.005, 1e-4).sample(batch_size=1, seed=0).warnings == ()


def test_the_remedy_is_one():
    """Component and standardised value as sites of their own, seen through noise: a mixture of two Gaussians."""
    where = torch.tensor([0.0, 0.5])
    wide = torch.tensor([1.0, 1e-4])
    model = GraphicalModel()
    model.add_site("k", lambda: Categorical(torch.tensor([0.42, 0.58])))
    model.add_site("w", lambda: Normal(0.0, 1.0))
    model.add_site("y", lambda k, w: Normal(where[k] + wide[k] * w, 1.0), ["k", "w"])
    draws = DCPC(model).sample({"y": torch.tensor([1.3])}, seed=0)
    assert draws.warnings == ()
    height = Normal(where, (1 + wide**2).sqrt()).log_prob(torch.tensor(1.3)).exp()
    chance = torch.tensor([0.42, 0.58]) * height
    assert off(draws["k"], chance[1] / chance.sum()) < 5
    first = draws["w"][..., :1]
    share = chance / chance.sum()
    mean = share[0] * 1.3 / 2
    variance = share[0] * (0.5 + (1.3 / 2) ** 2) + share[1] - mean**2
    assert chains_agree(first, mean, variance)
