"""Models whose log evidence is known: by conjugacy, a filter, quadrature, or enumeration."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from aif_dcpc.inference import GraphicalModel, lag

MODE_PRIOR = 3.0
MODE_NOISE = 0.5
MODE_DATUM = 9.0
SWITCHES = 10
FIFTY = 50


@dataclass(frozen=True)
class Known:
    """A model, its data and the exact log evidence, nats."""

    model: GraphicalModel
    data: Mapping[str, Tensor]
    log_evidence: float


def regression() -> Known:
    """Thirty data, five weights Normal(0, 2), noise .5."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 5, generator=generator)
    y = inputs @ torch.tensor([1.0, -2, 0, 0.5, 3]) + 0.5 * torch.randn(30, generator=generator)
    model = GraphicalModel()
    model.add_site("w", lambda: Independent(Normal(torch.zeros(5), 2.0), 1))
    model.add_site("y", lambda w: Independent(Normal(w @ inputs.T, 0.5), 1), ["w"])
    covariance = 4 * inputs @ inputs.T + 0.25 * torch.eye(30)
    exact = MultivariateNormal(torch.zeros(30).double(), covariance.double()).log_prob(y.double())
    return Known(model, {"y": y[None]}, float(exact))


def vague(scale: float) -> Known:
    """One mean under Normal(0, scale), ten data of noise 1 around 3."""
    x = 3 + torch.randn(10, generator=torch.Generator().manual_seed(0))
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, scale))
    model.add_site(
        "x", lambda z: Independent(Normal(z.unsqueeze(-1).expand(*z.shape, 10), 1.0), 1), ["z"]
    )
    covariance = torch.eye(10).double() + scale**2
    exact = MultivariateNormal(torch.zeros(10).double(), covariance).log_prob(x.double())
    return Known(model, {"x": x[None]}, float(exact))


def series() -> Known:
    """A random walk of step .8 from Normal(0, 1), fifty data of noise .5."""
    model = GraphicalModel()
    start = Normal(0.0, 1.0)
    model.add_site("s", lambda s: Normal(s, 0.8), [lag("s")], initial=lambda: start, scope="slice")
    model.add_site("o", lambda s: Normal(s, 0.5), ["s"], scope="slice")
    time = torch.arange(FIFTY).double()
    covariance = 1 + 0.64 * torch.minimum(time[:, None], time) + 0.25 * torch.eye(FIFTY)
    law = MultivariateNormal(torch.zeros(FIFTY).double(), covariance)
    noise = torch.randn(FIFTY, generator=torch.Generator().manual_seed(0)).double()
    o = law.scale_tril @ noise
    return Known(model, {"o": o[None].float()}, float(law.log_prob(o)))


def funnel() -> Known:
    """v ~ Normal(0, 3), five x ~ Normal(0, exp(v / 2)) seen with noise .5 (quadrature over v)."""
    y = torch.tensor([0.1, -0.3, 0.2, 0.0, 0.4])
    model = GraphicalModel()
    model.add_site("v", lambda: Normal(0.0, 3.0))
    model.add_site(
        "x",
        lambda v: Independent(Normal(0.0, (v / 2).exp().unsqueeze(-1).expand(*v.shape, 5)), 1),
        ["v"],
    )
    model.add_site("y", lambda x: Independent(Normal(x, 0.5), 1), ["x"])
    grid = torch.linspace(-40, 40, 160_001).double()
    spread = (grid.exp() + 0.25).sqrt()[:, None]
    logs = Normal(0.0, 3.0).log_prob(grid) + Normal(0.0, spread).log_prob(y.double()).sum(1)
    exact = torch.logsumexp(logs, 0) + math.log(float(grid[1] - grid[0]))
    return Known(model, {"y": y[None]}, float(exact))


def modes(size: int) -> tuple[Known, float]:
    """x ~ Normal(.5, 3) seen as x^2 = 9 with noise .5, `size` times; and P(x_i > 0), by a grid."""
    model = GraphicalModel()
    model.add_site("x", lambda: Independent(Normal(torch.full((size,), 0.5), MODE_PRIOR), 1))
    model.add_site("o", lambda x: Independent(Normal(x**2, MODE_NOISE), 1), ["x"])
    grid = torch.linspace(-12, 12, 40_001).double()
    logs = Normal(0.5, MODE_PRIOR).log_prob(grid)
    logs = logs + Normal(grid**2, MODE_NOISE).log_prob(torch.tensor(MODE_DATUM).double())
    one = torch.logsumexp(logs, 0) + math.log(float(grid[1] - grid[0]))
    weight = float(torch.softmax(logs, 0)[grid > 0].sum())
    data = {"o": torch.full((1, size), MODE_DATUM)}
    return Known(model, data, size * float(one)), weight


ASIA_PARENTS = {"a": "", "s": "", "t": "a", "l": "s", "b": "s", "e": "tl", "x": "e", "d": "eb"}
ASIA = {  # P(site = 1), by the values of its parents in the order of counting
    "a": [0.01],
    "s": [0.5],
    "t": [0.01, 0.05],
    "l": [0.01, 0.1],
    "b": [0.3, 0.6],
    "e": [0.0, 1, 1, 1],
    "x": [0.05, 0.98],
    "d": [0.1, 0.8, 0.7, 0.9],
}


def _row(values: tuple[Tensor, ...]) -> Tensor:
    """Read values as the digits of a binary number."""
    return sum((v.long() * 2**i for i, v in enumerate(reversed(values))), torch.tensor(0))


def asia() -> Known:
    """Lauritzen and Spiegelhalter's network, X-ray and dyspnoea observed."""
    model = GraphicalModel()

    def kernel(name: str) -> Callable[..., Bernoulli]:
        table = torch.tensor(ASIA[name])
        return lambda *values: Bernoulli(table[_row(values)])

    for name, parents in ASIA_PARENTS.items():
        model.add_site(name, kernel(name), list(parents))
    total = 0.0
    for values in product((0, 1), repeat=6):
        point = dict(zip("astlbe", values, strict=True), x=1, d=1)
        chance = 1.0
        for name, parents in ASIA_PARENTS.items():
            row = sum(point[p] * 2**i for i, p in enumerate(reversed(parents)))
            one = ASIA[name][row]
            chance *= one if point[name] else 1 - one
        total += chance
    data = {"x": torch.tensor([1.0]), "d": torch.tensor([1.0])}
    return Known(model, data, math.log(total))


def selection_data() -> tuple[Tensor, Tensor]:
    """Ten predictors `(40, 10)` of which three matter, and what they predict, `(40,)`, with noise 1."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(40, SWITCHES, generator=generator)
    truth = torch.tensor([1.5, 0, 0, -0.7, 0, 0.3, 0, 0, 0, 0])
    return inputs, inputs @ truth + torch.randn(40, generator=generator)


def selection() -> Known:
    """Ten predictors, each with a switch of probability .3 and a weight Normal(0, 1); forty data."""
    inputs, y = selection_data()
    model = GraphicalModel()
    model.add_site("g", lambda: Independent(Bernoulli(torch.full((SWITCHES,), 0.3)), 1))
    model.add_site("w", lambda: Independent(Normal(torch.zeros(SWITCHES), 1.0), 1))
    model.add_site("y", lambda g, w: Independent(Normal((g * w) @ inputs.T, 1.0), 1), ["g", "w"])
    logs = []
    for switches in product((0.0, 1.0), repeat=SWITCHES):
        used = inputs.double() * torch.tensor(switches).double()
        law = MultivariateNormal(torch.zeros(40).double(), used @ used.T + torch.eye(40).double())
        number = sum(switches)
        prior = number * math.log(0.3) + (SWITCHES - number) * math.log(0.7)
        logs.append(prior + law.log_prob(y.double()))
    return Known(model, {"y": y[None]}, float(torch.logsumexp(torch.stack(logs), 0)))


KNOWN: Mapping[str, Callable[[], Known]] = {
    "conjugate regression": regression,
    **{f"vague prior, sd 1e{n}": partial(vague, 10.0**n) for n in (2, 3, 4, 5)},
    "Kalman, T = 50": series,
    "funnel": funnel,
    "32 modes": lambda: modes(5)[0],
    "Asia": asia,
    "variable selection": selection,
}
