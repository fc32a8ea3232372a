"""Particles that a heavy-tailed prior puts far out come back."""

import torch
from torch.distributions import HalfCauchy, Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools():
    model = GraphicalModel()
    model.add_site("mu", lambda: Normal(0.0, 5.0))
    model.add_site("tau", lambda: HalfCauchy(torch.tensor(5.0)))
    model.add_site("eta", lambda: Independent(Normal(torch.zeros(8), 1.0), 1))
    model.add_site(
        "y",
        lambda mu, tau, eta: Independent(Normal(mu[..., None] + tau[..., None] * eta, ERRORS), 1),
        parents=["mu", "tau", "eta"],
    )
    return model


def test_no_particle_stays_where_no_mass_is():
    """The posterior of mu has a standard deviation of about 4: 60 is impossible, though the prior of tau starts beyond."""
    engine = DCPC(eight_schools(), num_particles=64, warmup=200)
    state = engine.init({"y": EFFECTS[None]}, seed=0)
    assert float(state.particles["tau"].max()) > 60
    state, _ = engine.run(state, 200)
    assert float(state.particles["mu"].abs().max()) < 60
