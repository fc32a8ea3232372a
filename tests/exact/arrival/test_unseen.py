"""Spikes that chains step over, of a mass that is known."""

import re

import pytest
import torch
from clouds import chains_agree, off
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import ConvergenceWarning

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
