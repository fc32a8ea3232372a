"""Exact posteriors of the simulated data: against dense covariances, double sums and integrals."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import beta, multivariate_normal, norm

from aif_dcpc.experiments.posteriordb import simulate
from aif_dcpc.experiments.posteriordb.files import raw, reference
from aif_dcpc.experiments.posteriordb.simulated import SIMULATED
from aif_dcpc.inference import DCPC


def level_covariance(drift, noise, steps):
    """Of the path, and of what is seen of it: a walk from N(0, 2)."""
    path = 4 + drift**2 * np.minimum.outer(np.arange(steps), np.arange(steps))
    return path, path + noise**2 * np.eye(steps)


def test_the_local_level_agrees_with_its_dense_covariance():
    y = np.random.default_rng(3).standard_normal(7)
    drift, noise = np.array([[0.3, 1.0], [0.8, 0.5], [0.1, 2.0]]).T
    found = simulate.level_posterior(y, drift, noise)
    log_density = []
    for i, (q, r) in enumerate(zip(drift, noise, strict=True)):
        path, seen = level_covariance(q, r, 7)
        gain = path @ np.linalg.inv(seen)
        np.testing.assert_allclose(found.mean[:, i], gain @ y)
        np.testing.assert_allclose(found.variance[:, i], np.diag(path - gain @ path))
        prior = norm.logpdf([q, r]).sum() + np.log(q * r)  # on logarithms
        log_density.append(prior + multivariate_normal.logpdf(y, np.zeros(7), seen))
    np.testing.assert_allclose(found.weights, np.exp(log_density) / np.exp(log_density).sum())


def volatility_by_hand(y, mu, phi, sigma):
    """p(y) and moments of h[2], two steps, by sums over a fine square."""
    axis = np.linspace(-9, 9, 1201)
    one, two = np.meshgrid(axis, axis, indexing="ij")
    density = norm.pdf(one, mu, sigma / math.sqrt(1 - phi**2))
    density *= norm.pdf(two, mu + phi * (one - mu), sigma)
    for h, value in ((one, y[0]), (two, y[1])):
        density *= norm.pdf(value, 0, np.exp(h / 2))
    evidence = density.sum() * (axis[1] - axis[0]) ** 2
    mean = (density * two).sum() / density.sum()
    return evidence, mean, (density * (two - mean) ** 2).sum() / density.sum()


def test_stochastic_volatility_agrees_with_a_double_sum():
    y = np.array([1.3, -0.2])
    place = np.array([0.5, 1.5])
    odds = np.array([1.0, 2.5])
    logs = np.array([-0.5, 0.1])
    found, (mu, phi, sigma) = simulate.volatility_posterior(y, place, odds, logs)
    density = []
    for i in range(8):
        evidence, mean, variance = volatility_by_hand(y, mu[i], phi[i], sigma[i])
        assert found.mean[1, i] == pytest.approx(mean, abs=1e-5)
        assert found.variance[1, i] == pytest.approx(variance, rel=1e-4)
        p = (1 + phi[i]) / 2
        prior = norm.pdf(mu[i], 0, 2) * beta.pdf(p, 20, 1.5) * norm.pdf(sigma[i], 0, 0.5)
        # mu by sinh, p by its log odds, sigma by its logarithm
        spacing = np.hypot(1, 5 * (mu[i] - simulate.CENTRE)) * p * (1 - p) * sigma[i]
        density.append(evidence * prior * spacing)
    np.testing.assert_allclose(found.weights, np.array(density) / sum(density), rtol=1e-5)
    np.testing.assert_allclose(np.unique(phi), 2 * expit(odds) - 1)
    np.testing.assert_allclose(np.unique(mu), simulate.CENTRE + np.sinh(place) / 5)
    np.testing.assert_allclose(np.unique(sigma), np.exp(logs))


def test_the_funnel_agrees_with_integrals():
    moments = simulate.funnel_moments()
    first = 2 * quad(lambda z: math.log(z) * norm.pdf(z), 0, 12)[0]
    second = 2 * quad(lambda z: math.log(z) ** 2 * norm.pdf(z), 0, 12)[0]
    mean, sd = moments["log_x[9]"]
    assert mean == pytest.approx(first, abs=1e-6)
    assert sd**2 == pytest.approx(second - first**2 + 9 / 4, abs=1e-6)


def test_the_file_holds_what_is_simulated():
    """Data to the last digit; exact moments of the local level, coarser ones of the volatilities."""
    y = simulate.level_data(np.random.default_rng(1)).round(4)
    assert raw("local_level")["y"] == y.tolist()
    held = reference()["local_level"]["parameters"]
    for name, moments in simulate.level_moments(y, 80).items():
        assert (held[name]["mean"], held[name]["sd"]) == pytest.approx(moments, rel=1e-6)
    y = simulate.volatility_data(np.random.default_rng(2)).round(4)
    assert raw("stochastic_volatility")["y"] == y.tolist()
    held = {k: v["mean"] for k, v in reference()["stochastic_volatility"]["parameters"].items()}
    assert len(held) == 3 + len(y)
    coarse = simulate.volatility_moments(y, 12)
    assert max(abs(held[k] - mean) / sd for k, (mean, sd) in coarse.items()) < 0.1


@pytest.mark.parametrize("name", SIMULATED)
def test_every_parameter_of_the_reference_is_drawn(name):
    model, data = SIMULATED[name].build()
    state = DCPC(model, num_particles=2).init(data, seed=0)
    found = SIMULATED[name].parameters({k: v[:, 0] for k, v in state.particles.items()})
    assert set(reference()[name]["parameters"]) <= set(found)
    assert all(value.shape == (2,) for value in found.values())


def test_the_local_level_is_the_model_that_was_integrated():
    """The engine's log joint against normal densities, in double precision."""
    model, data = SIMULATED["local_level"].build()
    data = {k: v.double() for k, v in data.items()}
    rng = np.random.default_rng(0)
    path = rng.standard_normal((3, 100))
    scales = {"drift": np.array([0.3, 0.7, 1.1]), "noise": np.array([1.0, 0.4, 0.9])}
    particles = {k: torch.tensor(v)[:, None] for k, v in scales.items()}
    particles["level"] = torch.tensor(path)[:, None]
    engine = DCPC(model, num_particles=3)
    found = engine.log_joint(engine.init(data, particles=particles, seed=0))[:, 0].numpy()
    expected = []
    for x, q, r in zip(path, scales["drift"], scales["noise"], strict=True):
        total = 2 * math.log(2) + norm.logpdf([q, r]).sum() + math.log(q * r)  # half-normal, logs
        total += norm.logpdf(x[0], 0, 2) + norm.logpdf(np.diff(x), 0, q).sum()
        expected.append(total + norm.logpdf(data["y"][0].numpy(), x, r).sum())
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-5)
