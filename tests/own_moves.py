"""Moves written by hand, which read values, data, weights and noise, and clouds for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from models import gaussian_pair

from aif_dcpc.inference import DCPC
from aif_dcpc.inference.moves import SiteMove


@dataclass(frozen=True)
class Own(SiteMove):
    """A move that puts what a function of the cloud gives in the place of its site's values."""

    change: Callable[..., torch.Tensor]
    keeps_tables: bool = False

    def __call__(self, state, generator, *, adapt):
        found = self.change(state, generator)
        values = {**state.values, self.site: found}
        return state.replace(values=values), found.sigmoid().mean()


def walk(state, generator):
    """Two draws, values, data and weights: nothing in it can change places with anything else."""
    z = state.values["z"]
    far = torch.randn(z.shape, generator=generator)
    share = torch.rand(z.shape, generator=generator)
    return 0.5 * z + share * far + 0.1 * state.values["x"] - state.log_weights.exp()


def halve(state, generator):
    return 0.5 * state.values["z"] - 0.25 * state.values["x"]


def read(state, generator):
    """Draws before it reads a number, which no graph can."""
    z = state.values["z"]
    return z + torch.randn(z.shape, generator=generator) * (2.0 if float(z.sum()) > 0 else 3.0)


@cache
def one_engine():
    return DCPC(gaussian_pair(), num_particles=3)


def cloud(seed=0):
    """A cloud of three particles for two data points, of one model throughout."""
    state = one_engine().init({"x": torch.tensor([1.0, -2.0])}, seed=seed)
    weights = torch.linspace(-1.0, 1.0, 6).reshape(3, 2)
    return state.replace(log_weights=weights)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def assert_alike(found, expected):
    (state, rates), (other, wanted) = found, expected
    assert torch.equal(state.values["z"], other.values["z"])
    assert torch.equal(state.values["x"], other.values["x"])
    assert state.sweeps == other.sweeps
    assert rates.keys() == wanted.keys()
    assert all(torch.equal(rates[name], wanted[name]) for name in rates)
