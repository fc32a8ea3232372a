"""Series with gaps against the exact smoother: in a gap a slice is held by its neighbours alone."""

import pytest
import torch
from clouds import chains_agree
from models import random_walk
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, lag

STEP = 0.8
NOISE = 0.5


def smoother(seen, data):
    """Mean and variance of every state of `models.random_walk` by its joint precision."""
    length = len(seen)
    precision = torch.zeros(length, length).double()
    precision[0, 0] = 1.0
    for t in range(1, length):
        precision[t - 1 : t + 1, t - 1 : t + 1] += (
            torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double() / STEP**2
        )
    weight = seen.double() / NOISE**2
    precision += torch.diag(weight)
    covariance = torch.linalg.inv(precision)
    return covariance @ (weight * data.double()), covariance.diagonal()


def gap(length, start, stop):
    seen = torch.ones(length, dtype=torch.bool)
    seen[start:stop] = False
    return seen


@pytest.mark.parametrize("moves", [{}, {"s": "block"}], ids=str)
@pytest.mark.parametrize("seen", [gap(30, 8, 22), gap(40, 22, 40)], ids=["inside", "end"])
def test_variances_in_a_gap(seen, moves):
    """No particle is left out in it, and a block is drawn at once."""
    data = torch.randn(len(seen), generator=torch.Generator().manual_seed(0))
    engine = DCPC(random_walk(), num_particles=64, moves=moves)
    state = engine.init({"o": data[None]}, masks={"o": seen[None]}, seed=0)
    state, _ = engine.run(state, 120)
    assert state.origin == ""  # by its own moves
    state, info = engine.run(state, 150, record=["s"])
    mean, variance = smoother(seen, data)
    assert chains_agree(info.trace["s"][:, :, 0], mean, variance)
    if moves == {"s": "block"}:
        assert info.acceptance["s"] > 0.98
        draws = info.trace["s"][:, :, 0].flatten(0, 1)
        assert ((draws.var(0) / variance - 1).abs() < 5 * (2 / len(draws)) ** 0.5 + 0.01).all()


def test_gaps_that_differ_between_data_and_elements():
    """Data share their preconditioner, which is then that of a middling slice: right, if not at once."""
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Independent(Normal(s, STEP), 1),
        [lag("s")],
        initial=lambda: Independent(Normal(torch.zeros(2), 1.0), 1),
        scope="slice",
    )
    model.add_site("o", lambda s: Independent(Normal(s, NOISE), 1), ["s"], scope="slice")
    length = 20
    data = torch.randn(2, length, 2, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(2, length, 2, dtype=torch.bool)
    seen[0, 4:12, 0] = False
    seen[1, 14:] = False
    engine = DCPC(model, num_particles=64)
    state, _ = engine.run(engine.init({"o": data}, masks={"o": seen}, seed=0), 120)
    _, info = engine.run(state, 150, record=["s"])
    for b in range(2):
        for d in range(2):
            mean, variance = smoother(seen[b, :, d], data[b, :, d])
            assert chains_agree(info.trace["s"][:, :, b, :, d], mean, variance)
