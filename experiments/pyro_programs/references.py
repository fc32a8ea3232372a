"""Posterior means of the programs, by closed forms, enumeration, or importance sampling from their priors.

Each reference gives, for some sites (or functions of them), the posterior mean and its own standard
error; nothing here calls the engine or Pyro's inference.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributions as law

from aif_dcpc.experiments.pyro_programs import classics, series

DRAWS = 400_000
Means = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Cloud:
    """Weighted draws from a prior.

    Attributes:
        log_weights: `(N,)`, log likelihoods.
    """

    log_weights: Tensor

    def mean(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard error of `(N, *event)`."""
        weights = torch.softmax(self.log_weights.double(), 0)
        wide = weights.reshape(-1, *(1,) * (value.ndim - 1))
        mean = (wide * value).sum(0)
        return mean, (wide.square() * (value - mean).square()).sum(0).sqrt()


def exact(value: Tensor) -> tuple[Tensor, Tensor]:
    """A mean without error."""
    return value.double(), torch.zeros_like(value).double()


# -- pooling ---------------------------------------------------------------------------------------


def schools() -> Means:
    """Effects integrated out given location and scale."""
    mu = 10 * torch.randn(DRAWS, 1).double()
    tau = 10 * torch.randn(DRAWS, 1).double().abs()
    variance = classics.ERRORS.square() + tau.square()
    cloud = Cloud(law.Normal(mu, variance.sqrt()).log_prob(classics.EFFECTS).sum(1))
    theta = mu + tau.square() / variance * (classics.EFFECTS - mu)
    return {"mu": cloud.mean(mu[:, 0]), "tau": cloud.mean(tau[:, 0]), "theta": cloud.mean(theta)}


def pooled() -> Means:
    """Beta law of the sums."""
    hits = classics.HITS.sum()
    return {"phi": exact((hits + 1) / (classics.AT_BATS.sum() + 2))}


def unpooled() -> Means:
    """A Beta law for every player."""
    return {"phi": exact((classics.HITS + 1) / (classics.AT_BATS + 2))}


def partly_pooled() -> Means:
    """Chances of the players integrated out."""
    m = torch.rand(DRAWS, 1).double()
    kappa = law.Pareto(1.0, 1.5).sample((DRAWS, 1)).double()
    a = m * kappa
    b = (1 - m) * kappa
    misses = classics.AT_BATS - classics.HITS
    joint = _log_beta(a + classics.HITS, b + misses) - _log_beta(a, b)
    cloud = Cloud(joint.sum(1))
    phi = (a + classics.HITS) / (kappa + classics.AT_BATS)
    return {"m": cloud.mean(m[:, 0]), "phi": cloud.mean(phi)}


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def pooled_logits() -> Means:
    """Log odds integrated out on a grid of their quantiles."""
    number = 20_000
    loc = (torch.randn(number) - 1).double()
    scale = law.HalfCauchy(1.0).sample((number,)).double()
    nodes = law.Normal(0.0, 1.0).icdf((torch.arange(400).double() + 0.5) / 400)
    alpha = loc[:, None] + scale[:, None] * nodes
    total = torch.zeros(number).double()
    for at_bats, hits in zip(classics.AT_BATS, classics.HITS, strict=True):
        scores = law.Binomial(at_bats, logits=alpha, validate_args=False).log_prob(hits)
        total += torch.logsumexp(scores, 1)
    return {"loc": Cloud(total).mean(loc)}


# -- regressions -----------------------------------------------------------------------------------


def regression() -> Means:
    """The conjugate Gaussian of the weights."""
    design = torch.cat([classics.X, torch.ones(len(classics.X), 1)], 1).double()
    precision = design.T @ design / 0.25 + torch.diag(torch.tensor([1.0, 1.0, 0.01]).double())
    mean = torch.linalg.solve(precision, design.T @ classics.Y.double() / 0.25)
    return {"linear.weight": exact(mean[None, :2]), "linear.bias": exact(mean[2:])}


def flat() -> Means:
    """Least squares, the mean under flat priors."""
    x = classics.X.double()
    return {"beta": exact(torch.linalg.solve(x.T @ x, x.T @ classics.Y.double()))}


def sparse() -> Means:
    """Coefficients integrated out given their scales."""
    number = 100_000
    x = classics.X.double()
    y = classics.Y.double() - 0.5
    local = law.HalfCauchy(1.0).sample((number, 2)).double()
    prior = local.square().diag_embed()
    covariance = x @ prior @ x.T + 0.25 * torch.eye(len(x)).double()
    cloud = Cloud(law.MultivariateNormal(torch.zeros(len(x)).double(), covariance).log_prob(y))
    beta = (prior @ x.T @ torch.linalg.solve(covariance, y.expand(number, -1)[..., None]))[..., 0]
    return {"beta": cloud.mean(beta)}


def logistic() -> Means:
    """Prior draws weighted by the choices."""
    beta = 2 * torch.randn(DRAWS, 2)
    scores = law.Bernoulli(logits=beta @ classics.X.T).log_prob(classics.CHOICES).sum(1)
    return {"beta": Cloud(scores).mean(beta.double())}


def correlation() -> Means:
    """Prior draws; r = 2 Beta(c, c) - 1 has the density (1 - r^2)^(c - 1) of LKJ(c) for pairs."""
    theta = law.HalfCauchy(1.0).sample((DRAWS, 2)).double()
    r = 2 * law.Beta(1.5, 1.5).sample((DRAWS,)).double() - 1
    x, y = (classics.PAIRS.double() / theta[:, None]).unbind(-1)
    rest = (1 - r.square())[:, None]
    quadratic = (x.square() + y.square() - 2 * r[:, None] * x * y) / rest
    scores = -quadratic / 2 - rest.log() / 2 - theta.log().sum(1)[:, None]
    cloud = Cloud(scores.sum(1))
    return {"theta": cloud.mean(theta), "r": cloud.mean(r)}


# -- mixtures --------------------------------------------------------------------------------------


def mixture() -> Means:
    """Assignments of the points summed out."""
    weight = law.Beta(2.0, 2.0).sample((DRAWS, 1)).double()
    loc = torch.randn(DRAWS, 2).double() + torch.tensor([-1.0, 1.0])
    first = law.Normal(loc[:, :1], 1.0).log_prob(classics.POINTS) + (1 - weight).log()
    second = law.Normal(loc[:, 1:], 1.0).log_prob(classics.POINTS) + weight.log()
    cloud = Cloud(torch.logaddexp(first, second).sum(1))
    return {"weight": cloud.mean(weight[:, 0]), "loc": cloud.mean(loc)}


def coins() -> Means:
    """Coins summed out, on a grid of the chance to pick."""
    pick = ((torch.arange(20_000) + 0.5) / 20_000).double()[:, None]
    fair, biased = (law.Binomial(4, p).log_prob(classics.HEADS) for p in torch.tensor([0.2, 0.7]))
    joint = torch.logaddexp((1 - pick).log() + fair, pick.log() + biased)
    prior = pick[:, 0].log() + 2 * (1 - pick[:, 0]).log()
    weights = torch.softmax(joint.sum(1) + prior, 0)
    coin = (pick.log() + biased - joint).exp()
    found = {"pick": exact((weights * pick[:, 0]).sum())}
    means = (weights[:, None] * coin).sum(0)
    return found | {f"coin_{i}": exact(mean) for i, mean in enumerate(means)}


def topics() -> Means:
    """All assignments of words to topics."""
    words = classics.WORDS
    paths = torch.tensor(list(itertools.product(range(2), repeat=words.numel())))
    paths = paths.unflatten(1, words.shape)
    documents = torch.stack([(paths == k).sum(1) for k in range(2)], -1).double()
    scores = torch.lgamma(documents + 0.5).sum((1, 2))
    for k in range(2):
        counts = torch.stack([((paths == k) & (words == w)).sum((1, 2)) for w in range(4)], -1)
        scores += torch.lgamma(counts + 1.0).sum(1) - torch.lgamma(counts.sum(1) + 4.0)
    weights = torch.softmax(scores, 0)
    same = (paths == paths[:, :1, :1]).double()
    return {"same": exact((weights[:, None, None] * same).sum(0))}


def change() -> Means:
    """Rates before and after integrated out."""
    y = classics.COUNTS.double()
    early = torch.arange(len(y))[None] < torch.arange(len(y))[:, None]
    scores = torch.zeros(len(y)).double()
    for part in (early, ~early):
        shape = 2 + (part * y).sum(1)
        rate = 1 + part.sum(1)
        scores += torch.lgamma(shape) - shape * rate.log()
    weights = torch.softmax(scores, 0)
    first = (2 + (early * y).sum(1)) / (1 + early.sum(1))
    place = torch.arange(len(y)).double()
    return {"when": exact((weights * place).sum()), "early": exact((weights * first).sum())}


def soft() -> Means:
    """The Gaussian of two numbers given their sum."""
    gain = torch.tensor([1.0, 4.0]).double() / (1 + 4 + 0.01)
    return {"a": exact(gain[0]), "b": exact(gain[1])}


# -- capture and recapture -------------------------------------------------------------------------


def _lives(survival: Tensor, recapture: Tensor) -> Tensor:
    """Log likelihoods `(N,)`; what is masked counts one for both states, as Pyro's density says.

    Args:
        survival: chances `(N, occasions, animals or 1)`.
        recapture: chances `(N,)`.
    """
    caught = series.CAUGHT.double()
    rho = recapture[:, None]
    dead = torch.ones(len(survival), len(caught)).double()
    alive = torch.ones_like(dead)
    is_known = torch.zeros(len(caught), dtype=torch.bool)
    for t in range(caught.shape[1]):
        chance = survival[:, t]
        seen = caught[:, t]
        living = alive * chance * (seen * rho + (1 - seen) * (1 - rho))
        dying = (dead + alive * (1 - chance)) * (1 - seen)
        alive = torch.where(is_known, living, torch.ones_like(alive))
        dead = torch.where(is_known, dying, torch.ones_like(dead))
        is_known = is_known | (seen > 0)
    return (alive + dead).log().sum(1)


def cjs(number: int) -> Means:
    """Lives summed out, parameters drawn from their priors."""
    occasions = series.CAUGHT.shape[1]
    rho = torch.rand(DRAWS).double()
    mean = torch.randn(DRAWS).double()
    spread = torch.randn(DRAWS).double().abs()
    uniform = torch.rand(DRAWS, 5).double()
    normal = torch.randn(DRAWS, 5).double()
    if number == 1:
        survival = uniform[:, :1, None].expand(-1, occasions, -1)
        found = {"phi": uniform[:, 0]}
    elif number == 2:
        survival = uniform[:, :, None]
        found = {f"phi_{t}": uniform[:, t] for t in range(occasions)}
    elif number == 3:
        survival = torch.sigmoid(mean[:, None] + spread[:, None] * normal)[:, :, None]
        found = {"mean": mean, "spread": spread}
    elif number == 4:
        survival = torch.sigmoid(mean[:, None] + normal)[:, None].expand(-1, occasions, -1)
        found = {"mean": mean, "logit": mean[:, None] + normal}
    else:
        survival = uniform[:, series.SEX][:, None].expand(-1, occasions, -1)
        found = {"phi": uniform[:, :2]}
    cloud = Cloud(_lives(survival, rho))
    return {name: cloud.mean(value) for name, value in {**found, "rho": rho}.items()}


# -- hidden Markov models --------------------------------------------------------------------------


def _forward(
    start: Tensor, step: Tensor, seen: Callable[[int, int], Tensor], lengths: list[int]
) -> Tensor:
    """Log likelihoods `(N,)` of some series.

    Args:
        start: chances of the first state `(N, S)`.
        step: chances of the next `(N, S, S)`.
        seen: likelihoods `(N, S)` of a series at a step.
        lengths: of the series.
    """
    total = torch.zeros(len(start)).double()
    for row, length in enumerate(lengths):
        reached = start * seen(row, 0)
        for t in range(1, length):
            reached = (reached[:, None] @ step)[:, 0] * seen(row, t)
        total += reached.sum(1).log()
    return total


def _rows(size: int = 2) -> Tensor:
    rows = 0.9 * torch.eye(size) + 0.1
    return law.Dirichlet(rows).sample((DRAWS,)).double()


def _chances(*shape: int) -> Tensor:
    return law.Beta(1.0, 2.0).sample((DRAWS, *shape)).double()


def _tones(chances: Tensor, row: int, t: int) -> Tensor:
    """Likelihood of all tones of a step, `chances` `(..., tones)`."""
    y = series.NOTES[row, t].double()
    return (y * chances + (1 - y) * (1 - chances)).prod(-1)


def hmm(number: int) -> Means:
    """Paths summed out, tables drawn from their priors."""
    probs_x = _rows()
    lengths = series.LENGTHS.tolist() if number == 1 else [4, 4]
    if number in (0, 1):
        probs_y = _chances(2, 2)
        scores = _forward(probs_x[:, 0], probs_x, lambda r, t: _tones(probs_y, r, t), lengths)
    else:
        probs_y = _chances(2, 2, 2)

        def seen(row: int, t: int) -> Tensor:
            before = series.NOTES[row, t - 1].long() if t else torch.zeros(2, dtype=torch.long)
            return _tones(probs_y[:, :, before, torch.arange(2)], row, t)

        scores = _forward(probs_x[:, 0], probs_x, seen, lengths)
    cloud = Cloud(scores)
    return {"probs_x": cloud.mean(probs_x), "probs_y": cloud.mean(probs_y)}


def two_chains(*, is_led: bool) -> Means:
    """Models 3 and 4: pairs of states (w, x) are the states."""
    probs_w = _rows()
    probs_x = law.Dirichlet(torch.ones(2, 2, 2)).sample((DRAWS,)).double() if is_led else _rows()
    probs_y = _chances(2, 2) if is_led else _chances(2, 2, 2)
    if is_led:  # (w, x) -> (v, z): w leads to v, which with x leads to z
        step = torch.einsum("nwv,nvxz->nwxvz", probs_w, probs_x)
        emitted = probs_y[:, None].expand(-1, 2, -1, -1)
    else:
        step = torch.einsum("nwv,nxz->nwxvz", probs_w, probs_x)
        emitted = probs_y
    pairs = step.flatten(3).flatten(1, 2)
    scores = _forward(pairs[:, 0], pairs, lambda r, t: _tones(emitted, r, t).flatten(1), [4, 4])
    cloud = Cloud(scores)
    return {"probs_w": cloud.mean(probs_w), "probs_y": cloud.mean(probs_y)}


def second_order() -> Means:
    """Model 6: pairs (before, now) are the states."""
    probs_x = law.Dirichlet(torch.ones(2, 2, 2)).sample((DRAWS,)).double()
    probs_y = _chances(2, 2)
    step = torch.einsum("nbxz,xv->nbxvz", probs_x, torch.eye(2).double())
    pairs = step.flatten(3).flatten(1, 2)
    emitted = probs_y[:, None].expand(-1, 2, -1, -1)
    scores = _forward(pairs[:, 0], pairs, lambda r, t: _tones(emitted, r, t).flatten(1), [4, 4])
    cloud = Cloud(scores)
    return {"probs_x": cloud.mean(probs_x), "probs_y": cloud.mean(probs_y)}


def levels() -> Means:
    """The Gaussian of all levels at once."""
    size = len(series.LEVELS)
    precision = torch.eye(size).double() / 0.25
    precision[0, 0] += 1.0
    for t in range(1, size):
        precision[t, t] += 1 / 0.49
        precision[t - 1, t - 1] += 1 / 0.49
        precision[t - 1, t] -= 1 / 0.49
        precision[t, t - 1] -= 1 / 0.49
    mean = torch.linalg.solve(precision, series.LEVELS.double() / 0.25)
    return {f"level_{t}": exact(mean[t]) for t in range(size)}


# -- deep models -----------------------------------------------------------------------------------


def _pixels(z: Tensor, row: int) -> Tensor:
    with torch.no_grad():
        logits = series.DECODER(z)
    return law.Bernoulli(logits=logits).log_prob(series.PIXELS[row]).sum(-1)


def decoder() -> Means:
    """Prior draws for each datum."""
    z = torch.randn(DRAWS, 2)
    means = [Cloud(_pixels(z, row)).mean(z.double()) for row in range(2)]
    return {"z": (torch.stack([m for m, _ in means]), torch.stack([e for _, e in means]))}


def deep_chain() -> Means:
    """Prior draws of the whole chain."""
    z = torch.zeros(DRAWS, 2)
    states = []
    scores = torch.zeros(DRAWS)
    for row in range(2):
        with torch.no_grad():
            z = series.STEP(z) + 0.8 * torch.randn(DRAWS, 2)
        scores = scores + _pixels(z, row)
        states.append(z.double())
    cloud = Cloud(scores)
    return {f"z_{t}": cloud.mean(state) for t, state in enumerate(states)}
