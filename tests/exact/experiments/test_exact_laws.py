"""Exact laws that the engine is measured against: a small lattice, one switch and one banana, each by other means."""

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from aif_dcpc.experiments.posteriordb import exact_laws


def test_a_lattice_agrees_with_enumeration(monkeypatch):
    monkeypatch.setattr(exact_laws, "SIDE", 3)
    spins = np.array(list(itertools.product((-1.0, 1.0), repeat=9))).reshape(-1, 3, 3)
    bonds = (spins[:, 1:] * spins[:, :-1]).sum((1, 2))
    bonds += (spins[:, :, 1:] * spins[:, :, :-1]).sum((1, 2))
    chance = np.exp(exact_laws.COUPLING * bonds)
    chance /= chance.sum()
    flat = spins.reshape(-1, 9)
    np.testing.assert_allclose(exact_laws.correlations(), flat.T @ (chance[:, None] * flat))
    assert exact_laws.positive_magnetisation() == pytest.approx(chance[flat.sum(1) > 0].sum())
    pairs = sum(flat[:, i] * flat[:, j] for i, j in exact_laws.pairs())
    np.testing.assert_allclose(pairs, bonds)


def test_weights_given_switches_are_those_of_a_joint_gaussian():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((6, 3))
    y = rng.standard_normal(6)
    used = inputs * [1.0, 0.0, 1.0]
    seen = used @ used.T + np.eye(6)
    log_density, mean, variance = exact_laws.weights_given(inputs, y, np.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(mean, used.T @ np.linalg.solve(seen, y))
    np.testing.assert_allclose(variance, 1 - np.diag(used.T @ np.linalg.solve(seen, used)))
    none, _, _ = exact_laws.weights_given(inputs, y, np.zeros(3))
    expected = multivariate_normal.logpdf(y, cov=seen) + 2 * np.log(0.3) + np.log(0.7)
    expected -= multivariate_normal.logpdf(y, cov=np.eye(6)) + 3 * np.log(0.7)
    assert log_density - none == pytest.approx(expected)


def test_the_banana_has_the_moments_of_its_plane(monkeypatch):
    monkeypatch.setattr(exact_laws, "VAGUE", 2.0)
    monkeypatch.setattr(exact_laws, "BANANA_WIDTH", 0.5)

    x, y = np.meshgrid(np.linspace(-4, 4, 801), np.linspace(-6, 9, 1501), indexing="ij")
    chance = norm.pdf(x, 1, 1) * norm.pdf(y, 0, 2) * norm.pdf(y - x**2, 0, 0.5)
    chance /= chance.sum()
    moments = exact_laws.rosenbrock().moments
    for name, value in (("x", x), ("y", y)):
        mean = (chance * value).sum()
        sd = (chance * (value - mean) ** 2).sum() ** 0.5
        assert moments[name]["mean"] == pytest.approx(mean, abs=1e-4)
        assert moments[name]["sd"] == pytest.approx(sd, abs=1e-4)
