"""`engine.sample` from data to draws, against closed forms, grids and enumeration.

All chains are compared with each other: 128 chains are as good as independent, so that the mean of a
chain has a standard error of its own, by Student's t; a right sampler exceeds 5 of them twice in a million.
Warnings are errors: a right run is silent.
"""

import math

import pytest
import torch
from clouds import chains_agree, off
from models import (
    random_walk,
    random_walk_covariance,
    shared_mean,
    shared_mean_posterior,
    wide_gaussian_pair,
)
from torch.distributions import (
    Categorical,
    HalfCauchy,
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
)

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.errors import ConvergenceWarning

# -- Gaussians -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_a_vague_prior_does_not_matter(scale, dtype):
    x = torch.tensor([1.0, -2.0], dtype=dtype)
    draws = DCPC(wide_gaussian_pair(scale, dtype)).sample({"x": x}, seed=0)
    variance = 1 / (1 / scale**2 + 4)
    assert draws["z"].dtype is dtype
    assert draws["z"].shape == (draws.num_draws, 128, 2)
    assert chains_agree(draws["z"], 4 * variance * x.double(), variance)
    assert draws.warnings == ()


def raw_units():
    """Incomes explained by an age in years and a wealth in cents: coefficients from 1e3 to 1e-6."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 3, generator=generator)
    columns = [torch.ones(40), 45 + 12 * noise[:, 0], 1e7 * (0.5 * noise[:, 1]).exp()]
    design = torch.stack(columns, -1)
    return design, design @ torch.tensor([2000.0, -30.0, 1e-4]) + 300 * noise[:, 2]


def test_a_regression_in_raw_units_is_that_of_least_squares():
    """Coefficients given the noise are Gaussian around the least-squares fit; the noise is integrated on a grid."""
    design, y = raw_units()
    model = GraphicalModel()
    model.add_site("beta", lambda: Independent(Normal(torch.zeros(3), 1e5), 1))
    model.add_site("sigma", lambda: HalfCauchy(1000.0))
    model.add_site(
        "y",
        lambda beta, sigma: Independent(Normal(beta @ design.T, sigma.unsqueeze(-1)), 1),
        ["beta", "sigma"],
    )
    draws = DCPC(model).sample({"y": y[None]}, seed=0)
    log_sigma, weight, fit = sigma_on_a_grid(design.double(), y.double())
    mean = (weight * log_sigma).sum()
    assert chains_agree(draws["sigma"].log(), mean, (weight * (log_sigma - mean) ** 2).sum())
    gram = torch.linalg.inv(design.double().T @ design.double())
    variance = (weight * (2 * log_sigma).exp()).sum() * gram.diagonal()
    assert chains_agree(draws["beta"], fit, variance)


def sigma_on_a_grid(design, y):
    """Grid and weights of log sigma, and the fit; the prior of the coefficients counts as flat.

    p(sigma | y) ~ p(sigma) sigma^-(n - 3) exp(-rest / 2 sigma^2), times sigma on the logarithm.
    """
    fit = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    rest = (y - design @ fit).square().sum()
    log_sigma = torch.linspace(4, 8, 4001, dtype=torch.float64)
    sigma = log_sigma.exp()
    log_weight = HalfCauchy(1000.0).log_prob(sigma) - (len(y) - 4) * log_sigma
    return log_sigma, torch.softmax(log_weight - rest / (2 * sigma**2), 0), fit


def test_data_that_share_a_latent():
    x = torch.tensor([1.0, 2.0, -1.0, 4.0])
    draws = DCPC(shared_mean()).sample({"x": x}, seed=0)
    assert draws["g"].shape[2] == 1
    assert draws.log_joint.shape[2] == 1
    assert chains_agree(draws["g"], *shared_mean_posterior(x))


def test_latents_of_each_datum_around_one_that_they_share():
    """g ~ N(0, 2), z_b ~ N(g, 1), x_b ~ N(z_b, 1/2): jointly Gaussian."""
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 2.0), scope="global")
    model.add_site("z", lambda g: Normal(g, 1.0), ["g"])
    model.add_site("x", lambda z: Normal(z, 0.5), ["z"])
    x = torch.tensor([1.0, 2.0, -1.0])
    draws = DCPC(model).sample({"x": x}, seed=0)
    latent = torch.cat([torch.full((1, 4), 4.0), torch.full((3, 4), 4.0)])
    latent[1:, 1:] += torch.eye(3)
    seen = latent[:, 1:]
    gain = seen @ torch.linalg.inv(seen[1:] + 0.25 * torch.eye(3))
    both = torch.cat([draws["g"], draws["z"]], -1)
    assert chains_agree(both, (gain @ x).double(), (latent - gain @ seen.T).diagonal().double())


# -- series ----------------------------------------------------------------------------------------

SERIES = torch.tensor([[0.3, 1.1, 0.2, 2.0, -0.5, 0.4]])


@pytest.mark.parametrize("hidden", [(), (2, 3), (4, 5), (0, 3, 5)], ids=str)
def test_a_series_with_gaps_and_a_missing_end(hidden):
    seen = torch.ones(1, 6, dtype=torch.bool)
    seen[0, list(hidden)] = False
    series = SERIES.masked_fill(~seen, math.nan)
    draws = DCPC(random_walk()).sample({"o": series}, masks={"o": seen}, seed=0)
    prior = random_walk_covariance(6)
    gain = prior[:, seen[0]] @ torch.linalg.inv(
        prior[seen[0]][:, seen[0]] + 0.25 * torch.eye(int(seen.sum()))
    )
    mean = gain @ SERIES[seen]
    assert chains_agree(draws["s"], mean, (prior - gain @ prior[seen[0]]).diagonal())


def test_a_known_slice_of_a_latent_path_stays_known():
    known = torch.zeros(1, 6, dtype=torch.bool)
    known[0, 3] = True
    path = torch.full((1, 6), 5.0)
    draws = DCPC(random_walk()).sample({"o": SERIES, "s": path}, masks={"s": known}, seed=0)
    assert (draws["s"][..., 3] == 5.0).all()
    prior = random_walk_covariance(6)
    rows = torch.cat([torch.eye(6), torch.eye(6)[3:4]])  # six noisy looks and an exact one
    noise = torch.diag(torch.tensor([0.25] * 6 + [0.0]))
    gain = prior @ rows.T @ torch.linalg.inv(rows @ prior @ rows.T + noise)
    mean = gain @ torch.cat([SERIES[0], torch.tensor([5.0])])
    variance = (prior - gain @ rows @ prior).diagonal()
    free = [0, 1, 2, 4, 5]
    assert chains_agree(draws["s"][..., free], mean[free], variance[free])


def local_level():
    """A random walk of unknown step, seen with unknown noise."""
    model = GraphicalModel()
    model.add_site("step", lambda: LogNormal(-1.0, 0.5))
    model.add_site("noise", lambda: LogNormal(-1.0, 0.5))
    model.add_site(
        "s",
        lambda s, step: Normal(s, step),
        [lag("s"), "step"],
        initial=lambda step: Normal(torch.zeros_like(step), 3.0),
        scope="slice",
    )
    model.add_site("y", lambda s, noise: Normal(s, noise), ["s", "noise"], scope="slice")
    return model


def local_level_on_a_grid(y):
    """Moments of log step, log noise and the path, by Gaussian conditioning at every point of a grid."""
    points = torch.linspace(-6, 3, 91, dtype=torch.float64)
    step, noise = torch.cartesian_prod(points, points).unbind(-1)
    time = torch.arange(len(y), dtype=torch.float64)
    walk = torch.minimum(time[:, None], time)
    prior = 9 + (2 * step).exp()[:, None, None] * walk
    seen = prior + (2 * noise).exp()[:, None, None] * torch.eye(len(y), dtype=torch.float64)
    log_weight = MultivariateNormal(torch.zeros(len(y), dtype=torch.float64), seen).log_prob(y)
    for place in (step, noise):
        log_weight = log_weight + Normal(-1.0, 0.5).log_prob(place)
    weight = torch.softmax(log_weight, 0)
    gain = prior @ torch.linalg.inv(seen)
    path = gain @ y
    spread = (prior - gain @ prior).diagonal(dim1=-2, dim2=-1)
    both = torch.cat([torch.stack([step, noise], -1), path], -1)
    mean = weight @ both
    within = torch.cat([torch.zeros_like(both[:, :2]), spread], -1)
    return mean, weight @ (within + (both - mean) ** 2)


def test_a_local_level_of_unknown_step_and_noise():
    y = torch.tensor([0.1, 0.6, 0.4, 1.5, 1.1, 2.3, 1.9, 2.2])
    draws = DCPC(local_level()).sample({"y": y[None]}, seed=0)
    found = torch.cat([torch.stack([draws["step"], draws["noise"]], -1).log(), draws["s"]], -1)
    assert chains_agree(found, *local_level_on_a_grid(y.double()))


# -- shapes that a single chart does not mix -------------------------------------------------------


def test_the_neck_of_a_funnel():
    """v ~ N(0, 3), nine effects ~ N(0, e^(v/2)): the scale has its own prior as marginal, at every quantile."""
    model = GraphicalModel()
    model.add_site("v", lambda: Normal(0.0, 3.0))
    model.add_site(
        "z",
        lambda v: Independent(Normal(torch.zeros(*v.shape, 9), (v / 2).exp().unsqueeze(-1)), 1),
        ["v"],
    )
    model.add_site("x", lambda z: Normal(torch.zeros(z.shape[:-1]), 1.0), ["z"])
    with pytest.warns(ConvergenceWarning, match="by a few draws far out in a heavy tail"):
        draws = DCPC(model).sample({"x": torch.zeros(1)}, seed=0)
    for share in (0.01, 0.05, 0.1, 0.5, 0.9, 0.95):
        below = draws["v"] < Normal(0.0, 3.0).icdf(torch.tensor(share))
        assert off(below, share) < 5
    scaled = draws["z"] / (draws["v"] / 2).exp().unsqueeze(-1)
    assert chains_agree(scaled, 0.0, 1.0)


def squared_exponential(log_length, x):
    """Covariances of smooth functions at points `(N,)`, seen with noise of .1."""
    distance = (x[:, None] - x).square()
    smooth = torch.exp(-0.5 * distance / (2 * log_length).exp()[..., None, None])
    return smooth + 0.01 * torch.eye(len(x), dtype=x.dtype)


def test_a_gaussian_process_of_unknown_length():
    """Covariances of long lengths are singular in single precision, where chains climb through them."""
    x = torch.linspace(0, 1, 8)
    y = torch.tensor([0.1, 0.9, 1.2, 0.7, -0.2, -1.0, -1.1, -0.4])
    model = GraphicalModel()
    model.add_site("log_length", lambda: Normal(0.0, 2.0))
    model.add_site(
        "y",
        lambda log_length: MultivariateNormal(torch.zeros(8), squared_exponential(log_length, x)),
        ["log_length"],
    )
    draws = DCPC(model).sample({"y": y[None]}, seed=0)
    grid = torch.linspace(-12, 4, 3201, dtype=torch.float64)
    covariance = squared_exponential(grid, x.double())
    law = MultivariateNormal(torch.zeros(8, dtype=torch.float64), covariance)
    weight = torch.softmax(Normal(0.0, 2.0).log_prob(grid) + law.log_prob(y.double()), 0)
    mean = weight @ grid
    assert chains_agree(draws["log_length"], mean, weight @ (grid - mean) ** 2)


# -- discrete sites --------------------------------------------------------------------------------


def switching():
    """Which of two levels a series is at changes now and then; both are shifted by an unknown offset."""
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    model = GraphicalModel()
    model.add_site(
        "at",
        lambda at: Categorical(move[at]),
        [lag("at")],
        initial=lambda: Categorical(torch.tensor([0.5, 0.5])),
        scope="slice",
    )
    model.add_site("shift", lambda: Normal(0.0, 1.0))
    model.add_site(
        "y", lambda at, shift: Normal(2 * at + shift, 1.0), ["at", "shift"], scope="slice"
    )
    return model


def switching_by_enumeration(y):
    """P(at_t = 1), and mean and variance of the shift: over all paths, given which all is Gaussian."""
    length = len(y)
    paths = torch.cartesian_prod(*[torch.arange(2)] * length)
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double()
    log_weight = torch.full((len(paths),), math.log(0.5)).double()
    for t in range(1, length):
        log_weight += move[paths[:, t - 1], paths[:, t]].log()
    rest = y - 2 * paths
    covariance = torch.eye(length).double() + 1
    log_weight += MultivariateNormal(torch.zeros(length).double(), covariance).log_prob(rest)
    weight = torch.softmax(log_weight, 0)
    precision = 1 + length
    shift = rest.sum(1) / precision
    mean = weight @ shift
    return weight @ paths.double(), mean, 1 / precision + weight @ (shift - mean) ** 2


def test_discrete_and_continuous_latents_together():
    y = torch.tensor([0.2, 1.6, 2.4, 0.5, 1.1])
    draws = DCPC(switching()).sample({"y": y[None]}, seed=0)
    at, mean, variance = switching_by_enumeration(y.double())
    assert off(draws["at"], at) < 5
    assert chains_agree(draws["shift"], mean, variance)


def test_a_model_of_discrete_latents_alone():
    """A hidden Markov chain without any continuous latent."""
    y = torch.tensor([[0.2, 1.6, 2.4, 0.5, 1.1]])
    draws = DCPC(switching()).sample({"y": y}, do={"shift": torch.zeros(1)}, seed=0)
    assert set(draws.values) == {"at"}
    length = y.shape[1]
    paths = torch.cartesian_prod(*[torch.arange(2)] * length)
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    log_weight = Normal(2.0 * paths, 1.0).log_prob(y).sum(1)
    log_weight += move[paths[:, :-1], paths[:, 1:]].log().sum(1)
    assert off(draws["at"], torch.softmax(log_weight, 0) @ paths.float()) < 5


def test_labels_of_each_datum_and_places_that_they_share():
    """Which of two places each datum comes from; one place is known, so that nothing is symmetric."""
    model = GraphicalModel()
    model.add_site("which", lambda: Categorical(torch.tensor([0.3, 0.7])))
    model.add_site("place", lambda: Normal(0.0, 2.0), scope="global")
    model.add_site(
        "x",
        lambda which, place: Normal(torch.where(which == 1, place, 3.0), 0.8),
        ["which", "place"],
    )
    x = torch.tensor([2.0, 0.1, 1.2, 2.9])
    draws = DCPC(model).sample({"x": x}, seed=0)
    grid = torch.linspace(-8, 8, 3201, dtype=torch.float64)
    one = 0.7 * Normal(grid[:, None], 0.8).log_prob(x).exp()
    zero = 0.3 * Normal(3.0, 0.8).log_prob(x).exp()
    weight = torch.softmax(Normal(0.0, 2.0).log_prob(grid) + (one + zero).log().sum(1), 0)
    mean = weight @ grid
    assert off(draws["which"], weight @ (one / (one + zero))) < 5
    assert chains_agree(draws["place"], mean, weight @ (grid - mean) ** 2)
