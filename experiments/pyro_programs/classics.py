"""Static programs in the manner of Pyro's own examples: regressions, pooling, capture-recapture, hidden Markov models.

They are small, so that enumeration, a grid or importance sampling tells their posteriors
(`references`); nothing in them was written for the engine.
"""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

# -- pooling ---------------------------------------------------------------------------------------

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(y: Tensor, errors: Tensor) -> None:
    """Effects as a location, a scale and standard normal numbers."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    tau = pyro.sample("tau", dist.HalfNormal(10.0))
    with pyro.plate("schools", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, errors), obs=y)


def eight_schools_centred(y: Tensor, errors: Tensor) -> None:
    """The same, effects drawn around their mean."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    tau = pyro.sample("tau", dist.HalfNormal(10.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, errors), obs=y)


eight_schools_reparam = pyro.poutine.reparam(
    eight_schools_centred, config={"theta": LocScaleReparam(0.0)}
)

AT_BATS = torch.tensor([45.0, 45.0, 45.0, 20.0, 10.0, 30.0])
HITS = torch.tensor([18.0, 15.0, 10.0, 4.0, 5.0, 6.0])


def fully_pooled(at_bats: Tensor, hits: Tensor) -> None:
    """One chance of success for all players."""
    phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
    with pyro.plate("players", len(at_bats)):
        pyro.sample("hits", dist.Binomial(at_bats, phi), obs=hits)


def not_pooled(at_bats: Tensor, hits: Tensor) -> None:
    """A chance of success for each player."""
    with pyro.plate("players", len(at_bats)):
        phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
        pyro.sample("hits", dist.Binomial(at_bats, phi), obs=hits)


def partially_pooled(at_bats: Tensor, hits: Tensor) -> None:
    """Chances of success from a Beta law of unknown mean and concentration."""
    m = pyro.sample("m", dist.Uniform(0.0, 1.0))
    kappa = pyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with pyro.plate("players", len(at_bats)):
        phi = pyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        pyro.sample("hits", dist.Binomial(at_bats, phi), obs=hits)


def partially_pooled_logits(at_bats: Tensor, hits: Tensor) -> None:
    """Log odds from a normal law of unknown location and scale."""
    loc = pyro.sample("loc", dist.Normal(-1.0, 1.0))
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    with pyro.plate("players", len(at_bats)):
        alpha = pyro.sample("alpha", dist.Normal(loc, scale))
        pyro.sample("hits", dist.Binomial(at_bats, logits=alpha), obs=hits)


# -- regressions -----------------------------------------------------------------------------------

NOISE = torch.Generator().manual_seed(3)
X = torch.randn(12, 2, generator=NOISE)
Y = X @ torch.tensor([1.0, 0.0]) + 0.5 + 0.5 * torch.randn(12, generator=NOISE)
CHOICES = torch.bernoulli(torch.sigmoid(2 * X[:, 0]), generator=NOISE)


class Regression(PyroModule):  # type: ignore[misc]
    """Linear regression as a module with random weights."""

    def __init__(self) -> None:
        super().__init__()
        linear: Any = PyroModule[nn.Linear]
        self.linear = linear(2, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of the observations."""
        mean: Tensor = self.linear(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("obs", dist.Normal(mean, 0.5), obs=y)
        return mean


def flat_regression(x: Tensor, y: Tensor) -> None:
    """Coefficients with flat priors."""
    beta = pyro.sample("beta", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ beta, 0.5), obs=y)


def sparse_regression(x: Tensor, y: Tensor) -> None:
    """Local scales for each coefficient."""
    local = pyro.sample("local", dist.HalfCauchy(torch.ones(2)).to_event(1))
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), local).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ beta + 0.5, 0.5), obs=y)


def logistic_regression(x: Tensor, y: Tensor, *, scale: float = 2.0) -> None:
    """Choices by the features; the scale is a keyword."""
    beta = pyro.sample("beta", dist.Normal(0.0, scale).expand([2]).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)


PAIRS = torch.tensor([[0.5, 0.9], [-1.0, -0.4], [1.5, 1.0], [0.1, -0.6], [-0.7, -1.1]])


def lkj(y: Tensor) -> None:
    """Scales and correlation of pairs."""
    theta = pyro.sample("theta", dist.HalfCauchy(torch.ones(2)).to_event(1))
    factor = pyro.sample("factor", dist.LKJCholesky(2, 1.5))
    with pyro.plate("data", len(y)):
        pyro.sample(
            "y",
            dist.MultivariateNormal(torch.zeros(2), scale_tril=theta.diag() @ factor),
            obs=y,
        )


# -- mixtures and topics ---------------------------------------------------------------------------

POINTS = torch.tensor([-2.1, -1.7, 0.4, 1.9, 2.4])


def gaussian_mixture(y: Tensor) -> None:
    """Two components of unknown weight and places."""
    weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
    with pyro.plate("components", 2):
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0))
    with pyro.plate("data", len(y)):
        which = pyro.sample("which", dist.Bernoulli(weight)).long()
        pyro.sample("y", dist.Normal(loc[which], 1.0), obs=y)


def toy_mixture(y: Tensor) -> None:
    """Which of two coins was thrown, every time."""
    pick = pyro.sample("pick", dist.Beta(2.0, 3.0))
    chances = torch.tensor([0.2, 0.7])
    for i in range(len(y)):
        coin = pyro.sample(f"coin_{i}", dist.Bernoulli(pick))
        pyro.sample(f"heads_{i}", dist.Binomial(4, chances[coin.long()]), obs=y[i])


HEADS = torch.tensor([1.0, 3.0, 4.0, 0.0, 2.0, 3.0, 1.0, 2.0, 3.0])
WORDS = torch.tensor([[0, 0, 1], [2, 3, 3], [0, 2, 1], [3, 3, 2]])  # (words, documents) by column


def lda(words: Tensor) -> None:
    """Two topics over four words."""
    with pyro.plate("topics", 2):
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(4)))
    with pyro.plate("documents", words.shape[1]):
        doc_topics = pyro.sample("doc_topics", dist.Dirichlet(0.5 * torch.ones(2)))
        with pyro.plate("words", len(words)):
            topic = pyro.sample("topic", dist.Categorical(doc_topics))
            pyro.sample("word", dist.Categorical(topic_words[topic]), obs=words)


COUNTS = torch.tensor([4.0, 5.0, 3.0, 6.0, 1.0, 0.0, 2.0, 1.0, 1.0, 0.0])


def change_point(y: Tensor) -> None:
    """Poisson counts whose rate changes once."""
    when = pyro.sample("when", dist.Categorical(torch.ones(len(y))))
    early = pyro.sample("early", dist.Gamma(2.0, 1.0))
    late = pyro.sample("late", dist.Gamma(2.0, 1.0))
    with pyro.plate("days", len(y)):
        rate = torch.where(torch.arange(len(y)) < when, early, late)
        pyro.sample("y", dist.Poisson(rate), obs=y)


def soft_constraint() -> None:
    """Two normal numbers whose sum is about one."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 2.0))
    pyro.sample("sum", dist.Normal(0.0, 0.1), obs=a + b - 1)
