"""Six Pyro programs of static structure, with data drawn once from a fixed seed."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

Program = tuple[Callable[..., None], tuple[Any, ...]]
EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools_centred(y: Tensor) -> None:
    """Rubin's eight schools; effects around their mean."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, ERRORS), obs=y)


def eight_schools(y: Tensor) -> None:
    """The same with standardised effects."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * eta, ERRORS), obs=y)


def logistic_regression(x: Tensor, y: Tensor) -> None:
    """Five weights and an intercept."""
    intercept = pyro.sample("intercept", dist.Normal(0.0, 2.0))
    weights = pyro.sample("weights", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ weights + intercept), obs=y)


def hierarchical_regression(x: Tensor, group: Tensor, y: Tensor) -> None:
    """A slope and an intercept per group, around shared means with unknown spreads."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    spread = pyro.sample("spread", dist.LogNormal(torch.full((2,), -0.5), 0.7).to_event(1))
    noise = pyro.sample("noise", dist.LogNormal(-0.5, 0.5))
    with pyro.plate("groups", 6):
        line = pyro.sample("line", dist.Normal(mean, spread).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(line[group, 0] + line[group, 1] * x, noise), obs=y)


def state_space(y: Tensor) -> None:
    """Stochastic volatility, one sample statement per step."""
    persistence = pyro.sample("persistence", dist.Beta(8.0, 2.0))
    state = pyro.sample("s0", dist.Normal(0.0, 1.0))
    for t in pyro.markov(range(len(y))):
        if t:
            state = pyro.sample(f"s{t}", dist.Normal(persistence * state, 0.5))
        pyro.sample(f"y{t}", dist.Normal(0.0, torch.exp(state / 2)), obs=y[t])


def mixture(y: Tensor) -> None:
    """Two Gaussians, told apart by their priors; the assignments are latent (NUTS sums them out)."""
    weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
    low = pyro.sample("low", dist.Normal(-2.0, 1.0))
    high = pyro.sample("high", dist.Normal(2.0, 1.0))
    with pyro.plate("data", len(y)):
        which = pyro.sample("which", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(torch.where(which > 0, high, low), 1.0), obs=y)


def programs() -> dict[str, Program]:
    """Name -> program and its arguments."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    x = normal(60, 5)
    chances = torch.sigmoid(x @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0]) + 0.5)
    answers = torch.bernoulli(chances, generator=generator)
    group = torch.arange(48) % 6
    covariate = normal(48)
    line = 1 + normal(6, 2)
    response = line[group, 0] + line[group, 1] * covariate + 0.6 * normal(48)
    points = torch.cat([normal(12) - 1.5, normal(18) + 2])
    return {
        "eight schools, centred": (eight_schools_centred, (EFFECTS,)),
        "eight schools": (eight_schools, (EFFECTS,)),
        "logistic regression": (logistic_regression, (x, answers)),
        "hierarchical regression": (hierarchical_regression, (covariate, group, response)),
        "state-space loop": (state_space, (normal(12) * torch.linspace(0.5, 2, 12),)),
        "Gaussian mixture": (mixture, (points,)),
    }
