"""Posterior means of the programs in `further`, by grids, enumeration, or importance sampling from their priors."""

import itertools

import torch
from torch import Tensor
from torch import distributions as law

from aif_dcpc.experiments.pyro_programs import further
from aif_dcpc.experiments.pyro_programs.references import DRAWS, Cloud, Means, exact

CELLS = 400


def zero_inflated() -> Means:
    """A grid over gate and rate."""
    gate = ((torch.arange(CELLS) + 0.5) / CELLS).double()[:, None]
    rate = ((torch.arange(CELLS) + 0.5) * 12 / CELLS).double()[None]
    scores = rate.log() - 0.5 * rate
    for count in further.ZEROS.double():
        counted = (1 - gate).log() + law.Poisson(rate).log_prob(count)
        scores = scores + (torch.logaddexp(gate.log(), counted) if count == 0 else counted)
    cloud = Cloud(scores.flatten())
    wide = torch.broadcast_tensors(gate, rate)
    return {
        n: exact(cloud.mean(v.flatten())[0]) for n, v in zip(("gate", "rate"), wide, strict=True)
    }


def ordinal() -> Means:
    """Chances of the answers as differences of logistic functions, in double precision."""
    slope = torch.randn(DRAWS, 1).double()
    shares = law.Dirichlet(torch.ones(3).double()).sample((DRAWS,))
    cuts = torch.logit(shares.cumsum(-1)[:, :-1])
    below = torch.sigmoid(cuts[:, None] - (slope * further.DOSES)[..., None])
    edges = torch.cat(
        [torch.zeros_like(below[..., :1]), below, torch.ones_like(below[..., :1])], -1
    )
    chances = edges.diff(dim=-1)
    answers = further.ANSWERS.expand(DRAWS, -1)[..., None]
    cloud = Cloud(chances.gather(-1, answers).squeeze(-1).log().sum(1))
    return {"slope": cloud.mean(slope[:, 0]), "cuts": cloud.mean(cuts)}


def _log_evidence(prior: Tensor, counts: Tensor) -> Tensor:
    """Log probability of a sequence with given counts under a Dirichlet prior, `(*batch)`."""
    total = torch.lgamma(prior.sum(-1)) - torch.lgamma((prior + counts).sum(-1))
    return total + (torch.lgamma(prior + counts) - torch.lgamma(prior)).sum(-1)


def dawid_skene() -> Means:
    """All true classes of all items, shares and confusions integrated out."""
    labels = torch.nn.functional.one_hot(further.LABELS, 3).double()  # (annotators, items, 3)
    number = labels.shape[1]
    truth = torch.tensor(list(itertools.product(range(3), repeat=number)))
    chosen = torch.nn.functional.one_hot(truth, 3).double()  # (paths, items, 3)
    shares = torch.ones(3).double()
    confusion = (torch.ones(3) + 2 * torch.eye(3)).double()
    counts = torch.einsum("pic,ail->pacl", chosen, labels)
    scores = _log_evidence(shares, chosen.sum(1)) + _log_evidence(confusion, counts).sum((1, 2))
    weights = torch.softmax(scores, 0)
    rows = confusion + counts
    rows = rows / rows.sum(-1, keepdim=True)
    mean = (shares + chosen.sum(1)) / (3 + number)
    return {
        "is_first": exact((weights[:, None] * (truth == 0)).sum(0)),
        "shares": exact((weights[:, None] * mean).sum(0)),
        "confusion": exact(torch.einsum("p,pacl->acl", weights, rows)),
    }


def bradley_terry() -> Means:
    """Weighted draws of the strengths."""
    strength = torch.randn(DRAWS, 4).double()
    odds = strength[:, further.GAMES[:, 0]] - strength[:, further.GAMES[:, 1]]
    return {"strength": Cloud(torch.nn.functional.logsigmoid(odds).sum(1)).mean(strength)}


def survival() -> Means:
    """Weighted draws of shape and scale."""
    shape = torch.exp(0.5 * torch.randn(DRAWS, 1)).double()
    scale = torch.exp(1 + 0.5 * torch.randn(DRAWS, 1)).double()
    lives = further.LIVES.double()
    died = law.Weibull(scale, shape).log_prob(lives)
    scores = torch.where(further.CENSORED, -((lives / scale) ** shape), died)
    cloud = Cloud(scores.sum(1))
    return {"shape": cloud.mean(shape[:, 0]), "scale": cloud.mean(scale[:, 0])}


def gaussian_process() -> Means:
    """Weighted draws of the three scales."""
    number = 100_000
    length, height, noise = torch.exp(
        torch.tensor([-0.5, 0.0, -2.0]).double()[:, None] + 0.5 * torch.randn(3, number).double()
    )[..., None, None]
    places = further.PLACES.double()
    squares = (places[:, None] - places).square() / length.square()
    kernel = height.square() * torch.exp(-0.5 * squares)
    kernel = kernel + (noise.square() + 1e-4) * torch.eye(len(places))
    seen = law.MultivariateNormal(torch.zeros(len(places)).double(), kernel)
    cloud = Cloud(seen.log_prob(further.HEIGHTS.double()))
    values = {"length": length, "height": height, "noise": noise}
    return {name: cloud.mean(value.flatten()) for name, value in values.items()}


def moving_slope() -> Means:
    """The walk integrated out given step and noise."""
    number = 100_000
    step = 0.5 * torch.randn(number, 1, 1).double().abs()
    noise = torch.randn(number, 1, 1).double().abs()
    drive = further.DRIVE.double()
    time = torch.arange(1, len(drive) + 1).double()
    shared = torch.minimum(time[:, None], time)  # covariance of a walk of unit steps
    walk = step.square() * shared
    seen = drive[:, None] * walk * drive + noise.square() * torch.eye(len(drive)).double()
    response = further.RESPONSE.double()
    zero = torch.zeros(len(drive)).double()
    cloud = Cloud(law.MultivariateNormal(zero, seen).log_prob(response))
    pull = torch.linalg.solve(seen, response.expand(number, -1))
    slope = torch.einsum("nts,s,ns->nt", walk, drive, pull)
    found = {"step": step.flatten(), "noise": noise.flatten(), "slope": slope}
    return {name: cloud.mean(value) for name, value in found.items()}


def hidden_states() -> Means:
    """All states summed out by the forward recursion; the first state is drawn by a row as well."""
    rows = law.Dirichlet(torch.ones(2, 2).double()).sample((DRAWS,))
    levels = torch.tensor([-1.0, 1.0]).double() + 0.5 * torch.randn(DRAWS, 2).double()
    forward = torch.zeros(DRAWS, 2).double()
    for value in further.SIGNAL.double():
        ahead = torch.logsumexp(forward[..., None] + rows.log(), 1)
        forward = ahead + law.Normal(levels, 1.0).log_prob(value)
    cloud = Cloud(torch.logsumexp(forward, 1))
    return {"rows": cloud.mean(rows), "levels": cloud.mean(levels)}


def imputation() -> Means:
    """Missing ages integrated out by their own weighted draws."""
    base, shift, slope = torch.randn(3, DRAWS, 1).double()
    mean = base + shift * further.CLASS
    missing = torch.isnan(further.AGES)
    drawn = mean + 0.5 * torch.randn(DRAWS, len(further.AGES)).double()
    ages = torch.where(missing, drawn, further.AGES.double())
    seen = law.Normal(mean, 0.5).log_prob(ages).masked_fill(missing, 0.0)
    lived = law.Bernoulli(logits=slope * (ages - 1)).log_prob(further.SURVIVED.double())
    cloud = Cloud((seen + lived).sum(1))
    found = {"base": base, "shift": shift, "slope": slope}
    means = {name: cloud.mean(value[:, 0]) for name, value in found.items()}
    return {**means, "imputed": cloud.mean(ages[:, missing])}


def oscillation() -> Means:
    """A Kalman filter for every noise on a grid; the last place given each."""
    noise = torch.exp(-1 + 0.5 * torch.linspace(-5, 5, 401)).double()
    scores = law.Normal(0.0, 1.0).log_prob(torch.linspace(-5, 5, 401)).double()
    step = torch.tensor([[0.9, 0.4], [-0.4, 0.9]]).double()
    mean = torch.zeros(401, 2).double()
    wide = torch.zeros(401, 2, 2).double()
    for value in further.TRACK.double():
        mean = mean @ step.T
        wide = step @ wide @ step.T + 0.09 * torch.eye(2).double()
        spread = wide[:, 0, 0] + noise.square()
        scores = scores + law.Normal(mean[:, 0], spread.sqrt()).log_prob(value)
        gain = wide[:, :, 0] / spread[:, None]
        mean = mean + gain * (value - mean[:, :1])
        wide = wide - gain[:, :, None] * wide[:, :1]
    weights = torch.softmax(scores, 0)
    last = len(further.TRACK) - 1
    ends = (weights[:, None] * mean).sum(0)
    return {
        "noise": exact((weights * noise).sum()),
        f"place_{last}": exact(ends[0]),
        f"speed_{last}": exact(ends[1]),
    }


def ordered_mixture() -> Means:
    """Clusters of all points summed out."""
    shares = law.Dirichlet(2 * torch.ones(2).double()).sample((DRAWS,))
    first = torch.randn(DRAWS).double() - 1
    gap = torch.exp(0.5 * torch.randn(DRAWS).double())
    means = torch.stack([first, first + gap], 1)
    points = further.POINTS.double()[:, None, None]
    joint = shares.log() + law.Normal(means, 0.5).log_prob(points)
    cloud = Cloud(torch.logsumexp(joint, -1).sum(0))
    values = {"shares": shares, "first": first, "gap": gap}
    return {name: cloud.mean(value) for name, value in values.items()}
