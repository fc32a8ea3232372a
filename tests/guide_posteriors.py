"""The posteriors of notebooks by other ways than sampling, site -> (mean, variance).

Each takes the names of its notebook's code. Parameters are integrated on a grid, at each point of which
the rest has a closed form.
"""

import json
from pathlib import Path

import torch
from torch.distributions import Beta, HalfNormal, LogNormal, MultivariateNormal, Poisson

REFERENCE = Path(__file__).resolve().parents[1] / "experiments/posteriordb/reference.json"
SCHOOLS = "eight_schools-eight_schools_noncentered"


def mixed(log_weights, means, variances):
    """Mean and variance `(D,)` of a mixture over a grid: log weights `(G,)`, parts `(G, D)`."""
    weights = log_weights.softmax(0)
    mean = weights @ means
    return mean, weights @ (variances + means.square()) - mean.square()


def grid(*axes):
    """All points of a grid, one column `(G,)` for each axis."""
    return torch.cartesian_prod(*(axis.double() for axis in axes)).T


def log_axis(low, high, number):
    """Points between two positive numbers, at equal distances of their logarithms."""
    ends = torch.tensor([low, high], dtype=torch.float64).log()
    return torch.linspace(*ends.tolist(), number, dtype=torch.float64).exp()


def regression(names):
    """Coefficients are Gaussian given the noise."""
    y = names["y"].double()
    design = torch.cat([torch.ones(60, 1), names["x"]], 1).double()
    noise = log_axis(0.3, 3.0, 400)
    total = 25 * design @ design.T + noise.square()[:, None, None] * torch.eye(60)
    law = MultivariateNormal(torch.zeros(60).double(), total)
    gain = torch.linalg.solve(total, design.expand(400, 60, 3)).mT * 25  # (G, 3, 60)
    means = gain @ y
    variances = 25 - 25 * (gain * design.T).sum(-1)
    weights = law.log_prob(y) + HalfNormal(2.0).log_prob(noise) + noise.log()
    mean, variance = mixed(weights, means, variances)
    return {
        "intercept": (mean[0], variance[0]),
        "slopes": (mean[1:], variance[1:]),
        "noise": mixed(weights, noise[:, None], torch.zeros(400, 1).double()),
    }


def hierarchical(names):
    """Statistics of posteriordb's reference draws."""
    found = json.loads(REFERENCE.read_text())[SCHOOLS]["parameters"]
    numbers = {n: (torch.tensor(p["mean"]), torch.tensor(p["sd"] ** 2)) for n, p in found.items()}
    schools = [numbers.pop(f"theta[{i}]") for i in range(1, 9)]
    return numbers | {"theta": tuple(map(torch.stack, zip(*schools, strict=True)))}


def state_space(names):
    """Levels are Gaussian given both scales, with covariances 25 + drift^2 min(s, t)."""
    seen = names["seen"]
    y = names["y"][seen].double()
    drift, noise = grid(log_axis(0.05, 3.0, 50), log_axis(0.2, 3.0, 50))
    days = torch.arange(60.0).double()
    steps = torch.minimum(days[:, None], days)
    levels = 25 + drift.square()[:, None, None] * steps
    total = levels[:, seen][:, :, seen] + noise.square()[:, None, None] * torch.eye(len(y))
    law = MultivariateNormal(torch.zeros(len(y)).double(), total)
    gain = torch.linalg.solve(total, levels[:, seen]).mT  # (G, 60, seen)
    means = gain @ y
    variances = (levels - gain @ levels[:, seen]).diagonal(dim1=1, dim2=2)
    prior = LogNormal(-0.5, 0.5).log_prob(drift) + LogNormal(0.0, 0.5).log_prob(noise)
    weights = law.log_prob(y) + prior + drift.log() + noise.log()
    nothing = torch.zeros(2500, 1).double()
    return {
        "level": mixed(weights, means, variances),
        "drift": mixed(weights, drift[:, None], nothing),
        "noise": mixed(weights, noise[:, None], nothing),
    }


def hmm(names):
    """Forward and backward over the hours, for all points of a grid at once."""
    calls = names["calls"]
    probabilities = (torch.arange(50) + 0.5) / 50
    stay, low, gap = grid(probabilities, log_axis(0.8, 4.0, 25), log_axis(1.0, 8.0, 25))
    switch = torch.stack([torch.stack([stay, 1 - stay], -1), torch.stack([1 - stay, stay], -1)], -2)
    rates = torch.stack([low, low + gap], -1)
    seen = Poisson(rates).log_prob(calls[:, None, None].double())  # (T, G, 2)
    forward = [seen[0] + torch.tensor(0.5).log()]
    backward = [torch.zeros_like(seen[0])]
    for t in range(1, 100):
        step = (forward[-1][..., None] + switch.log()).logsumexp(-2)
        forward.append(step + seen[t])
        after = (backward[-1] + seen[100 - t])[..., None, :]
        backward.append((after + switch.log()).logsumexp(-1))
    both = torch.stack(forward) + torch.stack(backward[::-1])
    evidence = forward[-1].logsumexp(-1)
    busy = (both[..., 1] - evidence).exp().T  # (G, T)
    prior = Beta(8.0, 2.0).log_prob(stay) + LogNormal(0.5, 1.0).log_prob(low)
    prior = prior + LogNormal(1.0, 1.0).log_prob(gap) + low.log() + gap.log()
    weights = evidence + prior
    parameters = {"stay": stay, "low": low, "gap": gap}
    found = {
        n: mixed(weights, x[:, None], torch.zeros(len(x), 1).double())
        for n, x in parameters.items()
    }
    return found | {"busy": mixed(weights, busy, busy * (1 - busy))}
