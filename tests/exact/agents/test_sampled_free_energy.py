"""Expected free energy of outcomes that cannot be listed: against closed forms, quadrature and enumeration.

Monte Carlo terms must lie within 4 standard errors of the truth: 6 in 100,000 for each term if errors are Gaussian.
"""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import expected_free_energy
from aif_dcpc.agents.sampled_free_energy import (
    ResolutionWarning,
    gaussian_terms,
    mixture_surprise,
    sampled_terms,
    scaled,
)


def crossed_of(law, outcomes):
    """Log density of each particle's outcome under each particle's law, `(K, K)`."""
    return law.log_prob(outcomes[:, None])


def agrees(found, expected):
    for name, value in expected.items():
        error = abs(float(found.terms[name]) - value)
        assert error <= 4 * float(found.standard_errors[name]) + 1e-9, (name, error, value)


@pytest.mark.parametrize("seed", range(4))
def test_gaussian_outcomes_agree_with_their_closed_form(seed):
    torch.manual_seed(seed)
    spread, noise, wanted = 1.5, 0.7, 0.9
    law = Normal(0.4 + spread * torch.randn(2000).double(), noise)
    outcomes = law.sample()
    preference = Normal(torch.tensor(1.0).double(), wanted)
    found = sampled_terms(crossed_of(law, outcomes), preference.log_prob(outcomes))
    predicted = Normal(torch.tensor(0.4).double(), math.hypot(spread, noise))
    risk = float(kl_divergence(predicted, preference))
    ambiguity = float(Normal(torch.tensor(0.0).double(), noise).entropy())
    gain = math.log(math.hypot(spread, noise) / noise)
    agrees(
        found,
        {"risk": risk, "ambiguity": ambiguity, "information_gain": gain, "total": risk + ambiguity},
    )
    assert 0 < float(found.standard_errors["information_gain"]) < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_finite_outcomes_agree_with_enumeration(seed):
    source = np.random.default_rng(seed)
    states = source.dirichlet(np.ones(4))
    likelihood = source.dirichlet(np.ones(3), 4).T
    wanted = np.log(source.dirichlet(np.ones(3)))
    exact = expected_free_energy(states, likelihood, wanted)
    torch.manual_seed(seed)
    drawn = Categorical(torch.tensor(states)).sample((1500,))
    law = Categorical(torch.tensor(likelihood.T)[drawn])
    outcomes = law.sample()
    found = sampled_terms(crossed_of(law, outcomes), torch.tensor(wanted)[outcomes])
    names = ("risk", "ambiguity", "information_gain", "neg_expected_log_preference", "total")
    agrees(found, {name: getattr(exact, name) for name in names})


def test_mixed_outcomes_agree_with_quadrature():
    """A switch that is seen and a number whose mean follows a hidden binary state: p(o) by a fine grid."""
    torch.manual_seed(3)
    prior, hit, apart = 0.3, 0.8, 1.2
    state = torch.bernoulli(torch.full((2000,), prior)).double()
    switch_law = torch.distributions.Bernoulli(0.1 + (hit - 0.1) * state)
    number_law = Normal(apart * state, torch.tensor(1.0).double())
    switch, number = switch_law.sample(), number_law.sample()
    crossed = switch_law.log_prob(switch[:, None]) + number_law.log_prob(number[:, None])
    found = sampled_terms(crossed, -number.square())
    grid = np.linspace(-9, 11, 20_001)
    density = np.exp(-0.5 * (grid[None] - apart * np.array([[0.0], [1.0]])) ** 2) / math.sqrt(
        2 * math.pi
    )
    told = 0.0
    for value in (0, 1):
        chance = np.array([0.1, hit]) if value else np.array([0.9, 1 - hit])
        joint = chance[:, None] * density
        whole = np.array([1 - prior, prior]) @ joint
        for s, p in enumerate((1 - prior, prior)):
            told += p * np.trapezoid(joint[s] * np.log(joint[s] / whole), grid)
    agrees(
        found,
        {"information_gain": told, "neg_expected_log_preference": 1 + prior * apart**2},
    )


def test_novelty_is_told_apart_from_information_about_states():
    """o = s + theta + noise: I(o; theta | s) and I(o; s) in closed form."""
    torch.manual_seed(5)
    of_state, of_parameter, noise = 1.1, 0.8, 0.9
    state = of_state * torch.randn(2000).double()
    parameter = of_parameter * torch.randn(2000).double()
    law = Normal(state + parameter, noise)
    outcomes = law.sample()
    mixed = Normal(state[:, None] + parameter, noise).log_prob(outcomes[:, None])
    found = sampled_terms(crossed_of(law, outcomes), torch.zeros(2000), mixed)
    given_state = of_parameter**2 + noise**2
    novelty = 0.5 * math.log(given_state / noise**2)
    gain = 0.5 * math.log((of_state**2 + given_state) / given_state)
    agrees(found, {"novelty": novelty, "information_gain": gain})
    total = found.terms["risk"] + found.terms["ambiguity"] - found.terms["novelty"]
    assert torch.allclose(total, found.terms["total"])


def test_leaving_a_particle_out_is_what_it_says():
    """The jackknife's short cut against the statistic of every smaller cloud."""
    torch.manual_seed(0)
    crossed = torch.randn(6, 6, 2).double()
    whole, without = mixture_surprise(crossed)
    assert torch.allclose(whole, -(crossed.logsumexp(1) - math.log(6)).mean(0))
    for j in range(6):
        kept = [i for i in range(6) if i != j]
        small = crossed[kept][:, kept]
        assert torch.allclose(without[j], -(small.logsumexp(1) - math.log(5)).mean(0))


def test_coverage_of_the_standard_error():
    """Of 200 estimates of ln(2)/2 within 2 errors: below 170 has probability under 1e-9 if 95 % are."""
    torch.manual_seed(1)
    law = Normal(torch.randn(60, 200).double(), 1.0)
    outcomes = law.sample()
    found = sampled_terms(law.log_prob(outcomes[:, None]), torch.zeros(60, 200))
    error = (found.terms["information_gain"] - 0.5 * math.log(2)).abs()
    within = (error < 2 * found.standard_errors["information_gain"]).sum()
    assert int(within) >= 170


def test_a_few_particles_are_not_biased_towards_knowing_little():
    """Of 2,000 clouds of 16 the mean is right within 5 standard errors and 1/K^2; the plain estimate is not."""
    torch.manual_seed(4)
    law = Normal(torch.randn(16, 2000).double(), 1.0)
    outcomes = law.sample()
    crossed = law.log_prob(outcomes[:, None])
    told = sampled_terms(crossed, torch.zeros(16, 2000)).terms["information_gain"]
    allowed = 5 * float(told.std()) / math.sqrt(2000) + 1 / 16**2
    assert abs(float(told.mean()) - 0.5 * math.log(2)) < allowed
    plain = mixture_surprise(crossed)[0] + law.log_prob(outcomes).mean(0)
    assert abs(float(plain.mean()) - 0.5 * math.log(2)) > allowed


def test_more_information_than_particles_resolve_is_said():
    law = Normal(torch.arange(8).double() * 100, 1.0)
    with pytest.warns(ResolutionWarning, match="8 particles resolve 2.08"):
        found = sampled_terms(crossed_of(law, law.sample()), torch.zeros(8))
    assert not found.resolved


def test_an_outcome_that_must_not_happen_costs_infinitely_much():
    law = Normal(torch.zeros(5).double(), 1.0)
    found = sampled_terms(crossed_of(law, law.sample()), torch.tensor([0.0, -torch.inf, 0, 0, 0]))
    assert found.terms["risk"] == found.terms["total"] == torch.inf
    assert found.terms["information_gain"].isfinite()


def test_shapes_are_checked():
    with pytest.raises(AgentError, match="at least 3 particles"):
        sampled_terms(torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(AgentError, match=r"expected \(4, 3\)"):
        sampled_terms(torch.zeros(4, 4, 3), torch.zeros(4))


def test_gaussian_terms_in_several_dimensions():
    """Against torch's own entropies and divergences, and both decompositions of the total."""
    torch.manual_seed(2)

    def covariance():
        root = torch.randn(3, 3).double()
        return root @ root.mT + 0.1 * torch.eye(3)

    state, noise, wanted = covariance(), covariance(), covariance()
    mean, goal = torch.randn(3).double(), torch.randn(3).double()
    found = gaussian_terms(state, mean, noise, goal, wanted)
    outcome = MultivariateNormal(mean, state + noise)
    preference = MultivariateNormal(goal, wanted)
    given_state = MultivariateNormal(mean, noise)
    assert torch.allclose(found["risk"], kl_divergence(outcome, preference))
    assert torch.allclose(found["ambiguity"], given_state.entropy())
    assert torch.allclose(found["information_gain"], outcome.entropy() - given_state.entropy())
    by_value = found["neg_expected_log_preference"] - found["information_gain"]
    assert torch.allclose(found["total"], by_value)
    with pytest.raises(AgentError, match="noise: expected a positive definite"):
        gaussian_terms(state, mean, noise - 100 * torch.eye(3), goal, wanted)


def test_infinities_times_0_are_0_and_times_1_themselves():
    statistic = torch.tensor([math.inf, 2.0]), torch.tensor([[1.0, -math.inf]])
    for found in scaled(statistic, 0.0):
        assert not found.any() and not found.isnan().any()
    for factor in (1.0, -2.0):
        for found, given in zip(scaled(statistic, factor), statistic, strict=True):
            assert torch.equal(found, factor * given)
