"""The engine's own distributions against what defines a distribution: one contract for every class, and closed forms."""

import mpmath
import pytest
import torch
from scipy.stats import beta, chi2, kstest
from torch.distributions import LKJCholesky as TorchLKJCholesky

from aif_dcpc.inference.distributions import DiscretizedNormal, LKJCholesky

FALSE_ALARM = 1e-6
CASES = {
    "pixels": lambda: DiscretizedNormal(
        torch.tensor([0.2, 0.9]), torch.tensor([0.1, 0.5]), levels=256
    ),
    "outside the grid": lambda: DiscretizedNormal(
        torch.tensor([-3.0, 9.0]), torch.tensor(1.5), low=-1.0, levels=4
    ),
    "narrow": lambda: DiscretizedNormal(torch.tensor([0.5]), torch.tensor(0.01), levels=7),
    "broad": lambda: DiscretizedNormal(torch.tensor([0.5]), torch.tensor(1000.0), levels=33),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def distribution(request):
    return request.param()


def test_probabilities_sum_to_one(distribution):
    total = distribution.log_prob(distribution.enumerate_support()).double().logsumexp(0)
    assert total.abs().max() < 1e-4


def test_samples_follow_the_probabilities(distribution):
    """Chi-square over cells of expected count 5 and more; a right sampler fails once in 1e6."""
    torch.manual_seed(0)
    number = 20000
    draws = distribution.sample((number,))
    assert draws.shape == (number, *distribution.batch_shape)
    assert distribution.support.check(draws).all()
    values = distribution.enumerate_support()
    expected = distribution.log_prob(values).double().exp() * number
    nearest = (draws.unsqueeze(0) - values.unsqueeze(1)).abs().argmin(0)
    for column in range(expected.shape[1]):
        counts = torch.bincount(nearest[:, column], minlength=len(values)).double()
        common = expected[:, column] >= 5
        rest = torch.stack([counts[~common].sum(), expected[~common, column].sum().clamp_min(1.0)])
        statistic = ((counts - expected[:, column]).square() / expected[:, column])[common].sum()
        statistic = statistic + (rest[0] - rest[1]).square() / rest[1]
        assert statistic < chi2.isf(FALSE_ALARM / len(CASES) / 2, int(common.sum()))


def test_expanding_changes_nothing_but_the_shape(distribution):
    wide = distribution.expand((3, *distribution.batch_shape))
    value = distribution.enumerate_support()[1]
    assert wide.batch_shape == (3, *distribution.batch_shape)
    assert torch.equal(wide.log_prob(value)[2], distribution.log_prob(value))
    assert wide.sample().shape == wide.batch_shape


def test_values_off_the_grid_are_refused():
    checked = DiscretizedNormal(0.0, 1.0, levels=3, validate_args=True)
    checked.log_prob(torch.tensor(0.5))
    with pytest.raises(ValueError, match="support"):
        checked.log_prob(torch.tensor(0.3))


def exact_log_prob(value, loc, scale, width, precision=60):
    with mpmath.workdps(precision):
        lower, upper = (
            (mpmath.mpf(value) + s * mpmath.mpf(width) / 2 - loc) / scale for s in (-1, 1)
        )
        tail = -1 if value < loc else 1
        a, b = (lower, upper) if tail > 0 else (-upper, -lower)
        return float(
            mpmath.log((mpmath.erfc(a / mpmath.sqrt(2)) - mpmath.erfc(b / mpmath.sqrt(2))) / 2)
        )


# up to 400 standard deviations from the value in the middle, .5
TAILS = [
    (loc, scale)
    for loc in (0.5, -3.0, -40.0, 25.0)
    for scale in (0.002, 0.1, 0.26, 0.3, 5.0)
    if abs(0.5 - loc) <= 400 * scale
]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 2e-4)])
@pytest.mark.parametrize(("loc", "scale"), TAILS)
def test_log_prob_is_exact_in_the_tails(loc, scale, dtype, tolerance):
    normal = DiscretizedNormal(
        torch.tensor(loc, dtype=dtype),
        torch.tensor(scale, dtype=dtype),
        low=0.0,
        high=1.0,
        levels=201,
    )
    value = normal.enumerate_support()[100]
    loc = float(normal.loc)
    scale = float(normal.scale)
    expected = exact_log_prob(float(value), loc, scale, 1 / 200)
    assert abs(float(normal.log_prob(value)) - expected) < tolerance * max(1.0, abs(expected))


def test_gradients_stay_finite_where_the_probability_underflows():
    loc = torch.tensor([-50.0, 0.5, 60.0], requires_grad=True)
    scale = torch.tensor(0.05, requires_grad=True)
    log_prob = DiscretizedNormal(loc, scale).log_prob(torch.tensor(100 / 255))
    gradients = torch.autograd.grad(log_prob.sum(), [loc, scale])
    assert all(torch.isfinite(g).all() for g in gradients)
    assert gradients[0][0] > 0 > gradients[0][2]  # towards the value


def test_a_learned_scale_finds_the_maximum_likelihood():
    """With cells far narrower than the scale the maximum is the usual one, sqrt(mean (x - loc)^2 - width^2 / 12)."""
    torch.manual_seed(0)
    data = DiscretizedNormal(torch.tensor(0.5), torch.tensor(0.08)).sample((5000,))
    expected = ((data - 0.5).square().mean() - 1 / 255**2 / 12).sqrt()
    log_scale = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([log_scale], line_search_fn="strong_wolfe", max_iter=50)

    def closure():
        optimiser.zero_grad()
        loss = -DiscretizedNormal(torch.tensor(0.5), log_scale.exp()).log_prob(data).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert abs(log_scale.exp() / expected - 1) < 1e-3


@pytest.mark.parametrize(("dim", "concentration"), [(2, 1.0), (3, 1.0), (3, 2.0), (5, 0.7)])
def test_correlations_are_beta(dim, concentration):
    """Each is 2 b - 1 with b ~ Beta(a, a), a = concentration - 1 + dim / 2 (Lewandowski et al. 2009)."""
    torch.manual_seed(0)
    factor = LKJCholesky(dim, concentration).sample((20000,)).double()
    correlation = factor @ factor.mT
    shape = concentration - 1 + dim / 2
    rows, columns = torch.tril_indices(dim, dim, -1)
    for entry in correlation[:, rows, columns].T:
        assert kstest(((1 + entry) / 2).numpy(), beta(shape, shape).cdf).pvalue > FALSE_ALARM / len(
            rows
        )
        # second moment 1 / (2 concentration + dim - 1), variance from the fourth, 3 m / (2
        # concentration + dim + 1)
        second = 1 / (2 * concentration + dim - 1)
        error = ((3 * second / (2 * concentration + dim + 1) - second**2) / 20000) ** 0.5
        assert abs(entry.square().mean() - second) < 5 * error


def test_factors_of_correlations_keep_their_density_and_shapes():
    ours, theirs = (
        family(3, torch.tensor([0.5, 2.0])) for family in (LKJCholesky, TorchLKJCholesky)
    )
    drawn = ours.expand((4, 2)).sample((5,))
    assert drawn.shape == (5, 4, 2, 3, 3) and ours.support.check(drawn).all()
    assert torch.equal(ours.log_prob(drawn), theirs.log_prob(drawn))
