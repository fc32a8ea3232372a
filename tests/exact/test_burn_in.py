"""Particles that a heavy-tailed prior puts far out are replaced during burn-in, and nothing else is touched."""

import pytest
import torch
from torch.distributions import HalfCauchy, Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.resampling import LOST, LOST_PER_DIMENSION, replace_lost

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
    """The posterior of mu has a standard deviation of about 4; 60 is impossible, and what steps alone leave behind."""
    engine = DCPC(eight_schools(), num_particles=64, warmup=200, seed=0)
    state, _ = engine.run(engine.init({"y": EFFECTS[None]}, seed=0), 200)
    assert float(state.particles["mu"].abs().max()) < 60
    state = engine.init({"y": EFFECTS[None]}, seed=0)
    for _ in range(200):
        state, _ = engine.sweep(state)
    assert float(state.particles["mu"].abs().max()) > 60


def two_data(**options):
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0), **options)
    model.add_site("x", lambda z: Normal(z, 1.0), parents=["z"])
    return DCPC(model, num_particles=5).init({"x": torch.zeros(2)}, seed=0)


@pytest.mark.parametrize("options", [{}, {"scope": "global"}])
def test_only_lost_particles_are_replaced_by_others(options):
    state = two_data(**options)
    margin = LOST + LOST_PER_DIMENSION  # one dimension per datum, or one for both
    log_joint = torch.zeros(5, 2)
    log_joint[1, 0], log_joint[2, 1], log_joint[3, 0] = -margin - 1, torch.nan, -margin + 1
    after = replace_lost(state, log_joint, torch.Generator().manual_seed(0))
    lost = [{1, 2}] if options else [{1}, {2}]
    for column, gone in enumerate(lost):
        before, now = state.values["z"][:, column], after.values["z"][:, column]
        kept = [k for k in range(5) if k not in gone]
        assert torch.equal(now[kept], before[kept])
        assert all(now[k] in before[kept] and now[k] != before[k] for k in gone)
