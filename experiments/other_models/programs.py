"""Programs as people bring them, in the manner of Stan's case studies and of PyMC's and NumPyro's galleries."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from aif_dcpc.experiments.other_models.data import SETS

Program = Callable[..., None]


def normal(name: str, location: float = 0.0, scale: float = 1.0) -> Tensor:
    """Sample a site from N(location, scale)."""
    value: Tensor = pyro.sample(name, dist.Normal(location, scale))
    return value


def half_normal(name: str, scale: float = 1.0) -> Tensor:
    """Sample a site from N(0, scale) cut to positive values."""
    value: Tensor = pyro.sample(name, dist.HalfNormal(scale))
    return value


def overdispersed(x: Tensor, y: Tensor) -> None:
    """Negative binomial regression; how much counts vary is unknown."""
    intercept = normal("intercept", 0.0, 5.0)
    weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    size = pyro.sample("size", dist.Gamma(2.0, 0.5))
    with pyro.plate("data", len(y)):
        logits = intercept + x @ weights - torch.log(size)
        pyro.sample("y", dist.NegativeBinomial(size, logits=logits), obs=y)


def two_lines(x: Tensor, y: Tensor) -> None:
    """A mixture of two regressions; the second line is the steeper one."""
    share = pyro.sample("share", dist.Beta(2.0, 2.0))
    slope = normal("slope", 0.0, 1.0)
    steeper = half_normal("steeper", 2.0)
    with pyro.plate("lines", 2):
        intercept = pyro.sample("intercept", dist.Normal(0.0, 1.0))
    noise = half_normal("noise")
    slopes = torch.stack([slope, slope + steeper])
    with pyro.plate("data", len(y)):
        line = pyro.sample("line", dist.Bernoulli(share)).long()
        pyro.sample("y", dist.Normal(intercept[line] + slopes[line] * x, noise), obs=y)


def correlated_effects(group: Tensor, x: Tensor, y: Tensor) -> None:
    """Intercepts and slopes by group, with a correlation of their own (LKJ)."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    spread = pyro.sample("spread", dist.HalfNormal(torch.ones(2)).to_event(1))
    root = pyro.sample("root", dist.LKJCholesky(2, 2.0))
    noise = half_normal("noise")
    with pyro.plate("groups", 15):
        scale_tril = spread.unsqueeze(-1) * root
        effects = pyro.sample("effects", dist.MultivariateNormal(mean, scale_tril=scale_tril))
    with pyro.plate("data", len(y)):
        mine = effects[group]
        pyro.sample("y", dist.Normal(mine[..., 0] + mine[..., 1] * x, noise), obs=y)


def tumours(number: Tensor, y: Tensor) -> None:
    """Chances of experiments from one Beta law, of unknown mean and certainty."""
    mean = pyro.sample("mean", dist.Beta(1.0, 1.0))
    certainty = pyro.sample("certainty", dist.LogNormal(2.0, 1.0))
    with pyro.plate("experiments", len(y)):
        chance = pyro.sample("chance", dist.Beta(mean * certainty, (1 - mean) * certainty))
        pyro.sample("y", dist.Binomial(number, chance), obs=y)


def quarters(y: Tensor) -> None:
    """Level, trend and season as a loop of quarters, with four unknown scales."""
    level_scale = half_normal("level_scale", 0.5)
    slope_scale = half_normal("slope_scale", 0.2)
    season_scale = half_normal("season_scale", 0.3)
    noise = half_normal("noise", 0.5)
    level = normal("level_0", 5.0, 2.0)
    slope = normal("slope_0", 0.0, 0.5)
    first = normal("season_0", 0.0, 1.0)
    second = normal("season_b", 0.0, 1.0)
    third = normal("season_c", 0.0, 1.0)
    for t in range(len(y)):
        pyro.sample(f"y_{t}", dist.Normal(level + first, noise), obs=y[t])
        if t < len(y) - 1:
            level = pyro.sample(f"level_{t + 1}", dist.Normal(level + slope, level_scale))
            slope = pyro.sample(f"slope_{t + 1}", dist.Normal(slope, slope_scale))
            new = pyro.sample(f"season_{t + 1}", dist.Normal(-first - second - third, season_scale))
            first, second, third = new, first, second


def few_of_many(x: Tensor, y: Tensor) -> None:
    """The regularised horseshoe (Piironen and Vehtari 2017), three predictors guessed to matter."""
    number = x.shape[-1]
    noise = half_normal("noise", 2.0)
    overall = pyro.sample("overall", dist.HalfCauchy(1.0))
    slab = pyro.sample("slab", dist.InverseGamma(2.0, 8.0))
    with pyro.plate("predictors", number):
        local = pyro.sample("local", dist.HalfCauchy(1.0))
        raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
    shrunk = overall * noise * (3 / (number - 3) / math.sqrt(len(y)))
    width = torch.sqrt(slab * local**2 / (slab + shrunk**2 * local**2))
    weights = pyro.deterministic("weights", raw * width * shrunk)
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ weights, noise), obs=y)


def outliers(x: Tensor, y: Tensor) -> None:
    """A line with Student's noise of unknown freedom."""
    intercept = normal("intercept", 0.0, 2.0)
    slope = normal("slope", 0.0, 2.0)
    scale = half_normal("scale")
    freedom = pyro.sample("freedom", dist.Gamma(2.0, 0.1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.StudentT(freedom, intercept + slope * x, scale), obs=y)


def shares(y: Tensor) -> None:
    """Shares of each group from one Dirichlet law of unknown mean and certainty."""
    mean = pyro.sample("mean", dist.Dirichlet(torch.ones(4)))
    certainty = pyro.sample("certainty", dist.LogNormal(2.0, 1.0))
    with pyro.plate("groups", len(y)):
        chances = pyro.sample("chances", dist.Dirichlet(certainty * mean))
        pyro.sample("y", dist.Multinomial(25, chances), obs=y)


def sightings(y: Tensor) -> None:
    """Occupancy: a place is lived in or not; who is there is not always seen."""
    lived_in = pyro.sample("lived_in", dist.Beta(1.0, 1.0))
    seen = pyro.sample("seen", dist.Beta(1.0, 1.0))
    with pyro.plate("places", len(y), dim=-2):
        there = pyro.sample("there", dist.Bernoulli(lived_in))
        with pyro.plate("visits", y.shape[-1], dim=-1):
            pyro.sample("y", dist.Bernoulli(there * seen), obs=y)


def wiggle(x: Tensor, y: Tensor) -> None:
    """Classification by a Gaussian process whose scale and length are unknown."""
    scale = half_normal("scale", 2.0)
    length = pyro.sample("length", dist.InverseGamma(5.0, 5.0))
    with pyro.plate("places", len(y)):
        raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
    apart = (x.unsqueeze(-1) - x) / length
    kernel = scale**2 * torch.exp(-0.5 * apart**2) + 1e-4 * torch.eye(len(y))
    curve = pyro.deterministic("curve", torch.linalg.cholesky(kernel) @ raw)
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=curve), obs=y)


def cut_off(x: Tensor, y: Tensor, is_cut: Tensor) -> None:
    """Tobit regression: what is cut off counts with the chance of lying below."""
    intercept = normal("intercept", 0.0, 2.0)
    slope = normal("slope", 0.0, 2.0)
    noise = half_normal("noise")
    mean = intercept + slope * x
    below = torch.log(0.5 * torch.erfc((mean - y) / noise / math.sqrt(2)))
    at = -0.5 * ((y - mean) / noise) ** 2 - torch.log(noise)
    pyro.factor("y", (is_cut * below + (1 - is_cut) * at).sum(-1))


def crossed(age: Tensor, state: Tensor, late: Tensor, y: Tensor) -> None:
    """Answers by age and state, effects of both around zero."""
    intercept = normal("intercept", 0.0, 1.5)
    effect = normal("effect", 0.0, 1.0)
    age_scale = half_normal("age_scale")
    state_scale = half_normal("state_scale")
    with pyro.plate("ages", 6):
        of_age = pyro.sample("of_age", dist.Normal(0.0, age_scale))
    with pyro.plate("states", 20):
        of_state = pyro.sample("of_state", dist.Normal(0.0, state_scale))
    with pyro.plate("data", len(y)):
        odds = intercept + effect * late + of_age[age] + of_state[state]
        pyro.sample("y", dist.Bernoulli(logits=odds), obs=y)


def noisy_inputs(x: Tensor, y: Tensor) -> None:
    """Errors in variables: the true inputs are latent."""
    centre = normal("centre", 0.0, 2.0)
    width = half_normal("width", 2.0)
    intercept = normal("intercept", 0.0, 2.0)
    slope = normal("slope", 0.0, 2.0)
    noise = half_normal("noise")
    with pyro.plate("data", len(y)):
        true = pyro.sample("true", dist.Normal(centre, width))
        pyro.sample("x", dist.Normal(true, 0.5), obs=x)
        pyro.sample("y", dist.Normal(intercept + slope * true, noise), obs=y)


def bearings(y: Tensor) -> None:
    """Directions around an unknown one."""
    direction = pyro.sample("direction", dist.VonMises(0.0, 0.1))
    certainty = pyro.sample("certainty", dist.Gamma(2.0, 0.5))
    pyro.deterministic("cosine", torch.cos(direction))
    pyro.deterministic("sine", torch.sin(direction))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.VonMises(direction, certainty), obs=y)


def four_together(y: Tensor) -> None:
    """A covariance of four numbers: scales, and correlations by LKJ."""
    mean = pyro.sample("mean", dist.Normal(torch.zeros(4), 3.0).to_event(1))
    spread = pyro.sample("spread", dist.HalfCauchy(2 * torch.ones(4)).to_event(1))
    root = pyro.sample("root", dist.LKJCholesky(4, 1.0))
    with pyro.plate("data", len(y)):
        scale_tril = spread.unsqueeze(-1) * root
        pyro.sample("y", dist.MultivariateNormal(mean, scale_tril=scale_tril), obs=y)


def three_outcomes(x: Tensor, y: Tensor) -> None:
    """Three regressions at once, whose errors go together, each in its own unit."""
    unit = torch.tensor([1.0, 1e3, 1e-3])
    intercept = pyro.sample("intercept", dist.Normal(torch.zeros(3), 5 * unit).to_event(1))
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3), 5 * unit).to_event(1))
    spread = pyro.sample("spread", dist.HalfNormal(2 * unit).to_event(1))
    root = pyro.sample("root", dist.LKJCholesky(3, 2.0))
    with pyro.plate("data", len(y)):
        mean = intercept + x.unsqueeze(-1) * slope
        pyro.sample(
            "y", dist.MultivariateNormal(mean, scale_tril=spread.unsqueeze(-1) * root), obs=y
        )


def aftershocks(y: Tensor) -> None:
    """Counts that raise one another (Hawkes in discrete time): base rate, offspring, how fast they come."""
    base = pyro.sample("base", dist.Gamma(2.0, 1.0))
    offspring = pyro.sample("offspring", dist.Beta(2.0, 2.0))
    stays = pyro.sample("stays", dist.Beta(2.0, 2.0))
    apart = torch.arange(len(y)).unsqueeze(-1) - torch.arange(len(y)) - 1
    weight = torch.where(apart >= 0, (1 - stays) * stays ** apart.clamp_min(0), torch.zeros(()))
    with pyro.plate("days", len(y)):
        pyro.sample("y", dist.Poisson(base + offspring * (weight @ y)), obs=y)


def tides(y: Tensor, known: Tensor) -> None:
    """A hidden rotation, damped, of unknown speed; what is not known is left out."""
    speed = pyro.sample("speed", dist.Normal(0.6, 0.2))
    damping = pyro.sample("damping", dist.Beta(20.0, 1.0))
    push = half_normal("push")
    noise = half_normal("noise")
    one = normal("one_0", 0.0, 2.0)
    other = normal("other_0", 0.0, 2.0)
    cosine = damping * torch.cos(speed)
    sine = damping * torch.sin(speed)
    for t in range(len(y)):
        if known[t] > 0:
            pyro.sample(f"y_{t}", dist.Normal(one, noise), obs=y[t])
        means = (cosine * one - sine * other, sine * one + cosine * other)
        one = pyro.sample(f"one_{t + 1}", dist.Normal(means[0], push))
        other = pyro.sample(f"other_{t + 1}", dist.Normal(means[1], push))


def claims(group: Tensor, exposed: Tensor, y: Tensor) -> None:
    """Rates of groups around a mean that is known to within e^10, with exposures of a hundred thousand."""
    mean = normal("mean", 0.0, 10.0)
    spread = half_normal("spread")
    size = pyro.sample("size", dist.LogNormal(0.0, 1.0))
    with pyro.plate("groups", 12):
        rate = pyro.sample("rate", dist.Normal(mean, spread))
    with pyro.plate("data", len(y)):
        logits = rate[group] + torch.log(exposed) - torch.log(size)
        pyro.sample("y", dist.NegativeBinomial(size, logits=logits), obs=y)


def growth(time: Tensor, y: Tensor) -> None:
    """The logistic curve, by its closed form."""
    capacity = pyro.sample("capacity", dist.LogNormal(6.0, 2.0))
    start = pyro.sample("start", dist.LogNormal(2.0, 2.0))
    rate = pyro.sample("rate", dist.LogNormal(-1.0, 1.0))
    noise = half_normal("noise")
    size = capacity / (1 + (capacity / start - 1) * torch.exp(-rate * time))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.LogNormal(torch.log(size), noise), obs=y)


def three_heaps(y: Tensor) -> None:
    """A mixture of three whose places are in order by a transform."""
    share = pyro.sample("share", dist.Dirichlet(2 * torch.ones(3)))
    ordered = dist.transforms.OrderedTransform()
    first = dist.Normal(torch.zeros(3), 2.0).to_event(1)
    place = pyro.sample("place", dist.TransformedDistribution(first, [ordered]))
    width = half_normal("width")
    with pyro.plate("data", len(y)):
        heap = pyro.sample("heap", dist.Categorical(share))
        pyro.sample("y", dist.Normal(place[heap], width), obs=y)


def faint(y: Tensor) -> None:
    """Mean and noise of something very small, in units where all is of the order of 1e-5."""
    mean = normal("mean", 0.0, 1e-4)
    noise = half_normal("noise", 1e-4)
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mean, noise), obs=y)


PROGRAMS: dict[str, Program] = {name: globals()[name] for name in SETS}


def tensors(data: Any) -> dict[str, Tensor]:
    """Arrays as tensors: indices as whole numbers, all else in single precision."""
    return {
        n: torch.as_tensor(x if x.dtype.kind == "i" else x.astype("float32"))
        for n, x in data.items()
    }
