"""Programs in the manner of Pyro's and NumPyro's documentation that `classics` and `series` do not hold.

Counts with too many zeros, ordered answers, annotators, pairs, censored lives, a Gaussian process,
imputation, laws with hidden states inside, loops that carry two numbers; and programs that are refused.
"""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

ZEROS = torch.tensor([0.0, 0, 3, 0, 5, 2, 0, 0, 4, 1, 0, 6])


def zero_inflated(counts: Tensor) -> None:
    """Some counts are zero for a reason of their own."""
    gate = pyro.sample("gate", dist.Beta(1.0, 1.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    with pyro.plate("data", len(counts)):
        pyro.sample("counts", dist.ZeroInflatedPoisson(rate=rate, gate=gate), obs=counts)


DOSES = torch.tensor([-1.0, 0.1, 1.2, 0.3, -0.7, 0.9, 1.4, -0.2, -1.1, 0.2])
ANSWERS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 1])


def ordinal(doses: Tensor, answers: Tensor) -> None:
    """Answers on a scale of three, cut at ordered points."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    cuts = pyro.deterministic("cuts", torch.logit(shares.cumsum(-1)[:-1]))
    with pyro.plate("data", len(doses)):
        pyro.sample("answers", dist.OrderedLogistic(slope * doses, cuts), obs=answers)


LABELS = torch.tensor(
    [[0, 0, 1, 0, 1, 1, 2, 2], [0, 1, 1, 0, 1, 0, 2, 2], [0, 0, 1, 0, 2, 1, 2, 1]]
)


def dawid_skene(labels: Tensor) -> None:
    """Annotators who confuse classes, each in his own way."""
    annotators, items = labels.shape
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("annotators", annotators, dim=-2), pyro.plate("classes", 3):
        confusion = pyro.sample("confusion", dist.Dirichlet(torch.ones(3) + 2 * torch.eye(3)))
    with pyro.plate("items", items, dim=-1):
        truth = pyro.sample("truth", dist.Categorical(shares), infer={"enumerate": "parallel"})
        with pyro.plate("places", annotators, dim=-2):
            chances = confusion[torch.arange(annotators)[:, None], truth]
            pyro.sample("labels", dist.Categorical(chances), obs=labels)


GAMES = torch.tensor(
    [[0, 1], [0, 2], [1, 2], [0, 1], [2, 1], [3, 0], [3, 1], [2, 3], [0, 3], [1, 2]]
)


def bradley_terry(games: Tensor) -> None:
    """Strengths of players from who beat whom."""
    with pyro.plate("players", 4):
        strength = pyro.sample("strength", dist.Normal(0.0, 1.0))
    with pyro.plate("games", len(games)):
        odds = strength[games[:, 0]] - strength[games[:, 1]]
        pyro.sample("won", dist.Bernoulli(logits=odds), obs=torch.ones(len(games)))


LIVES = torch.tensor([1.0, 2.0, 0.5, 3.0, 2.5, 4.0, 4.0, 1.2])
CENSORED = torch.tensor([0, 0, 0, 0, 1, 1, 1, 0]).bool()


def survival(lives: Tensor, censored: Tensor) -> None:
    """Lifetimes, some of them known to be longer only."""
    shape = pyro.sample("shape", dist.LogNormal(0.0, 0.5))
    scale = pyro.sample("scale", dist.LogNormal(1.0, 0.5))
    with pyro.plate("data", len(lives)):
        died: Any = ~censored  # Pyro types its masks by a class that tensors do not have
        outlived: Any = censored
        with poutine.mask(mask=died):
            pyro.sample("lives", dist.Weibull(scale, shape), obs=lives)
        with poutine.mask(mask=outlived):
            longer = torch.exp(-((lives / scale) ** shape))
            pyro.sample("longer", dist.Bernoulli(longer), obs=torch.ones(len(lives)))


PLACES = torch.linspace(-1.0, 1.0, 10)
HEIGHTS = torch.tensor([-0.95, -1.1, -0.8, -0.7, -0.15, 0.3, 0.55, 0.95, 1.05, 0.85])


def gaussian_process(places: Tensor, heights: Tensor) -> None:
    """Length scale, height and noise of a smooth function."""
    length = pyro.sample("length", dist.LogNormal(-0.5, 0.5))
    height = pyro.sample("height", dist.LogNormal(0.0, 0.5))
    noise = pyro.sample("noise", dist.LogNormal(-2.0, 0.5))
    squares = (places[:, None] - places).square() / length.square()
    kernel = height.square() * torch.exp(-0.5 * squares)
    kernel = kernel + (noise.square() + 1e-4) * torch.eye(len(places))
    law = dist.MultivariateNormal(torch.zeros(len(places)), covariance_matrix=kernel)
    pyro.sample("heights", law, obs=heights)


DRIVE = torch.tensor([0.9, -1.3, 0.4, 1.8, -0.6, 0.2, -1.0, 1.4, 0.7, -0.3, 1.1, -0.8])
RESPONSE = torch.tensor([0.3, -0.9, 0.5, 0.9, 0.2, 0.4, -1.6, 1.9, 0.5, -0.8, 1.8, -0.7])


def moving_slope(drive: Tensor, response: Tensor) -> None:
    """A regression whose slope walks; the walk is a cumulated sum of steps."""
    step = pyro.sample("step", dist.HalfNormal(0.5))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    walk = pyro.sample("walk", dist.Normal(0.0, 1.0).expand([len(drive)]).to_event(1))
    slope = pyro.deterministic("slope", (step * walk).cumsum(-1))
    with pyro.plate("data", len(drive)):
        pyro.sample("response", dist.Normal(slope * drive, noise), obs=response)


SIGNAL = torch.tensor([-1.1, -0.7, -1.4, 0.9, 1.2, 0.6, 1.5, -0.9, -1.0, 0.8])


def hidden_states(signal: Tensor) -> None:
    """A hidden Markov model whose states are summed out by Pyro's own law."""
    rows = pyro.sample("rows", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    levels = pyro.sample("levels", dist.Normal(torch.tensor([-1.0, 1.0]), 0.5).to_event(1))
    law = dist.DiscreteHMM(
        torch.zeros(2), rows.log(), dist.Normal(levels, 1.0), duration=len(signal)
    )
    pyro.sample("signal", law, obs=signal)


AGES = torch.tensor([0.8, 1.9, float("nan"), 0.1, 1.2, float("nan"), 2.3, -0.2])
CLASS = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
SURVIVED = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])


def imputation(ages: Tensor, groups: Tensor, survived: Tensor) -> None:
    """Missing predictors are drawn beside the regression that reads them."""
    base = pyro.sample("base", dist.Normal(0.0, 1.0))
    shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    missing = torch.isnan(ages).nonzero().squeeze(-1)
    with poutine.mask(mask=False):
        law = dist.Normal((base + shift * groups)[missing], 0.5).to_event(1)
        imputed = pyro.sample("imputed", law)
    whole = ages.index_put((missing,), imputed)
    with pyro.plate("data", len(ages)):
        pyro.sample("ages", dist.Normal(base + shift * groups, 0.5), obs=whole)
        pyro.sample("survived", dist.Bernoulli(logits=slope * (whole - 1)), obs=survived)


TRACK = torch.tensor([0.3, -0.2, 0.6, 1.1, 0.7, 1.6, 1.2, 0.4, 0.9, 0.1, -0.5, -0.1])


def oscillation(track: Tensor) -> None:
    """Position and speed in turn, one loop that carries both."""
    noise = pyro.sample("noise", dist.LogNormal(-1.0, 0.5))
    carried = (torch.zeros(()), torch.zeros(()))
    for t in range(len(track)):
        place = pyro.sample(f"place_{t}", dist.Normal(0.9 * carried[0] + 0.4 * carried[1], 0.3))
        speed = pyro.sample(f"speed_{t}", dist.Normal(0.9 * carried[1] - 0.4 * carried[0], 0.3))
        carried = (place, speed)
        pyro.sample(f"track_{t}", dist.Normal(place, noise), obs=track[t])


POINTS = torch.tensor([-1.3, -0.9, -1.1, 0.8, 1.2, 1.5, 1.0, -0.7, 0.9, 1.3])


def ordered_mixture(points: Tensor) -> None:
    """Clusters told apart by the order of their means."""
    shares = pyro.sample("shares", dist.Dirichlet(2 * torch.ones(2)))
    first = pyro.sample("first", dist.Normal(-1.0, 1.0))
    gap = pyro.sample("gap", dist.LogNormal(0.0, 0.5))
    means = torch.stack([first, first + gap])
    with pyro.plate("data", len(points)):
        cluster = pyro.sample("cluster", dist.Categorical(shares))
        pyro.sample("points", dist.Normal(means[cluster], 0.5), obs=points)


# -- refused ---------------------------------------------------------------------------------------


def bounded_walk(track: Tensor) -> None:
    """Steps within bounds that move with the walk."""
    x = pyro.sample("x_0", dist.Normal(0.0, 1.0))
    for t in range(1, len(track)):
        x = pyro.sample(f"x_{t}", dist.Uniform(x - 1.0, x + 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=track[t])


def subsampled(points: Tensor) -> None:
    """A plate of minibatches."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(points), subsample_size=4) as chosen:
        pyro.sample("points", dist.Normal(mean, 1.0), obs=points[chosen])


def heavy_walk(track: Tensor) -> None:
    """Hidden states of heavy tails inside a law that has no density."""
    noise = dist.StudentT(3.0, torch.zeros(1), 1.0).to_event(1)
    start = dist.StudentT(3.0, torch.zeros(1), 1.0).to_event(1)
    law = dist.LinearHMM(start, torch.eye(1), noise, torch.eye(1), noise, duration=len(track))
    pyro.sample("track", law, obs=track[:, None])


def geometric() -> None:
    """A recursion that ends by chance."""

    def flip(number: int) -> int:
        heads = pyro.sample(f"flip_{number}", dist.Bernoulli(0.5))
        return 0 if heads.item() == 1 else 1 + flip(number + 1)

    flip(0)
