"""Small models that several tests share, each with its exact answer beside it."""

import torch
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal

from aif_dcpc.inference import GraphicalModel, lag

# -- Gaussian pair ---------------------------------------------------------------------------------


def gaussian_pair(noise=0.5):
    """z ~ Normal(0, 1), x ~ Normal(z, noise)."""
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z, noise), ["z"])
    return model


def gaussian_pair_posterior(x, noise=0.5):
    """Mean and variance of z given x: precisions 1 and 1 / noise^2 add up."""
    variance = 1 / (1 + 1 / noise**2)
    return variance * x / noise**2, variance


def gaussian_pair_evidence(x, noise=0.5):
    """log p(x), nats: x is Normal(0, sqrt(1 + noise^2))."""
    return Normal(0.0, (1 + noise**2) ** 0.5).log_prob(x)


def wide_gaussian_pair(scale, dtype):
    """z ~ Normal(0, scale), x ~ Normal(z, 1/2)."""
    model = GraphicalModel()
    zero, wide = torch.zeros((), dtype=dtype), torch.full((), scale, dtype=dtype)
    model.add_site("z", lambda: Normal(zero, wide))
    model.add_site("x", lambda z: Normal(z, 0.5), ["z"])
    return model


def gaussian_vectors(size):
    """z ~ Normal(0, I), x ~ Normal(z, .5 I), each a vector that is one event."""
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(size), 1.0), 1))
    model.add_site("x", lambda z: Independent(Normal(z, 0.5), 1), ["z"])
    return model


# -- a mean that all data share --------------------------------------------------------------------


def shared_mean():
    """g ~ Normal(0, 1) once for all data, x ~ Normal(g, 1)."""
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("x", lambda g: Normal(g, 1.0), ["g"])
    return model


def shared_mean_posterior(x):
    """Mean and variance of g given data x `(B,)`."""
    variance = 1 / (1 + len(x))
    return variance * x.sum(), variance


def shared_mean_evidence(x):
    """log p(x_1, .., x_B), nats: every pair of data has the covariance 1."""
    size = len(x)
    return MultivariateNormal(torch.zeros(size), torch.eye(size) + 1).log_prob(x)


# -- random walk -----------------------------------------------------------------------------------


def random_walk(step=0.8, noise=0.5):
    """s_0 ~ Normal(0, 1), s_t ~ Normal(s_{t-1}, step), o_t ~ Normal(s_t, noise)."""
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(s, step),
        [lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, noise), ["s"], scope="slice")
    return model


def random_walk_covariance(length, step=0.8):
    """Prior covariance of the states: 1 + step^2 min(t, u), `(length, length)`."""
    time = torch.arange(float(length))
    return 1 + step**2 * torch.minimum(time[:, None], time)


# -- linear-Gaussian state space -------------------------------------------------------------------


def linear_gaussian(dimension, length):
    """A state that turns and shrinks, seen with noise; returns model, rotation and a series `(T, D)` of data."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator))[0] * 0.95
    data = torch.randn(length, dimension, generator=generator)
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(s @ rotation.T, 0.3),
        parents=[lag("s")],
        initial=lambda: Normal(torch.zeros(dimension), 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 0.5), parents=["s"], scope="slice")
    return model, rotation.double(), data


def linear_gaussian_smoother(rotation, data):
    """Posterior mean and covariance of the whole series, `(T D,)` and `(T D, T D)`, by its joint precision."""
    length, dimension = data.shape
    eye = torch.eye(dimension).double()
    precision = torch.zeros(length * dimension, length * dimension).double()
    for t in range(length):
        now = slice(t * dimension, (t + 1) * dimension)
        precision[now, now] += eye / 0.25 + (eye if t == 0 else eye / 0.09)
        if t:
            before = slice((t - 1) * dimension, t * dimension)
            precision[before, before] += rotation.T @ rotation / 0.09
            precision[now, before] -= rotation / 0.09
            precision[before, now] -= rotation.T / 0.09
    covariance = precision.inverse()
    return covariance @ (data.double().flatten() / 0.25), covariance


def linear_gaussian_evidence(rotation, data):
    """log p(data), nats: the observations have the prior covariance of the states, and .25 on the diagonal."""
    _, covariance = linear_gaussian_smoother(rotation, data)
    eye = torch.eye(len(covariance)).double()
    prior = (covariance.inverse() - eye / 0.25).inverse()
    law = MultivariateNormal(torch.zeros(len(eye)).double(), prior + 0.25 * eye)
    return law.log_prob(data.double().flatten())


# -- hidden Markov models --------------------------------------------------------------------------


def hidden_markov(start, move, emission):
    """s_0 ~ Categorical(start), s_t ~ Categorical(move[s_{t-1}]), o_t ~ emission(s_t)."""
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Categorical(move[s]),
        [lag("s")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site("o", emission, ["s"], scope="slice")
    return model


def by_table(table):
    """An emission: the observation is drawn from the state's row of a table."""
    return lambda s: Categorical(table[s])


def every_path(start, move, likelihood):
    """Every path of the states and p(path, data), by enumeration.

    Args:
        start: `(M,)` probabilities of the first state.
        move: `(M, M)`, from row to column.
        likelihood: `(M, T)`, p(o_t | s_t) of the data at hand.

    Returns:
        Paths `(M^T, T)` and their joint probabilities with the data `(M^T,)`.
    """
    size, length = likelihood.shape
    paths = torch.cartesian_prod(*[torch.arange(size)] * length).reshape(-1, length)
    joint = start[paths[:, 0]] * likelihood[paths, torch.arange(length)].prod(1)
    for t in range(1, length):
        joint = joint * move[paths[:, t - 1], paths[:, t]]
    return paths, joint
