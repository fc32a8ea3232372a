"""Counts that spread over hundreds of values: discrete Langevin jumps as far as they are wide, and stays exact."""

import torch
from torch.distributions import Normal, Poisson

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.checks.geweke import joint_test


def counts():
    model = GraphicalModel()
    rate = torch.tensor(400.0)
    scale = torch.tensor(30.0)
    model.add_site("z", lambda: Poisson(rate))
    model.add_site("x", lambda z: Normal(z, scale), ["z"])
    return model


def test_particles_forget_where_they_were_within_thirty_sweeps():
    """Posterior moments by enumeration; the correlation over 30 sweeps of 2000 particles within 5 standard errors of 0."""
    engine = DCPC(counts(), num_particles=2000)
    state, _ = engine.run(engine.init({"x": torch.tensor([500.0])}, seed=0), 80)
    later, _ = engine.run(state, 30)
    z = torch.arange(900.0)
    posterior = (
        (Poisson(400.0).log_prob(z) + Normal(z, 30.0).log_prob(torch.tensor(500.0)))
        .double()
        .softmax(0)
    )
    mean = (posterior * z).sum()
    deviation = ((posterior * z.square()).sum() - mean.square()).sqrt()
    for cloud in (state, later):
        found = cloud.particles["z"][:, 0].double()
        assert abs(found.mean() - mean) < 5 * deviation / 2000**0.5
        assert abs(found.std() / deviation - 1) < 5 / 4000**0.5
    pair = torch.stack([state.particles["z"][:, 0], later.particles["z"][:, 0]])
    assert abs(torch.corrcoef(pair)[0, 1]) < 5 / 2000**0.5


def test_wide_jumps_keep_the_joint_distribution():
    """Geweke's joint test, one false alarm in 1e5 pairs of seeds."""
    assert (
        joint_test(counts(), {"x": torch.zeros(1)}, moves={}, replicates=2000, num_sweeps=6, seed=0)
        == []
    )
