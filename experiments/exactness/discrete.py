"""Discrete models, whose values are enumerated, and conjugate ones, whose posterior has a formula."""

import math
from itertools import pairwise, product

import torch
from torch.distributions import Bernoulli, Beta, Categorical, Dirichlet, Gamma, Normal, Poisson

from aif_dcpc.experiments.exactness.case import Case, condition, mixture_moments
from aif_dcpc.inference import GraphicalModel, lag


def hidden_markov_model(sharp: bool) -> Case:
    """Three states, six slices, by enumeration of every path."""
    start = torch.tensor([0.5, 0.3, 0.2])
    length = 6
    mild = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])
    move = 0.997 * torch.eye(3) + 0.001 if sharp else mild
    emit = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])
    data = torch.tensor([0, 2, 1, 1, 2, 0])
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Categorical(move[s]),
        parents=[lag("s")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site("o", lambda s: Categorical(emit[s]), parents=["s"], scope="slice")
    paths = torch.tensor(list(product(range(3), repeat=length)))
    scores = start[paths[:, 0]].log() + emit[paths, data].log().sum(1)
    for before, after in pairwise(range(length)):
        scores = scores + move[paths[:, before], paths[:, after]].log()
    exact = mixture_moments(
        scores, paths.double(), torch.zeros(len(paths), length, length).double()
    )
    return Case(
        f"hidden Markov model, {'sharp' if sharp else 'mild'}",
        model,
        {"o": data[None]},
        ("s",),
        *exact,
    )


def switching_system() -> Case:
    """A linear system whose law switches; every path of regimes is enumerated."""
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    slopes = torch.tensor([0.9, -0.5])
    noise = torch.tensor([0.3, 1.0])
    start = torch.tensor([0.5, 0.5])
    data = torch.tensor([0.5, -1.0, 1.5, 1.0, -0.5])
    length = len(data)
    model = GraphicalModel()
    model.add_site(
        "r",
        lambda r: Categorical(move[r]),
        parents=[lag("r")],
        initial=lambda: Categorical(start),
        scope="slice",
    )
    model.add_site(
        "z",
        lambda z, r: Normal(slopes[r] * z, noise[r]),
        parents=[lag("z"), "r"],
        initial=lambda r: Normal(0.0, noise[r]),
        scope="slice",
    )
    model.add_site("o", lambda z: Normal(z, 0.5), parents=["z"], scope="slice")
    scores = []
    means = []
    covariances = []
    for path in torch.tensor(list(product(range(2), repeat=length))):
        weights = torch.zeros(2 * length, 2 * length).double()
        weights[range(1, length), range(length - 1)] = slopes[path[1:]].double()
        weights[range(length, 2 * length), range(length)] = 1
        spread = torch.cat([noise[path], torch.full((length,), 0.5)])
        mean, covariance, evidence = condition(weights, spread, range(length, 2 * length), data)
        prior = start[path[0]].log() + sum(move[i, j].log() for i, j in pairwise(path.tolist()))
        scores.append(prior + evidence)
        means.append(torch.cat([path.double(), mean]))
        covariances.append(torch.block_diag(torch.zeros(length, length).double(), covariance))
    exact = mixture_moments(torch.stack(scores), torch.stack(means), torch.stack(covariances))
    return Case("switching linear system", model, {"o": data[None]}, ("r", "z"), *exact)


def beta_bernoulli() -> Case:
    """Six coins of one unknown bias."""
    model = GraphicalModel()
    model.add_site("p", lambda: Beta(2.0, 3.0))
    model.add_site("x", lambda p: Bernoulli(p.unsqueeze(-1).expand(*p.shape, 6)), parents=["p"])
    x = torch.tensor([[1.0, 1, 0, 1, 1, 0]])
    posterior = Beta(torch.tensor(6.0).double(), torch.tensor(5.0).double())
    evidence = sum(math.lgamma(v) for v in (6, 5, 5)) - sum(math.lgamma(v) for v in (11, 2, 3))
    return Case(
        "Beta-Bernoulli",
        model,
        {"x": x},
        ("p",),
        posterior.mean[None],
        posterior.variance[None, None],
        evidence,
    )


def gamma_poisson() -> Case:
    """A count with an unknown rate."""
    model = GraphicalModel()
    model.add_site("rate", lambda: Gamma(2.0, 1.0))
    model.add_site("n", lambda r: Poisson(r), parents=["rate"])
    posterior = Gamma(torch.tensor(6.0).double(), torch.tensor(2.0).double())
    evidence = math.lgamma(6) - 6 * math.log(2) - math.lgamma(2) - math.lgamma(5)
    return Case(
        "Gamma-Poisson",
        model,
        {"n": torch.tensor([4.0])},
        ("rate",),
        posterior.mean[None],
        posterior.variance[None, None],
        evidence,
    )


def dirichlet_categorical() -> Case:
    """Probabilities of three values from eight draws."""
    prior = torch.tensor([1.0, 2.0, 1.5])
    counts = torch.tensor([4.0, 1.0, 3.0])
    model = GraphicalModel()
    model.add_site("p", lambda: Dirichlet(prior))
    model.add_site(
        "x", lambda p: Categorical(p.unsqueeze(-2).expand(*p.shape[:-1], 8, 3)), parents=["p"]
    )
    data = torch.repeat_interleave(torch.arange(3), counts.long())
    a = (prior + counts).double()
    mean = a / a.sum()
    total = a.sum()
    covariance = (torch.diag(mean) - torch.outer(mean, mean)) / (total + 1)
    evidence = float(
        torch.lgamma(a).sum()
        - torch.lgamma(total)
        - torch.lgamma(prior).sum()
        + torch.lgamma(prior.sum())
    )
    return Case(
        "Dirichlet-categorical", model, {"x": data[None]}, ("p",), mean, covariance, evidence
    )


def mixture() -> Case:
    """Two far components: the posterior keeps both, with weights .7 and .3."""
    centres = torch.tensor([-5.0, 5.0])
    share = torch.tensor([0.7, 0.3])
    noise = 20.0
    model = GraphicalModel()
    model.add_site("c", lambda: Categorical(share))
    model.add_site("z", lambda c: Normal(centres[c], 1.0), parents=["c"])
    model.add_site("x", lambda z: Normal(z, noise), parents=["z"])
    scores = share.log() + Normal(centres, math.sqrt(1 + noise**2)).log_prob(torch.tensor(0.0))
    variance = 1 / (1 + 1 / noise**2)
    means = torch.stack([torch.arange(2.0), centres * variance], 1).double()
    covariances = torch.diag(torch.tensor([0.0, variance])).double().expand(2, 2, 2)
    exact = mixture_moments(scores, means, covariances)
    return Case(
        "mixture, weights .7 and .3, 10 sd apart",
        model,
        {"x": torch.zeros(1)},
        ("c", "z"),
        *exact,
        temper=True,
    )
