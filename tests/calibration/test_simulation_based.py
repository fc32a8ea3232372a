"""Simulation-based calibration: ranks of true values among posterior draws are uniform (Talts et al. 2018).

Many data sets are simulated at once, one per batch entry. The engine runs as it ships, warming up
and then frozen: by sweeps from prior draws, or as `sample` does from scattered starts. Each of the K particles
of a data set is a chain of its own, so the rank of the truth among its last values is uniform on
0 .. K. Uniformity is tested by chi-square at a false-alarm rate of 1e-4 per model, split over the
sites; each calibrator also rejects a planted bug.
"""

import math

import pytest
import torch
from scipy.stats import chi2
from torch.distributions import Beta, Categorical, ExpTransform, Gamma, Independent, Normal, Poisson

from aif_dcpc.inference import DCPC, GraphicalModel, NonFiniteError, lag
from aif_dcpc.inference.arrival.build import build_sampler
from aif_dcpc.inference.arrival.warm_up import warm_up
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.moves.chunks import Chunks

PARTICLES = 9
DATA_SETS = 500
FALSE_ALARM = 1e-4


def hierarchy():
    """Counts of four groups whose rates share a mean and an unknown spread."""
    model = GraphicalModel()
    model.add_site("mean", lambda: Normal(0.5, 1.0))
    model.add_site("spread", lambda: Gamma(2.0, 2.0))
    model.add_site("rate", centred, ["mean", "spread"])
    model.add_site("count", lambda rate: Independent(Poisson(rate.exp()), 1), ["rate"])
    return model


def centred(mean, spread):
    wide = mean.unsqueeze(-1).expand(*mean.shape, 4)
    return Independent(Normal(wide, spread.unsqueeze(-1)), 1)


def series():
    """Stochastic volatility with a nonlinear drift and an unknown persistence."""
    model = GraphicalModel()
    model.add_site("persistence", lambda: Beta(5.0, 2.0))
    model.add_site(
        "s",
        lambda s, p: Normal(p * s + torch.sin(s) / 4, 0.5),
        [lag("s"), "persistence"],
        initial=lambda p: Normal(torch.zeros_like(p), 1.0),
        scope="slice",
    )
    model.add_site(
        "x", lambda s: Normal(torch.zeros_like(s), torch.exp(s / 2)), ["s"], scope="slice"
    )
    return model


def mixed(parents=("low", "high")):
    """Three observations, each from one of two places; labels, weight and places unknown."""
    model = GraphicalModel()
    model.add_site("weight", lambda: Beta(2.0, 3.0))
    model.add_site("low", lambda: Normal(-1.0, 0.5))
    model.add_site("high", lambda: Normal(1.5, 1.0))
    model.add_site("label", labels, ["weight"])
    model.add_site("x", places, [*parents, "label"])
    return model


def labels(weight):
    chances = torch.stack([weight, 1 - weight], -1).unsqueeze(-2)
    return Independent(Categorical(chances.expand(*weight.shape, 3, 2)), 1)


def places(low, high, label):
    place = torch.where(label == 0, low.unsqueeze(-1), high.unsqueeze(-1))
    return Independent(Normal(place, 0.7), 1)


CASES = {"hierarchy": (hierarchy, 150), "series": (series, 100), "mixed": (mixed, 40)}
OBSERVED = {"hierarchy": "count", "series": "x", "mixed": "x"}


def by_sweeps(engine, data, case):
    """Last values of chains that sweeps have moved."""
    state, _ = engine.run(engine.init(data), CASES[case][1])
    return state.particles


def by_sample(engine, data, case):
    """Last draws of chains by the parts of `sample`: arrival, four windows of warming up, sweeps."""
    with no_validation(), torch.no_grad():
        sampler = build_sampler(engine, data, PARTICLES, seed=1)
        warm_up(sampler, math.inf, more=0)
        for _ in range(20):
            sampler.sweep(adapt=False)
        declared, _ = sampler.declared()
    return sampler.state.with_values(sampler.block.unflatten(declared)).particles


def misfit(case, model=None, seed=0, draw=by_sweeps):
    """Largest chi-square statistic over the sites, over its critical value; above 1 is a rejection."""
    build, _ = CASES[case]
    length = 8 if case == "series" else None
    truth = (
        DCPC(build(), num_particles=1).init(batch_size=DATA_SETS, length=length, seed=seed).natural
    )
    engine = DCPC(model or build(), num_particles=PARTICLES, seed=seed + 1)
    try:
        particles = draw(engine, {OBSERVED[case]: truth[OBSERVED[case]][0]}, case)
    except NonFiniteError:  # a run that breaks down is not calibrated either
        return math.inf
    statistics = {name: uniformity(value, truth[name]) for name, value in particles.items()}
    return max(statistics.values()) / chi2.isf(FALSE_ALARM / len(statistics), PARTICLES)


def uniformity(particles, truth):
    """Chi-square of the ranks; of several elements of a site, one drawn per data set (elements are dependent)."""
    flat = particles.flatten(2) if particles.ndim > 2 else particles[..., None]
    true = truth[0].reshape(DATA_SETS, -1)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(flat.shape[-1], (DATA_SETS, 1), generator=generator)
    draws = flat.gather(2, chosen.expand(PARTICLES, DATA_SETS, 1)).squeeze(-1)
    value = true.gather(1, chosen).squeeze(-1)
    # ties of discrete sites are broken at random
    below = (draws < value).sum(0)
    equal = (draws == value).sum(0)
    ranks = below + (torch.rand(DATA_SETS, generator=generator) * (equal + 1)).long()
    counts = torch.bincount(ranks, minlength=PARTICLES + 1).double()
    expected = DATA_SETS / (PARTICLES + 1)
    return float((counts - expected).square().sum() / expected)


@pytest.mark.parametrize("draw", [by_sweeps, by_sample])
@pytest.mark.parametrize("case", CASES)
def test_ranks_are_uniform(case, draw):
    assert misfit(case, draw=draw) < 1


def test_a_wrong_jacobian_is_rejected(monkeypatch):
    monkeypatch.setattr(
        ExpTransform, "log_abs_det_jacobian", lambda self, x, y: torch.zeros_like(x)
    )
    assert misfit("hierarchy") > 1


def test_a_dropped_acceptance_ratio_is_rejected(monkeypatch):
    spread = Chunks.spread
    monkeypatch.setattr(
        Chunks, "spread", lambda self, flags, *rest: spread(self, torch.ones_like(flags), *rest)
    )
    assert misfit("series") > 1


def test_swapped_parents_are_rejected():
    assert misfit("mixed", model=mixed(parents=("high", "low"))) > 1
