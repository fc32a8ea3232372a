"""Regression on features in closed form, against Student's t, kernels of Gaussian processes and determinants."""

import math

import pytest
import torch
from clouds import close
from scipy.stats import multivariate_t

from aif_dcpc.agents.gaussian.evidence import LARGEST, fit_shape, log_posterior, log_prior
from aif_dcpc.agents.gaussian.features import (
    Features,
    Scales,
    Shape,
    orthogonal_frequencies,
    prior_scale,
)
from aif_dcpc.agents.gaussian.imagination import novelty
from aif_dcpc.agents.gaussian.regression import RATE, SHAPE, Regression, Sums

ROWS, FEATURES, OUTPUTS = 7, 5, 2


def problem(seed=0, rows=ROWS):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(rows, FEATURES, generator=generator, dtype=torch.double)
    y = 0.05 * torch.randn(rows, OUTPUTS, generator=generator, dtype=torch.double)
    scale = 0.5 + torch.rand(FEATURES, generator=generator, dtype=torch.double)
    return phi, y, scale


def kernel_of(phi, scale):
    """Prior covariance of the outputs in units of the noise, noise included."""
    return torch.eye(len(phi), dtype=torch.double) + phi @ torch.diag(scale**2) @ phi.T


def test_evidence_is_students_t():
    """With weights and noise integrated out, outputs are t with 2a degrees of freedom, scale b/a (I + phi S phi')."""
    phi, y, scale = problem()
    law = multivariate_t(shape=RATE / SHAPE * kernel_of(phi, scale).numpy(), df=2 * SHAPE)
    expected = sum(law.logpdf(y[:, d].numpy()) for d in range(OUTPUTS))
    found = Regression.given(Sums.of(phi, y), scale).log_evidence()
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_predictions_are_those_of_the_kernel():
    """The mean at new rows is k' K^-1 y; the noise follows from y' K^-1 y."""
    phi, y, scale = problem()
    new, _, _ = problem(seed=1)
    inverse = kernel_of(phi, scale).inverse()
    found = Regression.given(Sums.of(phi, y), scale)
    expected = new @ torch.diag(scale**2) @ phi.T @ inverse @ y
    assert torch.allclose(new @ found.mean, expected, atol=1e-10)
    quadratic = torch.einsum("nd,nm,md->d", y, inverse, y)
    assert torch.allclose(found.rate, RATE + quadratic / 2, atol=1e-10)
    assert float(found.shape) == SHAPE + ROWS / 2


def test_draws_have_the_posteriors_moments():
    phi, y, scale = problem()
    found = Regression.given(Sums.of(phi, y), scale)
    weights, noise = found.draw(20_000, generator=torch.Generator().manual_seed(0))
    covariance = (phi.T @ phi + torch.diag(scale**-2)).inverse()
    for output in range(OUTPUTS):
        standard = (weights[..., output] - found.mean[:, output]) / noise[:, output, None].sqrt()
        whitened = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), standard.T, upper=False
        )
        for row in whitened:
            assert close(row, 0.0, 1.0)
        # 1 / noise is Gamma(shape, rate)
        shape, rate = float(found.shape), float(found.rate[output])
        mean = float((1 / noise[:, output]).mean())
        error = math.sqrt(shape) / rate / math.sqrt(len(noise))
        assert abs(mean - shape / rate) < 5 * error


def test_rows_that_do_not_count_are_left_out():
    phi, y, scale = problem()
    used = torch.tensor([True, False, True, True, False, True, True])
    some = Regression.given(Sums.of(phi, y, used), scale)
    same = Regression.given(Sums.of(phi[used], y[used]), scale)
    assert torch.allclose(some.mean, same.mean) and torch.allclose(some.rate, same.rate)
    assert float(some.shape) == float(same.shape)


def test_sums_add_up():
    phi, y, scale = problem()
    parts = Sums.of(phi[:3], y[:3]) + Sums.of(phi[3:], y[3:])
    whole = Regression.given(Sums.of(phi, y), scale)
    assert torch.allclose(Regression.given(parts, scale).mean, whole.mean)


def test_novelty_of_a_sequence_is_the_entropy_that_its_outcomes_share_with_the_weights():
    """I(o; W) = H[o] - H[o | W]: half the log determinant of the outcomes' covariance in units of noise, per output."""
    phi, y, scale = problem()
    found = Regression.given(Sums.of(phi, y), scale)
    new = torch.stack([problem(seed=s, rows=4)[0] for s in (2, 3)])
    covariance = (phi.T @ phi + torch.diag(scale**-2)).inverse()
    steps = novelty(found, new)
    for candidate in range(2):
        for steps_so_far in range(1, 5):
            path = new[candidate, :steps_so_far]
            total = torch.eye(steps_so_far, dtype=torch.double) + path @ covariance @ path.T
            expected = OUTPUTS * 0.5 * torch.logdet(total)
            assert float(steps[candidate, :steps_so_far].sum()) == pytest.approx(float(expected))


def test_what_is_known_finely_enough_is_no_news():
    """Outcomes seen with a resolution r: half the log determinant of v (I + Phi P^-1 Phi') + r^2 over v + r^2."""
    phi, y, scale = problem()
    found = Regression.given(Sums.of(phi, y), scale)
    new = problem(seed=2, rows=4)[0]
    covariance = (phi.T @ phi + torch.diag(scale**-2)).inverse()
    resolution = 0.04
    expected = 0.0
    for noise in found.noise.tolist():
        seen = torch.eye(4, dtype=torch.double) * (noise + resolution**2)
        expected += 0.5 * float(torch.logdet(seen + noise * new @ covariance @ new.T))
        expected -= 0.5 * float(torch.logdet(seen))
    told = novelty(found, new[None], resolution).sum()
    assert float(told) == pytest.approx(expected)
    assert float(told) < float(novelty(found, new[None]).sum())


def test_nothing_is_learned_twice():
    """n outcomes at one place tell 1/2 ln(1 + n q) per output, not n times the first."""
    phi, y, scale = problem()
    found = Regression.given(Sums.of(phi, y), scale)
    place = problem(seed=4)[0][:1]
    q = float(place @ (phi.T @ phi + torch.diag(scale**-2)).inverse() @ place.T)
    told = novelty(found, place.expand(1, 6, -1)).sum()
    assert float(told) == pytest.approx(OUTPUTS * 0.5 * math.log(1 + 6 * q))


def test_waves_are_a_squared_exponential_kernel():
    """phi(a) . phi(b) over the waves is exp(-r^2 / 2), within 5 standard errors of the mean of 4,000 waves."""
    generator = torch.Generator().manual_seed(0)
    features = Features(3, 1, 4000, generator)
    one = torch.ones(3, dtype=torch.double)
    lengths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.double)
    spread = torch.tensor([1.0, 3.0, 0.2], dtype=torch.double)
    features.set(
        Scales(centre=0.3 * one, spread=spread, change=one[:1]),
        Shape(lengthscales=lengths, linear=one[0], waves=one[0]),
    )
    a = torch.randn(20, 3, generator=generator, dtype=torch.double) * spread
    b = torch.randn(20, 3, generator=generator, dtype=torch.double) * spread
    found = (features(a)[:, 4:] * features(b)[:, 4:]).sum(-1)
    expected = (-0.5 * ((a - b) / (lengths * spread)).square().sum(-1)).exp()
    assert float((found - expected).abs().max()) < 5 / math.sqrt(4000)


def test_linear_features_are_standardised_and_level_off():
    features = Features(2, 1, 4, torch.Generator().manual_seed(0))
    tensor = torch.tensor([1.0, -2.0], dtype=torch.double)
    features.set(
        Scales(centre=tensor, spread=2 * tensor.abs(), change=tensor[:1]), Shape.default(2)
    )
    found = features(torch.tensor([[3.0, -2.0], [1e9, -1e9]], dtype=torch.double))
    assert found[:, :3].tolist() == [[1.0, 1.0, 0.0], [1.0, 10.0, -10.0]]


def test_the_posterior_of_smoothness_is_evidence_plus_prior():
    generator = torch.Generator().manual_seed(0)
    features = Features(2, 1, 6, generator)
    inputs = torch.randn(9, 2, generator=generator, dtype=torch.double)
    outputs = inputs[:, :1].sin()
    logs = torch.tensor([0.2, 0.4, 1.0, 1.5], dtype=torch.double)
    shape = Shape(lengthscales=logs[:2].exp(), linear=logs[2].exp(), waves=logs[3].exp())
    one = torch.ones(2, dtype=torch.double)
    features.set(Scales(centre=0 * one, spread=one, change=one[:1]), shape)
    kernel = kernel_of(features(inputs), prior_scale(shape, 2, 6))
    law = multivariate_t(shape=RATE / SHAPE * kernel.numpy(), df=2 * SHAPE)
    expected = law.logpdf(outputs[:, 0].numpy()) + float(log_prior(logs))
    found = log_posterior(logs, features.base, features.phases, inputs, outputs)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_evidence_finds_what_matters():
    """Of two inputs one bends the output and the other does nothing: its lengthscale must be the longer."""
    generator = torch.Generator().manual_seed(0)
    features = Features(2, 1, 60, generator)
    inputs = torch.randn(200, 2, generator=generator, dtype=torch.double)
    outputs = (2 * inputs[:, :1]).sin()
    shape = Shape.default(2)
    before = log_posterior(_logs(shape), features.base, features.phases, inputs, outputs)
    for _ in range(4):
        shape = fit_shape(features.base, features.phases, inputs, outputs, shape)
    after = log_posterior(_logs(shape), features.base, features.phases, inputs, outputs)
    assert float(after) > float(before)
    assert float(shape.lengthscales[1]) > 3 * float(shape.lengthscales[0])


def _logs(shape):
    return torch.cat([shape.lengthscales, shape.linear[None], shape.waves[None]]).log()


def test_the_prior_stays_where_its_inverse_is_more_than_rounding():
    """Where there is no noise at all the evidence would let the prior be as wide as it likes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 2, generator=generator, dtype=torch.double)
    base = orthogonal_frequencies(2, 8, generator)
    wide = Shape(
        lengthscales=torch.full((2,), 5.0).double(),
        linear=torch.tensor(1e6).double(),
        waves=torch.tensor(2e4).double(),
    )
    found = fit_shape(base, torch.zeros(8).double(), inputs, inputs @ inputs.new_ones(2, 1), wide)
    assert float(found.linear) == LARGEST and 10 < float(found.waves) <= LARGEST
    eps = torch.finfo(torch.double).eps
    assert LARGEST**-2 > 100 * eps * 4000  # a gram of some thousand rows
