"""Models whose posterior and evidence are known: linear-Gaussian ones by conditioning, discrete ones by enumeration."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    MultivariateNormal,
    Normal,
    Poisson,
)

from aif_dcpc.inference import GraphicalModel, every, lag


@dataclass(frozen=True)
class Case:
    """One model, its data and what is exactly true of it.

    Attributes:
        name: for tables.
        model: the graph.
        data: one datum, B = 1.
        sites: latents, in the order in which their flattened values make up `mean`.
        mean, covariance: of the posterior, `(D,)` and `(D, D)`.
        log_evidence: nats.
        setup: `masks`, `do` for `engine.init`.
        moves: overrides of the engine's moves.
        temper: whether the posterior has modes far apart.
        counterfactual: where given, `mean` and `covariance` are those of the sites' values had
            these been set instead.
    """

    name: str
    model: GraphicalModel
    data: Mapping[str, Tensor]
    sites: tuple[str, ...]
    mean: Tensor
    covariance: Tensor
    log_evidence: float
    setup: Mapping[str, Any] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)
    temper: bool = False
    counterfactual: Mapping[str, Tensor] = field(default_factory=dict)


# -- oracles ---------------------------------------------------------------------------------------


def condition(
    weights: Tensor, noise: Tensor, observed: Sequence[int], values: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Posterior of the unobserved part of x = weights x + Normal(0, diag(noise^2)), and log p(observed)."""
    inverse = torch.linalg.inv(torch.eye(len(noise)).double() - weights)
    joint = inverse @ torch.diag(noise.double().square()) @ inverse.mT
    seen = torch.tensor(list(observed), dtype=torch.long)
    hidden = torch.tensor(
        [i for i in range(len(noise)) if i not in set(observed)], dtype=torch.long
    )
    across = joint[hidden][:, seen]
    inner = joint[seen][:, seen]
    gain = torch.linalg.solve(inner, across.mT).mT
    covariance = joint[hidden][:, hidden] - gain @ across.mT
    evidence = (
        0.0
        if not len(seen)
        else float(
            MultivariateNormal(torch.zeros(len(seen)).double(), inner).log_prob(values.double())
        )
    )
    return gain @ values.double(), covariance, evidence


def mixture_moments(
    log_weights: Tensor, means: Tensor, covariances: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Mean and covariance of a mixture with unnormalised log weights `(N,)`, and the log normaliser."""
    share = log_weights.double().softmax(0)
    mean = share @ means
    spread = means - mean
    covariance = torch.einsum("n,nij->ij", share, covariances) + torch.einsum(
        "n,ni,nj->ij", share, spread, spread
    )
    return mean, covariance, float(torch.logsumexp(log_weights.double(), 0))


# -- linear-Gaussian models ------------------------------------------------------------------------


def chain_of_two() -> Case:
    """Two latents of posterior correlation above .99."""
    model = GraphicalModel()
    model.add_site("z1", lambda: Normal(0.0, 1.0))
    model.add_site("z2", lambda z: Normal(z, 0.1), parents=["z1"])
    model.add_site("x", lambda z: Normal(z, 1.0), parents=["z2"])
    weights = torch.zeros(3, 3).double()
    weights[1, 0] = weights[2, 1] = 1
    exact = condition(weights, torch.tensor([1.0, 0.1, 1.0]), [2], torch.ones(1))
    return Case("two latents, correlation .99", model, {"x": torch.ones(1)}, ("z1", "z2"), *exact)


def collider() -> Case:
    """A branching and merging graph: two causes of one effect, one of them seen from another side too."""
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda: Normal(0.0, 2.0))
    model.add_site("c", lambda a, b: Normal(a + b, 0.5), parents=["a", "b"])
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    model.add_site("y", lambda a: Normal(a, 1.0), parents=["a"])
    weights = torch.zeros(5, 5).double()
    weights[2, 0] = weights[2, 1] = weights[3, 2] = weights[4, 0] = 1
    exact = condition(
        weights, torch.tensor([1.0, 2.0, 0.5, 0.5, 1.0]), [3, 4], torch.tensor([2.0, -1.0])
    )
    data = {"x": torch.tensor([2.0]), "y": torch.tensor([-1.0])}
    return Case("branching and merging, collider", model, data, ("a", "b", "c"), *exact)


def levels() -> Case:
    """A global, a per-episode and a slow site above the slices."""
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("c", lambda g: Normal(g, 1.0), parents=["g"])
    model.add_site("z", lambda c: Normal(c, 1.0), parents=["c"], scope=every(2))
    model.add_site("o", lambda z: Normal(z, 1.0), parents=["z"], scope="slice")
    data = torch.tensor([1.0, 2.0, -1.0])
    weights = torch.zeros(7, 7).double()
    for child, parent in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)):
        weights[child, parent] = 1
    exact = condition(weights, torch.ones(7), [4, 5, 6], data)
    return Case("slow, episode and global sites", model, {"o": data[None]}, ("g", "c", "z"), *exact)


def state_space(length: int, *, missing: bool = False, size: int = 4) -> Case:
    """A linear-Gaussian state-space model; its smoother by joint conditioning."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator))[0] * 0.95
    data = torch.randn(length, size, generator=generator)
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(s @ rotation.T, 0.3),
        parents=[lag("s")],
        initial=lambda: Normal(torch.zeros(size), 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 0.5), parents=["s"], scope="slice")
    total = length * size
    weights = torch.zeros(2 * total, 2 * total).double()
    for t in range(1, length):
        weights[t * size : (t + 1) * size, (t - 1) * size : t * size] = rotation.double()
    weights[total:, :total] = torch.eye(total).double()
    noise = torch.cat(
        [torch.ones(size), torch.full((total - size,), 0.3), torch.full((total,), 0.5)]
    )
    shown = torch.arange(length) % 3 != 1 if missing else torch.ones(length, dtype=torch.bool)
    kept = [total + t * size + d for t in range(length) if shown[t] for d in range(size)]
    mean, covariance, evidence = condition(weights, noise, kept, data[shown].flatten())
    name = f"state space, {size}-dim, T = {length}" + (", a third missing" if missing else "")
    setup = {"masks": {"o": shown[None]}} if missing else {}
    return Case(
        name,
        model,
        {"o": data[None]},
        ("s",),
        mean[:total],
        covariance[:total, :total],
        evidence,
        setup,
    )


def intervention() -> Case:
    """The middle of a chain is set by hand; only its effects are evidence."""
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda a: Normal(a, 0.1), parents=["a"])
    model.add_site("c", lambda a, b: Normal(a + b, 1.0), parents=["a", "b"])
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    weights = torch.zeros(3, 3).double()  # a, c - b, x - b
    weights[1, 0] = weights[2, 1] = 1
    mean, covariance, evidence = condition(
        weights, torch.tensor([1.0, 1.0, 0.5]), [2], torch.tensor([2.0 - 3.0])
    )
    mean = mean + torch.tensor([0.0, 3.0]).double()
    setup = {"do": {"b": torch.full((1,), 3.0)}}
    return Case(
        "intervention",
        model,
        {"x": torch.tensor([2.0])},
        ("a", "c"),
        mean,
        covariance,
        evidence,
        setup,
    )


def counterfactual() -> Case:
    """What would have been at x = -1, having seen x = 1 and y: every cause keeps its noise (Pearl 2009, section 7.1).

    c confounds x and y, m = x c + noise passes x on, y's noise has the standard deviation exp(x /
    2), and w follows y unseen. Given both values of x, the values in the other world are linear in
    those of this one, which are Gaussian.
    """
    model = GraphicalModel()
    before = 1.0
    after = -1.0
    y = 2.0
    model.add_site("c", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda c: Normal(c, 0.5), parents=["c"])
    model.add_site("m", lambda x, c: Normal(x * c, 0.5), parents=["x", "c"])
    model.add_site("y", lambda x, c, m: Normal(m + 0.5 * c, (x / 2).exp()), parents=["x", "c", "m"])
    model.add_site("w", lambda y, c: Normal(y + c, 1.0), parents=["y", "c"])
    weights = torch.zeros(5, 5).double()  # c, x, m, y, w
    weights[1, 0] = 1
    weights[2, 0] = before
    weights[3, 0] = 0.5
    weights[3, 2] = 1
    weights[4, 0] = 1
    weights[4, 3] = 1
    noise = torch.tensor([1.0, 0.5, 0.5, math.exp(before / 2), 1.0])
    mean, covariance, evidence = condition(
        weights, noise, [1, 3], torch.tensor([before, y])
    )  # of c, m, w
    ratio = math.exp((after - before) / 2)  # of y's scales in the two worlds
    moved = torch.eye(4, 3).double()  # c, m', w', y' from c, m, w
    moved[1, 0] = after - before
    moved[3] = (
        moved[1] + torch.tensor([0.5 - ratio * 0.5, -ratio, 0.0]).double()
    )  # m' + c / 2 + ratio (y - m - c / 2)
    moved[2] = moved[2] + moved[3]  # w' = w - y + y'
    shift = torch.tensor([0.0, 0.0, ratio * y - y, ratio * y]).double()
    return Case(
        "counterfactual",
        model,
        {"x": torch.tensor([before]), "y": torch.tensor([y])},
        ("c", "m", "w", "y"),
        moved @ mean + shift,
        moved @ covariance @ moved.mT,
        evidence,
        counterfactual={"x": torch.tensor([after])},
    )


# -- discrete and conjugate models -----------------------------------------------------------------


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


CASES: tuple[Callable[[], Case], ...] = (
    chain_of_two,
    lambda: state_space(20),
    lambda: state_space(200),
    collider,
    levels,
    lambda: hidden_markov_model(False),
    lambda: hidden_markov_model(True),
    switching_system,
    beta_bernoulli,
    gamma_poisson,
    dirichlet_categorical,
    mixture,
    lambda: state_space(20, missing=True),
    intervention,
    counterfactual,
)
